"""Down, middle and up blocks: layers of resnet -> transformer -> motion module (X-Dyna spec 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..video_core.guidance import for_branches
from .config import XDynaConfig
from .image_prompt import ContextKV
from .motion import MotionModule
from .resnet import Downsample, ResnetBlock, Upsample
from .transformer import SpatialTransformer, Strengths


def _resnet(in_channels: int, out_channels: int, config: XDynaConfig) -> ResnetBlock:
    time_dim = 4 * config.block_out_channels[0]
    return ResnetBlock(in_channels, out_channels, time_dim, config.norm_num_groups, config.norm_eps)


def _transformer(channels: int, config: XDynaConfig) -> SpatialTransformer:
    return SpatialTransformer(
        channels, config.attention_heads, config.cross_attention_dim, config.norm_num_groups
    )


def _motion_module(channels: int, config: XDynaConfig) -> MotionModule:
    return MotionModule(
        channels,
        config.motion_heads,
        config.motion_blocks,
        config.motion_attentions,
        config.motion_max_frames,
    )


class _Block(nn.Module):
    """Resnets with, where the level has them, as many transformers."""

    def __init__(self, resnets: list[ResnetBlock], attentions: list[SpatialTransformer]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(attentions)

    def project(self, text: Tensor, image: Tensor, copies: int = 1) -> list[ContextKV]:
        """Keys and values of the context for each transformer of the block; none where it has none."""
        return [attention.project(text, image, copies) for attention in self.attentions]


class _LayeredBlock(_Block):
    """Layers of resnet -> transformer, where the level has them -> motion module."""

    def __init__(self, inputs: list[int], channels: int, config: XDynaConfig, attention: bool) -> None:
        super().__init__(
            [_resnet(width, channels, config) for width in inputs],
            [_transformer(channels, config) for _ in inputs if attention],
        )
        self.motion_modules = nn.ModuleList(_motion_module(channels, config) for _ in inputs)

    def layer(
        self, i: int, x: Tensor, time: Tensor, context: list[ContextKV], strengths: Strengths
    ) -> Tensor:
        """Layer i on x [b, c, f, h, w]."""
        x = self.resnets[i](x, time)
        if self.attentions:
            x = self.attentions[i](x, context[i], strengths)
        return self.motion_modules[i](x)


class DownBlock(_LayeredBlock):
    """One level on the way down; its downsampling, where it has one, is the last of its skips."""

    def __init__(
        self, in_channels: int, channels: int, config: XDynaConfig, *, attention: bool, downsample: bool
    ) -> None:
        inputs = [in_channels] + [channels] * (config.layers_per_block - 1)
        super().__init__(inputs, channels, config, attention)
        self.downsamplers = nn.ModuleList([Downsample(channels)] if downsample else [])

    def forward(
        self, x: Tensor, time: Tensor, context: list[ContextKV], strengths: Strengths
    ) -> tuple[Tensor, list[Tensor]]:
        """x: [b, c, f, h, w]. Returns the block's output and its skips, which end with that output."""
        skips = []
        for i in range(len(self.resnets)):
            x = self.layer(i, x, time, context, strengths)
            skips.append(x)
        for downsample in self.downsamplers:
            x = downsample(x)
            skips.append(x)
        return x, skips


class MidBlock(_Block):
    """resnet -> transformer -> resnet; no motion module."""

    def __init__(self, channels: int, config: XDynaConfig) -> None:
        super().__init__(
            [_resnet(channels, channels, config) for _ in range(2)], [_transformer(channels, config)]
        )

    def forward(self, x: Tensor, time: Tensor, context: list[ContextKV], strengths: Strengths) -> Tensor:
        """x: [b, c, f, h, w] -> the same shape."""
        x = self.resnets[0](x, time)
        x = self.attentions[0](x, context[0], strengths)
        return self.resnets[1](x, time)


class UpBlock(_LayeredBlock):
    """One level on the way up; each layer takes one skip."""

    def __init__(
        self, inputs: list[int], channels: int, config: XDynaConfig, *, attention: bool, upsample: bool
    ) -> None:
        super().__init__(inputs, channels, config, attention)
        self.upsamplers = nn.ModuleList([Upsample(channels)] if upsample else [])

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        context: list[ContextKV],
        strengths: Strengths,
        skips: list[Tensor],
        size: tuple[int, int] | None,
    ) -> Tensor:
        """x: [b, c, f, h, w]; skips: one per layer, in the order of use, of b rows or those that branches of
        guidance share; size: (h, w) of the next level.
        """
        for i, skip in enumerate(skips):
            skip = for_branches(skip, len(x))
            x = self.layer(i, torch.cat([x, skip], dim=1), time, context, strengths)
        for upsample in self.upsamplers:
            x = upsample(x, size)
        return x
