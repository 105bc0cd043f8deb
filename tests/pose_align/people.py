"""A drawn person for the tests: 134 points at known places."""

from __future__ import annotations

import numpy as np
from xdyna_unianimate.pose_align.pose import PoseSequence
from xdyna_unianimate.pose_align.skeleton import FACE, HANDS, WRISTS, Joint

CANVAS = (512, 768)

# Facing the camera, so the person's right is on the left of the picture; pixels of CANVAS.
BODY = {
    Joint.NOSE: (256, 130),
    Joint.NECK: (256, 200),
    Joint.R_SHOULDER: (200, 200),
    Joint.R_ELBOW: (170, 280),
    Joint.R_WRIST: (150, 360),
    Joint.L_SHOULDER: (312, 200),
    Joint.L_ELBOW: (345, 275),
    Joint.L_WRIST: (360, 350),
    Joint.R_HIP: (225, 380),
    Joint.R_KNEE: (220, 510),
    Joint.R_ANKLE: (215, 640),
    Joint.L_HIP: (287, 380),
    Joint.L_KNEE: (292, 510),
    Joint.L_ANKLE: (297, 640),
    Joint.R_EYE: (242, 116),
    Joint.L_EYE: (270, 116),
    Joint.R_EAR: (226, 124),
    Joint.L_EAR: (286, 124),
    Joint.L_BIG_TOE: (310, 668),
    Joint.L_SMALL_TOE: (324, 664),
    Joint.L_HEEL: (294, 652),
    Joint.R_BIG_TOE: (202, 668),
    Joint.R_SMALL_TOE: (188, 664),
    Joint.R_HEEL: (218, 652),
}


def standing() -> np.ndarray:
    """float64 [134, 2]."""
    points = np.zeros((134, 2))
    for joint, place in BODY.items():
        points[joint] = place
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points[FACE] = np.stack([256 + 30 * np.cos(angles), 125 + 40 * np.sin(angles)], axis=-1)
    for side, hand in HANDS.items():
        wrist = points[WRISTS[side]]
        fan = [(8 * finger - 16, 10 + 9 * joint) for finger in range(5) for joint in range(4)]
        points[hand] = wrist + np.array([(0, 4), *fan])
    return points


def clip(
    frames: int = 4, *, canvas: tuple[int, int] = CANVAS, move: float = 3.0, **fields: object
) -> PoseSequence:
    """The standing person walking ``move`` pixels a frame to the right, everything seen."""
    points = standing()[None] + np.arange(frames)[:, None, None] * (move, 0.0)
    scores = np.full((frames, 134), 0.9, np.float32)
    return PoseSequence(points, scores, canvas, **fields)


def without(poses: PoseSequence, frames: object, joints: object) -> PoseSequence:
    """The clip with some joints missing in some frames; both are indices, lists or slices."""
    scores = poses.scores.copy()
    scores[np.ix_(np.arange(len(poses))[frames].ravel(), np.arange(134)[joints].ravel())] = 0
    return PoseSequence(poses.points, scores, poses.canvas, poses.fps, poses.person_id, poses.origins)
