"""Reading frames as a stream: videos by PyAV, pictures and animations by Pillow, folders of pictures.

Files come from strangers. They are read through Python file objects with a list of allowed containers,
so that nothing in them (playlists, concat scripts, external tracks, URLs) opens another file or connection.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from itertools import accumulate, count, islice
from math import inf
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from .durations import durations
from .images import (
    PICTURE_SUFFIXES,
    PIXEL_LIMIT,
    VideoError,
    check_size,
    is_folder,
    number_of_frames,
    one_line,
    opened_file,
    opened_picture,
    read_picture,
    resize,
    upright,
)
from .reels import SoundReel

log = logging.getLogger(__name__)

Item = TypeVar("Item")

CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,ivf,flv,asf,ogg,mxf,nut,dv"
"""FFmpeg's names of the containers that are read: none of them refers to other files by itself."""

PLAYLISTS = (b"#extm3u", b"ffconcat", b"[playlist]", b"<?xml", b"<mpd")
"""How files begin that name other files instead of holding a video (lower case)."""

PICTURE_MAGIC = (b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")
"""How picture files begin; WebP and AVIF say it at byte 8."""

DECODED_FOR_TIMES = ("AVIF",)
"""Pillow's names of animations whose times ``durations`` cannot read; others have pages without times."""

LOOKED_THROUGH = 1 << 30
"""Pixels of such an animation that are decoded to find its times: 20 s."""

MOST_PAGES = 100_000
"""Pages that are believed: a header may claim any number."""

LONGEST_GAP = 5.0
"""Seconds; a longer pause between timestamps is a cut or damage, and is not filled with copies."""


@dataclass(frozen=True)
class Audio:
    """Sound that begins with a clip's first frame. samples: float32 [channels, n] in -1..1; rate: in Hz."""

    samples: np.ndarray | SoundReel
    rate: int


class VideoSource(ABC):
    """A clip that can be read any number of times, always as a stream.

    name:  what errors call it, usually the path.
    size:  (width, height) of the frames in pixels, upright.
    fps:   frames per second, exact where the file is; None for pictures without a time.
    count: number of frames; an estimate where the file does not know it.
    """

    name: str
    size: tuple[int, int]
    fps: Fraction | None
    count: int

    @abstractmethod
    def _pictures(self) -> Iterator[Any]:
        """Every frame in some cheap form, in the order of time, at ``fps``."""

    @abstractmethod
    def _rgb(self, picture: Any) -> np.ndarray:
        """uint8 RGB [H, W, 3] of what ``_pictures`` gives."""

    def frames(
        self, interval: int = 1, max_frames: int | None = None, start: int = 0
    ) -> Iterator[np.ndarray]:
        """Frames start, start + interval, ..., at most ``max_frames``, as uint8 RGB [H, W, 3].

        Raises VideoError, also where nothing is left after ``start``. A clip that is damaged further on
        ends at the damage, with a warning in the log.
        """
        if interval < 1 or start < 0 or (max_frames is not None and max_frames < 1):
            raise ValueError(
                "Interval and number of frames count from 1 up, the start from 0 up; got "
                f"interval {interval}, number {max_frames}, start {start}."
            )
        return self._chosen(interval, max_frames, start)

    def _chosen(self, interval: int, max_frames: int | None, start: int) -> Iterator[np.ndarray]:
        # As far as islice counts.
        start, interval = min(start, sys.maxsize), min(interval, sys.maxsize)
        stop = None if max_frames is None else min(start + interval * (max_frames - 1) + 1, sys.maxsize)
        given = 0
        with closing(self._pictures()) as pictures:
            for picture in islice(pictures, start, stop, interval):
                yield self._rgb(picture)
                given += 1
        if not given:
            raise VideoError(f"{self.name} has no frames from frame {start} on.")

    def audio(self, folder: Path | None = None) -> Audio | None:
        """The sound of the same stretch of time, or None where there is none.

        folder: for a long one, see ``SoundReel``; None holds it in memory.
        """
        return None


def open_video(
    file: str | os.PathLike[str] | BytesIO,
    *,
    start: float = 0.0,
    duration: float = 0.0,
    skip: Collection[str] = (),
) -> VideoSource:
    """A video, a picture (a clip of one frame), an animated GIF / WebP / PNG, or a folder of pictures.

    start, duration: the part of a video that is meant, in seconds; duration 0 is to the end.
    skip: file names in a folder that are no frames.
    The kind is read from the first bytes, not from the name. The first frame is decoded here, so that a file
    that cannot be used is known at once. Raises VideoError with a sentence.
    """
    if isinstance(file, BytesIO):
        content = file.getvalue()
        return _opened("the video", lambda: BytesIO(content), start, duration)
    path = Path(file)
    if is_folder(path):
        return Folder(path, skip)
    return _opened(str(path), lambda: opened_file(path), start, duration)


def open_frames(file: str | os.PathLike[str] | BytesIO) -> Iterator[np.ndarray]:
    """All frames of ``open_video(file)`` as uint8 RGB [H, W, 3]."""
    return open_video(file).frames()


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sorts 2.png before 10.png, without regard to case."""
    parts = re.split(r"(\d+)", name.casefold())
    # isdecimal, as \d in the expression above: to isdigit a raised 2 is one too, and int takes none.
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


def _opened(name: str, opener: Callable[[], BinaryIO], start: float, duration: float) -> VideoSource:
    with opener() as file:
        try:
            head = file.read(64)
        except OSError as error:
            raise VideoError(f"{name} cannot be read: {_reason(error)}.") from error
    if not head:
        raise VideoError(f"{name} is empty; choose another file.")
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(PLAYLISTS):
        raise VideoError(f"{name} is a playlist that names other files; give the video itself.")
    if head.startswith(PICTURE_MAGIC) or head[8:12] in (b"WEBP", b"avif", b"avis"):
        return Pictures(name, opener)
    return Container(name, opener, start, duration)


# ---- timing --------------------------------------------------------------------------------------------


def steady(timed: Iterable[tuple[float, Item]], fps: float) -> Iterator[Item]:
    """Items at uneven times (seconds, the first is the origin) -> one for every 1 / fps.

    Each item stays until the next one's time, rounded to whole frames: late ones are repeated, those that
    share a frame with a later one are left out. Evenly timed items pass unchanged.
    """
    origin = held = None
    slot = 0
    for time, item in timed:
        if origin is None:
            origin = time
        else:
            passed = round((time - origin) * fps) - slot
            if passed / fps > LONGEST_GAP:
                origin += (passed - 1) / fps
                passed = 1
            for _ in range(passed):
                yield held
            slot += max(passed, 0)
        held = item
    if origin is not None:
        yield held


def uneven(times: list[float]) -> bool:
    """Whether steps between sorted times (seconds) differ from their median by more than half of it."""
    steps = np.diff(times)
    steps = steps[steps > 0]
    if len(steps) < 2:
        return False
    median = float(np.median(steps))
    return bool((np.abs(steps - median) > 0.5 * median + 0.002).any())


def _measured_rate(times: list[float]) -> Fraction:
    """Frames per second of sorted times: of their usual step where they are uneven, else of all; or 10."""
    steps = np.diff(times)
    steps = steps[steps > 0]
    if not len(steps):
        return Fraction(10)
    step = float(np.median(steps) if uneven(times) else steps.mean())
    return _rate(Fraction(1 / step).limit_denominator(1001)) or Fraction(10)


def _rate(value: Any) -> Fraction | None:
    """A frame rate that makes sense, or None."""
    return Fraction(value) if value and 0 < value <= 1000 else None


# ---- videos --------------------------------------------------------------------------------------------


class Container(VideoSource):
    """A video file, by PyAV."""

    def __init__(self, name: str, opener: Callable[[], BinaryIO], start: float, duration: float) -> None:
        if not (0 <= start < inf and 0 <= duration < inf):
            raise ValueError(
                f"A clip starts at 0 s or later and lasts 0 s (all) or longer; got {start}, {duration}."
            )
        self.name = name
        self._open, self._start, self._duration = opener, start, duration
        with self._container() as container:
            stream = self._stream(container)
            self._origin = float((stream.start_time or 0) * (stream.time_base or 0))
            self.fps = _rate(stream.average_rate) or _rate(stream.guessed_rate)
            known = self.fps is not None and stream.average_rate == stream.guessed_rate
            count = stream.frames
        self._steady = False
        if not known or not count:
            count = self._scan()
        with closing(self._decoded()) as frames:
            first = next(frames)
        self._coded_size = first.width, first.height
        self._turn = _orientation(first)
        height, width = self._turn(np.empty((first.height, first.width, 0))).shape[:2]
        self.size = width, height
        self.count = self._trimmed_count(max(count, 1))

    def audio(self, folder: Path | None = None) -> Audio | None:
        """See ``VideoSource.audio``."""
        import av

        samples, begins = SoundReel(folder), 0.0
        with self._container() as container:
            if not container.streams.audio:
                return None
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                log.warning("The sound of %s is in a format that this FFmpeg cannot decode", self.name)
                return None
            # As the file's first look tells it: the frames may come to have others.
            rate, mono = stream.codec_context.sample_rate, stream.codec_context.channels == 1
            try:
                for time, part in self._resampled(container, stream, "mono" if mono else "stereo", rate):
                    begins = begins if samples.shape[1] else time
                    samples.append(part)
            except (av.FFmpegError, OSError) as error:
                log.warning("The sound of %s cannot be read: %s", self.name, _reason(error))
                return None
        # It begins with the first frame: earlier sound is left out, later one comes after silence.
        offset = round((begins - self._origin - self._start) * rate)
        most = round(min(self._duration * rate, sys.maxsize))
        samples.begin_at(offset, most if self._duration else None)
        return Audio(samples, rate) if all(samples.shape) else None

    # ---- opening -----------------------------------------------------------------------------------

    @contextmanager
    def _container(self) -> Iterator[Any]:
        import av

        with self._open() as file:
            try:
                options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
                container = av.open(file, options=options, metadata_errors="replace")
            except (av.FFmpegError, OSError) as error:
                raise VideoError(f"{self.name} cannot be read as a video: {_reason(error)}.") from error
            with container:
                yield container

    def _stream(self, container: Any) -> Any:
        """The video stream, cover pictures of sound files left aside; its size is within reason."""
        import av

        cover = av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & cover]
        if not streams:
            what = "only sound" if container.streams.audio else "no video"
            raise VideoError(f"{self.name} holds {what}.")
        context = streams[0].codec_context
        if context is None:
            raise VideoError(f"{self.name} has a video that this FFmpeg cannot decode.")
        check_size((context.width, context.height), self.name)
        return streams[0]

    def _scan(self) -> int:
        """Count frames and look at their times without decoding; uneven ones are spread evenly when read."""
        import av

        times: list[float] = []
        found = 0
        with self._container() as container:
            stream = self._stream(container)
            try:
                for packet in container.demux(stream):
                    stamp = packet.pts if packet.pts is not None else packet.dts
                    found += packet.size > 0
                    if stamp is not None and packet.size:
                        times.append(float(stamp * stream.time_base))
            except (av.FFmpegError, OSError) as error:
                log.warning("%s is damaged: %s", self.name, _reason(error))
        times.sort()
        self._steady = uneven(times)
        if self._steady or self.fps is None:
            self.fps = _measured_rate(times)
        return round((times[-1] - times[0]) * self.fps) + 1 if self._steady else found

    def _trimmed_count(self, count: int) -> int:
        # What is longer than the file is as long as the file, before it is more than numbers can say.
        start, duration = (min(span, count / self.fps) for span in (self._start, self._duration))
        count = max(count - round(start * self.fps), 1)
        return min(count, max(round(duration * self.fps), 1)) if self._duration else count

    # ---- frames ------------------------------------------------------------------------------------

    def _pictures(self) -> Iterator[Any]:
        if not self._steady:
            return self._decoded()
        return steady(self._timed(), float(self.fps))

    def _rgb(self, picture: Any) -> np.ndarray:
        import av

        # A stream may change its size; the clip keeps that of its first frame.
        width, height = self._coded_size
        try:
            pixels = picture.to_ndarray(format="rgb24", width=width, height=height)
        except av.FFmpegError:
            # A matrix of colours that FFmpeg has no arithmetic for: the usual one shows the picture at least.
            pixels = self._guessed_colours(picture)
        return np.ascontiguousarray(self._turn(pixels))

    def _guessed_colours(self, picture: Any) -> np.ndarray:
        import av

        width, height = self._coded_size
        try:
            return picture.to_ndarray(format="rgb24", width=width, height=height, src_colorspace="ITU709")
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"{self.name} has frames in an unknown format: {_reason(error)}.") from error

    def _decoded(self) -> Iterator[Any]:
        """Frames of the trimmed stretch; damage ends them, and is an error where there is none before it."""
        import av

        given = 0
        with self._before_the_stretch() as (container, stream, sought):
            stream.thread_type = "AUTO"
            # What a header claims was looked at; a later frame may claim something else.
            stream.codec_context.options = {"max_pixels": str(PIXEL_LIMIT)}
            step = 1 / float(self.fps)
            time = None if sought else self._origin - step
            try:
                for frame in container.decode(stream):
                    # A bare stream of frames has no times: they follow each other from its beginning.
                    time = frame.time if frame.time is not None or time is None else time + step
                    place = self._place(time)
                    if place > 0:
                        break
                    if place == 0:
                        yield frame
                        given += 1
            except (av.FFmpegError, OSError) as error:
                if not given:
                    raise VideoError(f"{self.name} cannot be decoded: {_reason(error)}.") from error
                log.warning("%s is damaged after %d frames: %s", self.name, given, _reason(error))
        if not given:
            raise VideoError(
                f"{self.name} holds no frames" + (f" after {self._start:g} s." if self._start else ".")
            )

    def _timed(self) -> Iterator[tuple[float, Any]]:
        """(seconds, frame); where damage took a time, the frame follows the one before it."""
        time = 0.0
        for frame in self._decoded():
            time = time + 1 / float(self.fps) if frame.time is None else frame.time
            yield time, frame

    @contextmanager
    def _before_the_stretch(self) -> Iterator[tuple[Any, Any, bool]]:
        """(container, stream, True) at the last key frame before the stretch.

        At the file's beginning, with False, where that is the same, or where no key frame can be found.
        """
        if self._start:
            with self._container() as container:
                stream = self._stream(container)
                if self._sought(container, stream):
                    yield container, stream, True
                    return
        # A failed search leaves a bare stream at its end.
        with self._container() as container:
            yield container, self._stream(container), False

    def _sought(self, container: Any, stream: Any) -> bool:
        import av

        try:
            container.seek(int((self._origin + self._start) / stream.time_base), stream=stream)
        # A bare stream cannot be searched; OverflowError: a start that no file can hold.
        except (av.FFmpegError, OSError, OverflowError):
            return False
        return True

    def _place(self, time: float | None) -> int:
        """-1 before the stretch that is meant, 0 inside, 1 after it; time: in seconds, None where nobody knows."""
        if time is None or not (self._start or self._duration):
            return 0
        half = 0.5 / float(self.fps)
        since = time - self._origin - self._start
        return -1 if since < -half else int(bool(self._duration) and since >= self._duration - half)

    # ---- sound -------------------------------------------------------------------------------------

    def _resampled(
        self, container: Any, stream: Any, layout: str, rate: int
    ) -> Iterator[tuple[float, np.ndarray]]:
        """(seconds, float32 [channels, n]) of the stretch that is meant, whatever the frames change to."""
        import av

        form = resampler = None
        for frame in container.decode(stream):
            time = frame.time or 0.0
            since = time - self._origin - self._start
            if self._duration and since > self._duration:
                return
            if since + frame.samples / frame.sample_rate > 0:
                # A resampler takes frames of one form alone; parts of a recording that were joined may have several.
                if form != (form := (frame.format.name, frame.layout.name, frame.sample_rate)):
                    resampler = av.AudioResampler("fltp", layout, rate)
                for part in resampler.resample(frame):
                    yield time, part.to_ndarray()


def _reason(error: Exception) -> str:
    return one_line(getattr(error, "strerror", None) or error)


def _orientation(frame: Any) -> Callable[[np.ndarray], np.ndarray]:
    """What brings a decoded frame upright, by its display matrix (turns by 90 degrees, and mirroring)."""
    stored = frame.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return lambda pixels: pixels
    a, b, _, c, d = np.frombuffer(bytes(stored), np.int32)[:5]
    # The matrix takes (x, y) to (a x + c y, b x + d y).
    if abs(int(b)) > abs(int(a)):
        return lambda pixels: pixels.swapaxes(0, 1)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
    return lambda pixels: pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


# ---- pictures ------------------------------------------------------------------------------------------


class Pictures(VideoSource):
    """A picture file as a clip: one frame, or the frames of an animation."""

    def __init__(self, name: str, opener: Callable[[], BinaryIO]) -> None:
        self.name, self._open = name, opener
        with closing(self._timed()) as frames:
            _, _, first = next(frames)
        self.size = first.shape[1], first.shape[0]
        shown = self._shown()
        times = [0.0, *accumulate(shown)]
        self._steady = uneven(times)
        self.fps = _measured_rate(times) if len(shown) > 1 else None
        self.count = round(times[-1] * self.fps) if self._steady else len(shown)

    def _shown(self) -> list[float]:
        """Seconds that each picture is shown; VideoError where finding that out would take minutes."""
        with self._open() as file:
            claimed = durations(file)
        if claimed is not None:
            return claimed
        with self._open() as file, opened_picture(file, self.name) as picture:
            claimed, timed = number_of_frames(picture), picture.format in DECODED_FOR_TIMES
        if not timed:
            return [0.0] * min(claimed, MOST_PAGES)
        if claimed * self.size[0] * self.size[1] > LOOKED_THROUGH:
            raise VideoError(
                f"{self.name} claims {claimed} pictures of {self.size[0]}x{self.size[1]} pixels; this kind of "
                f"animation is decoded to find its times, {LOOKED_THROUGH >> 20} million pixels at most: make "
                "it a video, cut it, or make it smaller."
            )
        with closing(self._timed()) as frames:
            return [shown for _, shown, _ in islice(frames, claimed)]

    def _pictures(self) -> Iterator[np.ndarray]:
        if self._steady:
            return steady(self._with_end(), float(self.fps))
        return (picture for _, _, picture in self._timed())

    def _rgb(self, picture: np.ndarray) -> np.ndarray:
        return resize(picture, self.size, "bilinear")  # a damaged animation may change its size

    def _with_end(self) -> Iterator[tuple[float, np.ndarray]]:
        """The last frame a second time, just before it ends, so that it too is shown for its time."""
        end = 0.0
        for time, shown, picture in self._timed():
            yield time, picture
            end = time + max(shown - 1 / float(self.fps), 0)
        yield end, picture

    def _timed(self) -> Iterator[tuple[float, float, np.ndarray]]:
        """(second, seconds shown, uint8 RGB) of every frame."""
        with self._open() as file, opened_picture(file, self.name) as picture:
            time = 0.0
            for index in count():
                try:
                    frame = upright(picture, self.name, index)
                except VideoError as error:
                    if not index:
                        raise
                    log.warning("%s", error)
                    return
                if frame is None:
                    return
                shown = float(picture.info.get("duration", 0) or 0) / 1000
                yield time, shown, frame
                time += shown


class Folder(VideoSource):
    """A folder of pictures in natural order (2.png before 10.png), all of one size."""

    def __init__(self, path: Path, skip: Collection[str]) -> None:
        self.name = str(path)
        self.files = sorted(
            (p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and p.name not in skip),
            key=lambda p: natural_key(p.name),
        )
        if not self.files:
            raise VideoError(f"{path} is a folder without pictures.")
        first = read_picture(self.files[0])
        self.size = first.shape[1], first.shape[0]
        self.fps = None
        self.count = len(self.files)

    def _pictures(self) -> Iterator[Path]:
        yield from self.files

    def _rgb(self, picture: Path) -> np.ndarray:
        pixels = read_picture(picture)
        if (pixels.shape[1], pixels.shape[0]) != self.size:
            raise VideoError(
                f"{picture} is {pixels.shape[1]}x{pixels.shape[0]}, while the first picture of its folder is "
                f"{self.size[0]}x{self.size[1]}; the frames of a clip have one size."
            )
        return pixels
