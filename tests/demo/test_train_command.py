"""The training command: what it refuses, what it replaces and keeps, and from what it goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from xdyna_unianimate.demo import checkpoints
from xdyna_unianimate.demo import train as demo_train
from xdyna_unianimate.demo.data import CANVAS, draw_clip
from xdyna_unianimate.pose_align.interchange import save_poses
from xdyna_unianimate.pose_align.pose import PoseSequence
from xdyna_unianimate.video_core.video import write_video
from xdyna_unianimate.video_core.weights import open_checkpoint


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copies of the demo's weights, which commands read and replace; batches of two."""
    home = tmp_path / "weights"
    shutil.copytree(checkpoints.FOLDER, home)
    for name, path in vars(checkpoints).items():
        if isinstance(path, Path) and path.suffix:
            monkeypatch.setattr(checkpoints, name, home / path.name)
    monkeypatch.setattr(demo_train, "PLANS", {k: replace(p, batch=2) for k, p in demo_train.PLANS.items()})
    return home


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return dance(tmp_path / "mine", 4)


def dance(folder: Path, seed: int) -> Path:
    """A folder with a video of a drawn figure and its poses."""
    folder.mkdir(exist_ok=True)
    clip = draw_clip(seed, 8)
    write_video(clip.frames, folder / "dance.mp4", 12.0, overwrite=True)
    poses = PoseSequence(clip.points, np.ones(clip.points.shape[:2], np.float32), CANVAS, 12.0)
    save_poses(poses, folder / "dance.npz")
    return folder


Say = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Say:
    """A command that ends in exit code 1 and one sentence, which is returned."""

    def sentence(*words: object) -> str:
        assert demo_train.main([str(word) for word in words]) == 1
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.endswith(".") and "Traceback" not in said
        return said

    return sentence


def state_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# ---- what is refused ---------------------------------------------------------------------------------------


def test_latents_that_others_rely_on_do_not_move(home: Path, tmp_path: Path, refused: Say) -> None:
    before = state_of(home)
    said = refused("autoencoder", tmp_path / "run", "--go-on", "--iterations", 1)
    assert "move the latents under unianimate and xdyna" in said and "'decoder'" in said
    assert state_of(home) == before and not (tmp_path / "run").exists()


@pytest.mark.parametrize("iterations", [0, -5])
def test_no_iterations_replace_nothing(iterations: int, home: Path, tmp_path: Path, refused: Say) -> None:
    before = state_of(home)
    assert str(iterations) in refused("unianimate", tmp_path / "run", "--iterations", iterations)
    assert state_of(home) == before and not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["foo", "cuda"])
def test_a_device_that_is_not_there(device: str, tmp_path: Path, refused: Say) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("it is there")
    assert f"'{device}' cannot be used here" in refused("decoder", tmp_path, "--device", device)


# ---- what is replaced --------------------------------------------------------------------------------------


def test_what_a_run_replaces_is_kept(
    home: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, run = state_of(home), tmp_path / "run"
    words = ["decoder", str(run), "--go-on", "--iterations", "1", "--data", str(own)]
    assert demo_train.main(words) == 0
    kept = run / "before"
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("The former vae.safetensors: ") and str(kept) in said and str(home) in said
    assert state_of(kept) == {"vae.safetensors": before["vae.safetensors"]}
    fitted = state_of(home)
    assert {name for name in before if fitted[name] != before[name]} == {"vae.safetensors"}

    assert demo_train.main(words) == 0  # the result again, from its state
    assert state_of(kept) == {"vae.safetensors": before["vae.safetensors"]}

    note = open_checkpoint(home / "vae.safetensors").metadata["note"]
    assert note.startswith("trained on own data 'mine' (1 video, 8 frames, sha256 ")
    assert note.endswith("): 1 iterations, seed 0") and str(tmp_path) not in note


def test_a_first_file_replaces_nothing(tmp_path: Path) -> None:
    assert checkpoints.keep_former(tmp_path / "none.safetensors", tmp_path / "before") is None
    assert not (tmp_path / "before").exists()


# ---- what a run goes on from -------------------------------------------------------------------------------


def test_a_run_does_not_go_on_with_other_data(home: Path, own: Path, tmp_path: Path, refused: Say) -> None:
    words = ["decoder", str(tmp_path / "run"), "--go-on", "--iterations", "1"]
    assert demo_train.main(words) == 0
    stored = state_of(home)
    said = refused(*words, "--data", own)
    assert "belongs to another plan" in said and "drawn puppets" in said and str(own) in said

    words[1] = str(tmp_path / "other")
    assert demo_train.main([*words, "--data", str(own)]) == 0
    fitted = state_of(home)
    assert fitted != stored
    dance(own, 5)  # another video under the same name
    assert "belongs to another plan" in refused(*words, "--data", own)
    assert "belongs to another plan" in refused(*words)
    assert state_of(home) == fitted


def test_the_weight_of_figures_is_part_of_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = []

    def look(model, loss, stream, plan, folder, report):
        plans.append(plan)
        return model

    monkeypatch.setattr(demo_train, "train", look)
    monkeypatch.setattr(demo_train, "_install", lambda order, made: None)
    for words in ["xdyna"], ["xdyna", "--figure-weight", "1"], ["vision", "--figure-weight", "1"]:
        assert demo_train.main([words[0], str(tmp_path), *words[1:]]) == 0
    assert [plan.figure_weight for plan in plans] == [demo_train.FIGURE_WEIGHT] * 3 + [1.0] * 3 + [None]


# ---- what is stopped ---------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="sends the signal of Ctrl-C to a process group")
@pytest.mark.parametrize("saved", [False, True])
def test_ctrl_c_is_a_sentence(saved: bool, tmp_path: Path) -> None:
    """The program itself, as a terminal stops it: with the processes that draw its pictures."""
    code = (
        "import sys; from xdyna_unianimate.demo import train, training\n"
        f"training.STATE_EVERY_SECONDS = {-1 if saved else 60}\n"
        "sys.exit(train.main(sys.argv[1:]))"
    )
    root = Path(demo_train.__file__).parents[1]
    package = tmp_path / "path"
    package.mkdir()
    (package / "xdyna_unianimate").symlink_to(root)
    run = subprocess.Popen(
        [sys.executable, "-c", code, "decoder", str(tmp_path / "run")],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    wanted, end = tmp_path / "run" / ("state.pt" if saved else ""), time.monotonic() + 120
    while not wanted.exists() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1)
    subprocess.run(["kill", "-s", "INT", "--", f"-{run.pid}"], check=True)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130 and "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("Stopped. The same command ")
    assert ("goes on from the last state" in last) == saved and ("begins anew" in last) != saved
