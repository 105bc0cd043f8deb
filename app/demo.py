"""The demo: the embedded weights on the drawn inputs, or on anybody's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..demo import inputs
from ..demo.architectures import RESOLUTION
from .animate import Preparation, Source
from .networks import System, Weights, find_files
from .outputs import Output
from .poses import PoseSettings
from .runs import Request
from .systems import Sampling, UniAnimate, XDyna

GUIDANCE = 1.5
"""Suits networks of a hundredth of the published size; the published values overdrive them."""

NOTE = (
    "The embedded weights are small stand-ins{untrained}; they show that everything works, not what the "
    "systems can do. README.md names the published files."
)


def source(reference: Path | None, driving: Path | None) -> Source:
    """The drawn inputs, or anybody's in their place; a drawn one comes with its exact pose."""
    if reference is None:
        return Source(inputs.REFERENCE, driving or inputs.DRIVING, inputs.REFERENCE_POSE)
    return Source(reference, driving or inputs.DRIVING_POSES)


def truth_of(made_from: Source, frames: int) -> Sequence[np.ndarray] | None:
    """What the drawn inputs should become: the drawn figure in the drawn dance. None for anybody's."""
    if (made_from.reference, made_from.driving) != (inputs.REFERENCE, inputs.DRIVING):
        return None
    return inputs.draw_truth(min(frames, inputs.FRAMES))


def detector_for(reference: Path | None, driving: Path | None) -> str:
    """The detector that knows the drawn inputs, unless something else is to be looked at."""
    return "demo" if reference is None and driving is None else "auto"


def request(
    system: System, made_from: Source, output: Output, *, steps: int, seed: int, max_frames: int
) -> Request:
    """The demo's run of one system. X-Dyna follows the face of the drawn video."""
    own = UniAnimate() if system == "unianimate" else XDyna(face=made_from.driving == inputs.DRIVING)
    return Request(
        system=own,
        source=made_from,
        weights=Weights(demo=True),
        preparation=Preparation(PoseSettings(max_frames=max_frames)),
        sampling=Sampling(size=RESOLUTION, steps=steps, guidance=GUIDANCE, seed=seed),
        output=output,
    )


def note() -> str:
    """What to expect of the embedded weights, by what their files say of themselves."""
    from ..video_core.weights import open_checkpoint

    files = [
        file for system in ("unianimate", "xdyna") for file in find_files(system, Weights(demo=True)).unet
    ]
    untrained = any(open_checkpoint(file).metadata.get("note") == "untrained" for file in files)
    return NOTE.format(untrained=" and untrained" if untrained else "")
