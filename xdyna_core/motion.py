"""Motion modules: attention along time over the generated frames; the reference passes by (X-Dyna spec 5)."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from ..video_core.attention import FeedForward, FrameAttention
from ..video_core.norms import LayerNorm
from ..video_core.savings import Saving, at_once, in_parts
from .resnet import FrameGroupNorm
from .transformer import NORM_EPS

MOTION_GROUPS = 32
"""Groups of the motion modules' GroupNorm, whatever the rest of the network has."""


def position_table(length: int, dim: int) -> Tensor:
    """float32 [1, length, dim]: sines at even, cosines at odd places (the published ``pos_encoder.pe``)."""
    frequencies = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angles = torch.arange(length)[:, None] * frequencies
    return rearrange([angles.sin(), angles.cos()], "two l d -> 1 l (d two)")


class PositionEncoding(nn.Module):
    """Adds the position in the window; position 0 is the first generated frame."""

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        self.register_buffer("pe", position_table(length, dim))

    def forward(self, x: Tensor) -> Tensor:
        """x: [b, f, n places, c], f at most the table's length -> the same shape."""
        return x + rearrange(self.pe[:, : x.shape[1]], "1 f c -> 1 f 1 c")


class TemporalAttention(FrameAttention):
    """Self-attention over the frames at each place; positions enter queries, keys and values alike."""

    def __init__(self, dim: int, heads: int, length: int) -> None:
        super().__init__(dim, heads, dim // heads)
        self.pos_encoder = PositionEncoding(dim, length)

    def forward(self, x: Tensor, context: None = None) -> Tensor:
        """x: [b, f, n places, c] -> the same shape."""
        return super().forward(self.pos_encoder(x))


class TemporalBlock(nn.Module):
    """x += attention(LN x), as often as there are attentions; x += FF(LN x)."""

    def __init__(self, dim: int, heads: int, attentions: int, length: int) -> None:
        super().__init__()
        attend = (TemporalAttention(dim, heads, length) for _ in range(attentions))
        self.attention_blocks = nn.ModuleList(attend)
        self.norms = nn.ModuleList(LayerNorm(dim) for _ in range(attentions))
        self.ff = FeedForward(dim)
        self.ff_norm = LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: [b, f, n places, c] -> the same shape."""
        for attend, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = x + attend(norm(x))
        return x + self.ff(self.ff_norm(x))


class TemporalTransformer(Saving, nn.Module):
    """Per-frame GroupNorm, linear, blocks over the frames at each place, linear, + input."""

    def __init__(self, channels: int, heads: int, blocks: int, attentions: int, length: int) -> None:
        super().__init__()
        self.norm = FrameGroupNorm(MOTION_GROUPS, channels, NORM_EPS)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            TemporalBlock(channels, heads, attentions, length) for _ in range(blocks)
        )
        self.proj_out = nn.Linear(channels, channels)
        # A new module changes nothing: training starts from the image model.
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: [b, c, f, h, w] -> the same shape."""
        places = at_once(self.savings.group, len(x) * x.shape[1] * x.shape[2])
        own, normed = (rearrange(y, "b c f h w -> b f (h w) c") for y in (x, self.norm(x)))
        tokens = in_parts(self._places, places, own, normed, dim=2)
        return rearrange(tokens, "b f (h w) c -> b c f h w", h=x.shape[3])

    def _places(self, x: Tensor, normed: Tensor) -> Tensor:
        """x: [b, f, n places, c], which do not see each other, and the same after the norm -> x's shape."""
        tokens = self.proj_in(normed)
        for block in self.transformer_blocks:
            tokens = block(tokens)
        return x + self.proj_out(tokens)


class MotionModule(nn.Module):
    """The temporal transformer on frames 1 and later; frame 0, the reference, comes back unchanged."""

    def __init__(self, channels: int, heads: int, blocks: int, attentions: int, length: int) -> None:
        super().__init__()
        self.temporal_transformer = TemporalTransformer(channels, heads, blocks, attentions, length)

    def forward(self, x: Tensor) -> Tensor:
        """x: [b, c, 1 + f, h, w], f at most ``length`` -> the same shape."""
        reference, frames = x[:, :, :1], x[:, :, 1:]
        return torch.cat([reference, self.temporal_transformer(frames)], dim=2)
