"""Measures that stand on somebody's trained network: LPIPS and Frechet distances, from the user's files.

Nothing is downloaded. docs/evaluation.md says which files are meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from einops import rearrange

if TYPE_CHECKING:
    from torch import Tensor

# ---- LPIPS -----------------------------------------------------------------------------------------------

ALEXNET = (
    # name of the convolution, stride, padding, whether a 3 x 3 maximum of stride 2 comes before it
    ("features.0", 4, 2, False),
    ("features.3", 1, 2, True),
    ("features.6", 1, 1, True),
    ("features.8", 1, 1, False),
    ("features.10", 1, 1, False),
)
HEADS = tuple(f"lin{layer}.model.1.weight" for layer in range(len(ALEXNET)))
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""LPIPS's own normalisation of RGB in -1..1."""


class Lpips:
    """Learned perceptual distance (Zhang et al. 2018, version 0.1, AlexNet): 0 for identical pictures.

    backbone: torchvision's AlexNet (``alexnet-owt-....pth``); heads: LPIPS's ``alex.pth``.
    Raises CheckpointError where one of them is something else.
    """

    def __init__(self, backbone: Path, heads: Path, device: str = "cpu") -> None:
        from ...video_core.weights import open_checkpoint

        convolutions = [f"{name}.{kind}" for name, *_ in ALEXNET for kind in ("weight", "bias")]
        files = ((open_checkpoint(backbone), convolutions, "torchvision's AlexNet (alexnet-owt)"),
                 (open_checkpoint(heads), HEADS, "LPIPS's linear layers for AlexNet (alex.pth)"))  # fmt: skip
        self._weights: dict[str, Tensor] = {}
        for tensors, names, what in files:
            self._weights |= {name: tensor.to(device) for name, tensor in _named(tensors, names, what)}

    def __call__(self, picture: np.ndarray, truth: np.ndarray) -> float:
        """The distance of two uint8 RGB pictures [H, W, 3] of one size, at least 32 pixels a side."""
        import torch

        with torch.no_grad():
            pairs = zip(self._layers(picture), self._layers(truth), HEADS, strict=True)
            return float(sum(((a - b).square() * self._weights[head]).sum(1).mean() for a, b, head in pairs))

    def _layers(self, picture: np.ndarray) -> Iterator[Tensor]:
        """Features [1, c, h, w] after every convolution, of unit length at each place."""
        import torch
        import torch.nn.functional as F

        device = self._weights[HEADS[0]].device
        x = rearrange(torch.from_numpy(picture).to(device), "h w c -> 1 c h w").float() / 127.5 - 1
        shift, scale = (rearrange(torch.tensor(v, device=device), "c -> c 1 1") for v in (SHIFT, SCALE))
        x = (x - shift) / scale
        for name, stride, padding, pooled in ALEXNET:
            x = F.max_pool2d(x, 3, 2) if pooled else x
            weight, bias = (self._weights[f"{name}.{kind}"] for kind in ("weight", "bias"))
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            yield x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _named(tensors: Mapping[str, Tensor], names: Sequence[str], what: str) -> Iterator[tuple[str, Tensor]]:
    from ...video_core.weights import CheckpointError, source_of

    for name in names:
        if name not in tensors:
            raise CheckpointError(f"{source_of(tensors)} has no {name}; give {what}.")
        yield name, tensors[name].float().clone()


# ---- Frechet distances -----------------------------------------------------------------------------------

DYNAMIC_SIDE, DYNAMIC_FRAMES = 224, 16
"""Of networks that take any size, and any number of frames."""


class FeatureNetwork:
    """A network given as an ONNX file: pictures [n, 3, h, w] or clips [n, 3, t, h, w] to features [n, d].

    It is fed RGB in -1..1, stretched (bilinear) to the size that it declares. Whatever it was trained for
    makes the distance: Inception's pool for FID, an I3D for FVD, one of dynamic textures for DTFVD.
    frames: t, 1 of a network of pictures. Raises ValueError for a file that is no such network.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        from ...pose_align.dwpose import open_session

        self.name = path.name
        self._session = open_session(path, device)
        shape = self._session.get_inputs()[0].shape
        if len(shape) not in (4, 5) or shape[1] != 3:
            raise ValueError(
                f"{path} takes {shape}; a feature network takes pictures [n, 3, h, w] or clips "
                "[n, 3, t, h, w] and gives features [n, d]."
            )
        self.frames = 1 if len(shape) == 4 else _or(shape[2], DYNAMIC_FRAMES)
        self._size = _or(shape[-1], DYNAMIC_SIDE), _or(shape[-2], DYNAMIC_SIDE)

    def __call__(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """float64 [d] of ``frames`` uint8 RGB pictures [H, W, 3]."""
        import cv2

        resized = [cv2.resize(frame, self._size, interpolation=cv2.INTER_LINEAR) for frame in frames]
        pixels = np.stack(resized).astype(np.float32) / 127.5 - 1
        pattern = "1 h w c -> 1 c h w" if self.frames == 1 else "t h w c -> 1 c t h w"
        fed = {self._session.get_inputs()[0].name: np.ascontiguousarray(rearrange(pixels, pattern))}
        return np.asarray(self._session.run(None, fed)[0], np.float64).ravel()


@dataclass
class Statistics:
    """Mean and covariance of features, added one by one; memory is that of one covariance matrix."""

    count: int = 0
    _total: np.ndarray | None = field(default=None, repr=False)
    _squares: np.ndarray | None = field(default=None, repr=False)

    def add(self, features: np.ndarray) -> None:
        """One more vector float64 [d]."""
        if self._total is None:
            self._total, self._squares = np.zeros(len(features)), np.zeros((len(features),) * 2)
        self.count += 1
        self._total += features
        self._squares += np.outer(features, features)

    @property
    def width(self) -> int:
        """d, 0 before the first vector."""
        return 0 if self._total is None else len(self._total)

    @property
    def mean(self) -> np.ndarray:
        """float64 [d]."""
        return self._total / self.count

    @property
    def covariance(self) -> np.ndarray:
        """float64 [d, d], unbiased."""
        centred = self._squares - np.outer(self._total, self._total) / self.count
        return centred / max(self.count - 1, 1)


def frechet_distance(first: Statistics, second: Statistics) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) (Dowson and Landau 1982), from 0 up.

    Raises ValueError for fewer than two samples on a side.
    """
    if min(first.count, second.count) < 2:
        raise ValueError(
            f"A Frechet distance compares at least 2 samples on both sides; got {first.count} and "
            f"{second.count}. A network of clips takes one sample for every group of its frames."
        )
    root = _square_root(first.covariance)
    common = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second.covariance @ root), 0, None)).sum()
    spread = np.trace(first.covariance) + np.trace(second.covariance) - 2 * common
    return float(max(np.square(first.mean - second.mean).sum() + spread, 0.0))


def _square_root(symmetric: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def _or(side: object, default: int) -> int:
    return side if isinstance(side, int) else default
