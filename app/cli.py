"""The command line: ``python -m xdyna_unianimate`` and a command; ``--help`` lists them."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from . import state
from .animate import Preparation, Source
from .jobs import Job, Ledger, key_of_job, read_jobs
from .poses import DETECTORS, PoseSettings
from .runs import Choices, Result, Runner

INTERRUPTED = 130
OUTPUTS = Path("outputs")

COMPARED = ("unet", "vae", "clip")
"""Parts that both systems have, each its own."""

# ---- arguments -----------------------------------------------------------------------------------------


def size_of(text: str) -> tuple[int, int]:
    """``512x768`` -> (512, 768)."""
    try:
        width, height = (int(side) for side in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a size is WIDTHxHEIGHT, like 512x768, not {text!r}") from error
    return width, height


def add_pose_arguments(parser: argparse.ArgumentParser) -> None:
    """How poses are found."""
    group = parser.add_argument_group("poses")
    group.add_argument("--detector", choices=DETECTORS, default="auto")
    group.add_argument(
        "--person", default="largest", help="largest, leftmost, rightmost, centre, first or a number"
    )
    group.add_argument("--max-gap", type=int, default=5, help="frames over which lost joints are filled in")
    group.add_argument("--smooth", action="store_true", help="One-Euro filter over time")
    group.add_argument("--interval", type=int, default=1, metavar="N", help="use every N-th frame (stride)")
    group.add_argument("--max-frames", type=int, metavar="N", help="use at most N frames (length)")
    group.add_argument("--no-cache", action="store_true", help="find poses anew, keep none")
    group.add_argument(
        "--models", type=Path, action="append", default=[], metavar="DIR", help="where model files lie"
    )
    group.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")


def add_align_arguments(parser: argparse.ArgumentParser) -> None:
    """How poses are fitted to the reference's body, and drawn."""
    group = parser.add_argument_group("alignment")
    group.add_argument("--align", choices=("robust", "original", "off"), default="robust")
    group.add_argument("--median", action="store_true", help="limb ratios over all frames, not one")
    group.add_argument("--reference-pose", type=Path, help="pose file of the reference picture")
    group.add_argument(
        "--jpeg", action="store_true", help="skeletons through JPEG, as UniAnimate's files had it"
    )
    group.add_argument("--canvas", choices=("published", "video"), default="published")
    group.add_argument("--hands", action=argparse.BooleanOptionalAction, default=None)
    group.add_argument("--feet", action=argparse.BooleanOptionalAction, default=None)
    group.add_argument("--head", action=argparse.BooleanOptionalAction, default=None, help="head skeleton")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """What both systems are told; a value left out is the published one."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--resolution", type=size_of, metavar="WxH")
    group.add_argument("--steps", type=int)
    group.add_argument("--guidance", "--cfg", type=float)
    group.add_argument("--seed", type=int)
    group.add_argument(
        "--noise", choices=("per_frame", "original"), default="per_frame", help="order of draws"
    )
    group.add_argument("--context-size", type=int, help="frames of a window")
    group.add_argument("--context-overlap", type=int)
    group.add_argument("--context-batch", type=int, default=1, help="windows per call of the network")
    group.add_argument("--precision", default="auto", help="auto, fp16, bf16 or fp32")
    group.add_argument("--weights", choices=("files", "demo"), default="files")
    unianimate = parser.add_argument_group("UniAnimate")
    unianimate.add_argument("--mode", choices=("auto", "short", "windows", "continuation"), default="auto")
    unianimate.add_argument("--first-frame", action="store_true", help="the reference is frame 0 of the clip")
    unianimate.add_argument("--noise-prior", type=int, help="0-999; higher leaks less of the reference")
    xdyna = parser.add_argument_group("X-Dyna")
    xdyna.add_argument("--prompt", default="")
    xdyna.add_argument("--negative", default="", help="negative prompt")
    xdyna.add_argument(
        "--face", action=argparse.BooleanOptionalAction, default=False, help="follow expressions"
    )
    xdyna.add_argument("--face-video", type=Path, help="whose expressions, where the driving source is poses")
    for name in ("pose", "face", "reference", "image"):
        xdyna.add_argument(f"--{name}-strength", type=float, default=1.0)
    xdyna.add_argument(
        "--loop", action=argparse.BooleanOptionalAction, default=True, help="windows wrap round"
    )
    files = parser.add_argument_group("model files, found by their published names where not given")
    for part in ("unet", "vae", "clip", "text", "base", "motion", "image-prompt", "pose-net", "face-net"):
        files.add_argument(f"--{part}", type=Path)


def add_output_arguments(parser: argparse.ArgumentParser, default: Path = OUTPUTS) -> None:
    """Where results go."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o", "--output", type=Path, default=default, help="a file, or a folder for named files"
    )
    group.add_argument("--fps", type=float, help="of the result; the driving clip's unless given")
    group.add_argument("--codec", help="h264, h265, webm, av1, gif, webp or png")
    group.add_argument("--strip", action="store_true", help="reference, skeleton and result side by side")
    group.add_argument("--overwrite", action="store_true")
    group.add_argument("--json", action="store_true", help="one JSON object on the standard output")


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = argparse.ArgumentParser(prog="xdyna_unianimate", description=__doc__.splitlines()[0])
    parser.add_argument("-v", "--verbose", action="store_true")
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser("demo", help="animate a drawn figure with the embedded weights")
    demo.add_argument("--model", choices=("unianimate", "xdyna", "both"), default="both")
    demo.add_argument("--reference", type=Path)
    demo.add_argument("--driving", type=Path)
    demo.add_argument("--steps", type=int, default=20)
    demo.add_argument("--max-frames", type=int, default=16)
    demo.add_argument("--seed", type=int, default=7)
    demo.add_argument("--detector", choices=DETECTORS)
    add_output_arguments(demo)
    demo.set_defaults(run=run_demo)

    pose = commands.add_parser("pose", help="video or picture to a pose file and a preview video")
    pose.add_argument("source", type=Path)
    pose.add_argument("-o", "--output", type=Path, help=".npz or .json; beside the source unless given")
    pose.add_argument("--preview", type=Path, help="a video of the skeleton over the source")
    pose.add_argument("--openpose", type=Path, help="also OpenPose JSON, one file")
    pose.add_argument("--json", action="store_true")
    add_pose_arguments(pose)
    pose.set_defaults(run=run_pose)

    align = commands.add_parser("align", help="fit driving poses to a reference's body")
    align.add_argument("poses", type=Path, help="pose file or video")
    align.add_argument("reference", type=Path, help="picture or pose file")
    align.add_argument("-o", "--output", type=Path, required=True)
    align.add_argument("--report", type=Path, help="a picture of what was measured")
    align.add_argument("--json", action="store_true")
    add_pose_arguments(align)
    add_align_arguments(align)
    align.set_defaults(run=run_align)

    animate = commands.add_parser("animate", help="picture and driving source to a video")
    animate.add_argument("--model", choices=("unianimate", "xdyna"), default="unianimate")
    animate.add_argument("--reference", type=Path)
    animate.add_argument("--driving", type=Path, help="video, pose file, or folder of pictures")
    animate.add_argument("--drawn", action="store_true", help="the driving source shows skeletons already")
    animate.add_argument("--jobs", type=Path, help="JSON or YAML list; goes on where it stopped")
    animate.set_defaults(run=run_animate)

    compare = commands.add_parser("compare", help="both systems on the same aligned poses, side by side")
    compare.add_argument("--reference", type=Path, required=True)
    compare.add_argument("--driving", type=Path, required=True)
    compare.add_argument("--drawn", action="store_true", help="the driving source shows skeletons already")
    for part in COMPARED:
        compare.add_argument(f"--xdyna-{part}", type=Path, help=f"X-Dyna's; --{part} is then UniAnimate's")
    compare.set_defaults(run=run_compare)
    for one in (animate, compare):
        add_pose_arguments(one)
        add_align_arguments(one)
        add_run_arguments(one)
        add_output_arguments(one)

    convert = commands.add_parser("convert", help=".pth, .ckpt or .bin to .safetensors, safely")
    convert.add_argument("source", type=Path)
    convert.add_argument("target", type=Path, nargs="?")
    convert.add_argument("--dtype", help="fp16, bf16 or fp32")
    convert.add_argument("--overwrite", action="store_true")
    convert.add_argument("--json", action="store_true")
    convert.set_defaults(run=run_convert)

    doctor = commands.add_parser("doctor", help="what is installed, found and missing")
    doctor.add_argument("--models", type=Path, action="append", default=[])
    doctor.add_argument("--hashes", action="store_true", help="check sha256 where it is known")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=run_doctor)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. 0 done, 1 an error told in one sentence, 2 wrong usage, 130 stopped."""
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s")
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("Stopped. Finished frames are kept under the name with .partial in it.", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, ImportError) as error:
        if args.verbose:
            logging.exception("The error in full:")
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


# ---- from arguments to choices -------------------------------------------------------------------------


def pose_settings(args: argparse.Namespace) -> PoseSettings:
    return PoseSettings(args.person, args.max_gap, args.smooth, args.interval, args.max_frames)


def preparation(args: argparse.Namespace) -> Preparation:
    return Preparation(
        pose_settings(args), args.align, args.median, args.canvas == "published", args.jpeg,
        args.hands, args.feet, args.head,
    )  # fmt: skip


def choices(args: argparse.Namespace, system: str) -> Choices:
    """The options of ``animate`` and ``compare`` for one system."""
    parts = {"pose-net": "pose", "face-net": "face"}
    names = ("unet", "vae", "clip", "text", "base", "motion", "image-prompt", "pose-net", "face-net")
    given = {parts.get(name, name): getattr(args, name.replace("-", "_")) for name in names}
    return Choices(
        system=system, weights=args.weights, given={k: v for k, v in given.items() if v is not None},
        folders=tuple(args.models), device=args.device, precision=args.precision, detector=args.detector,
        preparation=preparation(args), size=args.resolution, steps=args.steps, guidance=args.guidance,
        seed=args.seed, order=args.noise, window=args.context_size, overlap=args.context_overlap,
        batch=args.context_batch, mode=args.mode, first_frame=args.first_frame, noise_prior=args.noise_prior,
        prompt=args.prompt, negative=args.negative, face=args.face, pose_strength=args.pose_strength,
        face_strength=args.face_strength, reference_strength=args.reference_strength,
        image_strength=args.image_strength, loop=args.loop, fps=args.fps, codec=args.codec, strip=args.strip,
    )  # fmt: skip


def pose_cache(args: argparse.Namespace) -> state.PoseCache | None:
    return None if args.no_cache else state.PoseCache.at(state.place())


@contextmanager
def bar(total: int | None, what: str) -> Iterator[Callable[[int], None]]:
    """A tqdm bar on the standard error."""
    from tqdm import tqdm

    with tqdm(total=total, desc=what, leave=False) as shown:
        yield lambda done: shown.update(done - shown.n)


def show(args: argparse.Namespace, result: dict[str, Any], lines: Sequence[str]) -> None:
    """The result as JSON, or as lines for a person."""
    print(json.dumps(result, indent=1, default=str) if args.json else "\n".join(lines))


# ---- commands ------------------------------------------------------------------------------------------


def run_demo(args: argparse.Namespace) -> None:
    """Embedded weights, drawn inputs unless others are given."""
    from ..demo import inputs
    from ..demo.architectures import RESOLUTION
    from .demo import NOTE, SETTINGS

    drawn = args.reference is None and args.driving is None
    reference, driving = args.reference or inputs.REFERENCE, args.driving or inputs.DRIVING
    detector = args.detector or ("demo" if drawn else "auto")
    pose = None if args.reference else inputs.REFERENCE_POSE
    if not args.driving:
        driving = inputs.DRIVING if drawn else inputs.DRIVING_POSES
    how = Preparation(PoseSettings(max_frames=args.max_frames))
    results, lines = {}, []
    for system in ("unianimate", "xdyna") if args.model == "both" else (args.model,):
        chosen = Choices(
            system=system, weights="demo", detector=detector, preparation=how, size=RESOLUTION,
            steps=args.steps, seed=args.seed, fps=args.fps, codec=args.codec, strip=args.strip,
            **SETTINGS[system],
        )  # fmt: skip
        target = output_file(args.output, f"demo_{system}", args.codec, args.overwrite)
        result = Runner(chosen, bar).run(Source(reference, driving, pose), target, args.overwrite)
        results[system] = asdict(result)
        lines += [f"{system}: {result.frames} frames in {result.video}, contact sheet {result.sheet}"]
    show(args, results, [*lines, NOTE])


def run_pose(args: argparse.Namespace) -> None:
    """A pose file, and pictures to check it by."""
    from ..pose_align.interchange import save_openpose, save_poses
    from .poses import open_detector, read

    with bar(None, "poses") as at:
        poses = read(
            args.source, pose_settings(args), lambda: open_detector(args.detector, args.models, args.device),
            cache=pose_cache(args), on_frame=at,
        )  # fmt: skip
    output = args.output or args.source.with_suffix(".poses.npz")
    save_poses(poses, output)
    if args.openpose is not None:
        save_openpose(poses, args.openpose)
    if args.preview is not None:
        preview(args.source, poses, args.preview, args.interval)
    seen = int(poses.visible().any(1).sum())
    found = {"poses": output, "frames": len(poses), "frames_with_person": seen, "canvas": poses.canvas}
    show(args, found, [f"{seen} of {len(poses)} frames with a person, saved as {output}"])


def preview(source: Path, poses, target: Path, interval: int) -> None:
    """The skeleton over the darkened source, or alone where the source is a pose file."""
    import numpy as np

    from ..pose_align.draw import XDYNA, draw_frames
    from ..video_core.video import open_video, write_video
    from .poses import is_pose_file

    drawn = draw_frames(poses, replace(XDYNA, head=True, feet=True, face=True), poses.canvas)
    if not is_pose_file(source):
        video = open_video(source).frames(interval, len(poses))
        drawn = (np.maximum(frame // 2, skeleton) for frame, skeleton in zip(video, drawn, strict=False))
    write_video(drawn, target, poses.fps or 8.0, overwrite=True)


def run_align(args: argparse.Namespace) -> None:
    """Driving poses in the reference's canvas and proportions, with a report."""
    from ..pose_align.align import align
    from ..pose_align.interchange import save_poses
    from ..video_core.images import read_picture
    from .poses import is_pose_file, of_picture, open_detector, read
    from .runs import save_picture

    def detector():
        return open_detector(args.detector, args.models, args.device)

    with bar(None, "poses") as at:
        driving = read(args.poses, pose_settings(args), detector, cache=pose_cache(args), on_frame=at)
    if is_pose_file(args.reference):
        reference = read(args.reference, PoseSettings(), detector)[0:1]
    else:
        reference = of_picture(read_picture(args.reference), detector(), args.person)
    fidelity = "robust" if args.align == "off" else args.align
    aligned, report = align(driving, reference, fidelity=fidelity, median=args.median)
    save_poses(aligned, args.output)
    if args.report is not None:
        save_picture(report.picture(), args.report)
    show(args, {"poses": args.output, "report": report.as_dict()}, [report.text(), f"Saved as {args.output}"])


