"""How close a picture is to the true one."""

from __future__ import annotations

import numpy as np

PSNR_MOST = 100.0
"""Decibels of identical pictures, so that means stay numbers; one grey level off in all of them is 48."""

SSIM_SIDE = 11
"""Pixels of its windows, which a picture has at least on each side."""


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibels of uint8 pictures [H, W, 3], at most ``PSNR_MOST``.

    The squared error is a float's: in uint8 it overflows, which has made published numbers too high.
    """
    import cv2

    _check(picture, truth)
    return min(float(cv2.PSNR(picture, truth)), PSNR_MOST)


def ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity of uint8 pictures [H, W, 3], -1..1, with the windows of Wang et al. 2004.

    Raises ImportError where scikit-image is missing, ValueError for pictures of less than ``SSIM_SIDE`` pixels a side.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise ImportError("SSIM needs the package scikit-image: pip install scikit-image.") from error
    _check(picture, truth)
    if min(picture.shape[:2]) < SSIM_SIDE:
        raise ValueError(
            f"SSIM needs pictures of at least {SSIM_SIDE} x {SSIM_SIDE} pixels; got {list(picture.shape[:2])}."
        )
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(picture, truth, channel_axis=2, data_range=255, **settings))


def _check(picture: np.ndarray, truth: np.ndarray) -> None:
    if picture.shape != truth.shape or picture.dtype != np.uint8 or truth.dtype != np.uint8:
        raise ValueError(
            f"Pictures are compared as uint8 of one size; got {picture.dtype} {list(picture.shape)} and "
            f"{truth.dtype} {list(truth.shape)}."
        )
