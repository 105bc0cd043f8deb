"""The same work with less of it at once, when memory runs out in the middle of a run.

An estimate can be wrong, and other programs take memory too: what has been denoised is worth more than the
speed of the steps to come.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .placement import free_caches, out_of_memory
from .savings import FEED_FORWARD_VALUES, GROUP_VALUES, SCORE_BYTES, LayerSavings
from .windows import WindowDenoiser, Windows

log = logging.getLogger(__name__)

SMALLER = 8
"""Parts of layers become so many times smaller at once ..."""

SMALLEST = 2**14
"""... down to so many values in a pass, where no memory is left to be saved."""


@dataclass(frozen=True)
class Way:
    """How much of a call goes through the networks at once.

    together: both branches of guidance. windows: how many of them; None: all of the call. layers: see there.
    """

    together: bool
    layers: LayerSavings
    windows: int | None = None

    def thriftier(self, windows: int) -> tuple[Way, str] | None:
        """The next way for a call of so many windows, and what it does; None where nothing is left to try."""
        at_once = windows if self.windows is None else min(self.windows, windows)
        if self.together:
            return replace(self, together=False), "one branch of guidance at a time"
        if at_once > 1:
            return replace(self, windows=at_once // 2), f"{at_once // 2} of the windows at a time"
        limits = {
            "feed_forward": self.layers.feed_forward or SMALLER * FEED_FORWARD_VALUES,
            "group": self.layers.group or SMALLER * GROUP_VALUES,
            "scores": self.layers.scores or SMALLER * SCORE_BYTES,
        }
        if min(limits.values()) <= SMALLEST:
            return None
        smaller = {name: limit // SMALLER for name, limit in limits.items()}
        return replace(
            self, layers=replace(self.layers, **smaller)
        ), f"layers in parts {SMALLER} times smaller"


def thrifty(denoiser: Callable[[Way], WindowDenoiser], way: Way) -> WindowDenoiser:
    """A denoiser of windows that works in a way until memory runs out, and then in thriftier ones.

    denoiser: makes one that works in a way. A call that failed is repeated, and the run stays with what worked:
    the results differ by rounding only. Raises the error of the allocator where no way fits.
    """
    now = denoiser(way)

    def denoise(latents: Tensor, t: int, windows: Windows) -> Tensor:
        nonlocal now, way
        while True:
            try:
                return _in_groups(now, latents, t, windows, way.windows)
            except RuntimeError as error:
                following = way.thriftier(len(windows)) if out_of_memory(error) else None
                if following is None:
                    raise
                reason = str(error).partition("\n")[0]
            # Outside the handler, where the failed attempt's tensors are no longer held by the traceback.
            way, does = following
            log.warning("Out of memory (%s); going on with %s.", reason, does)
            free_caches()
            now = denoiser(way)

    return denoise


def _in_groups(
    denoise: WindowDenoiser, latents: Tensor, t: int, windows: Windows, size: int | None
) -> Tensor:
    """One call for ``size`` windows at a time; None = all."""
    if size is None or size >= len(windows):
        return denoise(latents, t, windows)
    return torch.cat([denoise(latents[i], t, windows[i]) for i in _slices(len(windows), size)], dim=1)


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, length, size))
