"""Work in parts, in one memory layout, in one dtype: the same results, and what they no longer cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from xdyna_unianimate.unianimate_core.temporal import TemporalConvBlock, TemporalTransformer
from xdyna_unianimate.video_core import attention as attention_module
from xdyna_unianimate.video_core.attention import attention
from xdyna_unianimate.video_core.norms import (
    GroupNorm,
    LayerNorm,
    channels_last_group_norm,
    use_our_norms,
)
from xdyna_unianimate.video_core.savings import (
    PLAIN_LAYERS,
    LayerSavings,
    at_once,
    in_parts,
    is_channels_last,
    set_savings,
)


class Made(TorchDispatchMode):
    """Operations inside the block, by name, with the dtypes and sizes of what they made."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[tuple[str, torch.dtype, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.tensors += [
            (func.__name__, x.dtype, x.numel()) for x in tree_leaves(made) if isinstance(x, Tensor)
        ]
        return made

    def copies(self, size: int) -> list[str]:
        """Operations that do nothing but lay at least so many values out anew."""
        return [
            name
            for name, _, n in self.tensors
            if n >= size and name.startswith(("clone", "copy_", "_to_copy"))
        ]


# -- parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 1, 2, 3, 100])
@pytest.mark.parametrize("dim", [0, 2])
def test_parts_make_the_whole(size: int | None, dim: int) -> None:
    x, y = torch.randn(5, 2, 7), torch.randn(5, 2, 7)
    assert torch.equal(in_parts(torch.add, size, x, y, dim=dim), x + y)


def test_no_part_is_larger_than_was_asked_for() -> None:
    seen: list[int] = []

    def double(x: Tensor) -> Tensor:
        seen.append(len(x))
        return torch.cat([x, x], dim=1)

    assert in_parts(double, 3, torch.zeros(8, 2)).shape == (8, 4)
    assert seen == [3, 3, 2]


def test_the_whole_lies_as_its_parts_do() -> None:
    x = torch.randn(6, 4, 3, 5).contiguous(memory_format=torch.channels_last)
    assert in_parts(lambda part: part * 2, 4, x).is_contiguous(memory_format=torch.channels_last)


def test_at_least_one_thing_goes_at_once() -> None:
    assert [at_once(values, 10) for values in (None, 5, 10, 39)] == [None, 1, 1, 3]


# -- norms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 8, 4, 5), (2, 8, 3, 4, 5), (2, 8, 7)])
@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 2e-6), (torch.float16, 4e-3), (torch.bfloat16, 4e-2)]
)
def test_group_norm_of_channels_last(shape: tuple[int, ...], dtype: torch.dtype, limit: float) -> None:
    x = (3 + 2 * torch.randn(shape)).movedim(1, -1).contiguous().movedim(-1, 1)
    weight, bias = torch.randn(8), torch.randn(8)
    expected = F.group_norm(x.to(dtype).float(), 4, weight.to(dtype).float(), bias.to(dtype).float(), 1e-5)
    ours = channels_last_group_norm(x.to(dtype), 4, weight.to(dtype), bias.to(dtype), 1e-5)
    assert ours.dtype == dtype
    assert is_channels_last(ours)
    torch.testing.assert_close(ours.float(), expected, rtol=0, atol=limit * float(expected.abs().max()))


def test_half_precision_statistics_do_not_overflow() -> None:
    x = (1000 * torch.randn(1, 4, 9, 9)).half().contiguous(memory_format=torch.channels_last)
    one, zero = torch.ones(4).half(), torch.zeros(4).half()
    ours = channels_last_group_norm(x, 2, one, zero, 1e-5)
    torch.testing.assert_close(ours.float(), F.group_norm(x.float(), 2, eps=1e-5), rtol=0, atol=5e-3)


@pytest.mark.parametrize("norm", [GroupNorm(2, 8), LayerNorm(8)], ids=["group", "layer"])
def test_norms_make_no_float32_copies(norm: nn.Module) -> None:
    norm, x = norm.to(torch.bfloat16), torch.randn(3, 8, 8).to(torch.bfloat16)
    made = {}
    for savings in (LayerSavings(), PLAIN_LAYERS):
        set_savings(norm, savings)
        with Made() as seen:
            made[savings] = norm(x)
        copies = [n for _, dtype, n in seen.tensors if dtype == torch.float32 and n >= x.numel()]
        assert bool(copies) == (savings == PLAIN_LAYERS)
        assert made[savings].dtype == torch.bfloat16
    torch.testing.assert_close(made[LayerSavings()], made[PLAIN_LAYERS], rtol=0, atol=0.05)


def test_foreign_norms_become_ours_and_keep_their_names() -> None:
    network = nn.Sequential(nn.GroupNorm(2, 4), nn.Sequential(nn.LayerNorm(4)))
    names = list(network.state_dict())
    use_our_norms(network)
    assert [type(module) for module in (network[0], network[1][0])] == [GroupNorm, LayerNorm]
    assert list(network.state_dict()) == names


# -- layout ------------------------------------------------------------------------------------------------


LAYERS = {
    "temporal convolutions": lambda x: TemporalConvBlock(32)(x.unflatten(0, (1, -1)).transpose(1, 2)),
    "temporal transformer": lambda x: TemporalTransformer(32, 2, 16)(x, len(x)),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@torch.no_grad()
def test_temporal_blocks_copy_nothing_that_lies_channels_last(layer: Callable[[Tensor], Tensor]) -> None:
    """Beside what torch's own kernels lay out for themselves, which is inside their one call."""
    x = torch.randn(5, 32, 6, 4).contiguous(memory_format=torch.channels_last)
    with Made() as seen:
        layer(x)
    assert not seen.copies(x.numel())
    with Made() as seen:
        layer(x.contiguous())
    assert seen.copies(x.numel()), "the count sees no copy, not even the one that was asked for"


# -- attention where no kernel is fused ---------------------------------------------------------------------


@pytest.mark.parametrize("scores", [None, 1, 2**9, 2**20])
def test_queries_in_chunks(scores: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "FUSED_ELSEWHERE", ())
    q, k, v = torch.randn(2, 9, 80), torch.randn(1, 5, 80), torch.randn(1, 5, 80)
    held, fused = [], F.scaled_dot_product_attention

    def counted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        held.append(q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * q.element_size())
        return fused(q, k, v)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    ours = attention(q, k, v, heads=2, scores=scores)
    of_one_query = 2 * 2 * 5 * 4
    assert scores is None or max(held) <= max(scores, of_one_query)
    monkeypatch.undo()
    torch.testing.assert_close(ours, attention(q, k, v, heads=2), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("width", "heads"), [(320, 8), (640, 8), (1280, 8), (320, 5)])
def test_heads_reach_the_fused_kernels_as_they_take_them(width: int, heads: int, monkeypatch) -> None:
    """Head dimension 40 of X-Dyna among them: widths and strides in multiples of 8 values, innermost stride 1."""
    seen: list[Tensor] = []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *qkv: seen.extend(qkv) or qkv[0])
    tokens = torch.zeros(3, 7, width, dtype=torch.float16)
    attention(tokens, tokens, tokens[:1], heads)
    for x in seen:
        assert x.shape[-1] % 8 == 0 and x.stride(-1) == 1
        assert all(stride % 8 == 0 for stride in x.stride()[:-1])
