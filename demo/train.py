"""Train the demo's networks on drawn puppets.

``python -m xdyna_unianimate.demo.train autoencoder|vision|decoder|unianimate|xdyna FOLDER``. The classes are the
project's own, only narrow; the shipped weights came from these commands. ``--go-on --data VIDEOS`` fits decoder,
unianimate and xdyna to own videos, see ``recorded.Recorded.open``. Files that are replaced are kept in the folder.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..unianimate_core.noise import PRIOR
from ..unianimate_core.unet import UniAnimateUNet
from ..video_core.clip import (
    MEAN,
    STD,
    ClipText,
    ClipVision,
    cropped_pixels,
    load_clip_text,
    load_clip_vision,
)
from ..video_core.placement import choose_device
from ..video_core.schedule import Schedule, linear_schedule, zero_terminal_snr_schedule
from ..video_core.vae import Vae, load_vae
from ..xdyna_core.adapter import DynamicsAdapterAttention
from ..xdyna_core.controlnet import ControlNet, Residuals
from ..xdyna_core.image_prompt import Resampler
from ..xdyna_core.noise import downgraded
from ..xdyna_core.transformer import Strengths
from ..xdyna_core.unet import XDynaUNet
from . import checkpoints as weights
from .architectures import AUTOENCODER, CONTROL, RESAMPLER, TEXT, UNIANIMATE, VISION, XDYNA
from .checkpoints import store
from .data import CANVAS, DRAWN, HELD_OUT, Clip, Source, batches, pixels
from .recorded import Recorded
from .training import Data, Plan, train

if TYPE_CHECKING:
    from ..pose_align.draw import Style

TERMINAL_SHARE = 0.15
"""Share of training steps at the last timestep, where a clip has to be invented from the conditions alone."""

TEMPERATURE = 0.07
"""Of the image tower's contrastive loss."""

Report = Callable[[int, int, float], None]


# ---- autoencoder ---------------------------------------------------------------------------------------


def reconstruction_loss(vae: Vae, batch: Tensor, generator: torch.Generator) -> Tensor:
    """Squared, absolute and edge error of the reconstruction, and a little KL so that latents stay small."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    posterior = DiagonalGaussianDistribution(vae.moments(batch))
    noise = _normal(posterior.mean.shape, generator, posterior.mean)
    restored = vae.restore(posterior.mean + posterior.std * noise).float()
    return picture_error(restored, batch) + 1e-6 * posterior.kl().mean()


def picture_error(restored: Tensor, pictures: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Mean squared, absolute and edge error of pictures [b, 3, H, W]; weight [b, 1, H, W] for every pixel."""
    difference = restored - pictures
    edges = sum((difference.diff(dim=axis).abs() * _without_last(weight, axis)).mean() for axis in (-1, -2))
    return (weight * (difference.square() + 0.5 * difference.abs())).mean() + 0.5 * edges


def _without_last(weight: Tensor | float, axis: int) -> Tensor | float:
    return weight.narrow(axis, 0, weight.shape[axis] - 1) if isinstance(weight, Tensor) else weight


def _draw_pixels(seed: int, source: Source = DRAWN) -> Tensor:
    return pixels(source.moment(seed)[0])


def train_autoencoder(
    folder: Path, plan: Plan, report: Report, device: str = "cpu", source: Source = DRAWN
) -> Vae:
    """The demo's autoencoder, with the mean and deviation of its latents in its config."""
    torch.manual_seed(plan.seed)
    vae = Vae(AUTOENCODER)
    _quieten_posterior(vae)
    vae = vae.to(device, memory_format=torch.channels_last).requires_grad_(True)
    draw = partial(_draw_pixels, source=source)
    vae = train(vae, reconstruction_loss, partial(batches, draw, plan.batch), plan, folder, report)
    return with_latent_statistics(vae.cpu(), source)


@torch.no_grad()
def _quieten_posterior(vae: Vae) -> None:
    """Start with a small posterior deviation: at 1, the first hundreds of steps see little but noise."""
    moments, half = vae.network.quant_conv, vae.config.latent_channels
    moments.bias[half:] = -6.0
    moments.weight[half:] *= 0.1


