"""Run as a process of its own, to be killed: one job, told by ``given``: {"job", "target", "source", "started"}."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FRAMES, SIDE = 60, 96
"""Of the clip that ``encode`` writes."""
WEIGHTS = 64
"""Tensors of the checkpoint that ``convert`` reads, of 256 kB each."""


def frames(seed: int, count: int = FRAMES) -> Iterator[Any]:
    """Noise uint8 [SIDE, SIDE, 3], which takes an encoder its time."""
    import numpy as np

    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)


def encode(target: Path, source: str) -> None:
    """source: the codec."""
    from xdyna_unianimate.video_core.video import write_video

    write_video(frames(1), target, 8, codec=source, overwrite=True)


def convert(target: Path, source: str) -> None:
    from xdyna_unianimate.app.convert import convert as converted

    converted(Path(source), target, "fp16", overwrite=True)


def download(target: Path, source: str) -> None:
    """source: the address."""
    from xdyna_unianimate.app import download as fetching
    from xdyna_unianimate.app import models

    fetching.BLOCK = 1 << 16
    row = models.ModelFile(target.name, "a test", "dwpose", "MIT", models.DWPOSE_PAGE, group="dwpose")
    fetching.download(fetching.Item(row, target), look_up=lambda _: fetching.Remote(source))


def cache(target: Path, source: str) -> None:
    """source: a pose file. target: its place in a cache, by the key."""
    from xdyna_unianimate.app.state import PoseCache
    from xdyna_unianimate.pose_align.interchange import load_poses

    PoseCache(target.parent).store(target.stem, load_poses(source))


OURS = (
    "app.convert",
    "app.download",
    "app.state",
    "video_core.video",
    "video_core.weights",
    "pose_align.interchange",
)
MODULES = ("av", "PIL.PngImagePlugin", *(f"xdyna_unianimate.{name}" for name in OURS))

JOBS = {"encode": encode, "convert": convert, "download": download, "cache": cache}


def main(given: dict[str, str]) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    # Imported before, so that it is the work that is killed.
    for module in MODULES:
        importlib.import_module(module)
    Path(given["started"]).touch()
    JOBS[given["job"]](Path(given["target"]), given["source"])


if "given" in globals():
    main(globals()["given"])
