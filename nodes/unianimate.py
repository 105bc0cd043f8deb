"""UniAnimate: its network, what it is told of a clip, the noise it starts from, and the sampler."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..demo import checkpoints
from ..unianimate_core import pipeline
from ..unianimate_core.noise import NO_PRIOR, PRIOR, NoiseSettings, UnifiedNoise, draw, unified_noise
from ..unianimate_core.sample import SampleSettings, working_bytes
from ..unianimate_core.unet import UniAnimateUNet
from ..video_core.fast import EXACT, Fast
from ..video_core.schedule import zero_terminal_snr_schedule
from ..video_core.vae import decode
from . import context, encoders, host, images, paths, rescue, sockets
from .api import advanced, chosen, io, schema, seed
from .run_options import PLAIN, RunOptions

FOLDERS = ("unianimate", "diffusion_models")
"""Model folder ids in which the network's files are listed."""

PARAMETERS = 1_416_564_300
"""Of the release (UniAnimate spec 1)."""

MODES = ("short", "windows", "continuation")
ORDERS = {"per frame": "per_frame", "original": "original"}
FUSES = ("uniform", "pyramid")


@dataclass(frozen=True)
class Loaded:
    """UniAnimate's network in the care of ComfyUI's memory management."""

    unet: UniAnimateUNet
    managed: host.Managed


@dataclass(frozen=True)
class Control:
    """All that UniAnimate is told of a clip; the reference's latents are drawn with the noise.

    encoded: the reference as the networks see it. told: the poses, and both branches of guidance.
    vae: in whose units latents come and go, and which makes the pictures that segments continue.
    """

    encoded: pipeline.Encoded
    told: pipeline.Told
    vae: encoders.Encoder


