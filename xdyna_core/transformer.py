"""Spatial transformers: adapter attention, image-prompt attention, feed-forward (X-Dyna spec 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

from einops import rearrange
from torch import Tensor, nn

from ..video_core.attention import KeysValues, TransformerBlock
from ..video_core.guidance import for_branches
from ..video_core.savings import Saving, at_once, in_parts
from .adapter import DynamicsAdapterAttention
from .image_prompt import ContextKV, IPAdapterAttention
from .resnet import FrameConv, FrameGroupNorm

NORM_EPS = 1e-6
"""Of the transformers' and motion modules' GroupNorms; the resnets' is the config's (X-Dyna spec 2.2)."""


@dataclass(frozen=True)
class Strengths:
    """Of the reference frame (Dynamics-Adapter) and the image prompt: 1 as published, 0 left out."""

    reference: float = 1.0
    image_prompt: float = 1.0


FULL = Strengths()
"""Both adapters as published."""


class AdaptedBlock(TransformerBlock):
    """x += attn1(LN x); x += attn2(LN x, context); x += FF(LN x), with the adapters' strengths."""

    def __init__(self, dim: int, heads: int, head_dim: int, context_dim: int) -> None:
        own = DynamicsAdapterAttention(dim, heads, head_dim)
        super().__init__(dim, own, IPAdapterAttention(dim, heads, head_dim, context_dim))

    def of_reference(self, x: Tensor) -> KeysValues:
        """What the adapter reads of frame 0: x [b, tokens, dim] -> its keys and values."""
        return self.attn1.project(self.norm1(x))

    def forward(
        self,
        x: Tensor,
        context: ContextKV,
        strengths: Strengths = FULL,
        reference: KeysValues | None = None,
    ) -> Tensor:
        """x: [b, f, tokens, dim]; the context of a batch element serves all its frames. Same shape back.

        reference: what ``of_reference`` made of frame 0, where x does not begin with it.

        A context of more rows is of several branches of guidance, for which x is the same up to here; what
        comes back has the context's rows, see ``for_branches``.
        """
        frames = x.shape[1]
        x = for_branches(x + self.attn1(self.norm1(x), strengths.reference, reference), len(context))
        asking = rearrange(self.norm2(x), "b f t c -> b (f t) c")
        told = self.attn2(asking, context, strengths.image_prompt)
        x = x + rearrange(told, "b (f t) c -> b f t c", f=frames)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(Saving, nn.Module):
    """Per-frame GroupNorm, 1x1 convolution, one block over the frame's places, 1x1 convolution, + input."""

    def __init__(self, channels: int, heads: int, context_dim: int, groups: int) -> None:
        super().__init__()
        self.norm = FrameGroupNorm(groups, channels, NORM_EPS)
        self.proj_in = FrameConv(channels, channels, 1)
        block = AdaptedBlock(channels, heads, channels // heads, context_dim)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = FrameConv(channels, channels, 1)

    def project(self, text: Tensor, image: Tensor, copies: int = 1) -> ContextKV:
        """Keys and values of the context, see ``IPAdapterAttention.project_both``."""
        return self.transformer_blocks[0].attn2.project_both(text, image, copies)

    def forward(self, x: Tensor, context: ContextKV, strengths: Strengths = FULL) -> Tensor:
        """x: [b, c, f, h, w], frame 0 the reference -> the same shape, with the context's rows."""
        size = at_once(self.savings.group, len(context) * x[0, :, 0].numel())
        whole = size is None or size >= x.shape[2] or context.copies > 1
        block = self.transformer_blocks[0]
        reference = None if whole else block.of_reference(self._tokens(x[:, :, :1])[:, 0])

        def some(frames: Tensor) -> Tensor:
            tokens = block(self._tokens(frames), context, strengths, reference)
            change = self.proj_out(rearrange(tokens, "b f (h w) c -> b c f h w", h=x.shape[3]))
            return for_branches(frames, len(change)) + change

        return in_parts(some, None if whole else size, x, dim=2)

    def _tokens(self, x: Tensor) -> Tensor:
        """[b, c, f, h, w] -> [b, f, (h w), c]."""
        return rearrange(self.proj_in(self.norm(x)), "b c f h w -> b f (h w) c")
