"""The command ``evaluate``: files and options to what ``app.evaluate`` measures, numbers to files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .evaluate import Inputs, Tools, evaluate
from .scores import Scores, Threshold, write

if TYPE_CHECKING:
    import numpy as np

    from ..pose_align.detector import PoseDetector
    from ..pose_align.pose import PoseSequence
    from ..video_core.windows import Windows

THRESHOLD_MISSED = 3
"""Exit code of the command where a required condition does not hold."""


@dataclass(frozen=True)
class Outcome:
    """scores, sentences for thresholds that do not hold, and the files that were written."""

    scores: Scores
    failures: tuple[str, ...]
    files: dict[str, Path]


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``evaluate`` takes beside the options for finding poses."""
    parser.add_argument("result", type=Path, help="video, picture or folder of pictures")
    parser.add_argument("--truth", type=Path, help="the video that the result should equal")
    parser.add_argument("--reference", type=Path, help="the picture that was animated")
    parser.add_argument("--reference-pose", type=Path, help="pose file of the reference picture")
    parser.add_argument("--driving", type=Path, help="video or pose file that the result was made from")
    parser.add_argument("--align", choices=("robust", "original", "off"), default="robust")
    parser.add_argument("--model", choices=("unianimate", "xdyna"), default="unianimate",
                        help="xdyna: poses are seen from the part of the reference that X-Dyna cuts out")  # fmt: skip
    parser.add_argument("--no-poses", action="store_true", help="look for no pose in the result")
    group = parser.add_argument_group("how the result was made, for the seam score")
    group.add_argument("--windows", type=int, nargs=2, metavar=("SIZE", "OVERLAP"))
    group.add_argument("--segments", type=int, metavar="SIZE", help="of the mode 'continuation'")
    group = parser.add_argument_group("networks of yours (docs/evaluation.md)")
    group.add_argument("--clip-vision", type=Path, help="CLIP image tower, for the similarity of embeddings")
    group.add_argument("--lpips", type=Path, nargs=2, metavar=("ALEXNET", "HEADS"))
    group.add_argument(
        "--features", type=Path, metavar="ONNX", help="feature network, for a Frechet distance"
    )
    group = parser.add_argument_group("output")
    group.add_argument("-o", "--output", type=Path, help="folder for quality.csv, .json and .png")
    group.add_argument("--require", action="append", default=[], metavar="CONDITION",
                       help="like psnr>=23; exit code 3 where one does not hold")  # fmt: skip
    group.add_argument("--json", action="store_true", help="one JSON object on the standard output")


def evaluate_files(args: argparse.Namespace, on_frame: Callable[[int], None] | None = None) -> Outcome:
    """The command's work; thresholds are read first, so that a wrong one costs nothing."""
    thresholds = [Threshold.parse(text) for text in args.require]
    files = _Files(args)
    scores = evaluate(files.inputs(), files.tools(), on_frame)
    failures = tuple(filter(None, (threshold.failure(scores.summary) for threshold in thresholds)))
    extra = {"result": str(args.result), "failures": list(failures)}
    written = write(scores, args.output, extra) if args.output is not None else {}
    return Outcome(scores, failures, written)


@dataclass
class _Files:
    """The command's arguments as inputs and tools."""

    args: argparse.Namespace

    @cached_property
    def _detector(self) -> PoseDetector:
        from .poses import open_detector

        return open_detector(self.args.detector, self.args.models, self.args.device)

    def tools(self) -> Tools:
        args, looking = self.args, not self.args.no_poses
        learned = {}
        if args.lpips is not None:
            from .metrics.learned import Lpips

            learned["lpips"] = Lpips(*args.lpips)
        if args.features is not None:
            from .metrics.learned import FeatureNetwork

            learned["features"] = FeatureNetwork(args.features)
        if args.clip_vision is not None:
            learned["embed"] = clip_embedding(args.clip_vision)
        return Tools(self._detector if looking else None, person=args.person, **learned)

    def inputs(self) -> Inputs:
        from ..video_core.images import read_picture
        from ..video_core.video import open_video

        args, result = self.args, open_video(self.args.result)
        wanted, own = self._poses(result.size)
        return Inputs(
            result=result.frames,
            truth=None if args.truth is None else open_video(args.truth).frames,
            reference=None if args.reference is None else read_picture(args.reference),
            reference_pose=own,
            wanted=wanted,
            windows=self._windows(result.count),
        )

    def _poses(self, size: tuple[int, int]) -> tuple[PoseSequence | None, PoseSequence | None]:
        """The poses that the result was made from, and the reference's."""
        from . import animate, poses

        args = self.args
        settings = poses.PoseSettings(args.person, args.max_gap, args.smooth, args.interval, args.max_frames)
        detector = lambda: self._detector  # noqa: E731
        if args.reference is not None and args.driving is not None:
            source = animate.Source(args.reference, args.driving, args.reference_pose)
            ready = animate.prepare(source, animate.Preparation(settings, args.align), detector)
            wanted, own = ready.aligned, ready.reference_pose
        else:
            own = args.reference_pose and poses.read(args.reference_pose, poses.PoseSettings(), detector)
            wanted = args.driving and poses.read(args.driving, settings, detector)
        if args.model == "xdyna" and wanted is not None:
            wanted = animate.in_crop(wanted, size)
        return wanted, own

    def _windows(self, frames: int) -> Windows | None:
        from ..unianimate_core.sample import segments
        from ..video_core.windows import anchored_windows

        if self.args.windows is not None and self.args.segments is not None:
            raise ValueError("A result was made in --windows or in --segments; give one of them.")
        if self.args.windows is not None:
            return anchored_windows(frames, *self.args.windows)
        if self.args.segments is not None:
            # A segment begins with the last frame of the one before; that frame belongs to the earlier one.
            return [list(part)[part[0] > 0 :] for part in segments(frames, self.args.segments)]
        return None


def clip_embedding(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Picture uint8 RGB [H, W, 3] -> CLIP's projected embedding float32 [d], by the tower in that file."""
    from ..video_core.clip import cropped_pixels, load_clip_vision

    tower = load_clip_vision(path)
    side = tower.config.image_size
    return lambda picture: tower.encode(cropped_pixels(picture, side)).embeds[0].numpy()
