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
from ..video_core.deep import DeepFeatures
from ..video_core.fast import compiled
from ..video_core.images import Size, check_sides, resize, unit
from ..video_core.placement import Placed, free_bytes, running_on, smaller_on_oom
from ..video_core.progress import NOWHERE, Journal, Progress
from ..video_core.samplers import OnStep
from ..video_core.schedule import zero_terminal_snr_schedule
from ..video_core.storage import IN_MEMORY, Storage
from ..video_core.vae import Posterior, Vae, decode
from ..video_core.windows import WindowDenoiser
from .blocks import ResBlock, SpatialTransformer
from .noise import NoiseSettings, UnifiedNoise, draw, unified_noise
from .sample import SampleSettings, branch_denoiser, continued, sample_clip, settled
from .temporal import TemporalTransformer
from .unet import PIXELS_PER_LATENT, Conditions, UniAnimateUNet

COMPILED = (ResBlock, SpatialTransformer, TemporalTransformer)
"""Kinds of layers that ``Fast.compile`` compiles."""

Decoder = Callable[[Tensor], Iterator[Tensor]]
"""Latents [1, c, F, h, w] in sampler units -> frames float32 [f, H, W, 3] in 0..1, a few at a time."""

FRAMES_AT_ONCE = 16
"""Pose pictures in one pass of the conditioning towers, which run at full pixel resolution."""

TOWER_TENSORS = 2.5
"""Tensors of such a pass (pictures x height x width x tower width) that are alive at once at most: 2.2."""


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
    reference: whom to animate. reference_pose: that person's pose; None goes without. poses: one per frame of
    the clip, aligned to the reference's; all of them drawn as the network knows them.
    """

    reference: np.ndarray
    reference_pose: np.ndarray | None
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
    posterior: of its latents [1, c, h, w]. picture: [1, 3, 1, 8h, 8w] in 0..1.
    """

    text: Tensor
    image: Tensor
    posterior: Posterior
    picture: Tensor


