"""What outlives a run: keys that see every change, a cache that never costs a result, a bound."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from xdyna_unianimate.app import state
from xdyna_unianimate.pose_align.pose import PoseSequence


def poses(frames: int = 2) -> PoseSequence:
    rng = np.random.default_rng(frames)
    return PoseSequence(rng.uniform(0, 90, (frames, 134, 2)), np.ones((frames, 134)), (90, 90), 12.0)


def test_the_place_is_named_by_variable_then_host_then_platform(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDUA_CACHE", str(tmp_path))
    assert state.place(tmp_path / "host") == tmp_path
    monkeypatch.delenv("XDUA_CACHE")
    assert state.place(tmp_path / "host") == tmp_path / "host" / "xdyna-unianimate"
    assert state.place().name == "xdyna-unianimate"
    assert not (tmp_path / "host").exists()


PARTS = ({"a": 1}, np.arange(6, dtype=np.float32), b"x", "text", None)


@pytest.mark.parametrize(
    "other",
    [
        ({"a": 2}, *PARTS[1:]),
        (PARTS[0], np.arange(6, dtype=np.float64), *PARTS[2:]),
        (PARTS[0], np.arange(6, dtype=np.float32).reshape(2, 3), *PARTS[2:]),
        (*PARTS[:2], b"y", *PARTS[3:]),
        PARTS[:-1],
        PARTS[::-1],
    ],
)
def test_a_key_changes_with_every_part(other: tuple) -> None:
    assert state.key_of(*PARTS) == state.key_of(*PARTS)
    assert state.key_of(*PARTS) != state.key_of(*other)


def test_content_is_the_bytes_and_a_folders_names(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"2")
    before = state.content_of(folder)
    os.utime(folder / "a", (0, 0))
    assert state.content_of(folder) == before
    (folder / "a").rename(folder / "c")
    assert state.content_of(folder) != before
    assert state.content_of(folder / "c") != state.content_of(folder / "b")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take text alone as names")
def test_content_of_a_folder_with_a_name_that_is_no_text(tmp_path: Path) -> None:
    before = state.content_of(tmp_path)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff0.png")).write_bytes(b"1")
    assert state.content_of(tmp_path) != before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_content_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="a.mp4 is no file"):
        state.content_of(tmp_path / "a.mp4")


@pytest.mark.parametrize("damaged", [False, True])
def test_a_cache_that_is_read_only_stops_nothing(tmp_path: Path, monkeypatch, caplog, damaged: bool) -> None:
    """Found by a review: the time of the last use could not be noted, and the run ended there."""
    cache = state.PoseCache.at(tmp_path)
    cache.store("key", poses())
    file = tmp_path / "poses" / "key.npz"
    if damaged:
        file.write_bytes(b"half")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "utime", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    found = cache.find("key")
    assert (found is None) == damaged == (str(file) in caplog.text)
    assert file.exists()


def test_a_cache_that_cannot_be_read_counts_as_empty(tmp_path: Path, monkeypatch, caplog) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "is_file", denied)
    assert state.PoseCache.at(tmp_path).find("key") is None and "key.npz" in caplog.text


def test_the_cache_gives_back_what_it_was_given(tmp_path: Path) -> None:
    cache = state.PoseCache.at(tmp_path)
    assert cache.find("key") is None
    cache.store("key", poses())
    found = cache.find("key")
    assert np.array_equal(found.points, poses().points)
    assert (found.canvas, found.fps) == ((90, 90), 12.0)
    assert [file.name for file in (tmp_path / "poses").iterdir()] == ["key.npz"]


def test_a_damaged_entry_counts_as_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = state.PoseCache.at(tmp_path)
    cache.store("key", poses())
    (cache.folder / "key.npz").write_bytes(b"PK damaged")
    assert cache.find("key") is None
    assert "extracting them anew" in caplog.text
    assert not (cache.folder / "key.npz").exists()


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog) -> None:
    (tmp_path / "poses").write_text("a file where the folder should be")
    state.PoseCache.at(tmp_path).store("key", poses())
    assert "could not be cached" in caplog.text


def test_the_bound_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert state.bound(tmp_path, limit_bytes=300) == 0
    assert state.bound(tmp_path, limit_bytes=150) == 200
    assert [file.name for file in tmp_path.iterdir()] == ["new"]


def test_finding_counts_as_use(tmp_path: Path) -> None:
    cache = state.PoseCache.at(tmp_path)
    for name in ("first", "second"):
        cache.store(name, poses())
        os.utime(cache.folder / f"{name}.npz", (1000, 1000))
    cache.find("first")
    state.bound(cache.folder, limit_bytes=(cache.folder / "first.npz").stat().st_size)
    assert [file.name for file in cache.folder.iterdir()] == ["first.npz"]
