"""Motion between neighbouring frames by optical flow, and what it does not explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

FLOW_SIDE = 512
"""Frames are brought to at most this many pixels on the longer side before flow is computed."""
LEAST_SIDE = 12
"""Pixels on the longer side below which OpenCV finds no flow."""
STILL = 0.3
"""Pixels by which what stands still seems to move, as root mean square: grain and video coding give that much."""


@dataclass(frozen=True)
class Motion:
    """Two neighbouring frames, uint8 [h, w, 3] as ``flow_sized`` gives them, and the motion between them.

    to_before: float32 [h, w, 2], where every pixel of ``after`` lay in ``before``, as an offset in pixels;
    to_after likewise the other way. Dense inverse search (Kroeger et al. 2016), OpenCV's medium preset.
    """

    before: np.ndarray
    after: np.ndarray

    @cached_property
    def to_before(self) -> np.ndarray:
        return _flow(self.after, self.before)

    @cached_property
    def to_after(self) -> np.ndarray:
        return _flow(self.before, self.after)

    @cached_property
    def trusted(self) -> np.ndarray:
        """bool [h, w], of ``after``: going there and back ends where it began (Sundaram et al. 2010).

        False where something was uncovered, and where two frames have nothing to do with each other.
        """
        back, there = self.to_before, warped(self.to_after, self.to_before)
        apart = np.square(back + there).sum(-1)
        return apart < 0.01 * (np.square(back).sum(-1) + np.square(there).sum(-1)) + 0.5


def flow_sized(frame: np.ndarray) -> np.ndarray:
    """The uint8 frame [H, W, 3] with at most ``FLOW_SIDE`` pixels on the longer side."""
    import cv2

    height, width = frame.shape[:2]
    scale = FLOW_SIDE / max(height, width)
    if scale >= 1:
        return frame
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def warped(values: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """``values`` [h, w, ...] read at every pixel's place plus its flow [h, w, 2], bilinear; borders repeat."""
    import cv2

    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    places = x + flow[..., 0], y + flow[..., 1]
    return cv2.remap(values, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def unexplained_change(motion: Motion) -> float:
    """Flicker: mean grey levels (0-255) by which ``after`` differs from ``before`` moved along the flow.

    What was uncovered counts too, so a perfect clip is not at 0: compare with the truth or another result.
    """
    explained = warped(motion.before, motion.to_before)
    return float(np.abs(motion.after.astype(np.float32) - explained).mean())


def flow_at(motion: Motion, where: np.ndarray) -> np.ndarray:
    """float32 [n, 2]: ``to_before`` of the pixels ``where`` (bool [h, w]), 0 where it is not ``trusted``."""
    return (motion.to_before * motion.trusted[..., None])[where]


def flow_energy(motion: Motion, where: np.ndarray) -> float:
    """Mean squared displacement over the pixels ``where`` (bool [h, w]), in (% of the picture's height)^2.

    Only flow that holds there and back counts as motion, so frames that have nothing in common have little. Soft
    patches that change at random do lead back: they have as much as a scene that moves, see ``agreement``. NaN
    where no pixel is left.
    """
    if not where.any():
        return float("nan")
    return float(np.square(flow_at(motion, where) / motion.after.shape[0] * 100).sum(-1).mean())


def flow_products(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """float64 [3] of two flows [n, 2] of the same pixels: the means of flow x truth, flow x flow, truth x truth."""
    pairs = ((flow, truth), (flow, flow), (truth, truth))
    return np.array([np.einsum("nd,nd->n", *pair).mean(dtype=np.float64) for pair in pairs])


def agreement(products: Sequence[np.ndarray]) -> float:
    """-1..1: cosine between a clip's flow and the true one, from the ``flow_products`` [3] of its steps.

    1 moves as the truth does, 0 has nothing to do with it or stands still, -1 moves the other way. One cosine of
    all steps together: where the truth moves much it counts much, and motion where the truth has none lowers it.
    NaN without steps, or where the truth stands still (``STILL``).
    """
    if not len(products):
        return float("nan")
    together, own, true = np.asarray(products, np.float64).mean(0)
    if true < STILL**2:
        return float("nan")
    return float(together / np.sqrt(own * true)) if own > 0 else 0.0


def _flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    import cv2

    if first.shape != second.shape:
        raise ValueError(
            f"Motion is found between frames of one size; got {list(first.shape)} and {list(second.shape)}."
        )
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second))
    return search.calc(*grey, None)
