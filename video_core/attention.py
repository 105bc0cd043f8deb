"""The one attention call, and the transformer pieces that both networks are built of.

Parameter names are those of the published checkpoints (LDM and diffusers agree here).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax attention, scale head_dim^-1/2, no mask, no dropout.

    q: [B, L, heads * d]; k, v: [B or 1, S, heads * d] (a leading 1 is broadcast, not copied).
    Returns [B, L, heads * d].
    """
    q, k, v = (rearrange(x, "b l (h d) -> b h l d", h=heads) for x in (q, k, v))
    k, v = (x.expand(q.shape[0], -1, -1, -1) for x in (k, v))
    return rearrange(F.scaled_dot_product_attention(q, k, v), "b h l d -> b l (h d)")


class Attention(nn.Module):
    """Multi-head attention of ``x`` to ``context`` (to itself where there is none); q, k, v without bias."""

    def __init__(self, dim: int, heads: int, head_dim: int, context_dim: int | None = None) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(context_dim or dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim or dim, inner, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(inner, dim)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x: [B, L, dim]; context: [B or 1, S, context_dim]. Returns [B, L, dim]."""
        context = x if context is None else context
        return self.to_out[0](attention(self.to_q(x), self.to_k(context), self.to_v(context), self.heads))


class GEGLU(nn.Module):
    """Linear(dim -> 2 inner), split in (value, gate); value * gelu(gate), exact (erf) GELU."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU to 4 x dim and back; keys ``net.0.proj`` and ``net.2`` (``net.1`` was a dropout)."""

    def __init__(self, dim: int, mult: int = 4) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(dim, dim * mult), nn.Identity(), nn.Linear(dim * mult, dim)])

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., dim] -> the same shape."""
        return self.net[2](self.net[0](x))


def sinusoidal_embedding(timesteps: Tensor, dim: int) -> Tensor:
    """float32 [B, dim] of timesteps [B]: cos half first, then sin, frequencies 10000^(-i / (dim/2))."""
    half = dim // 2
    frequencies = torch.exp(
        -torch.log(torch.tensor(10000.0)) * torch.arange(half, dtype=torch.float32) / half
    ).to(timesteps.device)
    angles = timesteps.float()[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
