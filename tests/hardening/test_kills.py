"""Kills while files are written: earlier results stay whole, what counts is whole or not there, nothing is left."""

from __future__ import annotations

import os
import random
import runpy
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pytest
import torch
from xdyna_unianimate.app.state import PoseCache
from xdyna_unianimate.pose_align.interchange import load_poses, save_poses
from xdyna_unianimate.pose_align.pose import POINTS, PoseSequence
from xdyna_unianimate.video_core.video import open_video, write_video

from ..app.test_resume import PATIENCE, processes, wait_for  # noqa: F401
from ..fakes.hub import serving
from . import killed

FAMILY = "faults"

CONTENT = bytes(range(256)) * 2**15
KEY = "0" * 64


@dataclass(frozen=True)
class Job:
    """What is killed. whole: of a target that is there, whether it is all of the earlier or all of the new result."""

    name: str
    source: str
    target: Path
    whole: Callable[[Path], bool]


def encoding(folder: Path, codec: str, name: str) -> Job:
    write_video(killed.frames(0, 2), folder / name, 8, codec=codec)

    def whole(clip: Path) -> bool:
        return len(list(open_video(clip).frames())) in (2, killed.FRAMES)

    return Job("encode", codec, folder / name, whole)


def converting(folder: Path) -> Job:
    source, target = folder / "a.pth", folder / "a.safetensors"
    torch.save({str(i): torch.full((2**16,), float(i)) for i in range(killed.WEIGHTS)}, source)
    killed.convert(target, str(source))
    whole = target.read_bytes()
    return Job("convert", str(source), target, lambda file: file.read_bytes() == whole)


def caching(folder: Path) -> Job:
    rng = np.random.default_rng(0)
    poses = PoseSequence(
        rng.uniform(0, 500, (2000, POINTS, 2)), rng.uniform(0, 1, (2000, POINTS)), (512, 512)
    )
    save_poses(poses, folder / "source.npz")

    def whole(file: Path) -> bool:
        found = PoseCache(file.parent).find(KEY)
        return found is not None and np.array_equal(found.points, load_poses(folder / "source.npz").points)

    return Job("cache", str(folder / "source.npz"), folder / "cache" / f"{KEY}.npz", whole)


@pytest.fixture
def jobs(tmp_path: Path):
    with serving() as hub:
        address = hub.offer("weights", CONTENT)
        made = {
            "mp4": lambda folder: encoding(folder, "h264", "a.mp4"),
            "png": lambda folder: encoding(folder, "png", "a"),
            "convert": converting,
            "cache": caching,
            "download": lambda folder: Job(
                "download", address, folder / "models" / "a.onnx", lambda file: file.read_bytes() == CONTENT
            ),
        }
        yield made


def started(job: Job, processes: BaseContext, folder: Path):  # noqa: F811
    """A process that has begun with the job."""
    begun = folder / "started"
    begun.unlink(missing_ok=True)
    given = {"job": job.name, "source": job.source, "target": str(job.target), "started": str(begun)}
    process = processes.Process(target=runpy.run_path, args=(killed.__file__, {"given": given}))
    process.start()
    wait_for(lambda: begun.exists() or not process.is_alive())
    return process


def left(job: Job, folder: Path) -> list[Path]:
    """What is neither source nor result."""
    for part in [*folder.rglob("*.part"), *folder.rglob("*.partial*")]:
        # Half files count as nobody's a moment after the last byte, and where there are no locks after a minute.
        os.utime(part, (time.time() - 100,) * 2)
    job_again(job)
    known = {
        folder / "started",
        folder / "source.npz",
        folder / "a.pth",
        job.target,
        job.target.parent,
        folder,
    }
    return [path for path in folder.rglob("*") if path not in known and job.target not in path.parents]


def job_again(job: Job) -> None:
    killed.JOBS[job.name](job.target, job.source)


@pytest.mark.parametrize("name", ["mp4", "png", "convert", "cache", "download"])
def test_kills_while_files_are_written(tally, amount, tmp_path, jobs, processes, name):  # noqa: F811
    """At random moments; each time the rerun gives the whole result, and cleans up."""
    rng = random.Random(name)
    job = jobs[name](tmp_path)
    began = time.monotonic()
    process = started(job, processes, tmp_path)
    begun = time.monotonic()
    process.join(PATIENCE)
    assert process.exitcode == 0 and job.whole(job.target), f"it does not work at all, {begun - began:.1f} s"
    length, kills, there = time.monotonic() - begun, 0, name != "download"
    while kills < amount(1, 20):
        if name in ("cache", "download"):
            job.target.unlink(missing_ok=True)
            there = False
        process = started(job, processes, tmp_path)
        process.join(rng.uniform(0, length))
        process.kill()
        process.join(PATIENCE)
        kills += process.exitcode != 0
        if job.target.exists() and not job.whole(job.target):
            tally.lost(f"{name}: a kill left half a result")
        elif there and not (job.target.exists() or any(tmp_path.glob("*.former"))):
            tally.lost(f"{name}: a kill lost the earlier result")
        elif remains := left(job, tmp_path):
            tally.lost(f"{name}: {remains} are left")
        elif not job.whole(job.target):
            tally.lost(f"{name}: the rerun is not whole")
        else:
            tally.worked()
