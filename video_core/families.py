"""Whose checkpoint is this? Told by the names of its tensors, so that a wrong file is called by its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Family(NamedTuple):
    """A kind of file, and fragments each of which occurs in some of its tensors' names."""

    name: str
    fragments: tuple[str, ...]


UNIANIMATE = "the UniAnimate network"
XDYNA = "the X-Dyna network"
XDYNA_CONTROL = "a ControlNet (as X-Dyna's pose and face control are)"
IP_ADAPTER = "an IP-Adapter or its resampler (X-Dyna's image prompt)"
VAE = "an image autoencoder (VAE)"
CLIP = "a CLIP text or image encoder"

FAMILIES = (
    Family(UNIANIMATE, ("dwpose_embedding.", "randomref_embedding2.", "temopral_conv.")),
    Family(XDYNA, (".to_q_ff.", "motion_modules.")),
    Family("a Wan video transformer or UniAnimate-DiT weights for it", ("blocks.0.self_attn.",)),
    Family("a LoRA", (".lora_up.",)),
    Family("a LoRA", (".lora_A.",)),
    Family(IP_ADAPTER, ("image_proj.", "ip_adapter.")),
    Family(IP_ADAPTER, ("latents", ".to_kv.")),
    Family(XDYNA_CONTROL, ("controlnet_cond_embedding.",)),
    Family("a ControlNet in Stable Diffusion's own layout", ("input_hint_block.",)),
    Family("a Stable Diffusion XL checkpoint", ("model.diffusion_model.", "conditioner.embedders.")),
    Family("a whole Stable Diffusion checkpoint", ("model.diffusion_model.", "first_stage_model.")),
    Family("a Flux network", ("double_blocks.0.",)),
    Family("a text-to-video network of the ModelScope family", ("temopral_conv.",)),
    Family("a Stable Diffusion UNet with motion modules", ("resnets.0.", "motion_modules.")),
    Family("an AnimateDiff motion module", ("motion_modules.",)),
    Family("a Stable Diffusion UNet in diffusers' layout", ("down_blocks.0.resnets.0.time_emb_proj.",)),
    Family("a Stable Diffusion UNet", ("input_blocks.0.0.", "out.2.")),
    Family(VAE, ("decoder.conv_in.", "decoder.conv_out.")),
    Family(CLIP, ("visual.transformer.resblocks.",)),
    Family(CLIP, ("vision_model.encoder.layers.",)),
    Family(CLIP, ("text_model.encoder.layers.",)),
)
"""In this order: the first that fits names the file, so the more particular stand first."""


def family_of(names: Iterable[str]) -> str | None:
    """What a file with tensors of these names is ("a LoRA"), or None where no family of the table fits."""
    names = list(names)
    present = {f for family in FAMILIES for f in family.fragments if any(f in name for name in names)}
    return next((family.name for family in FAMILIES if present.issuperset(family.fragments)), None)
