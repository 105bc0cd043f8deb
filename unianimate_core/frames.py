"""Pictures on their way in: which poses of a clip are used, how pictures are brought to size (spec 2.1).

Pictures are uint8 RGB [h, w, 3]; sizes are (width, height) in pixels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

Size = tuple[int, int]

CLIP_SIDE = 224
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

BLACK = -1
"""In place of a pose's number: a black pose frame, which is generated all the same."""


def choose_frames(
    poses: int,
    *,
    length: int | None = None,
    interval: int = 1,
    fidelity: Literal["robust", "original"] = "robust",
) -> list[int]:
    """Numbers of the poses to animate: 0, interval, 2 interval ..., at most ``length`` of them, None for all.

    F: where the clip has fewer, "robust" gives those. "original" takes a smaller interval, which changes the
    speed, and fills up with BLACK; its long flow stops with an error there, ours follows the short one.
    """
    if poses < 1:
        raise ValueError("The pose clip has no frames; give a clip with at least one.")
    if interval < 1 or (length is not None and length < 1):
        raise ValueError(f"Interval and length count frames from 1 up; {interval} and {length} were given.")
    if fidelity == "robust" or length is None or poses > interval * (length - 1):
        return list(range(0, poses, interval))[:length]
    stride = max((poses - 1) // (length - 1), 1)
    chosen = list(range(0, min(stride * length, poses), stride))
    return chosen + [BLACK] * (length - len(chosen))


def fit(picture: np.ndarray, size: Size) -> np.ndarray:
    """A picture stretched to size, PIL's bilinear. K: the aspect ratio is not kept, nothing is cropped."""
    from PIL import Image

    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def clip_pixels(picture: np.ndarray) -> Tensor:
    """The reference as the CLIP tower receives it: float32 [1, 3, 224, 224], CLIP's mean and deviation.

    K: the whole picture is stretched to the square; other users of this tower crop its middle.
    """
    pixels = unit_pixels(fit(picture, (CLIP_SIDE, CLIP_SIDE))[None])[:, :, 0]
    mean, std = (rearrange(torch.tensor(values), "c -> c 1 1") for values in (CLIP_MEAN, CLIP_STD))
    return (pixels - mean) / std


def unit_pixels(pictures: np.ndarray) -> Tensor:
    """uint8 [F, h, w, 3] -> float32 [1, 3, F, h, w] in 0..1, as the network takes pictures."""
    return rearrange(torch.from_numpy(pictures), "f h w c -> 1 c f h w").float() / 255
