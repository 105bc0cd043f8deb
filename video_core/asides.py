"""Large files that are whole or not there: written under another name, then renamed.

A killed process leaves what it had written. The next attempt at the same file deletes that, and not what another
process is still writing: where the system has such locks, a file is locked while it is written, and elsewhere
it has grown a moment ago (Windows, besides, deletes no open file). Nobody's finished file is replaced unasked,
not even one that came there in the meantime.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:
    fcntl = None

SUFFIX = ".partial"

LEFT_AFTER = 60.0
"""Seconds without a byte after which nobody is writing a file any more, where there are no locks."""

TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR}
"""What a system says that would have to replace a file or folder."""


@contextmanager
def written_aside(path: Path, overwrite: bool = True) -> Iterator[BinaryIO]:
    """A file beside ``path``, open for writing, that takes its place when the block ends; an error leaves nothing.

    Folders that are missing are made. OSError that names no file, as of a full disk, names this one.
    overwrite: whether a file there may be replaced; FileExistsError where it may not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, f"{glob.escape(path.name)}.*{SUFFIX}")
    with errors_name(path), claimed(lambda: path.with_name(f"{path.name}.{unique()}{SUFFIX}")) as partial:
        try:
            with partial.open("wb") as file:
                yield file
            give_name(partial, path, overwrite)
        finally:
            # A disk that takes nothing any more lets nothing be deleted; what is wrong with it is being said.
            with suppress(OSError):
                partial.unlink(missing_ok=True)


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """OSError that names no file, or one that is written aside for ``path``, names ``path``."""
    try:
        yield
    except OSError as error:
        # write names no file, and is where a disk is found to be full; open names one that nobody asked for.
        named = str(error.filename or "")
        aside = named.startswith(f"{path}.") and named.endswith(SUFFIX)
        if error.errno is not None and (aside or not named):
            error.filename = str(path)
        raise


def unique() -> str:
    """Part of a name that nobody else uses: 8 hex digits."""
    return uuid.uuid4().hex[:8]


def numbered(folder: Path, stem: str, suffix: str) -> Iterator[Path]:
    """``a.mp4``, ``a_2.mp4``, ``a_3.mp4``, ..."""
    yield folder / f"{stem}{suffix}"
    yield from (folder / f"{stem}_{number}{suffix}" for number in count(2))


def at_free_name(folder: Path, stem: str, suffix: str, put: Callable[[Path], None]) -> Path:
    """The first name of ``numbered`` at which ``put`` could put a file: it raises FileExistsError where it may not."""
    for path in numbered(folder, stem, suffix):
        with suppress(FileExistsError):
            put(path)
            break
    return path


def give_name(partial: Path, path: Path, overwrite: bool) -> None:
    """Rename a file or folder; FileExistsError where one of that name is there that may not be replaced."""
    if overwrite:
        partial.replace(path)
        return
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    try:
        # Between that look and this line another process may give its own file the name. POSIX's rename would
        # replace it; neither a second name for a file nor a folder's rename does.
        if partial.is_dir() or os.name == "nt":
            partial.rename(path)
        else:
            _linked(partial, path)
    except OSError as error:
        if error.errno in TAKEN:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        raise


def _linked(partial: Path, path: Path) -> None:
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system that gives a file one name only, such as exFAT
        partial.rename(path)
    else:
        partial.unlink()


# ---- who writes ----------------------------------------------------------------------------------------


@contextmanager
def claimed(name: Callable[[], Path], *, folder: bool = False) -> Iterator[Path]:
    """A new, empty file or folder of a name that ``name`` thinks of. Until the block ends nobody sweeps it away."""
    while True:
        path = name()
        path.mkdir() if folder else path.open("xb").close()
        with _locked(path, wait=True):
            # Between these two lines another process may have taken it for one that nobody writes.
            if path.exists():
                yield path
                return


def sweep(folder: Path, pattern: str) -> None:
    """Delete the files and folders of a name that nobody writes any more."""
    for left in folder.glob(pattern):
        # OSError: another process writes it, or was quicker to delete it.
        with suppress(OSError):
            age = time.time() - left.stat().st_mtime
            with _locked(left, wait=False) as locked:
                if locked or age > LEFT_AFTER:
                    remove(left)


@contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Whether this process alone holds the file or folder's lock in this block; False where there are no locks.

    Raises BlockingIOError where another process holds it and ``wait`` is not set. A process that dies holds none.
    """
    if fcntl is None:
        yield False
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            locked = True
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            locked = False
        yield locked
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
