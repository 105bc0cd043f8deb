"""Pictures and sound of long clips: what comes out is what went in, wherever it lay."""

from __future__ import annotations

import errno
import gc
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from xdyna_unianimate.video_core import reels
from xdyna_unianimate.video_core.decode import Audio, open_video
from xdyna_unianimate.video_core.encode import write_video
from xdyna_unianimate.video_core.reels import SOUND_BLOCK, PictureReel, SoundReel

from . import media

HELD = (0, 200, reels.HELD)
"""Bytes in memory: none, some of the pictures, all."""


def pictures(count: int = 7) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (count, 5, 4, 3), np.uint8)


def filled(reel, parts):
    for part in parts:
        reel.append(part)
    return reel


def sound(channels: int, length: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (channels, length)).astype(np.float32)


def parts(samples: np.ndarray, longest: int = 3000) -> list[np.ndarray]:
    rng, at, found = np.random.default_rng(2), 0, []
    while at < samples.shape[1]:
        step = int(rng.integers(1, longest))
        found.append(samples[:, at : at + step])
        at += step
    return found


# ---- pictures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", HELD)
def test_pictures_come_out_as_they_went_in(held: int, tmp_path: Path) -> None:
    clip = pictures()
    reel = filled(PictureReel(tmp_path / "clips", held), clip)
    assert reel.shape == clip.shape
    assert np.array_equal(np.stack(reel), clip)
    for frame in (5, 0, 6, -1, 3, 3, -7):
        assert np.array_equal(reel[frame], clip[frame])
    for beyond in (7, -8):
        with pytest.raises(IndexError):
            reel[beyond]


def test_a_picture_that_was_given_may_be_changed() -> None:
    clip = pictures(2)
    reel = filled(PictureReel(), clip)
    reel[0][:] = 0
    assert np.array_equal(reel[0], clip[0])


def test_taking_up_goes_on_after_reading(tmp_path: Path) -> None:
    clip, reel = pictures(), PictureReel(tmp_path, 0)
    for number, picture in enumerate(clip):
        reel.append(picture)
        assert np.array_equal(reel[number // 2], clip[number // 2])
    assert np.array_equal(np.stack(reel), clip)


@pytest.mark.parametrize("wrong", [np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4, 3), np.float32)])
def test_pictures_of_a_clip_have_one_size_and_are_bytes(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"Picture 7 is .* all of the first one's size \[5, 4, 3\]"):
        filled(PictureReel(), pictures()).append(wrong)


def test_nothing_is_written_for_what_memory_holds(tmp_path: Path) -> None:
    filled(PictureReel(tmp_path / "clips"), pictures())
    assert not list(tmp_path.iterdir())


def test_the_file_has_no_name_and_goes_with_the_reel(tmp_path: Path) -> None:
    reel = filled(PictureReel(tmp_path, 0), pictures())
    file = reel._blocks._file
    assert not list(tmp_path.iterdir()) or os.name == "nt"
    assert not file.closed
    del reel
    gc.collect()
    assert file.closed
    assert not list(tmp_path.iterdir())


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Full:
    """A file on a disk that is full after so many bytes."""

    def __init__(self, file, room: int) -> None:
        self._file, self._room = file, room
        self.seek, self.read, self.close = file.seek, file.read, file.close

    def write(self, block: memoryview) -> int:
        if len(block) > self._room:
            full()
        self._room -= len(block)
        return self._file.write(block)


@pytest.mark.parametrize("room", [0, 100, 300])
def test_a_full_disk_costs_a_warning(room: int, tmp_path: Path, monkeypatch, caplog) -> None:
    real = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **how: Full(real(**how), room))
    clip = pictures()
    reel = filled(PictureReel(tmp_path, 0), clip)
    assert np.array_equal(np.stack(reel), clip)
    assert [record.message for record in caplog.records] == [
        f"A long clip is held in memory from here on: {tmp_path} takes no more of it "
        f"({OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))})."
    ]


def test_a_folder_that_cannot_be_made_costs_a_warning(tmp_path: Path, caplog) -> None:
    (tmp_path / "clips").touch()
    clip = pictures()
    assert np.array_equal(np.stack(filled(PictureReel(tmp_path / "clips", 0), clip)), clip)
    assert "held in memory" in caplog.text


