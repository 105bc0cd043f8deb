"""Networks small enough for a test in the place of the embedded ones, and a cache that is nobody's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from xdyna_unianimate.demo import checkpoints
from xdyna_unianimate.unianimate_core.config import UniAnimateConfig
from xdyna_unianimate.unianimate_core.unet import UniAnimateUNet
from xdyna_unianimate.video_core.clip import ClipText, ClipVision, TextConfig, VisionConfig
from xdyna_unianimate.video_core.vae import Vae, VaeConfig
from xdyna_unianimate.video_core.weights import open_checkpoint, save_checkpoint
from xdyna_unianimate.xdyna_core.config import ControlNetConfig, ResamplerConfig, XDynaConfig
from xdyna_unianimate.xdyna_core.controlnet import ControlNet
from xdyna_unianimate.xdyna_core.image_prompt import Resampler
from xdyna_unianimate.xdyna_core.unet import XDynaUNet

WIDTH = 24
VAE = VaeConfig(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4, sample_size=32)
SMALL = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = TextConfig(vocab_size=258, start_id=256, end_id=257, padding_id=257, **SMALL)
VISION = VisionConfig(patch_size=56, projection_dim=WIDTH, **SMALL)
UNIANIMATE = UniAnimateConfig(
    dim=32, dim_mult=(1, 1), num_res_blocks=1, attn_scales=(0.5,), head_dim=16, num_heads=2, context_dim=WIDTH
)
XDYNA = XDynaConfig(
    block_out_channels=(32, 32),
    attention_levels=(False, True),
    layers_per_block=1,
    cross_attention_dim=WIDTH,
    attention_heads=2,
    norm_num_groups=8,
    motion_heads=2,
)
CONTROL = {
    "block_out_channels": (32, 32),
    "attention_levels": (False, True),
    "layers_per_block": 1,
    "cross_attention_dim": WIDTH,
    "attention_heads": 2,
    "norm_num_groups": 8,
    "conditioning_embedding_out_channels": (8, 8, 8, 8),
}
RESAMPLER = ResamplerConfig(dim=16, depth=1, dim_head=8, heads=2, embedding_dim=WIDTH, output_dim=WIDTH)

MULTIPLE = 16
"""What sides of the small UniAnimate's videos are multiples of."""


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name in ``demo.checkpoints`` -> file."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    pose, face = ControlNetConfig(**CONTROL), ControlNetConfig(**CONTROL, conditioning_channels=6)
    text, vision = ClipText(TEXT), ClipVision(VISION)
    parts = {
        "VAE": ({"": Vae(VAE).network}, {"config": VAE}),
        "CLIP": (
            {"text_model.": text.network, "": vision.network},
            {"text_config": TEXT, "vision_config": VISION},
        ),
        "UNIANIMATE": ({"": UniAnimateUNet(UNIANIMATE)}, {"config": UNIANIMATE}),
        "XDYNA": ({"": XDynaUNet(XDYNA)}, {"config": XDYNA}),
        "XDYNA_POSE": ({"": ControlNet(pose).net}, {"config": pose}),
        "XDYNA_FACE": ({"": ControlNet(face).net}, {"config": face}),
        "XDYNA_RESAMPLER": ({"": Resampler(RESAMPLER)}, {"config": RESAMPLER}),
    }
    return {
        name: checkpoints.store(folder / f"{name.lower()}.safetensors", networks, configs, "untrained")
        for name, (networks, configs) in parts.items()
    }


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_weights: dict[str, Path]) -> Path:
    """Every test works in a folder of its own, with a cache of its own and the small networks."""
    monkeypatch.setenv("XDUA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name, file in small_weights.items():
        monkeypatch.setattr(checkpoints, name, file)
    return tmp_path


@pytest.fixture(scope="session")
def lively_weights(
    small_weights: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Networks whose every part shows in the result: fresh ones have outputs and controls of zero."""
    folder, weights = tmp_path_factory.mktemp("lively"), dict(small_weights)
    for name in ("UNIANIMATE", "XDYNA", "XDYNA_POSE", "XDYNA_FACE", "XDYNA_RESAMPLER"):
        file = open_checkpoint(small_weights[name])
        generator = torch.Generator().manual_seed(len(name))
        tensors = {key: _lively(value, generator) for key, value in file.items()}
        weights[name] = save_checkpoint(folder / f"{name}.safetensors", tensors, file.metadata)
    return weights


@pytest.fixture
def lively(lively_weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded weights are lively ones."""
    for name, file in lively_weights.items():
        monkeypatch.setattr(checkpoints, name, file)


def _lively(value: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random values in place of zeros; what is trained, or a table, stays."""
    if not value.is_floating_point() or value.any():
        return value
    return (0.1 * torch.randn(value.shape, generator=generator)).to(value.dtype)
