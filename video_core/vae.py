"""Frames to latents and back in chunks: diffusers' AutoencoderKL from the files people have.

Stable Diffusion's KL-f8 autoencoder (UniAnimate spec 7, X-Dyna spec 1.3 and 1.6), or a narrow one that
carries its architecture and its own latent mean and deviation in the file's metadata.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from .norms import use_our_norms
from .placement import Placed, out_of_memory, smaller_on_oom
from .savings import Saving, laid_out
from .storage import IN_MEMORY, Storage, all_finite, tidying
from .weights import (
    Checkpoint,
    Renamed,
    built,
    common_dtype,
    find_folder,
    find_weights,
    folder_config,
    load_exactly,
    open_checkpoint,
    read_config,
    read_folder_config,
    under,
)

if TYPE_CHECKING:
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

log = logging.getLogger(__name__)

SOURCE = "a Stable Diffusion 1.5 or 2.1 autoencoder (v2-1_512-ema-pruned.ckpt, or a vae folder)"


@dataclass(frozen=True)
class LatentUnits:
    """Between unscaled latents, as autoencoders give and LATENT sockets carry them, and sampler units.

    Sampler units are ``z * factor``, or per channel ``(z - mean) / std`` where these are given.
    """

    factor: float = 0.18215
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def to_sampler(self, latents: Tensor) -> Tensor:
        """Unscaled [F, c, h, w] (a LATENT socket's samples) -> float32 sampler units [1, c, F, h, w]."""
        latents = rearrange(latents.float(), "f c h w -> 1 c f h w")
        statistics = self._statistics(latents)
        if statistics is None:
            return latents * self.factor
        mean, std = statistics
        return (latents - mean) / std

    def from_sampler(self, latents: Tensor) -> Tensor:
        """Sampler units [1, c, F, h, w] -> float32 unscaled [F, c, h, w]."""
        latents = latents.float()
        statistics = self._statistics(latents)
        if statistics is None:
            latents = latents / self.factor
        else:
            mean, std = statistics
            latents = latents * std + mean
        return rearrange(latents, "1 c f h w -> f c h w")

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Mean and deviation per channel [1, c, 1, 1, 1], or None where one factor serves all."""
        given = self.mean, self.std
        if None in given:
            return None
        mean, std = (rearrange(torch.tensor(v, device=like.device), "c -> 1 c 1 1 1") for v in given)
        return mean, std


@dataclass(frozen=True)
class Posterior:
    """The latents that pictures may have: unscaled, float32 [F, c, h, w] each.

    std: None where only the mean is known, as from ComfyUI's own autoencoder.
    """

    mean: Tensor
    std: Tensor | None = None
    units: LatentUnits = LatentUnits()

    def latents(self, noise: Tensor | None = None) -> Tensor:
        """float32 [1, c, F, h, w] in sampler units: drawn by standard normal ``noise``, or the mean."""
        if noise is None or self.std is None:
            return self.units.to_sampler(self.mean)
        if noise.shape != self.mean.shape:
            raise ValueError(
                f"Posterior noise for these frames is {list(self.mean.shape)}; got {list(noise.shape)}."
            )
        return self.units.to_sampler(self.mean + self.std * noise.to(self.mean))


@dataclass(frozen=True)
class VaeConfig:
    """Architecture, by diffusers' names; the defaults are Stable Diffusion's.

    scaling_factor, latents_mean, latents_std: see ``LatentUnits``.
    sample_size: side in pixels of the tiles that tiled encoding and decoding use.
    patch_size: side of the squares of pixels that are channels to the network, which then sees a picture so
    many times smaller; Stable Diffusion's has none (1). Multiplies ``in_channels`` and ``out_channels``.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    sample_size: int = 512
    scaling_factor: float = 0.18215
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None
    patch_size: int = 1

    @property
    def units(self) -> LatentUnits:
        """The units of this autoencoder's latents."""
        return LatentUnits(self.scaling_factor, self.latents_mean, self.latents_std)


class Vae(Saving, nn.Module):
    """The autoencoder at the layouts of this project; ``network`` is diffusers' AutoencoderKL.

    Results come back as float32 on the device of what was given; the network works where it lies (or on
    ``device``, for a network that a host keeps only partly there) in its own dtype.
    """

    def __init__(self, config: VaeConfig) -> None:
        from diffusers import AutoencoderKL

        super().__init__()
        levels, patch = len(config.block_out_channels), config.patch_size
        self.config = config
        self.units = config.units
        self.factor = patch * 2 ** (levels - 1)
        self.network = AutoencoderKL(
            in_channels=config.in_channels * patch**2,
            out_channels=config.out_channels * patch**2,
            latent_channels=config.latent_channels,
            block_out_channels=config.block_out_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=config.layers_per_block,
            norm_num_groups=config.norm_num_groups,
            sample_size=config.sample_size // patch,
        )
        use_our_norms(self.network)

    def to_sampler(self, latents: Tensor) -> Tensor:
        """See ``LatentUnits.to_sampler``."""
        return self.units.to_sampler(latents)

    def from_sampler(self, latents: Tensor) -> Tensor:
        """See ``LatentUnits.from_sampler``."""
        return self.units.from_sampler(latents)

    def moments(self, pixels: Tensor) -> Tensor:
        """Means and log variances [n, 2c, h, w] of the latents of pixels [n, 3, H, W] in -1..1, in one call."""
        patches = pixel_unshuffle(pixels, self.config.patch_size)
        return self.network.encode(laid_out(patches, self.savings.channels_last)).latent_dist.parameters

    def restore(self, unscaled: Tensor) -> Tensor:
        """Pixels [n, 3, H, W] in -1..1 of unscaled latents [n, c, h, w], in one call."""
        patches = self.network.decode(laid_out(unscaled, self.savings.channels_last)).sample
        return pixel_shuffle(patches, self.config.patch_size)

    # ---- frames -> latents -----------------------------------------------------------------------------

    def posterior(self, frames: Tensor, device: torch.device | None = None) -> DiagonalGaussianDistribution:
        """The distribution of the unscaled latents [F, c, h, w] of frames [F, H, W, 3] in 0..1, in one batch.

        Its log variance is clamped to [-30, 20]. H and W must be multiples of ``factor``.
        """
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        pixels = rearrange(frames.float() * 2 - 1, "f h w c -> f c h w").to(*self._place(device))
        return DiagonalGaussianDistribution(self.moments(pixels).to(frames.device, torch.float32))

    def encode(
        self,
        frames: Tensor,
        *,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        chunk: int = 4,
        tiled: bool = False,
        device: torch.device | None = None,
    ) -> Tensor:
        """Frames float [F, H, W, 3] in 0..1 -> float32 latents [1, c, F, h, w] in sampler units.

        The posterior is sampled, as both originals do: with ``noise`` [F, c, h, w], or one draw of that shape
        from the CPU ``generator``. Without either it is the posterior's mean. For errors see
        ``encode_posterior``.
        """
        posterior = self.encode_posterior(frames, chunk=chunk, tiled=tiled, device=device)
        if generator is not None and noise is None:
            noise = torch.randn(posterior.mean.shape, generator=generator)
        return posterior.latents(noise)

    @torch.no_grad()
    def encode_posterior(
        self, frames: Tensor, *, chunk: int = 4, tiled: bool = False, device: torch.device | None = None
    ) -> Posterior:
        """What the latents of frames float [F, H, W, 3] in 0..1 may be, on the device of the frames.

        Raises ValueError for frames that are not RGB or whose sides are not multiples of ``factor``.
        """
        self._check_frames(frames)
        self.network.use_tiling = tiled
        found: list[DiagonalGaussianDistribution] = []
        start = 0
        while start < len(frames):
            rest = frames[start:]
            posterior, chunk = smaller_on_oom(lambda n, rest=rest: self.posterior(rest[:n], device), chunk)
            found.append(posterior)
            start += len(posterior.mean)
        return Posterior(
            torch.cat([part.mean for part in found]), torch.cat([part.std for part in found]), self.units
        )

    def _check_frames(self, frames: Tensor) -> None:
        channels = self.config.in_channels
        if frames.ndim != 4 or frames.shape[-1] != channels or not len(frames):
            raise ValueError(f"Frames should be [F, height, width, {channels}]; got {list(frames.shape)}.")
        height, width = frames.shape[1:3]
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"The autoencoder takes sizes that are multiples of {self.factor}; got {width}x{height}. "
                f"Resize to {width // self.factor * self.factor}x{height // self.factor * self.factor}, say."
            )

    # ---- latents -> frames -----------------------------------------------------------------------------

    def decode(
        self,
        latents: Tensor,
        *,
        chunk: int = 2,
        tiled: bool = False,
        device: torch.device | None = None,
        storage: Storage = IN_MEMORY,
    ) -> Iterator[Tensor]:
        """Latents [1, c, F, h, w] in sampler units -> frames float32 [f, H, W, 3] in 0..1, chunk by chunk.

        Out of memory makes the chunks smaller, and at last tiles of each frame (their seams are blended, so
        the result differs a little; the log says so). storage: where the latents lie. Raises ValueError for
        latents that are not finite.
        """
        channels = self.config.latent_channels
        if latents.ndim != 5 or latents.shape[:2] != (1, channels):
            raise ValueError(f"Latents should be [1, {channels}, frames, h, w]; got {list(latents.shape)}.")
        if not all_finite(latents, storage):
            raise ValueError("The latents hold NaN or infinite values; sample again in fp32 or bf16.")
        return tidying(self._decoded(latents, chunk, tiled, device), storage)

    @torch.no_grad()
    def _decoded(
        self, latents: Tensor, chunk: int, tiled: bool, device: torch.device | None
    ) -> Iterator[Tensor]:
        done = 0
        while done < latents.shape[2]:
            frames, chunk, tiled = self._decode_some(latents[:, :, done:], chunk, tiled, device)
            done += len(frames)
            yield frames

    def _decode_some(
        self, latents: Tensor, chunk: int, tiled: bool, device: torch.device | None
    ) -> tuple[Tensor, int, bool]:
        """The first chunk's frames, and the chunk size and tiling that memory allowed."""
        try:
            frames, chunk = smaller_on_oom(
                lambda n: self._decode_batch(latents[:, :, :n], tiled, device), chunk
            )
        except RuntimeError as error:
            if tiled or not out_of_memory(error):
                raise
        else:
            return frames, chunk, tiled
        log.warning("One frame does not fit into memory; decoding it in blended tiles.")
        return self._decode_batch(latents[:, :, :1], True, device), 1, True

    def _decode_batch(self, latents: Tensor, tiled: bool, device: torch.device | None) -> Tensor:
        self.network.use_tiling = tiled
        unscaled = self.units.from_sampler(latents)
        raw = self.restore(unscaled.to(*self._place(device)))
        frames = (raw.to(unscaled.device, torch.float32) * 0.5 + 0.5).clamp(0, 1)
        if frames.isnan().any():
            raise ValueError("The autoencoder gave NaN; run it in fp32 or bf16.")
        return rearrange(frames, "f c h w -> f h w c")

    def _place(self, device: torch.device | None) -> tuple[torch.device, torch.dtype]:
        weight = self.network.post_quant_conv.weight
        return device or weight.device, weight.dtype


