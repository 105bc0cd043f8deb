"""The unified noised input (UniAnimate paper, section 3.3): where denoising starts from.

One network takes two kinds of input: noise alone, and noise beside a clean first frame that the clip
continues. Either way the noise carries a trace of the reference picture's latents, the reference prior
(spec 2.3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..video_core.noise import Order, draws
from ..video_core.schedule import Schedule
from ..video_core.storage import IN_MEMORY, Storage, by_frames

Flow = Literal["short", "long"]

PRIOR: dict[Flow, int] = {"short": 949, "long": 939}
"""Timestep of the reference prior in the two published flows."""

NO_PRIOR = 999
"""The timestep at which the prior vanishes: the schedule holds no signal there."""


@dataclass(frozen=True)
class NoiseSettings:
    """How the noise of a clip is made; the defaults are the published ones, the order of draws excepted.

    prior: timestep of the reference prior, 0 to 999; lower leaks more of the reference into every frame, 999
        nothing; None is the flow's own (949 short, 939 long). Where reference regions ghost, raise it.
    offset: strength of the noise that is constant over a frame.
    flow: whether that offset is added before the prior ("short") or after it, at full strength ("long").
    order: "per_frame", or "original" for the published order of draws from one generator.
    """

    prior: int | None = None
    offset: float = 0.1
    flow: Flow = "short"
    order: Order = "per_frame"

    def __post_init__(self) -> None:
        if self.flow not in PRIOR:
            raise ValueError(f"The flow is 'short' or 'long'; {self.flow!r} was given.")
        if not 0 <= self.prior_timestep <= NO_PRIOR:
            raise ValueError(
                f"The noise prior is a timestep between 0 and {NO_PRIOR} ({NO_PRIOR} switches it off); "
                f"{self.prior} was given."
            )

    @property
    def prior_timestep(self) -> int:
        """The prior in use."""
        return PRIOR[self.flow] if self.prior is None else self.prior


@dataclass(frozen=True)
class ClipDraws:
    """Every random number of a clip, standard normal float32 on the CPU; one seed fixes them all.

    posterior: [1, c, h, w], picks the reference's latents from the autoencoder's posterior.
    base: [1, c, F, h, w], the noise of each frame, independent over the whole clip in long runs too.
    offset: [1, c, F, 1, 1], one number per channel and frame.
    """

    posterior: Tensor
    base: Tensor
    offset: Tensor


@dataclass(frozen=True)
class UnifiedNoise:
    """What the network is given to denoise.

    latents: float32 [1, c, F, h, w] in sampler units.
    reference: [1, c, 1, h, w], the reference's latents, those of the prior; None goes without a reference.
    first_frame: [1, 3, 1, 8h, 8w] in 0..1, the clean picture that frame 0 continues; None for noise alone.
    timestep: how noisy the latents are; None at the first timestep of a whole run.
    """

    latents: Tensor
    reference: Tensor | None = None
    first_frame: Tensor | None = None
    timestep: int | None = None

    @property
    def frames(self) -> int:
        """F."""
        return self.latents.shape[2]

    def continuing(self, picture: Tensor) -> UnifiedNoise:
        """The same noise beside a clean first frame [1, 3, 1, 8h, 8w] in 0..1."""
        size = tuple(8 * side for side in self.latents.shape[3:])
        if tuple(picture.shape) != (1, 3, 1, *size):
            raise ValueError(
                f"The first frame of this clip is a picture [1, 3, 1, {size[0]}, {size[1]}]; "
                f"{list(picture.shape)} was given."
            )
        return replace(self, first_frame=picture)

    def over(self, clip: Tensor, schedule: Schedule, timestep: int) -> UnifiedNoise:
        """The same noise laid over a clip's latents [1, c, F, h, w] in sampler units, as far as a timestep.

        F: a run that begins there refines the clip (``SampleSettings.timestep_of``); the original has none.
        """
        if clip.shape != self.latents.shape:
            raise ValueError(
                f"The clip to start from has latents {list(clip.shape)} and the noise "
                f"{list(self.latents.shape)}; both need the same frames and the same size."
            )
        if not torch.isfinite(clip).all():
            raise ValueError("The latents to start from hold NaN or infinity; sample or encode them again.")
        clip = clip.float().to(self.latents.device)
        return replace(self, latents=schedule.add_noise(clip, self.latents, timestep), timestep=timestep)


def draw(
    seed: int,
    shape: tuple[int, int, int, int],
    order: Order = "per_frame",
    storage: Storage = IN_MEMORY,
) -> ClipDraws:
    """The draws of a clip of latents (c, F, h, w), in the published order (spec 2.3), kept in ``storage``.

    F: the offset is drawn on the CPU as well; the original draws it on the GPU, from another generator.
    """
    channels, frames, height, width = shape
    if frames < 1:
        raise ValueError(f"A clip has at least one frame; {frames} was given.")
    source = draws(order, seed, storage)
    return ClipDraws(
        posterior=source.normal("posterior", (1, channels, height, width)),
        base=source.normal("base", (1, channels, frames, height, width)),
        offset=source.normal("offset", (1, channels, frames, 1, 1)),
    )


def unified_noise(
    clip: ClipDraws,
    reference: Tensor | None,
    schedule: Schedule,
    settings: NoiseSettings | None = None,
    storage: Storage = IN_MEMORY,
) -> UnifiedNoise:
    """Base noise with offset noise and reference prior (spec 2.3).

    reference: [1, c, 1, h, w], latents of the reference picture in sampler units, repeated over frames;
    None for noise without prior. Short: q(ref, prior, base + 0.1 offset). Long: q(ref, prior, base) + 0.1
    offset.
    K: sampling starts at another timestep (991 of 30 steps) than the prior's, which leaks about 3 % of the
    reference's latents into every frame. The result lies in ``storage``.
    """
    settings = settings or NoiseSettings()
    if reference is not None:
        _check_reference(reference, clip.base)

    def made(base: Tensor, draws: Tensor) -> Tensor:
        offset = settings.offset * draws
        noise = base + offset if settings.flow == "short" else base
        if reference is not None:
            noise = schedule.add_noise(reference.float().to(noise.device), noise, settings.prior_timestep)
        return noise if settings.flow == "short" else noise + offset

    return UnifiedNoise(by_frames(made, clip.base, clip.offset, storage=storage), reference)


def _check_reference(reference: Tensor, base: Tensor) -> None:
    _, channels, _, height, width = base.shape
    if tuple(reference.shape) != (1, channels, 1, height, width):
        raise ValueError(
            f"The reference of this clip has latents {[1, channels, 1, height, width]}; "
            f"{list(reference.shape)} was given. Encode it at the size of the clip."
        )
    if not torch.isfinite(reference).all():
        raise ValueError("The reference's latents hold NaN or infinity; encode it in float32 or bfloat16.")
