"""The demo's bar: held-out puppets animated with the embedded weights, measured beside the trivial answer.

Rows are answers to the same task: true frames (which shows what the joint finder misses by itself), the
autoencoder's round trip (what no network behind it can exceed), the reference copied into every frame (what
a network that learnt nothing gives), also with soft noise (what boils and does not move), and the systems.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ..pose_align.skeleton import BODY, FACE
from ..video_core.asides import written_aside
from . import arguments as options
from .arguments import Option, option
from .evaluate import Inputs, evaluate
from .metrics.face import correlation, face_motion
from .metrics.motion import agreement
from .outputs import save_picture
from .scores import MEASURES, RELATIONS

if TYPE_CHECKING:
    from ..demo.heldout import HeldOut
    from ..pose_align.pose import PoseSequence
    from .scores import Scores
    from .systems import UniAnimate, XDyna

Answer = Callable[["HeldOut"], Sequence[np.ndarray]]
"""A task to frames uint8 RGB [H, W, 3], as many as the truth has."""

OnClip = Callable[[int, int], None]
"""(clips done, all clips); may raise to stop."""

TRUE, CEILING, COPY, COPY_FIRST = "true frames", "autoencoder", "copy the reference", "copy the first frame"
BOILING = "copy with soft noise"
"""As much background motion as the truth's, by its energy, and nothing that moves."""
NOISE_PATCH, NOISE_LEVELS = 8, 3.0
"""Pixels of a patch of that noise, and its standard deviation in grey levels, which an eye hardly sees."""
FIRST_FRAME, REFERENCE, XDYNA = "UniAnimate, first frame", "UniAnimate, reference", "X-Dyna"
SEGMENTS = "UniAnimate, segments"
"""The first frame's mode on a long clip, piece by piece: each continues the last frame of the one before."""

SHOWN = (
    "psnr", "ssim", "joints_5", "joints_10", "pose_error", "clothing_error", "flicker", "background_ratio",
    "background_agreement", "mouth_correlation", "psnr_drop",
)  # fmt: skip
"""Columns of the table."""

BAR = (
    # rows, measure, condition
    ((FIRST_FRAME,), "psnr", ">=", 23.0),
    ((REFERENCE, XDYNA), "psnr", ">=", 22.0),
    ((FIRST_FRAME, REFERENCE, XDYNA), "joints_5", ">=", 85.0),
    ((FIRST_FRAME, REFERENCE, XDYNA), "joints_10", ">=", 93.0),
    ((XDYNA,), "background_ratio", ">=", 0.5),
    ((XDYNA,), "mouth_correlation", ">=", 0.7),
    ((FIRST_FRAME, SEGMENTS, REFERENCE, XDYNA), "psnr_drop", "<=", 1.5),
)

OWN: tuple[Option, ...] = (
    option("--clips", type=int, default=12, help="held-out clips"),
    option("--frames", type=int, default=16, help="of each clip"),
    option(
        "--long",
        type=int,
        default=96,
        help="frames of a long clip, 0 for none; from a first frame in one piece, and in segments beside it",
    ),
    option("--long-clips", type=int, default=2),
    option("--steps", type=int, default=8),
    option("--guidance", type=float, default=1.5),
    option("--seed", type=int, default=7),
    option("--context-size", type=int, metavar="N", help="frames of a window or a segment"),
    option("--context-overlap", type=int, metavar="N", help="frames that neighbouring windows share"),
    option("--device", default="auto", help="auto, cuda, xpu, mps or cpu"),
    option("-o", "--output", type=Path, metavar="DIR", help="folder for benchmark.json and benchmark.png"),
    option("--check", action="store_true", help="exit code 3 where the bar is missed"),
    options.JSON,
)


@dataclass(frozen=True)
class Benchmark:
    """What is run. window, overlap: None is each system's own. device: a name of ``choose_device``."""

    clips: int = 12
    frames: int = 16
    long: int = 96
    long_clips: int = 2
    steps: int = 8
    guidance: float = 1.5
    seed: int = 7
    window: int | None = None
    overlap: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.clips < 1 or self.frames < 2 or self.long < 0 or self.long_clips < 0:
            raise ValueError(
                "A benchmark has at least 1 clip of at least 2 frames; "
                f"{self.clips} of {self.frames} and {self.long_clips} of {self.long} were asked for."
            )