def decode(vae: Vae, placed: Placed, latents: Tensor, storage: Storage = IN_MEMORY) -> Iterator[Tensor]:
    """Frames float32 [f, H, W, 3] in 0..1 on the CPU of latents [1, c, F, h, w] in a storage, a few at a time.

    The last stage of both pipelines (UniAnimate spec 2.5, X-Dyna spec 1.6), with the network in place.
    """
    with placed(vae) as device:
        yield from vae.decode(latents.cpu(), device=device, storage=storage)


# ---- files ---------------------------------------------------------------------------------------------

LDM_RULES = (
    (r"(en|de)coder\.mid_block\.attentions\.0\.group_norm", r"\1coder.mid.attn_1.norm"),
    (r"(en|de)coder\.mid_block\.attentions\.0\.to_([qkv])\.", r"\1coder.mid.attn_1.\2."),
    (r"(en|de)coder\.mid_block\.attentions\.0\.to_out\.0", r"\1coder.mid.attn_1.proj_out"),
    (r"(en|de)coder\.mid_block\.resnets\.0", r"\1coder.mid.block_1"),
    (r"(en|de)coder\.mid_block\.resnets\.1", r"\1coder.mid.block_2"),
    (r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2"),
    (r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample"),
    (r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)", r"decoder.up.\1.block.\2"),
    (r"decoder\.up_blocks\.(\d+)\.upsamplers\.0", r"decoder.up.\1.upsample"),
    (r"conv_shortcut", r"nin_shortcut"),
    (r"conv_norm_out", r"norm_out"),
)
"""diffusers' name -> LDM's, but for the order of the decoder's levels, which is reversed."""

OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""diffusers' attention names before 0.18, still in most files."""

NOT_THE_NETWORK = ("loss.", "model_ema.", "discriminator.")
"""What trainers left in published autoencoder files."""


def ldm_name(name: str, levels: int) -> str:
    """LDM's name of a diffusers autoencoder parameter, e.g. decoder.up_blocks.0 -> decoder.up.3."""
    for pattern, replacement in LDM_RULES:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"decoder\.up\.(\d+)", lambda m: f"decoder.up.{levels - 1 - int(m[1])}", name)


def load_vae(path: str | os.PathLike[str], dtype: torch.dtype | None = None) -> Vae:
    """An autoencoder from a file or folder, on the CPU.

    Taken: a whole Stable Diffusion checkpoint (``first_stage_model.…``), an autoencoder file with LDM's or
    diffusers' names (old and new), a diffusers folder or its parent. Raises CheckpointError.
    """
    path = Path(path)
    if path.is_dir():
        checkpoint, config = _open_folder(path)
    else:
        checkpoint = open_checkpoint(path)
        config = read_config(checkpoint, VaeConfig(), "vae_config", "config")
    return vae_from_tensors(checkpoint, config, dtype)


def vae_from_tensors(
    tensors: Mapping[str, Tensor], config: VaeConfig, dtype: torch.dtype | None = None
) -> Vae:
    """An autoencoder of that architecture with these tensors, whichever of the known namings they have."""
    vae = built(Vae, config, tensors)
    part = _by_our_names(tensors, vae)
    load_exactly(vae.network, part, source=SOURCE, dtype=dtype or common_dtype(part))
    return vae.eval().requires_grad_(False)


def _by_our_names(tensors: Mapping[str, Tensor], vae: Vae) -> Mapping[str, Tensor]:
    if any("first_stage_model." in name for name in tensors):
        tensors = under(tensors, "first_stage_model.")
    elif all(name.startswith("vae.") for name in tensors):
        tensors = under(tensors, "vae.")
    given = {name for name in tensors if not name.startswith(NOT_THE_NETWORK)}
    levels = len(vae.config.block_out_channels)
    table = {}
    for name, place in vae.network.state_dict().items():
        candidates = (name, ldm_name(name, levels), _old_diffusers_name(name))
        found = next((candidate for candidate in candidates if candidate in given), None)
        if found is not None:
            given.discard(found)
            table[name] = (found, _as_linear) if place.ndim == 2 else found
    return Renamed(tensors, table | {name: name for name in given})


def _as_linear(weight: Tensor) -> Tensor:
    """The 1x1 convolutions of LDM's attention are linear layers in diffusers."""
    return weight.flatten(1) if weight.ndim == 4 else weight


def _old_diffusers_name(name: str) -> str:
    for new, old in OLD_ATTENTION.items():
        name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
    return name


def _open_folder(path: Path) -> tuple[Checkpoint, VaeConfig]:
    folder = find_folder(path, "vae")
    stored = read_folder_config(folder)
    known = {f.name for f in fields(VaeConfig)} & stored.keys()
    config = folder_config(folder, VaeConfig(), {name: stored[name] for name in known})
    return open_checkpoint(find_weights(folder, "diffusion_pytorch_model")), config
