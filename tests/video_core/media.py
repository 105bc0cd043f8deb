"""Small media for tests: drawn frames, encoded files, mp4 boxes."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction

import numpy as np


def quadrants(width: int = 64, height: int = 48, shift: int = 0) -> np.ndarray:
    """uint8 RGB: red, green over blue, white; ``shift`` darkens, so that frames can be told apart."""
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = slice(None, height // 2), slice(None, width // 2)
    bottom, right = slice(height // 2, None), slice(width // 2, None)
    for rows, columns, colour in (
        (top, left, (255, 0, 0)),
        (top, right, (0, 255, 0)),
        (bottom, left, (0, 0, 255)),
        (bottom, right, (255, 255, 255)),
    ):
        picture[rows, columns] = np.maximum(np.array(colour) - shift, 0)
    return picture


def clip(count: int, width: int = 64, height: int = 48) -> Iterator[np.ndarray]:
    """Frames of which frame i is darker by 8 i."""
    return (quadrants(width, height, 8 * i) for i in range(count))


def number(frame: np.ndarray) -> int:
    """Which frame of ``clip`` this is, by its white quadrant."""
    height, width = frame.shape[:2]
    return round((255 - float(frame[height * 5 // 8 : -4, width * 5 // 8 : -4].mean())) / 8)


def encoded(
    frames,
    container: str = "mp4",
    encoder: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int | Fraction = 12,
    times: list[int] | None = None,
    sound: float = 0.0,
    rotation: int | None = None,
    matrix: int | None = None,
) -> bytes:
    """A video file in memory by plain PyAV. times: of the frames in ms; sound: seconds of a tone.
    matrix: of the colours, FFmpeg's number (written down, not used).
    """
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = None
        for i, frame in enumerate(frames):
            if stream is None:
                stream = output.add_stream(encoder, rate=fps)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = pix_fmt
                if pix_fmt == "gray":
                    stream.codec_context.color_range = 2  # full
                if matrix is not None:
                    stream.codec_context.colorspace = matrix
                if times:
                    stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
                if rotation is not None:
                    stream.set_display_rotation(rotation)
                tone = _tone_stream(output, sound)
            picture = av.VideoFrame.from_ndarray(
                frame, format="rgb24" if frame.dtype == np.uint8 else "rgb48le"
            )
            if times:
                picture.pts, picture.time_base = times[i], Fraction(1, 1000)
            output.mux(stream.encode(picture))
        if stream is None:
            tone = _tone_stream(output, sound)
        else:
            output.mux(stream.encode(None))
        if tone is not None:
            _write_tone(output, tone, sound)
    return buffer.getvalue()


def _tone_stream(output, seconds: float):
    return output.add_stream("aac", rate=44100, layout="stereo") if seconds else None


def _write_tone(output, stream, seconds: float) -> None:
    import av

    wave = np.sin(np.arange(int(44100 * seconds)) / 44100 * 440 * 2 * np.pi).astype(np.float32) / 2
    frame = av.AudioFrame.from_ndarray(np.stack([wave, -wave]), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
    output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def with_matrix(mp4: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """The mp4 with a display matrix (a, b, c, d) in its track header."""
    a, b, c, d = (value << 16 for value in matrix)
    at = mp4.index(b"tkhd") + 4 + 40
    return mp4[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + mp4[at + 36 :]
