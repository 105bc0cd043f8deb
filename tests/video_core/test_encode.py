"""Writing videos: what can be read back, what is left after interruptions, full disks and wrong requests."""

from __future__ import annotations

import json
import logging
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from xdyna_unianimate.video_core import encode
from xdyna_unianimate.video_core.video import CODECS, Audio, VideoError, open_video, write_video

from .media import clip, number, quadrants

FILES = {name: codec.suffix for name, codec in CODECS.items()} | {"png": ""}
SMALL = {"width": 96, "height": 80}


def tone(seconds: float, channels: int = 1, rate: int = 44100) -> Audio:
    wave = np.sin(np.arange(int(seconds * rate)) / rate * 440 * 2 * np.pi) / 2
    return Audio(np.tile(wave.astype(np.float32), (channels, 1)), rate)


@pytest.mark.parametrize("codec", FILES)
@pytest.mark.parametrize("size", [(96, 80), (97, 81)])
def test_every_codec_reads_back(tmp_path: Path, codec: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"имя é{FILES[codec]}"
    written = write_video(clip(7, *size), path, 10, codec=codec)
    source = open_video(written.path)
    assert written.path == path and written.frames == source.count == 7
    assert written.size == source.size
    if codec not in ("png", "webp"):
        assert source.fps == 10
    frames = list(source.frames())
    assert [number(f) for f in frames] == list(range(7))
    assert np.abs(frames[0][: size[1], : size[0]].astype(int) - quadrants(*size)).mean() < 6
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name], "nothing temporary is left"


def test_odd_sides_are_filled_with_their_last_row_and_column(tmp_path: Path) -> None:
    written = write_video(clip(2, 65, 49), tmp_path / "a.mp4", 10)
    assert written.size == (66, 50)
    frame = next(open_video(written.path).frames()).astype(int)
    assert np.abs(frame[:, 65] - frame[:, 64]).max() < 12 and np.abs(frame[49] - frame[48]).max() < 12
    kept = write_video(clip(2, 65, 49), tmp_path / "b.mp4", 10, pix_fmt="yuv444p")
    assert kept.size == open_video(kept.path).size == (65, 49)


def test_colours_are_tagged_and_right(tmp_path: Path) -> None:
    """Untagged colours are guessed by players, and guessed differently for small and for large pictures."""
    import av

    path = write_video(clip(3, 128, 96), tmp_path / "a.mp4", 10, crf=8).path
    with av.open(str(path)) as file:
        context = file.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (
            1,
            1,
            1,
            1,
        )
    frame = next(open_video(path).frames()).astype(int)
    for (row, column), colour in {
        (20, 20): (255, 0, 0),
        (20, 100): (0, 255, 0),
        (70, 20): (0, 0, 255),
    }.items():
        assert np.abs(frame[row, column] - colour).max() <= 6


@pytest.mark.parametrize("fps", [8, 12.5, 23.976, Fraction(30000, 1001), 60])
def test_frame_rates_are_kept(tmp_path: Path, fps: float) -> None:
    path = write_video(clip(5, **SMALL), tmp_path / "a.mp4", fps).path
    assert open_video(path).fps == Fraction(fps).limit_denominator(1001)


def test_quality_is_a_choice(tmp_path: Path) -> None:
    noise = [np.random.default_rng(i).integers(0, 256, (80, 96, 3), dtype=np.uint8) for i in range(5)]
    sizes = [
        write_video(noise, tmp_path / f"{crf}.mp4", 10, crf=crf).path.stat().st_size for crf in (5, 20, 40)
    ]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 2 * sizes[2]


@pytest.mark.parametrize(("codec", "channels"), [("h264", 1), ("h265", 2), ("vp9", 2), ("h264", 6)])
@pytest.mark.parametrize("rate", [44100, 22050])
def test_sound_is_cut_where_the_frames_end(tmp_path: Path, codec: str, channels: int, rate: int) -> None:
    path = tmp_path / f"a{FILES[codec]}"
    write_video(clip(12, **SMALL), path, 12, codec=codec, audio=tone(3.0, channels, rate))
    audio = open_video(path).audio()
    assert abs(audio.samples.shape[1] / audio.rate - 1.0) < 0.15
    middle = audio.samples[0, audio.rate // 3 : audio.rate // 3 * 2]
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.06)
    # 440 Hz crosses zero 880 times a second.
    assert np.abs(np.diff(np.sign(middle))).astype(bool).sum() == pytest.approx(880 / 3, abs=6)


