"""The test set: puppets, dances and scenes of seeds that are never trained on, each with its driving clip."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..pose_align.pose import PoseSequence
from .data import CANVAS, HELD_OUT, draw_clip
from .puppets import Puppet

FPS = 12.0


@dataclass(frozen=True)
class HeldOut:
    """One clip to be generated, and what it is generated from.

    reference, reference_pose: uint8 RGB [H, W, 3] of the puppet, and its exact pose (one frame).
    truth, poses: the clip itself, uint8 RGB [F, H, W, 3], and its exact poses.
    driving, driving_poses: another puppet that dances the same dance, whose face is followed.
    """

    number: int
    puppet: Puppet
    reference: np.ndarray
    reference_pose: PoseSequence
    truth: np.ndarray
    poses: PoseSequence
    driving: np.ndarray
    driving_poses: PoseSequence

    def from_first_frame(self) -> HeldOut:
        """The same clip, to be continued from its own first frame."""
        return replace(self, reference=self.truth[0], reference_pose=self.poses[:1])


def held_out(number: int, frames: int) -> HeldOut:
    """The clip of that number, from 0 on, with so many frames of ``CANVAS``."""
    seed = HELD_OUT + number
    own, driving = draw_clip(seed, frames), draw_clip(seed, frames, other_face=True)
    return HeldOut(
        number=number,
        puppet=Puppet.from_seed(seed),
        reference=own.reference,
        reference_pose=_exact(own.reference_points[None]),
        truth=own.frames,
        poses=_exact(own.points),
        driving=driving.frames,
        driving_poses=_exact(driving.points),
    )


def _exact(points: np.ndarray) -> PoseSequence:
    """Points [F, 134, 2] that are all known."""
    return PoseSequence(points, np.ones(points.shape[:2], np.float32), CANVAS, FPS)
