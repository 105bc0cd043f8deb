"""Runs that are killed and started again give the bytes of a run that was left alone."""

from __future__ import annotations

import json
import multiprocessing
import random
import runpy
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pytest
import torch
from xdyna_unianimate.app import runs, state
from xdyna_unianimate.app.cli import main
from xdyna_unianimate.demo import inputs
from xdyna_unianimate.video_core import storage
from xdyna_unianimate.video_core.progress import Reached

HERE = Path(__file__).parent
PATIENCE = 120.0

LATE = ("diffusers.models.autoencoders.autoencoder_kl", "transformers.models.clip.modeling_clip")
"""What those libraries import only when it is asked for: most of the time of a short run."""

SYSTEMS = {
    "unianimate": ("--mode", "windows", "--context-size", "4", "--context-overlap", "1"),
    "continuation": ("--mode", "continuation", "--context-size", "4"),
    "xdyna": ("--model", "xdyna", "--context-size", "4", "--context-overlap", "1"),
}


def words(how: str, target: Path, *more: str) -> list[str]:
    """``animate`` in the embedded size of nothing: 9 frames of 32 x 48, a few steps."""
    source = ("--reference", str(inputs.REFERENCE), "--reference-pose", str(inputs.REFERENCE_POSE))
    driving = ("--driving", str(inputs.DRIVING_POSES), "--weights", "demo", "--detector", "demo")
    quick = ("--steps", "4", "--resolution", "32x48", "--max-frames", "9", "--codec", "png")
    where = ("--output", str(target), "--overwrite")
    return ["animate", *source, *driving, *quick, *where, *SYSTEMS[how], *more]


