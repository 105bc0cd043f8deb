"""Where a long clip was put together, and whether it shows; whether its end still resembles its beginning."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ...video_core.windows import Windows

FLOOR = 0.5
"""Grey levels added to both sides of the ratio: below that, change is rounding."""


def borders(windows: Windows, frames: int) -> list[int]:
    """Steps (i is from frame i to i + 1) at which a window begins or ends."""
    holders = [frozenset(n for n, window in enumerate(windows) if i in window) for i in range(frames)]
    return [i for i in range(frames - 1) if holders[i] != holders[i + 1]]


def seam_score(changes: np.ndarray, at: Collection[int]) -> float:
    """Unexplained change at the borders against that elsewhere: 1 is seamless, 2 twice as much.

    changes: [F - 1], ``motion.unexplained_change`` of every step; at: numbers of the steps that are borders.
    NaN where there are no borders or nothing else.
    """
    changes = np.asarray(changes, np.float64)
    border = np.isin(np.arange(len(changes)), list(at))
    if not border.any() or border.all():
        return float("nan")
    return float((changes[border].mean() + FLOOR) / (changes[~border].mean() + FLOOR))


def quarter_drop(series: np.ndarray) -> float:
    """Mean of the first quarter less that of the last quarter of a series [F]; NaN for fewer than 4 frames.

    What it has lost by the end, in the series' own unit, where higher is better.
    """
    series = np.asarray(series, np.float64)
    quarter = len(series) // 4
    if not quarter:
        return float("nan")
    first, last = series[:quarter], series[-quarter:]
    seen = np.isfinite(first).any() and np.isfinite(last).any()
    return float(np.nanmean(first) - np.nanmean(last)) if seen else float("nan")
