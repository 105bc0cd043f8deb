"""X-Dyna's networks small enough for a test, with weights that let every part show in the output."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from xdyna_unianimate.xdyna_core.config import ControlNetConfig, ResamplerConfig, XDynaConfig
from xdyna_unianimate.xdyna_core.controlnet import ControlNet
from xdyna_unianimate.xdyna_core.image_prompt import Resampler
from xdyna_unianimate.xdyna_core.unet import XDynaUNet

CONFIG = XDynaConfig(
    block_out_channels=(32, 64),
    attention_levels=(True, False),
    layers_per_block=1,
    cross_attention_dim=24,
    attention_heads=4,
    norm_num_groups=8,
    motion_heads=4,
)
CONTROL = ControlNetConfig(
    block_out_channels=(32, 64),
    attention_levels=(True, False),
    layers_per_block=1,
    cross_attention_dim=24,
    attention_heads=4,
    norm_num_groups=8,
    conditioning_embedding_out_channels=(8, 12, 16, 24),
)
RESAMPLER = ResamplerConfig(
    dim=16, depth=2, dim_head=8, heads=2, num_queries=16, embedding_dim=20, output_dim=24
)


def lively(network: nn.Module, seed: int) -> nn.Module:
    """The network in eval mode with random weights, those that start at zero included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            norm = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if norm else noise / max(parameter[0].numel(), 4) ** 0.5)
    return network.eval().requires_grad_(False)


def tiny_unet(seed: int = 0) -> XDynaUNet:
    return lively(XDynaUNet(CONFIG), seed)


def tiny_controlnet(channels: int = 3, seed: int = 1) -> ControlNet:
    return lively(ControlNet(replace(CONTROL, conditioning_channels=channels)), seed)


def tiny_resampler(seed: int = 2) -> Resampler:
    return lively(Resampler(RESAMPLER), seed)


def normal(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tiny_inputs(frames: int = 3, h: int = 6, w: int = 4, batch: int = 2) -> dict[str, Tensor | int]:
    """sample, t and context of ``XDynaUNet.forward``; ``frames`` counts the generated ones."""
    tokens = CONFIG.text_tokens + CONFIG.image_tokens
    return {
        "sample": normal(batch, CONFIG.in_channels, 1 + frames, h, w),
        "t": 481,
        "context": normal(batch, tokens, CONFIG.cross_attention_dim, seed=4),
    }