def test_a_file_that_was_cut_is_a_sentence(tmp_path: Path) -> None:
    reel = filled(PictureReel(tmp_path, 0), pictures())
    reel._blocks._file.truncate(10)
    with pytest.raises(OSError, match="cannot be read again; run it anew"):
        reel[3]


# ---- sound ---------------------------------------------------------------------------------------------

LONG = 2 * SOUND_BLOCK + 777


@pytest.mark.parametrize("length", [1, SOUND_BLOCK - 1, SOUND_BLOCK, SOUND_BLOCK + 1, LONG])
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_comes_out_as_it_went_in(channels: int, length: int, tmp_path: Path) -> None:
    samples = sound(channels, length)
    reel = filled(SoundReel(tmp_path, 0), parts(samples))
    assert (reel.shape, reel.dtype) == (samples.shape, samples.dtype)
    assert np.array_equal(reel[:, :], samples)
    for start, stop in (
        (0, 1),
        (5, 1029),
        (SOUND_BLOCK - 3, SOUND_BLOCK + 4),
        (length - 2, length + 9),
        (9, 3),
    ):
        assert np.array_equal(reel[:, start:stop], samples[:, start:stop])
    assert np.array_equal(reel[0, 10:20], samples[0, 10:20])


@pytest.mark.parametrize("most", [None, 0, 100, SOUND_BLOCK + 5, 10**6])
@pytest.mark.parametrize("offset", [0, 1, 20_000, -1, -20_000, -LONG - 5])
def test_sound_begins_after_silence_or_later(offset: int, most: int | None, tmp_path: Path) -> None:
    samples = sound(2, LONG)
    moved = samples[:, -offset:] if offset < 0 else np.pad(samples, ((0, 0), (offset, 0)))
    expected = moved[:, :most]
    reel = filled(SoundReel(tmp_path, 0), parts(samples))
    reel.begin_at(offset, most)
    assert reel.shape == expected.shape
    for span in (slice(None), slice(10, 1000), slice(19_990, 20_010), slice(SOUND_BLOCK, SOUND_BLOCK + 30)):
        assert np.array_equal(reel[:, span], expected[:, span])


def test_ages_of_silence_take_no_memory() -> None:
    """A file may claim that its sound begins in a year."""
    reel = filled(SoundReel(), parts(sound(1, 5000)))
    reel.begin_at(10**12)
    assert reel.shape == (1, 10**12 + 5000)
    assert not reel[:, 10**11 : 10**11 + 1024].any()


def test_a_video_s_sound_is_the_same_on_disk(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(media.encoded(media.clip(30), sound=2.0))
    for part in ({}, {"start": 0.5}, {"start": 0.7, "duration": 0.9}):
        source = open_video(file, **part)
        monkeypatch.setattr(SoundReel.__init__, "__defaults__", (None, reels.HELD))
        memory = source.audio()
        monkeypatch.setattr(SoundReel.__init__, "__defaults__", (None, 0))
        disk = source.audio(tmp_path / "clips")
        assert disk.samples._blocks._file is not None or disk.samples.shape[1] <= SOUND_BLOCK
        assert disk.rate == memory.rate
        assert np.array_equal(disk.samples[:, :], memory.samples[:, :])


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_same_sound_is_written(channels: int, tmp_path: Path) -> None:
    """Of an array and of a reel; more than two channels are mixed into one."""
    samples = sound(channels, 50_000)
    given = {"array": samples, "reel": filled(SoundReel(tmp_path / "clips", 0), parts(samples))}
    if channels == 6:
        given["mixed"] = samples.mean(0, keepdims=True)
    heard = []
    for name, kind in given.items():
        file = tmp_path / f"{name}.mp4"
        write_video(pictures(9).repeat(4, 1).repeat(4, 2), file, 8, audio=Audio(kind, 44100))
        heard.append(open_video(file).audio().samples[:, :])
    assert heard[0].shape[0] == (2 if channels == 2 else 1)
    assert all(np.array_equal(heard[0], other) for other in heard[1:])
