"""The Dynamics-Adapter: every frame's self-attention also asks the reference frame (X-Dyna spec 3)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from ..video_core.attention import Attention, KeysValues


class DynamicsAdapterAttention(Attention):
    """Self-attention in each frame, plus attention of each frame to frame 0 by a query of its own.

    Both share keys and values, projected once. Frame 0 goes through the adapter like any other
    frame (K, X-Dyna spec 11.2), and both output projections add their bias.
    """

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__(dim, heads, head_dim)
        self.to_q_ff = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_out_ff = nn.Linear(heads * head_dim, dim)

    def forward(self, x: Tensor, strength: float = 1.0, reference: KeysValues | None = None) -> Tensor:
        """x: [b, f, tokens, dim] -> the same shape; strength 0: no adapter.

        reference: keys and values of frame 0, [b, tokens, dim] each; None where x begins with that frame.
        """
        own = self.project(x)
        if strength == 0:
            return self._within_frames(x, own)
        asked = self._of_reference(x, reference or KeysValues(own.k[:, 0], own.v[:, 0]))
        return torch.add(self._within_frames(x, own), asked, alpha=strength)

    def _within_frames(self, x: Tensor, own: KeysValues) -> Tensor:
        q, k, v = (rearrange(y, "b f t c -> (b f) t c") for y in (self.to_q(x), *own))
        y = self.to_out[0](self.attend(q, KeysValues(k, v)))
        return rearrange(y, "(b f) t c -> b f t c", b=len(x))

    def _of_reference(self, x: Tensor, reference: KeysValues) -> Tensor:
        """All frames' queries are one row, so that keys and values are not copied for each; or they are."""
        frames = x.shape[1]
        rows = 1 if self.savings.shared_reference else frames
        q = rearrange(self.to_q_ff(x), "b (r f) t c -> (b r) (f t) c", r=rows)
        told = KeysValues(*(y.repeat_interleave(rows, dim=0) for y in reference)) if rows > 1 else reference
        y = self.to_out_ff(self.attend(q, told))
        return rearrange(y, "(b r) (f t) c -> b (r f) t c", r=rows, t=x.shape[2])
