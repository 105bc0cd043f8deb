"""Files that are whole or not there, whatever an earlier attempt left."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from xdyna_unianimate.video_core.asides import LEFT_AFTER, written_aside


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


def long_ago(file: Path) -> None:
    moment = time.time() - LEFT_AFTER - 1
    os.utime(file, (moment, moment))
