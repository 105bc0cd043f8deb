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
LDM_CONTROL = "a ControlNet in Stable Diffusion's own layout"
STABLE_DIFFUSION = "a whole Stable Diffusion checkpoint"
LDM_UNET = "a Stable Diffusion UNet"
DIFFUSERS_UNET = "a Stable Diffusion UNet in diffusers' layout"
MOTION_UNET = "a Stable Diffusion UNet with motion modules"
MOTION_MODULE = "an AnimateDiff motion module"
VAE = "an image autoencoder (VAE)"
CLIP = "a CLIP text or image encoder"

FAMILIES = (
    Family(UNIANIMATE, ("dwpose_embedding.", "randomref_embedding2.", "temopral_conv.")),
    Family(XDYNA, (".to_q_ff.", "motion_modules.")),
    Family("a Wan video transformer or UniAnimate-DiT weights for it", ("blocks.0.self_attn.",)),
    Family("a LoRA", (".lora_up.",)),
    Family("a LoRA", (".lora_A.",)),
    Family("a LoRA", ("lora.up.",)),
    Family("a LoRA", ("lora_linear_layer.up.",)),
    Family("a LoRA of the LoHa kind", ("hada_w1_a",)),
    Family("an AnimateDiff motion module of version 2", ("mid_block.motion_modules.",)),
    Family("an IP-Adapter other than IP-Adapter-plus", ("image_proj.proj.",)),
    Family(IP_ADAPTER, ("image_proj.", "ip_adapter.")),
    Family(IP_ADAPTER, ("latents", ".to_kv.")),
    Family(XDYNA_CONTROL, ("controlnet_cond_embedding.",)),
    Family(LDM_CONTROL, ("input_hint_block.",)),
    Family("a latent-consistency model (LCM)", ("time_embedding.cond_proj.",)),
    Family("a latent-consistency model (LCM)", ("time_embed.cond_proj.",)),
    Family("a Stable Diffusion XL checkpoint", ("model.diffusion_model.", "conditioner.embedders.")),
    Family("a Stable Diffusion XL UNet", ("add_embedding.linear_1.",)),
    Family("a Stable Diffusion XL UNet", ("label_emb.0.0.",)),
    Family("a Stable Diffusion 2 checkpoint", ("model.diffusion_model.", "cond_stage_model.model.")),
    Family("a Flux network", ("double_blocks.0.",)),
    Family("a Stable Diffusion 3 network", ("joint_blocks.0.",)),
    Family(STABLE_DIFFUSION, ("model.diffusion_model.", "first_stage_model.")),
    Family("a text-to-video network of the ModelScope family", ("temopral_conv.",)),
    Family(MOTION_UNET, ("resnets.0.", "motion_modules.")),
    Family(MOTION_MODULE, ("motion_modules.",)),
    Family(DIFFUSERS_UNET, ("down_blocks.0.resnets.0.time_emb_proj.",)),
    Family(LDM_UNET, ("input_blocks.0.0.", "out.2.")),
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
