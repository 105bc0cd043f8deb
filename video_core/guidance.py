"""Classifier-free guidance: a denoiser of two branches becomes a denoiser of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from .storage import IN_MEMORY, Storage, by_frames

Denoiser = Callable[[Tensor, int], Tensor]
"""(latents [1, c, F, h, w], timestep) -> predictions [branches, c, F, h, w]; samplers take one branch."""

Together = bool | Literal["auto"]
"""Whether both branches go into one call of the network; "auto": where memory allows."""


def for_branches(x: Tensor, rows: int) -> Tensor:
    """Rows [w, ...] that all branches share, given to each branch in turn: [(branches w), ...].

    rows: branches x w. What has that many rows already comes back as it is.
    """
    return x if len(x) == rows else x.repeat(rows // len(x), *[1] * (x.ndim - 1))


def guided(denoise: Denoiser, scale: float, storage: Storage = IN_MEMORY) -> Denoiser:
    """uncond + scale * (cond - uncond), of a denoiser whose branches are (uncond, cond) in this order.

    scale 0 is the unconditional prediction, 1 the conditional one, more exaggerates the difference. A run
    that needs one branch only (a scale of 1, say) leaves this function out and denoises with one branch at
    half the cost. Returns a denoiser of one branch, [1, c, F, h, w], whose result lies in ``storage``.
    """

    def combined(uncond: Tensor, cond: Tensor) -> Tensor:
        # In place of the difference: a long clip's predictions are large.
        return (cond - uncond).mul_(scale).add_(uncond)

    def denoise_guided(latents: Tensor, t: int) -> Tensor:
        branches = denoise(latents, t)
        if len(branches) != 2:
            raise ValueError(
                f"Guidance combines two branches (uncond, cond); the denoiser gave {len(branches)}. "
                "Use a single-branch denoiser without guidance."
            )
        return by_frames(combined, *branches.split(1), storage=storage)

    return denoise_guided
