"""Weights in eight bits: half the bytes, a bounded error, and the way back."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from xdyna_unianimate.unianimate_core.temporal import FrameConv, TokenConv1d
from xdyna_unianimate.video_core.fp8 import SMALLEST, STORED, restore, store_in_eight_bits
from xdyna_unianimate.video_core.placement import on_device

WIDTH = 256


def layers() -> list[nn.Module]:
    made = [nn.Linear(WIDTH, WIDTH), nn.Conv2d(WIDTH, WIDTH, 3), TokenConv1d(WIDTH, WIDTH), FrameConv(WIDTH)]
    return [layer.half().requires_grad_(False) for layer in made]


@pytest.mark.parametrize("layer", layers(), ids=lambda layer: type(layer).__name__)
def test_the_error_of_a_weight_is_bounded(layer: nn.Module) -> None:
    plain = layer.weight.float()
    plain[0] *= 1000
    layer.weight.data = plain.half()
    plain = layer.weight.float()
    store_in_eight_bits(layer)
    stored = layer.weight
    assert stored.dtype == torch.float16
    assert layer.parametrizations.weight.original0.dtype == STORED
    scale = layer.parametrizations.weight.original1.float()
    # 1/16 of the value, a hair for the half-precision scale, or half a step of the smallest float8 values.
    bound = plain.abs() * (2**-4 + 2**-9) + scale * 2**-10
    assert ((stored.float() - plain).abs() <= bound).all()
    assert ((stored.float() - plain).abs() > 0).any()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH), nn.Linear(WIDTH, 4)
    )


def bytes_of(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def test_half_the_bytes_and_nearly_the_same_result() -> None:
    plain, x = (
        network().to(torch.bfloat16).requires_grad_(False),
        torch.randn(64, WIDTH, dtype=torch.bfloat16),
    )
    expected, before = plain(x), bytes_of(plain)
    stored = store_in_eight_bits(plain)
    assert bytes_of(stored) < 0.52 * before
    assert not parametrize.is_parametrized(stored[-1])
    assert stored[-1].weight.numel() < SMALLEST
    error = (stored(x) - expected).float().square().mean() / expected.float().square().mean()
    assert 0 < error.sqrt() < 0.06
    assert all(p.dtype != torch.float32 for p in stored.parameters())


def test_it_can_be_taken_out_again() -> None:
    net = network().requires_grad_(False)
    names = list(net.state_dict())
    weight = store_in_eight_bits(net)[0].weight
    restore(net)
    assert sorted(net.state_dict()) == sorted(names)
    assert torch.equal(net[0].weight, weight)


def test_residency_leaves_it_as_it_is_stored() -> None:
    net = store_in_eight_bits(network().half().requires_grad_(False))
    home = net[0].parametrizations.weight.original0.data_ptr()
    with on_device(net, "cpu", torch.float32):
        assert net[0].parametrizations.weight.original0.dtype == STORED
        assert net[0].bias.dtype == torch.float32
    assert net[0].parametrizations.weight.original0.data_ptr() == home