def run_animate(args: argparse.Namespace) -> None:
    """One animation, or a list of them."""
    if args.jobs is not None:
        return run_jobs(args)
    if args.reference is None or args.driving is None:
        raise ValueError("Give --reference and --driving, or a list of jobs with --jobs.")
    runner = Runner(choices(args, args.model), bar, pose_cache(args))
    name = Job(args.reference, args.driving).stem
    target = output_file(args.output, f"{name}_{args.model}", args.codec, args.overwrite)
    result = runner.run(source_of(args), target, args.overwrite)
    show(args, asdict(result), result_lines(result))
    return None


def source_of(args: argparse.Namespace) -> Source:
    return Source(args.reference, args.driving, args.reference_pose, args.face_video, args.drawn)


def run_jobs(args: argparse.Namespace) -> None:
    """A list of animations: finished ones are passed over, a failed one does not stop the others."""
    jobs, ledger = read_jobs(args.jobs), Ledger(args.output)
    args.output.mkdir(parents=True, exist_ok=True)
    options = {f.name: getattr(choices(args, args.model), f.name) for f in fields(Choices)}
    runners: dict[str, Runner] = {}
    done, failed = [], []
    for number, job in enumerate(jobs, 1):
        try:
            key = key_of_job(job, options)
            known = ledger.done(key)
            if known is None:
                chosen = choices(with_settings(args, job.settings), args.model)
                runner = runners.setdefault(repr(chosen), Runner(chosen, bar, pose_cache(args)))
                target = ledger.free(job.stem, suffix_of(args.codec), args.overwrite)
                source = Source(job.reference, job.driving, args.reference_pose, job.face, args.drawn)
                known = runner.run(source, target, args.overwrite).video
                ledger.record(key, known)
            done.append(str(known))
        except (ValueError, OSError, ImportError) as error:
            failed.append({"job": number, "error": str(error)})
            print(f"Job {number} of {len(jobs)} failed: {error}", file=sys.stderr)
    show(args, {"done": done, "failed": failed}, [*done, f"{len(done)} of {len(jobs)} jobs done"])
    if failed:
        raise ValueError(f"{len(failed)} of {len(jobs)} jobs failed; run the list again to try those.")


