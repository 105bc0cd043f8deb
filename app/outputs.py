"""Where results go: names that overwrite nothing, clips with their source's speed and sound, pictures."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..video_core.asides import at_free_name, numbered, written_aside
from .names import check

if TYPE_CHECKING:
    from ..video_core.samplers import NonFiniteError
    from ..video_core.video import Audio

DEFAULT_FPS = 8.0
"""Frames per second where the driving source has none (UniAnimate spec 1: save_fps)."""

PICTURES = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip
"""Endings of pictures that are written, and Pillow's names: it knows more, of which it cannot write all."""

FOLDER = "png"
"""The codec that writes a folder of pictures, whose name has no suffix."""


@dataclass(frozen=True)
class Output:
    """How a clip is written.

    fps: None is the driving clip's, whose sound then goes with it. codec: a name of ``video_core.encode.CODECS``
    or "png", None goes by the file's suffix. strip: reference and skeleton stand beside the result.
    overwrite: whether existing files may be replaced.
    """

    fps: float | None = None
    codec: str | None = None
    strip: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Result:
    """What a run left: the clip (a PNG for one frame), its contact sheet, its length, the alignment in words."""

    video: Path
    sheet: Path
    frames: int
    report: str

    def lines(self) -> list[str]:
        """The same for a person, the alignment left out."""
        return [f"{self.frames} frames in {self.video}", f"Contact sheet: {self.sheet}"]


def suffix_of(codec: str | None) -> str:
    """The file ending of a codec, .mp4 where none is named; none for a folder of PNGs."""
    from ..video_core.encode import CODECS

    if codec in (None, FOLDER):
        return ".mp4" if codec is None else ""
    if codec not in CODECS:
        raise ValueError(f"There is no codec {codec!r}; choose one of {', '.join((*CODECS, FOLDER))}.")
    return CODECS[codec].suffix


def free_path(folder: Path, stem: str, suffix: str, overwrite: bool = False) -> Path:
    """``folder/stem+suffix``; where that exists and may not be overwritten, with a number."""
    return next(file for file in numbered(folder, stem, suffix) if overwrite or not file.exists())


def target_of(asked: Path, stem: str, output: Output) -> Path:
    """The file that was asked for by a name with a suffix, or a free name in the folder that was.

    ValueError for a file that is there and may not be overwritten. Of a free name nobody need ask again:
    ``save_clip`` takes another one where it is free no longer.
    """
    check(str(asked))
    if asked.suffix and not asked.is_dir():
        check_clip_name(asked, output.codec)
        refuse_existing(asked, output.overwrite)
        return asked
    return free_path(asked, stem, suffix_of(output.codec), output.overwrite)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise ValueError for a file that is there and may not be overwritten."""
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists already; choose another name, or allow it to be overwritten.")


def check_clip_name(path: Path, codec: str | None = None) -> None:
    """Raise VideoError, before anything is made, for a name under which no clip can be written."""
    from ..video_core.encode import codec_of

    # A single frame becomes a PNG, and how many there will be is not known yet.
    if path.suffix.lower() != ".png":
        codec_of(path, codec)


def check_picture(path: Path, overwrite: bool) -> None:
    """Raise ValueError for a picture that is there and may not be overwritten, or of no known kind."""
    refuse_existing(path, overwrite)
    _check_suffix(path)


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in PICTURES:
        raise ValueError(f"{path} should end in .png or .jpg to be written as a picture.")


def save_picture(picture: np.ndarray, path: Path, overwrite: bool = False) -> Path:
    """uint8 RGB [H, W, 3] to one of ``PICTURES``, written aside and renamed, so that a full disk leaves no half one.

    Returns its name: with a number, where a file is there that may not be overwritten.
    """
    from PIL import Image

    _check_suffix(path)

    def put(name: Path) -> None:
        with written_aside(name, overwrite) as file:
            Image.fromarray(picture).save(file, PICTURES[path.suffix.lower()])

    return at_free_name(path.parent, path.stem, path.suffix, put)


def save_clip(
    frames: Iterator[np.ndarray],
    count: int,
    target: Path,
    output: Output,
    *,
    fps: float | None = None,
    sound: Audio | None = None,
    notes: Mapping[str, object] | None = None,
) -> Path:
    """Frames uint8 RGB [H, W, 3] to ``target``; a single one becomes a PNG (UniAnimate spec 2.5).

    count: how many there will be. fps, sound: of the driving clip. notes: stored in the file as its comment.
    An error or a stop keeps the frames so far as ``<name>.partial<suffix>``. Returns the clip's name: with a
    number, where another process has put a file there since ``target`` was chosen.
    """
    from ..video_core.video import write_video

    suffix = "" if output.codec == FOLDER else target.suffix
    stem = target.name.removesuffix(suffix)
    if count == 1 and suffix:
        picture = free_path(target.parent, stem, ".png", output.overwrite)
        return save_picture(next(frames), picture, output.overwrite)
    rate = output.fps if output.fps is not None else fps or DEFAULT_FPS
    written = write_video(
        frames,
        free_path(target.parent, stem, suffix, output.overwrite),
        rate,
        codec=output.codec,
        audio=sound if output.fps is None else None,
        metadata={"comment": json.dumps(notes, default=str)} if notes else None,
        overwrite=output.overwrite,
    )
    return written.path


def keep_latents(error: NonFiniteError, target: Path) -> str:
    """Save the last finite latents of a run that ended in NaN; a sentence that says where, or nothing."""
    from ..video_core.weights import save_checkpoint

    if error.latents is None:
        return ""
    target.parent.mkdir(parents=True, exist_ok=True)
    file = free_path(target.parent, f"{target.stem}.latents", ".safetensors")
    save_checkpoint(file, {"latents": error.latents.cpu().contiguous()})
    return f"The last finite latents, after {error.done} steps, are in {file}."


def sound_of(*sources: Path | None, folder: Path | None = None) -> Audio | None:
    """The sound of the first of the files that has any; pose files and folders have none.

    folder: see ``VideoSource.audio``.
    """
    from ..video_core.video import open_video
    from .poses import is_pose_file

    for source in sources:
        if source is None or source.is_dir() or is_pose_file(source):
            continue
        sound = open_video(source).audio(folder)
        if sound is not None:
            return sound
    return None


def beside(
    frames: Iterable[np.ndarray], reference: np.ndarray, skeletons: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """Frames beside what they were made from: reference, skeleton, result (UniAnimate spec 2.5)."""
    from ..video_core.images import resize

    for frame, skeleton in zip(frames, skeletons, strict=False):
        size = (frame.shape[1], frame.shape[0])
        pictures = [resize(picture, size, "bilinear") for picture in (reference, skeleton)]
        yield np.concatenate([*pictures, frame], axis=1)


def remembering(
    frames: Iterable[np.ndarray], numbers: Collection[int], into: dict[int, np.ndarray]
) -> Iterator[np.ndarray]:
    """The frames, passed on; those of the given numbers are put into ``into`` as well."""
    for number, frame in enumerate(frames):
        if number in numbers:
            into[number] = frame
        yield frame
