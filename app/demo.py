"""The demo: the embedded weights on the drawn inputs, or on anybody's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ..demo import inputs
from ..demo.architectures import RESOLUTION
from .animate import Preparation, Source
from .evaluate import Inputs, evaluate
from .networks import System, Weights, find_files
from .outputs import Output, Result
from .poses import PoseSettings
from .runs import Request
from .systems import Sampling, UniAnimate, XDyna

GUIDANCE = 1.5
"""Suits networks of a hundredth of the published size; the published values overdrive them."""

EVERY = 3
"""A frame in so many is compared with the truth: finding joints takes a third of a second."""

SHOWN = {
    "psnr": ("PSNR", " dB", 1),
    "ssim": ("SSIM", "", 2),
    "joints_5": ("joints within 5 % of the body's height", " %", 0),
    "joints_10": ("within 10 %", " %", 0),
}
"""Measures of a demo -> what they are called, their unit, digits."""

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
    if not _is_drawn(made_from):
        return None
    return inputs.draw_truth(min(frames, inputs.FRAMES))


def numbers_of(made_from: Source, result: Result) -> dict[str, dict[str, float]] | None:
    """How near a result is to the true clip, and how near the trivial answer is; None where no truth is known.

    "result" and "copy of the reference", each with the measures ``SHOWN``, from every ``EVERY``-th frame.
    """
    from ..demo.finder import PuppetFinder
    from ..video_core.images import read_picture, resize
    from ..video_core.video import open_video
    from .poses import PoseSettings, find

    if not _is_drawn(made_from):
        return None
    frames = list(open_video(result.video).frames())[::EVERY]
    size = frames[0].shape[1], frames[0].shape[0]
    if size[0] * inputs.CANVAS[1] != size[1] * inputs.CANVAS[0]:
        return None  # it stands beside its inputs
    drawn, poses = inputs.truth_with_poses(result.frames)
    truth = [resize(frame, size, "bicubic") for frame in drawn[::EVERY]]
    in_frames = partial(
        find, detector=PuppetFinder(inputs.reference_puppet()), settings=PoseSettings(max_gap=0)
    )
    # A joint behind the body is not asked for: what the finder sees in the true frame is.
    seen = in_frames(truth).visible()
    wanted = replace(poses[::EVERY], scores=seen.astype(np.float32))
    answers = {
        "result": frames,
        "copy of the reference": [resize(read_picture(inputs.REFERENCE), size, "bicubic")] * len(frames),
    }
    found = {}
    for name, clip in answers.items():
        own = Inputs(partial(iter, clip), partial(iter, truth), wanted=wanted, found=in_frames(clip))
        measured = evaluate(own).summary
        found[name] = {measure: measured[measure] for measure in SHOWN if measure in measured}
    return found


def line_of(system: str, numbers: Mapping[str, Mapping[str, float]]) -> str:
    """The numbers for a person, each beside the trivial answer's."""
    own, copy = numbers["result"], numbers["copy of the reference"]
    shown = [
        f"{says} {own[name]:.{digits}f}{unit} ({copy[name]:.{digits}f})"
        for name, (says, unit, digits) in SHOWN.items()
        if name in own and name in copy
    ]
    return f"{system} against the true rendering (a copy of the reference): {', '.join(shown)}"


def _is_drawn(made_from: Source) -> bool:
    return (made_from.reference, made_from.driving) == (inputs.REFERENCE, inputs.DRIVING)


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
