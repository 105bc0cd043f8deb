"""X-Dyna's context windows, equal to the golden tables (spec 8.4)."""

from __future__ import annotations

import pytest
from xdyna_unianimate.video_core.windows import uniform_windows

from .golden import Golden, cases, count


@pytest.mark.parametrize(
    ("file", "number"), cases("xdyna", "context_windows", lambda golden: range(len(golden.meta["cases"])))
)
def test_windows(file: str, number: str) -> None:
    golden = Golden("xdyna", file)
    case = golden.meta["cases"][int(number)]
    ours = uniform_windows(
        case["num_frames"],
        case["context_frames"],
        case["overlap"],
        stride=case["stride"],
        step=case["step"],
        offset=case["offset"],
        closed_loop=case["closed_loop"],
    )
    assert ours == case["windows"]
    count(golden)
