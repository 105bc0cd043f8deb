"""The eps of every norm (``extras_norms``): inputs and inner weights are so small that a wrong one shows."""

from __future__ import annotations

import pytest
from torch import nn

from .golden import Golden, cases, count
from .test_unianimate_blocks import build, run


@pytest.mark.parametrize(("file", "case"), cases("unianimate", "extras_norms"))
def test_small_inputs(file: str, case: str) -> None:
    golden = Golden("unianimate", file)
    item = case.rpartition(".")[0]
    other = golden.tensors.get(f"{case}.emb", golden.tensors.get(f"{case}.context"))
    ours = run(build(golden, item), golden[f"{case}.x"], other, frames=golden.meta["config"]["f"])
    golden.check(f"{case}.out", ours)


@pytest.mark.parametrize(("file", "item"), cases("unianimate", "extras_norms", lambda g: g.meta["norm_eps"]))
def test_eps(file: str, item: str) -> None:
    golden = Golden("unianimate", file)
    module = build(golden, item)
    ours = {n: m.eps for n, m in module.named_modules() if isinstance(m, nn.GroupNorm | nn.LayerNorm)}
    assert ours == golden.meta["norm_eps"][item]
    count(golden)
