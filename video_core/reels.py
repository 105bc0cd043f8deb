"""Pictures and sound of long clips: taken up one after the other, read in any order, in little memory.

What is taken up lies in memory to a limit, and from there on in a file without a name, which is gone when its reel is.
``storage`` is for tensors, which are written anew in every step; a reel is written once.
"""

from __future__ import annotations

import logging
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from weakref import finalize

import numpy as np

log = logging.getLogger(__name__)

HELD = 2**24
"""Bytes that a reel holds in memory before it goes on in a file."""

SOUND_BLOCK = 2**14
"""Samples that are read and written at a time."""


class _Blocks:
    """Byte strings by number.

    folder: of the file, made when it is needed; None has no file. A disk that does not take them costs a warning,
    and they lie in memory.
    """

    def __init__(self, folder: Path | None, held: int) -> None:
        self._folder, self._room = folder, held
        self._file: BinaryIO | None = None
        self._full = False
        self._blocks: list[bytes | tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._blocks)

    def append(self, block: bytes) -> None:
        self._room -= len(block)
        kept = self._room >= 0 or self._folder is None or self._full
        self._blocks.append(block if kept else self._written(block))

    def __getitem__(self, number: int) -> bytes:
        block = self._blocks[number]
        if isinstance(block, bytes):
            return block
        start, size = block
        self._file.seek(start)
        found = self._file.read(size)
        if len(found) != size:
            raise OSError(
                f"What a long clip had on the disk in {self._folder} cannot be read again; run it anew."
            )
        return found

    def _written(self, block: bytes) -> bytes | tuple[int, int]:
        try:
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                # Unbuffered: a full disk is told when it is written to, and not when the buffer is emptied.
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
                finalize(self, self._file.close)
            start = self._file.seek(0, 2)
            done = 0
            while done < len(block):
                done += self._file.write(memoryview(block)[done:])
        except OSError as error:
            log.warning(
                "A long clip is held in memory from here on: %s takes no more of it (%s).",
                self._folder,
                error,
            )
            self._full = True
            return block
        return start, len(block)


class PictureReel(Sequence[np.ndarray]):
    """Pictures uint8 [H, W, c] of one size, compressed without loss: skeletons and face maps are mostly black.

    folder, held: see ``_Blocks``; what comes out is a copy of what went in.
    """

    def __init__(self, folder: Path | None = None, held: int = HELD) -> None:
        self._blocks = _Blocks(folder, held)
        self._size: tuple[int, ...] = (0, 0, 3)

    def append(self, picture: np.ndarray) -> None:
        """Take up one more; ValueError where it is not of the others' size, or no bytes."""
        if picture.dtype != np.uint8 or (len(self) and picture.shape != self._size):
            raise ValueError(
                f"Picture {len(self)} is {picture.dtype} {list(picture.shape)}; the pictures of a clip are uint8, "
                f"all of the first one's size {list(self._size)}."
            )
        self._size = picture.shape
        self._blocks.append(zlib.compress(np.ascontiguousarray(picture), 1))

    @property
    def shape(self) -> tuple[int, ...]:
        """[F, H, W, c], as of an array."""
        return len(self), *self._size

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, frame: int) -> np.ndarray:
        pixels = zlib.decompress(self._blocks[range(len(self))[frame]])
        return np.frombuffer(pixels, np.uint8).reshape(self._size).copy()


class SoundReel:
    """Samples float32 [channels, n], of which a stretch is asked for as of an array: ``reel[:, 1000:2000]``."""

    dtype = np.dtype(np.float32)

    def __init__(self, folder: Path | None = None, held: int = HELD) -> None:
        self._blocks = _Blocks(folder, held)
        self._rest = np.zeros((0, 0), np.float32)
        self._lead, self._most = 0, None

    def append(self, samples: np.ndarray) -> None:
        """Take up more, float32 [channels, n]."""
        new = np.concatenate([self._rest, samples], axis=1) if self._rest.size else samples
        while new.shape[1] > SOUND_BLOCK:
            self._blocks.append(np.ascontiguousarray(new[:, :SOUND_BLOCK], self.dtype).tobytes())
            new = new[:, SOUND_BLOCK:]
        self._rest = np.array(new, self.dtype)

    def begin_at(self, offset: int, most: int | None = None) -> None:
        """Silence of so many samples comes first, or so many are left out where negative; ``most`` in all."""
        self._lead, self._most = offset, most

    @property
    def shape(self) -> tuple[int, int]:
        """[channels, n]."""
        length = max(self._taken_up + self._lead, 0)
        return len(self._rest), length if self._most is None else min(length, self._most)

    @property
    def _taken_up(self) -> int:
        return len(self._blocks) * SOUND_BLOCK + self._rest.shape[1]

    def __getitem__(self, key: tuple[int | slice, slice]) -> np.ndarray:
        channels, span = key
        start, stop, _ = span.indices(self.shape[1])
        found = np.zeros((len(self._rest), max(stop - start, 0)), self.dtype)
        # In samples as they were taken up, of which there are none before 0.
        first, end = max(start - self._lead, 0), stop - self._lead
        while first < end:
            number, inside = divmod(first, SOUND_BLOCK)
            part = self._block(number)[:, inside : inside + end - first]
            place = first + self._lead - start
            found[:, place : place + part.shape[1]] = part
            first += part.shape[1]
        return found[channels]

    def _block(self, number: int) -> np.ndarray:
        if number == len(self._blocks):
            return self._rest
        return np.frombuffer(self._blocks[number], self.dtype).reshape(len(self._rest), -1)
