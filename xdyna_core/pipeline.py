"""X-Dyna, from a picture and poses to a video: encode, conditions, noise, denoise, decode (X-Dyna spec 1, 8).

The stages can be called one by one; ``animate`` is their sequence. A network is where it runs only while its
stage needs it: ``placed`` gives the block for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..video_core.clip import ClipVision, cropped_pixels
from ..video_core.images import Size, unit
from ..video_core.noise import Order
from ..video_core.placement import Placed, running_on
from ..video_core.samplers import OnStep
from ..video_core.schedule import linear_schedule
from ..video_core.vae import Vae, decode
from .controlnet import ControlNet
from .face import FaceMaps
from .frames import control_images, face_control, fit_pose, fit_reference
from .image_prompt import Resampler
from .noise import draw, initial_latents
from .sample import (
    PIXELS_PER_LATENT,
    Conditions,
    Control,
    SampleSettings,
    Span,
    branch_denoiser,
    sample_clip,
)
from .unet import XDynaUNet


@dataclass(frozen=True)
class Models:
    """The networks, and the features of the empty text, [1, 77, context_dim].

    pose, face: ControlNets of 3 and 6 control channels; None goes without.
    """

    unet: XDynaUNet
    vae: Vae
    clip: ClipVision
    resampler: Resampler
    empty_text: Tensor
    pose: ControlNet | None = None
    face: ControlNet | None = None


@dataclass(frozen=True)
class Inputs:
    """What a clip is made from; pictures are uint8 RGB [h, w, 3].

    reference: whom to animate, of any size; cropped to the clip's shape, whole for CLIP (K, quirk 21).
    poses: one per frame of the clip, drawn as the network knows them; squeezed to the clip's size.
    faces: S-Face maps of the same frames, all that is taken of the driving video; None goes without.
    prompt, negative: text features [1, 77, context_dim] or a multiple of 77; None is the empty text.
    """

    reference: np.ndarray
    poses: Sequence[np.ndarray]
    faces: FaceMaps | None = None
    prompt: Tensor | None = None
    negative: Tensor | None = None


@dataclass(frozen=True)
class Settings:
    """All choices about a clip; the defaults are the published ones, the order of draws excepted.

    seed: fixes the whole result. size: (width, height) in pixels.
    pose, face: when the ControlNets act. adapter: the Dynamics-Adapter, which reads the reference.
    image_prompt: the reference's CLIP tokens. order: of random draws. stretch: of control images.
    """

    seed: int = 42
    size: Size = (512, 896)
    pose: Span = Span()
    face: Span = Span()
    adapter: Span = Span()
    image_prompt: Span = Span()
    order: Order = "per_frame"
    stretch: Literal["clip", "none"] = "clip"
    sampling: SampleSettings = field(default_factory=SampleSettings)


@dataclass(frozen=True)
class Encoded:
    """The reference as the networks see it.

    image: [1, image tokens, context_dim], tokens of the picture. blank: the same of CLIP's zero picture.
    latents: [1, c, 1, h, w] in sampler units.
    """

    image: Tensor
    blank: Tensor
    latents: Tensor


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
    total) hear of progress and may raise to stop. The reference is encoded here; denoising begins with the
    first frame that is asked for. Frames come as soon as they are finished, so that those before an error
    are kept; a NonFiniteError carries the last latents.
    """
    placed = placed or running_on("cpu")
    check(models, inputs, settings)
    width, height = (side // PIXELS_PER_LATENT for side in settings.size)
    shape = (models.unet.config.in_channels, len(inputs.poses), height, width)
    timesteps = settings.sampling.timesteps()
    draws = draw(settings.seed, shape, len(timesteps), settings.order, window=settings.sampling.window)

    encoded = encode(models, inputs.reference, settings.size, draws.posterior, placed)
    told = conditions(models, encoded, inputs, settings)
    noise = initial_latents(encoded.latents, draws, linear_schedule(), timesteps[0])

    callbacks = {"on_step": on_step, "on_window": on_window}
    clip = denoise(models.unet, told, noise, draws.offsets, settings.sampling, placed, **callbacks)
    return chain.from_iterable(map(partial(decode, models.vae, placed), clip))


def check(models: Models, inputs: Inputs, settings: Settings) -> None:
    """Raise ValueError, before any network runs, for inputs and settings that cannot become a clip."""
    frames, longest = len(inputs.poses), models.unet.config.motion_max_frames
    if not frames:
        raise ValueError("There are no poses, and a clip has one frame per pose; give at least one.")
    if any(side < PIXELS_PER_LATENT or side % PIXELS_PER_LATENT for side in settings.size):
        width, height = settings.size
        raise ValueError(
            f"X-Dyna's videos have sides that are multiples of {PIXELS_PER_LATENT}; "
            f"{width} x {height} was given."
        )
    if min(frames, settings.sampling.window) > longest:
        raise ValueError(
            f"A window of {settings.sampling.window} frames was asked for, and X-Dyna's motion modules know "
            f"{longest}; use windows of at most that many frames (16 as published)."
        )
    if inputs.faces is not None and len(inputs.faces.local) != frames:
        raise ValueError(
            f"There are {len(inputs.faces.local)} face maps for {frames} poses; "
            "both must come from the same frames of the same clip."
        )
    if inputs.faces is not None and models.face is None:
        raise ValueError("Face maps were given without a face ControlNet; load one, or leave the maps out.")


@torch.no_grad()
def encode(models: Models, reference: np.ndarray, size: Size, posterior: Tensor, placed: Placed) -> Encoded:
    """The reference through CLIP, Resampler and autoencoder (X-Dyna spec 1).

    posterior: [1, c, h, w], standard normal. K (quirk 20): the posterior is sampled, not its mean taken.
    """
    pictures = torch.cat([cropped_pixels(reference, models.clip.config.image_size), models.clip.blank()])
    with placed(models.clip) as device:
        features = models.clip.encode(pictures, device).penultimate
    with placed(models.resampler) as device:
        dtype = models.resampler.proj_in.weight.dtype
        image, blank = models.resampler(features.to(device, dtype)).to("cpu", torch.float32).split(1)
    picture = unit([fit_reference(reference, size)])
    with placed(models.vae) as device:
        latents = models.vae.encode(picture, noise=posterior, device=device)
    return Encoded(image, blank, latents)


def conditions(models: Models, encoded: Encoded, inputs: Inputs, settings: Settings) -> Conditions:
    """What the branches (uncond, cond), or (cond,), are told, once for the whole clip (X-Dyna spec 1, 6).

    K (quirk 2, 4): the branches differ in text and image tokens only, not in reference or controls.
    """
    text = models.empty_text if inputs.prompt is None else inputs.prompt
    negative = models.empty_text if inputs.negative is None else inputs.negative
    negative, text = _as_long_as_each_other(negative, text)
    branches = [torch.cat([text, encoded.image], dim=1)]
    if settings.sampling.guided:
        branches.insert(0, torch.cat([negative, encoded.blank], dim=1))
    controls = []
    if models.pose is not None:
        squeezed = (fit_pose(pose, settings.size) for pose in inputs.poses)
        poses = control_images(squeezed, settings.size, stretch=settings.stretch)
        controls.append(Control(models.pose, poses, settings.pose))
    if models.face is not None and inputs.faces is not None:
        maps = (inputs.faces.local, inputs.faces.whole)
        images = [control_images(clip, settings.size, stretch=settings.stretch) for clip in maps]
        controls.append(Control(models.face, face_control(*images), settings.face))
    return Conditions(
        encoded.latents, torch.cat(branches), tuple(controls), settings.adapter, settings.image_prompt
    )


def denoise(
    unet: XDynaUNet,
    told: Conditions,
    noise: Tensor,
    offsets: Sequence[int],
    settings: SampleSettings,
    placed: Placed,
    *,
    on_step: OnStep | None = None,
    on_window: Callable[[int, int], None] | None = None,
) -> Iterator[Tensor]:
    """Latents [1, c, F, h, w] in sampler units, the whole clip at once, of ``initial_latents``.

    offsets: of the windows, one per step (``ClipDraws.offsets``).
    """
    told.check(*noise.shape[2:])
    with ExitStack() as residency, torch.no_grad():
        device = residency.enter_context(placed(unet))
        for control in told.controls:
            residency.enter_context(placed(control.network))
        clip = sample_clip(
            branch_denoiser(unet, told.to(device), settings.timesteps(), together=settings.together),
            noise.to(device),
            settings,
            offsets,
            on_step=on_step,
            on_window=on_window,
        )
    yield clip


def _as_long_as_each_other(*texts: Tensor) -> list[Tensor]:
    """Text features repeated to a common length, which attention does not notice."""
    length = math.lcm(*(text.shape[1] for text in texts))
    return [text.repeat(1, length // text.shape[1], 1) for text in texts]
