"""Single pictures: reading whatever people have, resizing as the models were trained, bytes and floats.

A picture is uint8 RGB [H, W, 3]; sizes are (width, height) in pixels.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]

PIXEL_LIMIT = 1 << 27
"""Pixels that a picture may have (16k x 8k): a header may claim any size, and memory is taken on its word."""

LARGEST_SIDE = 16384
"""Pixels of a side of a video that is made: more than any encoder here takes."""

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"})
"""File name endings that folders of frames are searched for (lower case)."""


PICTURE_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "MPO")
"""Pillow's names of the formats that are read; others start programs (EPS) or are hardly tested."""


ORIENTATION = 0x112
"""The EXIF tag that says how a picture was held."""


class VideoError(ValueError):
    """A picture or video that cannot be read or written; a sentence with the file and the reason."""


def read_picture(path: str | os.PathLike[str]) -> np.ndarray:
    """uint8 RGB [H, W, 3] of a picture file, the first frame of an animated one.

    Turned upright by its EXIF tag (as OpenCV did for UniAnimate, spec 2.1); 16 bits keep their upper 8;
    grey is repeated, palettes and CMYK are converted; alpha is dropped, as core's Load Image does.
    Raises VideoError with a sentence.
    """
    path = Path(path)
    with opened_file(path) as file, opened_picture(file, str(path)) as picture:
        return upright(picture, str(path))  # type: ignore[return-value]  # there is a first frame


@contextmanager
def opened_picture(file: BinaryIO, name: str) -> Iterator[Image]:
    """A file as a PIL picture of a known format and a sane size; VideoError where it is none."""
    from PIL import Image

    Image.init()
    formats = [format for format in PICTURE_FORMATS if format in Image.OPEN]
    try:
        with _large_pictures_taken():
            picture = Image.open(file, formats=formats)
    # Pillow reports damage with many types: UnidentifiedImageError, SyntaxError, struct.error, ...
    except Exception as error:
        reason = "no known picture format" if isinstance(error, Image.UnidentifiedImageError) else error
        raise VideoError(f"{name} cannot be read as a picture: {one_line(reason)}.") from error
    with picture:
        check_size(picture.size, name)
        yield picture


def upright(picture: Image, name: str, frame: int = 0) -> np.ndarray | None:
    """uint8 RGB [H, W, 3] of a PIL picture's frame, turned by its EXIF tag; None after the last frame.

    Raises VideoError where it is damaged.
    """
    from PIL import ImageOps

    try:
        with _large_pictures_taken():
            picture.seek(frame)
    except EOFError:
        return None
    # Pillow's decoders report damage with many types: OSError, SyntaxError, IndexError, struct.error, ...
    except Exception as error:
        raise VideoError(f"{name} is damaged at frame {frame}: {one_line(error)}.") from error
    # Later frames of some formats (MPO, TIFF) have sizes of their own.
    check_size(picture.size, name)
    try:
        with _large_pictures_taken():
            turned = picture.getexif().get(ORIENTATION, 1) != 1
            return as_rgb(ImageOps.exif_transpose(picture) if turned else picture)
    except Exception as error:
        raise VideoError(f"{name} cannot be read as a picture: {one_line(error)}.") from error


@contextmanager
def _large_pictures_taken() -> Iterator[None]:
    """Without Pillow's warning of pictures from 89 million pixels on: PIXEL_LIMIT says how large they may be."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def number_of_frames(picture: Image) -> int:
    """How many frames a PIL picture claims; 1 where it is too damaged to tell."""
    try:
        return int(getattr(picture, "n_frames", 1))
    # Pillow's decoders report damage with many types.
    except Exception:
        return 1


def as_rgb(picture: Image) -> np.ndarray:
    """uint8 RGB [H, W, 3] of a PIL picture of any mode (loads it)."""
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = np.asarray(picture.convert("F") if picture.mode == "F" else picture)
        if grey.max(initial=0) > 255:  # 16 bits per sample; PIL's own conversion would clip them
            grey = grey / 257
        return np.repeat(np.clip(np.nan_to_num(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode == "RGBA":
        return np.ascontiguousarray(np.asarray(picture)[..., :3])
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def check_size(size: Size, name: str) -> None:
    """Raise VideoError for a picture or video whose header claims more pixels than PIXEL_LIMIT, or none."""
    width, height = size
    if width < 1 or height < 1 or width * height > PIXEL_LIMIT:
        raise VideoError(f"{name} claims to be {width}x{height} pixels, which is not a usable size.")


def check_sides(size: Size, multiple: int, whose: str) -> None:
    """Raise ValueError, with the nearest size that would do, where a side is no multiple, or too long."""
    width, height = size
    if max(size) > LARGEST_SIDE:
        raise ValueError(
            f"{whose}'s videos have sides of {LARGEST_SIDE} pixels at most; {width} x {height} was given."
        )
    if min(size) < multiple or width % multiple or height % multiple:
        nearest = " x ".join(str(max(round(side / multiple), 1) * multiple) for side in size)
        raise ValueError(
            f"{whose}'s videos have sides that are multiples of {multiple}; {width} x {height} was given. "
            f"Take {nearest}, say."
        )


def resize(picture: np.ndarray, size: Size, filter: Literal["bilinear", "bicubic", "lanczos"]) -> np.ndarray:
    """The picture at that size by PIL's filter (antialiased), its proportions not kept."""
    from PIL import Image

    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    by = getattr(Image.Resampling, filter.upper())
    return np.array(Image.fromarray(picture).resize(size, by))


def unit(pictures: Iterable[np.ndarray]) -> Tensor:
    """uint8 RGB pictures of one size -> float32 [F, H, W, 3] in 0..1."""
    return torch.from_numpy(np.stack(list(pictures))).float().div(255)


def to_bytes(frames: Tensor) -> Iterator[np.ndarray]:
    """float [F, H, W, 3] in 0..1 -> uint8 RGB [H, W, 3] one by one, truncated and not rounded.

    K: both originals truncate (UniAnimate spec 2.5, X-Dyna spec 9.6).
    """
    for frame in frames:
        yield (frame.detach().float().clamp(0, 1) * 255).to("cpu", torch.uint8).numpy()


def is_folder(path: Path) -> bool:
    """Whether there is a folder; False for names that the system refuses (too long, a zero in them)."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def opened_file(path: Path, kind: str = "a video or a picture") -> BinaryIO:
    """The file, open for reading; VideoError where it is no regular file (a pipe would be waited for for ever).

    kind: what else to choose then.
    """
    try:
        if path.exists() and not path.is_file():
            raise VideoError(f"{path} is no file that can be read; choose {kind}.")
        return path.open("rb")
    # ValueError: a name with a zero in it.
    except (OSError, ValueError) as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}.") from error


def one_line(reason: object) -> str:
    """The first line of an error's text, without its full stop and not too long."""
    lines = str(reason).strip().splitlines()
    return printable(lines[0][:200].rstrip(".")) if lines else type(reason).__name__


def printable(text: str) -> str:
    """The text with escapes for what would break a line, or tell a terminal to do something."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