@pytest.fixture(scope="module")
def processes() -> BaseContext:
    """Real processes; where the system can fork, all that a run imports is imported for all of them once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    cores = [
        f"xdyna_unianimate.{core}_core.{name}"
        for core in ("unianimate", "xdyna")
        for name in ("load", "pipeline")
    ]
    context.set_forkserver_preload([*cores, "xdyna_unianimate.app.cli", *LATE, "av", "cv2"])
    return context


@dataclass
class Killing:
    """Starts ``animate`` in processes, kills them, and counts."""

    folder: Path
    processes: BaseContext
    weights: dict[str, Path]
    kills: int = 0
    inside: int = 0
    _numbers: count = field(default_factory=count)

    def start(self, words: list[str], hang: int | None) -> tuple[multiprocessing.Process, dict[str, Path]]:
        """A process that has begun with its work."""
        number = next(self._numbers)
        files = {name: self.folder / f"{name}{number}" for name in ("started", "ended", "hung", "log")}
        given = {
            "words": words,
            "environment": {"XDUA_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"},
            "weights": {name: str(file) for name, file in self.weights.items()},
            "hang": hang,
            **{name: str(file) for name, file in files.items()},
        }
        run = (str(HERE / "killed.py"), {"given": given})
        process = self.processes.Process(target=runpy.run_path, args=run)
        process.start()
        wait_for(lambda: files["started"].exists() or not process.is_alive())
        return process, files

    def finish(self, words: list[str]) -> None:
        """A run that is left alone."""
        process, files = self.start(words, None)
        process.join(PATIENCE)
        assert files["ended"].exists(), (
            files["log"].read_text() if files["log"].exists() else "it did not start"
        )
        assert files["ended"].read_text() == "0", files["log"].read_text()

    def kill(self, words: list[str], after: float | None = None, hang: int | None = None) -> bool:
        """Kill a run some seconds after its start, or inside a write; whether it had not ended by itself."""
        process, files = self.start(words, hang)
        if hang is None:
            process.join(after)
        else:
            wait_for(lambda: files["hung"].exists() or not process.is_alive())
        process.kill()
        process.join(PATIENCE)
        killed = not files["ended"].exists()
        self.kills += killed
        self.inside += killed and hang is not None
        return killed


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the process did nothing"
        time.sleep(0.005)


@pytest.fixture
def killing(tmp_path: Path, processes: BaseContext, lively_weights: dict[str, Path]) -> Killing:
    return Killing(tmp_path, processes, lively_weights)


def runs_in(folder: Path) -> list[Path]:
    return [entry for entry in (folder / "cache" / state.RUNS).glob("*") if entry.is_dir()]


def pictures(folder: Path) -> dict[str, bytes]:
    """The frames and the contact sheet, byte for byte.

    PNG, because libx264 is no help here: the same frames twice gave another file in one of seven runs.
    """
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.png")}


def survive(killing: Killing, how: str, kills: int, rng: random.Random, *more: str) -> None:
    """Kill runs until there were so many, let the last one finish, and compare with one that was left alone."""
    whole, target = killing.folder / "whole", killing.folder / "killed"
    began = time.monotonic()
    killing.finish(words(how, whole, "--no-resume", *more))
    length = time.monotonic() - began
    wanted = killing.kills + kills
    while killing.kills < wanted:
        # Few writes follow where much was kept; a run that ends before its kill is one that is compared.
        hang = rng.randint(1, 5) if rng.random() < 0.4 else None
        if not killing.kill(words(how, target, *more), rng.uniform(0, length), hang):
            assert pictures(whole) == pictures(target)
            assert not runs_in(killing.folder)
    killing.finish(words(how, target, *more))
    assert pictures(whole) == pictures(target)
    assert len(pictures(whole)) == 10, "nine frames and the sheet"
    assert not runs_in(killing.folder), "a finished run cleans up after itself"


@pytest.mark.parametrize(("how", "seed"), [("unianimate", 1), ("continuation", 2), ("xdyna", 3)])
def test_killed_runs_end_in_the_same_bytes(killing: Killing, how: str, seed: int) -> None:
    survive(killing, how, 1, random.Random(seed))


@pytest.mark.slow
def test_a_hundred_kills(killing: Killing, capsys: pytest.CaptureFixture[str]) -> None:
    """At random moments, and in the middle of writes; `-s` or the end of the output shows the count."""
    rng = random.Random(0)
    for how in SYSTEMS:
        for _ in range(7):
            survive(killing, how, 5, rng, "--seed", str(rng.randrange(1000)))
            for folder in ("whole", "killed"):
                shutil.rmtree(killing.folder / folder)
    with capsys.disabled():
        print(f"\n{killing.kills} kills, {killing.inside} of them inside a write; every result byte-equal")
    assert killing.kills >= 100
    assert killing.inside >= 20


# ---- without processes ---------------------------------------------------------------------------------


class Stop(Exception):
    """In the place of a kill, where the moment has to be exact."""


def stopped_at(monkeypatch: pytest.MonkeyPatch, step: int) -> list[int]:
    """Make runs stop after a step was kept, once; the steps that were done are listed."""
    done: list[int] = []
    keep = state.Part.keep

    def keeping(part: state.Part, reached: Reached) -> None:
        keep(part, reached)
        done.append(reached.done)
        if len(done) == step:
            raise Stop

    monkeypatch.setattr(state.Part, "keep", keeping)
    return done


@pytest.mark.parametrize("how", SYSTEMS)
@pytest.mark.usefixtures("lively")
def test_steps_that_were_done_are_not_done_again(
    how: str, own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, target = own_place / "whole", own_place / "again"
    assert main(words(how, whole, "--no-resume")) == 0
    done = stopped_at(monkeypatch, 3)
    with pytest.raises(Stop):
        main(words(how, target))
    [folder] = runs_in(own_place)
    assert json.loads((folder / state.MANIFEST).read_text())["entries"]["step"]["done"] == 3
    assert main(words(how, target)) == 0
    in_all = {"unianimate": 4, "continuation": 3 * 4, "xdyna": 4}[how]
    assert len(done) == in_all, "each step was done once"
    assert pictures(whole) == pictures(target)
    assert not runs_in(own_place)


@pytest.mark.parametrize("how", SYSTEMS)
@pytest.mark.usefixtures("lively")
def test_a_long_clip_goes_on_from_disk(how: str, own_place: Path, monkeypatch) -> None:
    """Its tensors and states go through files a stretch at a time; the pictures are those of a run in memory."""
    whole, target = own_place / "whole", own_place / "target"
    assert main(words(how, whole, "--no-resume", "--solver", "unipc")) == 0
    monkeypatch.setattr(storage, "LONG_CLIP", 3)
    monkeypatch.setattr(storage, "OnDisk", partial(storage.OnDisk, stretch=4))
    with monkeypatch.context() as cut:
        stopped_at(cut, 3)
        with pytest.raises(Stop):
            main(words(how, target, "--solver", "unipc"))
    assert main(words(how, target, "--solver", "unipc")) == 0
    assert pictures(whole) == pictures(target)
    assert list((state.place() / state.CLIPS).iterdir()) == []


@pytest.mark.parametrize("how", ["unianimate", "xdyna"])
def test_poses_of_a_long_clip_lie_on_disk(how: str, own_place: Path, monkeypatch) -> None:
    """Seen by a session that prepares both: the same poses, and which of them are mapped from a file."""
    prepared = []
    prepare = runs.Session.prepare
    monkeypatch.setattr(
        runs.Session, "prepare", lambda *args: prepared.append(prepare(*args)) or prepared[-1]
    )
    for number, long in enumerate((storage.LONG_CLIP, 3)):
        monkeypatch.setattr(storage, "LONG_CLIP", long)
        assert main(words(how, own_place / str(number), "--no-resume")) == 0
    short, long = (found.aligned for found in prepared)
    for name in ("points", "scores", "origins"):
        kept, mapped = getattr(short, name), getattr(long, name)
        assert np.array_equal(kept, mapped)
        assert not mapped.flags.writeable
        assert kept.base is None and mapped.base is not None
    assert pictures(own_place / "0") == pictures(own_place / "1")


@pytest.mark.parametrize(
    "changed", [("--seed", "5"), ("--guidance", "2"), ("--max-frames", "8"), ("--hands",)]
)
def test_another_setting_is_another_run(changed: tuple[str, ...], own_place: Path, monkeypatch) -> None:
    stopped_at(monkeypatch, 2)
    with pytest.raises(Stop):
        main(words("xdyna", own_place / "one"))
    assert main(words("xdyna", own_place / "two", *changed)) == 0
    assert len(runs_in(own_place)) == 1, "the first one is still there"


def test_another_way_to_write_the_clip_is_the_same_run(own_place: Path, monkeypatch) -> None:
    done = stopped_at(monkeypatch, 2)
    with pytest.raises(Stop):
        main(words("xdyna", own_place / "one"))
    assert main(words("xdyna", own_place / "two.webm", "--fps", "5", "--codec", "vp9")) == 0
    assert len(done) == 4


def test_a_state_is_kept_every_so_many_steps(own_place: Path, monkeypatch) -> None:
    stopped_at(monkeypatch, 3)
    with pytest.raises(Stop):
        main(words("xdyna", own_place / "one", "--keep-every", "2"))
    [folder] = runs_in(own_place)
    assert json.loads((folder / state.MANIFEST).read_text())["entries"]["step"]["done"] == 2


def test_nothing_is_kept_where_it_is_switched_off(own_place: Path, monkeypatch) -> None:
    monkeypatch.setattr(state.Run, "write", None)
    assert main(words("xdyna", own_place / "one", "--no-resume")) == 0


# ---- what is on disk -----------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> state.Run:
    return state.Runs.at(tmp_path).run("a run")


def latents(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


def again(run: state.Run) -> state.Run:
    """The same run as a later process finds it."""
    return state.Run(run.folder)


def test_a_state_comes_back_bit_for_bit(run: state.Run) -> None:
    part = run.part(2)
    part.keep(Reached(7, latents(), {"earlier": latents(1).half()}))
    found = again(run).part(2).reached()
    assert found.done == 7
    assert torch.equal(found.latents, latents())
    assert torch.equal(found.memory["earlier"], latents(1).half())
    assert again(run).part(1).reached() is None
    assert again(run).part(2).finished() is None


def test_a_finished_part_takes_the_place_of_its_steps(run: state.Run) -> None:
    part = run.part(0)
    for done in (1, 2):
        part.keep(Reached(done, latents(done)))
    part.finish(latents(9))
    later = again(run).part(0)
    assert later.reached() is None
    assert torch.equal(later.finished(), latents(9))
    assert len(list(run.folder.iterdir())) == 2, "the manifest and the part"
    run.clean()
    assert not run.folder.exists()


def test_a_damaged_file_is_not_used(run: state.Run, caplog: pytest.LogCaptureFixture) -> None:
    run.part(0).keep(Reached(1, latents()))
    [file] = run.folder.glob("*.bin")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert again(run).part(0).reached() is None
    assert "damaged" in caplog.text
    file.unlink()
    assert again(run).part(0).reached() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"entries": 3}'])
def test_a_damaged_manifest_is_a_new_start(run: state.Run, text: str, caplog) -> None:
    run.part(0).keep(Reached(1, latents()))
    (run.folder / state.MANIFEST).write_text(text)
    assert again(run).part(0).reached() is None
    assert "starting anew" in caplog.text


def test_what_no_manifest_names_is_swept_away(run: state.Run) -> None:
    run.folder.mkdir(parents=True)
    (run.folder / "step-left.bin").write_bytes(b"of a killed run")
    (run.folder / "tmp1.part").write_bytes(b"half")
    assert run.part(0).reached() is None
    run.part(0).keep(Reached(1, latents()))
    assert len(list(run.folder.iterdir())) == 2


def test_a_full_disk_costs_a_warning(run: state.Run, caplog) -> None:
    run.folder.parent.mkdir(parents=True)
    run.folder.write_text("a file where the folder should be")
    for done in (1, 2):
        run.part(0).keep(Reached(done, latents()))
    assert caplog.text.count("could not be kept") == 1


def test_the_oldest_runs_go_first_and_never_the_running_one(tmp_path: Path, monkeypatch) -> None:
    import os

    runs = state.Runs.at(tmp_path)
    for age, name in enumerate(("running", "newer", "older")):
        runs.run(name).part(0).finish(latents())
        for file in runs.run(name).folder.iterdir():
            os.utime(file, (1000 - age, 1000 - age))
    one = sum(file.stat().st_size for file in runs.run("newer").folder.iterdir())
    monkeypatch.setattr(state.bound, "__kwdefaults__", {"limit_bytes": 2 * one + one // 2, "spared": None})
    runs.run("running").part(0).finish(latents(1))
    left = {run.name for run in (tmp_path / state.RUNS).iterdir()}
    assert left == {runs.run(name).folder.name for name in ("running", "newer")}


def test_keys_tell_networks_and_tensors_apart() -> None:
    layer, other, half = torch.nn.Linear(40, 30), torch.nn.Linear(40, 30), torch.nn.Linear(40, 30).half()
    same = torch.nn.Linear(40, 30)
    same.load_state_dict(layer.state_dict())
    assert state.fingerprint(layer) == state.fingerprint(same)
    assert len({state.fingerprint(net) for net in (layer, other, half, torch.nn.Linear(30, 40))}) == 4
    ones = torch.ones(2, 3)
    different = [ones, ones.half(), ones.reshape(3, 2), 2 * ones, None]
    assert len({state.digest_of(tensor) for tensor in different}) == 5
    assert state.digest_of(ones.T) == state.digest_of(ones.T.contiguous())


def test_every_so_many_steps_is_one_at_least() -> None:
    with pytest.raises(ValueError, match="1 or more; 0 was given"):
        state.Runs(Path(), 0)
