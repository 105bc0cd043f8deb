"""Writing frames as a stream: mp4, webm, gif, webp or a folder of PNGs, whole or not under its own name.

While it is written a file has a name of its own, so that two processes never write into one. What an error or
ctrl-C leaves is closed properly and called ``<name>.partial<suffix>``, so that finished frames are not lost and
never look like a finished clip.
"""

from __future__ import annotations

import errno
import glob
import logging
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from io import RawIOBase
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from . import asides
from .decode import Audio, open_video
from .images import VideoError, one_line

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Codec:
    """How one kind of file is written.

    encoders: FFmpeg's names, the first that this build has is taken. crf: default quality, lower is better.
    options: further encoder options; muxing: container options. sound: audio encoder, None where it has none.
    """

    suffix: str
    container: str
    encoders: tuple[str, ...]
    pix_fmt: str
    crf: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    muxing: Mapping[str, str] = field(default_factory=dict)
    sound: str | None = None
    tag: str | None = None


TAGS = {"movflags": "use_metadata_tags+faststart"}
"""mp4: keep metadata under any name (ComfyUI's workflow), and put the index first, for browsers."""
WORST_CRF = 51
"""The largest that every encoder of the table takes."""

QUIET = {"x265-params": "log-level=error"}

CODECS = {
    "h264": Codec(".mp4", "mp4", ("libx264", "libopenh264"), "yuv420p", 18, muxing=TAGS, sound="aac"),
    "h265": Codec(".mp4", "mp4", ("libx265",), "yuv420p", 20, QUIET, TAGS, sound="aac", tag="hvc1"),
    "vp9": Codec(".webm", "webm", ("libvpx-vp9",), "yuv420p", 24, {"b": "0", "row-mt": "1"}, sound="libopus"),
    "av1": Codec(".webm", "webm", ("libsvtav1", "libaom-av1"), "yuv420p", 26, {"b": "0"}, sound="libopus"),
    "gif": Codec(".gif", "gif", ("gif",), "pal8", muxing={"loop": "0"}),
    "webp": Codec(
        ".webp", "webp", ("libwebp_anim",), "bgra", options={"quality": "90"}, muxing={"loop": "0"}
    ),
}
FORMER = ".former"
"""Ends the name of a folder that is being replaced."""

PNG = "png"
"""The one kind that is a folder: 00000.png, 00001.png, ..."""

BY_SUFFIX = {".mp4": "h264", ".webm": "vp9", ".gif": "gif", ".webp": "webp", "": PNG}
"""What is written where no codec is named."""


@dataclass(frozen=True)
class Written:
    """A finished clip: its file (a folder of PNGs), number of frames, (width, height) as stored."""

    path: Path
    frames: int
    size: tuple[int, int]


