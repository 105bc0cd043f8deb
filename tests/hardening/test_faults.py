"""Faults of the machine: full and read-only disks, files that change, no codec, no memory, cancels and kills."""

from __future__ import annotations

import errno
import io
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from xdyna_unianimate.app.cli import main
from xdyna_unianimate.video_core import encode
from xdyna_unianimate.video_core.asides import written_aside
from xdyna_unianimate.video_core.video import write_video
from xdyna_unianimate.video_core.weights import open_checkpoint

from ..app.conftest import lively_weights, own_place, small_weights  # noqa: F401
from ..app.test_resume import SYSTEMS, Killing, pictures, processes, runs_in, survive, words  # noqa: F401
from .processes import can_measure, growth, resident

FAMILY = "faults"

MORE = 20
"""MB that a process may hold after many faults more than after the first of them."""

KINDS = {"a.mp4": "h264", "a.webm": "vp9", "a.gif": "gif", "a.webp": "webp", "a": "png"}
FRAMES = [np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8) for i in range(4)]


# ---- disks ---------------------------------------------------------------------------------------------


class Failing(io.FileIO):
    """A file whose disk is full from some write on."""

    left = 0

    def write(self, data: Any) -> int:
        Failing.left -= 1
        if Failing.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.name))
        return super().write(data)


@contextmanager
def disk(folder: Path, writes: int, error: int | None = None) -> Iterator[None]:
    """Below the folder, so many writes succeed; or no file can be created, with that error."""
    real = io.open

    def opened(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **options: Any) -> Any:
        inside = isinstance(file, (str, Path)) and Path(file).is_relative_to(folder)
        if not inside or not set(mode) & set("wax+"):
            return real(file, mode, buffering, *args, **options)
        if error is not None:
            raise OSError(error, "Read-only file system", str(file))
        raw = Failing(file, mode.replace("b", ""))
        if not buffering:
            return raw
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

    Failing.left = writes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", opened)
        patch.setattr("builtins.open", opened)
        yield


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", KINDS)
def test_a_full_disk_keeps_earlier_results_and_leaves_nothing(tally, amount, tmp_path, name, capfd):
    write_video(FRAMES[:1], tmp_path / f"earlier{Path(name).suffix}", 8, codec=KINDS[name])
    before = files(tmp_path)
    for writes in range(amount(3, 40)):
        path = tmp_path / name
        with tally.trying(f"{name}, full after {writes} writes", names=name), disk(tmp_path, writes):
            write_video(FRAMES, path, 8, codec=KINDS[name])
        if path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if files(tmp_path) != before:
            tally.lost(f"{name} after {writes} writes: {sorted(files(tmp_path))} are left")
            break
    write_video(FRAMES, tmp_path / name, 8, codec=KINDS[name])
    tally.worked()
    assert "Traceback" not in capfd.readouterr().err, "PyAV printed an error that it did not raise"


@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk_leaves_nothing_of_what_is_written_aside(tally, tmp_path, earlier):
    """Checkpoints, pictures, tables and downloads."""
    path = tmp_path / "a.json"
    if earlier:
        path.write_bytes(b"earlier")
    before = files(tmp_path)
    for writes in range(3):
        trying = tally.trying(f"full after {writes} writes", names=path.name, must_refuse=True)
        with trying, disk(tmp_path, writes), written_aside(path) as file:
            for _ in range(4):
                file.write(bytes(io.DEFAULT_BUFFER_SIZE + 1))
        if files(tmp_path) != before:
            tally.lost(f"full after {writes} writes: {sorted(files(tmp_path))} are left")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
def test_a_read_only_output_is_one_sentence(tally, tmp_path, name, error):
    with tally.trying(name, names=name, must_refuse=True), disk(tmp_path, 0, error):
        write_video(FRAMES, tmp_path / name, 8, codec=KINDS[name])
    assert not files(tmp_path)


def test_a_missing_codec_is_one_sentence(tally, tmp_path, monkeypatch):
    from dataclasses import replace

    for name, kind in KINDS.items():
        if kind in encode.CODECS:
            codec = replace(encode.CODECS[kind], encoders=("libnothing",))
            monkeypatch.setitem(encode.CODECS, kind, codec)
            with tally.trying(name, names="libnothing", must_refuse=True):
                write_video(FRAMES, tmp_path / name, 8, codec=kind)
    assert not files(tmp_path)


# ---- files that change ---------------------------------------------------------------------------------


def test_a_model_file_replaced_while_it_is_read(tally, amount, tmp_path):
    """Downloads and people put a new file in the old one's place, or write into it, or cut it: never a mixture."""
    old = {f"{number}": torch.full((64, 64), float(number)) for number in range(8)}
    for at in range(amount(4, 8)):
        for how in ("another", "deleted", "smaller", "cut short", "written over"):
            path = tmp_path / f"{how}{at}.safetensors"
            save_file(old, path)
            with tally.trying(f"{how} after {at} tensors", names=path.name):
                opened = open_checkpoint(path)
                for number, name in enumerate(list(opened)):
                    if number == at and how in ("cut short", "written over"):
                        path.write_bytes(b"" if how == "cut short" else bytes(path.stat().st_size))
                    elif number == at:
                        aside = tmp_path / "new.safetensors"
                        save_file(
                            {"0": torch.zeros(3)} if how == "smaller" else {k: -v for k, v in old.items()},
                            aside,
                        )
                        path.unlink() if how == "deleted" else aside.replace(path)
                    value = opened[name]
                    assert torch.equal(value, old[name]) or (
                        how == "another" and torch.equal(value, -old[name])
                    )


