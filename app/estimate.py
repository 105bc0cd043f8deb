"""What an animation will take, before anything is loaded: memory, disk, operations, time.

The networks are built from their architecture alone. On the meta device one call of each stage is counted, bytes
and operations; then one is run for a moment where it is to run, with random numbers for weights, and its time is
taken as often as the run makes it. The constants below are calibrations, which RESULTS.md compares with runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

import torch

from .costs import META, Cost, Seconds, counted, rate, timed, weight_bytes
from .heap import heap_bytes
from .remedies import FLAGS, advice
from .stages import Asked, Stage, Stages, stages_of

if TYPE_CHECKING:
    from .animate import Source
    from .poses import PoseSettings

Costs = Sequence[tuple[Stage, Cost]]
"""Every stage of a run, and what one call of it costs."""

BASE_BYTES = 535e6
"""Resident memory of Python with torch, diffusers, OpenCV and PyAV, before a network is loaded."""

FRAME_BYTES = 10_000
"""Of every frame's poses: as found, aligned, drawn."""

POSE_BYTES = 2 * 134 * (2 * 8 + 4 + 1)
"""Of these, on disk where the clip is there: two poses of points, scores and origins."""

FLOAT = 4

FIXED = Seconds(0.45, 0.45)
"""Reading inputs, opening files, the contact sheet."""

LOADED_PER_SECOND = 1e9
"""Bytes of weights that are read and placed in a second."""

PIXELS_PER_SECOND = 2e7
"""That are encoded as a video in a second of one thread."""

MEASURED_AT_MOST = 4.0
"""Seconds that one call may take to be measured as it is; of longer ones the operations are."""

MEMORY_SHARE = 0.5
"""Of the free memory that measuring may take."""


