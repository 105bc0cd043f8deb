from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from xdyna_unianimate.video_core.weights import CheckpointError, open_checkpoint, read_config, save_checkpoint
from xdyna_unianimate.xdyna_core.config import FIXED_OPTIONS, ControlNetConfig, ResamplerConfig, XDynaConfig

from .tiny import CONFIG, CONTROL, RESAMPLER

RELEASE = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "layers_per_block": 2,
    "block_out_channels": [320, 640, 1280, 1280],
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-05,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "unet_use_cross_frame_attention": "mixed_cross",
    "unet_use_ipadapter": True,
    "use_motion_module": True,
    "motion_module_kwargs": {
        "num_attention_heads": 8,
        "num_transformer_block": 1,
        "attention_block_types": ["Temporal_Self", "Temporal_Self"],
        "temporal_position_encoding": True,
        "temporal_position_encoding_max_len": 24,
        "temporal_attention_dim_div": 1,
        "zero_initialize": True,
        "cross_id": True,
    },
}
"""SD1.5's UNet config with the options that X-Dyna adds (X-Dyna spec 2.1)."""


def test_defaults_are_the_release() -> None:
    assert XDynaConfig.from_release(RELEASE) == XDynaConfig()
    assert ControlNetConfig.from_release(RELEASE) == ControlNetConfig()


def test_levels_with_attention_are_those_of_the_block_types() -> None:
    types = ["DownBlock3D", "CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"]
    config = XDynaConfig.from_release({**RELEASE, "down_block_types": types})
    assert config.attention_levels == (False, True, True, False)


@pytest.mark.parametrize("option", FIXED_OPTIONS)
def test_an_option_that_the_release_does_not_use_is_refused(option: str) -> None:
    motion = RELEASE["motion_module_kwargs"]
    changed = {option: "another"}
    if option in motion:
        changed = {"motion_module_kwargs": {**motion, **changed}}
    with pytest.raises(ValueError, match=f"^{option} = 'another' is not X-Dyna's"):
        XDynaConfig.from_release({**RELEASE, **changed})


@pytest.mark.parametrize(
    ("ours", "release"),
    [(CONFIG, XDynaConfig()), (CONTROL, ControlNetConfig()), (RESAMPLER, ResamplerConfig())],
    ids=["unet", "controlnet", "resampler"],
)
def test_a_checkpoint_carries_its_architecture(ours: object, release: object, tmp_path: Path) -> None:
    path = save_checkpoint(
        tmp_path / "a.safetensors", {"x": torch.zeros(1)}, {"config": json.dumps(asdict(ours))}
    )
    assert read_config(open_checkpoint(path), release) == ours


def test_levels_must_agree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="attention_levels names 2 levels, block_out_channels 4"):
        replace(XDynaConfig(), attention_levels=(True, False))
    described = json.dumps({"attention_levels": [True]})
    path = save_checkpoint(tmp_path / "a.safetensors", {"x": torch.zeros(1)}, {"config": described})
    with pytest.raises(CheckpointError, match="attention_levels names 1 levels"):
        read_config(open_checkpoint(path), XDynaConfig())
