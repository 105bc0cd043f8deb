"""The README's gallery: held-out puppets animated by both systems with the embedded weights, beside the truth.

``python -m xdyna_unianimate.app.gallery`` makes it anew, with each result's numbers in its label.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..demo.heldout import FPS, HeldOut, held_out
from ..pose_align.draw import XDYNA as STYLE
from ..pose_align.draw import draw
from ..video_core.video import write_video
from .benchmark import FIRST_FRAME, REFERENCE, XDYNA, Answers, Benchmark, asked
from .grids import grid_frames
from .metrics.fidelity import psnr

FILE = Path(__file__).parents[1] / "docs" / "gallery.webp"

LABELS = {FIRST_FRAME: "first frame", REFERENCE: "UniAnimate", XDYNA: "X-Dyna"}


@dataclass(frozen=True)
class Gallery:
    """What is shown: clips of so many frames, by their numbers among the held-out ones."""

    clips: Sequence[int] = (0, 1, 3)
    frames: int = 16
    steps: int = Benchmark.steps
    guidance: float = Benchmark.guidance


def gallery_frames(gallery: Gallery) -> Iterator[np.ndarray]:
    """uint8 RGB [H, W, 3]: a row per clip: reference, skeleton, the systems' results, truth."""
    answers = Answers(Benchmark(steps=gallery.steps, guidance=gallery.guidance))
    rows = [_row(held_out(number, gallery.frames), answers) for number in gallery.clips]
    for frames in zip(*rows, strict=True):
        yield np.concatenate(frames)


def _row(task: HeldOut, answers: Answers) -> Iterator[np.ndarray]:
    width, height = task.poses.canvas
    columns = {
        "reference": [task.reference] * len(task.truth),
        "skeleton": draw(task.poses, STYLE, (2 * width, 2 * height), scale_strokes=True),
    }
    for name, answer in answers.systems.items():
        own, given = asked(name, task)
        made = answer(own)
        columns[f"{LABELS[name]} {_decibels(made[given:], task.truth[given:]):.1f} dB"] = made
    columns["truth"] = list(task.truth)
    return grid_frames(columns)


def _decibels(made: Sequence[np.ndarray], truth: np.ndarray) -> float:
    return float(np.mean([psnr(one, other) for one, other in zip(made, truth, strict=True)]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the gallery and put it into the file."""
    parser = argparse.ArgumentParser(prog="gallery", description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=FILE)
    parser.add_argument("--frames", type=int, default=Gallery.frames)
    parser.add_argument("--steps", type=int, default=Gallery.steps)
    args = parser.parse_args(arguments)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    frames = gallery_frames(Gallery(frames=args.frames, steps=args.steps))
    write_video(frames, args.output, FPS, overwrite=True)


if __name__ == "__main__":
    main()