@dataclass(frozen=True)
class Estimate:
    """What a run takes. Memory and disk in bytes.

    device: on the accelerator, 0 where there is none. ram: of the process. disk: of the state that is kept
    meanwhile; the result comes to it. tflop: operations in all. seconds, processor: by the clock of a machine with
    nothing else to do, and of all threads together; None where they were not asked for. together: whether both
    branches of guidance go into one call. advice: what to change, where it does not fit.
    """

    device: int
    ram: int
    disk: int
    tflop: float
    seconds: float | None = None
    processor: float | None = None
    together: bool = False
    advice: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether it should run as it is."""
        return not self.advice

    @property
    def needed(self) -> int:
        """Bytes where the networks run."""
        return self.device or self.ram

    def lines(self) -> list[str]:
        """The same for a person."""
        took = "time not estimated" if self.seconds is None else f"about {self.seconds:,.0f} s"
        return [
            f"Memory: {self.device / 1e9:.2f} GB on the device, {self.ram / 1e9:.2f} GB of RAM",
            f"Disk while it runs: {self.disk / 1e6:,.1f} MB",
            f"Work: {self.tflop:,.2f} TFLOP, {took}",
            *self.advice,
        ]


def estimate(
    asked: Asked, *, free: int | None = None, words: Mapping[str, str] = FLAGS, clock: bool = True
) -> Estimate:
    """What a run takes, and what to change where ``free`` bytes are not enough for it (None: not known).

    words: how advice names the settings. clock: estimate the time too, which runs one call of every stage.
    """
    asked = _decided(asked, free)
    costs = counted_stages(asked)
    found = memory(asked, costs)

    def memory_of(changed: Asked) -> Estimate:
        return memory(changed, counted_stages(changed, costs))

    found = replace(found, advice=advice(asked, found, free, words, memory_of))
    if not clock:
        return found
    taken = duration(asked, costs, free)
    return replace(found, seconds=taken.wall, processor=taken.processor)


def counted_stages(asked: Asked, like: Costs = ()) -> Costs:
    """Every stage of a run, and what one call of it costs.

    like: of a similar run; then the core's formulas say how much more or less memory the network that denoises
    takes, which is sooner than counting.
    """
    known = next(((stage.working, cost) for stage, cost in like if stage.working), None)

    def cost(stage: Stage) -> Cost:
        if known and stage.working:
            working, alike = known
            return alike.of_size(stage.working / working)
        return counted(stage.call, *stage.networks)

    return [(stage, cost(stage)) for stage in stages_of(asked).stages(META)]


def memory(asked: Asked, costs: Costs) -> Estimate:
    """Bytes and operations, without time and advice."""
    own, settings = stages_of(asked), asked.settings
    width, height = settings.size
    clip = FLOAT * 4 * asked.frames * (width // 8) * (height // 8)
    copies, share = own.copies() * clip, own.in_memory()
    stored = copies + own.feature_bytes() + max(stage.waiting for stage, _ in costs)
    kept = share * (stored + asked.frames * FRAME_BYTES) + own.map_bytes()
    weights = max(weight_bytes(*stage.networks) for stage, _ in costs)
    alone = asked.device.type == "cpu"
    return Estimate(
        device=0 if alone else int(max(_largest(costs), own.tower_bytes()) + share * copies),
        ram=int(BASE_BYTES + weights + own.encoder_bytes() + (_resident(costs) if alone else 0) + kept),
        disk=int(_on_disk(own, clip, stored)),
        tflop=sum(cost.tflop * stage.times for stage, cost in costs),
        together=settings.sampling.together is True,
    )


def duration(asked: Asked, costs: Costs, free: int | None = None) -> Seconds:
    """Time of a run. Where a call is long, or too large to be tried, it is taken by its operations."""
    own, per_tflop = stages_of(asked), rate(asked.device, asked.dtype)
    whole = FIXED + own.drawing()
    # Of a busy machine the clock shows more than the work, of several threads the processor does.
    longest = max(cost.tflop for _, cost in costs) * min(per_tflop.wall, per_tflop.processor)
    if longest > MEASURED_AT_MOST or (free is not None and _largest(costs) > MEMORY_SHARE * free):
        whole += per_tflop * sum(cost.tflop * stage.times for stage, cost in costs)
    else:
        with torch.no_grad():
            for stage in own.stages(asked.device):
                whole += timed(stage.call, asked.device) * stage.times
    loaded = own.encoder_bytes() + max(weight_bytes(*stage.networks) for stage, _ in costs)
    pixels = asked.frames * asked.settings.size[0] * asked.settings.size[1]
    rest = loaded / LOADED_PER_SECOND + pixels / PIXELS_PER_SECOND
    return whole + Seconds(rest, rest)


def _on_disk(own: Stages, clip: int, stored: float) -> float:
    """Bytes there at most: a state while it takes the place of another; or, where what has the length of the clip lies
    there too, all of that and a state, since little of it is needed while a state is written.
    """
    if own.in_memory() == 1:
        return own.state_bytes(clip, 2)
    return own.state_bytes(clip, 1) + stored + own.asked.frames * POSE_BYTES


def _largest(costs: Costs) -> int:
    """Bytes of the stage that needs most, each having the device to itself."""
    return max(weight_bytes(*stage.networks) + cost.bytes + stage.beside for stage, cost in costs)


def _resident(costs: Costs) -> int:
    """Bytes of the process beside the weights, where all stages run in RAM."""
    return heap_bytes(cost.trace for _, cost in costs) + max(stage.beside for stage, _ in costs)


def _decided(asked: Asked, free: int | None) -> Asked:
    """``together="auto"`` as a run decides it: both branches at once where that fits."""
    if asked.settings.sampling.together != "auto":
        return asked
    both = replace(asked, sampling=replace(asked.sampling, together=True))
    if free is None or asked.device.type == "cpu":
        # Where nobody is asked what is free, each system does as published.
        fitting = asked.system.system == "xdyna"
    else:
        fitting = memory(both, counted_stages(both)).needed <= free
    return both if fitting else replace(asked, sampling=replace(asked.sampling, together=False))


def frames_of(source: Source, how: PoseSettings) -> int:
    """Frames of the clip that a driving source will give, without looking at any."""
    from ..pose_align.interchange import load_poses
    from ..video_core.video import open_video
    from .poses import REFERENCE_DRAWING, is_pose_file

    if is_pose_file(source.driving):
        count = len(load_poses(source.driving))
    else:
        count = open_video(source.driving, skip=(REFERENCE_DRAWING,)).count
    count = ceil(count / how.interval)
    return count if how.max_frames is None else min(count, how.max_frames)


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free where networks run; None where the system does not say."""
    from ..video_core.placement import free_bytes

    if device.type != "cpu":
        return free_bytes(device)
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 - no file of ours
            found = dict(line.split(":") for line in file)
        return 1024 * int(found["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
