"""The start of a run: the reference repeated, half of it blurred, under noise (X-Dyna spec 8.2).

Every random number of a clip stands in one ``ClipDraws``, so one seed fixes the result and a test or a node
can put its own numbers in place.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..video_core.noise import InOrder, Order, PerFrame, seeded
from ..video_core.schedule import Schedule
from ..video_core.storage import IN_MEMORY, Storage, by_frames

BLUR_RADIUS = 4
BLUR_SIGMA = 18.0
KEEP_FROM = 0.5
"""A uniform draw from here on keeps the sharp value; below it the blurred one is taken."""


@dataclass(frozen=True)
class ClipDraws:
    """Every random number of a clip, float32 on the CPU; one seed fixes them all.

    posterior: [1, c, h, w], standard normal, picks the reference's latents from the VAE's posterior.
    mask: [1, c, F, h, w], uniform in [0, 1), chooses between sharp and blurred, element by element.
    base: [1, c, F, h, w], standard normal, the noise of each frame.
    offsets: one per step, by how many frames the context windows are turned.

    The original also draws for the reference frame and overwrites it; here it has no numbers.
    """

    posterior: Tensor
    mask: Tensor
    base: Tensor
    offsets: tuple[int, ...]


def draw(
    seed: int,
    shape: tuple[int, int, int, int],
    steps: int,
    order: Order = "per_frame",
    *,
    window: int = 16,
    storage: Storage = IN_MEMORY,
) -> ClipDraws:
    """The draws of a clip of latents (c, F, h, w).

    order: "per_frame", in which frame i's numbers depend on seed and i only; or "original".
    steps: how many run. window: frames of a context window. storage: where they lie.
    """
    if order == "original":
        # The two streams must differ: equal seeds would correlate mask, posterior and noise.
        return draw_original(shape, steps, seed, (seed + 1) % 2**64, seed, window=window, storage=storage)
    if order != "per_frame":
        raise ValueError(f"Noise is drawn 'per_frame' or in the 'original' order; {order!r} was given.")
    source, (channels, frames, height, width) = PerFrame(seed, storage), _checked(shape)
    return ClipDraws(
        posterior=source.normal("posterior", (1, channels, height, width)),
        mask=source.uniform("mask", (1, channels, frames, height, width)),
        base=source.normal("base", (1, channels, frames, height, width)),
        offsets=window_offsets(seed, steps, window),
    )


def draw_original(
    shape: tuple[int, int, int, int],
    steps: int,
    seed: int,
    ambient_seed: int,
    offset_seed: int,
    *,
    window: int = 16,
    encodes: bool = True,
    storage: Storage = IN_MEMORY,
) -> ClipDraws:
    """The published order of draws, from its three sources (X-Dyna spec 8.2).

    seed: of the generator that draws the posterior, then the mask, which has a reference frame in front.
    ambient_seed, offset_seed: F (quirk 6), of torch's and Python's global generators, which the original
        never seeds. The first gives one number to the blur, which ignores it, then the noise.
    encodes: False where the reference came as latents, so that no posterior is drawn (it is 0 here).
    """
    channels, frames, height, width = _checked(shape)
    own, ambient = (InOrder(seeded(number), storage) for number in (seed, ambient_seed))
    picture, clip = (1, channels, height, width), (1, channels, frames + 1, height, width)
    posterior = own.normal("posterior", picture) if encodes else torch.zeros(picture)
    mask = own.uniform("mask", clip)
    ambient.uniform("sigma of the blur", (1,))
    base = ambient.normal("base", clip)
    return ClipDraws(posterior, mask[:, :, 1:], base[:, :, 1:], window_offsets(offset_seed, steps, window))


def window_offsets(seed: int, steps: int, window: int = 16) -> tuple[int, ...]:
    """One offset in 0 ... window - 1 per step. K (quirk 8): drawn for short clips too."""
    source = random.Random(seed)
    return tuple(source.randint(0, window - 1) for _ in range(steps))


def initial_latents(
    reference: Tensor,
    clip: ClipDraws,
    schedule: Schedule,
    t: int,
    given: Tensor | None = None,
    storage: Storage = IN_MEMORY,
) -> Tensor:
    """Where sampling starts: [1, c, F, h, w], float32, sampler units, without the reference frame.

    reference: [1, c, 1, h, w], scaled. t: the first timestep that runs. given: [1, c, F, h, w], scaled; a
    clip to start from in place of the repeated reference, for runs of less than full strength. The result lies in
    ``storage``.
    """
    if given is not None and given.shape != clip.base.shape:
        raise ValueError(
            f"The clip to start from has latents {list(given.shape)} (batch, channels, frames, height, "
            f"width), and {list(clip.base.shape)} are to be sampled; make them alike."
        )
    reference = reference.float().to(clip.base.device)
    if reference.shape != clip.base[:, :, :1].shape:
        raise ValueError(
            f"The reference of this clip has latents {list(clip.base[:, :, :1].shape)}; "
            f"{list(reference.shape)} was given. Encode it at the size of the clip."
        )

    def noised(start: Tensor, base: Tensor) -> Tensor:
        clean = downgraded(reference, start) if given is None else start.float().to(base.device)
        return schedule.add_noise(clean, base, t)

    return by_frames(noised, clip.mask if given is None else given, clip.base, storage=storage)


def downgraded(reference: Tensor, mask: Tensor) -> Tensor:
    """The reference [1, c, 1, h, w] for each frame of the mask [1, c, F, h, w], half of it blurred."""
    return torch.where(mask >= KEEP_FROM, reference, blurred(reference[:, :, 0])[:, :, None])


def blurred(latents: Tensor) -> Tensor:
    """Gaussian blur of [b, c, h, w]: 9 x 9, sigma 18 (nearly a box), borders reflected.

    F: reflection needs more rows and columns than the blur's radius; below 5 the radius shrinks with the
    side, where the original stops with an error.
    """
    height, width = latents.shape[-2:]
    down, across = (gaussian(min(BLUR_RADIUS, side - 1)).to(latents) for side in (height, width))
    rows, columns = len(down) // 2, len(across) // 2
    channels = latents.shape[1]
    kernel = torch.outer(down, across).expand(channels, 1, -1, -1)
    padded = F.pad(latents, (columns, columns, rows, rows), mode="reflect")
    return F.conv2d(padded, kernel, groups=channels)


def gaussian(radius: int, sigma: float = BLUR_SIGMA) -> Tensor:
    """float32 [2 radius + 1], sum 1."""
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    return (weights / weights.sum()).float()


def _checked(shape: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    if shape[1] < 1:
        raise ValueError(f"A clip has at least one frame; {shape[1]} was given.")
    return shape