@dataclass(frozen=True)
class Told:
    """What the network is told of a clip, all but the reference's latents, which come with the noise.

    uncond, cond: the branches of guidance. reference_pose: uint8 [1, 3, 1, 8h, 8w], or None.
    """

    uncond: Conditions
    cond: Conditions
    reference_pose: Tensor | None = None

    def branches(
        self, unet: UniAnimateUNet, frames: range, reference: Tensor | None, picture: Tensor | None = None
    ) -> list[Conditions]:
        """(uncond, cond) of some of the clip's frames; features of frames stay where they are.

        reference: latents [1, c, 1, h, w] in sampler units. picture: [1, 3, 1, 8h, 8w] that ``frames[0]``
        continues. K: with a first frame the clip starts without the reference, as published (spec 2.4). A
        later segment has both, as the paper has it, so that identity does not drift (spec 2.6).
        """
        starts = picture is not None and frames[0] == 0
        slot = unet.encode_reference(None if starts else reference, self.reference_pose)
        first = None if picture is None else unet.encode_first_frame(picture)
        cond = replace(self.cond.part(frames), reference=slot, first_frame=first)
        return [self.uncond.part(frames), cond]


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
    was cut off goes on from there. storage: where what has the length of the clip lies. The reference and the
    poses are encoded here; denoising begins with the first frame that is asked for. Frames come as soon as they
    are finished, so that those before an error are kept; a NonFiniteError carries the last latents.
    """
    placed = placed or running_on("cpu")
    check(models, inputs, settings)
    width, height = (side // PIXELS_PER_LATENT for side in settings.size)
    shape = (models.unet.config.in_dim, len(inputs.poses), height, width)
    draws = draw(settings.seed, shape, settings.noise_used.order, storage)

    encoded = encode(models, inputs.reference, settings.size, placed)
    told = conditions(models.unet, encoded, inputs, settings.size, placed, storage)
    # K: the posterior is sampled, not its mean taken (spec 2.2).
    reference = encoded.posterior.latents(draws.posterior)
    noise = unified_noise(draws, reference, zero_terminal_snr_schedule(), settings.noise_used, storage)
    if settings.first_frame:
        noise = noise.continuing(encoded.picture)

    decoder = partial(decode, models.vae, placed, storage=storage)
    how = {"on_step": on_step, "on_window": on_window, "journal": journal, "storage": storage}
    clip = denoise(models.unet, told, noise, settings.sampling, placed, decoder=decoder, **how)
    return chain.from_iterable(map(decoder, clip))


def check(models: Models, inputs: Inputs, settings: Settings) -> None:
    """Raise ValueError, before any network runs, for inputs and settings that cannot become a clip."""
    check_clip(models.unet, inputs, settings.size)
    _check_first_frame(settings.first_frame, len(inputs.poses), settings.sampling)


def check_clip(unet: UniAnimateUNet, inputs: Inputs, size: Size) -> None:
    """Raise ValueError for a clip without poses, or of a size that the network does not make."""
    if not len(inputs.poses):
        raise ValueError("There are no poses, and a clip has one frame per pose; give at least one.")
    check_sides(size, PIXELS_PER_LATENT * unet.config.stride, "UniAnimate")


def encode(models: Models, reference: np.ndarray, size: Size, placed: Placed) -> Encoded:
    """The reference through CLIP and autoencoder (spec 2.2)."""
    with placed(models.clip) as device:
        image = models.clip.encode(squashed_pixels(reference, models.clip.config.image_size), device).embeds
    picture = fitted(reference, size)
    with placed(models.vae) as device:
        posterior = models.vae.encode_posterior(rearrange(picture, "1 c f h w -> f h w c"), device=device)
    return Encoded(models.empty_text, rearrange(image, "b c -> b 1 c"), posterior, picture)


def fitted(picture: np.ndarray, size: Size) -> Tensor:
    """A uint8 RGB picture as the clip's: [1, 3, 1, 8h, 8w] in 0..1. K: stretched to its size (spec 2.1)."""
    return rearrange(unit([resize(picture, size, "bilinear")]), "f h w c -> 1 c f h w")


def tower_bytes(unet: UniAnimateUNet, size: Size) -> int:
    """Memory that ``conditions`` needs beside the weights, for a clip of that size and any length."""
    pixels = FRAMES_AT_ONCE * size[0] * size[1]
    return int(TOWER_TENSORS * pixels * unet.config.tower_dim * unet.dtype.itemsize)


@torch.no_grad()
def conditions(
    unet: UniAnimateUNet,
    encoded: Encoded,
    inputs: Inputs,
    size: Size,
    placed: Placed,
    storage: Storage = IN_MEMORY,
) -> Told:
    """What the branches are told, once for the whole clip, on the CPU (spec 2.4).

    storage: of the poses' features, which are as many as there are frames. K: the unconditional branch has the
    empty text and zeros for everything else.
    """
    _check_widths(unet, encoded)
    with placed(unet):
        # No more than a few poses are pixels at any time; what is kept of them is of latent size.
        features = _pose_features(unet, inputs.poses, size, storage)
        cond = unet.encode_conditions(zero_y=encoded.text, image=encoded.image)
        uncond = unet.encode_conditions(zero_y=encoded.text)
    cond = replace(cond.to("cpu"), pose=features)
    own = None if inputs.reference_pose is None else _poses([inputs.reference_pose], size)
    return Told(uncond.to("cpu"), cond, own)


def _poses(pictures: Sequence[np.ndarray], size: Size) -> Tensor:
    """uint8 [1, 3, f, 8h, 8w] of drawn poses, stretched to the clip's size."""
    resized = [torch.from_numpy(resize(picture, size, "bilinear")) for picture in pictures]
    return rearrange(resized, "f h w c -> 1 c f h w")


