"""The whole UNet against the original, with the stages of one case (X-Dyna spec 2)."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor
from xdyna_unianimate.video_core.savings import LayerSavings, set_savings
from xdyna_unianimate.xdyna_core.config import XDynaConfig
from xdyna_unianimate.xdyna_core.unet import XDynaUNet

from .golden import Golden, cases, compare, count

OUT = {"rel": 3e-6}
"""The tighter limit that golden/xdyna/README.md recommends."""


@cache
def unet(file: str) -> XDynaUNet:
    golden = Golden("xdyna", file)
    net = XDynaUNet(XDynaConfig.from_release(golden.meta["config"])).eval()
    weights = Golden("xdyna", golden.meta["weights_file"].removesuffix(".safetensors"))
    net.load_state_dict(weights.under("weights."))
    return net


def residuals(golden: Golden, case: str) -> tuple[list[Tensor], Tensor] | tuple[None, None]:
    """The ControlNet residuals of a case: stored, or made by the recipe of the json."""
    told = golden.meta["cases"][case]
    if not told["controlnet_residuals"]:
        return None, None
    seeds, shapes = told["residual_seeds"], told["residual_shapes"]

    def one(stored: str, shape: list[int], seed: int) -> Tensor:
        if stored in golden:
            return golden[stored]
        made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.5
        made[:, :, 0] = 0
        return made

    down = [
        one(f"{case}.down_residual.{i}", shape, seed)
        for i, (shape, seed) in enumerate(zip(shapes["down"], seeds["down"], strict=True))
    ]
    return down, one(f"{case}.mid_residual", shapes["mid"], seeds["mid"])


def controlled(golden: Golden) -> list[str]:
    """The cases with ControlNet residuals."""
    return [case for case, told in golden.meta["cases"].items() if told["controlnet_residuals"]]


def staged(golden: Golden) -> list[str]:
    """The cases whose stages are stored."""
    return sorted({name.split(".inter.")[0] for name in golden.tensors if ".inter." in name})


def run(golden: Golden, case: str) -> Tensor:
    t = golden.meta["cases"][case]["timestep"]
    with torch.no_grad():
        return unet(golden.name)(
            golden[f"{case}.sample"], t, golden[f"{case}.encoder_hidden_states"], *residuals(golden, case)
        )


@pytest.mark.parametrize(("file", "case"), cases("xdyna", "unet"))
def test_unet(file: str, case: str, savings: LayerSavings) -> None:
    golden = Golden("xdyna", file)
    set_savings(unet(file), savings)
    golden.check(f"{case}.out", run(golden, case), rule=OUT)


@pytest.mark.parametrize(("file", "case"), cases("xdyna", "unet", controlled))
def test_residuals_may_leave_out_the_reference_frame(file: str, case: str) -> None:
    golden = Golden("xdyna", file)
    down, mid = residuals(golden, case)
    context, t = golden[f"{case}.encoder_hidden_states"], golden.meta["cases"][case]["timestep"]
    with torch.no_grad():
        out = unet(file)(golden[f"{case}.sample"], t, context, [r[:, :, 1:] for r in down], mid[:, :, 1:])
    golden.check(f"{case}.out", out, rule=OUT)


@pytest.mark.parametrize(("file", "case"), cases("xdyna", "unet", staged))
def test_stages(file: str, case: str) -> None:
    golden = Golden("xdyna", file)
    expected = golden.under(f"{case}.inter.")
    seen: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(_module: torch.nn.Module, _inputs: tuple, output: Tensor | tuple) -> None:
            seen[name] = output[0] if isinstance(output, tuple) else output

        return hook

    modules = dict(unet(file).named_modules())
    hooks = [modules[name].register_forward_hook(keep(name)) for name in expected]
    try:
        run(golden, case)
    finally:
        for hook in hooks:
            hook.remove()
    for name, tensor in expected.items():
        golden.check(f"{case}.inter.{name}", seen[name], tensor)


@pytest.mark.parametrize(("file", "case"), cases("xdyna", "unet"))
def test_context_projected_once_gives_the_same(file: str, case: str) -> None:
    golden = Golden("xdyna", file)
    net = unet(file)
    sample, t = golden[f"{case}.sample"], golden.meta["cases"][case]["timestep"]
    context = golden[f"{case}.encoder_hidden_states"]
    with torch.no_grad():
        plain = net(sample, t, context, *residuals(golden, case))
        projected = net.project_context(context).rows(list(range(len(context))))
        once = net(sample, t, projected, *residuals(golden, case))
    compare(f"{file}: {case}", once, plain, "exact")
    count(golden)
