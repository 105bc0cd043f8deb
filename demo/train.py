"""Train the demo's networks on drawn puppets: ``python -m xdyna_unianimate.demo.train autoencoder|unianimate|xdyna``.

The classes are the project's own, only narrow; the shipped weights came from these commands.
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
from ..video_core.schedule import Schedule, zero_terminal_snr_schedule
from ..video_core.vae import Vae, VaeConfig
from .architectures import AUTOENCODER, UNIANIMATE, VISION
from .data import CANVAS, batches, draw_clip, draw_picture, pixels
from .training import Plan, train

CLIP_FRAMES = 8
TERMINAL_SHARE = 0.15
"""Share of training steps at the last timestep, where a clip has to be invented from the conditions alone."""

VIT_MEAN = (0.48145466, 0.4578275, 0.40821073)
VIT_STD = (0.26862954, 0.26130258, 0.27577711)

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
    vae = Vae(VaeConfig(**AUTOENCODER)).to(memory_format=torch.channels_last)
    vae = train(vae, reconstruction_loss, lambda first: batches(_draw_pixels, plan.batch, first), plan, folder, report)
    return with_latent_statistics(vae)


@torch.no_grad()
def with_latent_statistics(vae: Vae, pictures: int = 256) -> Vae:
    """Measure each latent channel's mean and deviation, which bring sampler units to mean 0 and deviation 1."""
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
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        super().__init__()
        self.unet = UniAnimateUNet(UNIANIMATE)
        self.vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION))

    def embed(self, pictures: Tensor) -> Tensor:
        """[b, 1, d] of pictures float [b, 3, H, W] in 0..1, resized without cropping (UniAnimate spec 2.1)."""
        small = F.interpolate(pictures, (224, 224), mode="bilinear", antialias=True)
        mean, std = (torch.tensor(v)[:, None, None] for v in (VIT_MEAN, VIT_STD))
        return self.vision((small - mean) / std).image_embeds[:, None]


def _draw_unianimate(seed: int) -> dict[str, Tensor]:
    """A clip with the skeletons that the network sees: reference [H, W, 3], frames and poses uint8."""
    from ..pose_align.draw import UNIANIMATE as STYLE
    from ..pose_align.draw import draw
    from ..pose_align.pose import PoseSequence

    clip = draw_clip(seed, 1 if seed % 3 == 0 else CLIP_FRAMES)
    points = np.concatenate([clip.reference_points[None], clip.points])
    poses = PoseSequence(points, np.ones(points.shape[:2], np.float32), CANVAS)
    return {
        "reference": torch.from_numpy(clip.reference),
        "frames": torch.from_numpy(clip.frames),
        "poses": torch.from_numpy(draw(poses, STYLE, size=CANVAS)),
    }
