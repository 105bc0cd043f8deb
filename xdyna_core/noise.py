"""The start of a run: the reference repeated, half of it blurred, under noise (X-Dyna spec 8.2).

Every random number of a clip stands in one ``ClipNoise``, so one seed fixes the result and a test or a node
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

BLUR_RADIUS = 4
BLUR_SIGMA = 18.0
KEEP_FROM = 0.5
"""A uniform draw from here on keeps the sharp value; below it the blurred one is taken."""


@dataclass(frozen=True)
class ClipNoise:
    """All random numbers of a clip of F frames, float32 on the CPU.

    posterior: [1, c, h, w], standard normal, for the VAE posterior of the reference.
    uniform:   [1, c, F, h, w] in [0, 1), chooses between sharp and blurred, element by element.
    normal:    [1, c, F, h, w], standard normal.
    offsets:   one per step, by how many frames the context windows are turned.

    The original also draws for the reference frame and overwrites it; here it has no numbers.
    """

    posterior: Tensor
    uniform: Tensor
    normal: Tensor
    offsets: tuple[int, ...]


def draw(
    order: Order, seed: int, shape: tuple[int, int, int], frames: int, steps: int, *, window: int = 16
) -> ClipNoise:
    """The random numbers of a clip from one seed.

    order: "per_frame", in which frame i's numbers depend on seed and i only; or "original".
    shape: (c, h, w) of the latents. steps: those that run. window: frames of a context window.
    """
    if order == "original":
        # The two streams must differ: equal seeds would correlate mask, posterior and noise.
        return draw_original(seed, (seed + 1) % 2**64, seed, shape, frames, steps, window=window)
    if order != "per_frame":
        raise ValueError(f"Noise is drawn 'per_frame' or in the 'original' order; {order!r} was given.")
    source, clip = PerFrame(seed), _clip_shape(shape, frames)
    return ClipNoise(
        posterior=source.normal("posterior", (1, *shape)),
        uniform=source.uniform("blur mask", clip),
        normal=source.normal("noise", clip),
        offsets=window_offsets(seed, steps, window),
    )


def draw_original(
    seed: int,
    ambient_seed: int,
    offset_seed: int,
    shape: tuple[int, int, int],
    frames: int,
    steps: int,
    *,
    window: int = 16,
    encodes: bool = True,
) -> ClipNoise:
    """The published order of draws, from its three sources (spec 8.2).

    seed: of the generator that draws the posterior, then the mask, both with a reference frame.
    ambient_seed, offset_seed: F (quirk 6), of torch's and Python's global generators, which the original
        never seeds. The first gives one number to the blur, which ignores it, then the noise.
    encodes: False where the reference came as latents, so that no posterior is drawn (it is 0 here).
    """
    own, ambient = InOrder(seeded(seed)), InOrder(seeded(ambient_seed))
    with_reference = _clip_shape(shape, frames + 1)
    posterior = own.normal("posterior", (1, *shape)) if encodes else torch.zeros(1, *shape)
    uniform = own.uniform("blur mask", with_reference)
    ambient.uniform("sigma of the blur", (1,))
    normal = ambient.normal("noise", with_reference)
    offsets = window_offsets(offset_seed, steps, window)
    return ClipNoise(posterior, uniform[:, :, 1:], normal[:, :, 1:], offsets)


def window_offsets(seed: int, steps: int, window: int = 16) -> tuple[int, ...]:
    """One offset in 0 ... window - 1 per step. K (quirk 8): drawn for short clips too."""
    source = random.Random(seed)
    return tuple(source.randint(0, window - 1) for _ in range(steps))


def initial_latents(reference: Tensor, noise: ClipNoise, schedule: Schedule, t: int) -> Tensor:
    """Where sampling starts: [1, c, F, h, w], float32, sampler units, without the reference frame.

    reference: [1, c, 1, h, w], scaled. t: the first timestep that runs.
    """
    frames = downgraded(reference.float(), noise.uniform.to(reference.device))
    return schedule.add_noise(frames, noise.normal.to(reference.device), t)


def downgraded(reference: Tensor, uniform: Tensor) -> Tensor:
    """The reference [1, c, 1, h, w] for each frame of ``uniform`` [1, c, F, h, w], half of it blurred."""
    return torch.where(uniform >= KEEP_FROM, reference, blurred(reference[:, :, 0])[:, :, None])


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


def _clip_shape(shape: tuple[int, int, int], frames: int) -> tuple[int, ...]:
    channels, height, width = shape
    return 1, channels, frames, height, width
