"""Whether the person still looks like the reference: colours inside the body that the pose outlines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...pose_align.skeleton import HEAD, Joint

J = Joint

BODY_PARTS = (
    # joints of a part's middle line, and its half width in body heights
    ((J.NECK, J.R_HIP), 0.055),
    ((J.NECK, J.L_HIP), 0.055),
    ((J.R_SHOULDER, J.L_SHOULDER), 0.045),
    ((J.R_HIP, J.L_HIP), 0.05),
    ((J.R_SHOULDER, J.R_ELBOW), 0.035),
    ((J.R_ELBOW, J.R_WRIST), 0.03),
    ((J.L_SHOULDER, J.L_ELBOW), 0.035),
    ((J.L_ELBOW, J.L_WRIST), 0.03),
    ((J.R_HIP, J.R_KNEE), 0.045),
    ((J.R_KNEE, J.R_ANKLE), 0.035),
    ((J.L_HIP, J.L_KNEE), 0.045),
    ((J.L_KNEE, J.L_ANKLE), 0.035),
    ((J.NECK, J.NOSE), 0.04),
)
HEAD_RADIUS, HAND_RADIUS = 0.085, 0.05

CLOTHES = {
    # piece: joints of its middle line, and the half width that is certainly cloth
    "right side": ((J.R_SHOULDER, J.R_HIP), 0.02),
    "left side": ((J.L_SHOULDER, J.L_HIP), 0.02),
    "right sleeve": ((J.R_SHOULDER, J.R_ELBOW), 0.015),
    "left sleeve": ((J.L_SHOULDER, J.L_ELBOW), 0.015),
    "right thigh": ((J.R_HIP, J.R_KNEE), 0.02),
    "left thigh": ((J.L_HIP, J.L_KNEE), 0.02),
}

HISTOGRAM_BINS = 12
"""Per channel of L*a*b*."""


@dataclass(frozen=True)
class Figure:
    """A person in one frame: points float64 [134, 2] in pixels, seen bool [134], body height in pixels."""

    points: np.ndarray
    seen: np.ndarray
    height: float


def body_mask(figure: Figure, size: tuple[int, int], margin: float = 0.0) -> np.ndarray:
    """bool [H, W] of a picture (width, height): where the body is, widened by a margin in body heights."""
    import cv2

    mask = np.zeros(size[::-1], np.uint8)
    for (start, end), half_width in BODY_PARTS:
        if figure.seen[[start, end]].all():
            _stroke(mask, figure.points[[start, end]], (half_width + margin) * figure.height)
    head = figure.points[[J.NOSE, *HEAD]][figure.seen[[J.NOSE, *HEAD]]]
    balls = [(head.mean(0), HEAD_RADIUS)] if len(head) else []
    balls += [(figure.points[w], HAND_RADIUS) for w in (J.R_WRIST, J.L_WRIST) if figure.seen[w]]
    for centre, radius in balls:
        at = tuple(int(round(value)) for value in np.clip(centre, -1e4, 1e4))
        cv2.circle(mask, at, max(round((radius + margin) * figure.height), 1), 255, cv2.FILLED)
    return mask > 0


def clothes_colours(picture: np.ndarray, figure: Figure) -> np.ndarray:
    """float64 [pieces, 3]: median RGB of every piece of ``CLOTHES``, NaN where it is not in the picture."""
    colours = np.full((len(CLOTHES), 3), np.nan)
    for row, ((start, end), half_width) in enumerate(CLOTHES.values()):
        if figure.seen[[start, end]].all():
            mask = np.zeros(picture.shape[:2], np.uint8)
            # The ends are left out, where pieces meet.
            ends = figure.points[[start, end]]
            inner = ends + (ends[::-1] - ends) * 0.2
            _stroke(mask, inner, half_width * figure.height)
            if mask.any():
                colours[row] = np.median(picture[mask > 0], axis=0)
    return colours


def clothing_error(wanted: np.ndarray, found: np.ndarray) -> float:
    """Mean difference in grey levels (0-255) of ``clothes_colours`` over the pieces seen in both; else NaN."""
    apart = np.abs(wanted - found)
    return float(np.nanmean(apart)) if np.isfinite(apart).any() else float("nan")


def colour_similarity(
    picture: np.ndarray, where: np.ndarray, other: np.ndarray, other_where: np.ndarray
) -> float:
    """0..1: overlap of the colours of two uint8 pictures [H, W, 3] inside their masks (bool [H, W]).

    The Bhattacharyya coefficient of softened L*a*b* histograms: which colours and how much of each, not
    where. NaN where a mask is empty.
    """
    if not (where.any() and other_where.any()):
        return float("nan")
    first, second = (_histogram(*pair) for pair in ((picture, where), (other, other_where)))
    return float(np.sqrt(first * second).sum())


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """-1..1: cosine of the angle between two vectors, NaN where one is zero."""
    first, second = np.ravel(first).astype(np.float64), np.ravel(second).astype(np.float64)
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / lengths) if lengths > 0 else float("nan")


def _stroke(mask: np.ndarray, ends: np.ndarray, half_width: float) -> None:
    import cv2

    start, end = (tuple(int(round(value)) for value in np.clip(point, -1e4, 1e4)) for point in ends)
    cv2.line(mask, start, end, 255, max(round(2 * half_width), 1))


def _histogram(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """float64 [bins, bins, bins] that sums to 1, each count shared with neighbouring bins."""
    import cv2

    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    ranges = [0, 256] * 3
    counts = cv2.calcHist([lab], [0, 1, 2], where.astype(np.uint8), [HISTOGRAM_BINS] * 3, ranges)
    for axis in range(3):
        padded = np.pad(counts, [(1, 1) if i == axis else (0, 0) for i in range(3)], "edge")
        low, middle, high = (np.take(padded, range(k, k + HISTOGRAM_BINS), axis) for k in range(3))
        counts = (low + 2 * middle + high) / 4
    return counts.astype(np.float64) / counts.sum()
