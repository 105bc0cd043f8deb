"""Deep features of neighbouring steps: the coarse levels of a U-Net change slowly from one step to the next.

Every n-th step runs the whole network and keeps what enters its finest level on the way up; the steps between
run the finest level alone and take that as it was (DeepCache, Ma et al. 2023). An approximation, for fast modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .storage import IN_MEMORY, Storage

REFERENCE = -1
"""Stands for the reference's slot, which is in front of the frames of every window."""


@dataclass
class DeepFeatures:
    """What the coarse levels made of every frame, by branch of guidance, at the last whole step.

    timesteps: of the run. every: the first of so many steps is whole; 1: all are. frames: of the clip; where they
    are more than a window's, features wait in ``storage`` for the next step, since the device has room for a window,
    not for a clip.
    """

    timesteps: Sequence[int]
    every: int
    frames: int = 0
    storage: Storage = IN_MEMORY
    kept: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    _clips: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"Deep features are made anew every 1, 2, 3 ... steps; {self.every} was given.")
        self._whole = set(self.timesteps[:: self.every])

    def at(self, t: int, branches: Sequence[int], windows: Sequence[Sequence[int]]) -> Deep | None:
        """Those of a call at timestep t, whose rows are the windows of the first branch, of the next ...; None
        where every step is whole.
        """
        if self.every == 1:
            return None
        rows = [(branch, (REFERENCE, *window)) for branch in branches for window in windows]
        known = all((branch, frame) in self.kept for branch, frames in rows for frame in frames)
        return Deep(self, rows, given=known and t not in self._whole)

    def put(self, branch: int, frames: Sequence[int], row: Tensor) -> None:
        """Keep what was made of a window, [c, 1 + f, h, w], under a branch. frames: the reference, and the f frames."""
        if len(frames) > self.frames:
            self.kept.update({(branch, frame): row[:, place] for place, frame in enumerate(frames)})
            return
        if branch not in self._clips:
            shape = 1, row.shape[0], 1 + self.frames, *row.shape[2:]
            self._clips[branch] = self.storage.zeros(shape, row.dtype)[0]
        clip = self._clips[branch]
        clip[:, [frame - REFERENCE for frame in frames]] = row.to(clip.device)
        self.kept.update({(branch, frame): clip[:, frame - REFERENCE] for frame in frames})
        self.storage.tidy()


@dataclass
class Deep:
    """Deep features of one call of a network. given: they are taken from before, the coarse levels do not run."""

    features: DeepFeatures
    rows: Sequence[tuple[int, tuple[int, ...]]]
    given: bool

    def keep(self, x: Tensor) -> None:
        """x: [rows, c, 1 + f, h, w], what the coarse levels made."""
        for row, (branch, frames) in zip(x, self.rows, strict=True):
            self.features.put(branch, frames, row)

    def take(self) -> Tensor:
        """[rows, c, 1 + f, h, w], as they were kept."""
        kept = self.features.kept
        rows = (torch.stack([kept[branch, frame] for frame in frames], 1) for branch, frames in self.rows)
        return torch.stack(list(rows))
