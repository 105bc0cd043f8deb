"""The whole network against the original's: all cases of ``unet``, each activation of its intermediates."""

from __future__ import annotations

import re
from functools import cache

import pytest
from einops import rearrange
from torch import Tensor, nn
from xdyna_unianimate.unianimate_core.blocks import SpatialTransformer
from xdyna_unianimate.unianimate_core.config import UniAnimateConfig
from xdyna_unianimate.unianimate_core.unet import UniAnimateUNet
from xdyna_unianimate.video_core.savings import LayerSavings, set_savings

from .golden import Golden, cases, files


@cache
def network(file: str) -> UniAnimateUNet:
    golden = Golden("unianimate", file)
    config = UniAnimateConfig.from_release(golden.meta["config"] | {"concat_dim": golden.meta["concat_dim"]})
    unet = UniAnimateUNet(config).eval().requires_grad_(False)
    unet.load_state_dict(golden.under("weights."))
    return unet


def arguments(golden: Golden, case: str) -> tuple[Tensor, Tensor, dict[str, Tensor], str]:
    """(x, t, conditions, name of the output) of a case, from ``<case>.x`` and so on or the common tensors."""
    own = f"{case}.out" in golden
    prefix = f"{case}." if own else ""
    conditions = {name: golden[prefix + name] for name in golden.meta["cases"][case]}
    conditions["zero_y"] = golden["zero_y"]
    return golden[f"{prefix}x"], golden[f"{prefix}t"], conditions, f"{case}.out" if own else f"out.{case}"


@pytest.mark.parametrize(("file", "case"), cases("unianimate", "unet"))
def test_forward(file: str, case: str, savings: LayerSavings) -> None:
    golden = Golden("unianimate", file)
    set_savings(network(file), savings)
    x, t, conditions, name = arguments(golden, case)
    golden.check(name, network(file)(x, t, **conditions))


def module_named(unet: UniAnimateUNet, name: str) -> nn.Module:
    """The module that a golden's name means; of a block of several layers, the last."""
    if name == "input_conv":
        return unet.input_blocks[0][0]
    if name == "first_spatial":
        return next(m for m in unet.modules() if isinstance(m, SpatialTransformer))
    module = unet.get_submodule(name)
    return module[-1] if isinstance(module, nn.ModuleList) else module


def record(unet: UniAnimateUNet, names: list[str]) -> dict[str, Tensor]:
    """A dict that the next forward fills with what ``<module>.in`` and ``<module>.out`` name."""
    seen: dict[str, Tensor] = {}
    for name in names:
        path, _, side = name.rpartition(".")

        def keep(_module: nn.Module, args: tuple, out: Tensor, name: str = name, side: str = side) -> None:
            seen[name] = args[0] if side == "in" else out

        module_named(unet, path).register_forward_hook(keep)
    return seen


@pytest.mark.parametrize(
    "file", files("unianimate", "unet_intermediates") if files("unianimate", "unet") else []
)
def test_every_stage(file: str) -> None:
    golden, whole = Golden("unianimate", file), Golden("unianimate", "unet")
    unet = UniAnimateUNet(network("unet").config).eval().requires_grad_(False)
    unet.load_state_dict(whole.under("weights."))
    case = next(name for name in whole.meta["cases"] if re.search(rf"\bcase {name}\b", golden.meta["about"]))
    x, t, conditions, _ = arguments(whole, case)
    names = sorted(golden.tensors)
    seen = record(unet, [name for name in names if name != "context"])
    unet(x, t, **conditions)
    seen["context"] = unet.encode_context(conditions["zero_y"], conditions["image"])
    for name in names:
        ours = seen[name]
        if golden[name].ndim == 5:
            ours = rearrange(ours, "(b f) c h w -> b c f h w", b=x.shape[0])
        golden.check(name, ours)
