"""Whether a result follows the poses that it was made from."""

from __future__ import annotations

import numpy as np

from ...pose_align.pose import VISIBLE, PoseSequence
from ...pose_align.skeleton import BODY, HEAD, Joint

EYES_TO_ANKLES = 0.897
"""Share of the body height between eyes and ankles (Drillis and Contini 1966: 0.936 - 0.039)."""
NECK_TO_HIPS = 0.288
"""Share of the body height between shoulders and hips (the same: 0.818 - 0.530)."""

TALLEST = 0.9
"""Quantile over frames: a person who bends down is not smaller."""


def body_height(poses: PoseSequence) -> float:
    """The person's height in pixels, estimated from eyes to ankles, else from neck to hips.

    Raises ValueError where no frame shows either.
    """
    eyes, eyes_seen = _middle(poses, (Joint.NOSE, *HEAD))
    ankles, ankles_seen = _middle(poses, (Joint.R_ANKLE, Joint.L_ANKLE))
    neck, neck_seen = _middle(poses, (Joint.NECK,))
    hips, hips_seen = _middle(poses, (Joint.R_HIP, Joint.L_HIP))
    for top, bottom, seen, share in (
        (eyes, ankles, eyes_seen & ankles_seen, EYES_TO_ANKLES),
        (neck, hips, neck_seen & hips_seen, NECK_TO_HIPS),
    ):
        lengths = np.linalg.norm(top - bottom, axis=-1)[seen]
        if len(lengths) and lengths.max() > 0:
            return float(np.quantile(lengths, TALLEST)) / share
    raise ValueError(
        "The poses show neither head and feet nor neck and hips in any frame, so distances cannot be put in "
        "relation to the body; give poses of a person who can be seen at least down to the hips."
    )


def joint_errors(wanted: PoseSequence, found: PoseSequence, height: float) -> np.ndarray:
    """float64 [F, 18]: distances of the body joints in body heights.

    NaN where the joint was not wanted (not seen in the driving poses), infinite where it was not found.
    """
    if wanted.canvas != found.canvas or len(wanted) != len(found):
        raise ValueError(
            f"Poses are compared frame by frame on one canvas; got {len(wanted)} frames on {wanted.canvas} "
            f"and {len(found)} on {found.canvas}."
        )
    apart = np.linalg.norm(wanted.points - found.points, axis=-1)[:, BODY] / height
    apart = np.where(found.visible(VISIBLE)[:, BODY], apart, np.inf)
    return np.where(wanted.visible(VISIBLE)[:, BODY], apart, np.nan)


def share_within(errors: np.ndarray, limit: float) -> np.ndarray:
    """[F]: share of the wanted joints within ``limit`` body heights; NaN where none was wanted."""
    wanted = ~np.isnan(errors)
    hits = (errors <= limit).sum(-1)
    return np.where(wanted.any(-1), hits / np.maximum(wanted.sum(-1), 1), np.nan)


def mean_error(errors: np.ndarray) -> np.ndarray:
    """[F]: mean error of the joints that were both wanted and found, in body heights; NaN without any."""
    both = np.isfinite(errors)
    total = np.where(both, errors, 0).sum(-1)
    return np.where(both.any(-1), total / np.maximum(both.sum(-1), 1), np.nan)


def _middle(poses: PoseSequence, joints: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean [F, 2] of those of the joints that are seen, and whether any is, [F]."""
    seen = poses.visible()[:, list(joints)]
    total = (poses.points[:, list(joints)] * seen[..., None]).sum(1)
    return total / np.maximum(seen.sum(1), 1)[:, None], seen.any(1)
