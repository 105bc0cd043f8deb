"""The one pose type of the project: every backend fills it, every consumer reads it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from . import skeleton
from .shown import shown

POINTS = 134
"""COCO-WholeBody's 133 points plus the neck, in the order of UniAnimate spec 9.3 (see ``skeleton``)."""

VISIBLE = 0.3
"""The score above which a point counts as seen (UniAnimate spec 9.4)."""

FARTHEST = 1e7
"""Pixels from the canvas's corner beyond which a coordinate is a backend's or a file's fault, no observation:
what is further away overflows where distances are squared or cast to float32."""
FASTEST = 1e6
"""Frames per second that a clip may claim."""


class Origin(IntEnum):
    """Where a joint's coordinates came from."""

    DETECTED = 0
    FILLED = 1
    SMOOTHED = 2
    # The original's stand-in for a missing point, moved into the picture by its alignment and drawn there.
    LITERAL = 3


class PoseError(ValueError):
    """A pose that cannot be used, with a sentence that says what to do."""


@dataclass(frozen=True)
class PoseSequence:
    """One person through time.

    points:    float64 [F, 134, 2], x right and y down in pixels of ``canvas``; may lie outside it.
    scores:    float32 [F, 134], the detector's own confidence (SimCC maxima can exceed 1);
               0 where a point was not found. Its coordinates are then meaningless, never read.
    canvas:    (width, height) of the frames the points were found in, in pixels, from 1 to ``FARTHEST``.
    fps:       frames per second of the source; None where it has none (a still picture).
    person_id: number of the tracked person inside the source.
    origins:   uint8 [F, 134], values of ``Origin``.
    """

    points: np.ndarray
    scores: np.ndarray
    canvas: tuple[int, int]
    fps: float | None = None
    person_id: int = 0
    origins: np.ndarray = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        points, scores = (np.asarray(values, dtype=np.float64) for values in (self.points, self.scores))
        origins = np.zeros(scores.shape) if self.origins is None else np.asarray(self.origins)
        if points.ndim != 3 or points.shape[1:] != (POINTS, 2):
            raise PoseError(f"A pose sequence has points [frames, {POINTS}, 2]; got {list(points.shape)}.")
        if scores.shape != points.shape[:2] or origins.shape != points.shape[:2]:
            raise PoseError(
                f"Scores and origins must be {list(points.shape[:2])} like the points; "
                f"got {list(scores.shape)} and {list(origins.shape)}."
            )
        if len(self.canvas) != 2 or not all(1 <= side <= FARTHEST for side in self.canvas):
            raise PoseError(
                f"A pose canvas has a positive width and height in pixels; got {shown(self.canvas)}."
            )
        if self.fps is not None and not 0 < self.fps <= FASTEST:
            raise PoseError(f"Frames per second are a positive number, or None; got {shown(self.fps)}.")
        if not np.isin(origins, list(Origin)).all():
            raise PoseError(f"Origins are numbers from 0 to {max(Origin)}; got others.")
        # A backend's NaN or infinity becomes a missing point here, once, so that nobody else has to ask.
        missing = ~(usable(points) & possible(scores))
        points = np.where(missing[..., None], 0.0, points)
        scores = np.where(missing, 0.0, scores).astype(np.float32)
        origins = origins.astype(np.uint8)
        for name, value in (("points", points), ("scores", scores), ("origins", origins)):
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "canvas", (int(self.canvas[0]), int(self.canvas[1])))

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, frames: slice | list[int] | np.ndarray) -> PoseSequence:
        """The chosen frames as a sequence; a single index is written ``[i : i + 1]``."""
        return replace(
            self, points=self.points[frames], scores=self.scores[frames], origins=self.origins[frames]
        )

    def lying(self, moved: Callable[[np.ndarray], np.ndarray]) -> PoseSequence:
        """The same poses with every array where ``moved`` puts it, on disk for example; it changes no value."""
        there = copy(self)
        for name in ("points", "scores", "origins"):
            value = moved(getattr(self, name))
            value.setflags(write=False)
            object.__setattr__(there, name, value)
        return there

    def visible(self, threshold: float = VISIBLE) -> np.ndarray:
        """bool [F, 134]: score above ``threshold`` (UniAnimate spec 9.4 uses 0.3)."""
        return self.scores > threshold


def usable(points: np.ndarray) -> np.ndarray:
    """bool [...]: points [..., 2] that can be an observation: finite, and no further away than ``FARTHEST``."""
    return ((points >= -FARTHEST) & (points <= FARTHEST)).all(-1)


def possible(scores: np.ndarray) -> np.ndarray:
    """bool [...]: scores from 0 that are finite, as float32 too."""
    return (scores >= 0) & (scores <= np.finfo(np.float32).max)


@dataclass(frozen=True)
class NormalisedPoses:
    """The pose dict that UniAnimate aligns and draws (UniAnimate spec 9.4): fractions, literals for gaps.

    points: float64 [F, 136, 2], the 134 points divided by (width, height) of their canvas, then the middle of
            the left and of the right foot's toes. A missing point may be the literal (-1, -1).
    seen:   bool [F, 136], the original's ``subset`` widened to all points: score above 0.3.

    The properties are the original's pose dict, with a frame axis in front.
    """

    points: np.ndarray
    seen: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    @property
    def body(self) -> np.ndarray:
        """float64 [F, 20, 2]: 18 body points, then left and right toes."""
        return self.points[:, skeleton.BODY20]

    @property
    def subset(self) -> np.ndarray:
        """int [F, 20]: a body point's own number where it is seen, else -1."""
        return np.where(self.seen[:, skeleton.BODY20], np.arange(skeleton.BODY20_POINTS), -1)

    @property
    def faces(self) -> np.ndarray:
        """float64 [F, 68, 2]."""
        return self.points[:, skeleton.FACE]

    @property
    def hands(self) -> np.ndarray:
        """float64 [F, 2, 21, 2]: left, then right."""
        return np.stack([self.points[:, hand] for hand in skeleton.HANDS.values()], axis=1)


MISSING = -1.0
"""Both coordinates of a missing point in the original's pose dict."""


def normalise(poses: PoseSequence) -> NormalisedPoses:
    """The original's pose dict of every frame (UniAnimate spec 9.4).

    Coordinates survive from a score of 0.3 on, a point is seen above it: at exactly 0.3 the literal is not
    put in, yet no body point is drawn. The toes' middle needs both toes.
    """
    points = poses.points / np.asarray(poses.canvas, dtype=np.float64)
    known, seen = poses.scores >= VISIBLE, poses.visible()
    points = np.where(known[..., None], points, MISSING)
    for pair in skeleton.TOES.values():
        toes = list(pair)
        middle = np.where(known[:, toes].all(1)[:, None], points[:, toes].mean(1), MISSING)
        points = np.concatenate([points, middle[:, None]], axis=1)
        seen = np.concatenate([seen, seen[:, toes].all(1)[:, None]], axis=1)
    return NormalisedPoses(points, seen)
