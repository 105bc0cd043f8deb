"""Training on own videos: a folder of clips, each with the poses that were found in it, in place of drawn ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..pose_align.pose import PoseSequence
from ..pose_align.skeleton import FACE
from .data import CANVAS, Clip

POSES = (".npz", ".json")
FEWEST = 8
"""Frames of a video; the longest clips that a batch holds have as many."""


@dataclass(frozen=True)
class Recording:
    """A video at the size of the demo. frames: uint8 [F, H, W, 3]; points: float64 [F, 134, 2], NaN where not seen."""

    frames: np.ndarray
    points: np.ndarray


@dataclass(frozen=True)
class Recorded:
    """A ``data.Source`` of own videos: every seed is a part of one of them."""

    recordings: tuple[Recording, ...]
    scenes: bool = False

    @staticmethod
    def open(folder: Path) -> Recorded:
        """Every ``NAME.npz`` or ``NAME.json`` with poses, and the video NAME beside it, whole in memory.

        A frame takes 74 kB. Raises ValueError where a video is missing, too short, or not the poses'.
        """
        files = (
            [file for file in sorted(folder.iterdir()) if file.suffix.lower() in POSES]
            if folder.is_dir()
            else []
        )
        if not files:
            raise ValueError(
                f"{folder} holds no pose files. Put videos there, and for each one its poses: "
                "python -m xdyna_unianimate pose dance.mp4 -o dance.npz."
            )
        return Recorded(tuple(_recording(file) for file in files))

    def clip(self, seed: int, frames: int, other_face: bool = False) -> Clip:
        """A part of a video, and as reference another frame of it; ``other_face`` is nobody here."""
        rng, own = self._one(seed)
        start = int(rng.integers(len(own.frames) - frames + 1))
        part, other = slice(start, start + frames), int(rng.integers(len(own.frames)))
        return Clip(own.frames[other], own.points[other], own.frames[part], own.points[part])

    def scene(self, seed: int, frames: int) -> Clip:
        """Own videos show somebody always."""
        raise ValueError("Own videos have no scenes without a person.")

    def moment(self, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """A frame and its points; None where its face was not seen, which is what is asked for."""
        rng, own = self._one(seed)
        at = int(rng.integers(len(own.frames)))
        points = own.points[at]
        return own.frames[at], points if np.isfinite(points[FACE]).all() else None

    def pair(self, seed: int) -> np.ndarray:
        """uint8 [2, H, W, 3]: two frames of one video."""
        rng, own = self._one(seed)
        return own.frames[rng.integers(len(own.frames), size=2)]

    def _one(self, seed: int) -> tuple[np.random.Generator, Recording]:
        rng = np.random.default_rng([seed, 9])
        return rng, self.recordings[int(rng.integers(len(self.recordings)))]


def _recording(poses_file: Path) -> Recording:
    from ..pose_align.interchange import load_poses
    from ..video_core.decode import open_video
    from ..xdyna_core.frames import fit_driving

    beside = (f for f in sorted(poses_file.parent.iterdir()) if f.stem == poses_file.stem)
    video = next((file for file in beside if file.suffix.lower() not in POSES), None)
    if video is None:
        raise ValueError(f"{poses_file} has no video of its name beside it.")
    poses = load_poses(poses_file)
    frames = np.stack([fit_driving(frame, CANVAS) for frame in open_video(video).frames()])
    if len(frames) != len(poses) or len(frames) < FEWEST:
        raise ValueError(
            f"{video} has {len(frames)} frames and {poses_file} {len(poses)} poses; as many of both are needed, "
            f"at least {FEWEST}. Find the poses again without an interval."
        )
    return Recording(frames, _fitted(poses))


def _fitted(poses: PoseSequence) -> np.ndarray:
    """Points in pixels of frames that were cut to the demo's shape and resized, NaN where not seen."""
    from ..xdyna_core.frames import driving_crop

    left, top, *size = driving_crop(poses.canvas, CANVAS)
    points = (poses.points - (left, top)) * (np.array(CANVAS) / size)
    return np.where(poses.visible()[..., None], points, np.nan)
