"""A network small enough for a test, with weights that let every part show in the output."""

from __future__ import annotations

import torch
from torch import Tensor
from xdyna_unianimate.unianimate_core.config import UniAnimateConfig
from xdyna_unianimate.unianimate_core.unet import UniAnimateUNet

CONFIG = UniAnimateConfig(
    dim=32, dim_mult=(1, 2), num_res_blocks=1, attn_scales=(1.0,), head_dim=16, num_heads=3, context_dim=24
)


def tiny_unet(seed: int = 0) -> UniAnimateUNet:
    torch.manual_seed(seed)
    return UniAnimateUNet(CONFIG).eval().requires_grad_(False)


def tiny_inputs(frames: int, h: int = 4, w: int = 6, batch: int = 1, seed: int = 1) -> dict[str, Tensor]:
    """x and every condition of ``UniAnimateUNet.forward``; ``local_image`` differs from frame to frame."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    def pixels(count: int) -> Tensor:
        return torch.randint(256, (batch, 3, count, 8 * h, 8 * w), generator=generator, dtype=torch.uint8)

    return {
        "x": normal(CONFIG.in_dim, frames, h, w),
        "zero_y": normal(5, CONFIG.context_dim)[:1],
        "image": normal(1, CONFIG.context_dim),
        "local_image": pixels(frames) / 255,
        "dwpose": pixels(frames + 1) / 255,
        "randomref": normal(CONFIG.in_dim, frames, h, w),
    }
