"""Where tensors of whole clips lie: in memory, or on disk, so that a long clip needs no more memory than a short one.

A tensor on disk is a tensor like any other to torch: its file is mapped into memory, and the system fetches and
writes back what is touched. Work on it goes a stretch of frames at a time, and after each the memory is given back.
The file has no name that another program could find, and is gone when the tensor is.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

LONG_CLIP = 512
"""Frames from which on a clip's tensors are better kept on disk: in memory there are about ten of them, of 100 kB
a frame each at 512 x 768."""

STRETCH = 64
"""Frames that are worked on at a time where tensors lie on disk."""

FILLING = bytes(2**20)

log = logging.getLogger(__name__)


class Storage(Protocol):
    """Makes tensors of clips, [b, c, F, h, w] or any other shape with the frames in the third place."""

    def zeros(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor of zeros on the CPU."""
        ...

    def stretches(self, frames: int) -> list[slice]:
        """Frames that are best worked on together, one after the other; all of them once."""
        ...

    def tidy(self) -> None:
        """Give back the memory that was needed to touch the tensors; they keep their values."""
        ...


class InMemory:
    """Tensors as torch makes them, worked on as a whole."""

    def zeros(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """See ``Storage``."""
        return torch.zeros(tuple(shape), dtype=dtype)

    def stretches(self, frames: int) -> list[slice]:
        """See ``Storage``."""
        return [slice(0, frames)]

    def tidy(self) -> None:
        """Nothing is given back before the tensor is gone."""


IN_MEMORY = InMemory()


@dataclass
class OnDisk:
    """Tensors in files without names in a folder, which is made when it is first needed.

    A disk that does not take a tensor costs a warning, once, and that tensor lies in memory.
    """

    folder: Path
    stretch: int = STRETCH
    _maps: WeakSet[mmap.mmap] = field(default_factory=WeakSet, repr=False)
    _told: bool = field(default=False, repr=False)

    def zeros(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """See ``Storage``."""
        size = math.prod(shape) * dtype.itemsize
        if not size:
            return torch.zeros(tuple(shape), dtype=dtype)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                _fill(file, size)
                mapped = mmap.mmap(file.fileno(), size)
        except OSError as error:
            if not self._told:
                log.warning(
                    "A clip's tensor of %.1f MB could not be put into %s (%s) and is held in memory, as are "
                    "others that do not fit there.",
                    size / 1e6,
                    self.folder,
                    error.strerror or error,
                )
                self._told = True
            return torch.zeros(tuple(shape), dtype=dtype)
        self._maps.add(mapped)
        return torch.from_numpy(np.frombuffer(mapped, np.uint8)).view(dtype).reshape(tuple(shape))

    def stretches(self, frames: int) -> list[slice]:
        """See ``Storage``."""
        return [slice(first, min(first + self.stretch, frames)) for first in range(0, frames, self.stretch)]

    def tidy(self) -> None:
        """See ``Storage``; systems other than Linux take it back when they need it."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in list(self._maps):
                mapped.madvise(mmap.MADV_DONTNEED)


def _fill(file: BinaryIO, size: int) -> None:
    """Make a file so long, with its place on the disk: a page without one would end the program when written."""
    reserve = getattr(os, "posix_fallocate", None)
    if reserve is not None:
        reserve(file.fileno(), 0, size)
        return
    while size:
        size -= file.write(FILLING[:size])
    file.flush()


def array_in(storage: Storage, array: np.ndarray) -> np.ndarray:
    """A copy of an array of numbers that lies in the storage."""
    copied = storage.zeros((array.nbytes,), torch.uint8).numpy().view(array.dtype).reshape(array.shape)
    copied[...] = array
    storage.tidy()
    return copied


def by_frames(make: Callable[..., Tensor], *clips: Tensor, storage: Storage) -> Tensor:
    """``make(*clips)`` [b, c, F, ...], where each frame of it depends on that frame of the clips alone.

    clips: [b, c, F, ...], or with one frame for all.
    """
    frames = max(clip.shape[2] for clip in clips)
    stretches = storage.stretches(frames)
    if len(stretches) == 1:
        return make(*clips)
    whole: Tensor | None = None
    for stretch in stretches:
        part = make(*(clip if clip.shape[2] == 1 else clip[:, :, stretch] for clip in clips))
        if whole is None:
            whole = storage.zeros((*part.shape[:2], frames, *part.shape[3:]), part.dtype)
        whole[:, :, stretch] = part
        storage.tidy()
    return whole


def all_finite(clip: Tensor, storage: Storage) -> bool:
    """Whether a clip [b, c, F, h, w] holds neither NaN nor infinity."""
    parts = (clip[:, :, part] for part in storage.stretches(clip.shape[2]))
    return all(bool(torch.isfinite(part).all()) for part in tidying(parts, storage))


def tidying(parts: Iterable[Tensor], storage: Storage) -> Iterator[Tensor]:
    """The same; what was touched for each is given back before the next."""
    for part in parts:
        yield part
        storage.tidy()
