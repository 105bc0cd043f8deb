"""Training and test pictures: endless seeded puppets, motions and scenes; test seeds are never trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from . import puppets

CANVAS = (128, 192)
HELD_OUT = 1_000_000
"""Seeds from here on belong to the test set."""


@dataclass(frozen=True)
class Clip:
    """One puppet in front of one scene.

    reference, reference_points: uint8 [H, W, 3] and float64 [134, 2], a frame of another motion or moment.
    frames, points: uint8 [F, H, W, 3] and float64 [F, 134, 2], the clip itself. A point that is not known is NaN.
    """

    reference: np.ndarray
    reference_points: np.ndarray
    frames: np.ndarray
    points: np.ndarray


def draw_clip(seed: int, frames: int, canvas: tuple[int, int] = CANVAS, other_face: bool = False) -> Clip:
    """The clip of a seed; a quarter of the references come from the clip's own motion.

    The scene of the reference is that of the first frame, from which the clip goes on: what moves by itself can
    be foretold from one picture only so far as its moment is known.
    other_face: another puppet dances the same dance, as a driving video of another person does.
    """
    rng = np.random.default_rng([seed, 5])
    scene = puppets.Scene.from_seed(seed)
    puppet = puppets.Puppet.from_seed(seed + 3 * HELD_OUT if other_face else seed)
    motion = puppets.Motion.from_seed(seed)
    start = float(rng.integers(0, 200))
    other = motion if rng.random() < 0.25 else puppets.Motion.from_seed(seed + 2 * HELD_OUT)
    moment = start + float(rng.integers(0, 60))
    reference_points = puppets.joints(puppet, other.angles(moment), canvas)
    reference = puppets.render(puppet, reference_points, scene.render(start, canvas))
    pictures, points = zip(*puppets.clip(puppet, motion, scene, frames, canvas, start), strict=True)
    return Clip(reference, reference_points, np.stack(pictures), np.stack(points))


def draw_scene(seed: int, frames: int, canvas: tuple[int, int] = CANVAS) -> Clip:
    """The scene of a seed with nobody in it: what moves by itself, and a reference that is its first moment.

    All points are 0, where nobody is drawn.
    """
    start = float(np.random.default_rng([seed, 5]).integers(0, 200))
    scene = puppets.Scene.from_seed(seed)
    pictures = np.stack([scene.render(start + i, canvas) for i in range(frames)])
    nobody = np.zeros((frames, puppets.POINTS, 2))
    return Clip(pictures[0], nobody[0], pictures, nobody)


def draw_moment(seed: int, canvas: tuple[int, int] = CANVAS) -> tuple[np.ndarray, np.ndarray | None]:
    """One frame of the seed's clip, uint8 [H, W, 3], and its points [134, 2]; None for a scene alone, one in twelve."""
    rng = np.random.default_rng([seed, 6])
    moment, scene = float(rng.integers(0, 200)), puppets.Scene.from_seed(seed)
    background = scene.render(moment, canvas)
    if rng.random() < 1 / 12:
        return background, None
    puppet = puppets.Puppet.from_seed(seed)
    points = puppets.joints(puppet, puppets.Motion.from_seed(seed).angles(moment), canvas)
    return puppets.render(puppet, points, background), points


def draw_pair(seed: int, canvas: tuple[int, int] = CANVAS) -> np.ndarray:
    """uint8 [2, H, W, 3]: one puppet twice, in two poses and in front of two scenes."""
    rng = np.random.default_rng([seed, 8])
    puppet, pictures = puppets.Puppet.from_seed(seed), []
    for other in (seed, seed + 2 * HELD_OUT):
        angles = puppets.Motion.from_seed(other).angles(float(rng.integers(0, 200)))
        scene = puppets.Scene.from_seed(other).render(float(rng.integers(0, 200)), canvas)
        pictures.append(puppets.render(puppet, puppets.joints(puppet, angles, canvas), scene))
    return np.stack(pictures)


class Source(Protocol):
    """Where training pictures come from; a seed always gives the same. scenes: whether there are any with nobody in."""

    scenes: bool

    def clip(self, seed: int, frames: int, other_face: bool = False) -> Clip:
        """See ``draw_clip``."""

    def scene(self, seed: int, frames: int) -> Clip:
        """See ``draw_scene``."""

    def moment(self, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """See ``draw_moment``."""

    def pair(self, seed: int) -> np.ndarray:
        """See ``draw_pair``."""


@dataclass(frozen=True)
class Drawn:
    """The drawn puppets, which the shipped weights were trained on."""

    scenes: bool = True
    clip = staticmethod(draw_clip)
    scene = staticmethod(draw_scene)
    moment = staticmethod(draw_moment)
    pair = staticmethod(draw_pair)


DRAWN = Drawn()


class _Endless(IterableDataset):
    """Items ``draw(seed)`` for seeds that start at ``first`` and never reach the held-out ones."""

    def __init__(self, draw, first: int) -> None:
        self.draw, self.first = draw, first

    def __iter__(self) -> Iterator[object]:
        info = get_worker_info()
        step, offset = (info.num_workers, info.id) if info else (1, 0)
        torch.set_num_threads(1)
        seed = self.first + offset
        while True:
            yield self.draw(seed % HELD_OUT)
            seed += step


def batches(draw, batch: int | None, first_seed: int, workers: int = 1) -> Iterator[object]:
    """Endless ``draw(seed)`` results (tensors or dicts of tensors), drawn in other processes.

    ``batch`` of them are stacked, or each is a batch by itself where that is None.
    """
    import cv2

    cv2.setNumThreads(1)
    return iter(DataLoader(_Endless(draw, first_seed), batch, num_workers=workers, prefetch_factor=8))


def pixels(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [..., H, W, 3] -> float32 [..., 3, H, W] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, -3))).float() / 127.5 - 1
