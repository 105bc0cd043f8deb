"""The command ``evaluate``: files and options to what ``app.evaluate`` measures, numbers to files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..pose_align.pose import PoseError
from . import arguments as options
from .arguments import Group, Option, UsageError, option, switch
from .evaluate import Frames, Inputs, Tools, evaluate, made_in
from .poses import LateDetector
from .scores import Scores, Threshold, write

if TYPE_CHECKING:
    import numpy as np

    from ..pose_align.pose import PoseSequence
    from ..video_core.windows import Windows
    from .state import PoseCache

log = logging.getLogger(__name__)

THRESHOLD_MISSED = 3
"""Exit code of the command where a required condition does not hold."""

OWN: tuple[Option, ...] = (
    option("result", type=Path, help="video, picture or folder of pictures"),
    option("--truth", type=Path, metavar="VIDEO", help="that the result should equal"),
    option("--truth-interval", type=options.counted, metavar="N",
           help="compare with every N-th true frame; --interval where the truth is as long as the driving source, "
           "or, without one, longer than the result"),
    option("--reference", type=Path, metavar="PICTURE", help="that was animated"),
    option("--driving", type=Path, metavar="SOURCE", help="video or pose file that the result was made from"),
    option("--reference-pose", type=Path, metavar="FILE", help="pose file of the reference"),
    options.REFERENCE_PERSON,
    option("--align", choices=("robust", "original", "off"), default="robust", help="as the result was made"),
    option("--model", choices=("unianimate", "xdyna"), default="unianimate",
           help="that made the result: X-Dyna cuts the reference to the video's shape, and so the truth is cut"),
    switch("--find-poses", "look for the pose in the result", default=True),
    option("-o", "--output", type=Path, metavar="DIR", help="folder for quality.csv, .json and .png"),
    option("--require", action="append", default=[], metavar="CONDITION",
           help=f"like psnr>=23, several times; exit code {THRESHOLD_MISSED} where one does not hold"),
    options.JSON,
)  # fmt: skip

MADE_IN: Group = (
    "how the result was put together, for the seam score",
    (
        option("--windows", type=int, nargs=2, metavar=("SIZE", "OVERLAP"), help="frames of context windows"),
        option("--segments", type=int, metavar="SIZE", help="frames of the mode 'continuation'"),
    ),
)

LEARNED: Group = (
    "networks of yours (docs/evaluation.md)",
    (
        option("--clip-vision", type=Path, metavar="FILE", help="CLIP image tower, for embeddings"),
        option("--lpips", type=Path, nargs=2, metavar=("ALEXNET", "HEADS")),
        option("--features", type=Path, metavar="ONNX", help="feature network, for a Frechet distance"),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """scores, sentences for thresholds that do not hold, and the files that were written."""

    scores: Scores
    failures: tuple[str, ...]
    files: dict[str, Path]


def evaluate_files(
    args: argparse.Namespace, cache: PoseCache | None = None, on_frame: Callable[[int], None] | None = None
) -> Outcome:
    """The command's work; thresholds are read first, so that a wrong one costs nothing.

    cache: of the driving poses.
    """
    thresholds = [Threshold.parse(text) for text in args.require]
    detector = options.detector_of(args)
    inputs, said = _inputs(args, detector, cache)
    scores = evaluate(inputs, _tools(args, detector), on_frame)
    scores.notes += said
    failures = tuple(filter(None, (threshold.failure(scores.summary) for threshold in thresholds)))
    extra = {"result": str(args.result), "failures": list(failures)}
    written = write(scores, args.output, extra) if args.output is not None else {}
    return Outcome(scores, failures, written)


def _tools(args: argparse.Namespace, detector: LateDetector) -> Tools:
    learned = {}
    if args.lpips is not None:
        from .metrics.learned import Lpips

        learned["lpips"] = Lpips(*args.lpips)
    if args.features is not None:
        from .metrics.learned import FeatureNetwork

        learned["features"] = FeatureNetwork(args.features)
    if args.clip_vision is not None:
        learned["embed"] = clip_embedding(args.clip_vision)
    return Tools(detector if args.find_poses else None, person=args.reference_person, **learned)


def _inputs(
    args: argparse.Namespace, detector: LateDetector, cache: PoseCache | None
) -> tuple[Inputs, list[str]]:
    """What the options name, and sentences on what was chosen for them."""
    from ..video_core.images import read_picture
    from ..video_core.video import open_video

    result = open_video(args.result)
    windows = _windows(args, result.count)
    truth, said = _truth(args, result.count)
    wanted, own = _poses(args, detector, cache, result.size)
    inputs = Inputs(
        result=result.frames,
        truth=truth,
        truth_cut=args.model == "xdyna",
        reference=None if args.reference is None else read_picture(args.reference),
        reference_pose=own,
        wanted=wanted,
        windows=windows,
    )
    return inputs, said


def _truth(args: argparse.Namespace, result: int) -> tuple[Frames | None, list[str]]:
    """The true frames to compare a result of so many with, and a sentence where that took a choice.

    A driving video is its own truth where somebody is animated with their own motion: then every n-th frame is true
    that was used. A truth that is shorter has been thinned out already.
    """
    from ..video_core.video import open_video

    if args.truth is None:
        if args.truth_interval is not None:
            raise UsageError("--truth-interval chooses frames of a true video; give --truth too.")
        return None, []
    true, every = open_video(args.truth), args.interval
    if args.truth_interval is not None or every == 1:
        return partial(true.frames, args.truth_interval or 1), []
    if args.driving is None:
        whole, beside = true.count > result, f"the result has {result}"
    else:
        driving = _frames_in(args.driving)
        whole, beside = true.count == driving, f"the driving source has {driving}"
    if whole:
        said = f"One frame in {every} of the true video was compared, as --interval says: "
        other = "--truth-interval 1 compares all of them"
    else:
        said = f"All frames of the true video were compared, though --interval is {every}: "
        other = f"--truth-interval {every} takes as few of it"
    said += f"it has {true.count} frames, {beside}; {other}."
    return partial(true.frames, every if whole else 1), [said]


def _frames_in(source: Path) -> int:
    """Frames of a pose file or a video, none of which is looked at."""
    from ..video_core.video import open_video
    from .poses import is_pose_file, load_poses

    return len(load_poses(source)) if is_pose_file(source) else open_video(source).count


def _poses(
    args: argparse.Namespace, detector: LateDetector, cache: PoseCache | None, size: tuple[int, int]
) -> tuple[PoseSequence | None, PoseSequence | None]:
    """The poses that a result (width, height) was made from, and the reference's."""
    from . import animate, poses

    settings = options.pose_settings(args)
    if args.reference is not None and args.driving is not None:
        source = animate.Source(args.reference, args.driving, args.reference_pose)
        how = animate.Preparation(settings, args.reference_person, args.align)
        ready = animate.prepare(source, how, detector, cache=cache)
        wanted, own = ready.aligned, ready.reference_pose
    else:
        read = partial(poses.read, settings=settings, detector=detector, cache=cache)
        wanted = None if args.driving is None else read(args.driving)
        own = None
        if args.reference_pose is not None:
            own = poses.load_poses(args.reference_pose)[:1]
        elif args.reference is not None and args.find_poses:
            own = _of_picture(args.reference, detector, args.reference_person)
    if args.model == "xdyna" and args.reference is not None and wanted is not None:
        wanted = animate.in_crop(wanted, size)
    return wanted, own


def _of_picture(reference: Path, detector: LateDetector, person: str) -> PoseSequence | None:
    """The reference's pose, None where it cannot be found: then its colours are not compared."""
    from ..video_core.images import read_picture
    from .poses import of_picture

    try:
        return of_picture(read_picture(reference), detector, person)
    except (PoseError, FileNotFoundError, ImportError) as error:
        log.warning("The reference's pose is not known: %s", error)
        return None


def _windows(args: argparse.Namespace, frames: int) -> Windows | None:
    if args.windows is not None and args.segments is not None:
        raise UsageError("A result was made in --windows or in --segments; give one of them.")
    return made_in(frames, args.windows, args.segments)


def clip_embedding(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Picture uint8 RGB [H, W, 3] -> CLIP's projected embedding float32 [d], by the tower in that file."""
    from ..video_core.clip import cropped_pixels, load_clip_vision

    tower = load_clip_vision(path)
    side = tower.config.image_size
    return lambda picture: tower.encode(cropped_pixels(picture, side)).embeds[0].numpy()
