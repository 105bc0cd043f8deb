from __future__ import annotations

import json
from pathlib import Path

import pytest
from xdyna_unianimate.video_core import families

KEYS = Path(__file__).resolve().parents[3] / "shared" / "keys"

EXAMPLES = {
    families.UNIANIMATE: ["dwpose_embedding.0.bias", "randomref_embedding2.0.bias", "a.temopral_conv.b"],
    families.XDYNA: ["a.attn1.to_q_ff.weight", "down_blocks.0.motion_modules.0.a", "conv_in.weight"],
    families.XDYNA_CONTROL: ["controlnet_cond_embedding.a", "down_blocks.0.resnets.0.time_emb_proj.bias"],
    families.IP_ADAPTER: ["latents", "layers.0.0.to_kv.weight"],
    families.VAE: ["encoder.conv_in.bias", "decoder.conv_in.bias", "decoder.conv_out.bias"],
    families.CLIP: ["vision_model.encoder.layers.0.a"],
    "an AnimateDiff motion module": ["down_blocks.0.motion_modules.0.temporal_transformer.proj_in.bias"],
    "a text-to-video network of the ModelScope family": ["input_blocks.0.0.bias", "a.temopral_conv.b"],
    "a Stable Diffusion UNet in diffusers' layout": ["down_blocks.0.resnets.0.time_emb_proj.bias"],
    None: ["weight", "bias"],
}

MANIFESTS = {
    "unianimate/unet_unianimate.json": families.UNIANIMATE,
    "unianimate/first_stage_model.json": families.VAE,
    "unianimate/open_clip_vit_h_14.json": families.CLIP,
    "xdyna/unet3d_xdyna.json": families.XDYNA,
    "xdyna/controlnet_pose_sd15.json": families.XDYNA_CONTROL,
    "xdyna/controlnet_sface_sd15_6ch.json": families.XDYNA_CONTROL,
    "xdyna/resampler_ipadapter_plus_sd15.json": families.IP_ADAPTER,
}


@pytest.mark.parametrize(("family", "names"), EXAMPLES.items())
def test_family_of(family: str | None, names: list[str]) -> None:
    assert families.family_of(names) == family


@pytest.mark.parametrize(("manifest", "family"), MANIFESTS.items())
def test_family_of_the_published_files(manifest: str, family: str) -> None:
    path = KEYS / manifest
    if not path.is_file():
        pytest.skip(f"{path} is not beside this checkout")
    assert families.family_of(json.loads(path.read_text())) == family