def _pose_features(
    unet: UniAnimateUNet, pictures: Sequence[np.ndarray], size: Size, storage: Storage
) -> Tensor:
    """[1, c, F, h, w] on the CPU, made a few frames at a time, and fewer where memory runs out."""
    done, at_once = 0, FRAMES_AT_ONCE
    whole: Tensor | None = None
    while done < len(pictures):

        def attempt(count: int, first: int = done) -> Tensor:
            some = [pictures[i] for i in range(first, min(first + count, len(pictures)))]
            return unet.encode_poses(_poses(some, size)).cpu()

        features, at_once = smaller_on_oom(attempt, at_once)
        if whole is None:
            shape = *features.shape[:2], len(pictures), *features.shape[3:]
            whole = storage.zeros(shape, features.dtype)
        whole[:, :, done : done + features.shape[2]] = features
        done += features.shape[2]
        storage.tidy()
    return whole


def denoise(
    unet: UniAnimateUNet,
    told: Told,
    noise: UnifiedNoise,
    settings: SampleSettings,
    placed: Placed,
    *,
    decoder: Decoder,
    on_step: OnStep | None = None,
    on_window: Callable[[int, int], None] | None = None,
    journal: Journal = NOWHERE,
    storage: Storage = IN_MEMORY,
) -> Iterator[Tensor]:
    """Latents [1, c, f, h, w] in sampler units on the CPU: the whole clip, or one segment after the other.

    decoder: makes the picture that a further segment continues (spec 2.6); unused in the other modes.
    """
    check_together(told, noise, settings)
    parts = settings.parts(noise.frames)

    @torch.no_grad()
    def run(part: range, picture: Tensor | None) -> Tensor:
        progress = journal.part(parts.index(part))
        latents = progress.finished()
        if latents is None:
            latents = sampled(part, picture, progress)
            progress.finish(latents)
        return latents

    def sampled(part: range, picture: Tensor | None, progress: Progress) -> Tensor:
        with placed(unet) as device, compiled([unet] * settings.fast.compile, COMPILED):
            branches = told.branches(unet, part, noise.reference, picture)
            size = noise.latents.shape[3:]
            how = settled(settings, unet, *size, len(part), free_bytes(device))
            timesteps = how.timesteps(noise.timestep)

            def under(branches: Sequence[Conditions]) -> WindowDenoiser:
                deep = DeepFeatures(timesteps, how.fast.reuse_every, len(part), storage)
                return branch_denoiser(unet, branches, how.together, how.reuse, deep)

            latents = sample_clip(
                under(branches if how.guided else branches[1:]),
                noise.latents[:, :, part.start : part.stop],
                how,
                begin=noise.timestep,
                on_step=_of_parts(on_step, parts.index(part), len(parts)),
                on_window=on_window,
                progress=progress,
                storage=storage,
                alone=under(branches[1:]) if how.guided and not how.fast.always_guided else None,
            )
        return latents.cpu()

    def picture_of(latents: Tensor) -> Tensor:
        return rearrange(torch.cat(list(decoder(latents))), "f h w c -> 1 c f h w")

    return continued(run, picture_of, parts, noise.first_frame)


def check_together(told: Told, noise: UnifiedNoise, settings: SampleSettings) -> None:
    """Raise ValueError unless conditions, noise and settings belong to one clip."""
    poses = told.cond.pose.shape[2:]
    if poses != noise.latents.shape[2:]:
        (frames, h, w), (f, height, width) = poses, noise.latents.shape[2:]
        raise ValueError(
            f"The poses are {frames} frames of latent size {w} x {h}, the noise {f} of {width} x {height}; "
            "make the noise for these conditions."
        )
    _check_first_frame(noise.first_frame is not None, noise.frames, settings)


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


def _check_widths(unet: UniAnimateUNet, encoded: Encoded) -> None:
    wanted = unet.config.context_dim
    for what, features in (("text", encoded.text), ("image", encoded.image)):
        if features.shape[-1] != wanted:
            raise ValueError(
                f"This CLIP {what} tower gives features of {features.shape[-1]} values, the network takes "
                f"{wanted}; choose the tower that belongs to it (open_clip_pytorch_model.bin for UniAnimate)."
            )
