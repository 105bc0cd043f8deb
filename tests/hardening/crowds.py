"""Random people for the fuzz of poses: a seed is a clip, and the same clip every time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from xdyna_unianimate.pose_align.detector import Detection
from xdyna_unianimate.pose_align.skeleton import FACE, HANDS, MIRROR

from ..pose_align import people

SIZES = (
    (1, 1), (1, 7), (2, 1), (1, 8192), (8192, 1), (33, 17), (64, 96), (320, 240), (512, 768), (768, 512),
    (1920, 1080), (1079, 1919), (4096, 2160), (8192, 8192),
)  # fmt: skip
"""(width, height) from 1 x 1 to 8k."""

EXTREMES = (np.nan, np.inf, -np.inf, 1e308, -1e308, 1e30, -1e12, 1e7, 0.0, -0.0, 5e-324)
"""What a broken backend may give for a coordinate."""
SCORES = (
    np.nan,
    np.inf,
    -np.inf,
    -1.0,
    0.0,
    0.3,
    np.nextafter(np.float32(0.3), np.float32(1)),
    1.0,
    7.5,
    3e38,
)

CHOICES = ("largest", "largest", "leftmost", "rightmost", "centre", "first", 0, 1)

People = list[Detection]


@dataclass(frozen=True)
class Case:
    """A driving clip and a reference picture as a backend gave them, and how they are to be read."""

    driving: list[People]
    reference: list[People]
    canvas: tuple[int, int]
    reference_canvas: tuple[int, int]
    fps: float | None
    choose: str | int
    max_gap: int


def case(seed: int) -> Case:
    """The case of a seed."""
    rng = np.random.default_rng(seed)
    canvas, reference_canvas = (SIZES[i] for i in rng.integers(len(SIZES), size=2))
    kinds = [DAMAGES[i] for i in rng.integers(len(DAMAGES), size=rng.integers(0, 4))]
    driving = _clip(rng, canvas, int(rng.integers(1, 6)), kinds)
    return Case(
        driving,
        _clip(rng, reference_canvas, 1, kinds if rng.random() < 0.3 else kinds[:0]),
        canvas,
        reference_canvas,
        rng.choice([None, 0.1, 23.976, 30.0, 1000.0]),
        CHOICES[rng.integers(len(CHOICES))],
        int(rng.choice([0, 1, 5, 1000])),
    )


def _clip(
    rng: np.random.Generator, canvas: tuple[int, int], frames: int, damages: list[Callable]
) -> list[People]:
    """Up to three people who walk, or cross and take each other's places, listed in any order."""
    count = int(rng.choice([0, 1, 2, 3], p=[0.03, 0.6, 0.25, 0.12]))
    figures = [_figure(rng, canvas) for _ in range(count)]
    shifts = rng.normal(size=(count, 2)) * canvas * 0.05
    crossing = count > 1 and rng.random() < 0.5
    clip = []
    for frame in range(frames):
        crowd = [figure + shift * frame for figure, shift in zip(figures, shifts, strict=True)]
        if crossing and frame >= frames // 2:
            crowd = [crowd[(i + 1) % count] for i in range(count)]
        if rng.random() < 0.1:
            crowd = crowd[:-1]
        clip.append([_detected(rng, crowd[i], canvas, damages) for i in rng.permutation(len(crowd))])
    return clip


def _figure(rng: np.random.Generator, canvas: tuple[int, int]) -> np.ndarray:
    """float64 [134, 2]: the standing person at a random size and place, perhaps deformed."""
    points = people.standing() / people.CANVAS
    points = (points - 0.5) * rng.choice([0.01, 0.3, 1.0, 1.0, 3.0]) + rng.normal(0.5, 0.3, 2)
    return (points + rng.normal(size=points.shape) * rng.choice([0, 0.01, 0.2])) * canvas


def _detected(
    rng: np.random.Generator, points: np.ndarray, canvas: tuple[int, int], damages: list[Callable]
) -> Detection:
    honest = np.concatenate([points.min(0), points.max(0)])
    points, scores = points.copy(), rng.uniform(0.31, 1.2, len(points)).astype(np.float32)
    for damage in damages:
        damage(rng, points, scores, canvas)
    with np.errstate(all="ignore"):
        # A backend finds its box before it looks at joints, or takes it from them.
        box = honest if rng.random() < 0.7 else np.concatenate([points.min(0), points.max(0)])
        if rng.random() < 0.1:
            box = rng.choice(EXTREMES, 4)
        if rng.random() < 0.05:
            box = box[[2, 3, 0, 1]]
    return Detection(points, scores, box, float(rng.choice([0.9, np.nan, np.inf, -1.0])))


# ---- damages: each changes points [134, 2] and scores [134] in place ---------------------------------------


def _missing(rng, points, scores, canvas) -> None:
    scores[rng.random(len(scores)) < rng.random()] = 0


def _one_joint(rng, points, scores, canvas) -> None:
    kept = rng.integers(len(scores))
    scores[np.arange(len(scores)) != kept] = 0


def _missing_group(rng, points, scores, canvas) -> None:
    groups = (slice(0, 18), slice(18, 24), FACE, *HANDS.values())
    scores[groups[rng.integers(len(groups))]] = 0


def _mirrored(rng, points, scores, canvas) -> None:
    points[:, 0] = canvas[0] - points[:, 0]


def _sides_exchanged(rng, points, scores, canvas) -> None:
    points[:] = points[MIRROR]
    scores[:] = scores[MIRROR]


def _upside_down(rng, points, scores, canvas) -> None:
    points[:, 1] = canvas[1] - points[:, 1]


def _collapsed(rng, points, scores, canvas) -> None:
    points[:] = points[rng.integers(len(points))]


def _flat(rng, points, scores, canvas) -> None:
    axis = rng.integers(2)
    points[:, axis] = points[0, axis]


def _outside(rng, points, scores, canvas) -> None:
    points += rng.choice([-1, 1], 2) * np.array(canvas) * rng.choice([1.0, 7.9, 100.0, 1e6])


def _broken_points(rng, points, scores, canvas) -> None:
    hit = rng.random(points.shape) < rng.choice([0.01, 0.2, 1.0])
    points[hit] = rng.choice(EXTREMES, int(hit.sum()))


def _broken_scores(rng, points, scores, canvas) -> None:
    hit = rng.random(len(scores)) < rng.choice([0.05, 0.5, 1.0])
    scores[hit] = rng.choice(SCORES, int(hit.sum()))


def _same_places(rng, points, scores, canvas) -> None:
    pairs = rng.integers(len(points), size=(20, 2))
    points[pairs[:, 0]] = points[pairs[:, 1]]


def _whole_pixels(rng, points, scores, canvas) -> None:
    with np.errstate(invalid="ignore"):
        points[:] = np.round(points)


DAMAGES = (
    _missing, _missing, _one_joint, _missing_group, _mirrored, _sides_exchanged, _upside_down, _collapsed, _flat,
    _outside, _broken_points, _broken_scores, _same_places, _whole_pixels,
)  # fmt: skip
