"""The autoencoder's files, chunks, units and errors; its numbers are compared in tests/parity."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from xdyna_unianimate.video_core.vae import SOURCE, Vae, VaeConfig, ldm_name, load_vae
from xdyna_unianimate.video_core.weights import CheckpointError, save_checkpoint

from ..manifest import MANIFESTS, shapes, summary, travelling

TINY = VaeConfig(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4, sample_size=32)
MANIFEST = MANIFESTS / "unianimate" / "first_stage_model.json"


@pytest.fixture(scope="module")
def vae() -> Vae:
    torch.manual_seed(0)
    return Vae(TINY).eval().requires_grad_(False)


def state(vae: Vae, naming: str) -> dict[str, torch.Tensor]:
    """The network's weights under one of the namings that are found in the wild."""
    tensors = vae.network.state_dict()
    levels = len(vae.config.block_out_channels)
    if naming == "old diffusers":
        old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for new, name in old.items():
            tensors = {
                k.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): v for k, v in tensors.items()
            }
    elif naming != "diffusers":
        tensors = {
            ldm_name(k, levels): v[..., None, None] if "to_" in k and v.ndim == 2 else v
            for k, v in tensors.items()
        }
    prefix = {"whole checkpoint": "first_stage_model.", "prefixed": "vae."}.get(naming, "")
    tensors = {prefix + k: v.clone() for k, v in tensors.items()}
    if naming == "whole checkpoint":
        tensors |= {"model.diffusion_model.x": torch.zeros(1), "cond_stage_model.y": torch.zeros(1)}
    if naming == "with leftovers":
        tensors |= {"loss.logvar": torch.zeros(1), "model_ema.decay": torch.zeros(1)}
    return tensors


@pytest.mark.parametrize(
    "naming", ["diffusers", "old diffusers", "ldm", "whole checkpoint", "prefixed", "with leftovers"]
)
@pytest.mark.parametrize("kind", [".safetensors", ".ckpt"])
def test_every_naming_loads(vae: Vae, tmp_path: Path, naming: str, kind: str) -> None:
    path = tmp_path / f"vae{kind}"
    config = {"config": json.dumps(asdict(TINY))}
    if kind == ".safetensors":
        save_checkpoint(path, state(vae, naming), config)
        loaded = load_vae(path)
    else:
        from xdyna_unianimate.video_core.vae import vae_from_tensors
        from xdyna_unianimate.video_core.weights import open_checkpoint

        torch.save({"state_dict": state(vae, naming), "global_step": 3}, path)
        loaded = vae_from_tensors(open_checkpoint(path), TINY)
    assert loaded.config == TINY
    for name, value in vae.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value), name


def test_key_table_covers_the_published_file_exactly() -> None:
    """UniAnimate spec 7: 248 keys, every name and shape of v2-1_512-ema-pruned.ckpt's autoencoder."""
    with torch.device("meta"):
        network = Vae(VaeConfig()).network
    ours = {
        f"first_stage_model.{ldm_name(name, 4)}": shape + [1, 1] * (".to_" in name and len(shape) == 2)
        for name, shape in shapes(network).items()
    }
    assert (len(ours), sum(p.numel() for p in network.parameters())) == (248, 83_653_863)
    assert summary(ours) == travelling("unianimate_vae")
    if MANIFEST.is_file():
        assert ours == json.loads(MANIFEST.read_text())


