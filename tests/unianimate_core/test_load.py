from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from xdyna_unianimate.unianimate_core.keys import COUNTERS, PREFIXES, network_tensors
from xdyna_unianimate.unianimate_core.load import load_unet
from xdyna_unianimate.video_core.weights import CheckpointError

from .tiny import CONFIG, tiny_inputs, tiny_unet

METADATA = {"config": CONFIG.to_json()}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return tiny_unet().state_dict()


@pytest.fixture(scope="module")
def checkpoint(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(weights, path, metadata=METADATA)
    return path


def test_architecture_and_weights_come_from_the_file(checkpoint: Path) -> None:
    unet, inputs = load_unet(checkpoint), tiny_inputs(2)
    assert unet.config == CONFIG
    assert not unet.training
    assert not any(p.requires_grad or p.is_meta for p in unet.parameters())
    assert torch.equal(unet(t=500, **inputs), tiny_unet()(t=500, **inputs))


def test_dtype_on_request(checkpoint: Path) -> None:
    assert {p.dtype for p in load_unet(checkpoint, dtype=torch.float16).parameters()} == {torch.float16}


@pytest.mark.parametrize(("half", "expected"), [("all", torch.float16), ("some", torch.float32)])
def test_dtype_of_the_file(half: str, expected: torch.dtype, weights: dict, tmp_path: Path) -> None:
    stored = {k: v.half() if half == "all" or k.startswith("input") else v for k, v in weights.items()}
    save_file(stored, tmp_path / "half.safetensors", metadata=METADATA)
    assert {p.dtype for p in load_unet(tmp_path / "half.safetensors").parameters()} == {expected}


def test_without_config_a_file_is_the_release(weights: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "unlabelled.safetensors")
    with pytest.raises(CheckpointError, match="mis-shaped"):
        load_unet(tmp_path / "unlabelled.safetensors")


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
def test_prefixes_and_counters_are_taken_off(prefix: str, weights: dict[str, Tensor]) -> None:
    stored = {prefix + name: tensor for name, tensor in weights.items()}
    found = network_tensors(stored | {name: torch.tensor(223000) for name in COUNTERS})
    assert set(found) == set(weights)
    assert torch.equal(found["out.2.bias"], weights["out.2.bias"])


def test_a_prefix_on_some_names_is_not_taken_off(weights: dict[str, Tensor]) -> None:
    """Else two names could become one."""
    found = network_tensors(weights | {"module.out.2.bias": torch.zeros(4)})
    assert "module.out.2.bias" in found


def test_wrapped_pickle(weights: dict[str, Tensor], tmp_path: Path) -> None:
    """The release is a .pth; whether it wraps its weights is not known (UniAnimate spec 3)."""
    from xdyna_unianimate.video_core.weights import open_checkpoint

    torch.save({"state_dict": weights, "step": 223000}, tmp_path / "wrapped.pth")
    assert set(network_tensors(open_checkpoint(tmp_path / "wrapped.pth"))) == set(weights)


OTHERS = {
    "the X-Dyna network": ["down_blocks.0.motion_modules.0.a", "mid_block.attn1.to_q_ff.weight"],
    "a Wan video transformer": ["patch_embedding.weight", "blocks.0.self_attn.q.weight"],
    "a ControlNet": ["controlnet_cond_embedding.conv_in.weight", "conv_in.weight"],
    "a whole Stable Diffusion checkpoint": [
        "model.diffusion_model.input_blocks.0.0.weight",
        "first_stage_model.decoder.conv_in.weight",
    ],
    "an image autoencoder": ["decoder.conv_in.weight", "decoder.conv_out.weight"],
    "a CLIP text or image encoder": ["visual.transformer.resblocks.0.ln_1.weight", "ln_final.weight"],
    "a LoRA": ["unet.down_blocks.0.lora_A.weight", "unet.down_blocks.0.lora_B.weight"],
}


@pytest.mark.parametrize(("kind", "names"), OTHERS.items())
def test_another_models_file_is_called_by_its_name(kind: str, names: list[str], tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({name: torch.zeros(1) for name in names}, path)
    says = f"{re.escape(str(path))} is {kind}.*, not the UniAnimate network"
    with pytest.raises(CheckpointError, match=says):
        load_unet(path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda w: w.pop("out.2.bias"), r"1 missing \(out\.2\.bias\)"),
        (lambda w: w.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (lambda w: w.update({"out.2.bias": torch.zeros(5)}), r"out\.2\.bias is \[5\] and should be \[4\]"),
        (lambda w: w.update({"out.2.bias": torch.zeros(4).to(torch.float8_e4m3fn)}), "fp8"),
        (lambda w: w.update({"out.2.bias": torch.full((4,), torch.nan)}), "NaN"),
    ],
)
def test_spoilt_files_are_refused_with_a_sentence(spoil, says: str, weights: dict, tmp_path: Path) -> None:
    spoilt = dict(weights)
    spoil(spoilt)
    save_file(spoilt, tmp_path / "spoilt.safetensors", metadata=METADATA)
    with pytest.raises(CheckpointError, match=says):
        load_unet(tmp_path / "spoilt.safetensors")


@pytest.mark.parametrize("config", ["{", '{"dim": 33}', '{"width": 32}', '{"num_res_blocks": "2"}'])
def test_a_config_that_makes_no_network_is_refused(config: str, weights: dict, tmp_path: Path) -> None:
    save_file(weights, tmp_path / "odd.safetensors", metadata={"config": config})
    with pytest.raises(CheckpointError, match="metadata 'config'"):
        load_unet(tmp_path / "odd.safetensors")
