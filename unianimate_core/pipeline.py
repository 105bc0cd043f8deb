"""UniAnimate, from a picture and poses to a video: encode, conditions, noise, denoise, decode (spec 2).

The stages can be called one by one; ``animate`` is their sequence. A network is where it runs only while its
stage needs it: ``placed`` gives the block for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..video_core.clip import ClipVision, squashed_pixels
from ..video_core.images import Size, resize, unit
from ..video_core.placement import Placed, running_on
from ..video_core.samplers import OnStep
from ..video_core.schedule import zero_terminal_snr_schedule
from ..video_core.vae import Vae, decode
from .noise import NoiseSettings, UnifiedNoise, draw, unified_noise
from .sample import SampleSettings, branch_denoiser, continued, sample_clip
from .unet import PIXELS_PER_LATENT, Conditions, UniAnimateUNet

Decoder = Callable[[Tensor], Iterator[Tensor]]
"""Latents [1, c, F, h, w] in sampler units -> frames float32 [f, H, W, 3] in 0..1, a few at a time."""

FRAMES_AT_ONCE = 16
"""Pose pictures in one pass of the conditioning towers, which run at full pixel resolution."""


@dataclass(frozen=True)
class Models:
    """The networks, and the features of the empty text, [1, 77, context_dim] (spec 2.2)."""

    unet: UniAnimateUNet
    vae: Vae
    clip: ClipVision
    empty_text: Tensor


@dataclass(frozen=True)
class Inputs:
    """What a clip is made from: uint8 RGB pictures [h, w, 3] of any size.

    K: they are stretched to the clip's size, whatever their proportions (spec 2.1).
    reference: whom to animate. reference_pose: that person's pose. poses: one per frame of the clip, aligned
    to the reference's; all of them drawn as the network knows them.
    """

    reference: np.ndarray
    reference_pose: np.ndarray
    poses: Sequence[np.ndarray]


@dataclass(frozen=True)
class Settings:
    """All choices about a clip; the defaults are the published ones.

    seed: fixes the whole result. size: (width, height) in pixels.
    first_frame: the reference is frame 0 itself, and the clip goes on from there (spec 2.4).
    noise: None is the published noise of the sampling mode.
    """

    seed: int = 11
    size: Size = (512, 768)
    first_frame: bool = False
    noise: NoiseSettings | None = None
    sampling: SampleSettings = field(default_factory=SampleSettings)

    @property
    def noise_used(self) -> NoiseSettings:
        """The noise, with its default resolved."""
        return self.noise or NoiseSettings(flow="long" if self.sampling.mode == "windows" else "short")


@dataclass(frozen=True)
class Encoded:
    """The reference as the networks see it.

    text: [1, 77, context_dim], the empty text. image: [1, 1, context_dim], CLIP's embedding of the picture.
    latents: [1, c, 1, h, w] in sampler units. picture: [1, 3, 1, 8h, 8w] in 0..1.
    """

    text: Tensor
    image: Tensor
    latents: Tensor
    picture: Tensor


def animate(
    models: Models,
    inputs: Inputs,
    settings: Settings,
    placed: Placed | None = None,
    *,
    on_step: OnStep | None = None,
    on_window: Callable[[int, int], None] | None = None,
) -> Iterator[Tensor]:
    """Frames float32 [f, H, W, 3] in 0..1 on the CPU, a few at a time, as many as there are poses.

    placed: where networks run, the CPU unless given. on_step(done, total, latents, x0) and on_window(done,
    total) hear of progress and may raise to stop. The reference and the poses are encoded here; denoising
    begins with the first frame that is asked for. Frames come as soon as they are finished, so that those
    before an error are kept; a NonFiniteError carries the last latents.
    """
    placed = placed or running_on("cpu")
    check(models, inputs, settings)
    width, height = (side // PIXELS_PER_LATENT for side in settings.size)
    shape = (models.unet.config.in_dim, len(inputs.poses), height, width)
    draws = draw(settings.seed, shape, settings.noise_used.order)

    encoded = encode(models, inputs.reference, settings.size, draws.posterior, placed)
    branches = conditions(models, encoded, inputs, settings, placed)
    noise = unified_noise(draws, encoded.latents, zero_terminal_snr_schedule(), settings.noise_used)
    if settings.first_frame:
        noise = noise.continuing(encoded.picture)

    decoder = partial(decode, models.vae, placed)
    callbacks = {"on_step": on_step, "on_window": on_window}
    clip = denoise(models.unet, branches, noise, settings.sampling, placed, decoder=decoder, **callbacks)
    return chain.from_iterable(map(decoder, clip))


def check(models: Models, inputs: Inputs, settings: Settings) -> None:
    """Raise ValueError, before any network runs, for inputs and settings that cannot become a clip."""
    if not len(inputs.poses):
        raise ValueError("There are no poses, and a clip has one frame per pose; give at least one.")
    multiple = PIXELS_PER_LATENT * models.unet.config.stride
    if any(side < multiple or side % multiple for side in settings.size):
        width, height = settings.size
        nearest = " x ".join(str(max(round(side / multiple), 1) * multiple) for side in settings.size)
        raise ValueError(
            f"UniAnimate's videos have sides that are multiples of {multiple}; {width} x {height} was given. "
            f"Take {nearest}, say."
        )
    _check_first_frame(settings.first_frame, len(inputs.poses), settings.sampling)


def encode(models: Models, reference: np.ndarray, size: Size, posterior: Tensor, placed: Placed) -> Encoded:
    """The reference through CLIP and autoencoder (spec 2.2).

    posterior: [1, c, h, w], standard normal. K: the posterior is sampled, not its mean taken.
    """
    with placed(models.clip) as device:
        image = models.clip.encode(squashed_pixels(reference, models.clip.config.image_size), device).embeds
    picture = unit([resize(reference, size, "bilinear")])
    with placed(models.vae) as device:
        latents = models.vae.encode(picture, noise=posterior, device=device)
    return Encoded(
        models.empty_text,
        rearrange(image, "b c -> b 1 c"),
        latents,
        rearrange(picture, "f h w c -> 1 c f h w"),
    )


@torch.no_grad()
def conditions(
    models: Models, encoded: Encoded, inputs: Inputs, settings: Settings, placed: Placed
) -> list[Conditions]:
    """What the branches (uncond, cond), or (cond,), are told, once for the whole clip (spec 2.4).

    K: the unconditional branch has the empty text and zeros for everything else.
    """
    pictures = (resize(pose, settings.size, "bilinear") for pose in (inputs.reference_pose, *inputs.poses))
    poses = torch.stack([torch.from_numpy(picture) for picture in pictures])
    with placed(models.unet):
        cond = models.unet.encode_conditions(
            zero_y=encoded.text,
            image=encoded.image,
            randomref=encoded.latents,
            dwpose=rearrange(poses, "f h w c -> 1 c f h w"),
            frames_at_once=FRAMES_AT_ONCE,
        )
        uncond = models.unet.encode_conditions(zero_y=encoded.text)
    return [uncond, cond] if settings.sampling.guided else [cond]


def denoise(
    unet: UniAnimateUNet,
    branches: Sequence[Conditions],
    noise: UnifiedNoise,
    settings: SampleSettings,
    placed: Placed,
    *,
    decoder: Decoder,
    on_step: OnStep | None = None,
    on_window: Callable[[int, int], None] | None = None,
) -> Iterator[Tensor]:
    """Latents [1, c, f, h, w] in sampler units: the whole clip, or one segment after the other.

    decoder: makes the picture that a further segment continues (spec 2.6); unused in the other modes.
    """
    _check_first_frame(noise.first_frame is not None, noise.frames, settings)
    parts = settings.parts(noise.frames)

    def run(part: range, picture: Tensor | None) -> Tensor:
        with placed(unet) as device:
            told = [branch.windows([part]) for branch in branches]
            if picture is not None:
                told[-1] = _continuing(unet, told[-1], picture, keep_reference=part[0] > 0)
            return sample_clip(
                branch_denoiser(unet, told, settings.together),
                noise.latents[:, :, part.start : part.stop].to(device),
                settings,
                on_step=_of_parts(on_step, parts.index(part), len(parts)),
                on_window=on_window,
            )

    def picture_of(latents: Tensor) -> Tensor:
        return rearrange(torch.cat(list(decoder(latents))), "f h w c -> 1 c f h w")

    return continued(run, picture_of, parts, noise.first_frame)


@torch.no_grad()
def _continuing(
    unet: UniAnimateUNet, told: Conditions, picture: Tensor, *, keep_reference: bool
) -> Conditions:
    """The conditions of a run whose frame 0 is this picture, [1, 3, 1, 8h, 8w].

    K: without the reference where the clip starts from a first frame, as published (spec 2.4). With it
    where a segment goes on, as the paper has it, so that identity does not drift (spec 2.6).
    """
    features = unet.encode_first_frame(picture)
    return replace(told, first_frame=features, reference=told.reference if keep_reference else None)


def _of_parts(on_step: OnStep | None, part: int, parts: int) -> OnStep | None:
    """A callback for one of several runs, which counts the steps of all of them."""
    if on_step is None or parts == 1:
        return on_step
    return lambda done, total, latents, x0: on_step(part * total + done, parts * total, latents, x0)


def _check_first_frame(given: bool, frames: int, settings: SampleSettings) -> None:
    """F: the original's windows would each be pulled towards the first frame (spec 2.6)."""
    if given and settings.mode == "windows" and frames > settings.window:
        raise ValueError(
            f"A first frame belongs to one window of {settings.window} frames, and this clip has {frames}: "
            "every window would start from it. Use the mode 'continuation', or 'short' for one piece."
        )
