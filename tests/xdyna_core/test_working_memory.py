"""What a call of the full-size networks holds at once, counted on the meta device, against the estimate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from xdyna_unianimate.xdyna_core.controlnet import ControlNet
from xdyna_unianimate.xdyna_core.frames import ControlImages
from xdyna_unianimate.xdyna_core.sample import (
    Conditions,
    Control,
    SampleSettings,
    branch_denoiser,
    working_bytes,
)
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
    assert working_bytes(unet, 8, 8, 100, SampleSettings()) == pytest.approx(2 * one)
    assert working_bytes(unet, 8, 8, 100, SampleSettings(guidance=0.5)) == one
    assert working_bytes(unet, 8, 8, 1000, SampleSettings(batch=3, together=False)) == pytest.approx(3 * one)
    assert working_bytes(unet, 16, 8, 7, SampleSettings(together=False)) == pytest.approx(one * 2 * 8 / 17)


@torch.no_grad()
def test_the_published_size_fits(networks, monkeypatch):
    """16 frames of 896 x 512 at full size: weights, and what a call for both branches holds at once."""
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, *_, **__: torch.empty_like(q))
    unet, control = networks
    weights = sum(tensor.nbytes for net in networks for tensor in net.state_dict().values())
    frames, height, width = 16, 112, 64
    with torch.device("meta"):
        images = ControlImages(np.zeros((frames, 8, 8, 3), np.uint8), *np.float32([[0] * 3, [1] * 3]))
        context = torch.zeros(2, 93, 768)
        told = Conditions(torch.zeros(1, 4, 1, height, width), context, (Control(control, images),))
        monkeypatch.setattr(ControlImages, "at", lambda *_: torch.zeros(1, 3, 8 * height, 8 * width))
        monkeypatch.setattr(torch, "equal", lambda *_: True)
        predict = branch_denoiser(unet, told, [5])
        with Counted(unet, control) as counted:
            predict(torch.zeros(1, 4, frames, height, width), 5, [list(range(frames))])
    assert weights + counted.peak < 8e9
    estimate = working_bytes(unet, height, width, frames, SampleSettings())
    assert counted.peak < estimate < 1.25 * counted.peak
