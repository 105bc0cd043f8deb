"""The conditioning towers: pictures and reference latents to a few channels at latent resolution.

A tower is a stack of convolutions on single frames, followed by a tiny transformer over frames
(UniAnimate spec 3.1). The two are kept apart: the convolutions' features of a frame can be computed once,
what the transformer makes of them depends on which frames stand together.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from ..video_core.attention import attention
from ..video_core.norms import LayerNorm
from .config import TOWER_HEADS


def pixel_tower(out_dim: int, inner: int) -> nn.Sequential:
    """[n, 3, H, W] in 0..1 -> [n, out_dim, H/8, W/8] (poses, first frame, reference pose)."""
    return nn.Sequential(
        nn.Conv2d(3, inner, 3, padding=1),
        nn.SiLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(inner, inner, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(inner, out_dim, 3, stride=2, padding=1),
    )


def latent_tower(in_dim: int, out_dim: int, inner: int) -> nn.Sequential:
    """[n, in_dim, h, w] scaled latents -> [n, out_dim, h, w] (the reference picture)."""
    return nn.Sequential(
        nn.Conv2d(in_dim, inner, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(inner, inner, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(inner, out_dim, 3, padding=1),
    )


class TowerAttention(nn.Module):
    """Self-attention over frames; one bias-free projection for q, k, v; a head is as wide as the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(dim, 3 * TOWER_HEADS * dim, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(TOWER_HEADS * dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        """[n, f, dim] -> the same shape."""
        q, k, v = self.to_qkv(x).chunk(3, dim=-1)
        return self.to_out[0](attention(q, k, v, TOWER_HEADS))


class PreNorm(nn.Module):
    """fn(LayerNorm(x))."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = LayerNorm(dim)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> the same shape."""
        return self.fn(self.norm(x))


class TowerFeedForward(nn.Module):
    """Linear to 4 x dim, GELU (exact), Linear back; keys ``net.0.0`` and ``net.2``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        widen = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU())
        self.net = nn.Sequential(widen, nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> the same shape."""
        return self.net(x)


class FrameTransformer(nn.Module):
    """One layer over the frames at every place: x += attention(LN x); x += feed-forward(x).

    K: the feed-forward has no norm before it (UniAnimate spec 3.1 and 12).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        layer = [PreNorm(dim, TowerAttention(dim)), TowerFeedForward(dim)]
        self.layers = nn.ModuleList([nn.ModuleList(layer)])

    def forward(self, x: Tensor) -> Tensor:
        """[n places, f, dim] -> the same shape."""
        for attend, feed_forward in self.layers:
            x = x + attend(x)
            x = x + feed_forward(x)
        return x


def over_frames(transformer: FrameTransformer, features: Tensor) -> Tensor:
    """Apply a tower's transformer to features [b, c, f, h, w] of the frames that stand together."""
    b, _, _, h, _ = features.shape
    mixed = transformer(rearrange(features, "b c f h w -> (b h w) f c"))
    return rearrange(mixed, "(b h w) f c -> b c f h w", b=b, h=h)
