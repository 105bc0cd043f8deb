"""What is computed once where the original computes it again; the results are equal up to rounding.

Frames do not see each other in a ControlNet, control images depend on nothing that changes, text and image
tokens are the same in every step, and the branches of guidance differ in those tokens alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..video_core.savings import PLAIN_LAYERS, LayerSavings
from .controlnet import ControlNet, Residuals
from .frames import ControlImages

HINT_BYTES = 2**27
"""Embedded control images of a ControlNet that are kept: 29 frames of 896 x 512 in half precision."""
HINT_FRAMES = 128
"""Frames of which they are kept at most, so that the memory of small pictures does not grow with the clip."""


@dataclass(frozen=True)
class Reuse:
    """Each can be switched off.

    context: keys and values of the text and image tokens, once per clip.
    hints: control images are embedded once per clip, as many frames as HINT_BYTES hold.
    frames: a ControlNet sees a frame once per step, not in every window that holds it.
    branches: one pass of a ControlNet serves both branches of guidance where their texts are equal.
    prefix: both branches share what stands before the first attention to the tokens, if they run together.
    layers: how the layers work.
    """

    context: bool = True
    hints: bool = True
    frames: bool = True
    branches: bool = True
    prefix: bool = True
    layers: LayerSavings = field(default_factory=LayerSavings)


EVERYTHING = Reuse()
NOTHING = Reuse(context=False, hints=False, frames=False, branches=False, prefix=False, layers=PLAIN_LAYERS)
"""All of it, and the published order of work."""

FrameResiduals = Callable[[Tensor, int, list[int], int], Residuals | None]
"""(latents [1, c, n, h, w], timestep, numbers of the n clip frames, row of the text) -> what ControlNets add to
the UNet for these frames, [1, c, n, h, w] each; None where none acts.
"""


class EmbeddedImages:
    """The control images of a clip as a ControlNet embeds them; the first ones, as many as ``limit`` bytes hold
    and ``HINT_FRAMES`` at most, once.
    """

    def __init__(self, network: ControlNet, images: ControlImages, limit: int) -> None:
        self._network = network
        self._images = images
        self._room = limit
        self._kept: dict[int, Tensor] = {}

    def at(self, frames: Sequence[int], device: torch.device) -> Tensor:
        """The embedding [1, c, n, h, w] of n frames of the clip."""
        missing = [frame for frame in dict.fromkeys(frames) if frame not in self._kept]
        made = {}
        if missing:
            parts = [self._network.embed(self._images.at([frame], device)) for frame in missing]
            made = dict(zip(missing, (part[:, :, 0] for part in parts), strict=True))
        for frame, hint in made.items():
            if hint.nbytes <= self._room and len(self._kept) < HINT_FRAMES:
                self._room -= hint.nbytes
                self._kept[frame] = hint
        return torch.stack([self._kept.get(frame, made.get(frame)) for frame in frames], dim=2)


@dataclass(frozen=True)
class _Known:
    """Residuals of some frames: entry i belongs to clip frame ``frames[i]``."""

    frames: list[int]
    residuals: Residuals

    def only(self, frames: list[int]) -> Residuals:
        if frames == self.frames:
            return self.residuals
        return self.residuals.frames([self.frames.index(frame) for frame in frames])

    def joined(self, other: _Known | None) -> _Known:
        if other is None:
            return self
        return _Known(self.frames + other.frames, self.residuals.followed_by(other.residuals))


class OncePerFrame:
    """FrameResiduals that computes a frame when a step first asks for it and drops it after its last use.

    compute: what is asked for the frames that are not known. uses: timestep -> how often a step will ask for
    each frame, per row of the text; it holds no more than neighbouring windows share.
    """

    def __init__(self, compute: FrameResiduals, uses: Callable[[int, int], Counter[int]]) -> None:
        self._compute = compute
        self._uses = uses
        self._step: int | None = None
        self._known: dict[int, _Known] = {}
        self._left: dict[int, Counter[int]] = {}

    def __call__(self, latents: Tensor, t: int, frames: list[int], row: int) -> Residuals | None:
        if t != self._step:
            self._step, self._known, self._left = t, {}, {}
        left = self._left.setdefault(row, self._uses(t, row).copy())
        known = self._known.pop(row, None)
        missing = [frame for frame in dict.fromkeys(frames) if known is None or frame not in known.frames]
        if missing:
            places = [frames.index(frame) for frame in missing]
            made = self._compute(latents[:, :, places], t, missing, row)
            if made is None:
                return None
            known = _Known(missing, made).joined(known)
        left.subtract(frames)
        wanted_again = [frame for frame in known.frames if left[frame] > 0]
        if wanted_again:
            self._known[row] = _Known(wanted_again, known.only(wanted_again))
        return known.only(frames)
