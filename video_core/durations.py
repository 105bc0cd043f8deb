"""How long the pictures of an animated GIF, PNG or WebP are shown, read from its blocks without decoding a pixel.

Pillow tells the time of a picture when it has decoded all before it. A file of 500 bytes may claim 20 pictures of
130 million pixels, which takes a minute before the first of them is asked for.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

GIF_TABLE = 0x80
"""The flag of a table of colours, whose size its lowest three bits tell."""


def durations(file: BinaryIO) -> list[float] | None:
    """Seconds that each picture is shown, at least one; None for files of other kinds.

    What is damaged further on ends there: this tells what the file claims, and decoding it may find less.
    """
    head = file.read(12)
    for start, kind, found in (
        (b"GIF8", head[:4], _gif),
        (b"\x89PNG", head[:4], _png),
        (b"WEBP", head[8:], _webp),
    ):
        if start == kind:
            file.seek(0)
            return _until_damage(found(file)) or [0.0]
    return None


def _until_damage(times: Iterator[float]) -> list[float]:
    found: list[float] = []
    with suppress(struct.error, IndexError, ValueError, OSError):
        found.extend(times)
    return found


def _gif(file: BinaryIO) -> Iterator[float]:
    """Hundredths of a second stand in an extension before each picture."""
    _skip_table(file, file.read(13)[10])
    shown = 0.0
    while (kind := file.read(1)) not in (b"", b";"):
        if kind == b"!":
            label, size = file.read(2)
            block = file.read(size)
            if label == 0xF9:
                shown = struct.unpack_from("<H", block, 1)[0] / 100
            if size:
                _skip_blocks(file)
        elif kind == b",":
            yield shown
            shown = 0.0
            _skip_table(file, file.read(9)[8])
            file.seek(1, os.SEEK_CUR)
            _skip_blocks(file)


def _skip_table(file: BinaryIO, flags: int) -> None:
    if flags & GIF_TABLE:
        file.seek(3 << (flags & 7) + 1, os.SEEK_CUR)


def _skip_blocks(file: BinaryIO) -> None:
    while size := file.read(1)[0]:
        file.seek(size, os.SEEK_CUR)


def _png(file: BinaryIO) -> Iterator[float]:
    """A fraction of a second stands in a chunk before each picture; the first one need not be of the animation."""
    file.seek(8)
    animated = seen = False
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT" and not seen:
            seen = True
            if not animated:
                return
            yield 0.0
        if kind in (b"acTL", b"fcTL"):
            content = file.read(min(size, 26))
            size -= len(content)
            if kind == b"acTL":
                animated = animated or struct.unpack_from(">I", content)[0] > 0
            elif animated:
                seen = True
                over, under = struct.unpack_from(">HH", content, 20)
                yield over / (under or 100)
        file.seek(size + 4, os.SEEK_CUR)


def _webp(file: BinaryIO) -> Iterator[float]:
    """Thousandths of a second stand at the head of each picture's chunk."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        read = 0
        if kind == b"ANMF":
            content = file.read(min(size, 16))
            read = len(content)
            yield (struct.unpack_from("<I", content, 12)[0] & 0xFFFFFF) / 1000
        file.seek(size + size % 2 - read, os.SEEK_CUR)