def test_sound_shorter_than_the_frames_just_ends(tmp_path: Path) -> None:
    path = write_video(clip(12, **SMALL), tmp_path / "a.mp4", 12, audio=tone(0.25)).path
    assert open_video(path).count == 12
    assert open_video(path).audio().samples.shape[1] / 44100 < 0.5


def test_kinds_without_sound_leave_it_out(tmp_path: Path) -> None:
    path = write_video(clip(3, **SMALL), tmp_path / "a.gif", 10, audio=tone(1.0)).path
    assert open_video(path).count == 3


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_metadata_of_any_name_is_kept(tmp_path: Path, name: str) -> None:
    import av

    workflow = json.dumps({"nodes": ["позиция"] * 300})
    path = write_video(
        clip(2, **SMALL), tmp_path / name, 10, metadata={"workflow": workflow, "prompt": "{}"}
    ).path
    with av.open(str(path)) as file:
        stored = {key.lower(): value for key, value in file.metadata.items()}
    assert stored["workflow"] == workflow and stored["prompt"] == "{}"


def test_metadata_of_pngs_is_in_the_first(tmp_path: Path) -> None:
    folder = write_video(clip(2, **SMALL), tmp_path / "a", 10, metadata={"workflow": "{}"}).path
    assert [p.name for p in sorted(folder.iterdir())] == ["00000.png", "00001.png"]
    assert Image.open(folder / "00000.png").text == {"workflow": "{}"}


def test_frames_are_not_held(tmp_path: Path) -> None:
    handed_out: list[weakref.ref] = []
    most = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal most
        for frame in clip(120, **SMALL):
            handed_out.append(weakref.ref(frame))
            yield frame
            most = max(most, sum(reference() is not None for reference in handed_out))

    write_video(frames(), tmp_path / "a.mp4", 10)
    assert len(handed_out) == 120 and most <= 3


# ---- interruptions -------------------------------------------------------------------------------------


def interrupted(error: BaseException, after: int = 5) -> Iterator[np.ndarray]:
    yield from clip(after, **SMALL)
    raise error