class LoadUniAnimate(io.ComfyNode):
    """The network from a file, or the embedded demo's."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadUniAnimate",
            display_name="Load UniAnimate",
            menu="unianimate",
            description="Loads UniAnimate's network. The embedded demo needs no files; the published file is for "
            "research and non-commercial use only.",
            inputs=[
                io.Combo.Input(
                    "unet",
                    options=paths.choices(*FOLDERS),
                    default=paths.DEMO,
                    tooltip="unianimate_16f_32f_non_ema_223000.pth in models/unianimate, or its safetensors twin "
                    "(research and non-commercial use only).",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(host.STORAGE_TOO),
                    default="auto",
                    tooltip="Number format of the network; auto follows ComfyUI's rules and start options.",
                ),
            ],
            outputs=[
                sockets.UniAnimate.Output(
                    display_name="unianimate",
                    tooltip="For UniAnimate conditioning and the UniAnimate sampler.",
                )
            ],
            search_aliases=["unianimate model", "human animation", "animate anyone"],
        )

    @classmethod
    def execute(cls, unet: str, precision: str) -> io.NodeOutput:
        from ..unianimate_core.load import load_unet

        demo = unet == paths.DEMO
        path = checkpoints.UNIANIMATE if demo else paths.locate(unet, *FOLDERS)
        network = host.stored(load_unet(path, host.dtype(precision, 0 if demo else PARAMETERS)), precision)
        return io.NodeOutput(Loaded(network, host.Managed(network)))

    @classmethod
    def fingerprint_inputs(cls, unet: str, **others: str) -> str:
        return paths.stamp(unet, *FOLDERS)


class UniAnimateConditioning(io.ComfyNode):
    """Reference and poses through CLIP, autoencoder and the conditioning towers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        width, height = pipeline.Settings().size
        size = {"min": 64, "max": 4096, "step": 64}
        return schema(
            "UniAnimateConditioning",
            display_name="UniAnimate conditioning",
            menu="unianimate",
            description="Tells UniAnimate whom to animate and how to move: the reference picture, its pose, and "
            "one drawn pose for every frame of the clip. Done once; seeds and steps can change after it.",
            inputs=[
                sockets.UniAnimate.Input("unianimate", tooltip="From Load UniAnimate."),
                io.Clip.Input(
                    "clip",
                    tooltip="The text tower of OpenCLIP ViT-H-14, from our loaders; it reads the empty text. "
                    "Core's CLIP of a Stable Diffusion 2.1 checkpoint does too.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="The image tower of OpenCLIP ViT-H-14, from our loaders or core's loader.",
                ),
                io.Vae.Input(
                    "vae",
                    tooltip="Stable Diffusion's autoencoder. With our loader the reference is drawn from its "
                    "posterior, as published; core's VAE gives the mean, a difference that is hardly seen.",
                ),
                io.Image.Input(
                    "reference", tooltip="Whom to animate; stretched to the clip's size, as published."
                ),
                io.Image.Input(
                    "poses",
                    tooltip="One skeleton per frame, aligned to the reference, from Draw pose in UniAnimate's style.",
                ),
                io.Int.Input(
                    "width", default=width, **size, tooltip="Width of the clip in pixels, a multiple of 64."
                ),
                io.Int.Input(
                    "height",
                    default=height,
                    **size,
                    tooltip="Height of the clip in pixels; 768 x 512 and 1216 x 768 were trained.",
                ),
                io.Image.Input(
                    "reference_pose",
                    optional=True,
                    tooltip="The skeleton of the reference picture, drawn in the same way. Without it the person's "
                    "place is less certain.",
                ),
            ],
            outputs=[
                sockets.Control.Output(
                    display_name="conditions", tooltip="For Unified noise and the UniAnimate sampler."
                )
            ],
            search_aliases=["reference image", "pose condition", "unianimate encode"],
        )

    @classmethod
    def execute(
        cls,
        unianimate: Loaded,
        clip: Any,
        clip_vision: Any,
        vae: Any,
        reference: Tensor,
        poses: Tensor,
        width: int,
        height: int,
        reference_pose: Tensor | None = None,
    ) -> io.NodeOutput:
        size = (width, height)
        inputs = pipeline.Inputs(
            next(images.to_uint8(reference, "reference")),
            None if reference_pose is None else next(images.to_uint8(reference_pose, "reference_pose")),
            host.CountedPictures(list(images.to_uint8(poses, "poses"))),
        )
        pipeline.check_clip(unianimate.unet, inputs, size)
        vae, vision = encoders.vae_of(vae), encoders.vision_of(clip_vision)
        text = encoders.empty_text(clip, layer=-2)
        placed = host.together(
            unianimate.managed,
            *vae.managed,
            *vision.managed,
            working=pipeline.tower_bytes(unianimate.unet, size),
        )
        models = pipeline.Models(unianimate.unet, vae.network, vision.network, text)
        encoded = pipeline.encode(models, inputs.reference, size, placed)
        told = pipeline.conditions(unianimate.unet, encoded, inputs, size, placed)
        return io.NodeOutput(Control(encoded, told, vae))


