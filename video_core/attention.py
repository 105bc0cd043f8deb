"""The one attention call, and the transformer pieces that both networks are built of.

Parameter names are those of the published checkpoints (LDM and diffusers agree here).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

MAX_SEQUENCES = 2**16 - 1
"""Sequences in one attention call: CUDA's fused kernels take no more (pytorch issues 142228 and 146704)."""


FEED_FORWARD_CHUNK = 2**15
"""Tokens in one pass of a feed-forward: enough to fill a GPU, and a fraction of a window at full size."""


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax attention, scale head_dim^-1/2, no mask, no dropout.

    q: [B, L, heads * d]; k, v: [B or 1, S, heads * d] (a leading 1 is broadcast, not copied).
    Strided views are taken as they are. Returns [B, L, heads * d].
    """
    q, k, v = (rearrange(x, "b l (h d) -> b h l d", h=heads) for x in (q, k, v))
    k, v = (x.expand(q.shape[0], -1, -1, -1) for x in (k, v))
    if q.shape[0] <= MAX_SEQUENCES:
        out = F.scaled_dot_product_attention(q, k, v)
    else:
        groups = zip(*(x.split(MAX_SEQUENCES) for x in (q, k, v)), strict=True)
        out = torch.cat([F.scaled_dot_product_attention(*group) for group in groups])
    return rearrange(out, "b h l d -> b l (h d)")


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
        """x: [B, L, dim]; context: [R, S, context_dim], row r of which serves the B / R consecutive rows of x
        that start at r * B / R (the frames of a clip share their text). Returns [B, L, dim].
        """
        context = x if context is None else context
        # Queries do not see each other, so the rows that share a context are one long query sequence:
        # the keys and values of a clip are computed once, and not repeated for each frame.
        q = rearrange(self.to_q(x), "(r n) l c -> r (n l) c", r=context.shape[0])
        out = attention(q, self.to_k(context), self.to_v(context), self.heads)
        return self.to_out[0](rearrange(out, "r (n l) c -> (r n) l c", n=x.shape[0] // context.shape[0]))


class FrameAttention(Attention):
    """Self-attention over the frames at each place, full (not causal)."""

    def forward(self, x: Tensor, context: None = None) -> Tensor:
        """x: [b, f, n places, dim] -> the same shape."""
        # Linears take tokens in any order, so only the attention call sees places as its batch: as views.
        projections = (self.to_q, self.to_k, self.to_v)
        out = attention(*(rearrange(to(x), "b f n c -> (b n) f c") for to in projections), self.heads)
        return self.to_out[0](rearrange(out, "(b n) f c -> b f n c", b=x.shape[0]))


class GEGLU(nn.Module):
    """Linear(dim -> 2 inner), split in (value, gate); value * gelu(gate), exact (erf) GELU."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU to 4 x dim and back; keys ``net.0.proj`` and ``net.2`` (``net.1`` was a dropout).

    ``chunk``: tokens computed at a time, None = all at once. The inner activations would be the largest of the
    whole network (8 x dim per token), and no token needs another, so chunks change nothing but the memory.
    """

    chunk: int | None = FEED_FORWARD_CHUNK

    def __init__(self, dim: int, mult: int = 4) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(dim, dim * mult), nn.Identity(), nn.Linear(dim * mult, dim)])

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., dim] -> the same shape."""
        tokens = x.reshape(-1, x.shape[-1])
        if self.chunk is None or len(tokens) <= self.chunk:
            return self.net[2](self.net[0](x))
        return torch.cat([self.net[2](self.net[0](part)) for part in tokens.split(self.chunk)]).view(x.shape)


class TransformerBlock(nn.Module):
    """x += attn1(LN x); x += attn2(LN x, context); x += GEGLU feed-forward(LN x)."""

    def __init__(self, dim: int, attn1: Attention, attn2: Attention) -> None:
        super().__init__()
        self.attn1 = attn1
        self.ff = FeedForward(dim)
        self.attn2 = attn2
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x: [..., dim] as its attentions take it; context: what ``attn2`` attends to. Returns x's shape."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


def set_feed_forward_chunk(network: nn.Module, tokens: int | None) -> None:
    """Let every FeedForward of a network compute ``tokens`` tokens at a time; None undoes it."""
    for module in network.modules():
        if isinstance(module, FeedForward):
            module.chunk = tokens


def sinusoidal_embedding(timesteps: Tensor, dim: int, frequencies: Literal["exp", "pow"] = "exp") -> Tensor:
    """float32 [B, dim] of timesteps [B]: cos half first, then sin, frequencies 10000^(-i / (dim//2)); an odd
    dim ends in a zero.

    ``frequencies`` says how they are rounded: as diffusers computes them (exp), or as LDM does (pow). The
    cosine of an angle near 1000 shows the difference (6e-5).
    """
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32)
    if frequencies == "exp":
        rates = torch.exp(-torch.log(torch.tensor(10000.0)) * steps / half)
    else:
        rates = torch.pow(10000.0, -steps / half)
    angles = timesteps.float()[:, None] * rates.to(timesteps.device)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, dim % 2))
