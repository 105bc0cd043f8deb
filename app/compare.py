"""Both systems on the same aligned poses, as one labelled grid video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from . import animate
from .grids import contact_sheet, grid_frames
from .runs import Result, Runner, save_clip, save_picture

if TYPE_CHECKING:
    import numpy as np


def compare(
    runners: Mapping[str, Runner], source: animate.Source, target: Path, overwrite: bool = False
) -> Result:
    """Reference, skeleton and one column per runner. The poses are read and aligned once, by the first.

    runners: label -> runner; their frames are made one system after the other, so that one is in memory.
    """
    first = next(iter(runners.values()))
    prepared = first.prepare(source)
    columns: dict[str, list[np.ndarray]] = {
        "reference": [prepared.reference] * prepared.frames,
        "skeleton": list(first.skeletons(prepared)),
    }
    for label, runner in runners.items():
        columns[label] = list(runner.frames(source, prepared))
        vars(runner).pop("loaded", None)
    video = save_clip(grid_frames(columns), target, prepared, first.choices, None, overwrite)
    sheet = target.with_name(f"{target.stem}_sheet.png")
    save_picture(contact_sheet(columns), sheet)
    return Result(video, sheet, prepared.frames, prepared.report.text() if prepared.report else "")
