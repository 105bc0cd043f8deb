"""What a call of the full-size networks holds at once, counted on the meta device, against the estimate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from xdyna_unianimate.xdyna_core.controlnet import ControlNet
from xdyna_unianimate.xdyna_core.sample import SampleSettings, working_bytes
from xdyna_unianimate.xdyna_core.unet import XDynaUNet

from ..counted import Counted

FRAMES, HEIGHT, WIDTH = 16, 32, 24


@pytest.fixture(scope="module")
def networks() -> Iterator[tuple[XDynaUNet, ControlNet]]:
    with torch.device("meta"):
        yield XDynaUNet().half().requires_grad_(False), ControlNet().half().requires_grad_(False)


@pytest.mark.parametrize("branches", [1, 2])
@torch.no_grad()
def test_the_estimate_covers_a_window_and_little_more(networks, branches, monkeypatch):
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, *_, **__: torch.empty_like(q))
    unet, control = networks
    with torch.device("meta"):
        context = torch.zeros(branches, 93, 768)
        sample = torch.zeros(branches, 4, 1 + FRAMES, HEIGHT, WIDTH)
        projected = unet.project_context(context)
        with Counted(unet, control) as counted:
            images = control.embed(torch.zeros(FRAMES, 3, 8 * HEIGHT, 8 * WIDTH))
            residuals = control(sample[:, :, 1:], 5, context[:, :77], images)
            del images
            unet(sample, 5, projected, residuals.down, residuals.mid)
    settings = SampleSettings(guidance=7.5 if branches == 2 else 0.0)
    estimate = working_bytes(unet, HEIGHT, WIDTH, FRAMES, settings)
    assert counted.peak < estimate < 1.25 * counted.peak


def test_the_estimate_grows_with_what_goes_in_at_once(networks):
    unet, _ = networks
    one = working_bytes(unet, 8, 8, 100, SampleSettings(together=False))
    assert working_bytes(unet, 8, 8, 100, SampleSettings()) == 2 * one
    assert working_bytes(unet, 8, 8, 100, SampleSettings(guidance=0.5)) == one
    assert working_bytes(unet, 8, 8, 1000, SampleSettings(batch=3, together=False)) == 3 * one
    assert working_bytes(unet, 16, 8, 7, SampleSettings(together=False)) == one * 2 * 8 // 17
