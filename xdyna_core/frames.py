"""Pictures on their way in: which frames of a clip are used, how they are cut to size, and how control
frames become the images that a ControlNet receives (X-Dyna spec 6, 9.1-9.3).

Pictures are uint8 RGB [H, W, 3]; sizes are (width, height) in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..video_core.images import Size, resize

Crop = tuple[int, int, int, int]
"""(left, top, width, height)"""

Stretch = Literal["clip", "none"]
"""How a control clip's values are spread over 0..1, see ``control_images``."""


def choose_frames(
    pose_frames: int,
    *,
    length: int | None = None,
    stride: int = 1,
    driving_frames: int | None = None,
    fidelity: Literal["robust", "original"] = "robust",
) -> list[int]:
    """Indices of the frames to animate: 0, stride, 2 stride, ... at most ``length`` (X-Dyna spec 9.2).

    driving_frames: length of the driving clip where faces are used, else None; the same indices are
        taken from both clips. F (quirk 12): ``original`` counts with the stride and then takes that many
        consecutive frames (X-Dyna spec 9.3), so pose and faces play at another speed than was asked for.

    F (quirk 13): the original sets the stride to 1 where the path contains c1, c2, c3 or c4; ours never
    looks at names.
    """
    if pose_frames < 1:
        raise ValueError("The pose clip has no frames; give a clip with at least one.")
    if stride < 1 or (length is not None and length < 1):
        raise ValueError(f"Stride and length count frames from 1 up; got stride {stride}, length {length}.")
    chosen = list(range(0, pose_frames, stride))[:length]
    if driving_frames is None:
        return chosen
    if fidelity == "original":
        chosen = list(range(len(chosen)))
    if chosen[-1] >= driving_frames:
        raise ValueError(
            f"The driving clip has {driving_frames} frames, but frame {chosen[-1]} is needed to go with the "
            f"pose clip of {pose_frames}; give two clips of one length, or a shorter length."
        )
    return chosen


def reference_crop(source: Size, target: Size) -> Crop:
    """The centred part of a reference picture that has the video's shape (X-Dyna spec 9.1)."""
    (width, height), ratio = source, target[0] / target[1]
    if width / height > ratio:
        inner = max(int(ratio * height), 1)
        return (width - inner) // 2, 0, inner, height
    inner = max(int(width / ratio), 1)
    return 0, (height - inner) // 2, width, inner


def driving_crop(source: Size, target: Size) -> Crop:
    """The part of a driving frame that has the video's shape (X-Dyna spec 9.3).

    K: of what is cut from a tall frame a quarter goes above, three quarters below.
    """
    (width, height), (target_width, target_height) = source, target
    if width / height < target_width / target_height:
        crop_width, crop_height = width, max(int(width / target_width * target_height), 1)
    else:
        crop_width, crop_height = max(int(height / target_height * target_width), 1), height
    return (width - crop_width) // 2, (height - crop_height) // 4, crop_width, crop_height


def fit_reference(picture: np.ndarray, size: Size) -> np.ndarray:
    """The reference as the VAE sees it: cropped to the video's shape, bilinear (X-Dyna spec 9.1)."""
    return _resized(_cut(picture, reference_crop(_size(picture), size)), size, "linear")


def fit_driving(frame: np.ndarray, size: Size, like: np.ndarray | None = None) -> np.ndarray:
    """A frame in face mode: cropped to the video's shape, bilinear (X-Dyna spec 9.3).

    like: the driving frame whose size decides the crop, for the pose frame that goes with it.
    """
    return _resized(_cut(frame, driving_crop(_size(frame if like is None else like), size)), size, "linear")


def fit_pose(frame: np.ndarray, size: Size) -> np.ndarray:
    """A ready-made pose frame without face mode: squeezed to the video's size, by area (X-Dyna spec 9.2).

    K: the aspect ratio is not kept.
    """
    return _resized(frame, size, "area")


