"""Large files that are whole or not there: written under another name, then renamed.

A killed process leaves what it had written. The next attempt at the same file deletes that, and not what another
process is still writing: a writer holds a lock on its file, which ends with it (Windows deletes no open file).
"""

from __future__ import annotations

import glob
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".partial"


@contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """A file beside ``path``, open for writing, that takes its place when the block ends; an error leaves nothing."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.*{SUFFIX}"):
        _delete_unless_written(left)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{SUFFIX}")
    try:
        with partial.open("xb") as file:
            _lock(file)
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _delete_unless_written(file: Path) -> None:
    # OSError: another process writes it, or was quicker to delete it.
    with suppress(OSError):
        with file.open("rb") as stream:
            _lock(stream)
        file.unlink()


def _lock(file: BinaryIO) -> None:
    """Take the file's lock, which no other process has then; BlockingIOError where one does.

    Nothing where there are no such locks: Windows, some network disks.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        # Without locks nobody knows what is still being written, so nothing counts as left.
        if file.readable():
            raise BlockingIOError(*error.args) from error