# ---- memory --------------------------------------------------------------------------------------------

STAGES = ("UniAnimateUNet", "XDynaUNet", "ControlNet", "ControlNetModel", "Resampler", "ClipText", "ClipVision",
          "CLIPTextModel", "CLIPVisionModelWithProjection", "Encoder", "Decoder")  # fmt: skip
GO_ON = ("UniAnimateUNet", "XDynaUNet", "ControlNet", "ControlNetModel", "Decoder")
"""Those with a thriftier way to do the same; the others see one picture or text at a time."""


@contextmanager
def out_of_memory_at(number: int, seen: list[str]) -> Iterator[None]:
    """The n-th forward of a stage's network finds no memory, once; which ones ran is listed."""

    def before(module: torch.nn.Module, _: Any) -> None:
        if type(module).__name__ in STAGES:
            seen.append(type(module).__name__)
            if len(seen) == number:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    handle = torch.nn.modules.module.register_module_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("how", ["unianimate", "xdyna"])
def test_memory_runs_out_at_every_stage(tally, full, how, own_place, capsys):  # noqa: F811
    """Smaller parts are tried, or it is one sentence; the rerun gives the frames of a run that was left alone."""
    whole, target, seen = own_place / "whole", own_place / "again", []
    with out_of_memory_at(0, seen):
        assert main(words(how, whole, "--no-resume")) == 0
    assert seen, "no stage was recognised"
    numbers, memory = range(1, len(seen) + 1), []
    for number in numbers if full else sorted({seen.index(kind) + 1 for kind in seen})[:1]:
        capsys.readouterr()
        case = f"{how}, forward {number} of {len(seen)} ({seen[number - 1]})"
        with out_of_memory_at(number, []):
            code = main(words(how, target))
        said = capsys.readouterr().err.strip()
        if code == 0:
            tally.worked()
        elif seen[number - 1] in GO_ON:
            tally.lost(f"{case}: nothing smaller was tried: {said}")
        elif "Memory ran out" in said.splitlines()[-1]:
            tally.refused(said.splitlines()[-1])
        else:
            tally.lost(f"{case}: {said}")
        if main(words(how, target)) or pictures(target) != pictures(whole):
            tally.lost(f"{case}: the rerun is not the run that was left alone")
        if runs_in(own_place) or [file for file in own_place.rglob("*part*")]:
            tally.lost(f"{case}: something is left")
        shutil.rmtree(target)
        if can_measure():
            memory.append(resident())
    if memory and growth(memory) > MORE:
        tally.lost(f"{growth(memory):.0f} MB more at the end: {memory}")


# ---- cancels and kills -----------------------------------------------------------------------------------


def test_cancels_at_random_moments(tally, amount, own_place, monkeypatch, capsys):  # noqa: F811
    """ctrl-C at any forward of any layer; then the rerun ends as if nothing had been."""
    whole, target, count, stop = own_place / "whole", own_place / "again", [0], [0]
    rng = random.Random(0)

    def before(module: torch.nn.Module, _: Any) -> None:
        count[0] += 1
        if count[0] == stop[0]:
            raise KeyboardInterrupt

    handle = torch.nn.modules.module.register_module_forward_pre_hook(before)
    try:
        assert main(words("xdyna", whole, "--no-resume")) == 0
        length = count[0]
        earlier, memory = files(whole), []
        for _ in range(amount(2, 50)):
            count[0], stop[0] = 0, (moment := rng.randint(1, length))
            code = main(words("xdyna", target))
            stop[0] = 0
            again = main(words("xdyna", target))
            fine = (
                code == 130 and again == 0 and pictures(target) == pictures(whole) and files(whole) == earlier
            )
            left = [*runs_in(own_place), *own_place.rglob("*partial*"), *own_place.rglob("*.part")]
            if fine and not left:
                tally.worked()
            else:
                tally.lost(f"cancelled at forward {moment}: {code}, {again}, left {left}")
            shutil.rmtree(target)
            if can_measure():
                memory.append(resident())
    finally:
        handle.remove()
    if memory and growth(memory) > MORE:
        tally.lost(f"{growth(memory):.0f} MB more at the end: {memory}")


@pytest.mark.full
def test_kills_at_random_moments(tally, tmp_path, processes, lively_weights):  # noqa: F811
    """A hundred, some inside writes of its state; tests/app/test_resume.py kills five in the normal suite."""
    killing, rng = Killing(tmp_path, processes, lively_weights), random.Random(7)
    for number in range(20):
        how = list(SYSTEMS)[number % len(SYSTEMS)]
        before = killing.kills
        survive(killing, how, 5, rng, "--seed", str(number))
        left = [*tmp_path.rglob("*.part"), *tmp_path.rglob("*partial*")]
        if left:
            tally.lost(f"{how}: {left} are left")
        tally.worked(killing.kills - before)
        for folder in ("whole", "killed"):
            shutil.rmtree(tmp_path / folder)
