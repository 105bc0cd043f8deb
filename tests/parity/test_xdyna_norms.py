"""Single blocks at inputs so small that the epsilon of every norm shows (X-Dyna spec 2.2, 2.3, 5, 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from xdyna_unianimate.xdyna_core.config import ResamplerConfig, XDynaConfig
from xdyna_unianimate.xdyna_core.image_prompt import Resampler
from xdyna_unianimate.xdyna_core.motion import MotionModule
from xdyna_unianimate.xdyna_core.resnet import FrameConv, ResnetBlock
from xdyna_unianimate.xdyna_core.transformer import SpatialTransformer

from .golden import Golden, cases, count

Inputs = Callable[[str], Tensor]


class Head(nn.Module):
    """The UNet's last norm and convolution."""

    def __init__(self, channels: int, groups: int, eps: float, out_channels: int) -> None:
        super().__init__()
        self.conv_norm_out = nn.GroupNorm(groups, channels, eps)
        self.conv_out = FrameConv(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def build(block: str, config: dict[str, Any]) -> nn.Module:
    """The block that a name of the golden stands for."""
    if block == "motion_module":
        return MotionModule(
            config["in_channels"],
            config["num_attention_heads"],
            config["num_transformer_block"],
            len(config["attention_block_types"]),
            config["temporal_position_encoding_max_len"],
        )
    if block == "transformer":
        return SpatialTransformer(
            config["in_channels"],
            config["num_attention_heads"],
            config["cross_attention_dim"],
            config["norm_num_groups"],
        )
    if block.startswith("resnet"):
        return ResnetBlock(
            config["in_channels"],
            config["out_channels"],
            config["temb_channels"],
            config["groups"],
            config["eps"],
        )
    if block == "head":
        return Head(config["channels"], config["norm_num_groups"], config["norm_eps"], config["out_channels"])
    if block == "resampler":
        return Resampler(ResamplerConfig(**config))
    raise AssertionError(f"extras_norms holds a block that no test builds: {block}")


def run(net: nn.Module, get: Inputs) -> Tensor:
    """The block's output for the inputs of one case."""
    if isinstance(net, SpatialTransformer):
        text, image = get("encoder_hidden_states").tensor_split([XDynaConfig.text_tokens], dim=1)
        return net(get("x"), net.project(text, image))
    if isinstance(net, ResnetBlock):
        return net(get("x"), get("temb"))
    return net(get("x"))


@pytest.mark.parametrize(("file", "case"), cases("xdyna", "extras_norms"))
def test_block_with_small_inputs(file: str, case: str) -> None:
    golden = Golden("xdyna", file)
    block = case.split(".")[0]
    net = build(block, golden.meta["config"][block])
    net.load_state_dict(golden.under(f"{block}.weights."))
    with torch.no_grad():
        golden.check(f"{case}.y", run(net, lambda name: golden[f"{case}.{name}"]))


@pytest.mark.parametrize(
    ("file", "block"), cases("xdyna", "extras_norms", lambda golden: golden.meta["norm_eps"])
)
def test_every_norm_has_the_original_eps(file: str, block: str) -> None:
    golden = Golden("xdyna", file)
    net = build(block, golden.meta["config"][block])
    norms = {name: m.eps for name, m in net.named_modules() if isinstance(m, nn.GroupNorm | nn.LayerNorm)}
    assert norms == pytest.approx(golden.meta["norm_eps"][block], rel=1e-9)
    count(golden)
