"""X-Dyna: its networks, what they are told of a clip, and the sampler."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..app import models
from ..demo import checkpoints
from ..video_core.fast import EXACT, Fast
from ..video_core.images import Size
from ..video_core.schedule import linear_schedule
from ..video_core.vae import Posterior
from ..xdyna_core import pipeline
from ..xdyna_core.config import XDynaConfig
from ..xdyna_core.controlnet import ControlNet
from ..xdyna_core.image_prompt import Resampler
from ..xdyna_core.noise import draw, initial_latents
from ..xdyna_core.sample import (
    PIXELS_PER_LATENT,
    Control,
    SampleSettings,
    Span,
    working_bytes,
)
from ..xdyna_core.unet import XDynaUNet
from . import context, encoders, host, images, paths, rescue, sockets
from .api import advanced, chosen, io, schema, seed
from .run_options import PLAIN, RunOptions

log = logging.getLogger(__name__)

NONE = "none"
"""The entry of a list of files that chooses none."""

UNETS = ("xdyna", "diffusion_models")
BASES = ("checkpoints", "diffusion_models")
MOTION_MODULES = ("animatediff_models", "xdyna")
IP_ADAPTERS = ("ipadapter", "xdyna")
CONTROLNETS = ("xdyna", "controlnet")
"""Model folder ids in which the files of each part are listed."""

UNET_PARAMETERS = 1_321_465_924
CONTROLNET_PARAMETERS = 361_279_552
"""At full size (X-Dyna spec 2.1, 6)."""

CHANNELS = {"pose": 3, "face": 6}
"""Kind of a ControlNet -> the channels of its control pictures."""

DEMO_CONTROLNETS = {"pose": checkpoints.XDYNA_POSE, "face": checkpoints.XDYNA_FACE}

LOOPS = {"closed (as published)": True, "open": False}
STRETCHES = {"to the clip's range (as published)": "clip", "none": "none"}
ORDERS = {"per frame": "per_frame", "original": "original"}
FUSES = ("uniform", "pyramid")


@dataclass(frozen=True)
class Loaded:
    """X-Dyna's UNet, and the Resampler of its image prompt."""

    unet: XDynaUNet
    resampler: Resampler
    managed: host.Managed


@dataclass(frozen=True)
class LoadedControl:
    """A ControlNet for poses (3 channels) or face maps (6)."""

    network: ControlNet
    managed: host.Managed


@dataclass(frozen=True)
class Scene:
    """All that X-Dyna is told of a clip; the reference's latents are drawn with the noise.

    posterior: of the reference's latents. size: (width, height) in pixels. vae: in whose units latents come
    and go. managed: the loaders of the controls' networks.
    """

    told: pipeline.Told
    posterior: Posterior
    size: Size
    vae: encoders.Encoder
    managed: tuple[host.Managed, ...] = ()

    def under(self, control: Control, managed: host.Managed) -> Scene:
        """The same with one control more."""
        told = replace(self.told, controls=(*self.told.controls, control))
        return replace(self, told=told, managed=(*self.managed, managed))


# ---- loaders -------------------------------------------------------------------------------------------


