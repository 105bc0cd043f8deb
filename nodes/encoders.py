"""Autoencoder and CLIP at ComfyUI's own sockets, both ways.

Ours go out as objects that core's nodes take for core's (``OurVae``, ``OurClip``, ``OurVision``). What comes
in is given to the stages as they know it (``vae_of``, ``vision_of``, ``text_of``): ours as they are, core's
behind the few methods that the stages call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..video_core.vae import LatentUnits, Posterior
from . import host, images

if TYPE_CHECKING:
    from ..video_core.clip import ClipText, ClipVision, ImageFeatures, TextFeatures, VisionConfig
    from ..video_core.vae import Vae

LAYERS: Mapping[int, Callable[[TextFeatures], Tensor]] = {
    -1: lambda features: features.last,
    -2: lambda features: features.penultimate,
}
"""Core's number of the text layer where encoding stops -> its features."""


ENCODED_AT_ONCE = 4
"""Frames between two looks at the cancel button."""


# ---- ours, as core knows them --------------------------------------------------------------------------


class OurVae:
    """A ``Vae`` where core expects a VAE. Core's way: pixels 0..1, unscaled latents, the posterior's mean."""

    def __init__(self, vae: Vae) -> None:
        self.vae = vae
        self.managed = host.Managed(vae)
        self.latent_channels = vae.config.latent_channels
        self.downscale_ratio = self.upscale_ratio = vae.factor

    def encode(self, pixel_samples: Tensor) -> Tensor:
        """IMAGE [F, H, W, 3] -> [F, c, H/8, W/8], a few frames at a time.

        What exceeds a multiple of 8 is cut off on both sides.
        """
        pixels = images.rgb(pixel_samples)
        for axis in (1, 2):
            surplus = pixels.shape[axis] % self.vae.factor
            pixels = pixels.narrow(axis, surplus // 2, pixels.shape[axis] - surplus)
        step, latents = host.progress(len(pixels)), []
        with self.managed.placed()(self.vae) as device:
            for some in pixels.split(ENCODED_AT_ONCE):
                latents += self.vae.from_sampler(self.vae.encode(some, device=device))
                step(len(latents))
        return torch.stack(latents).to(host.output_device())

    def decode(self, samples_in: Tensor, vae_options: Mapping[str, Any] | None = None) -> Tensor:
        """[F, c, h, w] -> IMAGE [F, 8h, 8w, 3], a few frames at a time."""
        return self._decode(samples_in, tiled=False)

    def decode_tiled(self, samples: Tensor, **tiles: Any) -> Tensor:
        """``decode`` in tiles of the autoencoder's own size."""
        return self._decode(samples, tiled=True)

    def encode_tiled(self, pixel_samples: Tensor, **tiles: Any) -> Tensor:
        """``encode``, which takes tiles by itself only when decoding."""
        return self.encode(pixel_samples)

    def spacial_compression_encode(self) -> int:
        """Core's name (sic)."""
        return self.vae.factor

    spacial_compression_decode = spacial_compression_encode

    def temporal_compression_decode(self) -> None:
        """No frames are merged."""
        return None

    def _decode(self, samples: Tensor, tiled: bool) -> Tensor:
        latents = self.vae.to_sampler(images.samples_of({"samples": samples}).cpu())
        step, frames = host.progress(latents.shape[2]), []
        with self.managed.placed()(self.vae) as device:
            for chunk in self.vae.decode(latents, tiled=tiled, device=device):
                frames += chunk
                step(len(frames))
        return torch.stack(frames).to(host.output_device())


class OurClip:
    """A ``ClipText`` where core expects a CLIP. layer: where encoding stops, as core counts, -1 the last."""

    def __init__(self, text: ClipText, layer: int = -1, managed: host.Managed | None = None) -> None:
        self.text = text
        self.layer = layer
        self.managed = managed or host.Managed(text)

    def clone(self) -> OurClip:
        """For core's CLIP Set Last Layer, which changes the copy."""
        return OurClip(self.text, self.layer, self.managed)

    def clip_layer(self, layer_idx: int) -> None:
        """Stop at the last layer, -1, or the one before, -2; ValueError for others."""
        if layer_idx not in LAYERS:
            raise ValueError(f"This text encoder stops at layer -1 or -2; {layer_idx} was asked for.")
        self.layer = layer_idx

    def tokenize(self, text: str, return_word_ids: bool = False, **options: Any) -> Tensor:
        """int64 [1, length]; weights such as (word:1.2) are not read."""
        from ..video_core.tokenizer import tokenize

        return tokenize(text, self.text.config, [host.vocabulary()])

    def encode_from_tokens(
        self, tokens: Tensor, return_pooled: bool | str = False, return_dict: bool = False
    ) -> Any:
        """Features [1, length, dim], with core's ways to ask for the pooled ones too."""
        with self.managed.placed()(self.text) as device:
            features = self.text.encode(tokens, device)
        end = int((tokens[0] == self.text.config.end_id).nonzero()[0])
        cond, pooled = LAYERS[self.layer](features), features.last[:, end]
        if return_dict:
            return {"cond": cond, "pooled_output": pooled}
        return (cond, pooled) if return_pooled else cond

    def encode_from_tokens_scheduled(
        self, tokens: Tensor, unprojected: bool = False, add_dict: Mapping[str, Any] | None = None, **_: Any
    ) -> list[list[Any]]:
        """CONDITIONING."""
        found = self.encode_from_tokens(tokens, return_dict=True)
        return [[found.pop("cond"), {**found, **(add_dict or {})}]]


class OurVision:
    """A ``ClipVision`` where core expects a CLIP_VISION."""

    def __init__(self, vision: ClipVision) -> None:
        self.vision = vision
        self.managed = host.Managed(vision)
        self.image_size = vision.config.image_size

    def encode_image(self, image: Tensor, crop: bool = True) -> VisionOutput:
        """IMAGE -> CLIP_VISION_OUTPUT; crop: the centre square, else squeezed into one."""
        from ..video_core.clip import cropped_pixels, squashed_pixels

        square = cropped_pixels if crop else squashed_pixels
        pixels = torch.cat([square(picture, self.image_size) for picture in images.to_uint8(image)])
        with self.managed.placed()(self.vision) as device:
            features = self.vision.encode(pixels, device)
        return VisionOutput(
            penultimate_hidden_states=features.penultimate, image_embeds=features.embeds, mm_projected=None
        )


class VisionOutput(SimpleNamespace):
    """Read by attribute and by key, as core's."""

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


# ---- core's, as our stages know them -------------------------------------------------------------------


class CoreVae(host.PlacedByCore):
    """Core's VAE behind the methods of ``Vae`` that the stages call.

    It gives the mean of the posterior where ours draws from it (X-Dyna spec 1.3, UniAnimate spec 2.2), and
    its latents are scaled by Stable Diffusion's factor.
    """

    def __init__(self, vae: Any) -> None:
        channels = getattr(vae, "latent_channels", 4)
        if channels != 4:
            raise ValueError(
                f"vae: this autoencoder has {channels} latent channels, Stable Diffusion's has 4; "
                "take the one of an SD1.5 checkpoint."
            )
        self._vae = vae

    @property
    def network(self) -> Any:
        """Core's network, by which a kept run knows this autoencoder."""
        return self._vae.first_stage_model

    def encode(self, frames: Tensor, **_: Any) -> Tensor:
        """See ``Vae.encode``; noise for the posterior has no effect."""
        return self.encode_posterior(frames).latents()

    def encode_posterior(self, frames: Tensor, **_: Any) -> Posterior:
        """See ``Vae.encode_posterior``; all that is known is the mean."""
        return Posterior(self._vae.encode(frames).float())

    def decode(self, latents: Tensor, **_: Any) -> Iterator[Tensor]:
        """See ``Vae.decode``; core chooses how many frames go at a time."""
        yield self._vae.decode(self.from_sampler(latents))

    def to_sampler(self, latents: Tensor) -> Tensor:
        """See ``Vae.to_sampler``, in Stable Diffusion's units."""
        return LatentUnits().to_sampler(latents)

    def from_sampler(self, latents: Tensor) -> Tensor:
        """See ``Vae.from_sampler``, in Stable Diffusion's units."""
        return LatentUnits().from_sampler(latents)


class CoreVision(host.PlacedByCore):
    """Core's CLIP_VISION behind the methods of ``ClipVision``; pictures are prepared by our code."""

    def __init__(self, clip_vision: Any) -> None:
        self._core = clip_vision

    @cached_property
    def config(self) -> VisionConfig:
        from ..video_core.clip import VisionConfig

        return VisionConfig(image_size=self._core.image_size)

    def blank(self) -> Tensor:
        """See ``ClipVision.blank``: core's own way to it would round the picture to 8 bits."""
        return torch.zeros(1, 3, self.config.image_size, self.config.image_size)

    def encode(self, pixels: Tensor, device: torch.device | None = None) -> ImageFeatures:
        """See ``ClipVision.encode``."""
        from ..video_core.clip import ImageFeatures

        _, penultimate, embeds, *_ = host.core_vision(self._core, pixels)
        return ImageFeatures(*(x.to(pixels.device, torch.float32) for x in (embeds, penultimate)))


# ---- what comes in -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoder:
    """A network as the stages take it, and those in whose care it is: ``host.together(*encoder.managed)``."""

    network: Any
    managed: tuple[host.Managed, ...] = ()


def vae_of(vae: Any) -> Encoder:
    """VAE -> a ``Vae``, or core's behind the same methods. ValueError for one of other latents."""
    return Encoder(vae.vae, (vae.managed,)) if isinstance(vae, OurVae) else Encoder(CoreVae(vae))


def vision_of(clip_vision: Any) -> Encoder:
    """CLIP_VISION -> a ``ClipVision``, or core's behind the same methods."""
    if isinstance(clip_vision, OurVision):
        return Encoder(clip_vision.vision, (clip_vision.managed,))
    return Encoder(CoreVision(clip_vision))


def text_of(conditioning: Sequence[Sequence[Any]], what: str) -> Tensor:
    """CONDITIONING -> float32 [1, a multiple of 77, dim]; ValueError where several prompts were combined."""
    if len(conditioning) != 1:
        raise ValueError(
            f"{what}: {len(conditioning)} prompts were combined, and one is taken; join them with "
            "Conditioning (Concat), or write them into one text."
        )
    return conditioning[0][0].float().cpu()


def empty_text(clip: Any, layer: int) -> Tensor:
    """Features float32 [1, 77, dim] of the empty text from a CLIP, ours or core's.

    layer: where encoding stops, as core counts, whatever the CLIP is set to: -2 for UniAnimate (spec 2.2).
    """
    clip = clip.clone()
    clip.clip_layer(layer)
    return clip.encode_from_tokens(clip.tokenize("")).float().cpu()
