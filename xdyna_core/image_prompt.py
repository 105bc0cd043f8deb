"""The image prompt: IP-Adapter-plus's Resampler, and attention to its tokens (X-Dyna spec 4, 7)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from ..video_core.attention import Attention, KeysValues, attention
from ..video_core.norms import LayerNorm
from .config import ResamplerConfig


@dataclass(frozen=True)
class ContextKV:
    """Keys and values of one attention layer for a context, [b, text tokens, dim] and [b, image tokens, dim].

    They depend on the context alone, so one projection serves a whole clip: all steps, frames and windows.
    copies: rows that are the same, one after the other: 1, or as published one for each frame of the window.
    """

    text: KeysValues
    image: KeysValues
    copies: int = 1

    def __len__(self) -> int:
        """Rows of the batch that it is for, copies left out."""
        return len(self.text.k) // self.copies

    def rows(self, rows: list[int]) -> ContextKV:
        """The chosen rows of the batch, e.g. [0, 0, 1, 1] for two windows of each guidance branch."""
        text, image = (KeysValues(x.k[rows], x.v[rows]) for x in (self.text, self.image))
        return ContextKV(text, image)


class IPAdapterAttention(Attention):
    """Cross-attention to text plus, by other projections, to image tokens; their sum is projected out."""

    def __init__(self, dim: int, heads: int, head_dim: int, context_dim: int) -> None:
        super().__init__(dim, heads, head_dim, context_dim)
        self.to_k_ip = nn.Linear(context_dim, heads * head_dim, bias=False)
        self.to_v_ip = nn.Linear(context_dim, heads * head_dim, bias=False)

    def project_both(self, text: Tensor, image: Tensor, copies: int = 1) -> ContextKV:
        """text: [b, text tokens, context_dim]; image: [b, image tokens, context_dim], each row repeated first."""
        if copies > 1:
            text, image = (x.repeat_interleave(copies, dim=0) for x in (text, image))
        return ContextKV(self.project(text), KeysValues(self.to_k_ip(image), self.to_v_ip(image)), copies)

    def forward(self, x: Tensor, context: ContextKV, strength: float = 1.0) -> Tensor:
        """x: [b, tokens, dim], of any number of frames -> the same shape; strength 0: no image."""
        q = rearrange(self.to_q(x), "b (n t) c -> (b n) t c", n=context.copies)
        y = self.attend(q, context.text)
        if strength != 0:
            y = torch.add(y, self.attend(q, context.image), alpha=strength)
        return self.to_out[0](rearrange(y, "(b n) t c -> b (n t) c", n=context.copies))


class PerceiverAttention(nn.Module):
    """Latents attend to [image features, latents]; no biases, keys before values in ``to_kv``."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = LayerNorm(dim)
        self.norm2 = LayerNorm(dim)
        self.to_q = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, dim, bias=False)

    def forward(self, features: Tensor, latents: Tensor) -> Tensor:
        """features: [b, tokens, dim]; latents: [b, queries, dim] -> the shape of latents."""
        features, latents = self.norm1(features), self.norm2(latents)
        k, v = self.to_kv(torch.cat([features, latents], dim=1)).chunk(2, dim=-1)
        return self.to_out(attention(self.to_q(latents), k, v, self.heads))


class Resampler(nn.Module):
    """Penultimate CLIP features -> image tokens (X-Dyna spec 7; 51 keys at full size)."""

    def __init__(self, config: ResamplerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ResamplerConfig()
        dim, inner = config.dim, config.dim * config.ff_mult
        self.latents = nn.Parameter(torch.randn(1, config.num_queries, dim) / dim**0.5)
        self.proj_in = nn.Linear(config.embedding_dim, dim)
        self.proj_out = nn.Linear(dim, config.output_dim)
        self.norm_out = LayerNorm(config.output_dim)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(dim, config.heads, config.dim_head), _feed_forward(dim, inner)])
            for _ in range(config.depth)
        )

    def forward(self, features: Tensor) -> Tensor:
        """features: [b, any number of tokens, embedding_dim] -> [b, num_queries, output_dim].

        The unconditional tokens are those of an all-zero normalised picture sent through CLIP
        (X-Dyna spec 1.2), not zeros.
        """
        features = self.proj_in(features)
        latents = self.latents.expand(len(features), -1, -1)
        for attend, feed_forward in self.layers:
            latents = latents + attend(features, latents)
            latents = latents + feed_forward(latents)
        return self.norm_out(self.proj_out(latents))


def _feed_forward(dim: int, inner: int) -> nn.Sequential:
    """LayerNorm, then a perceptron without biases (exact GELU)."""
    return nn.Sequential(
        LayerNorm(dim), nn.Linear(dim, inner, bias=False), nn.GELU(), nn.Linear(inner, dim, bias=False)
    )