class LoadXDyna(io.ComfyNode):
    """X-Dyna's UNet from whatever files hold its parts, and the Resampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadXDyna",
            display_name="Load X-Dyna",
            menu="x-dyna",
            description="Loads X-Dyna's UNet from its checkpoint laid over an SD1.5 model, an AnimateDiff v1 "
            "motion module and an IP-Adapter Plus. A checkpoint that holds everything needs no parts but the "
            "IP-Adapter. The embedded demo needs no files at all.",
            inputs=[
                io.Combo.Input(
                    "unet",
                    options=paths.choices(*UNETS),
                    default=paths.DEMO,
                    tooltip="X-Dyna's checkpoint (unet-checkpoint-epoch-5.ckpt) in models/xdyna. Its card "
                    "says MIT, its authors: for research. The demo ignores the lists below.",
                ),
                _part_list(
                    "base",
                    BASES,
                    "The SD1.5 model below it: any SD1.5 checkpoint (CreativeML OpenRAIL-M), no inpainting "
                    "model. Not needed if the X-Dyna file holds the whole UNet.",
                ),
                _part_list(
                    "motion_module",
                    MOTION_MODULES,
                    "AnimateDiff's motion module of version 1 (mm_sd_v15), if the X-Dyna file lacks it.",
                ),
                _part_list(
                    "ip_adapter",
                    IP_ADAPTERS,
                    "ip-adapter-plus_sd15 (Apache-2.0), which turns the reference picture into tokens; "
                    "always needed beside a real checkpoint.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(host.STORAGE_TOO),
                    default="auto",
                    tooltip="Number format of the UNet; auto follows ComfyUI's rules and start options.",
                ),
            ],
            outputs=[
                sockets.XDyna.Output(display_name="xdyna", tooltip="UNet and Resampler for the X-Dyna nodes.")
            ],
            search_aliases=["x-dyna model", "dynamics adapter", "human animation"],
        )

    @classmethod
    def execute(
        cls, unet: str, base: str, motion_module: str, ip_adapter: str, precision: str
    ) -> io.NodeOutput:
        from ..xdyna_core.load import load_resampler, load_unet

        parts, image_prompt, parameters = _unet_files(unet, base, motion_module, ip_adapter)
        loaded = host.stored(load_unet(parts, host.dtype(precision, parameters)), precision)
        resampler = load_resampler(image_prompt, torch.float32)
        return io.NodeOutput(Loaded(loaded, resampler, host.Managed(loaded, resampler)))

    @classmethod
    def fingerprint_inputs(
        cls, unet: str, base: str, motion_module: str, ip_adapter: str, **others: str
    ) -> str:
        files = ((unet, UNETS), (base, BASES), (motion_module, MOTION_MODULES), (ip_adapter, IP_ADAPTERS))
        return " ".join(paths.stamp(name, *folders) for name, folders in files if name != NONE)


class LoadXDynaControlNet(io.ComfyNode):
    """A ControlNet for poses or face maps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadXDynaControlNet",
            display_name="Load X-Dyna ControlNet",
            menu="x-dyna",
            description="Loads X-Dyna's ControlNet for poses or for face maps. Files of any SD1.5 ControlNet "
            "are taken, such as control_v11p_sd15_openpose, from which the pose ControlNet was trained.",
            inputs=[
                io.Combo.Input(
                    "kind",
                    options=list(CHANNELS),
                    default="pose",
                    tooltip="What it looks at: drawn poses, or the two face maps.",
                ),
                io.Combo.Input(
                    "controlnet",
                    options=paths.choices(*CONTROLNETS),
                    default=paths.DEMO,
                    tooltip="controlnet-checkpoint-epoch-5.ckpt for poses or controlnet-face-checkpoint-"
                    "epoch-2.ckpt for faces, in models/xdyna. Their card says MIT, their authors: for "
                    "research.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(host.STORAGE_TOO),
                    default="auto",
                    tooltip="Number format; auto follows ComfyUI's rules and start options.",
                ),
            ],
            outputs=[
                sockets.XDynaControlNet.Output(
                    display_name="controlnet", tooltip="For Apply pose control or Apply face control."
                )
            ],
            needs=("diffusers",),
            search_aliases=["s-face", "openpose", "pose controlnet", "face controlnet"],
        )

    @classmethod
    def execute(cls, kind: str, controlnet: str, precision: str) -> io.NodeOutput:
        from ..xdyna_core.load import load_controlnet

        channels = chosen(CHANNELS, kind, "kind")
        demo = controlnet == paths.DEMO
        path = DEMO_CONTROLNETS[kind] if demo else _located(controlnet, CONTROLNETS)
        dtype = host.dtype(precision, 0 if demo else CONTROLNET_PARAMETERS)
        network = host.stored(load_controlnet(path, channels, dtype), precision)
        return io.NodeOutput(LoadedControl(network, host.Managed(network)))

    @classmethod
    def fingerprint_inputs(cls, controlnet: str, **others: str) -> str:
        return paths.stamp(controlnet, *CONTROLNETS)


