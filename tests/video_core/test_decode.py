"""Reading videos, animations, pictures and folders: honest, odd and hostile ones."""

from __future__ import annotations

import errno
import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from xdyna_unianimate.video_core import decode
from xdyna_unianimate.video_core.decode import natural_key, steady, uneven
from xdyna_unianimate.video_core.video import VideoError, open_frames, open_video

from .media import clip, encoded, number, quadrants, with_matrix


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refused(path: Path) -> str:
    """The one sentence with which opening and reading everything fails."""
    with pytest.raises(VideoError) as caught:
        list(open_frames(path))
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and text.endswith("."), text
    return text


def numbers(path: Path, **choice: int) -> list[int]:
    return [number(frame) for frame in open_video(path).frames(**choice)]


# ---- videos --------------------------------------------------------------------------------------------

KINDS = {
    "mp4": ("mp4", "libx264", "yuv420p"),
    "mkv": ("matroska", "libx264", "yuv420p"),
    "webm": ("webm", "libvpx-vp9", "yuv420p"),
    "avi": ("avi", "mpeg4", "yuv420p"),
    "ts": ("mpegts", "libx264", "yuv420p"),
    "10 bit": ("mp4", "libx265", "yuv420p10le"),
    "16 bit": ("matroska", "ffv1", "rgb48le"),
    "alpha": ("webm", "libvpx-vp9", "yuva420p"),
    "lossless alpha": ("matroska", "ffv1", "bgra"),
    "grey": ("mp4", "libx264", "gray"),
    "full range": ("avi", "mjpeg", "yuvj420p"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_video(tmp_path: Path, kind: str) -> None:
    container, encoder, pix_fmt = KINDS[kind]
    path = saved(tmp_path / "видео é", encoded(clip(9), container, encoder, pix_fmt))
    source = open_video(path)
    assert source.size == (64, 48) and source.count == 9
    assert source.fps == 12
    frames = list(source.frames())
    assert all(f.dtype == np.uint8 and f.shape == (48, 64, 3) and f.flags["C_CONTIGUOUS"] for f in frames)
    assert [number(f) for f in frames] == list(range(9))
    if kind != "grey":
        assert np.abs(frames[0][8:16, 8:24].astype(int) - (255, 0, 0)).max() <= 12


def test_frames_are_chosen_by_interval_number_and_start(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.mp4", encoded(clip(12)))
    assert numbers(path, interval=5) == [0, 5, 10]
    assert numbers(path, interval=2, max_frames=3) == [0, 2, 4]
    assert numbers(path, interval=3, start=4, max_frames=9) == [4, 7, 10]
    with pytest.raises(VideoError, match="no frames from frame 12 on"):
        numbers(path, start=12)
    with pytest.raises(ValueError, match="interval 0"):
        numbers(path, interval=0)


def test_a_source_can_be_read_again_and_left_early(tmp_path: Path) -> None:
    source = open_video(saved(tmp_path / "a.mp4", encoded(clip(6))))
    frames = source.frames()
    assert number(next(frames)) == 0
    frames.close()
    assert [number(f) for f in source.frames()] == list(range(6))
    (tmp_path / "a.mp4").unlink()  # nothing holds the file open (this fails on Windows otherwise)


@pytest.mark.parametrize(
    ("start", "duration", "expected"),
    [(0.0, 0.0, range(24)), (0.5, 0.0, range(6, 24)), (0.0, 0.25, range(3)), (1.0, 0.5, range(12, 18))],
)
def test_trimmed_in_seconds(tmp_path: Path, start: float, duration: float, expected: range) -> None:
    content = encoded(clip(24), sound=2.0)
    source = open_video(io.BytesIO(content), start=start, duration=duration)
    assert [number(f) for f in source.frames()] == list(expected)
    assert source.count == len(expected)
    audio = source.audio()
    assert abs(audio.samples.shape[1] / audio.rate - len(expected) / 12) < 0.05
    assert abs(audio.samples[0, 2000:4000]).max() == pytest.approx(0.5, abs=0.05)


def test_trimmed_beyond_the_end_is_one_sentence() -> None:
    with pytest.raises(VideoError, match="no frames after 9 s"):
        open_video(io.BytesIO(encoded(clip(4))), start=9.0)


@pytest.mark.parametrize(
    "part", [(-1.0, 0.0), (0.0, -1.0), (math.nan, 0.0), (0.0, math.nan), (math.inf, 0.0)]
)
def test_a_part_that_is_none(part: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="starts at 0 s or later and lasts"):
        open_video(io.BytesIO(encoded(clip(4))), start=part[0], duration=part[1])


@pytest.mark.parametrize("start", [1e18, 1e308])
def test_a_start_beyond_all_numbers_is_one_sentence(start: float) -> None:
    with pytest.raises(VideoError, match="no frames after"):
        open_video(io.BytesIO(encoded(clip(4))), start=start)


@pytest.mark.parametrize("duration", [1e18, 1e308])
def test_a_duration_beyond_all_numbers_is_to_the_end(duration: float) -> None:
    source = open_video(io.BytesIO(encoded(clip(4), sound=0.3)), duration=duration)
    assert source.count == len(list(source.frames())) == 4
    assert source.audio().samples.shape[1] > 10_000


@pytest.mark.parametrize(
    ("start", "duration", "expected"),
    [(0.28, 0.0, range(7, 20)), (0.0, 0.2, range(5)), (0.4, 0.2, range(10, 15))],
)
def test_a_bare_stream_is_trimmed_by_counting(start: float, duration: float, expected: range) -> None:
    """It has no times and cannot be searched; FFmpeg takes 25 frames per second for it."""
    content = encoded(clip(20), "h264")
    source = open_video(io.BytesIO(content), start=start, duration=duration)
    assert [number(f) for f in source.frames()] == list(expected)
    assert source.count == len(expected)
    with pytest.raises(VideoError, match="no frames after 0.9 s"):
        open_video(io.BytesIO(content), start=0.9)


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((1, 0, 0, 1), lambda p: p),
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
        ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
        ((0, -1, 1, 0), lambda p: np.rot90(p)),
        ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
        ((1, 0, 0, -1), lambda p: p[::-1]),
        ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda p: np.rot90(p.swapaxes(0, 1), 2)),
    ],
)
def test_turned_upright(
    matrix: tuple[int, int, int, int], turned: Callable[[np.ndarray], np.ndarray]
) -> None:
    source = open_video(io.BytesIO(with_matrix(encoded(clip(2)), matrix)))
    expected = turned(quadrants())
    assert source.size == (expected.shape[1], expected.shape[0])
    frame = next(source.frames())
    assert frame.shape == expected.shape and np.abs(frame.astype(int) - expected).mean() < 8


