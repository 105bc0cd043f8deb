"""Any driving source becomes the same poses; what is no source says so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from xdyna_unianimate.app import poses
from xdyna_unianimate.app.poses import LateDetector, PoseSettings
from xdyna_unianimate.app.state import PoseCache
from xdyna_unianimate.demo import inputs
from xdyna_unianimate.demo.detector import DemoDetector
from xdyna_unianimate.pose_align.detector import Detection
from xdyna_unianimate.pose_align.draw import UNIANIMATE, draw
from xdyna_unianimate.pose_align.interchange import save_openpose, save_poses
from xdyna_unianimate.pose_align.pose import Origin, PoseError, PoseSequence
from xdyna_unianimate.video_core.images import read_picture
from xdyna_unianimate.video_core.video import open_frames, open_video

ALL = inputs.driving_poses()


class Counting(DemoDetector):
    """The demo's detector, which counts the frames that it looks at and loses some."""

    def __init__(self, lost: Iterable[int] = ()) -> None:
        self.seen, self.lost = 0, set(lost)

    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[list[Detection]]:
        for number, people in enumerate(super().stream(frames)):
            self.seen += 1
            yield [] if number in self.lost else people


# ---- sources -------------------------------------------------------------------------------------------


@pytest.fixture(params=["npz", "json", "openpose file", "openpose folder", "video", "folder of pictures"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The driving clip in every form that it can come in."""
    folder = tmp_path / "source"
    match request.param:
        case "video":
            return inputs.DRIVING
        case "npz" | "json":
            save_poses(ALL, tmp_path / f"source.{request.param}")
            return tmp_path / f"source.{request.param}"
        case "openpose file":
            save_openpose(ALL, tmp_path / "source.json")
            return tmp_path / "source.json"
        case "openpose folder":
            save_openpose(ALL, folder)
        case "folder of pictures":
            folder.mkdir()
            for number, frame in enumerate(open_frames(inputs.DRIVING)):
                Image.fromarray(frame).save(folder / f"{number}.png")
    return folder


def test_every_source_gives_the_same_poses(source: Path) -> None:
    settings = PoseSettings(interval=3, max_frames=4)
    found = poses.read(source, settings, DemoDetector())
    assert np.allclose(found.points, ALL.points[:12:3])
    assert found.canvas == inputs.CANVAS
    assert found.fps in (inputs.FPS / 3, None)
    assert (found.fps is None) == (source.is_dir() and not any(source.glob("*.json")))


def test_a_picture_is_a_clip_of_one_frame() -> None:
    found = poses.read(inputs.REFERENCE, PoseSettings(), DemoDetector())
    assert np.allclose(found.points, inputs.reference_pose().points)


def test_a_folder_of_pictures_may_hold_other_json(tmp_path: Path) -> None:
    Image.fromarray(read_picture(inputs.REFERENCE)).save(tmp_path / "0.png")
    (tmp_path / "notes.json").write_text("{}")
    assert not poses.is_pose_file(tmp_path)
    assert len(poses.read(tmp_path, PoseSettings(), DemoDetector())) == 1


def test_ready_made_skeletons_are_known_by_the_references(tmp_path: Path) -> None:
    """UniAnimate spec 2.1: ref_pose.jpg is no frame."""
    pictures = draw(ALL[:3], UNIANIMATE)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    assert not poses.is_drawn(tmp_path)
    own = draw(inputs.reference_pose(), UNIANIMATE)[0]
    Image.fromarray(own).save(tmp_path / "ref_pose.jpg", quality=95)
    assert poses.is_drawn(tmp_path)
    drawn = poses.read_drawn(tmp_path, PoseSettings(interval=2))
    assert np.array_equal(np.stack(drawn.frames), pictures[::2])
    assert np.abs(drawn.reference.astype(int) - own).mean() < 2


@pytest.mark.parametrize("settings", [{"interval": 0}, {"max_frames": 0}, {"interval": -2}])
def test_intervals_count_from_1(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="count from 1 up"):
        PoseSettings(**settings)


# ---- finding -------------------------------------------------------------------------------------------


def test_progress_is_told_frame_by_frame() -> None:
    told: list[tuple[int, int | None]] = []
    settings = PoseSettings(interval=2, max_frames=5)
    video = open_video(inputs.DRIVING)
    poses.find_in_video(video, DemoDetector(), settings, on_frame=lambda *at: told.append(at))
    assert told == [(i, 5) for i in range(1, 6)]


def test_a_stop_by_progress_goes_through() -> None:
    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        poses.find(open_frames(inputs.DRIVING), DemoDetector(), PoseSettings(), on_frame=stop)


def test_short_gaps_are_filled_and_long_ones_told(caplog: pytest.LogCaptureFixture) -> None:
    frames = list(open_frames(inputs.DRIVING))[:12]
    found = poses.find(frames, Counting(lost=(2, 3, 8, 9, 10, 11)), PoseSettings(max_gap=2))
    assert found.visible().all(1).tolist() == [True] * 8 + [False] * 4
    assert (found.origins[2:4] == Origin.FILLED).all()
    assert "found in 6 of 12 frames" in caplog.text
    unfilled = poses.find(frames, Counting(lost=(2, 3)), PoseSettings(max_gap=0))
    assert not unfilled.visible()[2:4].any()


def test_smoothing_is_an_option() -> None:
    smoothed = poses.find(
        list(open_frames(inputs.DRIVING)), DemoDetector(), PoseSettings(smooth=True), fps=12.0
    )
    assert (smoothed.origins[1:] == Origin.SMOOTHED).any()
    assert not np.allclose(smoothed.points, ALL.points)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([], "has no frames"),
        ([np.zeros((8, 8, 3), np.uint8)], "Nobody was found"),
        (
            [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)],
            "Frame 1 is 9 x 8 .* the first 8 x 8",
        ),
    ],
)
def test_frames_without_a_pose_are_a_sentence(frames: list[np.ndarray], said: str) -> None:
    with pytest.raises(PoseError, match=said):
        poses.find(frames, DemoDetector(), PoseSettings())


def test_a_reference_without_a_person_is_a_sentence() -> None:
    with pytest.raises(PoseError, match=r"No person was found in the reference picture \(20 x 30\) by demo"):
        poses.of_picture(np.zeros((30, 20, 3), np.uint8), DemoDetector())


def test_nobody_of_that_number_is_a_sentence() -> None:
    with pytest.raises(PoseError, match="There is no person 4"):
        poses.find(open_frames(inputs.DRIVING), DemoDetector(), PoseSettings(person="4"))


# ---- the cache -----------------------------------------------------------------------------------------


def test_the_cache_knows_bytes_settings_and_detector(tmp_path: Path) -> None:
    cache, detector = PoseCache(tmp_path), Counting()

    def looked_at(settings: PoseSettings, source: Path = inputs.DRIVING) -> int:
        before = detector.seen
        poses.read(source, settings, detector, cache=cache)
        return detector.seen - before

    copy = tmp_path / "copy.mp4"
    copy.write_bytes(inputs.DRIVING.read_bytes())
    three = PoseSettings(max_frames=3)
    assert [looked_at(three), looked_at(three), looked_at(three, copy)] == [3, 0, 0]
    assert looked_at(PoseSettings(max_frames=3, person="first")) == 3
    copy.write_bytes(copy.read_bytes() + b"\0" * 8)
    assert looked_at(three, copy) == 3
    detector.name = "another"
    assert looked_at(three) == 3


def test_reference_poses_are_cached_too(tmp_path: Path) -> None:
    cache, detector, picture = PoseCache(tmp_path), Counting(), read_picture(inputs.REFERENCE)
    first, again = (poses.of_picture(picture, detector, cache=cache) for _ in range(2))
    assert detector.seen == 1
    assert np.array_equal(first.points, again.points)


# ---- detectors -----------------------------------------------------------------------------------------


def test_a_late_detector_is_opened_by_the_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def note(name: str, *_: object) -> DemoDetector:
        opened.append(name)
        return DemoDetector()

    monkeypatch.setattr(poses, "open_detector", note)
    late = LateDetector("demo")
    assert late.identity == "demo"
    assert not opened
    [[person]] = late.detect([read_picture(inputs.REFERENCE)])
    list(late.stream([read_picture(inputs.REFERENCE)]))
    assert opened == ["demo"]
    assert (late.name, late.provider) == (DemoDetector.name, DemoDetector.provider)
    assert person.scores.min() == 1


def test_the_identity_of_a_detector_changes_with_its_files(tmp_path: Path, monkeypatch) -> None:
    """No network is loaded for it; a detector that cannot be used has none, and opening it says why."""
    assert LateDetector("dwpose", (tmp_path,)).identity == ""
    with pytest.raises(FileNotFoundError, match="yolox_l.onnx"):
        LateDetector("dwpose", (tmp_path,)).detect([np.zeros((8, 8, 3), np.uint8)])
    for name in ("yolox_l.onnx", "dw-ll_ucoco_384.onnx"):
        (tmp_path / name).write_bytes(b"one")
    before = LateDetector("auto", (tmp_path,)).identity
    assert before.startswith("dwpose")
    (tmp_path / "yolox_l.onnx").write_bytes(b"another")
    assert LateDetector("dwpose", (tmp_path,)).identity not in ("", before)


def test_poses_of_a_file_need_no_detector(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    save_poses(ALL, file)
    assert json.loads(file.read_text())["fps"] == inputs.FPS
    assert len(poses.read(file, PoseSettings(), LateDetector("dwpose"))) == len(ALL)


def test_a_glance_at_a_canvas_of_extreme_proportions_stays_a_small_picture() -> None:
    wide = PoseSequence(np.zeros((2, 134, 2)), np.zeros((2, 134)), (10_000_000, 1))
    assert poses.at_a_glance(wide, height=40).shape[1] < 2 * 40 * 5
