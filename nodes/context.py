"""AnimateDiff-Evolved's CONTEXT_OPTIONS, read by its attributes: how a long clip is cut into windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..video_core.windows import Fuse

LOOPED = ("looped_uniform", "uniform_looped", "uniform")
MOVING = ("standard_uniform", "uniform_standard")
STILL = ("standard_static", "static_standard")
BATCHED = ("batched", "batched_standard")
"""context_schedule of that pack, and of packs that turn its words around (peers 3d): windows over the ends,
windows inside that move from step to step, windows inside that stay, and windows side by side. "uniform" is the
older name of the first."""

FUSES: Mapping[str, Fuse] = {"flat": "uniform", "pyramid": "pyramid"}


@dataclass(frozen=True)
class ContextWindows:
    """Windows as our samplers know them.

    size, overlap, stride: in frames. loop: the last frames are neighbours of the first. moving: seams change
    from step to step. fuse: how predictions are averaged; None where the options do not say.
    """

    size: int
    overlap: int
    stride: int = 1
    loop: bool = False
    moving: bool = True
    fuse: Fuse | None = None


def read(options: Any) -> ContextWindows:
    """The windows of a CONTEXT_OPTIONS: a group of contexts, of which there is one, or one by itself.

    Raises ValueError for schedules, ways to fuse, views and extras that our samplers do not have.
    """
    contexts = getattr(options, "contexts", None) or [options]
    if len(contexts) != 1:
        raise ValueError(f"context_options: one context is taken, and {len(contexts)} follow each other.")
    context = contexts[0]
    schedule = getattr(context, "context_schedule", None)
    if schedule not in LOOPED + MOVING + STILL + BATCHED:
        raise ValueError(
            f"context_options: the schedule {schedule!r} is not known here; use Looped Uniform, Standard "
            "Uniform, Standard Static or Batched."
        )
    more = getattr(getattr(options, "extras", None), "get_extras_list", list)()
    if getattr(context, "view_options", None) is not None or more:
        raise ValueError(
            "context_options: views inside windows and extras (ContextRef, NaiveReuse) are not known here; leave "
            "them unconnected."
        )
    fuse = getattr(context, "fuse_method", None)
    if fuse is not None and fuse not in FUSES:
        raise ValueError(f"context_options: the fuse method {fuse!r} is not known here; use flat or pyramid.")
    return ContextWindows(
        size=int(context.context_length),
        overlap=0 if schedule in BATCHED else int(context.context_overlap or 0),
        stride=int(getattr(context, "context_stride", None) or 1),
        loop=schedule in LOOPED and bool(getattr(context, "closed_loop", True)),
        moving=schedule in LOOPED + MOVING,
        fuse=FUSES.get(fuse),
    )
