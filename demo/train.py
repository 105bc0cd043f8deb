"""Train the demo's networks on drawn puppets.

``python -m xdyna_unianimate.demo.train autoencoder|unianimate|xdyna``. The classes are the project's own,
only narrow; the shipped weights came from these commands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..unianimate_core.unet import UniAnimateUNet
from ..video_core.clip import MEAN, STD, ClipVision
from ..video_core.schedule import Schedule, zero_terminal_snr_schedule
from ..video_core.vae import Vae
from .architectures import AUTOENCODER, UNIANIMATE, VISION
from .data import CANVAS, HELD_OUT, batches, draw_clip, draw_picture, pixels
from .training import Plan, train

CLIP_FRAMES = 8
TERMINAL_SHARE = 0.15
"""Share of training steps at the last timestep, where a clip has to be invented from the conditions alone."""

Report = Callable[[int, int, float], None]


# ---- autoencoder ---------------------------------------------------------------------------------------


def reconstruction_loss(vae: Vae, batch: Tensor, generator: torch.Generator) -> Tensor:
    """Squared, absolute and edge error of the reconstruction, and a little KL so that latents stay small."""
    posterior = vae.network.encode(batch).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator)
    restored = vae.network.decode(posterior.mean + posterior.std * noise.to(posterior.mean)).sample.float()
    edges = sum((restored - batch).diff(dim=axis).abs().mean() for axis in (-1, -2))
    return (
        F.mse_loss(restored, batch)
        + 0.5 * F.l1_loss(restored, batch)
        + 0.5 * edges
        + 1e-6 * posterior.kl().mean()
    )


def _draw_pixels(seed: int) -> Tensor:
    return pixels(draw_picture(seed))


def train_autoencoder(folder: Path, plan: Plan, report: Report) -> Vae:
    """The demo's autoencoder, with the mean and deviation of its latents in its config."""
    torch.manual_seed(plan.seed)
    vae = Vae(AUTOENCODER).to(memory_format=torch.channels_last)
    vae = train(
        vae, reconstruction_loss, lambda first: batches(_draw_pixels, plan.batch, first), plan, folder, report
    )
    return with_latent_statistics(vae)


@torch.no_grad()
def with_latent_statistics(vae: Vae, pictures: int = 256) -> Vae:
    """Measure each latent channel's mean and deviation, so that sampler units have mean 0, deviation 1."""
    frames = np.stack([draw_picture(seed) for seed in range(pictures)])
    latents = vae.encode(torch.from_numpy(frames).float() / 255, chunk=16) / vae.config.scaling_factor
    statistics = {
        "latents_mean": tuple(latents.mean((0, 2, 3, 4)).tolist()),
        "latents_std": tuple(latents.std((0, 2, 3, 4)).tolist()),
    }
    vae.config = replace(vae.config, **statistics)
    return vae


# ---- UniAnimate ----------------------------------------------------------------------------------------


class UniAnimateWithVision(nn.Module):
    """What is trained together: the network, and the image tower whose embedding it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = UniAnimateUNet(UNIANIMATE)
        self.vision = ClipVision(VISION)

    def embed(self, pictures: Tensor) -> Tensor:
        """[b, 1, d] of pictures float [b, 3, H, W] in 0..1, uncropped (UniAnimate spec 2.1)."""
        small = F.interpolate(pictures, (224, 224), mode="bilinear", antialias=True)
        mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
        return self.vision.network((small - mean) / std).image_embeds[:, None]


SHAPES = ((8, 2), (8, 2), (2, 8))
"""(clips, frames) of successive batches: many puppets for looks, long clips for motion, equal work."""


def _draw_batch(seed: int, style: object) -> dict[str, Tensor]:
    """uint8 tensors: reference [b, H, W, 3], frames [b, F, H, W, 3], poses [b, 1 + F, H, W, 3]."""
    from ..pose_align.draw import draw
    from ..pose_align.pose import PoseSequence

    clips, frames = SHAPES[seed % len(SHAPES)]
    drawn = [draw_clip(seed * 8 % HELD_OUT + i, frames) for i in range(clips)]
    skeletons = []
    for clip in drawn:
        points = np.concatenate([clip.reference_points[None], clip.points])
        poses = PoseSequence(points, np.ones(points.shape[:2], np.float32), CANVAS)
        skeletons.append(_resize(draw(poses, style)))
    arrays = {
        "reference": [clip.reference for clip in drawn],
        "frames": [clip.frames for clip in drawn],
        "poses": skeletons,
    }
    return {name: torch.from_numpy(np.stack(pictures)) for name, pictures in arrays.items()}


def _resize(pictures: np.ndarray) -> np.ndarray:
    """uint8 [n, H, W, 3] at the demo's size, as pose pictures are read (UniAnimate spec 2.1)."""
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(p).resize(CANVAS, Image.BILINEAR)) for p in pictures])


