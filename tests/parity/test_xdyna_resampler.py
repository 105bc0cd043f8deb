"""The image prompt's Resampler against the original (X-Dyna spec 7)."""

from __future__ import annotations

import re

import pytest
import torch
from xdyna_unianimate.xdyna_core.config import ResamplerConfig
from xdyna_unianimate.xdyna_core.image_prompt import Resampler

from .golden import Golden, cases


def inputs(golden: Golden) -> list[str]:
    """Suffixes of the stored inputs x, x2, ..."""
    return sorted(name.removeprefix("x") for name in golden.tensors if re.fullmatch(r"x\d*", name))


@pytest.mark.parametrize(("file", "case"), cases("xdyna", "resampler", inputs))
def test_resampler(file: str, case: str) -> None:
    golden = Golden("xdyna", file)
    net = Resampler(ResamplerConfig(**golden.meta["config"]))
    net.load_state_dict(golden.under("weights."))
    with torch.no_grad():
        golden.check(f"y{case}", net(golden[f"x{case}"]))