@torch.no_grad()
def with_latent_statistics(vae: Vae, source: Source = DRAWN, pictures: int = 256) -> Vae:
    """Measure each latent channel's mean and deviation, so that sampler units have mean 0, deviation 1."""
    frames = np.stack([source.moment(seed)[0] for seed in range(pictures)])
    latents = vae.encode(torch.from_numpy(frames).float() / 255, chunk=16) / vae.config.scaling_factor
    statistics = {
        "latents_mean": tuple(latents.mean((0, 2, 3, 4)).tolist()),
        "latents_std": tuple(latents.std((0, 2, 3, 4)).tolist()),
    }
    vae.config = replace(vae.config, **statistics)
    return vae


FACE_WEIGHT = 10.0
"""Of the error where a face is, while the decoder trains alone or the face ControlNet does."""


def decoder_loss(vae: Vae, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """As ``reconstruction_loss`` without what concerns the encoder, and with faces, which are small, weighed up.

    batch: picture [b, 3, H, W] in -1..1, face bool [b, 1, H, W].
    """
    with torch.no_grad():
        mean, logvar = vae.moments(batch["picture"]).chunk(2, dim=1)
        latents = mean + (logvar / 2).exp() * _normal(mean.shape, generator, mean)
    restored = vae.restore(latents).float()
    return picture_error(restored, batch["picture"], 1 + (FACE_WEIGHT - 1) * batch["face"])


def _draw_picture_with_face(seed: int, source: Source = DRAWN) -> dict[str, Tensor]:
    picture, points = source.moment(seed)
    face = torch.zeros(1, *picture.shape[:2])
    if points is not None:
        (left, top), (right, bottom) = points[24:92].min(0), points[24:92].max(0)
        face[:, max(int(top), 0) : int(bottom) + 2, max(int(left), 0) : int(right) + 2] = 1
    return {"picture": pixels(picture), "face": face}


def train_decoder(
    folder: Path, plan: Plan, report: Report, vae: Vae, device: str = "cpu", source: Source = DRAWN
) -> Vae:
    """The decoder goes on by itself, behind an encoder that stays as it is: no network behind it notices."""
    torch.manual_seed(plan.seed)
    vae = vae.to(device, memory_format=torch.channels_last).requires_grad_(False)
    for part in (vae.network.post_quant_conv, vae.network.decoder):
        part.requires_grad_(True)
    draw = partial(_draw_picture_with_face, source=source)
    stream = partial(batches, draw, plan.batch)
    return train(vae, decoder_loss, stream, plan, folder, report).cpu()


# ---- image tower ---------------------------------------------------------------------------------------


def embed(vision: ClipVision, pictures: Tensor) -> Tensor:
    """[b, d] of pictures float [b, 3, H, W] in 0..1, uncropped (UniAnimate spec 2.1)."""
    small = F.interpolate(pictures, (224, 224), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v, device=pictures.device)[:, None, None] for v in (MEAN, STD))
    return vision.network((small - mean) / std).image_embeds


