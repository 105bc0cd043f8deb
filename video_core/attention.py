"""The one attention call, and the transformer pieces that both networks are built of.

Parameter names are those of the published checkpoints (LDM and diffusers agree here).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .norms import LayerNorm
from .savings import SCORE_BYTES, Saving, at_once, in_parts

MAX_SEQUENCES = 2**16 - 1
"""Sequences in one attention call: CUDA's fused kernels take no more (pytorch issues 142228 and 146704)."""

FUSED_ELSEWHERE = ("cpu", "meta")
"""Devices beside CUDA whose attention keeps no scores; the meta device stands for one."""


class KeysValues(NamedTuple):
    """Keys and values of one attention layer for a context, [R, S, heads * d] each."""

    k: Tensor
    v: Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, scores: int | None = SCORE_BYTES) -> Tensor:
    """Softmax attention, scale head_dim^-1/2, no mask, no dropout.

    q: [B, L, heads * d]; k, v: [B or 1, S, heads * d] (a leading 1 is broadcast, not copied).
    Strided views are taken as they are. Where no fused kernel does without the scores, so many queries go at a
    time that their scores take at most ``scores`` bytes (None: all). Returns [B, L, heads * d].
    """
    q, k, v = (rearrange(x, "b l (h d) -> b h l d", h=heads) for x in (q, k, v))
    k, v = (x.expand(q.shape[0], -1, -1, -1) for x in (k, v))
    groups = zip(*(x.split(MAX_SEQUENCES) for x in (q, k, v)), strict=True)
    done = [_one_call(*group, scores) for group in groups]
    return rearrange(done[0] if len(done) == 1 else torch.cat(done), "b h l d -> b l (h d)")


def _one_call(q: Tensor, k: Tensor, v: Tensor, scores: int | None) -> Tensor:
    """Attention of q [b, h, L, d] to k, v [b, h, S, d], by queries where its scores would have to be held."""
    if scores is None or has_fused_kernel(q, k, v):
        return F.scaled_dot_product_attention(q, k, v)
    of_a_query = q.shape[0] * q.shape[1] * k.shape[2] * q.element_size()
    queries = at_once(scores, of_a_query)
    return in_parts(lambda part: F.scaled_dot_product_attention(part, k, v), queries, q, dim=2)


def has_fused_kernel(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether torch computes this attention without keeping its scores.

    CUDA's fused kernels take heads whose width is a multiple of 8 (X-Dyna's are 40, 80 and 160, UniAnimate's
    64) and whose innermost stride is 1, which our views keep; it is asked. The CPU's kernel takes everything.
    """
    if q.device.type == "cuda":
        case = torch.backends.cuda.SDPAParams(q, k, v, None, 0.0, False, False)
        return torch.backends.cuda.can_use_flash_attention(case) or (
            torch.backends.cuda.can_use_efficient_attention(case)
        )
    return q.device.type in FUSED_ELSEWHERE


class Attention(Saving, nn.Module):
    """Multi-head attention of ``x`` to ``context`` (to itself where there is none); q, k, v without bias."""

    def __init__(self, dim: int, heads: int, head_dim: int, context_dim: int | None = None) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(context_dim or dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim or dim, inner, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(inner, dim)])

    def project(self, context: Tensor) -> KeysValues:
        """Keys and values of a context [R, S, context_dim]; they serve as long as it does not change."""
        return KeysValues(self.to_k(context), self.to_v(context))

    def attend(self, q: Tensor, told: KeysValues) -> Tensor:
        """``attention`` as this layer's savings have it."""
        return attention(q, *told, self.heads, self.savings.scores)

    def forward(self, x: Tensor, context: Tensor | KeysValues | None = None) -> Tensor:
        """x: [B, L, dim]; context: [R, S, context_dim], row r of which serves the B / R consecutive rows of x
        that start at r * B / R (the frames of a clip share their text), or what ``project`` made of it.
        Returns [B, L, dim].
        """
        if context is None:
            return self.to_out[0](self.attend(self.to_q(x), self.project(x)))
        if not self.savings.shared_context:
            context = _for_each_row(context, len(x))
        told = self.project(context) if isinstance(context, Tensor) else context
        # Queries do not see each other, so the rows that share a context are one long query sequence:
        # the keys and values of a clip are computed once, and not repeated for each frame.
        rows = len(told.k)
        out = self.attend(rearrange(self.to_q(x), "(r n) l c -> r (n l) c", r=rows), told)
        return self.to_out[0](rearrange(out, "r (n l) c -> (r n) l c", n=len(x) // rows))


def _for_each_row(context: Tensor | KeysValues, rows: int) -> Tensor | KeysValues:
    """A context, or its keys and values, repeated for each of the rows that share it, as published."""
    if isinstance(context, KeysValues):
        return KeysValues(*(x.repeat_interleave(rows // len(x), dim=0) for x in context))
    return context.repeat_interleave(rows // len(context), dim=0)


class FrameAttention(Attention):
    """Self-attention over the frames at each place, full (not causal)."""

    def forward(self, x: Tensor, context: None = None) -> Tensor:
        """x: [b, f, n places, dim] -> the same shape."""
        # Linears take tokens in any order, so only the attention call sees places as its batch: as views.
        # Several clips are taken one by one: together they would be no view.
        clips = zip(
            *(rearrange(to(x), "b f n c -> b n f c") for to in (self.to_q, self.to_k, self.to_v)), strict=True
        )
        done = [rearrange(self.attend(q, KeysValues(k, v)), "n f c -> f n c") for q, k, v in clips]
        return self.to_out[0](done[0][None] if len(done) == 1 else torch.stack(done))


class GEGLU(nn.Module):
    """Linear(dim -> 2 inner), split in (value, gate); value * gelu(gate), exact (erf) GELU."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(Saving, nn.Module):
    """GEGLU to 4 x dim and back; keys ``net.0.proj`` and ``net.2`` (``net.1`` was a dropout).

    The inner activations would be the largest of the whole network (8 x dim per token), and no token needs
    another, so it is computed for some tokens at a time (``LayerSavings.feed_forward``).
    """

    def __init__(self, dim: int, mult: int = 4) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(dim, dim * mult), nn.Identity(), nn.Linear(dim * mult, dim)])

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., dim] -> the same shape."""
        tokens = x.reshape(-1, x.shape[-1])
        size = at_once(self.savings.feed_forward, x.shape[-1])
        return in_parts(lambda part: self.net[2](self.net[0](part)), size, tokens).view(x.shape)


class TransformerBlock(nn.Module):
    """x += attn1(LN x); x += attn2(LN x, context); x += GEGLU feed-forward(LN x)."""

    def __init__(self, dim: int, attn1: Attention, attn2: Attention) -> None:
        super().__init__()
        self.attn1 = attn1
        self.ff = FeedForward(dim)
        self.attn2 = attn2
        self.norm1 = LayerNorm(dim)
        self.norm2 = LayerNorm(dim)
        self.norm3 = LayerNorm(dim)

    def forward(self, x: Tensor, context: Tensor | KeysValues | None = None) -> Tensor:
        """x: [..., dim] as its attentions take it; context: what ``attn2`` attends to. Returns x's shape."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


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
