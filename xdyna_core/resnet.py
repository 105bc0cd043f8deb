"""Resnets and resampling: 2-D convolutions on every frame, norms over all frames (X-Dyna spec 2.2, 2.3).

Everything here takes and returns [b, c, f, h, w]. Convolutions see the frames as a batch; their memory stays
frame-major, and inside a frame channels-last (``LayerSavings.channels_last``), so that turning one view into
another, or into tokens, costs nothing between them.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..video_core.norms import GroupNorm


class FrameConv(nn.Conv2d):
    """A 2-D convolution applied to each frame."""

    def forward(self, x: Tensor) -> Tensor:
        """x: [b, c, f, h, w] -> [b, c', f, h', w']."""
        frames = super().forward(rearrange(x, "b c f h w -> (b f) c h w"))
        return rearrange(frames, "(b f) c h w -> b c f h w", b=x.shape[0])


class FrameGroupNorm(GroupNorm):
    """GroupNorm with statistics of its own for every frame (transformers, motion modules)."""

    def forward(self, x: Tensor) -> Tensor:
        """x: [b, c, f, h, w] -> the same shape."""
        frames = super().forward(rearrange(x, "b c f h w -> (b f) c h w"))
        return rearrange(frames, "(b f) c h w -> b c f h w", b=x.shape[0])


class ResnetBlock(nn.Module):
    """norm, SiLU, conv, + time embedding, norm, SiLU, conv, + shortcut.

    (K, X-Dyna spec 11.1) Both norms are plain GroupNorms on the 5-D tensor: their statistics run over
    all frames of the window, the reference frame included.
    """

    def __init__(self, in_channels: int, out_channels: int, time_dim: int, groups: int, eps: float) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, in_channels, eps)
        self.conv1 = FrameConv(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_dim, out_channels)
        self.norm2 = GroupNorm(groups, out_channels, eps)
        self.conv2 = FrameConv(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.conv_shortcut = nn.Identity() if same else FrameConv(in_channels, out_channels, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x: [b, c, f, h, w]; time: [b or 1, time_dim], the same for all frames. Returns [b, c', f, h, w]."""
        h = self.conv1(F.silu(self.norm1(x), inplace=True))
        h = h + rearrange(self.time_emb_proj(F.silu(time)), "b c -> b c 1 1 1")
        h = self.conv2(F.silu(self.norm2(h), inplace=True))
        return self.conv_shortcut(x) + h


class Downsample(nn.Module):
    """Stride-2 convolution; an odd height or width is halved upwards."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = FrameConv(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: [b, c, f, h, w] -> [b, c, f, ceil(h/2), ceil(w/2)]."""
        return self.conv(x)


class Upsample(nn.Module):
    """Nearest neighbour to a given size, then a convolution (X-Dyna spec 2.2: odd latent sizes)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = FrameConv(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x: [b, c, f, h, w]; size: (height, width) of the result."""
        frames = F.interpolate(rearrange(x, "b c f h w -> (b f) c h w"), size=size, mode="nearest")
        return self.conv(rearrange(frames, "(b f) c h w -> b c f h w", b=x.shape[0]))
