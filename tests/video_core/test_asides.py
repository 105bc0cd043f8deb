"""Files that are whole or not there, whatever an earlier attempt left."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from xdyna_unianimate.video_core import asides
from xdyna_unianimate.video_core.asides import LEFT_AFTER, claimed, fcntl, give_name, sweep, written_aside


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "a [1].safetensors"
    file.write_bytes(b"earlier")
    return file


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def test_a_file_takes_its_place_when_it_is_whole(path):
    with written_aside(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"earlier"
    assert path.read_bytes() == b"new" and names(path) == [path.name]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(path, error):
    with pytest.raises(error), written_aside(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"earlier" and names(path) == [path.name]


def test_errors_of_the_system_name_the_file_that_was_asked_for(path, monkeypatch):
    with pytest.raises(OSError) as full, written_aside(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(path)
    monkeypatch.setattr(Path, "open", lambda file, _: os.open(file, os.O_RDONLY))
    with pytest.raises(FileNotFoundError) as missing, written_aside(path):
        pass
    assert missing.value.filename == str(path)


def test_a_disk_that_lets_nothing_be_deleted_does_not_hide_what_is_wrong(path, monkeypatch):
    def read_only(file: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(file))

    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(OSError) as full, written_aside(path) as file:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, str(path))
    monkeypatch.setattr(Path, "replace", read_only)
    with pytest.raises(OSError) as refused, written_aside(path):
        pass
    assert (refused.value.errno, refused.value.filename) == (errno.EROFS, str(path))


def test_missing_folders_are_made(path):
    inner = path.parent / "new" / "deep" / "b.json"
    with written_aside(inner) as file:
        file.write(b"{}")
    assert inner.read_bytes() == b"{}"


def test_what_a_killed_process_left_is_deleted(path):
    left = path.with_name(f"{path.name}.0123abcd.partial")
    other = path.with_name("b.safetensors.0123abcd.partial")
    for file in (left, other):
        file.write_bytes(b"half")
        long_ago(file)
    with written_aside(path) as file:
        file.write(b"new")
    assert names(path) == [path.name, other.name]


def test_what_is_still_being_written_is_left_alone(path):
    with written_aside(path) as first:
        first.write(b"first")
        with written_aside(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first" and names(path) == [path.name]


HOLDS = """
import sys, time
from pathlib import Path
from xdyna_unianimate.video_core.asides import claimed
with claimed(lambda: Path(sys.argv[1]), folder="folder" in sys.argv):
    print(flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(fcntl is None, reason="this system has no such locks")
@pytest.mark.parametrize("folder", [False, True])
def test_what_another_process_holds_is_left_alone_however_old(tmp_path, folder):
    """A slow decoder adds nothing for minutes. When the process dies its lock goes, and then the file may."""
    left = tmp_path / "a.0123abcd.partial"
    writer = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(left), *["folder"] * folder], stdout=subprocess.PIPE
    )
    try:
        writer.stdout.readline()
        long_ago(left)
        sweep(tmp_path, "a.*")
        assert left.exists()
    finally:
        writer.kill()
        writer.communicate()
    sweep(tmp_path, "a.*")
    assert not left.exists()


def test_without_locks_time_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(asides, "fcntl", None)
    old, young = tmp_path / "a.0.partial", tmp_path / "a.1.partial"
    old.write_bytes(b"half")
    long_ago(old)
    with claimed(lambda: young):
        sweep(tmp_path, "a.*")
    assert list(tmp_path.iterdir()) == [young]


@pytest.mark.skipif(fcntl is None, reason="this system has no such locks")
def test_what_was_swept_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    named = iter([tmp_path / "a.0.partial", tmp_path / "a.1.partial"])
    lock = fcntl.flock

    def late(handle: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        sweep(tmp_path, "a.0*")
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with claimed(lambda: next(named)) as path:
        assert path.name == "a.1.partial" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_came_there_meanwhile_is_not_replaced(path):
    path.unlink()
    with pytest.raises(FileExistsError, match="safetensors"), written_aside(path, overwrite=False) as file:
        file.write(b"mine")
        path.write_bytes(b"another's")
    assert path.read_bytes() == b"another's" and names(path) == [path.name]


@pytest.mark.parametrize("there", ["file", "folder", "full folder"])
@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("looked", [True, False])
def test_a_name_that_is_taken_is_not_given(tmp_path, monkeypatch, there, folder, looked):
    """Not even where the other one came between the look and the renaming."""
    partial, path = tmp_path / "partial", tmp_path / "a"
    if folder:
        partial.mkdir()
        (partial / "0.png").touch()
    else:
        partial.write_bytes(b"mine")
    path.write_bytes(b"another's") if there == "file" else path.mkdir()
    if there == "full folder":
        (path / "1.png").touch()
    if not looked:
        monkeypatch.setattr(os.path, "lexists", lambda _: False)
    if not looked and folder and there == "folder":
        give_name(partial, path, overwrite=False)  # POSIX: an empty folder holds nothing to lose
        assert (path / "0.png").exists()
        return
    with pytest.raises(FileExistsError):
        give_name(partial, path, overwrite=False)
    assert partial.exists() and path.is_dir() == (there != "file")


def test_a_file_system_without_second_names(path, monkeypatch):
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    path.unlink()
    with written_aside(path, overwrite=False) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new" and names(path) == [path.name]


def long_ago(file: Path) -> None:
    moment = time.time() - LEFT_AFTER - 1
    os.utime(file, (moment, moment))