def test_rotation_written_by_ffmpeg_itself() -> None:
    """A telephone held upright: to be shown turned by 90 degrees."""
    content = encoded(clip(2), rotation=90)
    frame = next(open_frames(io.BytesIO(content)))
    assert frame.shape == (64, 48, 3)
    assert np.abs(frame.astype(int) - np.rot90(quadrants())).mean() < 8


def test_variable_frame_rate_is_spread_evenly() -> None:
    times = [0, 100, 200, 600, 700, 710, 800]
    source = open_video(io.BytesIO(encoded(clip(7), "matroska", times=times, fps=10)))
    assert source.fps == 10
    found = [number(f) for f in source.frames()]
    # Frame 2 stays for 0.4 s; frames 4 and 5 share a slot, the later is shown.
    assert found == [0, 1, 2, 2, 2, 2, 3, 5, 6]
    assert source.count == len(found)


def test_sound_begins_with_the_first_frame() -> None:
    audio = open_video(io.BytesIO(encoded(clip(12), sound=1.0))).audio()
    assert audio.rate == 44100 and audio.samples.dtype == np.float32 and audio.samples.shape[0] == 2
    assert abs(audio.samples.shape[1] - 44100) < 3000
    assert open_video(io.BytesIO(encoded(clip(3)))).audio() is None


