"""What works within a frame: residual block, spatial transformer, down, up (UniAnimate spec 3.3).

Activations are ``[(b f), c, h, w]``, all frames of item 0 first.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..video_core.attention import Attention, KeysValues, TransformerBlock
from ..video_core.norms import GroupNorm
from ..video_core.savings import Saving, at_once, in_parts
from .config import NORM_GROUPS
from .temporal import TemporalConvBlock


class ResBlock(Saving, nn.Module):
    """Two 3x3 convolutions with the time embedding added between them, then the temporal convolution."""

    def __init__(self, in_dim: int, out_dim: int, embed_dim: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            GroupNorm(NORM_GROUPS, in_dim), nn.SiLU(inplace=True), nn.Conv2d(in_dim, out_dim, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embed_dim, out_dim))
        self.out_layers = nn.Sequential(
            GroupNorm(NORM_GROUPS, out_dim),
            nn.SiLU(inplace=True),
            nn.Identity(),  # a dropout, whose place keeps the published index 3 of the convolution
            nn.Conv2d(out_dim, out_dim, 3, padding=1),
        )
        self.skip_connection = nn.Identity() if in_dim == out_dim else nn.Conv2d(in_dim, out_dim, 1)
        self.temopral_conv = TemporalConvBlock(out_dim)  # sic: the published name

    def forward(self, x: Tensor, emb: Tensor, frames: int) -> Tensor:
        """x: [(b f), in_dim, h, w]; emb: [r, embed_dim], row i serving the b*f / r consecutive images from
        i * b*f / r on (one row per clip, or one per image). Returns [(b f), out_dim, h, w].
        """
        shift = self.emb_layers(emb).repeat_interleave(len(x) // len(emb), dim=0)
        x = in_parts(self._images, at_once(self.savings.group, x[0].numel()), x, shift)
        return rearrange(
            self.temopral_conv(rearrange(x, "(b f) c h w -> b c f h w", f=frames)), "b c f h w -> (b f) c h w"
        )

    def _images(self, x: Tensor, shift: Tensor) -> Tensor:
        """What concerns single images: x [n, in_dim, h, w], shift [n, out_dim] -> [n, out_dim, h, w]."""
        h = self.in_layers(x).add_(rearrange(shift, "n c -> n c 1 1"))
        return self.skip_connection(x) + self.out_layers(h)


class SpatialTransformer(Saving, nn.Module):
    """A transformer over the places of each frame: self-attention, cross-attention to the context, GEGLU."""

    def __init__(self, dim: int, heads: int, head_dim: int, context_dim: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = GroupNorm(NORM_GROUPS, dim, eps=1e-6)
        self.proj_in = nn.Linear(dim, inner)
        within, across = Attention(inner, heads, head_dim), Attention(inner, heads, head_dim, context_dim)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(inner, within, across)])
        self.proj_out = nn.Linear(inner, dim)

    def project(self, context: Tensor) -> KeysValues:
        """Keys and values of a context [r, tokens, context_dim], which ``forward`` takes instead of it."""
        return self.transformer_blocks[0].attn2.project(context)

    def forward(self, x: Tensor, context: Tensor | KeysValues) -> Tensor:
        """x: [(b f), dim, h, w]; context: [r, tokens, context_dim], rows shared as in ``Attention``, or what
        ``project`` made of it. Returns x's shape.
        """
        rows = len(context) if isinstance(context, Tensor) else len(context.k)
        images = rearrange(x, "(r n) c h w -> r n c h w", r=rows)

        def some(part: Tensor) -> Tensor:
            changed = self._images(rearrange(part, "r n c h w -> (r n) c h w"), context)
            return rearrange(changed, "(r n) c h w -> r n c h w", r=rows)

        size = at_once(self.savings.group, rows * x[0].numel())
        return rearrange(in_parts(some, size, images, dim=1), "r n c h w -> (r n) c h w")

    def _images(self, x: Tensor, context: Tensor | KeysValues) -> Tensor:
        """``forward`` on images of each row of the context, all that there are or some."""
        tokens = self.proj_in(rearrange(self.norm(x), "n c h w -> n (h w) c"))
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return x + rearrange(self.proj_out(tokens), "n (h w) c -> n c h w", h=x.shape[2])


class Downsample(nn.Module):
    """3x3 convolution of stride 2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(dim, dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, dim, h, w] -> [n, dim, h/2, w/2]."""
        return self.op(x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, dim, h, w] -> [n, dim, 2h, 2w]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