def vision_loss(vision: ClipVision, batch: Tensor, generator: torch.Generator) -> Tensor:
    """Contrastive, as CLIP's: the embedding of a picture finds the same puppet's other picture in the batch.

    batch: uint8 [b, 2, H, W, 3]. Half of the batches are cropped to squares, as X-Dyna's reference is.
    """
    pictures = rearrange(batch, "b two h w c -> two b c h w").float() / 255
    if torch.rand((), generator=generator) < 0.5:
        height, width = pictures.shape[-2:]
        pictures = pictures[..., (height - width) // 2 :, :][..., :width, :]
    one, other = (F.normalize(embed(vision, half).float(), dim=-1) for half in pictures)
    alike = one @ other.T / TEMPERATURE
    right = torch.arange(len(alike), device=alike.device)
    return (F.cross_entropy(alike, right) + F.cross_entropy(alike.T, right)) / 2


def _draw_pair(seed: int, source: Source = DRAWN) -> Tensor:
    return torch.from_numpy(source.pair(seed))


def train_vision(
    folder: Path,
    plan: Plan,
    report: Report,
    device: str = "cpu",
    begun: ClipVision | None = None,
    source: Source = DRAWN,
) -> ClipVision:
    """The image tower of both systems, which stays as it is while they train."""
    torch.manual_seed(plan.seed)
    draw = partial(_draw_pair, source=source)
    stream = partial(batches, draw, plan.batch)
    vision = (begun or ClipVision(VISION)).to(device).requires_grad_(True)
    return train(vision, vision_loss, stream, plan, folder, report)


# ---- what both systems are shown -----------------------------------------------------------------------

SHAPES = ((8, 2), (8, 2), (2, 8))
"""(clips, frames) of successive batches: many puppets for looks, long clips for motion, equal work."""


def _draw_batch(clips: list[Clip], style: Style) -> dict[str, Tensor]:
    """uint8 tensors: reference [b, H, W, 3], frames [b, F, H, W, 3], poses [b, 1 + F, H, W, 3]."""
    arrays = {
        "reference": [clip.reference for clip in clips],
        "frames": [clip.frames for clip in clips],
        "poses": [_skeletons(clip, style) for clip in clips],
    }
    return {name: torch.from_numpy(np.stack(pictures)) for name, pictures in arrays.items()}


def _numbers(batch: int) -> tuple[list[int], int]:
    """Seeds of the clips of that batch, and how many frames each has."""
    clips, frames = SHAPES[batch % len(SHAPES)]
    return [batch * 8 % HELD_OUT + i for i in range(clips)], frames


def _skeletons(clip: Clip, style: Style) -> np.ndarray:
    """uint8 [1 + F, H, W, 3]: the reference's skeleton and the clip's, black where nobody is known to be."""
    from ..pose_align.draw import draw
    from ..pose_align.pose import PoseSequence

    points = np.concatenate([clip.reference_points[None], clip.points])
    known = np.isfinite(points).all(-1) & points.any()
    poses = PoseSequence(np.nan_to_num(points), known.astype(np.float32), CANVAS)
    return _resize(draw(poses, style, scale_strokes=style.canvas is None))


def _resize(pictures: np.ndarray) -> np.ndarray:
    """uint8 [n, H, W, 3] at the demo's size, as pose pictures are read (UniAnimate spec 2.1)."""
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(p).resize(CANVAS, Image.BILINEAR)) for p in pictures])


def _planes(pictures: Tensor) -> Tensor:
    """uint8 [b, F, H, W, 3] -> float32 [b, 3, F, H, W] in 0..1."""
    return rearrange(pictures, "b f h w c -> b c f h w").float() / 255


def _latents(vae: Vae, pictures: Tensor) -> Tensor:
    """uint8 [b, F, H, W, 3] -> latents [b, 4, F, h, w] in sampler units."""
    flat = vae.encode(rearrange(pictures, "b f h w c -> (b f) h w c").float() / 255, chunk=16)
    return rearrange(flat, "1 c (b f) h w -> b c f h w", b=len(pictures))


def draw_timesteps(count: int, last: int, generator: torch.Generator) -> Tensor:
    """int64 [count] in 0 ... last: uniform, but the last one with probability ``TERMINAL_SHARE``."""
    uniform = torch.randint(0, last + 1, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < TERMINAL_SHARE, last, uniform)


