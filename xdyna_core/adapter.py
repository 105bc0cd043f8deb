"""The Dynamics-Adapter: every frame's self-attention also asks the reference frame (X-Dyna spec 3)."""

from __future__ import annotations

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
        frames = x.shape[1]
        k, v = self.to_k(x), self.to_v(x)
        q, k_own, v_own = (rearrange(y, "b f t c -> (b f) t c") for y in (self.to_q(x), k, v))
        y = self.to_out[0](attention(q, k_own, v_own, self.heads))
        y = rearrange(y, "(b f) t c -> b f t c", f=frames)
        if strength == 0:
            return y
        # All frames' queries in one row per batch element: frame 0's keys and values are never copied.
        q_adapter = rearrange(self.to_q_ff(x), "b f t c -> b (f t) c")
        adapter = self.to_out_ff(attention(q_adapter, k[:, 0], v[:, 0], self.heads))
        return y + strength * rearrange(adapter, "b (f t) c -> b f t c", f=frames)
