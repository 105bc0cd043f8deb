"""X-Dyna's UNet: SD1.5's, with motion modules, Dynamics-Adapter and image prompt (X-Dyna spec 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..video_core.attention import sinusoidal_embedding
from ..video_core.deep import Deep
from ..video_core.guidance import for_branches
from ..video_core.norms import GroupNorm
from ..video_core.savings import Saving, laid_out
from .blocks import DownBlock, MidBlock, UpBlock
from .config import XDynaConfig
from .image_prompt import ContextKV
from .resnet import FrameConv
from .transformer import FULL, Strengths


@dataclass(frozen=True)
class ProjectedContext:
    """Keys and values of a context for every attention layer: a list per block, ordered down, mid, up."""

    blocks: tuple[list[ContextKV], ...]

    def rows(self, rows: list[int]) -> ProjectedContext:
        """The chosen batch rows, see ``ContextKV.rows``."""
        return ProjectedContext(tuple([kv.rows(rows) for kv in block] for block in self.blocks))


class TimestepEmbedding(nn.Module):
    """lin2(SiLU(lin1(sincos(t))))."""

    def __init__(self, channels: int, time_dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, time_dim)
        self.linear_2 = nn.Linear(time_dim, time_dim)

    def forward(self, t: Tensor) -> Tensor:
        """t: [b] -> [b, time_dim] in the weights' dtype; the sinusoids are computed in float32."""
        wave = sinusoidal_embedding(t, self.linear_1.in_features).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(wave)))