def _signal_and_noise(schedule: Schedule, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(abar_t) and sqrt(1 - abar_t) for timesteps [b], to be multiplied with latents [b, c, F, h, w]."""
    alpha = schedule.alphas_cumprod[t].float().to(like.device)[:, None, None, None, None]
    return alpha.sqrt(), (1 - alpha).sqrt()


def _normal(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(tuple(shape), generator=generator).to(like.device)


# ---- UniAnimate ----------------------------------------------------------------------------------------


def _draw_unianimate(number: int, source: Source = DRAWN) -> dict[str, Tensor]:
    from ..pose_align.draw import UNIANIMATE as STYLE

    seeds, frames = _numbers(number)
    return _draw_batch([source.clip(seed, frames) for seed in seeds], STYLE)


def unianimate_loss(
    vae: Vae, zero_y: Tensor, vision: ClipVision
) -> Callable[[nn.Module, object, torch.Generator], Tensor]:
    """v-prediction error under one of the kinds of input that the paper mixes (section 3.3).

    Reference mode, first-frame mode, both together, or no condition at all (for guidance). The noise carries
    the trace of the picture that it carries in sampling, the noise prior, so that the network learns to read it.
    """
    schedule = zero_terminal_snr_schedule()

    def loss(unet: UniAnimateUNet, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        x0, reference = _latents(vae, batch["frames"]), _latents(vae, batch["reference"][:, None])
        kind = torch.rand((), generator=generator).item()
        given = reference if kind > 0.45 else x0[:, :, :1]
        noise = _normal(x0.shape, generator, x0) + 0.1 * _normal((*x0.shape[:3], 1, 1), generator, x0)
        if kind > 0.07:
            trace, rest = _signal_and_noise(schedule, torch.tensor([PRIOR["short"]]), x0)
            noise = trace * given + rest * noise
        t = draw_timesteps(len(x0), schedule.train_steps - 1, generator)
        signal, spread = _signal_and_noise(schedule, t, x0)
        x, target = signal * x0 + spread * noise, signal * noise - spread * x0
        told: dict[str, Tensor] = {}
        if kind > 0.07:
            told["dwpose"] = _planes(batch["poses"])
            first = batch["frames"][:, :1] if kind <= 0.45 else batch["reference"][:, None]
            told["image"] = embed(vision, _planes(first)[:, :, 0])[:, None]
        if kind > 0.45:
            told["randomref"] = reference
        if 0.07 < kind <= 0.6:
            told["local_image"] = _planes(batch["frames"][:, :1])
        predicted = unet(x, t.to(x.device), zero_y=zero_y, **told).float()
        return F.mse_loss(predicted, target)

    return loss


def train_unianimate(
    folder: Path,
    plan: Plan,
    report: Report,
    vae: Vae,
    zero_y: Tensor,
    vision: ClipVision,
    device: str = "cpu",
    begun: UniAnimateUNet | None = None,
    source: Source = DRAWN,
) -> UniAnimateUNet:
    """All kinds of input mixed, all layers from the first step; autoencoder and image tower stay as they are."""
    torch.manual_seed(plan.seed)
    unet = (begun or UniAnimateUNet(UNIANIMATE)).to(device)
    draw = partial(_draw_unianimate, source=source)
    stream = lambda first: batches(draw, None, first // plan.batch)  # noqa: E731
    loss = unianimate_loss(vae.to(device), zero_y.to(device), vision.to(device))
    return train(unet, loss, stream, plan, folder, report)


# ---- X-Dyna --------------------------------------------------------------------------------------------

MOST_WEIGHT = 40.0
"""Bound of the weight 1 / abar, which makes an error of the noise one of the picture."""

SCENE_SHARE = 0.125
"""Share of clips that show a scene with nobody in it (X-Dyna paper, section 3.4)."""

FIRST_TIMESTEPS = (876, 921, 951, 961, 981)
"""Where runs of 8, 12, 20, 25 and 50 steps begin: from the reference's latents under noise."""

FIGURE_WEIGHT = 3.0
"""Of the error near the skeleton: the scene, most of a picture, is easy, since the reference shows it."""


class XDynaNetworks(nn.Module):
    """UNet with adapter and motion modules, pose and face ControlNets, Resampler."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = XDynaUNet(XDYNA)
        self.pose = ControlNet(CONTROL)
        self.face = ControlNet(replace(CONTROL, conditioning_channels=6))
        self.resampler = Resampler(RESAMPLER)


@dataclass(frozen=True)
class Stage:
    """What takes part while X-Dyna trains (paper, section 3.4). share: of the plan's iterations.

    adapter: the reference frame is asked, and the pose ControlNet looks on; without, base and motion modules
    learn to make clips of the image tokens alone. face: the face ControlNet looks on, and it alone learns.
    """

    name: str
    share: float
    adapter: bool = True
    face: bool = False


STAGES = (
    Stage("base", 0.1, adapter=False),
    # F: the paper freezes the base from here on. A base of minutes has still to learn.
    Stage("body", 0.7),
    Stage("face", 0.2, face=True),
)
MORE_STAGES = (Stage("body", 0.7), Stage("face", 0.3, face=True))
"""Of networks that go on."""


def _draw_xdyna(number: int, source: Source = DRAWN) -> dict[str, Tensor]:
    """As ``_draw_batch``, with face maps [b, F, H, W, 6]; half of the faces are another puppet's."""
    from ..pose_align.draw import XDYNA as STYLE

    seeds, frames = _numbers(number)
    alone = [source.scenes and np.random.default_rng([seed, 7]).random() < SCENE_SHARE for seed in seeds]
    drawn = list(zip(seeds, alone, strict=True))
    clips = [source.scene(seed, frames) if empty else source.clip(seed, frames) for seed, empty in drawn]
    faces = [draw_face_maps(seed, frames, empty, source) for seed, empty in drawn]
    return {**_draw_batch(clips, STYLE), "faces": torch.from_numpy(np.stack(faces))}


def draw_face_maps(seed: int, frames: int, empty: bool = False, source: Source = DRAWN) -> np.ndarray:
    """uint8 [F, H, W, 6], local and global S-Face maps of a clip's motion, worn by its puppet or another.

    empty: of a scene with nobody in it, black.
    """
    from ..xdyna_core.face import face_maps

    if empty:
        return np.zeros((frames, CANVAS[1], CANVAS[0], 6), np.uint8)
    clip = source.clip(seed, frames, other_face=seed % 2 == 0)
    maps = face_maps(clip.frames, clip.points[:, 24:92])
    return np.concatenate([maps.local, maps.whole], axis=-1)


def xdyna_loss(
    vae: Vae, text: Tensor, vision: ClipVision, stage: Stage, figure_weight: float = FIGURE_WEIGHT
) -> Callable[[nn.Module, object, torch.Generator], Tensor]:
    """Noise-prediction error on the frames behind the clean reference (X-Dyna spec 8.3).

    text: features of the empty prompt [1, 77, d]. figure_weight: of the error on and beside the skeletons. The noise
    is what a run sees that begins, as runs do, with the downgraded reference under noise in place of the clip
    (spec 8.2).
    """
    schedule = linear_schedule()
    strengths = Strengths(reference=float(stage.adapter))

    def loss(model: XDynaNetworks, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        x0, reference = _latents(vae, batch["frames"]), _latents(vae, batch["reference"][:, None])
        begin = FIRST_TIMESTEPS[int(torch.randint(len(FIRST_TIMESTEPS), (), generator=generator))]
        mask = torch.rand(x0.shape, generator=generator).to(x0.device)
        start = torch.cat([downgraded(r[None], m[None]) for r, m in zip(reference, mask, strict=True)])
        kept, spread = _signal_and_noise(schedule, torch.tensor([begin]), x0)
        noise = _normal(x0.shape, generator, x0) + kept / spread * (start - x0)
        t = draw_timesteps(len(x0), begin, generator)
        signal, spread = _signal_and_noise(schedule, t, x0)
        x, t = signal * x0 + spread * noise, t.to(x0.device)
        context = _context(model, text, vision, batch["reference"], generator)
        added = _residuals(_controls(model, batch, stage), x, t, text)
        residuals = (added.down, added.mid) if added else ()
        sample = torch.cat([reference, x], dim=2)
        predicted = model.unet(sample, t, context, *residuals, strengths=strengths)
        error = (predicted[:, :, 1:].float() - noise) ** 2 * signal.pow(-2).clamp(max=MOST_WEIGHT)
        weight = _weight_near_figures(batch["poses"][:, 1:], figure_weight)
        if stage.face:
            weight = weight * _weight_of_faces(batch["faces"])
        return (error * weight).mean()

    return loss


def _controls(
    model: XDynaNetworks, batch: dict[str, Tensor], stage: Stage
) -> list[tuple[ControlNet, Tensor]]:
    """The ControlNets of a stage, with what they look at."""
    poses, faces = (model.pose, _planes(batch["poses"][:, 1:])), (model.face, _planes(batch["faces"]))
    return [poses] * stage.adapter + [faces] * stage.face


def _weight_of_faces(faces: Tensor) -> Tensor:
    """[b, 1, F, h, w] at the size of the latents: ``FACE_WEIGHT`` where a map shows something, else 1."""
    shown = rearrange(faces, "b f h w c -> b c f h w").amax(1, keepdim=True).float()
    return 1 + (FACE_WEIGHT - 1) * F.max_pool3d(shown, (1, 8, 8)).clamp(max=1)


def _weight_near_figures(poses: Tensor, weight: float) -> Tensor:
    """[b, 1, F, h, w] at the size of the latents: the weight on and beside the skeletons, else 1."""
    shown = rearrange(poses, "b f h w c -> b c f h w").amax(1, keepdim=True).float()
    near = F.max_pool3d(F.max_pool3d(shown, (1, 8, 8)), (1, 3, 3), stride=1, padding=(0, 1, 1))
    return 1 + (weight - 1) * near.clamp(max=1)


def _context(
    model: XDynaNetworks, text: Tensor, vision: ClipVision, reference: Tensor, generator: torch.Generator
) -> Tensor:
    """[b, 77 + 16, d]: the empty prompt, then the reference's tokens, blank for one clip in ten."""
    pixels = torch.cat([cropped_pixels(picture.cpu().numpy()) for picture in reference])
    blank = torch.rand(len(pixels), generator=generator) < 0.1
    pixels = torch.where(blank[:, None, None, None], vision.blank(), pixels).to(text.device)
    features = vision.encode(pixels).penultimate
    return torch.cat([text.expand(len(pixels), -1, -1), model.resampler(features)], dim=1)


def _residuals(
    controls: list[tuple[ControlNet, Tensor]], x: Tensor, t: Tensor, text: Tensor
) -> Residuals | None:
    """The sum of what the ControlNets add, for images [b, c, F, H, W] in 0..1; None without any."""
    total = None
    for network, images in controls:
        hints = network.embed(rearrange(images, "b c f h w -> (b f) c h w"))
        hints = rearrange(hints, "1 c (b f) h w -> b c f h w", b=len(x))
        own = network(x, t, text.expand(len(x), -1, -1), hints)
        total = own if total is None else total + own
    return total


def train_xdyna(
    folder: Path,
    plan: Plan,
    report: Report,
    vae: Vae,
    text: Tensor,
    vision: ClipVision,
    device: str = "cpu",
    begun: XDynaNetworks | None = None,
    source: Source = DRAWN,
) -> XDynaNetworks:
    """Stage after stage, see ``STAGES``; image tower and autoencoder stay as they are.

    plan: its figure_weight is given. begun: networks that have been through all stages, which go on in ``MORE_STAGES``.
    """
    torch.manual_seed(plan.seed)
    model = (begun or XDynaNetworks()).to(device)
    vae, vision, text = vae.to(device), vision.to(device), text.to(device)
    draw = partial(_draw_xdyna, source=source)
    stream = lambda first: batches(draw, None, first // plan.batch)  # noqa: E731
    loss = partial(xdyna_loss, vae, text, vision, figure_weight=plan.figure_weight)
    for number, stage in enumerate(MORE_STAGES if begun else STAGES):
        if begun is None and stage.face:
            _grow_face(model)
        elif begun is None and stage.adapter:
            _grow_adapter(model)
        model.requires_grad_(not stage.face)
        model.face.requires_grad_(stage.face)
        own = replace(plan, iterations=max(1, round(plan.iterations * stage.share)), seed=plan.seed + number)
        model = train(model, loss(stage), stream, own, folder / stage.name, report)
    return model


def _grow_adapter(model: XDynaNetworks) -> None:
    """The adapter's queries start as the frame's own, with silent outputs (X-Dyna paper, section 3.2)."""
    for layer in model.modules():
        if isinstance(layer, DynamicsAdapterAttention):
            layer.to_q_ff.load_state_dict(layer.to_q.state_dict())
            for parameter in layer.to_out_ff.parameters():
                nn.init.zeros_(parameter)


def _grow_face(model: XDynaNetworks) -> None:
    """The face ControlNet starts as the pose ControlNet, with silent outputs."""
    own = model.face.net.state_dict()
    fitting = {n: v for n, v in model.pose.net.state_dict().items() if v.shape == own[n].shape}
    model.face.net.load_state_dict({**own, **fitting})
    outputs = [model.face.net.controlnet_mid_block, *model.face.net.controlnet_down_blocks]
    for output in outputs:
        for parameter in output.parameters():
            nn.init.zeros_(parameter)


# ---- commands ------------------------------------------------------------------------------------------

PLANS = {
    "autoencoder": Plan(5000, learning_rate=2e-3, average=0.99),
    "decoder": Plan(6000, learning_rate=1e-3, average=0.995),
    "vision": Plan(600, learning_rate=1e-3, average=0.99, batch=64),
    "unianimate": Plan(3000, learning_rate=1.2e-3, average=0.995),
    "xdyna": Plan(3200, learning_rate=1.2e-3, average=0.995, figure_weight=FIGURE_WEIGHT),
}
"""What the shipped weights were trained with."""

GO_ON_RATE = 1 / 3
"""Of the learning rate, with which trained weights go on: the whole of it undoes hundreds of iterations first."""


@dataclass(frozen=True)
class Order:
    """What a command was told. go_on: the stored weights are begun with, not random ones. say: for a line of text."""

    folder: Path
    plan: Plan
    report: Report
    say: Callable[[str], None]
    device: str = "cpu"
    go_on: bool = False
    source: Source = DRAWN


Made = tuple[Mapping[str, nn.Module], Mapping[str, object]]
"""Networks by the prefix of their tensors' names, and configs by their key, as ``store`` takes them."""


def run_autoencoder(order: Order) -> None:
    vae = train_autoencoder(order.folder, order.plan, order.report, order.device, order.source)
    _install(order, {weights.VAE: ({"": vae.network}, {"config": vae.config})})


def run_decoder(order: Order) -> None:
    vae = load_vae(weights.VAE, torch.float32)
    vae = train_decoder(order.folder, order.plan, order.report, vae, order.device, order.source)
    _install(order, {weights.VAE: ({"": vae.network}, {"config": vae.config})})


def run_vision(order: Order) -> None:
    """Both towers of CLIP; the text tower, which only ever reads the empty text, stays as it is drawn."""
    begun = load_clip_vision(weights.CLIP, torch.float32) if order.go_on else None
    vision = train_vision(order.folder, order.plan, order.report, order.device, begun, order.source).cpu()
    torch.manual_seed(order.plan.seed)
    towers = {"text_model.": ClipText(TEXT).network, "": vision.network}
    _install(order, {weights.CLIP: (towers, {"text_config": TEXT, "vision_config": VISION})})


def run_unianimate(order: Order) -> None:
    vae, text, vision = _trained_before()
    zero_y = text.encode(text.config.empty()).penultimate
    begun = _filled(UniAnimateUNet(UNIANIMATE), weights.UNIANIMATE) if order.go_on else None
    told = vae, zero_y, vision, order.device, begun, order.source
    unet = train_unianimate(order.folder, order.plan, order.report, *told).cpu()
    _install(order, {weights.UNIANIMATE: ({"": unet}, {"config": UNIANIMATE})})


def run_xdyna(order: Order) -> None:
    vae, text, vision = _trained_before()
    empty = text.encode(text.config.empty()).last
    begun = _stored_xdyna() if order.go_on else None
    told = vae, empty, vision, order.device, begun, order.source
    model = train_xdyna(order.folder, order.plan, order.report, *told).cpu()
    made = {
        weights.XDYNA: ({"": model.unet}, {"config": XDYNA}),
        weights.XDYNA_POSE: ({"": model.pose.net}, {"config": CONTROL}),
        weights.XDYNA_FACE: ({"": model.face.net}, {"config": replace(CONTROL, conditioning_channels=6)}),
        weights.XDYNA_RESAMPLER: ({"": model.resampler}, {"config": RESAMPLER}),
    }
    _install(order, made)


BEFORE = "before"
"""Folder in a run's folder for the files that its result replaced."""


def _install(order: Order, made: Mapping[Path, Made]) -> None:
    """Put a run's result in the place of the demo's weights, which are kept first, and say where."""
    former = [weights.keep_former(path, order.folder / BEFORE) for path in made]
    kept = [file for file in former if file is not None]
    if kept:
        names, home = ", ".join(file.name for file in kept), next(iter(made)).parent
        order.say(
            f"The former {names}: in {kept[0].parent}. To put back what was there, copy from it to {home}."
        )
    for path, (networks, configs) in made.items():
        store(path, networks, configs, note_of(order.plan))


def _stored_xdyna() -> XDynaNetworks:
    """The networks as their files have them."""
    model = XDynaNetworks()
    for network, file in (
        (model.unet, weights.XDYNA),
        (model.pose.net, weights.XDYNA_POSE),
        (model.face.net, weights.XDYNA_FACE),
        (model.resampler, weights.XDYNA_RESAMPLER),
    ):
        _filled(network, file)
    return model


def _filled(network: nn.Module, file: Path) -> nn.Module:
    """With the tensors of a file of the demo's weights."""
    from safetensors.torch import load_file

    network.load_state_dict(load_file(file))
    return network


def note_of(plan: Plan) -> str:
    """What a weight file says about how it was made; a folder's path, which may tell of its owner, is left out."""
    return f"trained on {plan.data}: {plan.iterations} iterations, seed {plan.seed}"


def _trained_before() -> tuple[Vae, ClipText, ClipVision]:
    vae = load_vae(weights.VAE, torch.float32)
    return vae, load_clip_text(weights.CLIP, torch.float32), load_clip_vision(weights.CLIP, torch.float32)


RUNS = {
    "autoencoder": run_autoencoder,
    "decoder": run_decoder,
    "vision": run_vision,
    "unianimate": run_unianimate,
    "xdyna": run_xdyna,
}
"""In this order: the systems train behind autoencoder and image tower, which do not need each other."""


STOPPED = 130


def main(arguments: list[str] | None = None) -> int:
    """Train one network and store it in the demo's weights; a loss curve lies beside its state.

    Returns the exit code: 1 with a sentence for options or files that do not fit, 130 where it was stopped.
    """
    parser = argparse.ArgumentParser(prog="xdyna_unianimate.demo.train", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=RUNS)
    parser.add_argument(
        "folder", type=Path, help="for the state, from which a cut run goes on; of this command alone"
    )
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps; auto is the first that is there")
    parser.add_argument(
        "--go-on", action="store_true", help="begin with the demo's stored weights, not with random ones"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="VIDEOS",
        help="own videos with their pose files, instead of drawn puppets",
    )
    parser.add_argument(
        "--figure-weight",
        type=float,
        default=FIGURE_WEIGHT,
        metavar="W",
        help="X-Dyna: of the error on and beside the skeletons",
    )
    args = parser.parse_args(arguments)
    try:
        _carry_out(args)
    except KeyboardInterrupt:
        sys.stderr.write(f"Stopped. {_how_to_go_on(args.folder)}\n")
        return STOPPED
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _how_to_go_on(folder: Path) -> str:
    if any(folder.rglob("state.pt")):
        return f"The same command goes on from the last state in {folder}, which is written every minute."
    return "The same command begins anew: a state, from which it could go on, is written every minute."


def _carry_out(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    plan, device = _plan(args), str(choose_device(args.device))
    source = DRAWN
    if args.data is not None:
        source = Recorded.open(args.data)
        plan = replace(plan, data=_data_of(args.data, source))
    with tqdm(desc=args.what) as bar:

        def report(done: int, total: int, loss: float) -> None:
            if total != bar.total:
                bar.reset(total)
            bar.update(done - bar.n)
            bar.set_postfix(loss=f"{loss:.4f}")

        RUNS[args.what](Order(args.folder, plan, report, tqdm.write, device, args.go_on, source))


def _plan(args: argparse.Namespace) -> Plan:
    """The command's own plan, with what was asked for otherwise; raises ValueError for what cannot be."""
    if args.go_on and args.what == "autoencoder":
        raise ValueError(
            "'autoencoder --go-on' is refused: it would move the latents under unianimate and xdyna, which have "
            "learnt to make those that there are, and spoil both. Use 'decoder', which trains the decoder alone "
            "and leaves the latents as they are."
        )
    plan = replace(PLANS[args.what], seed=args.seed)
    if args.go_on:
        plan = replace(plan, learning_rate=GO_ON_RATE * plan.learning_rate)
    if plan.figure_weight is not None:
        plan = replace(plan, figure_weight=args.figure_weight)
    return plan if args.iterations is None else replace(plan, iterations=args.iterations)


def _data_of(folder: Path, own: Recorded) -> Data:
    """What tells own videos from others: the pictures and points that they come to, at the demo's size."""
    digest = hashlib.sha256()
    for recording in own.recordings:
        digest.update(recording.frames.tobytes() + recording.points.tobytes())
    frames = sum(len(recording.frames) for recording in own.recordings)
    count = len(own.recordings)
    content = f"{count} video{'s' * (count > 1)}, {frames} frames, sha256 {digest.hexdigest()[:12]}"
    folder = folder.resolve()
    return Data(f"own data '{folder.name}'", str(folder), content)


if __name__ == "__main__":
    raise SystemExit(main())
