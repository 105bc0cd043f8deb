"""Closeness to the truth on pictures whose distance is known."""

import sys

import numpy as np
import pytest
from xdyna_unianimate.app.metrics.fidelity import PSNR_MOST, psnr, ssim

GREY = np.full((32, 48, 3), 100, np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)


@pytest.mark.parametrize("apart", [1, 10, 155])
def test_psnr_of_a_constant_difference(apart):
    other = (GREY + apart).astype(np.uint8)
    assert psnr(other, GREY) == pytest.approx(20 * np.log10(255 / apart), abs=1e-6)
    assert psnr(GREY, other) == pytest.approx(psnr(other, GREY))


def test_identical_pictures_are_at_the_top():
    assert psnr(NOISE, NOISE.copy()) == PSNR_MOST
    assert ssim(NOISE, NOISE.copy()) == pytest.approx(1)


def test_ssim_of_two_plain_pictures_is_the_luminance_term():
    # Without structure the formula leaves (2 a b + c) / (a^2 + b^2 + c), c = (0.01 * 255)^2 (Wang et al. 2004).
    a, b, c = 100.0, 140.0, (0.01 * 255) ** 2
    assert ssim(GREY, GREY + np.uint8(40)) == pytest.approx((2 * a * b + c) / (a * a + b * b + c), abs=1e-5)


def test_ssim_falls_with_noise():
    little = np.clip(GREY + np.random.default_rng(1).normal(0, 5, GREY.shape), 0, 255).astype(np.uint8)
    much = np.clip(GREY + np.random.default_rng(1).normal(0, 40, GREY.shape), 0, 255).astype(np.uint8)
    assert ssim(much, GREY) < ssim(little, GREY) < 1


@pytest.mark.parametrize("other", [GREY[:-1], GREY.astype(np.float32), GREY[..., :1]])
def test_pictures_that_cannot_be_compared(other):
    with pytest.raises(ValueError, match="uint8 of one size"):
        psnr(GREY, other)


def test_ssim_says_what_it_needs(monkeypatch):
    with pytest.raises(ValueError, match="at least 11"):
        ssim(GREY[:8], GREY[:8])
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(ImportError, match="pip install scikit-image"):
        ssim(GREY, GREY)