# ---- what X-Dyna is told -------------------------------------------------------------------------------


class FaceMaps(io.ComfyNode):
    """S-Face maps of a driving clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "FaceMaps",
            display_name="Face maps",
            menu="x-dyna",
            description="Cuts eyes, mouth and face out of the driving frames, which is all that X-Dyna's "
            "face ControlNet is shown of them, and lays them over the face of the aligned poses.",
            inputs=[
                io.Image.Input("frames", tooltip="The driving frames, one for each pose."),
                sockets.Poses.Input("poses", tooltip="Poses found in these frames, not aligned."),
                *_size_inputs(),
                io.Combo.Input(
                    "fidelity",
                    options=["robust", "original"],
                    default="robust",
                    tooltip="robust: the face is laid over the reference's, a lost face keeps its last box, "
                    "windows are cut at borders. original: the published arithmetic with its faults, without "
                    "alignment.",
                ),
                sockets.Poses.Input(
                    "aligned",
                    optional=True,
                    tooltip="The aligned poses, whose heads the face will follow, or the reference's own "
                    "pose; without it, or with original, the face stays where it is in the driving frames.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="local", tooltip="Eyes and mouth on black."),
                io.Image.Output(display_name="whole", tooltip="The face on black (the paper's global map)."),
            ],
            needs=("cv2",),
            search_aliases=["s-face", "expression", "face crop", "face control"],
        )

    @classmethod
    def execute(
        cls, frames: Tensor, poses: Any, width: int, height: int, fidelity: str, aligned: Any = None
    ) -> io.NodeOutput:
        from ..app.faces import maps_in_place, maps_on_reference, on_canvas
        from ..video_core.images import unit

        pipeline.check_size((width, height))
        clip = host.counted(images.to_uint8(frames, "frames"), len(frames))
        driving = on_canvas(poses, (frames.shape[2], frames.shape[1]))
        if aligned is None or fidelity == "original":
            maps = maps_in_place(clip, driving, (width, height), fidelity)
        else:
            maps = maps_on_reference(clip, driving, aligned, (width, height))
        return io.NodeOutput(unit(maps.local), unit(maps.whole))


class XDynaConditioning(io.ComfyNode):
    """Reference, prompts and image tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "XDynaConditioning",
            display_name="X-Dyna conditioning",
            menu="x-dyna",
            description="Tells X-Dyna whom to animate: the reference picture through CLIP and IP-Adapter, "
            "the prompts, and the size of the clip. Poses and faces are applied after it.",
            inputs=[
                sockets.XDyna.Input("xdyna", tooltip="From Load X-Dyna."),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="CLIP ViT-H/14's image tower (CLIP-ViT-H-14-laion2B-s32B-b79K, MIT).",
                ),
                io.Vae.Input(
                    "vae",
                    tooltip="SD1.5's autoencoder. From Load VAE (exact) the reference is drawn from its "
                    "posterior, as published; core's gives the mean.",
                ),
                io.Image.Input(
                    "reference",
                    tooltip="Whom to animate. Its middle is cut to the clip's shape; CLIP sees the middle "
                    "square of the whole picture.",
                ),
                io.Conditioning.Input("positive", tooltip="The prompt from SD1.5's CLIP; may be empty."),
                io.Conditioning.Input("negative", tooltip="The negative prompt; empty as published."),
                *_size_inputs(),
            ],
            outputs=[
                sockets.XDynaConditions.Output(
                    display_name="conditions", tooltip="For the controls and the X-Dyna sampler."
                )
            ],
            needs=("cv2",),
            search_aliases=["reference image", "ip-adapter", "resampler"],
        )

    @classmethod
    def execute(
        cls,
        xdyna: Loaded,
        clip_vision: Any,
        vae: Any,
        reference: Tensor,
        positive: Any,
        negative: Any,
        width: int,
        height: int,
    ) -> io.NodeOutput:
        size = width, height
        pipeline.check_size(size)
        vae, vision = encoders.vae_of(vae), encoders.vision_of(clip_vision)
        text, no = encoders.text_of(positive, "positive"), encoders.text_of(negative, "negative")
        networks = pipeline.Models(xdyna.unet, vae.network, vision.network, xdyna.resampler, no)
        placed = host.together(xdyna.managed, *vae.managed, *vision.managed)
        encoded = pipeline.encode(networks, next(images.to_uint8(reference, "reference")), size, placed)
        told = pipeline.Told(pipeline.branches(text, no, encoded.image, encoded.blank))
        return io.NodeOutput(Scene(told, encoded.posterior, size, vae))