class MakeUnifiedNoise(io.ComfyNode):
    """Where denoising starts from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "UnifiedNoise",
            display_name="Unified noise",
            menu="unianimate",
            description="Makes what UniAnimate starts from: noise with a trace of the reference, alone or beside "
            "a clean first frame that the clip continues. One seed fixes the whole clip.",
            inputs=[
                sockets.Control.Input("conditions", tooltip="From UniAnimate conditioning."),
                seed("Fixes everything random, the draw of the reference's latents among it."),
                io.Int.Input(
                    "noise_prior",
                    default=-1,
                    min=-1,
                    max=NO_PRIOR,
                    tooltip="How much of the reference stays in the noise: a timestep, lower is more. 999 is none; "
                    f"raise it where the reference shines through. -1: {PRIOR['short']} or {PRIOR['long']}, as "
                    "published for the flow.",
                ),
                io.Float.Input(
                    "offset_noise",
                    default=NoiseSettings.offset,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Strength of the noise that is constant over a frame; lets dark and bright frames be.",
                ),
                io.Combo.Input(
                    "flow",
                    options=list(PRIOR),
                    default="short",
                    tooltip="The published order of prior and offset: short for clips in one piece and for "
                    "continuation, long for windows.",
                ),
                io.Combo.Input(
                    "order",
                    options=list(ORDERS),
                    default=next(iter(ORDERS)),
                    tooltip="per frame: a frame's noise depends on the seed and its number only. original: the "
                    "published order of draws.",
                ),
                io.Image.Input(
                    "first_frame",
                    optional=True,
                    tooltip="A finished picture that the clip continues from: the reference itself, or the last "
                    "frame of another clip. Not for windows.",
                ),
            ],
            outputs=[sockets.Noise.Output(display_name="noise", tooltip="For the UniAnimate sampler.")],
            search_aliases=["noise prior", "random noise", "first frame", "seed"],
        )

    @classmethod
    def execute(
        cls,
        conditions: Control,
        seed: int,
        noise_prior: int,
        offset_noise: float,
        flow: str,
        order: str,
        first_frame: Tensor | None = None,
    ) -> io.NodeOutput:
        prior = None if noise_prior < 0 else noise_prior
        flow = chosen({name: name for name in PRIOR}, flow, "flow")
        settings = NoiseSettings(prior, offset_noise, flow, chosen(ORDERS, order, "order"))
        noise = _noise(conditions, seed, settings)
        if first_frame is not None:
            height, width = conditions.encoded.picture.shape[3:]
            picture = next(images.to_uint8(first_frame, "first_frame"))
            noise = noise.continuing(pipeline.fitted(picture, (width, height)))
        return io.NodeOutput(noise)


def _noise(control: Control, seed: int, settings: NoiseSettings) -> UnifiedNoise:
    """The third stage of ``pipeline.animate``."""
    posterior = control.encoded.posterior
    draws = draw(seed, (posterior.mean.shape[1], *control.told.cond.pose.shape[2:]), settings.order)
    return unified_noise(draws, posterior.latents(draws.posterior), zero_terminal_snr_schedule(), settings)


class UniAnimateSampler(io.ComfyNode):
    """Conditions and noise to latents."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        published = SampleSettings()
        return schema(
            "UniAnimateSampler",
            display_name="UniAnimate sampler",
            menu="unianimate",
            description="Denoises a clip of any length: in one piece, by overlapping windows, or segment after "
            "segment, each continuing the one before. Shows the frames while it works.",
            inputs=[
                sockets.UniAnimate.Input("unianimate", tooltip="From Load UniAnimate."),
                sockets.Control.Input("conditions", tooltip="From UniAnimate conditioning."),
                sockets.Noise.Input("noise", tooltip="From Unified noise."),
                io.Int.Input(
                    "steps",
                    default=published.steps,
                    min=1,
                    max=1000,
                    tooltip="Steps of the schedule; 30 as published (they are 31 in fact).",
                ),
                io.Float.Input(
                    "guidance",
                    default=published.guidance,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    round=0.01,
                    tooltip="How far reference and poses are exaggerated; 2.5 as published. 1 takes them as they "
                    "are, at half the time.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=published.mode,
                    tooltip="short: all frames in one piece. windows: overlapping windows, averaged in every step. "
                    "continuation: segments, each starting from the last frame of the one before.",
                ),
                io.Int.Input(
                    "window",
                    default=published.window,
                    min=2,
                    max=256,
                    tooltip="Frames of a window or a segment; 16 and 32 were trained. Not used by short.",
                ),
                io.Int.Input(
                    "overlap",
                    default=published.overlap,
                    min=0,
                    max=255,
                    tooltip="Frames that neighbouring windows share; more is smoother and slower.",
                ),
                io.Combo.Input(
                    "fuse",
                    options=list(FUSES),
                    default=published.fuse,
                    tooltip="How windows are averaged where they overlap: all alike as published, or fading "
                    "towards their ends.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the steps that runs, from the end. Below 1 the frames of latent are refined "
                    "instead of made anew.",
                ),
                advanced(
                    io.Int.Input,
                    "batch",
                    default=published.batch,
                    min=1,
                    max=64,
                    tooltip="Windows in one pass of the network; more is faster where memory allows.",
                ),
                advanced(
                    io.Boolean.Input,
                    "together",
                    default=published.together,
                    tooltip="Both branches of guidance in one pass: faster, and takes more memory.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="Encoded frames to refine, if strength is below 1. Empty latents only say how many "
                    "frames of what size are expected.",
                ),
                sockets.ContextOptions.Input(
                    "context_options",
                    optional=True,
                    tooltip="AnimateDiff-Evolved's windows, used instead of mode, window, overlap and fuse.",
                ),
                sockets.Fast.Input(
                    "fast", optional=True, tooltip="From Fast mode: sooner, at a small, measured difference."
                ),
                sockets.RunOptions.Input(
                    "run",
                    optional=True,
                    tooltip="From Run options: runs that can be gone on with, for long clips.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="One latent per frame, for VAE Decode with the same VAE."
                )
            ],
            search_aliases=["ksampler", "animate", "long video", "context windows"],
        )

    @classmethod
    def execute(
        cls,
        unianimate: Loaded,
        conditions: Control,
        noise: UnifiedNoise,
        steps: int,
        guidance: float,
        mode: str,
        window: int,
        overlap: int,
        fuse: str,
        strength: float,
        batch: int,
        together: bool,
        latent: Any = None,
        context_options: Any = None,
        fast: Fast = EXACT,
        run: RunOptions = PLAIN,
    ) -> io.NodeOutput:
        settings = SampleSettings(steps, guidance, mode, window, overlap, batch, fuse, together, fast=fast)
        if context_options is not None:
            settings = _windowed(settings, context.read(context_options))
        noise, settings = _start(conditions, noise, settings, strength, latent), run.over(settings)
        return io.NodeOutput(_sampled(unianimate, conditions, noise, settings, run))


