"""What is computed once where the original computes it again; the results are equal up to rounding.

Pictures and poses do not change from step to step, nor do text and image tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..video_core.savings import PLAIN_LAYERS, LayerSavings
from .unet import Conditions, UniAnimateUNet


@dataclass(frozen=True)
class Reuse:
    """Each can be switched off.

    towers: the towers' convolutions see every picture once per clip (what their small transformers make of the
        features depends on the frames that stand together, and stays in the call), if ``Pictures`` are given.
    context: keys and values of the text and image tokens, once per clip.
    layers: how the layers work.
    """

    towers: bool = True
    context: bool = True
    layers: LayerSavings = field(default_factory=LayerSavings)


EVERYTHING = Reuse()
NOTHING = Reuse(towers=False, context=False, layers=PLAIN_LAYERS)
"""All of it, and the published order of work."""


@dataclass(frozen=True)
class Pictures:
    """What a branch of guidance is told, before any network: the arguments of ``encode_conditions``."""

    zero_y: Tensor
    image: Tensor | None = None
    local_image: Tensor | None = None
    dwpose: Tensor | None = None
    randomref: Tensor | None = None

    def windows(self, frames: Sequence[Sequence[int]]) -> Pictures:
        """Those of a call whose item i concerns the clip's frames ``frames[i]``, copied for each window."""
        count = len(frames)

        def copied(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.expand(count, *x.shape[1:])

        def picked(x: Tensor | None, before: int) -> Tensor | None:
            if x is None or x.shape[2] == 1:
                return copied(x)
            kept = list(range(before))
            return torch.cat([x[:, :, kept + [before + i for i in window]] for window in frames])

        return Pictures(
            zero_y=self.zero_y,
            image=copied(self.image),
            local_image=picked(self.local_image, 0),
            dwpose=picked(self.dwpose, 1),
            randomref=copied(self.randomref),
        )


def encoded(network: UniAnimateUNet, branch: Conditions | Pictures) -> Conditions:
    """What the network makes of pictures; conditions as they are."""
    return network.encode_conditions(**vars(branch)) if isinstance(branch, Pictures) else branch


def prepared(network: UniAnimateUNet, branch: Conditions | Pictures, reuse: Reuse) -> Conditions | Pictures:
    """A branch with all computed that serves a whole clip; its features of frames stay where they lie."""
    conditions = encoded(network, branch) if reuse.towers else branch
    if not reuse.context or isinstance(conditions, Pictures):
        return conditions
    return replace(conditions, context=network.project_context(conditions.context))
