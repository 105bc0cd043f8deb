"""ControlNets for pose and face: diffusers' network, run on the frames of a window (X-Dyna spec 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from ..video_core.norms import use_our_norms
from ..video_core.savings import Saving, laid_out
from .config import ControlNetConfig


@dataclass(frozen=True)
class Residuals:
    """What ControlNets add to the UNet: one tensor per skip and one for the middle, each [b, c, f, h, w].

    They have no reference frame: ``XDynaUNet`` adds residuals of f frames to frames 1 to f.
    """

    down: tuple[Tensor, ...]
    mid: Tensor

    def __add__(self, other: Residuals) -> Residuals:
        """Of two ControlNets, pose and face."""
        down = tuple(a + b for a, b in zip(self.down, other.down, strict=True))
        return Residuals(down, self.mid + other.mid)

    def frames(self, frames: list[int]) -> Residuals:
        """The chosen frames: a window of residuals that were computed for a longer clip."""
        return self._each(lambda x: x[:, :, frames])

    def followed_by(self, other: Residuals) -> Residuals:
        """These frames, then those of ``other``."""
        return self._joined(other, dim=2)

    def beside(self, other: Residuals) -> Residuals:
        """These rows of the batch, then those of ``other``."""
        return self._joined(other, dim=0)

    def as_windows(self, windows: int) -> Residuals:
        """[1, c, (windows f), h, w] -> [windows, c, f, h, w]."""
        return self._each(lambda x: rearrange(x, "1 c (w f) h x -> w c f h x", w=windows))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Residuals:
        return Residuals(tuple(change(x) for x in self.down), change(self.mid))

    def _joined(self, other: Residuals, dim: int) -> Residuals:
        down = tuple(torch.cat(pair, dim) for pair in zip(self.down, other.down, strict=True))
        return Residuals(down, torch.cat([self.mid, other.mid], dim))


class ControlNet(Saving, nn.Module):
    """A diffusers ControlNetModel (``net``; its keys are the published ones), its picture part set apart.

    The embedding of the control pictures depends neither on the timestep nor on the latents: ``embed``
    computes it once per clip. Frames do not see each other, so any number of them goes through at a time.
    """

    def __init__(self, config: ControlNetConfig | None = None) -> None:
        from diffusers import ControlNetModel

        super().__init__()
        self.config = config = config or ControlNetConfig()
        self.net = ControlNetModel(**config.for_diffusers())
        use_our_norms(self.net)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights; inputs are cast to it, residuals have it."""
        return self.net.conv_in.weight.dtype

    def embed(self, images: Tensor, chunk: int | None = None) -> Tensor:
        """Control pictures [f, channels, 8h, 8w], float 0..1 -> their embedding [1, c, f, h, w].

        The face ControlNet takes [local, global] along the channels. chunk: pictures at a time, None = all.
        Raises ValueError for another number of channels.
        """
        if images.shape[1] != self.config.conditioning_channels:
            raise ValueError(
                f"This ControlNet takes {self.config.conditioning_channels} control channels "
                f"(3 = pose, 6 = face maps local and global); the pictures have {images.shape[1]}."
            )
        embed = self.net.controlnet_cond_embedding
        parts = [embed(self._frames(images[part])) for part in _slices(len(images), chunk)]
        return rearrange(torch.cat(parts), "f c h w -> 1 c f h w")

    def _frames(self, images: Tensor) -> Tensor:
        """[n, c, h, w] as the network takes them: its device, dtype and memory layout."""
        return laid_out(images.to(self.net.device, self.dtype), self.savings.channels_last)

    def forward(
        self,
        latents: Tensor,
        t: Tensor | float,
        text: Tensor,
        embedding: Tensor,
        *,
        strength: float = 1.0,
        chunk: int | None = None,
    ) -> Residuals | None:
        """Residuals for the frames of a clip or window; None at strength 0, which leaves the ControlNet out.

        latents:   [b, 4, f, h, w], the generated frames alone, without the reference.
        t:         timestep, a number or [b].
        text:      [b, 77, dim], the text tokens alone; those of a batch element serve all its frames.
        embedding: [b or 1, c, f, h, w] from ``embed``, the same frames.
        chunk:     pictures (b x f) at a time, None = all.
        """
        if strength == 0:
            return None
        b, _, f, h, w = latents.shape
        if embedding.shape[2:] != latents.shape[2:]:
            raise ValueError(
                f"The control pictures embed to {list(embedding.shape[2:])} (frames, height, width), the "
                f"latents are {[f, h, w]}: give one control picture per frame, 8 times the latents' size."
            )
        times = torch.as_tensor(t, device=latents.device).expand(b)
        text = text.to(self.dtype)
        pictures = self._frames(rearrange(latents, "b c f h w -> (b f) c h w"))
        hints = rearrange(embedding.expand(b, -1, -1, -1, -1), "b c f h w -> (b f) c h w")
        owners = torch.arange(b, device=latents.device).repeat_interleave(f)
        chunks = [
            self._residuals(pictures[part], times[owners[part]], text[owners[part]], hints[part])
            for part in _slices(len(pictures), chunk)
        ]
        *down, mid = (
            rearrange(x if strength == 1 else strength * x, "(b f) c h w -> b c f h w", b=b)
            for x in map(torch.cat, zip(*chunks, strict=True))
        )
        return Residuals(tuple(down), mid)

    def _residuals(self, pictures: Tensor, times: Tensor, text: Tensor, hints: Tensor) -> list[Tensor]:
        """ControlNetModel's own forward with the pictures embedded already; residuals of skips, then middle.

        pictures: [n, 4, h, w]; times: [n]; text: [n, 77, dim]; hints: [n, c, h, w].
        """
        net = self.net
        time = net.time_embedding(net.time_proj(times).to(pictures.dtype))
        x = net.conv_in(pictures) + hints
        skips = [x]
        for block, attention in zip(net.down_blocks, self.config.attention_levels, strict=True):
            x, made = block(x, time, encoder_hidden_states=text) if attention else block(x, time)
            skips += made
        x = net.mid_block(x, time, encoder_hidden_states=text)
        down = [out(skip) for out, skip in zip(net.controlnet_down_blocks, skips, strict=True)]
        return [*down, net.controlnet_mid_block(x)]


def _slices(length: int, size: int | None) -> list[slice]:
    """Consecutive slices of at most ``size`` that cover ``length``."""
    size = size or length
    return [slice(start, start + size) for start in range(0, length, size)]