def recording(rate: int, layout: str, seconds: float = 0.5) -> bytes:
    """An mpegts with 12 frames a second and an mp2 tone of that form."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as output:
        pictures = output.add_stream("mpeg2video", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        tone = output.add_stream("mp2", rate=rate, layout=layout)
        for frame in clip(12):
            output.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(pictures.encode(None))
        wave = np.sin(np.arange(int(rate * seconds)) / rate * 440 * 2 * np.pi) * 2**14
        samples = np.repeat(wave.astype(np.int16), 1 if layout == "mono" else 2)[None]
        sound = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        sound.sample_rate, sound.pts, sound.time_base = rate, 0, Fraction(1, rate)
        output.mux(tone.encode(sound))
        output.mux(tone.encode(None))
    return buffer.getvalue()


def test_sound_that_changes_its_form_comes_in_one() -> None:
    """Two recordings that were joined as they are."""
    content = recording(44100, "mono") + recording(32000, "stereo")
    audio = open_video(io.BytesIO(content)).audio()
    assert (audio.rate, audio.samples.shape[0]) in {(44100, 1), (32000, 2)}
    assert abs(audio.samples.shape[1] / audio.rate - 1) < 0.1
    assert abs(audio.samples[0, -9000:-4000]).max() == pytest.approx(0.5, abs=0.1)


def test_sound_of_an_unknown_kind_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    content = (
        encoded(clip(3), sound=0.5).replace(b"mp4a", b"zzzz").replace(b"\x40\x15\0\0\0", b"\xfe\x15\0\0\0")
    )
    source = open_video(io.BytesIO(content))
    assert len(list(source.frames())) == 3
    assert source.audio() is None and "cannot decode" in caplog.text


def test_even_times_pass_unchanged() -> None:
    assert list(steady(((i / 30, i) for i in range(50)), 30)) == list(range(50))
    jitter = [(i / 30 + (0.2 / 30) * (-1) ** i, i) for i in range(50)]
    assert list(steady(jitter, 30)) == list(range(50))
    assert list(steady([], 30)) == []
    assert list(steady([(0, "a"), (100.0, "b")], 10)) == ["a", "b"], "a jump is a cut, not a thousand copies"


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 1, 2, 3], False),
        ([0, 1, 2, 4], True),
        ([0.0, 0.033, 0.067, 0.1], False),
        ([], False),
        ([0], False),
    ],
)
def test_uneven(times: list[float], expected: bool) -> None:
    assert uneven(times) is expected


# ---- pictures, animations, folders ---------------------------------------------------------------------


def picture_file(path: Path, picture: np.ndarray | Image.Image, **options) -> Path:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
def test_a_picture_is_a_clip_of_one_frame(tmp_path: Path, suffix: str) -> None:
    source = open_video(picture_file(tmp_path / f"a{suffix}", quadrants()))
    (frame,) = source.frames()
    assert source.count == 1 and source.fps is None and source.size == (64, 48)
    assert np.abs(frame.astype(int) - quadrants()).mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_pictures_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = picture_file(tmp_path / "a.jpg", quadrants(), exif=exif, quality=95)
    (frame,) = open_frames(path)
    assert frame.shape == ((64, 48, 3) if orientation > 4 else (48, 64, 3))
    corner = frame[4:20, 4:20].mean((0, 1))
    first = {1: "red", 2: "green", 3: "white", 4: "blue", 5: "red", 6: "blue", 7: "white", 8: "green"}[
        orientation
    ]
    colours = {"red": (255, 0, 0), "green": (0, 255, 0), "white": (255, 255, 255), "blue": (0, 0, 255)}
    assert np.abs(corner - colours[first]).max() < 30


@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".gif", {}), (".webp", {"lossless": True}), (".png", {})],
)
def test_animations(tmp_path: Path, suffix: str, options: dict) -> None:
    frames = [Image.fromarray(f) for f in clip(6)]
    path = picture_file(
        tmp_path / f"a{suffix}", frames[0], save_all=True, append_images=frames[1:], duration=100, **options
    )
    source = open_video(path)
    assert source.fps == 10 and source.count == 6
    assert numbers(path) == list(range(6))
    assert numbers(path, interval=2, start=1) == [1, 3, 5]


def test_uneven_animations_are_spread_evenly(tmp_path: Path) -> None:
    frames = [Image.fromarray(f) for f in clip(4)]
    path = picture_file(
        tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:], duration=[100, 100, 300, 100]
    )
    source = open_video(path)
    found = numbers(path)
    assert found == [0, 1, 2, 2, 2, 3] and source.count == len(found)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("GIF", {}), ("WEBP", {}), ("PNG", {}), ("PNG", {"default_image": True}), ("TIFF", {}), ("AVIF", {})],
)
@pytest.mark.parametrize("times", [80, [100, 40, 300, 0, 70]])
def test_times_of_an_animation_are_those_that_decoding_finds(
    kind: str, options: dict, times: int | list
) -> None:
    if kind not in Image.SAVE_ALL:
        pytest.skip(f"this Pillow writes no {kind} with several frames")
    frames, buffer = [Image.fromarray(f) for f in clip(5)], io.BytesIO()
    if kind == "AVIF" and times != 80:
        times = [max(time, 10) for time in times]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=times, **options)
    source = open_video(io.BytesIO(buffer.getvalue()))
    assert source._shown() == pytest.approx([shown for _, shown, _ in source._timed()])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_opening_an_animation_decodes_its_first_frame_alone(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """480 bytes can claim 20 frames of 130 million pixels, of which each takes 3 s."""
    decoded, upright = [], decode.upright
    monkeypatch.setattr(decode, "upright", lambda *args: decoded.append(args) or upright(*args))
    frames, buffer = [Image.fromarray(f) for f in clip(5)], io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=40)
    assert open_video(io.BytesIO(buffer.getvalue())).count == 5
    assert len(decoded) == 1


def test_an_animation_that_would_be_decoded_for_minutes_is_one_sentence(tmp_path: Path, monkeypatch) -> None:
    if "AVIF" not in Image.SAVE_ALL:
        pytest.skip("this Pillow writes no animated AVIF")
    monkeypatch.setattr(decode, "LOOKED_THROUGH", 5 * 64 * 48 - 1)
    frames = [Image.fromarray(f) for f in clip(5)]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:], duration=40)
    assert "claims 5 pictures of 64x48" in refused(tmp_path / "a.avif")


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_picture_modes(tmp_path: Path, mode: str) -> None:
    grey = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(grey).convert(mode if mode != "CMYK" else "RGB").convert(mode)
    path = picture_file(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), image)
    (frame,) = open_frames(path)
    assert frame.shape == (48, 64, 3) and frame.dtype == np.uint8
    assert abs(int(frame[0, 0, 0])) <= 2 and int(frame[0, -1, 0]) >= 250
    if mode != "1":
        assert abs(int(frame[0, 32, 1]) - int(grey[0, 32])) <= 2


def test_folders_are_sorted_as_people_count(tmp_path: Path) -> None:
    for i, frame in enumerate(clip(12)):
        picture_file(tmp_path / f"frame{i}.png", frame)
    picture_file(tmp_path / "ref_pose.jpg", quadrants(10, 10))
    (tmp_path / "notes.txt").write_text("not a frame")
    assert [number(f) for f in open_video(tmp_path, skip=("ref_pose.jpg",)).frames()] == list(range(12))


def test_folders_that_are_no_clips(tmp_path: Path) -> None:
    assert "without pictures" in refused(tmp_path)
    picture_file(tmp_path / "a.png", quadrants())
    picture_file(tmp_path / "b.png", quadrants(10, 10))
    assert "b.png is 10x10" in refused(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert "a.png" in refused(tmp_path)


def test_digits_that_are_no_numbers_are_letters() -> None:
    """A raised 2 is a digit to Python, and no number."""
    assert sorted(["2.png", "1²3.png", "①.png"], key=natural_key) == ["1²3.png", "2.png", "①.png"]


def test_natural_order() -> None:
    names = ["10.png", "a2.png", "9.png", "A10.png", "09.png", "_1.png", "a2b3.png"]
    assert sorted(names, key=natural_key) == [
        "9.png",
        "09.png",
        "10.png",
        "_1.png",
        "a2.png",
        "a2b3.png",
        "A10.png",
    ]


# ---- hostile and broken --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"hello, this is a text " * 20, "cannot be read"),
        (b"\0" * 5000, "cannot be read"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", "playlist"),
        (b"\xef\xbb\xbf#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "playlist"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "playlist"),
        (b'<?xml version="1.0"?><MPD></MPD>', "playlist"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read"),
        (b"\x89PNG\r\n\x1a\nbroken", "cannot be read as a picture"),
        (b"GIF89a", "cannot be read as a picture"),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
def test_what_is_no_video(tmp_path: Path, content: bytes, reason: str, name: str) -> None:
    assert reason in refused(saved(tmp_path / name, content))


@pytest.mark.parametrize("name", ["a.mp4", "nothing/a.mp4"])
def test_missing_files(tmp_path: Path, name: str) -> None:
    assert "No such file" in refused(tmp_path / name)


def test_sound_without_pictures(tmp_path: Path) -> None:
    assert "only sound" in refused(saved(tmp_path / "a.mp4", encoded([], sound=0.5)))


def test_playlists_reach_no_other_file_even_past_the_first_look(tmp_path: Path) -> None:
    """The allowed containers hold back what the look at the first bytes lets through."""
    victim = saved(tmp_path / "victim.mp4", encoded(clip(2)))
    content = b"\n" * 100 + b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n" + str(victim).encode()
    refused(saved(tmp_path / "a.mp4", content))


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "content",
    [
        png(100_000, 100_000),
        png(2**31 - 1, 2**31 - 1),
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
        b"BM" + struct.pack("<IHHIIiiHHI", 60, 0, 0, 54, 40, 100_000, 100_000, 1, 24, 0) + b"\0" * 40,
    ],
)
def test_headers_that_claim_giant_pictures(tmp_path: Path, content: bytes) -> None:
    text = refused(saved(tmp_path / "a.png", content))
    assert "not a usable size" in text or "cannot be read as a picture" in text


def animation() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(f) for f in clip(5)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=80)
    return buffer.getvalue()


def still(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(quadrants()).save(buffer, kind)
    return buffer.getvalue()


HONEST = {
    "mp4": encoded(clip(6), sound=0.5),
    "mkv": encoded(clip(6), "matroska"),
    "webm": encoded(clip(6), "webm", "libvpx-vp9"),
    "gif": animation(),
    "png": still("PNG"),
    "jpg": still("JPEG"),
    "webp": still("WEBP"),
}


def read_or_refuse(path: Path) -> None:
    try:
        source = open_video(path)
        frames = list(source.frames())
        source.audio()
    except VideoError as error:
        assert str(path) in str(error) and "\n" not in str(error) and str(error).endswith(".")
    else:
        assert frames and all(f.shape == (source.size[1], source.size[0], 3) for f in frames)


@pytest.mark.parametrize("kind", HONEST)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncated_anywhere(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    whole = HONEST[kind]
    path = tmp_path / f"a.{kind}"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    read_or_refuse(path)


@pytest.mark.parametrize("kind", HONEST)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    whole = bytearray(HONEST[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"a.{kind}"
    path.write_bytes(whole)
    read_or_refuse(path)


def test_damage_in_the_middle_keeps_what_came_before(tmp_path: Path) -> None:
    content = encoded(clip(30), "matroska")
    source = open_video(saved(tmp_path / "a.mkv", content[: len(content) * 2 // 3]))
    found = [number(f) for f in source.frames()]
    assert 5 < len(found) < 30 and found[:6] == list(range(6))


@pytest.mark.parametrize("matrix", [8, 10, 11, 14])
def test_colours_that_ffmpeg_cannot_compute_are_guessed(matrix: int) -> None:
    source = open_video(io.BytesIO(encoded(clip(3), "matroska", "ffv1", matrix=matrix)))
    assert [number(f) for f in source.frames()] == [0, 1, 2]


def test_frames_whose_time_was_lost_follow_each_other() -> None:
    """Found by damaging files at random: times that are uneven, and some missing."""
    source = open_video(io.BytesIO(encoded(clip(6), "matroska", times=[0, 100, 200, 500, 600, 700], fps=10)))
    decoded = source._decoded

    def some_lost():
        for index, frame in enumerate(decoded()):
            if index in (1, 4):
                frame.pts = None
            yield frame

    source._decoded = some_lost
    assert [number(f) for f in source.frames()] == [0, 1, 2, 2, 2, 3, 4, 5]


def test_odd_sizes_are_read_as_they_are() -> None:
    source = open_video(io.BytesIO(encoded(clip(2, 65, 49), "matroska", "ffv1", "bgra")))
    assert source.size == (65, 49) and next(source.frames()).shape == (49, 65, 3)


def test_fractional_rates_are_exact() -> None:
    assert open_video(io.BytesIO(encoded(clip(5), fps=Fraction(24000, 1001)))).fps == Fraction(24000, 1001)


class Failing(io.BytesIO):
    """A file on a disk that fails after so many bytes."""

    def __init__(self, content: bytes, good: int) -> None:
        super().__init__(content)
        self.good = good

    def read(self, size: int = -1) -> bytes:
        if self.tell() + max(size, 0) > self.good:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


@pytest.mark.parametrize("kind", [*HONEST, "h264"])
@pytest.mark.parametrize("good", [0, 100, 1500])
def test_a_disk_that_fails_while_it_is_read_names_the_file(kind: str, good: int) -> None:
    content = HONEST[kind] if kind in HONEST else encoded(clip(6), "h264")
    try:
        source = decode._opened("the/file", lambda: Failing(content, good), 0, 0)
        list(source.frames())
        source.audio()
    except VideoError as error:
        assert "the/file" in str(error) and str(error).endswith("."), error
    else:
        assert good


def test_a_large_picture_that_is_taken_warns_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow does, from 89 million pixels on."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for content in (still("PNG"), still("TIFF"), animation()):
            assert len(list(open_video(io.BytesIO(content)).frames())) in (1, 5)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    assert "no file that can be read" in refused(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a" * 300 + ".mp4", "a\0b.mp4"])
def test_names_that_no_system_takes_are_one_sentence(tmp_path: Path, name: str) -> None:
    assert "cannot be opened" in refused(tmp_path / name)
