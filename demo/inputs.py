"""The drawn inputs of the demo: a reference picture, a driving clip of another puppet, and both poses.

``python -m xdyna_unianimate.demo.inputs`` draws them again; they ship with the project so that the demo
and every workflow run before anything is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..pose_align.interchange import load_poses, save_poses
from ..pose_align.pose import PoseSequence

if TYPE_CHECKING:
    from . import puppets

FOLDER = Path(__file__).parent / "inputs"
REFERENCE = FOLDER / "reference.png"
REFERENCE_POSE = FOLDER / "reference_pose.npz"
DRIVING = FOLDER / "driving.mp4"
DRIVING_POSES = FOLDER / "driving_poses.npz"

CANVAS = (256, 384)
FRAMES = 24
FPS = 12.0
REFERENCE_SEED, DRIVING_SEED, SCENE_SEED = 21, 7, 5


def _poses(points: list[np.ndarray], fps: float | None) -> PoseSequence:
    scores = np.ones((len(points), points[0].shape[0]), np.float32)
    return PoseSequence(np.stack(points), scores, CANVAS, fps)


def _scene() -> puppets.Scene:
    """Behind the reference."""
    from . import puppets

    return puppets.Scene("water", (150, 200, 230), (235, 225, 190), SCENE_SEED)


def draw_truth(frames: int) -> np.ndarray:
    """uint8 RGB [F, H, W, 3] of ``CANVAS``: the reference's puppet itself dancing the driving clip's dance."""
    return truth_with_poses(frames)[0]


def truth_with_poses(frames: int) -> tuple[np.ndarray, PoseSequence]:
    """``draw_truth``, and where its joints are, exactly."""
    from . import puppets

    dance = puppets.Motion.from_seed(DRIVING_SEED)
    drawn = list(puppets.clip(reference_puppet(), dance, _scene(), frames, CANVAS))
    return np.stack([picture for picture, _ in drawn]), _poses([points for _, points in drawn], FPS)


def reference_puppet() -> puppets.Puppet:
    """The drawn figure of the reference."""
    from . import puppets

    return puppets.Puppet.from_seed(REFERENCE_SEED)


def draw_inputs(folder: Path = FOLDER) -> None:
    """Write the four files into ``folder``."""
    from PIL import Image

    from ..video_core.video import write_video
    from . import puppets

    folder.mkdir(parents=True, exist_ok=True)
    reference = puppets.clip(reference_puppet(), puppets.STILL, _scene(), 1, CANVAS)
    [(picture, points)] = list(reference)
    Image.fromarray(picture).save(folder / REFERENCE.name, optimize=True)
    save_poses(_poses([points], None), folder / REFERENCE_POSE.name)

    dancer, dance = puppets.Puppet.from_seed(DRIVING_SEED), puppets.Motion.from_seed(DRIVING_SEED)
    frames = list(puppets.clip(dancer, dance, puppets.Scene.from_seed(DRIVING_SEED), FRAMES, CANVAS))
    write_video((picture for picture, _ in frames), folder / DRIVING.name, fps=FPS, overwrite=True)
    save_poses(_poses([points for _, points in frames], FPS), folder / DRIVING_POSES.name)


def reference_pose() -> PoseSequence:
    """The reference picture's exact joints, one frame."""
    return load_poses(REFERENCE_POSE)


def driving_poses() -> PoseSequence:
    """The driving clip's exact joints, frame by frame."""
    return load_poses(DRIVING_POSES)


if __name__ == "__main__":
    draw_inputs()
