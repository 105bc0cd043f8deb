"""The tables of names, proven on diffusers' own networks and converters at full size (no weights needed)."""

from __future__ import annotations

import pytest
import torch
from diffusers import MotionAdapter, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint, convert_ldm_unet_checkpoint
from xdyna_unianimate.xdyna_core import keys
from xdyna_unianimate.xdyna_core.config import ControlNetConfig, XDynaConfig
from xdyna_unianimate.xdyna_core.controlnet import ControlNet
from xdyna_unianimate.xdyna_core.unet import XDynaUNet

SD15 = {"cross_attention_dim": 768}
"""Of diffusers' UNet2DConditionModel; its other defaults are SD1.5's."""


@pytest.fixture(scope="module")
def names() -> list[str]:
    with torch.device("meta"):
        return list(XDynaUNet().state_dict())


@pytest.fixture(scope="module")
def base() -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**SD15)


def ldm_names(published: list[str], modules: dict[str, str]) -> dict[str, str]:
    """LDM name -> published name, for the names that LDM has."""
    theirs = {ours: ldm for ldm, ours in modules.items()}
    assert len(theirs) == len(modules), "two LDM modules for one"
    return {ldm: name for name in published if (ldm := keys.renamed(name, theirs))}


def test_the_base_is_diffusers_sd15(names: list[str], base: UNet2DConditionModel) -> None:
    assert {n for n in names if keys.group_of(n).name == "SD1.5 UNet"} == set(base.state_dict())


def test_ldm_unet_table(base: UNet2DConditionModel) -> None:
    """Every name is told apart by a value of its own, which diffusers' converter carries along."""
    modules = keys.ldm_unet_modules(XDynaConfig())
    table = ldm_names(list(base.state_dict()), modules)
    stored = {ldm: torch.tensor(float(i)) for i, ldm in enumerate(table)}
    whole = {keys.LDM_UNET + ldm: value for ldm, value in stored.items()}
    converted = convert_ldm_unet_checkpoint(whole, dict(base.config))
    assert set(table.values()) == set(converted) == set(base.state_dict())
    assert all(keys.renamed(ldm, modules) == name for ldm, name in table.items())
    assert all(converted[name] == stored[ldm] for ldm, name in table.items())


def test_ldm_controlnet_table() -> None:
    with torch.device("meta"):
        net = ControlNet().net
    modules = keys.ldm_controlnet_modules(ControlNetConfig())
    table = ldm_names(list(net.state_dict()), modules)
    stored = {ldm: torch.tensor(float(i)) for i, ldm in enumerate(table)}
    converted = convert_controlnet_checkpoint(dict(stored), dict(net.config))
    assert set(table.values()) == set(converted) == set(net.state_dict())
    assert all(converted[name] == stored[ldm] for ldm, name in table.items())


def test_ip_adapter_numbers_are_places_among_diffusers_attentions(
    names: list[str], base: UNet2DConditionModel
) -> None:
    table = keys.ip_adapter_names(XDynaConfig())
    places = [name.removesuffix(".processor") for name in base.attn_processors]
    for numbered, published in table.items():
        place, projection = numbered.removeprefix("ip_adapter.").split(".", 1)
        assert published == f"{places[int(place)]}.{projection}"
    assert set(table.values()) == {n for n in names if keys.group_of(n).name == "IP-Adapter"}


def test_motion_adapter_names(names: list[str]) -> None:
    with torch.device("meta"):
        adapter = MotionAdapter(motion_max_seq_length=24, use_motion_mid_block=False)
    ours = [name for theirs in adapter.state_dict() for name in keys.from_motion_adapter(theirs)]
    assert len(ours) == len(set(ours))
    assert set(ours) == {n for n in names if keys.group_of(n).name in ("motion module", "position table")}


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("module.conv_in.weight", "conv_in.weight"),
        ("module.module.conv_in.weight", "conv_in.weight"),
        ("down_blocks.0.motion_modules.0.a", "down_blocks.0.motion_modules.0.a"),
        ("model.module.a", "model.a"),
    ],
)
def test_cleaned(name: str, cleaned: str) -> None:
    assert keys.cleaned(name) == cleaned
