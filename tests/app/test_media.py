"""The whole path on real files: poses really extracted, both reference pictures, both systems."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from xdyna_unianimate.app.cli import main
from xdyna_unianimate.pose_align.interchange import load_poses
from xdyna_unianimate.pose_align.mediapipe import why_unusable
from xdyna_unianimate.pose_align.skeleton import BODY
from xdyna_unianimate.video_core.images import read_picture
from xdyna_unianimate.video_core.video import open_video

MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media"
DRIVING = MEDIA / "driving" / "example_1_driving_1.mp4"
SKELETONS = MEDIA / "pose" / "example_1_pose_1.mp4"
FRAMES = 3

pytestmark = [
    pytest.mark.skipif(not DRIVING.is_file(), reason=f"real videos and pictures are not at {MEDIA}"),
    pytest.mark.skipif(bool(why_unusable()), reason=why_unusable() or "MediaPipe is there"),
]


def animate(capsys: pytest.CaptureFixture[str], reference: str, *words: str) -> dict:
    common = (
        "--detector",
        "mediapipe",
        "--weights",
        "demo",
        "--steps",
        "1",
        "--resolution",
        "64x112",
        "--json",
    )
    picture = str(MEDIA / "reference" / reference)
    code = main(["animate", "--reference", picture, "--max-frames", str(FRAMES), *words, *common])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


@pytest.mark.parametrize("reference", ["example_1.png", "example_3.png"])
def test_a_dancers_motion_moves_a_drawn_person(capsys, reference: str) -> None:
    for words in (("--model", "unianimate"), ("--model", "xdyna", "--face")):
        result = animate(capsys, reference, "--driving", str(DRIVING), "--interval", "4", *words)
        video = open_video(result["video"])
        assert (video.size, float(video.fps)) == ((64, 112), 2.0)
        frames = np.stack(list(video.frames()))
        assert len(frames) == FRAMES
        assert frames.std() > 1
        assert "measured in frame" in result["report"]
        assert read_picture(result["sheet"]).shape[0] >= FRAMES * 256


def test_published_skeletons_with_the_driving_face(capsys) -> None:
    """X-Dyna's own inputs: its head-less pose video, and the driving video for the face alone."""
    words = (
        "--model",
        "xdyna",
        "--driving",
        str(SKELETONS),
        "--drawn",
        "--face",
        "--face-video",
        str(DRIVING),
    )
    assert animate(capsys, "example_1.png", *words)["frames"] == FRAMES


def test_aligned_poses_have_the_references_body(capsys, tmp_path: Path) -> None:
    """The aligned dancer stands where the reference stands: its neck on her neck, about as tall."""
    reference = str(MEDIA / "reference" / "example_1.png")
    words = ("--detector", "mediapipe", "--max-frames", "2")
    files = {name: str(tmp_path / f"{name}.npz") for name in ("reference", "aligned")}
    assert main(["pose", reference, "-o", files["reference"], *words]) == 0
    assert main(["align", str(DRIVING), files["reference"], "-o", files["aligned"], *words]) == 0
    own, aligned = (load_poses(files[name]) for name in ("reference", "aligned"))
    assert aligned.canvas == own.canvas
    assert np.allclose(aligned.points[0, 1], own.points[0, 1], atol=1)
    heights = [np.ptp(poses.points[0, BODY][poses.visible()[0, BODY]], axis=0)[1] for poses in (own, aligned)]
    assert heights[1] == pytest.approx(heights[0], rel=0.15)
