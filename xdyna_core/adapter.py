"""The Dynamics-Adapter: every frame's self-attention also asks the reference frame (X-Dyna spec 3)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from ..video_core.attention import Attention, attention


class DynamicsAdapterAttention(Attention):
    """Self-attention in each frame, plus attention of each frame to frame 0 by a query of its own.

    Both share keys and values, projected once. Frame 0 goes through the adapter like any other
    frame (K, X-Dyna spec 11.2), and both output projections add their bias.
    """

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__(dim, heads, head_dim)
        self.to_q_ff = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_out_ff = nn.Linear(heads * head_dim, dim)

    def forward(self, x: Tensor, strength: float = 1.0) -> Tensor:
        """x: [b, f, tokens, dim], frame 0 the reference -> the same shape; strength 0: no adapter."""
        k, v = self.to_k(x), self.to_v(x)
        if strength == 0:
            return self._within_frames(x, k, v)
        asked = self._of_reference(x, k[:, 0], v[:, 0])
        return torch.add(self._within_frames(x, k, v), asked, alpha=strength)

    def _within_frames(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (rearrange(y, "b f t c -> (b f) t c") for y in (self.to_q(x), k, v))
        y = self.to_out[0](attention(q, k, v, self.heads))
        return rearrange(y, "(b f) t c -> b f t c", b=len(x))

    def _of_reference(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """k, v: of frame 0, [b, tokens, dim]; all frames' queries are one row, so that they are not copied."""
        q = rearrange(self.to_q_ff(x), "b f t c -> b (f t) c")
        y = self.to_out_ff(attention(q, k, v, self.heads))
        return rearrange(y, "b (f t) c -> b f t c", f=x.shape[1])
