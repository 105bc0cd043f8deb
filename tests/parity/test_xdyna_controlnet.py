"""Pose and face ControlNets against the original (X-Dyna spec 6)."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from einops import rearrange
from torch import Tensor
from xdyna_unianimate.video_core.savings import PLAIN_LAYERS, LayerSavings, set_savings
from xdyna_unianimate.xdyna_core.config import ControlNetConfig
from xdyna_unianimate.xdyna_core.controlnet import ControlNet, Residuals

from .golden import Golden, cases, compare, count


@cache
def controlnet(file: str) -> ControlNet:
    golden = Golden("xdyna", file)
    net = ControlNet(ControlNetConfig.from_release(golden.meta["config"])).eval()
    net.net.load_state_dict(golden.under("weights."))
    return net


def run(golden: Golden, case: str, chunk: int | None = None) -> Residuals:
    """Every picture of the golden is a batch element of one frame, with a text of its own."""
    told, net = golden.meta["cases"][case], controlnet(golden.name)
    with torch.no_grad():
        embedding = rearrange(net.embed(golden[f"{case}.cond"], chunk), "1 c f h w -> f c 1 h w")
        return net(
            rearrange(golden[f"{case}.sample"], "f c h w -> f c 1 h w"),
            told["timestep"],
            golden[f"{case}.encoder_hidden_states"],
            embedding,
            strength=told["conditioning_scale"],
            chunk=chunk,
        )


def named(residuals: Residuals) -> dict[str, Tensor]:
    """Tensors by the golden's names, as pictures."""
    tensors = {f"down.{i}": x for i, x in enumerate(residuals.down)} | {"mid": residuals.mid}
    return {name: rearrange(x, "f c 1 h w -> f c h w") for name, x in tensors.items()}


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize(("file", "case"), cases("xdyna", "controlnet*"))
def test_controlnet(file: str, case: str, chunk: int | None) -> None:
    golden = Golden("xdyna", file)
    made = named(run(golden, case, chunk))
    assert len(made) == golden.meta["cases"][case]["n_down"] + 1
    for name, residual in made.items():
        golden.check(f"{case}.{name}", residual)


@pytest.mark.parametrize(("file", "case"), cases("xdyna", "controlnet*"))
def test_pictures_embedded_apart_give_diffusers_own_result(file: str, case: str) -> None:
    golden = Golden("xdyna", file)
    told = golden.meta["cases"][case]
    with torch.no_grad():
        set_savings(controlnet(file), PLAIN_LAYERS)
        down, mid = controlnet(file).net(
            golden[f"{case}.sample"],
            told["timestep"],
            golden[f"{case}.encoder_hidden_states"],
            golden[f"{case}.cond"],
            conditioning_scale=told["conditioning_scale"],
            return_dict=False,
        )
    published = named(run(golden, case))
    set_savings(controlnet(file), LayerSavings())
    plain = {f"down.{i}": x for i, x in enumerate(down)} | {"mid": mid}
    for name, residual in published.items():
        compare(f"{file}: {case}.{name}", residual, plain[name], "exact")
    count(golden)
