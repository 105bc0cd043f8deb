"""Classifier-free guidance as a wrapper of a denoiser."""

from __future__ import annotations

import pytest
import torch
from xdyna_unianimate.video_core.guidance import guided

UNCOND, COND = torch.randn(2, 1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(0.0, UNCOND), (1.0, COND), (2.5, 2.5 * COND - 1.5 * UNCOND), (-1, 2 * UNCOND - COND)],
)
def test_scales(scale: float, expected: torch.Tensor) -> None:
    denoise = guided(lambda x, t: torch.cat([UNCOND, COND]), scale)
    torch.testing.assert_close(denoise(UNCOND, 5), expected)


def test_latents_and_timestep_are_passed_on() -> None:
    seen = []
    guided(lambda x, t: seen.append((x, t)) or torch.cat([x, x]), 2.0)(COND, 7)
    assert seen == [(COND, 7)]


@pytest.mark.parametrize("branches", [1, 3])
def test_other_numbers_of_branches_are_refused(branches: int) -> None:
    with pytest.raises(ValueError, match=f"gave {branches}"):
        guided(lambda x, t: x.repeat(branches, 1, 1, 1, 1), 2.0)(COND, 5)
