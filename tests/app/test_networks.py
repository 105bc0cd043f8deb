"""Which files a system is put together from, and what is said of those that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from xdyna_unianimate.app import networks
from xdyna_unianimate.app.networks import PARTS, Weights, find_files
from xdyna_unianimate.demo import checkpoints
from xdyna_unianimate.video_core.weights import CheckpointError

from .conftest import MULTIPLE


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models folder with every published file, each in the folder of its kind."""
    homes = {
        "unianimate": ("unianimate_16f_32f_non_ema_223000.pth", "v2-1_512-ema-pruned.ckpt"),
        "clip_vision": ("open_clip_pytorch_model.bin",),
        "XDyna": (
            "unet-checkpoint-epoch-5.ckpt",
            "controlnet-checkpoint-epoch-5.ckpt",
            "controlnet-face-checkpoint-epoch-2.ckpt",
        ),
        "ipadapter": ("IP-Adapter-Plus_sd15.bin",),
        "checkpoints": ("v1-5-pruned-emaonly.safetensors",),
    }
    for folder, names in homes.items():
        place = tmp_path / "models" / folder.lower()
        place.mkdir(parents=True)
        for name in names:
            (place / name).write_bytes(name.encode())
    return tmp_path / "models"


def names(files: networks.Files) -> dict[str, str]:
    return {part: file.name for part, file in files.parts.items()}


def test_unianimate_is_found_by_its_published_names(models: Path) -> None:
    files = find_files("unianimate", Weights(folders=(models,)))
    assert names(files) == {part: row.names[0] for part, row in PARTS["unianimate"].items()}
    assert [file.name for file in files.unet] == ["unianimate_16f_32f_non_ema_223000.pth"]


def test_xdyna_is_found_and_its_own_file_wins(models: Path) -> None:
    """Names without regard to case; UniAnimate's CLIP file holds X-Dyna's image tower too."""
    files = find_files("xdyna", Weights(folders=(models,)))
    assert names(files)["clip"] == "open_clip_pytorch_model.bin"
    assert [file.name for file in files.unet] == [
        "v1-5-pruned-emaonly.safetensors",
        "IP-Adapter-Plus_sd15.bin",
        "unet-checkpoint-epoch-5.ckpt",
    ]


def test_given_files_win(models: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    assert find_files("unianimate", Weights(given={"unet": mine}, folders=(models,))).unet == (mine,)


def test_a_base_is_not_needed_where_its_parts_are_given(models: Path, tmp_path: Path) -> None:
    (models / "checkpoints" / "v1-5-pruned-emaonly.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"v1-5-pruned-emaonly.* --base"):
        find_files("xdyna", Weights(folders=(models,)))
    own = {"vae": tmp_path / "vae", "text": tmp_path / "text"}
    assert len(find_files("xdyna", Weights(given=own, folders=(models,))).unet) == 2


@pytest.mark.parametrize("system", list(PARTS))
def test_each_missing_file_is_named_with_terms_and_place(models: Path, system: str) -> None:
    for part, row in PARTS[system].items():
        files = [file for file in models.rglob("*") if file.name.lower() in map(str.lower, row.names)]
        if part in networks.OPTIONAL or not files:
            continue
        for file in files:
            file.rename(file.with_suffix(".away"))
        with pytest.raises(FileNotFoundError, match=f"{row.names[0]}.*--{part}.*--weights demo"):
            find_files(system, Weights(folders=(models,)))
        for file in files:
            file.with_suffix(".away").rename(file)
    assert find_files(system, Weights(folders=(models,)))


def test_stamps_tell_an_exchanged_file(models: Path) -> None:
    weights = Weights(folders=(models,))
    before = find_files("unianimate", weights).stamps()
    assert find_files("unianimate", weights).stamps() == before
    (models / "unianimate" / "v2-1_512-ema-pruned.ckpt").write_bytes(b"another")
    assert find_files("unianimate", weights).stamps() != before


def test_the_face_net_is_asked_for_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = networks.load("xdyna", Weights(demo=True), torch.float32, face=False)
    assert loaded.models.face is None
    assert networks.load("xdyna", Weights(demo=True), torch.float32, face=True).models.face is not None
    files = find_files("xdyna", Weights(demo=True))
    lacking = networks.Files({k: v for k, v in files.parts.items() if k != "face-net"}, files.unet)
    with pytest.raises(FileNotFoundError, match=r"controlnet-face-checkpoint.*--no-face"):
        networks.load_xdyna(lacking, torch.float32, face=True)


def test_an_incomplete_installation_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "VAE", tmp_path / "gone.safetensors")
    with pytest.raises(FileNotFoundError, match="embedded weights lack .*gone.safetensors"):
        find_files("xdyna", Weights(demo=True))


def test_sizes_are_known_before_anything_is_loaded() -> None:
    assert networks.size_multiple("unianimate", Weights(demo=True)) == MULTIPLE
    assert networks.size_multiple("xdyna", Weights()) == 8


def test_another_models_file_is_named_for_what_it_is(small_weights: dict[str, Path]) -> None:
    files = find_files("unianimate", Weights(demo=True))
    with pytest.raises(CheckpointError, match="is the X-Dyna network, not the UniAnimate network"):
        networks.load_unianimate(networks.Files(files.parts, (small_weights["XDYNA"],)), torch.float32)


def test_prompts_become_features() -> None:
    loaded = networks.load("xdyna", Weights(demo=True), torch.float32)
    empty, prompt = loaded.features(""), loaded.features("a dancer")
    assert torch.equal(empty, loaded.models.empty_text)
    assert prompt.shape == empty.shape
    assert not torch.equal(prompt, empty)


def test_the_pack_in_custom_nodes_finds_comfyuis_models(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "models").mkdir()
    pack = tmp_path / "custom_nodes" / "pack" / "app" / "networks.py"
    monkeypatch.setattr(networks, "__file__", str(pack))
    assert networks.default_folders()[0] == tmp_path / "models"