def _draw_unianimate(seed: int) -> dict[str, Tensor]:
    from ..pose_align.draw import UNIANIMATE as STYLE

    return _draw_batch(seed, STYLE)


def _planes(pictures: Tensor) -> Tensor:
    """uint8 [b, F, H, W, 3] -> float32 [b, 3, F, H, W] in 0..1."""
    return rearrange(pictures, "b f h w c -> b c f h w").float() / 255


def _latents(vae: Vae, pictures: Tensor) -> Tensor:
    """uint8 [b, F, H, W, 3] -> latents [b, 4, F, h, w] in sampler units."""
    flat = vae.encode(rearrange(pictures, "b f h w c -> (b f) h w c").float() / 255, chunk=16)
    return rearrange(flat, "1 c (b f) h w -> b c f h w", b=len(pictures))


def draw_timesteps(count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """int64 [count]: uniform, but the last timestep with probability ``TERMINAL_SHARE``."""
    last = schedule.train_steps - 1
    uniform = torch.randint(0, last + 1, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < TERMINAL_SHARE, last, uniform)


def unianimate_loss(vae: Vae, zero_y: Tensor) -> Callable[[nn.Module, object, torch.Generator], Tensor]:
    """v-prediction error under one of the kinds of input that the paper mixes (section 3.3).

    Reference mode, first-frame mode, both together, or no condition at all (for guidance).
    """
    schedule = zero_terminal_snr_schedule()

    def loss(model: UniAnimateWithVision, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        x0, reference = _latents(vae, batch["frames"]), _latents(vae, batch["reference"][:, None])
        noise = torch.randn(x0.shape, generator=generator)
        noise = noise + 0.1 * torch.randn(*x0.shape[:3], 1, 1, generator=generator)
        t = draw_timesteps(len(x0), schedule, generator)
        alpha = schedule.alphas_cumprod[t].float()[:, None, None, None, None]
        x = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
        told: dict[str, Tensor] = {}
        kind = torch.rand((), generator=generator).item()
        if kind > 0.07:
            told["dwpose"] = _planes(batch["poses"])
            told["image"] = model.embed(_planes(batch["reference"][:, None])[:, :, 0])
        if kind > 0.45:
            told["randomref"] = reference
        if 0.07 < kind <= 0.6:
            told["local_image"] = _planes(batch["frames"][:, :1])
        return F.mse_loss(model.unet(x, t, zero_y=zero_y, **told).float(), target)

    return loss


def train_unianimate(
    folder: Path, plan: Plan, report: Report, vae: Vae, zero_y: Tensor
) -> UniAnimateWithVision:
    """The network and its image tower, both input kinds mixed, all layers from the first step."""
    torch.manual_seed(plan.seed)
    model = UniAnimateWithVision()
    stream = lambda first: batches(_draw_unianimate, None, first)  # noqa: E731
    return train(model, unianimate_loss(vae, zero_y), stream, plan, folder, report)
