"""The README's pictures, drawn anew by ``python -m xdyna_unianimate.app.pictures``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..demo import inputs
from ..pose_align.align import align
from ..pose_align.draw import XDYNA, draw
from .grids import contact_sheet

ALIGNED = Path(__file__).parents[1] / "docs" / "aligned.jpg"


def aligned_poses(rows: int = 3) -> np.ndarray:
    """uint8 RGB: reference, driving frame, its skeleton, and the skeleton aligned to the reference's body."""
    from ..video_core.images import read_picture
    from ..video_core.video import open_frames

    reference, driving = read_picture(inputs.REFERENCE), list(open_frames(inputs.DRIVING))
    poses, target = inputs.driving_poses(), inputs.reference_pose()
    aligned, _ = align(poses, target)
    on_reference = [np.maximum(reference // 3, skeleton) for skeleton in _skeletons(aligned)]
    clips = {
        "reference": [reference],
        "driving video": driving,
        "its skeleton": _skeletons(poses),
        "aligned to the reference": on_reference,
    }
    return contact_sheet(clips, rows)


def _skeletons(poses) -> np.ndarray:
    return draw(poses, XDYNA, poses.canvas, scale_strokes=True)


if __name__ == "__main__":
    from PIL import Image

    ALIGNED.parent.mkdir(exist_ok=True)
    Image.fromarray(aligned_poses()).save(ALIGNED, quality=88)
