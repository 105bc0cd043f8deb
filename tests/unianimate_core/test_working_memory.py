"""What a call of the full-size network holds at once, counted on the meta device, against the estimates."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from xdyna_unianimate.unianimate_core.pipeline import FRAMES_AT_ONCE, tower_bytes
from xdyna_unianimate.unianimate_core.sample import SampleSettings, working_bytes
from xdyna_unianimate.unianimate_core.unet import Conditions, UniAnimateUNet

from ..counted import Counted

FRAMES, HEIGHT, WIDTH = 16, 32, 24


@pytest.fixture(scope="module")
def unet() -> Iterator[UniAnimateUNet]:
    with torch.device("meta"):
        yield UniAnimateUNet().half().requires_grad_(False)


def conditions(unet: UniAnimateUNet, frames: int = FRAMES, **options: int) -> Conditions:
    return unet.encode_conditions(
        zero_y=torch.zeros(1, 77, 1024),
        image=torch.zeros(1, 1, 1024),
        dwpose=torch.zeros(1, 3, 1 + frames, 8 * HEIGHT, 8 * WIDTH, dtype=torch.uint8),
        **options,
    )


@pytest.mark.parametrize("branches", [1, 2])
@torch.no_grad()
def test_the_estimate_covers_a_window_and_little_more(unet, branches, monkeypatch):
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, *_, **__: torch.empty_like(q))
    with torch.device("meta"):
        told = [conditions(unet)] * branches
        with Counted(unet) as counted:
            unet.denoise_branches(torch.zeros(1, 4, FRAMES, HEIGHT, WIDTH), 5, told)
    settings = SampleSettings(guidance=2.5 if branches == 2 else 1, together=True)
    assert counted.peak < working_bytes(unet, HEIGHT, WIDTH, FRAMES, settings) < 1.25 * counted.peak


@torch.no_grad()
def test_the_estimate_covers_the_towers_for_any_length(unet):
    with torch.device("meta"), Counted(unet) as counted:
        conditions(unet, frames=3 * FRAMES_AT_ONCE, frames_at_once=FRAMES_AT_ONCE)
    assert counted.peak < tower_bytes(unet, (8 * WIDTH, 8 * HEIGHT)) < 1.25 * counted.peak


def test_the_estimate_grows_with_what_goes_in_at_once(unet):
    def estimate(frames: int, **options: object) -> int:
        return working_bytes(unet, 8, 8, frames, SampleSettings(**options))

    one = estimate(100, mode="windows")
    assert estimate(31, mode="continuation") == pytest.approx(one * 32 / 33)
    assert estimate(100, mode="windows", together=True) == pytest.approx(2 * one)
    assert estimate(100, mode="windows", together=True, guidance=1) == one
    assert estimate(100, mode="windows", batch=3) == pytest.approx(3 * one)
    assert estimate(65, mode="short") == pytest.approx(2 * one)


@pytest.mark.parametrize(("size", "limit"), [((512, 768), 6e9), ((768, 1216), 9e9)], ids=str)
@torch.no_grad()
def test_published_sizes_fit(unet, size, limit, monkeypatch):
    """32 frames at full size: weights, and what a call holds at once; one branch at a time, as by default."""
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, *_, **__: torch.empty_like(q))
    weights = sum(tensor.nbytes for tensor in unet.state_dict().values())
    width, height = (side // 8 for side in size)
    with torch.device("meta"), Counted(unet) as counted:
        told = unet.encode_conditions(zero_y=torch.zeros(1, 77, 1024))
        unet.denoise(torch.zeros(1, 4, 32, height, width), 5, told)
    assert weights + counted.peak < limit
    assert counted.peak < working_bytes(unet, height, width, 32, SampleSettings()) < 1.25 * counted.peak
