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

import numpy as np
import torch
from torch import Tensor

from ..video_core.clip import ClipVision, cropped_pixels
from ..video_core.deep import DeepFeatures
from ..video_core.fast import compiled
from ..video_core.images import Size, check_sides, unit
from ..video_core.noise import Order
from ..video_core.placement import Placed, free_bytes, running_on
from ..video_core.progress import NOWHERE, Journal
from ..video_core.samplers import OnStep
from ..video_core.schedule import linear_schedule
from ..video_core.storage import IN_MEMORY, Storage
from ..video_core.vae import Posterior, Vae, decode
from ..video_core.windows import WindowDenoiser
from .controlnet import ControlNet
from .face import FaceMaps
from .frames import Stretch, control_images, face_control, fit_pose, fit_reference
from .image_prompt import Resampler
from .motion import MotionModule
from .noise import draw, initial_latents
from .resnet import ResnetBlock
from .sample import (
    PIXELS_PER_LATENT,
    Conditions,
    Control,
    SampleSettings,
    Span,
    branch_denoiser,
    sample_clip,
    settled,
)
from .transformer import SpatialTransformer
from .unet import XDynaUNet

COMPILED = (ResnetBlock, SpatialTransformer, MotionModule)
"""Kinds of layers that ``Fast.compile`` compiles."""


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
    stretch: Stretch = "clip"
    sampling: SampleSettings = field(default_factory=SampleSettings)


@dataclass(frozen=True)
class Encoded:
    """The reference as the networks see it.

    image: [1, image tokens, context_dim], tokens of the picture. blank: the same of CLIP's zero picture.
    posterior: of its latents [1, c, h, w].
    """

    image: Tensor
    blank: Tensor
    posterior: Posterior


@dataclass(frozen=True)
class Told:
    """What the networks are told of a clip, all but the reference's latents, which come with the noise.

    context: [2, text + image tokens, context_dim], the branches (uncond, cond) of guidance.
    controls, adapter, image_prompt: see ``Conditions``.
    """

    context: Tensor
    controls: tuple[Control, ...] = ()
    adapter: Span = Span()
    image_prompt: Span = Span()

    def conditions(self, reference: Tensor, guided: bool) -> Conditions:
        """Both branches, or cond alone. reference: latents [1, c, 1, h, w] in sampler units."""
        context = self.context if guided else self.context[1:]
        return Conditions(reference, context, self.controls, self.adapter, self.image_prompt)