class ApplyPoseControl(io.ComfyNode):
    """Poses over the conditions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ApplyPoseControl",
            display_name="Apply pose control",
            menu="x-dyna",
            description="Makes the clip follow drawn poses: one frame of video for each. The skeletons "
            "should be drawn in X-Dyna's style at the clip's size; others are squeezed.",
            inputs=[
                sockets.XDynaConditions.Input("conditions", tooltip="From X-Dyna conditioning."),
                sockets.XDynaControlNet.Input("controlnet", tooltip="A ControlNet of the kind pose."),
                io.Image.Input("poses", tooltip="Skeletons in X-Dyna's style, one per frame."),
                *_span_inputs("the poses"),
                _stretch_input(),
            ],
            outputs=[
                sockets.XDynaConditions.Output(
                    display_name="conditions", tooltip="The conditions with poses."
                )
            ],
            needs=("cv2",),
            search_aliases=["controlnet", "skeleton", "openpose"],
        )

    @classmethod
    def execute(
        cls,
        conditions: Scene,
        controlnet: LoadedControl,
        poses: Tensor,
        strength: float,
        start_percent: float,
        end_percent: float,
        stretch: str,
    ) -> io.NodeOutput:
        control = pipeline.pose_control(
            _of_kind(controlnet, "pose"),
            list(images.to_uint8(poses, "poses")),
            conditions.size,
            Span(strength, start_percent, end_percent),
            chosen(STRETCHES, stretch, "stretch"),
        )
        return io.NodeOutput(conditions.under(control, controlnet.managed))


class ApplyFaceControl(io.ComfyNode):
    """Expressions over the conditions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ApplyFaceControl",
            display_name="Apply face control",
            menu="x-dyna",
            description="Makes the clip follow the expressions of a driving face, given as its two maps.",
            inputs=[
                sockets.XDynaConditions.Input(
                    "conditions", tooltip="From X-Dyna conditioning or Apply pose control."
                ),
                sockets.XDynaControlNet.Input("controlnet", tooltip="A ControlNet of the kind face."),
                io.Image.Input("local", tooltip="Eyes and mouth, from Face maps, one per frame."),
                io.Image.Input("whole", tooltip="The face, from Face maps, one per frame."),
                *_span_inputs("the face"),
                _stretch_input(),
            ],
            outputs=[
                sockets.XDynaConditions.Output(
                    display_name="conditions", tooltip="The conditions with the face."
                )
            ],
            search_aliases=["controlnet", "expression", "s-face"],
        )

    @classmethod
    def execute(
        cls,
        conditions: Scene,
        controlnet: LoadedControl,
        local: Tensor,
        whole: Tensor,
        strength: float,
        start_percent: float,
        end_percent: float,
        stretch: str,
    ) -> io.NodeOutput:
        control = pipeline.faces_control(
            _of_kind(controlnet, "face"),
            list(images.to_uint8(local, "local")),
            list(images.to_uint8(whole, "whole")),
            conditions.size,
            Span(strength, start_percent, end_percent),
            chosen(STRETCHES, stretch, "stretch"),
        )
        return io.NodeOutput(conditions.under(control, controlnet.managed))