@dataclass(frozen=True)
class Table:
    """rows: answer -> measure -> mean over the clips. sheet: some clips, to be looked at.

    seen: share in % of the joints that the finder sees in the true frames; the others are not asked for.
    """

    rows: Mapping[str, Mapping[str, float]]
    seen: float
    sheet: np.ndarray = field(repr=False)

    def misses(self) -> list[str]:
        """A sentence for every part of ``BAR`` that is missed.

        What an answer to short clips does not have, such as a mouth that follows where it never moves, is missed
        too; long clips may be left out.
        """
        found = []
        for rows, name, relation, value in BAR:
            for row in rows:
                numbers, bar = self.rows.get(row, {}), f"the bar is {relation} {value:g}."
                if name in numbers and not RELATIONS[relation](numbers[name], value):
                    found.append(f"{row}: {name} is {numbers[name]:.3g}, {bar}")
                elif name not in numbers and "psnr" in numbers and name != "psnr_drop":
                    found.append(f"{row}: {name} cannot be told, {bar}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        rounded = {row: {k: round(v, 4) for k, v in numbers.items()} for row, numbers in self.rows.items()}
        return {"rows": rounded, "joints_seen_in_truth": round(self.seen, 2), "misses": self.misses()}

    def text(self) -> str:
        """The table, and what of the bar is missed."""
        names = [name for name in SHOWN if any(name in row for row in self.rows.values())]
        lines = [" " * 24 + "".join(f"{name:>{_width(name)}}" for name in names)]
        for row, numbers in self.rows.items():
            cells = (
                f"{numbers[name]:{_width(name)}.2f}" if name in numbers else " " * (_width(name) - 1) + "-"
                for name in names
            )
            lines.append(f"{row:<24}" + "".join(cells))
        units = ", ".join(f"{name} in {MEASURES[name].unit}" for name in names if MEASURES[name].unit)
        lines += [
            units,
            f"The finder sees {self.seen:.1f} % of the joints of the true frames; these are asked for.",
        ]
        return "\n".join([*lines, *(self.misses() or ["The bar is met."])])


def _width(name: str) -> int:
    return max(len(name), 7) + 2


def benchmark_of(args: argparse.Namespace) -> Benchmark:
    """The benchmark that the options ask for."""
    return Benchmark(
        args.clips, args.frames, args.long, args.long_clips, args.steps, args.guidance, args.seed,
        args.context_size, args.context_overlap, args.device,
    )  # fmt: skip


def run(benchmark: Benchmark, on_clip: OnClip | None = None) -> Table:
    """All answers to all tasks. Takes minutes: a clip of every answer is measured by the joint finder."""
    from ..demo.heldout import held_out

    answers = Answers(benchmark)
    sums, sheet = _Sums(), []
    tasks = [(number, benchmark.frames, False) for number in range(benchmark.clips)]
    tasks += [(number, benchmark.long, True) for number in range(benchmark.long_clips) if benchmark.long]
    for done, (number, frames, long) in enumerate(tasks):
        task = held_out(number, frames)
        if long:
            _measure_drop(task, answers, sums)
        else:
            made = _measure(task, answers, sums)
            if len(sheet) < SHEET_CLIPS:
                sheet.append(_sheet_row(task, made))
        if on_clip is not None:
            on_clip(done + 1, len(tasks))
    return Table(sums.rows(), sums.seen, np.concatenate(sheet))


def _measure(task: HeldOut, answers: Answers, sums: _Sums) -> dict[str, Sequence[np.ndarray]]:
    """Add the numbers of a short clip; returns what every answer made of it."""
    from ..demo.finder import PuppetFinder
    from .poses import PoseSettings, find

    in_frames = partial(find, detector=PuppetFinder(task.puppet), settings=PoseSettings(max_gap=0))
    in_truth = in_frames(task.truth)
    sums.add_seen(in_truth.visible()[:, BODY])
    # A joint behind the body is not asked for: what the finder sees in the true frame is.
    wanted = replace(task.poses, scores=in_truth.visible().astype(np.float32))
    made = {}
    for name, answer in answers.all.items():
        own, given = asked(name, task)
        made[name] = answer(own)
        found = in_truth if name == TRUE else in_frames(made[name])
        inputs = Inputs(
            result=partial(iter, made[name][given:]),
            truth=partial(iter, task.truth[given:]),
            reference=own.reference,
            reference_pose=own.reference_pose,
            wanted=wanted[given:],
            found=found[given:],
        )
        sums.add(name, evaluate(inputs))
        sums.add_mouths(name, task.poses[given:], found[given:])
    return made


def _measure_drop(task: HeldOut, answers: Answers, sums: _Sums) -> None:
    """Add what a long clip loses towards its end, and what a copy does, whose figure has moved away by then."""
    for name, answer in answers.of_long_clips.items():
        own, given = asked(name, task)
        made = answer(own)
        inputs = Inputs(
            partial(iter, made[given:]), partial(iter, task.truth[given:]), found=task.poses[given:]
        )
        sums.add_number(name, "psnr_drop", evaluate(inputs).clip["psnr_drop"])


def asked(name: str, task: HeldOut) -> tuple[HeldOut, int]:
    """The task as a row is given it, and how many of its first frames are given: those are no answer."""
    return (task.from_first_frame(), 1) if name in FROM_FIRST_FRAME else (task, 0)


# ---- answers ---------------------------------------------------------------------------------------------


def boiling(task: HeldOut, patch: int = NOISE_PATCH, levels: float = NOISE_LEVELS) -> list[np.ndarray]:
    """The reference in every frame, each with soft noise of its own: patches of pixels, a deviation in grey levels."""
    import cv2

    random = np.random.default_rng(task.number)
    height, width = task.reference.shape[:2]
    frames = []
    for _ in task.truth:
        patches = random.normal(0, levels, (height // patch, width // patch))
        noise = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
        frames.append(np.clip(np.rint(task.reference + noise[..., None]), 0, 255).astype(np.uint8))
    return frames


FROM_FIRST_FRAME = (FIRST_FRAME, SEGMENTS, COPY_FIRST)


@dataclass
class Answers:
    """Everything that turns a task into frames, with the networks of both systems loaded once."""

    benchmark: Benchmark

    @cached_property
    def all(self) -> dict[str, Answer]:
        """Row -> answer, in the order of the table."""
        return {
            TRUE: lambda task: list(task.truth),
            CEILING: self._round_trip,
            COPY: lambda task: [task.reference] * len(task.truth),
            COPY_FIRST: lambda task: [task.reference] * len(task.truth),
            BOILING: boiling,
            **self.systems,
        }

    @cached_property
    def systems(self) -> dict[str, Answer]:
        """The rows that the bar is about."""
        from .systems import UniAnimate, XDyna

        return {
            # In one piece, however long: three times the memory of a segment for 96 frames.
            FIRST_FRAME: lambda task: self._animated(UniAnimate("short", first_frame=True), task),
            REFERENCE: lambda task: self._animated(UniAnimate(), task),
            XDYNA: lambda task: self._animated(XDyna(face=True), task),
        }

    @cached_property
    def of_long_clips(self) -> dict[str, Answer]:
        """The rows of what a long clip loses: copies, the systems, and segments, of which a short clip has one."""
        from .systems import UniAnimate

        segments = UniAnimate("continuation", first_frame=True)
        return {
            **{name: self.all[name] for name in (COPY, COPY_FIRST, *self.systems)},
            SEGMENTS: lambda task: self._animated(segments, task),
        }

    def _animated(self, system: UniAnimate | XDyna, task: HeldOut) -> list[np.ndarray]:
        """The clip as the commands and nodes make it, from exact poses."""
        from ..video_core.placement import choose_device, running_on
        from ..video_core.video import write_video
        from .animate import FaceSource, Preparation, Prepared
        from .systems import Sampling

        b = self.benchmark
        sampling = Sampling(
            task.poses.canvas, b.steps, b.guidance, b.seed, window=b.window, overlap=b.overlap
        )
        prepared = Prepared(
            task.reference, task.reference_pose, task.poses, aligned=task.poses, fps=task.poses.fps
        )
        with TemporaryDirectory() as folder:
            if system.face:
                video = write_video(task.driving, Path(folder) / "driving.mp4", task.poses.fps).path
                prepared = replace(prepared, faces=FaceSource(video, task.driving_poses, task.poses))
            settings = system.settings(sampling, len(task.truth))
            placed = running_on(choose_device(b.device))
            clip = system.clip(self._networks[system.system], prepared, Preparation(), settings, placed)
            return list(clip.frames)

    @cached_property
    def _networks(self) -> dict[str, Any]:
        import torch

        from .networks import Weights, load

        embedded = Weights(demo=True)
        return {name: load(name, embedded, torch.float32, face=True) for name in ("unianimate", "xdyna")}

    def _round_trip(self, task: HeldOut) -> list[np.ndarray]:
        """The true frames through the autoencoder and back."""
        from ..video_core.images import to_bytes, unit

        vae = self._networks["unianimate"].vae
        return [frame for chunk in vae.decode(vae.encode(unit(task.truth))) for frame in to_bytes(chunk)]


# ---- sums ------------------------------------------------------------------------------------------------


class _Sums:
    """Numbers of many clips, and their means."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[str, list[float]]] = {}
        self._mouths: dict[str, list[np.ndarray]] = {}
        self._flows: dict[str, list[np.ndarray]] = {}
        self._seen: list[float] = []

    def add(self, row: str, scores: Scores) -> None:
        """One short clip's scores; what fades is measured on long ones."""
        for name, value in scores.summary.items():
            if not name.endswith("_drop"):
                self.add_number(row, name, value)
        self._flows.setdefault(row, []).extend(scores.flows)

    def add_number(self, row: str, name: str, value: float) -> None:
        """One clip's number; those that a clip does not have are left out."""
        if math.isfinite(value):
            self._numbers.setdefault(row, {}).setdefault(name, []).append(value)

    def add_mouths(self, row: str, wanted: PoseSequence, found: PoseSequence) -> None:
        """How far both mouths are open in every frame of a clip."""
        both = (face_motion(poses.points[:, FACE]).mouth for poses in (wanted, found))
        self._mouths.setdefault(row, []).append(np.stack(list(both)))

    def add_seen(self, seen: np.ndarray) -> None:
        """Which joints of a true clip the finder sees, bool."""
        self._seen.append(100 * float(seen.mean()))

    @property
    def seen(self) -> float:
        """Mean share of the joints seen, in %."""
        return float(np.mean(self._seen)) if self._seen else 0.0

    def rows(self) -> dict[str, dict[str, float]]:
        """Means over the clips.

        Background motion is one ratio of sums and one agreement of all steps, since many scenes hardly move.
        Mouths are correlated over all frames together, since a short clip may keep its mouth as it is, each clip
        about its own mean: a mouth that never moves but is as wide open as it mostly is follows nothing.
        """
        true = sum(self._numbers.get(TRUE, {}).get("background_energy", []))
        rows = {}
        for row, numbers in self._numbers.items():
            rows[row] = {name: float(np.mean(values)) for name, values in numbers.items()}
            if "background_energy" in numbers and true > 0:
                rows[row]["background_ratio"] = sum(numbers["background_energy"]) / true
            rows[row].pop("background_agreement", None)
            agreed = agreement(self._flows.get(row, ()))
            rows[row] |= {"background_agreement": agreed} if math.isfinite(agreed) else {}
            rows[row].pop("mouth_correlation", None)
            if row in self._mouths:
                together = correlation(*np.concatenate([_about_mean(m) for m in self._mouths[row]], axis=1))
                rows[row] |= {"mouth_correlation": together} if math.isfinite(together) else {}
        return rows


def _about_mean(series: np.ndarray) -> np.ndarray:
    """Two series [2, F] of a clip less their means, over the frames that both have."""
    both = series[:, np.isfinite(series).all(0)]
    return both - both.mean(1, keepdims=True) if both.size else both


# ---- pictures --------------------------------------------------------------------------------------------

SHEET_CLIPS = 3
SHEET_ROWS = 3
SHEET_HEIGHT = 256
SHEET_COLUMNS = (FIRST_FRAME, REFERENCE, XDYNA, TRUE)


def _sheet_row(task: HeldOut, made: Mapping[str, Sequence[np.ndarray]]) -> np.ndarray:
    """uint8 RGB: reference, skeleton, what the systems made and the truth, a few frames of one clip."""
    from ..pose_align.draw import XDYNA as STYLE
    from ..pose_align.draw import draw
    from .grids import contact_sheet

    skeleton = draw(
        task.poses, STYLE, (2 * task.poses.canvas[0], 2 * task.poses.canvas[1]), scale_strokes=True
    )
    columns = {"reference": [task.reference], "skeleton": skeleton}
    columns |= {name: made[name] for name in SHEET_COLUMNS}
    return contact_sheet(columns, SHEET_ROWS, SHEET_HEIGHT)


def write(table: Table, folder: Path) -> tuple[Path, Path]:
    """``benchmark.json`` and ``benchmark.png``."""
    numbers, picture = folder / "benchmark.json", folder / "benchmark.png"
    with written_aside(numbers) as file:
        file.write((json.dumps(table.as_dict(), indent=1) + "\n").encode())
    save_picture(table.sheet, picture, overwrite=True)
    return numbers, picture