def with_settings(args: argparse.Namespace, settings: dict[str, Any]) -> argparse.Namespace:
    """The arguments with a job's own settings over them, under the options' names."""
    known = {"frame_interval": "interval", "length": "max_frames", "stride": "interval", "cfg": "guidance"}
    changed = {known.get(name, name.replace("-", "_")): value for name, value in settings.items()}
    unknown = sorted(set(changed) - set(vars(args)))
    if unknown:
        raise ValueError(f"A job has settings that animate does not know: {', '.join(unknown)}.")
    if isinstance(changed.get("resolution"), (str, list)):
        text = changed["resolution"]
        changed["resolution"] = size_of(text) if isinstance(text, str) else tuple(text)
    return argparse.Namespace(**{**vars(args), **changed})


def run_compare(args: argparse.Namespace) -> None:
    """Both systems, one grid video."""
    from .compare import compare

    others = {part: getattr(args, f"xdyna_{part}") for part in COMPARED}
    own = {"unianimate": args, "xdyna": argparse.Namespace(**{**vars(args), **others})}
    runners = {name: Runner(choices(given, name), bar, pose_cache(args)) for name, given in own.items()}
    name = f"{Job(args.reference, args.driving).stem}_compare"
    target = output_file(args.output, name, args.codec, args.overwrite)
    result = compare(runners, source_of(args), target, args.overwrite)
    show(args, asdict(result), result_lines(result))


