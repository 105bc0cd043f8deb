"""Train the demo's networks on drawn puppets: ``python -m xdyna_unianimate.demo.train autoencoder|unianimate|xdyna``.

The classes are the project's own, only narrow; the shipped weights came from these commands.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import batches, draw_picture, pixels
from .training import Plan, curve, train

AUTOENCODER = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [16, 48, 96, 128],
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
"""The narrow AutoencoderKL of the demo: the release's class and depth of levels, an eighth of its width."""


def reconstruction_loss(model, batch: Tensor, generator: torch.Generator) -> Tensor:
    """Squared, absolute and edge error of the reconstruction, and a little KL so that latents stay small."""
    posterior = model.encode(batch).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator)
    restored = model.decode(posterior.mean + posterior.std * noise.to(posterior.mean)).sample.float()
    edges = sum((restored - batch).diff(dim=axis).abs().mean() for axis in (-1, -2))
    return F.mse_loss(restored, batch) + 0.5 * F.l1_loss(restored, batch) + 0.5 * edges + 1e-6 * posterior.kl().mean()


def _draw_pixels(seed: int) -> Tensor:
    return pixels(draw_picture(seed))


def train_autoencoder(folder: Path, plan: Plan, report) -> torch.nn.Module:
    from diffusers import AutoencoderKL

    torch.manual_seed(plan.seed)
    model = AutoencoderKL(**AUTOENCODER).to(memory_format=torch.channels_last)
    return train(model, reconstruction_loss, lambda first: batches(_draw_pixels, plan.batch, first), plan, folder, report)
