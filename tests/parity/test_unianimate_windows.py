"""UniAnimate's context windows, equal to the golden tables (spec 6)."""

from __future__ import annotations

from collections import Counter

import pytest
from xdyna_unianimate.video_core.windows import anchored_windows, uniform_windows

from .golden import Golden, cases, count


def row_numbers(golden: Golden) -> range:
    return range(len(golden.meta["rows"]))


def extra_numbers(golden: Golden) -> range:
    return range(len(golden.meta.get("extra", [])))


@pytest.mark.parametrize(("file", "number"), cases("unianimate", "context_windows", row_numbers))
def test_windows_of_the_sampler(file: str, number: str) -> None:
    golden = Golden("unianimate", file)
    row = golden.meta["rows"][int(number)]
    frames, size, overlap = (row[key] for key in ("num_frames", "context_size", "context_overlap"))
    stride = row["context_stride"]

    raw = uniform_windows(frames, size, overlap, stride=stride, closed_loop=False)
    assert raw == row["scheduler_step0"]
    ours = anchored_windows(frames, size, overlap, stride=stride)
    if frames < size:  # F: the original repeats frames here or raises; one window in natural order instead
        assert row.get("reference_raises") or row["duplicate_frames_in_a_window"]
        assert ours == [list(range(frames))]
    else:
        assert ours == row["sampler_windows"]
        visits = Counter(frame for window in ours for frame in set(window))
        assert [visits[frame] for frame in range(frames)] == row["counter"]
    count(golden)


@pytest.mark.parametrize(("file", "number"), cases("unianimate", "context_windows", extra_numbers))
def test_the_scheduler_alone(file: str, number: str) -> None:
    golden = Golden("unianimate", file)
    row = golden.meta["extra"][int(number)]
    ours = uniform_windows(
        row["num_frames"],
        row["context_size"],
        row["context_overlap"],
        stride=row["context_stride"],
        step=row["step"],
        closed_loop=row["closed_loop"],
    )
    assert ours == row["windows"]
    count(golden)
