"""X-Dyna's motion module against the original (X-Dyna spec 5)."""

from __future__ import annotations

import pytest
import torch
from xdyna_unianimate.xdyna_core.motion import MotionModule, position_table

from .golden import Golden, cases, compare, count, files


def module(golden: Golden) -> MotionModule:
    config = golden.meta["config"]
    net = MotionModule(
        config["in_channels"],
        config["num_attention_heads"],
        config["num_transformer_block"],
        len(config["attention_block_types"]),
        config["temporal_position_encoding_max_len"],
    )
    net.load_state_dict(golden.under("weights."))
    return net


@pytest.mark.parametrize(("file", "case"), cases("xdyna", "motion_module"))
def test_motion_module(file: str, case: str) -> None:
    golden = Golden("xdyna", file)
    x = golden[f"{case}.x"]
    with torch.no_grad():
        y = module(golden)(x)
    golden.check(f"{case}.y", y)
    assert torch.equal(y[:, :, 0], x[:, :, 0]), "the reference frame must come back bit for bit"


@pytest.mark.parametrize("file", files("xdyna", "motion_module") + files("xdyna", "unet_weights"))
def test_position_buffers_can_be_computed(file: str) -> None:
    golden = Golden("xdyna", file)
    stored = {k: v for k, v in golden.under("weights.").items() if k.endswith("pos_encoder.pe")}
    assert stored
    for name, pe in stored.items():
        compare(f"{file}: {name}", position_table(*pe.shape[1:]), pe, {"atol": 1e-6})
        count(golden)