def _start(
    control: Control, noise: UnifiedNoise, settings: SampleSettings, strength: float, latent: Any
) -> UnifiedNoise:
    """The noise, laid over the frames of ``latent`` where the run is to begin later."""
    given = None if latent is None else images.samples_of(latent)
    if given is not None and (len(given), *given.shape[2:]) != tuple(noise.latents.shape[2:]):
        frames, h, w = noise.latents.shape[2:]
        raise ValueError(
            f"latent: {len(given)} frames of latent size {given.shape[3]} x {given.shape[2]} were given, and the "
            f"conditions are {frames} frames of {w} x {h}; give both one size and length."
        )
    if strength >= 1:
        return noise
    if given is None or not given.any():
        raise ValueError(
            f"A strength of {strength} refines frames: connect encoded ones to latent, or set it to 1."
        )
    clip = control.vae.network.to_sampler(given)
    return noise.over(clip, zero_terminal_snr_schedule(), settings.timestep_of(strength))


def _sampled(
    loaded: Loaded, control: Control, noise: UnifiedNoise, settings: SampleSettings, run: RunOptions
) -> dict[str, Tensor]:
    """LATENT of a clip: the fourth stage of ``pipeline.animate``."""
    vae = control.vae
    steps = len(settings.timesteps(noise.timestep)) * len(settings.parts(noise.frames))
    bar = host.SamplerProgress(steps)
    frames, height, width = noise.latents.shape[2:]
    working = working_bytes(loaded.unet, height, width, frames, settings)
    parts: list[Tensor] = []
    with rescue.kept(parts, vae.network):
        parts += pipeline.denoise(
            loaded.unet,
            control.told,
            noise,
            settings,
            loaded.managed.placed(working),
            decoder=partial(decode, vae.network, host.together(*vae.managed)),
            on_step=bar.on_step,
            on_window=bar.on_window,
            journal=run.journal(lambda: (loaded.unet, vae.network.network, control.told, noise, settings)),
        )
    return images.latent_of(vae.network.from_sampler(torch.cat(parts, dim=2)))


def _windowed(settings: SampleSettings, windows: context.ContextWindows) -> SampleSettings:
    """UniAnimate's windows lie still inside the clip; those of other packs are taken as if they did."""
    if windows.loop or windows.stride != 1:
        raise ValueError(
            "context_options: UniAnimate's windows hold frames in a row of a clip that does not loop; use Standard "
            "Static with a stride of 1."
        )
    return replace(
        settings,
        mode="windows",
        window=windows.size,
        overlap=windows.overlap,
        fuse=windows.fuse or settings.fuse,
    )


NODES = (LoadUniAnimate, UniAnimateConditioning, MakeUnifiedNoise, UniAnimateSampler)
