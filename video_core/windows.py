"""Frame windows of a clip that is longer than the network's view, and the averaging of their predictions.

A window is a list of frame numbers; its order is the order in which the network sees the frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from .guidance import Denoiser
from .storage import IN_MEMORY, Storage

Windows = list[list[int]]
WindowDenoiser = Callable[[Tensor, int, Windows], Tensor]
"""(latents [W, c, f, h, w], timestep, W windows of f frames) -> predictions [branches, W, c, f, h, w]."""
WindowsAt = Callable[[int], Windows]
"""Timestep -> the windows of that step; together they hold every frame of the clip."""
Fuse = Literal["uniform", "flat", "pyramid"]


def uniform_windows(
    frames: int,
    size: int,
    overlap: int,
    *,
    stride: int = 1,
    step: int = 0,
    offset: int = 0,
    closed_loop: bool = True,
) -> Windows:
    """The uniform scheduler that both systems call (UniAnimate spec 6, X-Dyna spec 8.4).

    A clip of at most ``size`` frames is one window in natural order. A longer one is covered once for every
    dilation d = 1, 2, 4 ... (``stride`` of them at most, fewer when the clip is short): a start every
    ``size * d - overlap`` frames, window = (start + d * k + offset) mod frames, k < size. ``step`` shifts the
    starts by its bit-reversed fraction of the clip. Windows near the end wrap to the first frames
    (those of anchored_windows and open_windows do not).
    """
    _check(frames, size, overlap, stride)
    if frames <= size:
        return [list(range(frames))]
    fraction = _bit_reversed_fraction(step)
    pad = round(frames * fraction)
    end = frames + pad - (0 if closed_loop else overlap)
    return [
        [(start + d * k + offset) % frames for k in range(size)]
        for d in (2**level for level in range(_levels(frames, size, stride)))
        for start in range(int(fraction * d) + pad, end, size * d - overlap)
    ]


def anchored_windows(frames: int, size: int, overlap: int, *, stride: int = 1) -> Windows:
    """Windows of an open clip, the last one moved back to end at the last frame (UniAnimate spec 6).

    71 frames, size 32, overlap 8: 0-31, 24-55, 39-70. The last window takes every c-th frame, c the number of
    dilations; with the usual stride of 1 nothing wraps. K: larger strides wrap, as published.
    F: a clip shorter than a window is one window in natural order; the original repeats frames or stops.
    """
    windows = uniform_windows(frames, size, overlap, stride=stride, closed_loop=False)
    if len(windows) == 1:
        return windows
    dilation = _levels(frames, size, stride)
    last = [frame % frames for frame in range(frames - size * dilation, frames, dilation)]
    return [*windows[:-1], last]


def open_windows(frames: int, size: int, overlap: int, *, offset: int = 0) -> Windows:
    """Windows of an open clip whose seams move with ``offset``; those that would wrap are moved inside.

    Offset 0 gives anchored_windows. For clips that do not loop, in place of X-Dyna's closed loop (spec
    8.4), in which the last frames are denoised next to the first.
    """
    _check(frames, size, overlap)
    if frames <= size:
        return [list(range(frames))]
    hop = size - overlap
    shift = offset % hop
    starts = range(shift - hop if shift else 0, frames - overlap, hop)
    inside = sorted({min(max(start, 0), frames - size) for start in starts})
    return [list(range(start, start + size)) for start in inside]


def fuse_weights(length: int, fuse: Fuse) -> Tensor:
    """float32 [length]: the weight of each position of a window in the average over windows.

    "uniform" (or "flat"): all 1, as both systems publish. "pyramid": 1, 2 ... 2, 1, so that a frame counts
    most where it has neighbours on both sides and seams fade.
    """
    if fuse in ("uniform", "flat"):
        return torch.ones(length)
    if fuse == "pyramid":
        up = torch.arange(1.0, length + 1)
        return torch.minimum(up, up.flip(0))
    raise ValueError(f"Windows can be fused 'uniform' (also called 'flat') or 'pyramid'; {fuse!r} was given.")


def windowed(
    denoise: WindowDenoiser,
    windows_at: WindowsAt,
    *,
    batch: int = 1,
    fuse: Fuse = "uniform",
    on_window: Callable[[int, int], None] | None = None,
    storage: Storage = IN_MEMORY,
) -> Denoiser:
    """A denoiser of windows becomes a denoiser of clips: every branch is the weighted mean of its windows.

    denoise: see WindowDenoiser. windows_at: the windows of a timestep, called once per step.
    batch: how many windows go into one call; the result changes by rounding only.
    fuse: see fuse_weights. on_window(done, total): called after every call with numbers of windows; may
    raise to stop. Returns a denoiser of clips [1, c, F, h, w] with all branches of the given one, in
    float32. A frame that occurs twice in one window counts twice (F: the original keeps one of the two).
    Holds one float32 sum per branch, in ``storage``, and nothing else of the size of the clip.
    """
    if batch < 1:
        raise ValueError(f"At least one window goes into a call of the network; batch {batch} was given.")
    fuse_weights(1, fuse)

    def denoise_clip(latents: Tensor, t: int) -> Tensor:
        windows = windows_at(t)
        _check_cover(windows, latents)
        total: Tensor | None = None
        visits = latents.new_zeros(latents.shape[2], dtype=torch.float32)
        done = 0
        for group in _batches(windows, batch):
            views = torch.cat([latents[:, :, window] for window in group])
            predictions = denoise(views, t, group)
            if total is None:
                shape = len(predictions), *latents.shape[1:]
                # A clip on another device than the CPU lies in memory, whatever the storage.
                on_cpu = latents.device.type == "cpu"
                total = storage.zeros(shape) if on_cpu else torch.zeros(shape, device=latents.device)
            _accumulate(total, visits, predictions, group, fuse)
            done += len(group)
            storage.tidy()
            if on_window is not None:
                on_window(done, len(windows))
        for part in storage.stretches(len(visits)):
            total[:, :, part].div_(visits[part, None, None])
            storage.tidy()
        return total

    return denoise_clip


def _accumulate(total: Tensor, visits: Tensor, predictions: Tensor, group: Windows, fuse: Fuse) -> None:
    """Add weighted predictions [n, W, c, f, h, w] of W windows to total [n, c, F, h, w] and visits [F]."""
    weights = fuse_weights(len(group[0]), fuse).to(total.device)
    for window, prediction in zip(group, predictions.unbind(1), strict=True):
        index = torch.tensor(window, device=total.device)
        # The clip may wait elsewhere than where its windows are denoised.
        total.index_add_(2, index, prediction.to(total) * weights[:, None, None])
        visits.index_add_(0, index, weights)


def _batches(windows: Windows, batch: int) -> Iterator[Windows]:
    """Consecutive windows of equal length, at most ``batch`` at a time."""
    for _, same in groupby(windows, key=len):
        run = list(same)
        yield from (run[i : i + batch] for i in range(0, len(run), batch))


def _check_cover(windows: Windows, latents: Tensor) -> None:
    if latents.ndim != 5 or latents.shape[0] != 1:
        raise ValueError(f"Windows are taken of one clip [1, c, F, h, w]; {tuple(latents.shape)} was given.")
    frames = latents.shape[2]
    missing = sorted(set(range(frames)) - {frame for window in windows for frame in window})
    if missing:
        raise ValueError(
            f"No window holds frame {missing[0]} of {frames} ({len(missing)} frames are left out)."
        )


def _check(frames: int, size: int, overlap: int, stride: int = 1) -> None:
    if frames < 1:
        raise ValueError(f"A clip has at least one frame; {frames} was given.")
    if stride < 1:
        raise ValueError(f"The stride of context windows is at least 1; {stride} was given.")
    if not 0 <= overlap < size:
        raise ValueError(
            f"Windows of {size} frames cannot overlap by {overlap}; use an overlap between 0 and {size - 1}."
        )


def _levels(frames: int, size: int, stride: int) -> int:
    """Number of dilations 1, 2, 4 ... of a clip that is longer than a window."""
    return min(stride, math.ceil(math.log2(frames / size)) + 1)


def _bit_reversed_fraction(step: int) -> float:
    """The 64 bits of the step number in reversed order, as a fraction of 2^64: 0, 1/2, 1/4, 3/4, 1/8 ..."""
    return int(f"{step:064b}"[::-1], 2) / 2**64