class XDynaUNet(Saving, nn.Module):
    """The network with the published names: 1326 at full size, 40 of them position buffers."""

    def __init__(self, config: XDynaConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or XDynaConfig()
        widths, levels = config.block_out_channels, len(config.block_out_channels)
        self.conv_in = FrameConv(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0])
        self.down_blocks = nn.ModuleList(
            DownBlock(
                widths[max(i - 1, 0)],
                widths[i],
                config,
                attention=config.attention_levels[i],
                downsample=i < levels - 1,
            )
            for i in range(levels)
        )
        self.mid_block = MidBlock(widths[-1], config)
        self.up_blocks = nn.ModuleList(
            UpBlock(
                _up_inputs(config, i),
                widths[i],
                config,
                attention=config.attention_levels[i],
                upsample=i > 0,
            )
            for i in reversed(range(levels))
        )
        # (K, X-Dyna spec 11.1) statistics over all frames, as in the resnets.
        self.conv_norm_out = GroupNorm(config.norm_num_groups, widths[0], config.norm_eps)
        self.conv_out = FrameConv(widths[0], config.out_channels, 3, padding=1)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights; inputs are cast to it, predictions back to the sample's dtype."""
        return self.conv_out.weight.dtype

    def project_context(self, context: Tensor, copies: int = 1) -> ProjectedContext:
        """Keys and values of context [b, text tokens + image tokens, dim], the image tokens last.

        copies: as published, each row is repeated for that many frames first; 1 lets the frames share it.

        (F) The original accepts 77 text tokens only; here any positive multiple of 77 may be text, which
        is what a long prompt encoded in pieces gives. Raises ValueError for other counts and widths.
        """
        text_length = context.shape[1] - self.config.image_tokens
        if text_length <= 0 or text_length % self.config.text_tokens:
            raise ValueError(
                f"The context has {context.shape[1]} tokens. X-Dyna takes {self.config.text_tokens} text "
                f"tokens, or a multiple, then {self.config.image_tokens} image tokens, concatenated."
            )
        if context.shape[2] != self.config.cross_attention_dim:
            raise ValueError(
                f"The text and image tokens are {context.shape[2]} wide, X-Dyna takes "
                f"{self.config.cross_attention_dim}: encode the prompt with SD1.5's CLIP."
            )
        text, image = context.to(self.dtype).tensor_split([text_length], dim=1)
        blocks = [*self.down_blocks, self.mid_block, *self.up_blocks]
        return ProjectedContext(tuple(block.project(text, image, copies) for block in blocks))

    def forward(
        self,
        sample: Tensor,
        t: Tensor | float,
        context: Tensor | ProjectedContext,
        down_residuals: Sequence[Tensor] | None = None,
        mid_residual: Tensor | None = None,
        *,
        strengths: Strengths = FULL,
        deep: Deep | None = None,
    ) -> Tensor:
        """The predicted noise, shape and dtype of the sample; that of frame 0 means nothing.

        sample:  latents [b, c, 1 + f, h, w], scaled by 0.18215; frame 0 is the clean reference, 1 <= f <= 24.
        t:       timestep, a number or [b]; the same for all frames.
        context: [b, text + image tokens, dim], or what ``project_context`` made of it once per clip. With n
            times b rows it is that of n branches of guidance (row i belongs to sample i mod b): what does not
            depend on it is computed once, and the prediction has its rows. t is a number then.
        down_residuals, mid_residual: of the ControlNets, one per skip [b, c, 1 + f or f, h, w] and one for
            the middle, or with a row for each of the context's; those with f frames belong to frames 1 and
            later. Both or neither.
        strengths: of the two adapters, for this call.
        deep: keeps what enters the finest level on the way up, or gives what was kept.
        Raises ValueError, with a sentence, for shapes the network cannot take.
        """
        self._check(sample, down_residuals, mid_residual)
        projected = context if isinstance(context, ProjectedContext) else self._projected(context, sample)
        levels = len(self.down_blocks)
        time = self.time_embedding(torch.as_tensor(t, device=sample.device).reshape(-1))
        x = self.conv_in(_laid_out(sample.to(self.dtype), self.savings.channels_last))
        finest, given, skips = len(self.up_blocks[-1].resnets), deep is not None and deep.given, [x]
        for block, kv in zip(
            self.down_blocks[: 1 if given else None], projected.blocks[:levels], strict=False
        ):
            x, made = block(x, time, kv, strengths)
            skips += made
        # Only after all down blocks have run: the residuals do not touch the way down.
        residuals = list(down_residuals or [None] * len(skips))
        up = list(zip(self.up_blocks, projected.blocks[levels + 1 :], strict=True))
        if given:
            # Of the finest block the way up does not see the downsampling.
            x, skips, residuals, up = deep.take().to(x), skips[:finest], residuals[:finest], up[-1:]
        else:
            x = self.mid_block(x, time, projected.blocks[levels], strengths)
            x = _with_residual(x, mid_residual)
        for block, kv in up:
            if deep is not None and not given and len(skips) == finest:
                deep.keep(for_branches(x, len(deep.rows)))
            used = [_with_residual(skips.pop(), residuals.pop()) for _ in block.resnets]
            size = tuple(skips[-1].shape[-2:]) if skips else None
            x = block(x, time, kv, strengths, used, size)
        return self.conv_out(F.silu(self.conv_norm_out(x))).to(sample.dtype)

    def _projected(self, context: Tensor, sample: Tensor) -> ProjectedContext:
        """The context of one call, its rows shared by the sample's frames or repeated for each."""
        return self.project_context(context, 1 if self.savings.shared_context else sample.shape[2])

    def _check(
        self, sample: Tensor, down_residuals: Sequence[Tensor] | None, mid_residual: Tensor | None
    ) -> None:
        if sample.ndim != 5 or sample.shape[1] != self.config.in_channels:
            raise ValueError(
                f"X-Dyna takes latents [batch, {self.config.in_channels}, 1 + frames, height, width]; "
                f"got {list(sample.shape)}."
            )
        frames, longest = sample.shape[2] - 1, self.config.motion_max_frames
        if not 1 <= frames <= longest:
            raise ValueError(
                f"A window of {frames} frames beside the reference was given; X-Dyna's motion modules know "
                f"1 to {longest}. Use context windows of at most {longest} frames (the original's have 16)."
            )
        expected = (self.config.layers_per_block + 1) * len(self.down_blocks)
        if (down_residuals is None) != (mid_residual is None):
            raise ValueError("Give ControlNet residuals for the skips and the middle, or for neither.")
        if down_residuals is not None and len(down_residuals) != expected:
            raise ValueError(
                f"{len(down_residuals)} ControlNet residuals were given for {expected} skips; "
                "the ControlNet is of another architecture than the UNet."
            )


def _up_inputs(config: XDynaConfig, level: int) -> list[int]:
    """Input widths of an up block's resnets: what comes from below, beside the skips in reverse order."""
    widths, layers = config.block_out_channels, config.layers_per_block
    below = widths[min(level + 1, len(widths) - 1)]
    came = [below] + [widths[level]] * layers
    skips = [widths[level]] * layers + [widths[max(level - 1, 0)]]
    return [a + b for a, b in zip(came, skips, strict=True)]


def _laid_out(sample: Tensor, channels_last: bool) -> Tensor:
    """[b, c, f, h, w] with frames that lie channels-last, or as it is."""
    frames = laid_out(rearrange(sample, "b c f h w -> (b f) c h w"), channels_last)
    return rearrange(frames, "(b f) c h w -> b c f h w", b=len(sample))


def _with_residual(x: Tensor, residual: Tensor | None) -> Tensor:
    """x + residual, where there is one; without the reference frame it is added to the later frames alone."""
    if residual is None:
        return x
    rows = max(len(x), len(residual))
    x, residual = for_branches(x, rows), for_branches(residual.to(x), rows)
    untouched = x.shape[2] - residual.shape[2]
    if untouched == 0:
        return x + residual
    return torch.cat([x[:, :, :untouched], x[:, :, untouched:] + residual], dim=2)
