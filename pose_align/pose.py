"""The one pose type of the project: every backend fills it, every consumer reads it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

POINTS = 134
"""COCO-WholeBody's 133 points plus the neck, in the order of spec 9.3 (see ``skeleton``)."""


class Origin(IntEnum):
    """Where a joint's coordinates came from."""

    DETECTED = 0
    FILLED = 1
    SMOOTHED = 2


class PoseError(ValueError):
    """A pose that cannot be used, with a sentence that says what to do."""


@dataclass(frozen=True)
class PoseSequence:
    """One person through time.

    points:    float64 [F, 134, 2], x right and y down in pixels of ``canvas``; may lie outside it.
    scores:    float32 [F, 134], the detector's own confidence (SimCC maxima can exceed 1);
               0 where a point was not found. Its coordinates are then meaningless, never read.
    canvas:    (width, height) of the frames the points were found in, in pixels.
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
        points = np.asarray(self.points, dtype=np.float64)
        scores = np.asarray(self.scores, dtype=np.float32)
        origins = np.zeros(scores.shape) if self.origins is None else self.origins
        origins = np.asarray(origins, dtype=np.uint8)
        if points.ndim != 3 or points.shape[1:] != (POINTS, 2):
            raise PoseError(f"A pose sequence has points [frames, {POINTS}, 2]; got {list(points.shape)}.")
        if scores.shape != points.shape[:2] or origins.shape != points.shape[:2]:
            raise PoseError(
                f"Scores and origins must be {list(points.shape[:2])} like the points; "
                f"got {list(scores.shape)} and {list(origins.shape)}."
            )
        if min(self.canvas) < 1:
            raise PoseError(f"A pose canvas has a positive width and height; got {self.canvas}.")
        # A backend's NaN or infinity becomes a missing point here, once, so that nobody else has to ask.
        broken = ~(np.isfinite(points).all(-1) & np.isfinite(scores)) | (scores < 0)
        points = np.where(broken[..., None], 0.0, points)
        scores = np.where(broken, np.float32(0), scores)
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

    def visible(self, threshold: float = 0.3) -> np.ndarray:
        """bool [F, 134]: score above ``threshold`` (spec 9.4 uses 0.3)."""
        return self.scores > threshold