def write_video(
    frames: Iterable[np.ndarray],
    path: str | os.PathLike[str],
    fps: float | Fraction,
    *,
    codec: str | None = None,
    crf: int | None = None,
    pix_fmt: str | None = None,
    audio: Audio | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Written:
    """Write uint8 RGB frames [H, W, 3] of one size, one at a time.

    codec: a name of CODECS or "png"; None goes by the suffix (no suffix is a folder of PNGs).
    crf, pix_fmt: instead of the codec's own. audio: cut where the frames end.
    metadata: texts to store, such as ComfyUI's ``workflow`` (mp4, webm; the first PNG).
    Odd sides are made even by repeating the last row or column, where the pixel format needs it.
    An error of ``frames`` itself, ctrl-C too, passes through after the frames so far were saved under
    ``<name>.partial<suffix>``, which goes when a later attempt has as many. Where another process puts a file of
    this name there meanwhile, and it may not be overwritten, the clip's name gets a number.
    Raises VideoError for everything that is wrong with the file or the frames.
    """
    path = Path(path)
    codec = codec_of(path, codec)
    rate = Fraction(fps).limit_denominator(1001) if fps > 0 else Fraction(0)
    if not 0 < rate <= 1000:
        raise VideoError(f"A clip has between 0 and 1000 frames per second; got {fps}.")
    if crf is not None and not 0 <= crf <= WORST_CRF:
        raise VideoError(f"Quality (crf) lies between 0 and {WORST_CRF}, lower is better; got {crf}.")
    if path.exists() and not overwrite:
        raise VideoError(f"{path} exists already; choose another name, or allow it to be overwritten.")
    first, frames = _peeked(path, frames)
    names = _Names.of(path, codec, overwrite)
    with ExitStack() as writing:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            asides.sweep(path.parent, f"{glob.escape(names.stem)}.????????{asides.SUFFIX}{names.suffix}")
            partial = writing.enter_context(asides.claimed(names.aside, folder=codec == PNG))
        except OSError as error:
            raise VideoError(f"{path} cannot be written: {_reason(error)}.") from error
        try:
            if codec == PNG:
                sink: _Sink = _Pictures(partial, metadata or {})
            else:
                sink = _Movie(partial, CODECS[codec], first, rate, crf, pix_fmt, audio, metadata or {})
        except BaseException as error:
            asides.remove(partial)
            if isinstance(error, OSError):
                raise VideoError(f"{path} cannot be written: {_reason(error)}.") from error
            raise
        return _written(sink, frames, names, partial, first.shape)


@dataclass(frozen=True)
class _Names:
    """Of one clip: while it is written, finished, and where the frames so far stay if it is not.

    former: whether there are frames of an earlier attempt, which this one stands for.
    """

    folder: Path
    stem: str
    suffix: str
    overwrite: bool
    kept: Path
    former: bool

    @staticmethod
    def of(path: Path, codec: str, overwrite: bool) -> _Names:
        # A folder's name has no suffix, even if it holds a dot.
        suffix = "" if codec == PNG else path.suffix
        stem = path.name.removesuffix(suffix)
        kept = path.with_name(f"{stem}{asides.SUFFIX}{suffix}")
        return _Names(path.parent, stem, suffix, overwrite, kept, kept.exists())

    def aside(self) -> Path:
        """A name to write under, another one each time."""
        return self.folder / f"{self.stem}.{asides.unique()}{asides.SUFFIX}{self.suffix}"

    def finish(self, partial: Path, frames: int, size: tuple[int, int]) -> Path:
        """Give the clip its name, which is returned."""
        replaces = self._replaces(frames, size)
        done = _named(partial, self.folder, self.stem, self.suffix, self.overwrite)
        if replaces:
            asides.remove(self.kept)
        return done

    def keep(self, partial: Path, frames: int, size: tuple[int, int]) -> Path:
        """Give the frames so far their name, which is returned; where that is refused, the one they have."""
        stem = f"{self.stem}{asides.SUFFIX}"
        try:
            return _named(partial, self.folder, stem, self.suffix, self._replaces(frames, size))
        except OSError as error:
            log.debug("%s keeps its name: %s", partial, error)
            return partial

    def _replaces(self, frames: int, size: tuple[int, int]) -> bool:
        """Whether what was kept before this attempt is less of a clip of this size, so that nobody misses it."""
        if not self.former:
            return False
        try:
            earlier = open_video(self.kept)
            with closing(earlier.frames(max_frames=1)) as shown:
                height, width = next(shown).shape[:2]
        except (VideoError, OSError):
            return False
        return (width, height) == size and earlier.count <= frames


def codec_of(path: Path, codec: str | None) -> str:
    """The codec that a clip of this name is written with; VideoError where name and codec do not go together."""
    if codec is None:
        codec = BY_SUFFIX.get(path.suffix.lower())
    if codec != PNG and codec not in CODECS:
        what = f"'{codec}'" if codec else f"a file named {path.name}"
        raise VideoError(f"There is no way to write {what}; choose one of {', '.join((*CODECS, PNG))}.")
    suffix = path.suffix.lower()
    # A folder's name may hold a dot, as that of a picture it was made from.
    if suffix in {*BY_SUFFIX, ".png"} - {""} if codec == PNG else suffix != CODECS[codec].suffix:
        wanted = "no file's suffix" if codec == PNG else f"'{CODECS[codec].suffix}'"
        raise VideoError(f"{path} should end in {wanted} to be written as {codec}.")
    return codec


def _peeked(path: Path, frames: Iterable[np.ndarray]) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise VideoError(f"There are no frames to write to {path}.")
    return first, chain([first], iterator)


def _written(
    sink: _Sink, frames: Iterator[np.ndarray], names: _Names, partial: Path, shape: tuple[int, ...]
) -> Written:
    """Feed the sink; then rename what it wrote, or keep it as partial and pass the error on."""
    path, count = names.folder / f"{names.stem}{names.suffix}", 0
    try:
        for frame in frames:
            _check_frame(frame, shape, count)
            sink.write(frame)
            count += 1
        sink.close()
    except BaseException as error:
        if isinstance(error, _Failed):
            sink.discard()
            raise VideoError(f"{path} cannot be written: {error} (after {count} frames).") from error
        _keep(sink, names, partial, count)
        raise
    try:
        return Written(names.finish(partial, count, sink.size), count, sink.size)
    except OSError as error:
        kept = names.keep(partial, count, sink.size)
        raise VideoError(f"{path} cannot be replaced ({_reason(error)}); the clip is {kept}.") from error


def _keep(sink: _Sink, names: _Names, partial: Path, count: int) -> None:
    try:
        sink.close()
    except _Failed as error:
        sink.discard()
        log.warning("The %d finished frames could not be saved: %s", count, error)
        return
    if count:
        kept = names.keep(partial, count, sink.size)
        log.warning("Interrupted; the %d finished frames are kept in %s", count, kept)
    else:
        sink.discard()


def _check_frame(frame: np.ndarray, shape: tuple[int, ...], index: int) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3 or frame.shape != shape:
        raise VideoError(
            f"Frame {index} is {frame.dtype} {list(frame.shape)}; frames are uint8 RGB [height, width, 3], "
            f"all of the first one's size {list(shape[:2])}."
        )


def _named(partial: Path, folder: Path, stem: str, suffix: str, overwrite: bool) -> Path:
    """Rename a clip that is written; to the first free name with a number where none may be replaced."""

    def put(path: Path) -> None:
        _replace(partial, path) if overwrite else asides.give_name(partial, path, overwrite=False)

    return asides.at_free_name(folder, stem, suffix, put)


def _replace(partial: Path, path: Path) -> None:
    """The finished clip takes its place; a folder in it is moved away first, so that a kill loses neither."""
    if not partial.is_dir():
        partial.replace(path)
        return
    former = path.with_name(f"{path.name}.{asides.unique()}{FORMER}")
    if path.exists():
        path.replace(former)
    try:
        partial.replace(path)
    except OSError:
        former.replace(path)
        raise
    # This one, and what a kill between the two lines above left.
    asides.sweep(path.parent, f"{glob.escape(path.name)}.????????{FORMER}")


def _reason(error: BaseException) -> str:
    if getattr(error, "errno", None) == errno.ENOSPC:
        return "the disk is full"
    return one_line(getattr(error, "strerror", None) or error)


class _Failed(Exception):
    """The sink itself cannot go on (disk full, encoder); the message is the reason, a clause."""


class _Sink(ABC):
    size: tuple[int, int]

    @abstractmethod
    def write(self, frame: np.ndarray) -> None:
        """Add a uint8 RGB frame."""

    @abstractmethod
    def close(self) -> None:
        """Finish, so that what was written can be read."""

    @abstractmethod
    def discard(self) -> None:
        """Close without finishing and delete what was written."""


class _Pictures(_Sink):
    """A folder of PNGs, which is there."""

    def __init__(self, folder: Path, metadata: Mapping[str, str]) -> None:
        self._folder, self._metadata, self._count = folder, metadata, 0

    def write(self, frame: np.ndarray) -> None:
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        self.size = frame.shape[1], frame.shape[0]
        info = PngInfo()
        for name, text in self._metadata.items() if not self._count else ():
            info.add_text(name, text)
        file = self._folder / f"{self._count:05d}.png"
        try:
            Image.fromarray(frame).save(file, pnginfo=info, compress_level=4)
        except OSError as error:
            file.unlink(missing_ok=True)
            raise _Failed(_reason(error)) from error
        self._count += 1

    def close(self) -> None:
        """Every picture is finished by itself."""

    def discard(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class _Movie(_Sink):
    """One file by PyAV, written through a Python file (so that a name is never taken for a protocol)."""

    def __init__(
        self,
        file: Path,
        codec: Codec,
        first: np.ndarray,
        rate: Fraction,
        crf: int | None,
        pix_fmt: str | None,
        audio: Audio | None,
        metadata: Mapping[str, str],
    ) -> None:
        import av

        encoder = _available(codec)
        self._file, self._rate, self._count = file, rate, 0
        self._format = pix_fmt or codec.pix_fmt
        even = "420" in self._format
        self.size = tuple(side + side % 2 if even else side for side in (first.shape[1], first.shape[0]))
        self._handle = _Unbuffered(file.open("w+b", buffering=0))
        try:
            self._container = av.open(
                self._handle, "w", format=codec.container, container_options=dict(codec.muxing)
            )
            self._container.metadata.update(metadata)
            self._stream = self._video_stream(encoder, codec, crf)
            self._palette = _palettes(self.size, rate) if codec.container == "gif" else None
            self._sound = _Sound(self._container, codec.sound, audio) if audio and codec.sound else None
        except (av.FFmpegError, ValueError) as error:
            self.discard()
            raise VideoError(f"{file} cannot be written as {encoder}: {_reason(error)}.") from error

    def _video_stream(self, encoder: str, codec: Codec, crf: int | None) -> Any:
        options = dict(codec.options)
        if codec.crf is not None:
            options["crf"] = str(codec.crf if crf is None else crf)
        stream = self._container.add_stream(encoder, rate=self._rate, options=options)
        stream.width, stream.height = self.size
        stream.pix_fmt = self._format
        stream.time_base = 1 / self._rate
        if codec.tag:
            stream.codec_context.codec_tag = codec.tag
        if self._format.startswith("yuv"):
            # Players guess untagged colours by the size of the picture; BT.709, limited range, says it.
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = 1
            context.color_range = 1
        return stream

    def write(self, frame: np.ndarray) -> None:
        import av

        width, height = self.size
        if frame.shape[:2] != (height, width):
            frame = np.pad(frame, ((0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0)), "edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts, picture.time_base = self._count, 1 / self._rate
        try:
            for ready in self._converted(picture):
                self._container.mux(self._stream.encode(ready))
            self._count += 1
            if self._sound:
                self._sound.advance(self._count / self._rate)
        except (av.FFmpegError, OSError) as error:
            raise _Failed(_reason(error)) from error

    def _converted(self, picture: Any) -> Iterator[Any]:
        if self._palette is None:
            yield _in_format(picture, self._format)
            return
        self._palette.vpush(picture)
        yield from _pulled(self._palette)

    def close(self) -> None:
        import av

        if self._handle.closed:
            return
        try:
            if self._palette is not None:
                self._palette.vpush(None)
                for ready in _pulled(self._palette):
                    self._container.mux(self._stream.encode(ready))
            self._container.mux(self._stream.encode(None))
            if self._sound:
                self._sound.finish()
            self._container.close()
            self._handle.close()
        except (av.FFmpegError, OSError) as error:
            raise _Failed(_reason(error)) from error

    def discard(self) -> None:
        import av

        for handle in (getattr(self, "_container", None), self._handle):
            try:
                if handle is not None:
                    handle.close()
            except (av.FFmpegError, OSError) as error:
                log.debug("Closing what is thrown away: %s", error)
        self._file.unlink(missing_ok=True)


class _Unbuffered:
    """A file as PyAV writes it. Whatever is written is written at once and whole, or OSError is raised.

    Python's buffered files write when they seek, too: on a full disk that fails, and PyAV prints the errors of
    ``seek`` where it raises those of ``write``.
    """

    def __init__(self, raw: RawIOBase) -> None:
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def write(self, content: bytes) -> int:
        left = memoryview(content)
        while left:
            left = left[self._raw.write(left) :]
        return len(content)


def _available(codec: Codec) -> str:
    """The first of the codec's encoders that this PyAV was built with."""
    import av

    for name in codec.encoders:
        try:
            av.Codec(name, "w")
        except ValueError:  # av.codec.codec.UnknownCodecError
            continue
        return name
    raise VideoError(
        f"This installation of PyAV has no encoder {' or '.join(codec.encoders)}; choose another codec."
    )


def _in_format(picture: Any, pix_fmt: str) -> Any:
    if not pix_fmt.startswith("yuv"):
        return picture.reformat(format=pix_fmt)
    ready = picture.reformat(format=pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG")
    ready.pts, ready.time_base = picture.pts, picture.time_base
    return ready


def _palettes(size: tuple[int, int], rate: Fraction) -> Any:
    """A filter that gives each frame a palette of its own: a common one would need the whole clip first."""
    import av

    graph = av.filter.Graph()
    source = graph.add_buffer(width=size[0], height=size[1], format="rgb24", time_base=1 / rate)
    split, generate = graph.add("split"), graph.add("palettegen", "stats_mode=single")
    use, sink = graph.add("paletteuse", "new=1"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(generate, 1, 0)
    generate.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph


def _pulled(graph: Any) -> Iterator[Any]:
    import av

    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return


class _Sound:
    """An audio stream that keeps up with the pictures."""

    STEP = 1024

    def __init__(self, container: Any, encoder: str, audio: Audio) -> None:
        self._container, self._audio, self._sent = container, audio, 0
        self._channels, self._count = audio.samples.shape
        self._layout = "stereo" if self._channels == 2 else "mono"
        rate = 48000 if encoder == "libopus" else audio.rate
        self._stream = container.add_stream(encoder, rate=rate, layout=self._layout)
        self._stream.bit_rate = 192_000

    def advance(self, seconds: Fraction) -> None:
        """Encode up to that time."""
        until = min(int(seconds * self._audio.rate), self._count)
        while self._sent < until:
            part = np.asarray(
                self._audio.samples[:, self._sent : min(self._sent + self.STEP, until)], np.float32
            )
            self._encode(part.mean(0, keepdims=True) if self._channels > 2 else part)
            self._sent += part.shape[1]

    def finish(self) -> None:
        """Encode what the encoder still holds."""
        self._container.mux(self._stream.encode(None))

    def _encode(self, samples: np.ndarray) -> None:
        import av

        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self._layout)
        frame.sample_rate = self._audio.rate
        frame.pts, frame.time_base = self._sent, Fraction(1, self._audio.rate)
        self._container.mux(self._stream.encode(frame))
