"""The pose detector of the demo: it knows the drawn inputs by sight, and nothing else.

With it the shipped graphs, pose extraction included, run before any pose model is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np

from ..pose_align.detector import Detection, check_frame
from .inputs import DRIVING, REFERENCE, driving_poses, reference_pose

THUMBNAIL = (16, 24)
MOST_DIFFERENT = 8.0
"""Mean grey levels between thumbnails up to which a frame counts as a drawn one (codecs change a few)."""


class DemoDetector:
    """A ``PoseDetector`` for the demo's own pictures; any other picture holds nobody."""

    name = "demo (embedded)"
    provider = "exact joints of the drawn inputs"

    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[list[Detection]]:
        """See ``PoseDetector.stream``."""
        for frame in frames:
            yield self._recognise(check_frame(frame))

    def detect(self, frames: Iterable[np.ndarray]) -> list[list[Detection]]:
        """See ``PoseDetector.detect``."""
        return list(self.stream(frames))

    @cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        """Thumbnails float32 [n, h, w, 3] of the drawn pictures, and their joints [n, 134, 2] in 0..1."""
        from ..video_core.video import open_frames

        pictures = [*open_frames(REFERENCE), *open_frames(DRIVING)]
        poses = [reference_pose(), driving_poses()]
        points = np.concatenate([p.points / np.array(p.canvas) for p in poses])
        return np.stack([_thumbnail(picture) for picture in pictures]), points

    def _recognise(self, frame: np.ndarray) -> list[Detection]:
        thumbnails, joints = self._known
        apart = np.abs(thumbnails - _thumbnail(frame)).mean(axis=(1, 2, 3))
        nearest = int(apart.argmin())
        if apart[nearest] > MOST_DIFFERENT:
            return []
        points = joints[nearest] * (frame.shape[1], frame.shape[0])
        box = np.concatenate([points.min(0), points.max(0)])
        return [Detection(points, np.ones(len(points), np.float32), box, 1.0)]


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(frame, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
