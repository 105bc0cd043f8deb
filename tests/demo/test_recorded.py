"""Training on own videos: what a folder gives, and what it must hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from xdyna_unianimate.app.benchmark import Answers, Benchmark
from xdyna_unianimate.app.evaluate import Inputs, evaluate
from xdyna_unianimate.demo import train as demo_train
from xdyna_unianimate.demo.data import CANVAS, HELD_OUT, Clip, draw_clip
from xdyna_unianimate.demo.heldout import HeldOut
from xdyna_unianimate.demo.recorded import Recorded
from xdyna_unianimate.pose_align.interchange import save_poses
from xdyna_unianimate.pose_align.pose import PoseSequence
from xdyna_unianimate.video_core.video import write_video

WIDE = (320, 240)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A wide video of a drawn figure with its poses, whose left hand nobody saw."""
    folder = tmp_path_factory.mktemp("own")
    clip = draw_clip(4, 10, WIDE)
    scores = np.ones(clip.points.shape[:2], np.float32)
    scores[:, 92:113] = 0
    write_video(clip.frames, folder / "dance.mp4", 12.0)
    save_poses(PoseSequence(clip.points, scores, WIDE, 12.0), folder / "dance.npz")
    return folder


def test_points_lie_where_the_frames_show_them(folder: Path) -> None:
    own = Recorded.open(folder)
    clip, again = own.clip(3, 4), own.clip(3, 4)
    assert clip.frames.shape == (4, CANVAS[1], CANVAS[0], 3) and clip.points.shape == (4, 134, 2)
    assert (clip.frames == again.frames).all() and (clip.frames != own.clip(4, 4).frames).any()
    assert np.isnan(clip.points[:, 92:113]).all() and np.isfinite(clip.points[:, :92]).all()
    true = draw_clip(4, 10, WIDE)
    # 320 x 240 is cut to 160 x 240 around its middle, and made 128 x 192.
    wanted = (true.points[:, :92] - (80, 0)) * 0.8
    starts = [i for i in range(7) if np.allclose(clip.points[:, :92], wanted[i : i + 4])]
    assert len(starts) == 1
    picture, points = own.moment(1)
    assert picture.shape == (CANVAS[1], CANVAS[0], 3) and points is not None
    assert own.pair(2).shape == (2, CANVAS[1], CANVAS[0], 3)


def test_batches_show_the_skeletons_of_what_was_seen(folder: Path) -> None:
    own = Recorded.open(folder)
    batch = demo_train._draw_xdyna(0, own)
    assert batch["frames"].shape[1:] == (2, CANVAS[1], CANVAS[0], 3) and batch["poses"].shape[1] == 3
    assert batch["poses"].any() and batch["faces"].any()
    bare = replace(
        own, recordings=tuple(replace(r, points=np.full_like(r.points, np.nan)) for r in own.recordings)
    )
    assert not demo_train._draw_unianimate(0, bare)["poses"].any()


def test_the_command_trains_on_them(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(model, loss, stream, plan, folder, report):
        seen.append(next(stream(0)))
        return model

    monkeypatch.setattr(demo_train, "train", look)
    monkeypatch.setattr(demo_train, "store", lambda *args: None)
    assert demo_train.main(["unianimate", str(tmp_path), "--go-on", "--data", str(folder)]) == 0
    frames = Recorded.open(folder).recordings[0].frames
    (batch,) = seen
    assert all((frames == picture.numpy()).all((1, 2, 3)).any() for picture in batch["reference"])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "dance.npz").unlink(), "holds no pose files"),
        (lambda folder: (folder / "dance.mp4").unlink(), "has no video of its name"),
        (lambda folder: write_video(draw_clip(4, 9, WIDE).frames, folder / "dance.mp4", 12.0, overwrite=True),
         "9 frames and .* 10 poses"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_used(folder: Path, tmp_path: Path, spoil, sentence: str) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spoil(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        Recorded.open(tmp_path)


# ---- how near the embedded weights come to own videos ------------------------------------------------------------

OWN = "XDUA_OWN_CLIPS"
"""Environment variable: folders of own videos with their poses, with the path separator between them."""


@pytest.mark.slow
def test_how_near_the_weights_come_to_own_videos(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the PSNR over eight clips of 8 frames from each folder, made from another frame of the same video."""
    if not os.environ.get(OWN):
        pytest.skip(f"{OWN} names no folder of own videos")
    answers = Answers(Benchmark())
    rows = {
        "copy the reference": lambda task: [task.reference] * len(task.truth),
        "autoencoder": answers.all["autoencoder"],
        "UniAnimate, reference": answers.systems["UniAnimate, reference"],
    }
    for folder in os.environ[OWN].split(os.pathsep):
        own = Recorded.open(Path(folder))
        tasks = [task_of(own.clip(HELD_OUT + number, 8), number) for number in range(8)]
        found = {name: [near(answer(task), task) for task in tasks] for name, answer in rows.items()}
        with capsys.disabled():
            print(f"\n{folder}: " + ", ".join(f"{name} {np.mean(v):.1f} dB" for name, v in found.items()))
        assert np.isfinite(list(found.values())).all()


def near(made: Sequence[np.ndarray], task: HeldOut) -> float:
    return evaluate(Inputs(partial(iter, made), partial(iter, task.truth))).summary["psnr"]


def task_of(clip: Clip, number: int) -> HeldOut:
    """A clip of an own video as the benchmark's tasks are; nobody knows its puppet."""
    reference, points = poses(clip.reference_points[None]), poses(clip.points)
    return HeldOut(number, None, clip.reference, reference, clip.frames, points, clip.frames, points)


def poses(points: np.ndarray) -> PoseSequence:
    """Points [F, 134, 2], NaN where not seen."""
    return PoseSequence(np.nan_to_num(points), np.isfinite(points).all(-1).astype(np.float32), CANVAS, 12.0)