@pytest.mark.parametrize("inside", ["", "vae"])
def test_diffusers_folder(vae: Vae, tmp_path: Path, inside: str) -> None:
    folder = tmp_path / inside
    folder.mkdir(exist_ok=True)
    save_checkpoint(folder / "diffusion_pytorch_model.safetensors", state(vae, "diffusers"))
    (folder / "config.json").write_text(json.dumps(asdict(TINY) | {"_class_name": "AutoencoderKL"}))
    loaded = load_vae(tmp_path, torch.float16)
    assert replace(loaded.config, latents_mean=None) == TINY
    assert loaded.network.post_quant_conv.weight.dtype == torch.float16


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no config.json"):
        load_vae(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="JSON object"):
        load_vae(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds none of the files"):
        load_vae(tmp_path)


def test_another_models_file_is_one_sentence(vae: Vae, tmp_path: Path) -> None:
    tensors = state(vae, "ldm")
    del tensors["decoder.up.0.block.0.conv1.weight"]
    path = save_checkpoint(tmp_path / "a.safetensors", tensors, {"config": json.dumps(asdict(TINY))})
    with pytest.raises(CheckpointError) as caught:
        load_vae(path)
    assert "1 missing (decoder.up_blocks.3.resnets.0.conv1.weight)" in str(caught.value)
    assert SOURCE in str(caught.value)
    path = save_checkpoint(tmp_path / "b.safetensors", {"dwpose_embedding.0.bias": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="missing"):
        load_vae(path)


def test_files_of_mixed_precision_take_the_higher(vae: Vae, tmp_path: Path) -> None:
    tensors = state(vae, "diffusers")
    tensors = {k: v.half() if "decoder" in k else v for k, v in tensors.items()}
    path = save_checkpoint(tmp_path / "a.safetensors", tensors, {"config": json.dumps(asdict(TINY))})
    assert {p.dtype for p in load_vae(path).parameters()} == {torch.float32}


# ---- units and draws -----------------------------------------------------------------------------------


def frames(count: int = 3, height: int = 32, width: int = 24) -> torch.Tensor:
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "config", [TINY, replace(TINY, latents_mean=(1.0, 2.0, 3.0, 4.0), latents_std=(0.5, 1.0, 2.0, 4.0))]
)
def test_units_go_there_and_back(config: VaeConfig) -> None:
    vae = Vae(config)
    latents = torch.randn(2, 4, 3, 5)
    scaled = vae.to_sampler(latents)
    assert scaled.shape == (1, 4, 2, 3, 5)
    assert torch.allclose(vae.from_sampler(scaled), latents, atol=1e-6)
    if config.latents_mean:
        assert torch.allclose(scaled[0, 1, 0], latents[0, 1] - 2) and torch.allclose(
            scaled[0, 3], (latents[:, 3] - 4) / 4
        )
    else:
        assert torch.equal(scaled[0, :, 1], latents[1] * 0.18215)


def test_one_draw_of_the_whole_clip_whatever_the_chunk(vae: Vae) -> None:
    """One draw [F, 4, h, w] from the CPU generator (UniAnimate spec 2.3: the first draw of an item)."""
    results = [
        vae.encode(frames(), generator=torch.Generator().manual_seed(7), chunk=chunk) for chunk in (1, 2, 5)
    ]
    given = vae.encode(frames(), noise=torch.randn(3, 4, 4, 3, generator=torch.Generator().manual_seed(7)))
    for other in results:
        assert torch.allclose(other, given, atol=1e-5)
    mean = vae.encode(frames())
    assert not torch.allclose(mean, given, atol=1e-3)
    assert torch.allclose(mean, vae.to_sampler(vae.posterior(frames()).mean), atol=1e-5)


def test_log_variance_is_clamped(vae: Vae) -> None:
    """UniAnimate spec 7: log variance in [-30, 20]."""
    wild = Vae(TINY).eval().requires_grad_(False)
    wild.network.quant_conv.bias[4:] = torch.tensor([1e4, -1e4, 25.0, -35.0])
    logvar = wild.posterior(frames()).logvar
    assert logvar.min() == -30 and logvar.max() == 20


def test_decoding_streams_and_clamps(vae: Vae) -> None:
    latents = torch.randn(1, 4, 5, 4, 3) * 20
    chunks = list(vae.decode(latents, chunk=2))
    assert [len(c) for c in chunks] == [2, 2, 1]
    whole = torch.cat(chunks)
    assert whole.shape == (5, 32, 24, 3) and whole.dtype == torch.float32
    assert whole.min() >= 0 and whole.max() <= 1
    single = torch.cat(list(vae.decode(latents, chunk=1)))
    assert torch.allclose(whole, single, atol=1e-5)


def test_tiles_show_the_same_picture(vae: Vae) -> None:
    """Not the same numbers: the norms of a tile see the tile only."""
    latents, others = torch.randn(2, 1, 4, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    (whole,), (tiled,), (other,) = vae.decode(latents), vae.decode(latents, tiled=True), vae.decode(others)
    assert tiled.shape == whole.shape and not torch.equal(tiled, whole)
    assert (tiled - whole).abs().mean() < 0.7 * (other - whole).abs().mean()
    (again,) = vae.decode(latents)
    assert torch.equal(again, whole), "tiling is switched off again"


def test_out_of_memory_goes_on_with_less(vae: Vae, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = torch.randn(1, 4, 5, 8, 8)
    expected = torch.cat(list(vae.decode(latents, chunk=1)))
    decode, sizes = vae.network.decode, []

    def limited(z: torch.Tensor):
        sizes.append(len(z))
        if len(z) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(z)

    monkeypatch.setattr(vae.network, "decode", limited)
    assert torch.allclose(torch.cat(list(vae.decode(latents, chunk=4))), expected, atol=1e-5)
    assert sizes == [4, 2, 1, 1, 1, 1, 1]


def test_out_of_memory_at_one_frame_tiles_it(vae: Vae, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = vae.network.decode

    def untiled_fails(z: torch.Tensor):
        if not vae.network.use_tiling:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(z)

    monkeypatch.setattr(vae.network, "decode", untiled_fails)
    assert torch.cat(list(vae.decode(torch.randn(1, 4, 3, 8, 8), chunk=2))).shape == (3, 64, 64, 3)


# ---- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (torch.rand(1, 33, 24, 3), "multiples of 8; got 24x33"),
        (torch.rand(32, 24, 3), "got \\[32, 24, 3\\]"),
        (torch.rand(1, 32, 24, 4), "got \\[1, 32, 24, 4\\]"),
        (torch.rand(0, 32, 24, 3), "got \\[0"),
    ],
)
def test_frames_that_cannot_be_encoded(vae: Vae, wrong: torch.Tensor, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        vae.encode(wrong)


def test_noise_of_another_shape(vae: Vae) -> None:
    with pytest.raises(ValueError, match="Posterior noise"):
        vae.encode(frames(), noise=torch.zeros(1, 4, 4, 3))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (torch.full((1, 4, 1, 4, 4), float("nan")), "NaN"),
        (torch.full((1, 4, 1, 4, 4), float("inf")), "infinite"),
        (torch.zeros(2, 4, 4, 4), "Latents should be"),
        (torch.zeros(1, 16, 1, 4, 4), "Latents should be"),
    ],
)
def test_latents_that_cannot_be_decoded(vae: Vae, wrong: torch.Tensor, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        vae.decode(wrong)


def test_nan_from_the_network_itself_is_told() -> None:
    broken = Vae(TINY).eval().requires_grad_(False)
    broken.network.decoder.conv_out.bias[:] = float("nan")
    with pytest.raises(ValueError, match="autoencoder gave NaN"):
        next(broken.decode(torch.zeros(1, 4, 1, 4, 4)))