def animate(
    models: Models,
    inputs: Inputs,
    settings: Settings,
    placed: Placed | None = None,
    *,
    on_step: OnStep | None = None,
    on_window: Callable[[int, int], None] | None = None,
    journal: Journal = NOWHERE,
    storage: Storage = IN_MEMORY,
) -> Iterator[Tensor]:
    """Frames float32 [f, H, W, 3] in 0..1 on the CPU, a few at a time, as many as there are poses.

    placed: where networks run, the CPU unless given. on_step(done, total, latents, x0) and on_window(done,
    total) hear of progress and may raise to stop. journal: keeps how far denoising has come, and a run that
    was cut off goes on from there. storage: where what has the length of the clip lies. The reference is encoded
    here; denoising begins with the first frame that is asked for. Frames come as soon as they are finished, so
    that those before an error are kept; a NonFiniteError carries the last latents.
    """
    placed = placed or running_on("cpu")
    check(models, inputs, settings)
    width, height = (side // PIXELS_PER_LATENT for side in settings.size)
    shape = (models.unet.config.in_channels, len(inputs.poses), height, width)
    timesteps = settings.sampling.timesteps()
    order = {"order": settings.order, "window": settings.sampling.window, "storage": storage}
    draws = draw(settings.seed, shape, len(timesteps), **order)

    encoded = encode(models, inputs.reference, settings.size, placed)
    told = conditions(models, encoded, inputs, settings)
    # K (quirk 20): the posterior is sampled, not its mean taken.
    reference = encoded.posterior.latents(draws.posterior)
    noise = initial_latents(reference, draws, linear_schedule(), timesteps[0], storage=storage)

    how = {"on_step": on_step, "on_window": on_window, "journal": journal, "storage": storage}
    clip = denoise(models.unet, told, reference, noise, draws.offsets, settings.sampling, placed, **how)
    return chain.from_iterable(map(partial(decode, models.vae, placed, storage=storage), clip))


def check(models: Models, inputs: Inputs, settings: Settings) -> None:
    """Raise ValueError, before any network runs, for inputs and settings that cannot become a clip."""
    frames, longest = len(inputs.poses), models.unet.config.motion_max_frames
    if not frames:
        raise ValueError("There are no poses, and a clip has one frame per pose; give at least one.")
    check_size(settings.size)
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


def check_size(size: Size) -> None:
    """Raise ValueError for a (width, height) that the autoencoder cannot bring into latents."""
    check_sides(size, PIXELS_PER_LATENT, "X-Dyna")


def encode(models: Models, reference: np.ndarray, size: Size, placed: Placed) -> Encoded:
    """The reference through CLIP, Resampler and autoencoder (X-Dyna spec 1)."""
    image, blank = image_tokens(models.clip, models.resampler, reference, placed)
    picture = unit([fit_reference(reference, size)])
    with placed(models.vae) as device:
        posterior = models.vae.encode_posterior(picture, device=device)
    return Encoded(image, blank, posterior)


@torch.no_grad()
def image_tokens(
    clip: ClipVision, resampler: Resampler, reference: np.ndarray, placed: Placed
) -> tuple[Tensor, Tensor]:
    """The tokens of the reference and of CLIP's zero picture, [1, image tokens, context_dim] each.

    Raises ValueError for an image tower whose features the Resampler does not know.
    """
    pictures = torch.cat([cropped_pixels(reference, clip.config.image_size), clip.blank()])
    with placed(clip) as device:
        features = clip.encode(pictures, device).penultimate
    wanted = resampler.config.embedding_dim
    if features.shape[-1] != wanted:
        raise ValueError(
            f"This CLIP image tower gives features of {features.shape[-1]} values, the IP-Adapter takes "
            f"{wanted}; choose the one that belongs to it (CLIP-ViT-H-14 for ip-adapter-plus_sd15)."
        )
    with placed(resampler) as device:
        dtype = resampler.proj_in.weight.dtype
        image, blank = resampler(features.to(device, dtype)).to("cpu", torch.float32).split(1)
    return image, blank


def conditions(models: Models, encoded: Encoded, inputs: Inputs, settings: Settings) -> Told:
    """What the branches are told, once for the whole clip (X-Dyna spec 1, 6).

    K (quirk 2, 4): the branches differ in text and image tokens only, not in reference or controls.
    """
    text = models.empty_text if inputs.prompt is None else inputs.prompt
    negative = models.empty_text if inputs.negative is None else inputs.negative
    context = branches(text, negative, encoded.image, encoded.blank)
    controls = []
    if models.pose is not None:
        controls.append(
            pose_control(models.pose, inputs.poses, settings.size, settings.pose, settings.stretch)
        )
    if models.face is not None and inputs.faces is not None:
        maps = (inputs.faces.local, inputs.faces.whole)
        controls.append(faces_control(models.face, *maps, settings.size, settings.face, settings.stretch))
    return Told(context, tuple(controls), settings.adapter, settings.image_prompt)


def branches(text: Tensor, negative: Tensor, image: Tensor, blank: Tensor) -> Tensor:
    """The context of (uncond, cond), [2, text + image tokens, dim] (X-Dyna spec 1)."""
    negative, text = _as_long_as_each_other(negative, text)
    return torch.cat([torch.cat([negative, blank], dim=1), torch.cat([text, image], dim=1)])


def pose_control(
    network: ControlNet, poses: Sequence[np.ndarray], size: Size, span: Span, stretch: Stretch = "clip"
) -> Control:
    """The pose ControlNet on drawn poses uint8 RGB, squeezed to the clip's size (X-Dyna spec 6, 9.2)."""
    return Control(network, control_images(poses, size, partial(fit_pose, size=size), stretch=stretch), span)


def faces_control(
    network: ControlNet,
    local: Sequence[np.ndarray],
    whole: Sequence[np.ndarray],
    size: Size,
    span: Span,
    stretch: Stretch = "clip",
) -> Control:
    """The face ControlNet on S-Face maps uint8 RGB, local and global (X-Dyna spec 6, 9.4)."""
    images = [control_images(clip, size, stretch=stretch) for clip in (local, whole)]
    return Control(network, face_control(*images), span)


def denoise(
    unet: XDynaUNet,
    told: Told,
    reference: Tensor,
    noise: Tensor,
    offsets: Sequence[int],
    settings: SampleSettings,
    placed: Placed,
    *,
    on_step: OnStep | None = None,
    on_window: Callable[[int, int], None] | None = None,
    journal: Journal = NOWHERE,
    storage: Storage = IN_MEMORY,
) -> Iterator[Tensor]:
    """Latents [1, c, F, h, w] in sampler units on the CPU, the whole clip at once, of ``initial_latents``.

    reference: latents [1, c, 1, h, w] in sampler units. offsets: of the windows, one per step
    (``ClipDraws.offsets``).
    """
    told.conditions(reference, settings.guided).check(*noise.shape[2:])
    progress = journal.part(0)
    clip = progress.finished()
    if clip is not None:
        yield clip
        return
    with ExitStack() as residency, torch.no_grad():
        device = residency.enter_context(placed(unet))
        for control in told.controls:
            if control.span.strength > 0:
                residency.enter_context(placed(control.network))
        frames, *size = noise.shape[2:]
        settings = settled(settings, unet, *size, frames, free_bytes(device))
        timesteps, fast = settings.timesteps(), settings.fast
        if fast.compile:
            networks = [unet, *(control.network for control in told.controls)]
            residency.enter_context(compiled(networks, COMPILED))

        def under(guided: bool) -> WindowDenoiser:
            return branch_denoiser(
                unet,
                told.conditions(reference, guided).to(device),
                timesteps,
                together=settings.together,
                reuse=settings.reuse,
                windows_at=settings.windows_at(frames, offsets),
                deep=DeepFeatures(timesteps, fast.reuse_every, frames, storage),
            )

        alone = under(False) if settings.guided and not fast.always_guided else None
        callbacks = {"on_step": on_step, "on_window": on_window, "progress": progress}
        clip = sample_clip(
            under(settings.guided), noise, settings, offsets, alone=alone, storage=storage, **callbacks
        )
    progress.finish(clip)
    yield clip


def _as_long_as_each_other(*texts: Tensor) -> list[Tensor]:
    """Text features repeated to a common length, which attention does not notice."""
    length = math.lcm(*(text.shape[1] for text in texts))
    return [text.repeat(1, length // text.shape[1], 1) for text in texts]