class XDynaStrengths(io.ComfyNode):
    """How strongly the reference acts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "XDynaStrengths",
            display_name="X-Dyna strengths",
            menu="x-dyna",
            description="How strongly, and during which part of the steps, the reference picture acts: as a "
            "frame that every frame looks at (Dynamics-Adapter), and as tokens (image prompt).",
            inputs=[
                sockets.XDynaConditions.Input("conditions", tooltip="From X-Dyna conditioning."),
                *_span_inputs("the Dynamics-Adapter", "adapter_"),
                *_span_inputs("the image prompt", "image_prompt_"),
            ],
            outputs=[
                sockets.XDynaConditions.Output(
                    display_name="conditions", tooltip="The conditions with these strengths."
                )
            ],
            search_aliases=["reference strength", "identity strength", "ip-adapter weight"],
        )

    @classmethod
    def execute(
        cls,
        conditions: Scene,
        adapter_strength: float,
        adapter_start_percent: float,
        adapter_end_percent: float,
        image_prompt_strength: float,
        image_prompt_start_percent: float,
        image_prompt_end_percent: float,
    ) -> io.NodeOutput:
        adapter = Span(adapter_strength, adapter_start_percent, adapter_end_percent)
        tokens = Span(image_prompt_strength, image_prompt_start_percent, image_prompt_end_percent)
        told = replace(conditions.told, adapter=adapter, image_prompt=tokens)
        return io.NodeOutput(replace(conditions, told=told))


# ---- the sampler ---------------------------------------------------------------------------------------


class XDynaSampler(io.ComfyNode):
    """Conditions to latents."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        published = SampleSettings()
        return schema(
            "XDynaSampler",
            display_name="X-Dyna sampler",
            menu="x-dyna",
            description="Denoises a clip of any length, window by window, with a preview of its frames. One "
            "seed fixes the result; the defaults are the published ones.",
            inputs=[
                sockets.XDyna.Input("xdyna", tooltip="From Load X-Dyna."),
                sockets.XDynaConditions.Input(
                    "conditions", tooltip="From X-Dyna conditioning and the controls after it."
                ),
                seed("Fixes everything random: noise, blur, windows, and the reference's latents."),
                io.Int.Input(
                    "steps", default=published.steps, min=1, max=1000, tooltip="Steps of the whole schedule."
                ),
                io.Float.Input(
                    "guidance",
                    default=published.guidance,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="How far the prompt and the image prompt are exaggerated. Below 1 they are taken "
                    "as they are, at half the time.",
                ),
                io.Float.Input(
                    "strength",
                    default=published.strength,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the schedule that runs, from its end. Less than 1 starts from less "
                    "noise: from the reference, or from the frames of latent.",
                ),
                *_window_inputs(published),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="Empty latents say how many frames where there are no controls. Encoded ones are "
                    "where the run starts, if strength is below 1.",
                ),
                sockets.ContextOptions.Input(
                    "context_options",
                    optional=True,
                    tooltip="AnimateDiff-Evolved's windows, used instead of window, overlap, loop and fuse.",
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
            search_aliases=["ksampler", "animate", "dynamics adapter"],
        )

    @classmethod
    def execute(
        cls,
        xdyna: Loaded,
        conditions: Scene,
        seed: int,
        steps: int,
        guidance: float,
        strength: float,
        window: int,
        overlap: int,
        loop: str,
        fuse: str,
        noise: str,
        batch: int,
        together: bool,
        latent: Any = None,
        context_options: Any = None,
        fast: Fast = EXACT,
        run: RunOptions = PLAIN,
    ) -> io.NodeOutput:
        settings = SampleSettings(
            steps=steps,
            strength=strength,
            guidance=guidance,
            window=window,
            overlap=overlap,
            loop=chosen(LOOPS, loop, "loop"),
            fuse=fuse,
            batch=batch,
            together=together,
            fast=fast,
        )
        order = chosen(ORDERS, noise, "noise")
        return io.NodeOutput(
            _sampled(xdyna, conditions, run.over(settings), seed, order, latent, context_options, run)
        )


def _sampled(
    xdyna: Loaded,
    scene: Scene,
    settings: SampleSettings,
    seed: int,
    order: str,
    latent: Any,
    context_options: Any,
    run: RunOptions,
) -> dict[str, Tensor]:
    """LATENT of a clip: ``pipeline.animate`` between its first stages and its last."""
    windows = None if context_options is None else context.read(context_options)
    settings = settings if windows is None else _windowed(settings, windows)
    given = None if latent is None else images.samples_of(latent)
    shape = _shape(xdyna.unet.config, scene, given)
    timesteps, units = settings.timesteps(), scene.vae.network
    draws = draw(seed, shape, len(timesteps), order, window=settings.window)
    if windows is not None and not windows.moving:
        draws = replace(draws, offsets=(0,) * len(timesteps))
    reference = scene.posterior.latents(draws.posterior)
    start = None if given is None or not given.any() else units.to_sampler(given)
    noise = initial_latents(reference, draws, linear_schedule(), timesteps[0], start)

    bar = host.SamplerProgress(len(timesteps))
    working = working_bytes(xdyna.unet, *shape[2:], shape[1], settings)
    placed = host.together(xdyna.managed, *scene.managed, working=working)
    decides = xdyna.unet, scene.told, reference, noise, draws.offsets, settings
    journal = run.journal(lambda: decides)
    with rescue.kept([], units):
        [clip] = pipeline.denoise(
            *decides, placed, on_step=bar.on_step, on_window=bar.on_window, journal=journal
        )
    return images.latent_of(units.from_sampler(clip.cpu()))


def _shape(config: XDynaConfig, scene: Scene, given: Tensor | None) -> tuple[int, int, int, int]:
    """(c, F, h, w) of the latents; ValueError where nothing says how many frames, or two say different."""
    width, height = (side // PIXELS_PER_LATENT for side in scene.size)
    lengths = [len(control.images) for control in scene.told.controls]
    lengths += [] if given is None else [len(given)]
    if not lengths:
        raise ValueError(
            "Nothing says how many frames to make: apply pose control, or connect empty latents whose "
            "batch size is the number of frames."
        )
    if len(set(lengths)) > 1:
        raise ValueError(
            f"Controls and latent have different numbers of frames: {', '.join(map(str, lengths))}; "
            "all must come from the same clip."
        )
    if given is not None and tuple(given.shape[2:]) != (height, width):
        raise ValueError(
            f"latent: frames of {given.shape[3] * PIXELS_PER_LATENT} x {given.shape[2] * PIXELS_PER_LATENT} "
            f"were given, and the conditions are of {scene.size[0]} x {scene.size[1]}; give both one size."
        )
    return config.in_channels, lengths[0], height, width


def _windowed(settings: SampleSettings, windows: context.ContextWindows) -> SampleSettings:
    if windows.stride != 1:
        raise ValueError(
            f"context_options: X-Dyna's windows hold frames in a row; set the stride to 1 instead of "
            f"{windows.stride}."
        )
    return replace(
        settings,
        window=windows.size,
        overlap=windows.overlap,
        loop=windows.loop,
        fuse=windows.fuse or settings.fuse,
    )


# ---- inputs that several nodes have --------------------------------------------------------------------


def _size_inputs() -> list[io.Input]:
    width, height = pipeline.Settings().size
    size = {"min": 64, "max": 8192, "step": 8}
    return [
        io.Int.Input("width", default=width, **size, tooltip="Width of the clip in pixels."),
        io.Int.Input("height", default=height, **size, tooltip="Height of the clip in pixels."),
    ]


def _span_inputs(what: str, prefix: str = "") -> list[io.Input]:
    share = {"min": 0.0, "max": 1.0, "step": 0.001}
    return [
        io.Float.Input(
            f"{prefix}strength",
            default=1.0,
            min=0.0,
            max=10.0,
            step=0.01,
            tooltip=f"Strength of {what}: 1 as published, 0 leaves it out.",
        ),
        io.Float.Input(
            f"{prefix}start_percent",
            default=0.0,
            **share,
            tooltip="Share of the steps after which it begins.",
        ),
        io.Float.Input(
            f"{prefix}end_percent", default=1.0, **share, tooltip="Share of the steps after which it ends."
        ),
    ]


def _stretch_input() -> io.Input:
    return advanced(
        io.Combo.Input,
        "stretch",
        options=list(STRETCHES),
        default=next(iter(STRETCHES)),
        tooltip="As published, the clip's darkest value becomes 0 and its brightest 1; none leaves values as "
        "they are.",
    )


def _window_inputs(published: SampleSettings) -> list[io.Input]:
    return [
        io.Int.Input(
            "window",
            default=published.window,
            min=1,
            max=24,
            tooltip="Frames that the network sees at a time: 16 as trained, 24 at most.",
        ),
        io.Int.Input(
            "overlap",
            default=published.overlap,
            min=0,
            max=23,
            tooltip="Frames that neighbouring windows share; more is smoother and slower.",
        ),
        io.Combo.Input(
            "loop",
            options=list(LOOPS),
            default=next(iter(LOOPS)),
            tooltip="closed: the last frames are made next to the first ones, for clips that loop. open: the "
            "ends do not know each other.",
        ),
        io.Combo.Input(
            "fuse",
            options=list(FUSES),
            default=FUSES[0],
            tooltip="How windows are averaged where they overlap: all alike as published, or fading towards "
            "their ends.",
        ),
        io.Combo.Input(
            "noise",
            options=list(ORDERS),
            default=next(iter(ORDERS)),
            tooltip="per frame: a frame's noise depends on the seed and its number only. original: the "
            "published order of draws.",
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
            tooltip="Both branches of guidance in one pass; off takes less memory and more time.",
        ),
    ]


def _part_list(name: str, folders: tuple[str, ...], tooltip: str) -> io.Input:
    """A list of files of which none need be chosen."""
    options = [NONE, *paths.choices(*folders, demo=False)]
    return io.Combo.Input(name, options=options, default=NONE, tooltip=tooltip)


# ---- choices and files ---------------------------------------------------------------------------------


def _of_kind(loaded: LoadedControl, kind: str) -> ControlNet:
    channels = loaded.network.config.conditioning_channels
    if channels != CHANNELS[kind]:
        raise ValueError(
            f"controlnet: one for pictures of {channels} channels was given; this node takes the kind "
            f"{kind}, of {CHANNELS[kind]}. Choose {kind} in Load X-Dyna ControlNet."
        )
    return loaded.network


def _unet_files(unet: str, base: str, motion_module: str, ip_adapter: str) -> tuple[list[Path], Path, int]:
    """Files of the UNet, later ones over earlier ones; the Resampler's file; the UNet's parameters."""
    if unet == paths.DEMO:
        return [checkpoints.XDYNA], checkpoints.XDYNA_RESAMPLER, 0
    if ip_adapter == NONE:
        raise ValueError(
            "ip_adapter: choose ip-adapter-plus_sd15, which turns the reference picture into tokens; it is "
            f"published at {models.described('ip-adapter-plus_sd15.bin').page}."
        )
    image_prompt = _located(ip_adapter, IP_ADAPTERS)
    below = [
        _located(name, folders)
        for name, folders in ((base, BASES), (motion_module, MOTION_MODULES))
        if name != NONE
    ]
    return [*below, image_prompt, _located(unet, UNETS)], image_prompt, UNET_PARAMETERS


def _located(name: str, folders: tuple[str, ...]) -> Path:
    """The file of a list's entry; its licence goes to the log."""
    path = paths.locate(name, *folders)
    if badge := models.badge(name):
        log.info("%s", badge)
    return path


NODES = (
    LoadXDyna,
    LoadXDynaControlNet,
    FaceMaps,
    XDynaConditioning,
    ApplyPoseControl,
    ApplyFaceControl,
    XDynaStrengths,
    XDynaSampler,
)