def run_convert(args: argparse.Namespace) -> None:
    """A checkpoint to safetensors."""
    from .convert import convert

    result = convert(args.source, args.target, args.dtype, args.overwrite)
    show(args, result, [f"{result['tensors']} tensors, {result['bytes'] / 1e6:,.0f} MB in {result['file']}"])


def run_doctor(args: argparse.Namespace) -> None:
    """What is there and what is missing."""
    from . import doctor

    findings = doctor.examine(args.models, args.hashes)
    show(args, findings, [doctor.text(findings)])


def suffix_of(codec: str | None) -> str:
    """The file ending of a codec; none is a folder of PNGs."""
    return {"webm": ".webm", "av1": ".webm", "gif": ".gif", "webp": ".webp", "png": ""}.get(
        codec or "", ".mp4"
    )


def output_file(output: Path, stem: str, codec: str | None, overwrite: bool) -> Path:
    """The file that was asked for, or a free name in the folder that was."""
    if output.suffix and not output.is_dir():
        return output
    return Ledger(output).free(stem, suffix_of(codec), overwrite)


def result_lines(result: Result) -> list[str]:
    """What a person is told about a run."""
    lines = [f"{result.frames} frames in {result.video}", f"Contact sheet: {result.sheet}"]
    return [result.report, *lines] if result.report else lines
