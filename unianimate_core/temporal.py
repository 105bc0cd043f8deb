"""What mixes frames: temporal convolution and temporal transformer (UniAnimate spec 3.3).

There is no positional encoding over frames: their order comes from the temporal convolutions alone.
Between blocks, activations are ``[(b f), c, h, w]``, f counting the reference slot at time 0.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..video_core.attention import FrameAttention, TransformerBlock
from ..video_core.norms import GroupNorm
from ..video_core.savings import Saving, at_once, in_parts, places_joined
from .config import NORM_GROUPS


class TokenConv1d(nn.Conv1d):
    """A convolution of kernel 1 on tokens [..., c]: a Linear whose checkpoint weight is [out, in, 1]."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim, out_dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.squeeze(-1), self.bias)


class TemporalTransformer(Saving, nn.Module):
    """A transformer over the frames at each place; both attentions are self-attention over frames.

    The GroupNorm takes its statistics over channel group x frames x height x width.
    """

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = GroupNorm(NORM_GROUPS, dim, eps=1e-6)
        self.proj_in = TokenConv1d(dim, inner)
        attentions = (FrameAttention(inner, heads, head_dim) for _ in range(2))
        self.transformer_blocks = nn.ModuleList([TransformerBlock(inner, *attentions)])
        self.proj_out = TokenConv1d(inner, dim)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """x: [(b f), dim, h, w] -> the same shape."""
        places = at_once(self.savings.group, len(x) * x.shape[1])
        normed = self.norm(rearrange(x, "(b f) c h w -> b c f h w", f=frames))
        normed = rearrange(normed, "b c f h w -> b f (h w) c")
        tokens = rearrange(x, "(b f) c h w -> b f (h w) c", f=frames)
        tokens = in_parts(self._places, places, tokens, normed, dim=2)
        return rearrange(tokens, "b f (h w) c -> (b f) c h w", h=x.shape[2])

    def _places(self, x: Tensor, normed: Tensor) -> Tensor:
        """x: [b, f, n places, dim], which do not see each other, and the same after the norm -> x's shape."""
        tokens = self.proj_in(normed)
        for block in self.transformer_blocks:
            tokens = block(tokens)
        return x + self.proj_out(tokens)


class FrameConv(nn.Conv3d):
    """A convolution over three neighbouring frames, zeros beyond both ends; weight [out, in, 3, 1, 1].

    Computed in two dimensions, frames and places, which is the same sum with the faster kernels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, kernel_size=(3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        """[b, dim, f, n places] -> the same shape."""
        return F.conv2d(x, self.weight.squeeze(-1), self.bias, padding=(1, 0))


class TemporalConvBlock(nn.Module):
    """Four times GroupNorm (statistics over frames too), SiLU, convolution over frames; one residual.

    The reference slot is the left neighbour of the first frame.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(GroupNorm(NORM_GROUPS, dim), nn.SiLU(inplace=True), FrameConv(dim))
        # nn.Identity stands where a dropout was, which gives the convolutions their published index 3.
        self.conv2, self.conv3, self.conv4 = (
            nn.Sequential(GroupNorm(NORM_GROUPS, dim), nn.SiLU(inplace=True), nn.Identity(), FrameConv(dim))
            for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: [b, dim, f, h, w] -> the same shape."""
        change = self.conv4(self.conv3(self.conv2(self.conv1(places_joined(x)))))
        return x + rearrange(change, "b c f (h w) -> b c f h w", h=x.shape[3])
