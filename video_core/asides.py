"""Large files that are whole or not there: written under another name, then renamed.

A killed process leaves what it had written. The next attempt at the same file deletes that, and not what another
process is still writing, whose file has grown a moment ago (Windows, besides, deletes no open file).
"""

from __future__ import annotations

import glob
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".partial"

LEFT_AFTER = 60.0
"""Seconds without a byte after which nobody is writing a file any more."""


@contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """A file beside ``path``, open for writing, that takes its place when the block ends; an error leaves nothing.

    Folders that are missing are made. OSError that names no file, as of a full disk, names this one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{glob.escape(path.name)}.*{SUFFIX}"):
        _delete_unless_written(left)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{SUFFIX}")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        # write names no file, and is where a disk is found to be full; open names one that nobody asked for.
        if error.errno is not None and error.filename in (None, str(partial)):
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def _delete_unless_written(file: Path) -> None:
    # OSError: another process writes it (Windows), or was quicker to delete it.
    with suppress(OSError):
        if time.time() - file.stat().st_mtime > LEFT_AFTER:
            file.unlink()