@pytest.mark.parametrize("codec", FILES)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("CUDA error"), GeneratorExit()])
def test_finished_frames_survive_an_interruption(
    tmp_path: Path, codec: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"a{FILES[codec]}"
    with caplog.at_level(logging.WARNING), pytest.raises(type(error)):
        write_video(interrupted(error), path, 10, codec=codec)
    assert not path.exists()
    (partial,) = tmp_path.iterdir()
    assert partial.name == f"a.partial{FILES[codec]}" and str(partial) in caplog.text
    assert [number(f) for f in open_video(partial).frames()] == list(range(5))


def test_a_rerun_replaces_what_an_interruption_left(tmp_path: Path) -> None:
    for path in (tmp_path / "a.mp4", tmp_path / "b"):
        with pytest.raises(KeyboardInterrupt):
            write_video(interrupted(KeyboardInterrupt()), path, 10)
        write_video(clip(7, **SMALL), path, 10)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b"]
    assert open_video(tmp_path / "b").count == 7


def test_an_interruption_before_the_first_frame_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_video(interrupted(KeyboardInterrupt(), after=0), tmp_path / "a.mp4", 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a", "holiday.v2"])
def test_clips_of_one_name_at_the_same_time_are_both_kept(tmp_path: Path, name: str) -> None:
    """Two processes used to write into one file, and of two finished clips the later replaced the earlier."""
    codec = None if "." in name and "v2" not in name else "png"
    inner: list[Path] = []

    def outer(count: int) -> Iterator[np.ndarray]:
        yield from clip(count, **SMALL)
        inner.append(write_video(clip(3, **SMALL), tmp_path / name, 10, codec=codec).path)

    second = write_video(outer(5), tmp_path / name, 10, codec=codec).path
    numbered = tmp_path / {"a.mp4": "a_2.mp4", "a.gif": "a_2.gif", "a": "a_2"}.get(name, "holiday.v2_2")
    assert inner == [tmp_path / name] and second == numbered
    assert [len(list(open_video(file).frames())) for file in (*inner, second)] == [3, 5]
    assert set(tmp_path.iterdir()) == {*inner, second}


def test_frames_of_two_attempts_stopped_at_the_same_time_are_both_kept(tmp_path: Path) -> None:
    def outer() -> Iterator[np.ndarray]:
        yield from clip(4, **SMALL)
        with pytest.raises(KeyboardInterrupt):
            write_video(interrupted(KeyboardInterrupt(), after=2), tmp_path / "a.mp4", 10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(outer(), tmp_path / "a.mp4", 10)
    kept = {file.name: open_video(file).count for file in tmp_path.iterdir()}
    assert kept == {"a.partial.mp4": 2, "a.partial_2.mp4": 4}


@pytest.mark.parametrize("name", ["a.mp4", "b"])
def test_fewer_frames_never_replace_more(tmp_path: Path, name: str) -> None:
    for count in (5, 1, 6):
        with pytest.raises(KeyboardInterrupt):
            write_video(interrupted(KeyboardInterrupt(), after=count), tmp_path / name, 10)
    kept = {file.name: open_video(file).count for file in tmp_path.iterdir()}
    assert kept == (
        {"a.partial.mp4": 6, "a.partial_2.mp4": 1} if name == "a.mp4" else {"b.partial": 6, "b.partial_2": 1}
    )


def test_a_file_that_is_no_earlier_attempt_stays(tmp_path: Path) -> None:
    mine = write_video(clip(2, 64, 48), tmp_path / "a.partial.mp4", 10).path
    text = tmp_path / "b.partial.mp4"
    text.write_text("notes")
    before = mine.read_bytes()
    for name in ("a.mp4", "b.mp4"):
        write_video(clip(5, **SMALL), tmp_path / name, 10)
    assert mine.read_bytes() == before and text.read_text() == "notes"


def test_replacing_a_folder_takes_nothing_else_away(tmp_path: Path) -> None:
    other, killed = tmp_path / "w.former" / "mine.txt", tmp_path / "w.0123abcd.former"
    for folder in (other.parent, killed):
        folder.mkdir()
    other.touch()
    for count in (3, 2):
        write_video(clip(count, **SMALL), tmp_path / "w", 10, overwrite=True)
    assert other.exists() and open_video(tmp_path / "w").count == 2
    assert {file.name for file in tmp_path.iterdir()} == {"w", "w.former"}


def test_a_full_disk_leaves_the_frames_of_an_earlier_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_video(interrupted(KeyboardInterrupt()), tmp_path / "a.mp4", 10)
    monkeypatch.setattr(encode, "_Unbuffered", lambda raw: FullDisk(raw, 100))
    with pytest.raises(VideoError, match="the disk is full"):
        write_video(clip(9, **SMALL), tmp_path / "a.mp4", 10)
    (kept,) = tmp_path.iterdir()
    assert kept.name == "a.partial.mp4" and open_video(kept).count == 5


@pytest.mark.parametrize("name", ["a.mp4", "a.b"])
def test_what_a_killed_process_left_goes_with_the_next_clip_of_that_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    left, others = (
        encode._Names.of(path, "h264" if name == "a.mp4" else "png", False).aside(),
        tmp_path / "b.mp4",
    )
    left.touch() if name == "a.mp4" else left.mkdir()
    others.touch()
    write_video(clip(3, **SMALL), path, 10, codec=None if name == "a.mp4" else "png")
    assert set(tmp_path.iterdir()) == {path, others}


def test_a_clip_whose_name_is_refused_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by Windows while a player shows the earlier one."""
    replace = Path.replace

    def refused(self: Path, target: Path) -> None:
        if Path(target).name == "a.mp4":
            raise PermissionError(13, "Permission denied")
        replace(self, target)

    (tmp_path / "a.mp4").touch()
    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(VideoError, match=r"cannot be replaced \(.*\); the clip is .*a\.partial\.mp4"):
        write_video(clip(3, **SMALL), tmp_path / "a.mp4", 10, overwrite=True)
    assert open_video(tmp_path / "a.partial.mp4").count == 3


class FullDisk:
    """A file that takes so many bytes."""

    def __init__(self, file, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data) -> int:
        if self._file.tell() + len(data) > self._room:
            raise OSError(28, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name: str):
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 100, 3000, 20_000])
@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif"])
def test_a_full_disk_is_one_sentence_and_harms_nothing_else(
    tmp_path: Path, name: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = [np.random.default_rng(i).integers(0, 256, (80, 96, 3), dtype=np.uint8) for i in range(60)]
    path = write_video(noise[:2], tmp_path / name, 10).path
    before = path.read_bytes()
    real = Path.open

    def opened(self: Path, mode: str = "r", *args, **kwargs):
        file = real(self, mode, *args, **kwargs)
        return FullDisk(file, room) if "w" in mode else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(VideoError, match="the disk is full") as caught:
            write_video(noise, path, 10, overwrite=True)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [name] and path.read_bytes() == before


def test_a_full_disk_among_pngs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves = []

    def save(self, *args, **kwargs) -> None:
        saves.append(self)
        if len(saves) > 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(VideoError, match=r"the disk is full \(after 3 frames\)"):
        write_video(clip(9, **SMALL), tmp_path / "a", 10)


# ---- requests that cannot be met -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("a.avi", {}, "no way to write a file named a.avi"),
        ("a.mp4", {"codec": "mpeg1"}, "no way to write 'mpeg1'"),
        ("a.webm", {"codec": "h264"}, "should end in '.mp4'"),
        ("a.mp4", {"codec": "png"}, "should end in no file's suffix"),
        ("a.PNG", {"codec": "png"}, "should end in no file's suffix"),
        ("a.mp4", {"fps": 0}, "frames per second"),
        ("a.mp4", {"fps": -3}, "frames per second"),
        ("a.mp4", {"fps": 1e9}, "frames per second"),
        ("a.mp4", {"pix_fmt": "nonsense"}, "cannot be written"),
        ("a.mp4", {"crf": 10_000}, "between 0 and 51"),
        ("a.mp4", {"crf": -1}, "between 0 and 51"),
    ],
)
def test_wrong_requests(tmp_path: Path, name: str, options: dict, reason: str) -> None:
    options = {"fps": 10} | options
    with pytest.raises(VideoError, match=reason):
        write_video(clip(3, **SMALL), tmp_path / name, options.pop("fps"), **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((80, 97, 3), np.uint8),
        np.zeros((80, 96, 4), np.uint8),
        np.zeros((80, 96), np.uint8),
        np.zeros((80, 96, 3), np.float32),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_wrong_frames(tmp_path: Path, wrong: np.ndarray, first: bool) -> None:
    frames = [wrong, *clip(2, **SMALL)] if first else [*clip(2, **SMALL), wrong]
    with pytest.raises(VideoError, match="Frame [012] is"):
        write_video(frames, tmp_path / "a.mp4", 10)
    assert not (tmp_path / "a.mp4").exists()


def test_no_frames(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no frames to write"):
        write_video([], tmp_path / "a.mp4", 10)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = write_video(clip(2, **SMALL), tmp_path / "a.mp4", 10).path
    with pytest.raises(VideoError, match="exists already"):
        write_video(clip(3, **SMALL), path, 10)
    assert open_video(path).count == 2
    write_video(clip(3, **SMALL), path, 10, overwrite=True)
    assert open_video(path).count == 3


def test_a_missing_encoder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = encode.Codec(".mp4", "mp4", ("libnothing", "libnever"), "yuv420p")
    monkeypatch.setitem(encode.CODECS, "h264", codec)
    with pytest.raises(VideoError, match="no encoder libnothing or libnever"):
        write_video(clip(2, **SMALL), tmp_path / "a.mp4", 10)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(VideoError, match="cannot be written"):
        write_video(clip(2, **SMALL), tmp_path / "file" / "a.mp4", 10)
    nested = write_video(clip(2, **SMALL), tmp_path / "new" / "folder" / "a.mp4", 10)
    assert nested.path.is_file()