class Pictures(Protocol):
    """Pictures uint8 [F, H, W, c], of which a few are asked for at a time, as of an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, frames: list[int]) -> np.ndarray:
        """uint8 [f, H, W, c]."""
        ...


@dataclass(frozen=True)
class Fitted:
    """``Pictures`` uint8 RGB of ``size`` that are made anew whenever they are asked for.

    pictures: by number; drawing or reading one must give the same each time. fit: before it is brought to the size.
    """

    pictures: Sequence[np.ndarray]
    size: Size
    fit: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.pictures), self.size[1], self.size[0], 3

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, frames: list[int]) -> np.ndarray:
        return np.stack([self._fitted(self.pictures[frame]) for frame in frames])

    def _fitted(self, picture: np.ndarray) -> np.ndarray:
        return resize(picture if self.fit is None else self.fit(picture), self.size, "lanczos")


@dataclass(frozen=True)
class SideBySide:
    """The channels of several ``Pictures`` of the same frames and size, one behind the other."""

    parts: tuple[Pictures, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.parts[0].shape[:3], sum(part.shape[3] for part in self.parts))

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, frames: list[int]) -> np.ndarray:
        return np.concatenate([part[frames] for part in self.parts], axis=-1)


@dataclass(frozen=True)
class ControlImages:
    """The control clip of one ControlNet, kept as bytes and normalised where it is used.

    frames:    uint8 [F, H, W, c], c = 3 (pose) or 6 (face: local, global); an array, or made when asked for.
    low, high: float32 [c], the values that become 0 and 1 (X-Dyna spec 6), on the scale 2 x / 255 - 1.
    """

    frames: Pictures
    low: np.ndarray
    high: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def channels(self) -> int:
        return self.frames.shape[-1]

    def at(self, frames: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """float32 [f, c, H, W] in 0..1: the images of the chosen clip frames, on ``device``."""
        chosen = torch.from_numpy(self.frames[list(frames)]).to(device)
        low, high = (torch.from_numpy(value).to(device) for value in (self.low, self.high))
        span = high - low
        # F (quirk 5): a constant clip, such as the maps of a clip without a face, is 0/0 in the original.
        images = torch.where(span > 0, (2 * (chosen.float() / 255) - 1 - low) / span, 0)
        return rearrange(images, "f h w c -> f c h w").contiguous()


def control_images(
    pictures: Sequence[np.ndarray],
    size: Size,
    fit: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    stretch: Stretch = "clip",
) -> ControlImages:
    """Control frames as a ControlNet is to receive them (X-Dyna spec 6), none of which is kept: for long clips.

    pictures: uint8 RGB [h, w, 3]; every one is asked for once for the range of values, and again wherever it is
        used. fit: is asked first to bring one to the size. Resized to ``size`` by PIL's Lanczos where they differ.
    stretch: "clip" (K) moves the clip's darkest value to 0 and its brightest to 1, all frames and
        channels together; "none" divides by 255, so that a clip's contrast does not hang on its content.
    """
    if not len(pictures):
        raise ValueError("The control clip has no frames; give a clip with at least one.")
    return _stretched(Fitted(pictures, size, fit), stretch)


def _stretched(clip: Pictures, stretch: Stretch) -> ControlImages:
    darkest, brightest = np.uint8(0), np.uint8(255)
    if stretch == "clip":
        ends = [(picture.min(), picture.max()) for picture in (clip[[i]] for i in range(len(clip)))]
        darkest, brightest = min(low for low, _ in ends), max(high for _, high in ends)
    low, high = (2 * (np.float32(value) / np.float32(255)) - 1 for value in (darkest, brightest))
    channels = clip.shape[-1]
    return ControlImages(clip, np.full(channels, low, np.float32), np.full(channels, high, np.float32))


def face_control(local: ControlImages, whole: ControlImages) -> ControlImages:
    """The six channels of the face ControlNet, local first, each map with its own range (X-Dyna spec 6)."""
    if len(local) != len(whole):
        raise ValueError(f"Local and global face maps must match; got {len(local)} and {len(whole)} frames.")
    return ControlImages(
        SideBySide((local.frames, whole.frames)),
        np.concatenate([local.low, whole.low]),
        np.concatenate([local.high, whole.high]),
    )


def _size(picture: np.ndarray) -> Size:
    height, width = picture.shape[:2]
    return width, height


def _cut(picture: np.ndarray, crop: Crop) -> np.ndarray:
    left, top, width, height = crop
    return picture[top : top + height, left : left + width]


def _resized(picture: np.ndarray, size: Size, by: Literal["linear", "area"]) -> np.ndarray:
    import cv2

    method = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}[by]
    return cv2.resize(np.ascontiguousarray(picture), size, interpolation=method)
