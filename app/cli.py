"""The command line: ``python -m xdyna_unianimate`` and a command; ``--help`` lists them."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import arguments as options
from . import benchmark, state
from .arguments import Group, Option, UsageError, option
from .evaluate_files import LEARNED, MADE_IN, OWN, THRESHOLD_MISSED, evaluate_files
from .jobs import Job, Ledger, key_of_job, read_jobs
from .networks import places, size_multiple
from .outputs import (
    Output,
    Result,
    check_clip_name,
    check_picture,
    free_path,
    refuse_existing,
    save_picture,
    suffix_of,
    target_of,
)
from .poses import DETECTORS, PoseSettings
from .runs import Request, Session

if TYPE_CHECKING:
    from .download import Item
    from .hashes import HashBook

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
"""Exit codes beside 0 and ``THRESHOLD_MISSED``; argparse's own is the second, a shell's for ctrl-C the third."""


# ---- what commands share -------------------------------------------------------------------------------


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A tqdm bar on the standard error."""
    from tqdm import tqdm

    with tqdm(desc=what, leave=False) as shown:

        def at(done: int, total: int | None = None) -> None:
            shown.total = total
            shown.update(done - shown.n)

        yield at


def show(args: argparse.Namespace, result: Mapping[str, Any], lines: Sequence[str]) -> None:
    """The result as JSON, or as lines for a person."""
    print(json.dumps(result, indent=1, default=str) if args.json else "\n".join(lines))


def show_run(args: argparse.Namespace, result: Result) -> None:
    """What one run left, and how the poses were aligned for it."""
    show(args, asdict(result), [*filter(None, [result.report]), *result.lines()])


def show_estimate(args: argparse.Namespace, request: Request) -> None:
    """What a request would take; nothing is loaded. ValueError for sizes that a run would refuse."""
    from ..video_core.images import check_sides
    from ..video_core.placement import FP8, choose_device, choose_dtype
    from .estimate import Asked, estimate, frames_of, free_memory

    size = request.system.settings(request.sampling, 1).size
    multiple = size_multiple(request.system.system, request.weights, published=True)
    check_sides(size, multiple, request.system.title)
    device = choose_device(args.device)
    dtype, fp8 = choose_dtype(args.precision, device), args.precision == FP8
    frames = frames_of(request.source, request.preparation.poses)
    asked = Asked(request.system, request.sampling, frames, request.weights.demo, device, dtype, fp8)
    found = estimate(asked, free=free_memory(device))
    lines = [f"{frames} frames on {device}", *found.lines()]
    show(args, {"frames": frames, "fits": found.fits, **asdict(found)}, lines)


def pose_cache(args: argparse.Namespace) -> state.PoseCache | None:
    """The pose cache, unless it is switched off."""
    return state.PoseCache.at(state.place()) if args.cache else None


def session_of(args: argparse.Namespace) -> Session:
    """What runs the requests of ``animate`` and ``compare``."""
    runs = state.Runs.at(state.place(), args.keep_every) if args.resume else None
    return Session(bar, options.detector_of(args), args.device, args.precision, pose_cache(args), runs)


# ---- commands ------------------------------------------------------------------------------------------


def run_demo(args: argparse.Namespace) -> None:
    """Embedded weights, drawn inputs unless others are given."""
    from . import demo
    from .poses import LateDetector

    source = demo.source(args.reference, args.driving)
    session = Session(bar, LateDetector(args.detector or demo.detector_for(args.reference, args.driving)))
    output = Output(args.fps, args.codec, args.strip, args.overwrite)
    chosen = {"steps": args.steps, "seed": args.seed, "max_frames": args.max_frames}
    results: dict[str, Result] = {}
    for system in ("unianimate", "xdyna") if args.model == "both" else (args.model,):
        target = target_of(args.output, f"demo_{system}", output)
        if args.model == "both" and target == args.output:
            target = target.with_name(f"{target.stem}_{system}{target.suffix}")
            refuse_existing(target, args.overwrite)
        asked = demo.request(system, source, output, **chosen)
        results[system] = session.run(asked, target, demo.truth_of(source, args.max_frames))
    lines = [line for result in results.values() for line in result.lines()]
    found = {name: asdict(result) for name, result in results.items()}
    for system, result in results.items():
        numbers = demo.numbers_of(source, result)
        if numbers is not None:
            found[system]["against the truth"] = numbers
            lines.append(demo.line_of(system, numbers))
    show(args, {**found, "note": demo.note()}, [*lines, demo.note()])


def run_pose(args: argparse.Namespace) -> None:
    """A pose file, and what it can be checked by."""
    from ..pose_align.interchange import check_pose_file, save_openpose, save_poses
    from .poses import read

    output = args.output or args.source.with_suffix(".poses.npz")
    check_pose_file(output)
    if args.preview is not None:
        check_clip_name(args.preview)
    written = [file for file in (output, args.preview, args.openpose) if file is not None]
    for file in written:
        refuse_existing(file, args.overwrite)
    if len(set(map(os.path.realpath, written))) < len(written):
        raise UsageError(
            f"{output}, --preview and --openpose are files of their own; give them different names."
        )
    with bar("poses") as at:
        poses = read(
            args.source,
            options.pose_settings(args),
            options.detector_of(args),
            cache=pose_cache(args),
            on_frame=at,
        )
    save_poses(poses, output)
    if args.openpose is not None:
        save_openpose(poses, args.openpose)
    if args.preview is not None:
        _save_preview(args, poses)
    seen = int(poses.visible().any(1).sum())
    found = {"poses": output, "frames": len(poses), "frames_with_person": seen, "canvas": poses.canvas}
    show(args, found, [f"{seen} of {len(poses)} frames with a person, saved as {output}"])


def _save_preview(args: argparse.Namespace, poses: Any) -> None:
    """A video of the skeleton over the source, or alone where the source is a pose file."""
    from ..pose_align.draw import XDYNA, draw_frames
    from ..video_core.images import LARGEST_SIDE
    from ..video_core.video import open_video, write_video
    from .grids import overlaid
    from .outputs import DEFAULT_FPS
    from .poses import is_pose_file

    if max(poses.canvas) > LARGEST_SIDE:
        width, height = poses.canvas
        raise ValueError(
            f"{args.preview} cannot be written: its pictures would be {width} x {height} pixels, and sides have "
            f"{LARGEST_SIDE} at most."
        )
    style = XDYNA.replace(head=True, feet=True, face=True)
    frames = draw_frames(poses, style, poses.canvas, scale_strokes=True)
    if not is_pose_file(args.source):
        frames = overlaid(open_video(args.source).frames(args.interval, len(poses)), frames)
    write_video(frames, args.preview, poses.fps or DEFAULT_FPS, overwrite=args.overwrite)


def run_align(args: argparse.Namespace) -> None:
    """Driving poses in the reference's canvas and proportions, with a report."""
    from ..pose_align.align import align
    from ..pose_align.interchange import check_pose_file, save_poses
    from ..video_core.images import read_picture
    from .poses import is_pose_file, of_picture, read

    check_pose_file(args.output)
    refuse_existing(args.output, args.overwrite)
    if args.report is not None:
        check_picture(args.report, args.overwrite)
    detector, cache = options.detector_of(args), pose_cache(args)
    if is_pose_file(args.reference):
        reference = read(args.reference, PoseSettings(), detector)
    else:
        reference = of_picture(read_picture(args.reference), detector, args.reference_person, cache=cache)
    with bar("poses") as at:
        driving = read(args.driving, options.pose_settings(args), detector, cache=cache, on_frame=at)
    aligned, report = align(driving, reference, fidelity=args.align, median=args.median)
    save_poses(aligned, args.output)
    if args.report is not None:
        save_picture(report.picture(), args.report, args.overwrite)
    show(args, {"poses": args.output, "report": report.as_dict()}, [report.text(), f"Saved as {args.output}"])


def run_animate(args: argparse.Namespace) -> None:
    """One animation, or a list of them."""
    if args.jobs is not None:
        if args.dry_run:
            raise UsageError("--dry-run estimates one animation; leave out --jobs.")
        run_jobs(args)
        return
    source = options.source_of(args)
    request = options.request_of(args, args.model, source)
    if args.dry_run:
        show_estimate(args, request)
        return
    target = target_of(args.output, f"{Job(source).stem}_{args.model}", request.output)
    show_run(args, session_of(args).run(request, target))


def run_jobs(args: argparse.Namespace) -> None:
    """A list of animations: finished ones are passed over, a failed one does not stop the others."""
    if args.reference is not None or args.driving is not None or args.output.suffix:
        raise UsageError("A list of jobs names its own pictures and videos, and --output is then a folder.")
    jobs, session, ledger = read_jobs(args.jobs), session_of(args), Ledger(args.output)
    args.output.mkdir(parents=True, exist_ok=True)
    done: list[str] = []
    failed: list[dict[str, Any]] = []
    for number, job in enumerate(jobs, 1):
        try:
            done.append(str(_finished(args, job, session, ledger)))
        except (ValueError, OSError, ImportError) as error:
            failed.append({"job": number, "error": sentence(error)})
            print(f"Job {number} of {len(jobs)} failed: {sentence(error)}", file=sys.stderr)
    show(args, {"done": done, "failed": failed}, [*done, f"{len(done)} of {len(jobs)} jobs done"])
    if failed:
        raise ValueError(f"{len(failed)} of {len(jobs)} jobs failed; run the list again to try those.")


def _finished(args: argparse.Namespace, job: Job, session: Session, ledger: Ledger) -> Path:
    """The job's result: of an earlier run, where inputs and settings are the same, else made now."""
    own = options.with_settings(args, job.settings)
    request: Request = options.request_of(own, own.model, job.source)
    key = key_of_job(job.source, [request.key(), session.precision, session.detector.identity])
    known = ledger.done(key)
    if known is None:
        suffix = suffix_of(request.output.codec)
        target = free_path(ledger.folder, f"{job.stem}_{own.model}", suffix, own.overwrite)
        known = session.run(request, target).video
        ledger.record(key, known)
    return known


def run_compare(args: argparse.Namespace) -> None:
    """Both systems, one grid video."""
    from .compare import compare

    source = options.source_of(args)
    requests = [options.request_of(args, system, source) for system in ("unianimate", "xdyna")]
    target = target_of(args.output, f"{Job(source).stem}_compare", requests[0].output)
    show_run(args, compare(session_of(args), requests, target))


def run_evaluate(args: argparse.Namespace) -> int:
    """Numbers of a result; ``THRESHOLD_MISSED`` where a required one does not hold."""
    with bar("frames") as at:
        outcome = evaluate_files(args, pose_cache(args), at)
    found = {**outcome.scores.as_dict(), "failures": outcome.failures, "files": outcome.files}
    written = [f"Written: {', '.join(map(str, outcome.files.values()))}"] if outcome.files else []
    show(args, found, [outcome.scores.text(), *outcome.failures, *written])
    return THRESHOLD_MISSED if outcome.failures else 0


def run_benchmark(args: argparse.Namespace) -> int:
    """The demo's numbers; ``THRESHOLD_MISSED`` where its bar is to be checked and is missed."""
    with bar("clips") as at:
        table = benchmark.run(benchmark.benchmark_of(args), at)
    if args.output is not None:
        benchmark.write(table, args.output)
    show(args, table.as_dict(), [table.text()])
    return THRESHOLD_MISSED if args.check and table.misses() else 0


def run_convert(args: argparse.Namespace) -> None:
    """A checkpoint to safetensors."""
    from .convert import convert

    result = convert(args.source, args.target, args.dtype, args.overwrite)
    show(args, result, [f"{result['tensors']} tensors, {result['bytes'] / 1e6:,.0f} MB in {result['file']}"])


def run_download(args: argparse.Namespace) -> None:
    """Published files into a models folder, with their terms."""
    from . import download
    from .hashes import HashBook

    folders = options.model_folders(args)
    if not folders:
        raise UsageError("Name ComfyUI's models folder with --models.")
    items = download.plan(args.what, folders[0], places(folders), args.overwrite)
    lines = [item.line() for item in items]
    if not args.dry_run:
        download.check_licences(items, args.accept_licence)
        print("\n".join(lines), file=sys.stderr)
        lines = [f"Ready: {_fetched(item, HashBook.at(state.place()))}" for item in items]
    fetched = [] if args.dry_run else [str(item.target) for item in items if item.found is None]
    listed = [{**asdict(item.file), "target": item.target, "found": item.found} for item in items]
    show(args, {"files": listed, "fetched": fetched}, lines)


def _fetched(item: Item, book: HashBook) -> Path:
    """One file, with a bar that counts megabytes."""
    from . import download

    with bar(f"{item.file.name} (MB)") as at:
        return download.download(
            item, on_bytes=lambda done, total: at(done >> 20, total and total >> 20), book=book
        )


def run_doctor(args: argparse.Namespace) -> None:
    """What is there and what is missing."""
    from . import doctor

    findings = doctor.examine(options.model_folders(args), hashes=args.hashes)
    show(args, findings, doctor.lines(findings))


# ---- the commands as a table ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A command: what it is for, the function that runs it, its own options, and those it shares."""

    name: str
    help: str
    run: Callable[[argparse.Namespace], int | None]
    own: tuple[Option, ...] = ()
    groups: tuple[Group, ...] = ()


SHARED = (
    options.POSES,
    options.ALIGNMENT,
    options.SAMPLING,
    options.FAST,
    options.UNIANIMATE,
    options.XDYNA,
    options.FILES,
)

COMMANDS = (
    Command(
        "demo",
        "animate a drawn figure, or a picture of yours, with the embedded weights",
        run_demo,
        own=(
            option("--model", choices=("unianimate", "xdyna", "both"), default="both"),
            option("--reference", type=Path, metavar="PICTURE", help="the drawn one unless given"),
            option("--driving", type=Path, metavar="SOURCE", help="the drawn one unless given"),
            option("--detector", choices=DETECTORS),
            option("--steps", type=options.whole, default=8),
            option("--max-frames", type=options.whole, default=16),
            option("--seed", type=options.whole, default=7),
        ),
        groups=(options.CLIP, options.PLACE),
    ),
    Command(
        "pose",
        "video or picture to a pose file and a preview video",
        run_pose,
        own=(
            option("source", type=Path, help="video, picture, folder of pictures, or pose file"),
            option("-o", "--output", type=Path, help=".npz or .json; beside the source unless given"),
            option("--preview", type=Path, metavar="VIDEO", help="the skeleton over the source"),
            option("--openpose", type=Path, metavar="FILE", help="also OpenPose JSON: a .json file or a folder"),
            options.OVERWRITE,
            options.JSON,
        ),
        groups=(options.POSES,),
    ),
    Command(
        "align",
        "fit driving poses to a reference's body, and say what was measured",
        run_align,
        own=(
            option("driving", type=Path, help="pose file, video or folder of pictures"),
            option("reference", type=Path, help="picture or pose file"),
            options.REFERENCE_PERSON,
            option("-o", "--output", type=Path, required=True, help=".npz or .json"),
            option("--report", type=Path, metavar="PICTURE", help="what was measured, as a picture"),
            option("--align", choices=("robust", "original"), default="robust"),
            option("--median", action="store_true", help="limb ratios over all frames instead of one"),
            options.OVERWRITE,
            options.JSON,
        ),
        groups=(options.POSES,),
    ),
    Command(
        "animate",
        "picture and driving source to a video",
        run_animate,
        own=(
            options.MODEL,
            option("--jobs", type=Path, metavar="LIST", help="JSON or YAML; goes on where it stopped"),
            option("--dry-run", action="store_true", help="say what a run would take, and load nothing"),
        ),
        groups=(options.SOURCE, *SHARED, options.CLIP, options.LONG, options.PLACE),
    ),
    Command(
        "compare",
        "both systems on the same aligned poses, side by side",
        run_compare,
        groups=(options.SOURCE, *SHARED, options.XDYNA_FILES, options.CLIP, options.LONG, options.PLACE),
    ),
    Command(
        "evaluate",
        "how good a result is, in numbers, with conditions for scripts",
        run_evaluate,
        own=OWN,
        groups=(MADE_IN, LEARNED, options.POSES),
    ),
    Command(
        "benchmark",
        "the embedded weights on drawn figures that no training has seen, beside the trivial answer",
        run_benchmark,
        own=benchmark.OWN,
    ),
    Command(
        "convert",
        ".pth, .ckpt, .pt or .bin to .safetensors, without running anything from the file",
        run_convert,
        own=(
            option("source", type=Path),
            option("target", type=Path, nargs="?", help="beside the source unless given"),
            option("--dtype", choices=("fp16", "bf16", "fp32"), help="of floating tensors; kept unless given"),
            options.OVERWRITE,
            options.JSON,
        ),
    ),
    Command(
        "download",
        "fetch published model files into a models folder; the only command that uses the network",
        run_download,
        own=(
            option("what", nargs="+", metavar="WHAT", help="unianimate, xdyna, dwpose, or names of files"),
            options.MODELS,
            option("--accept-licence", action="store_true", help="you have read the terms on the files' pages"),
            option("--dry-run", action="store_true", help="only list what would be fetched, from where to where"),
            options.OVERWRITE,
            options.JSON,
        ),
    ),
    Command(
        "doctor",
        "what is installed, found and missing, and the command that mends it",
        run_doctor,
        own=(
            options.MODELS,
            option("--hashes", action="store_true", help="compare sha256 where it is known (reads whole files)"),
            options.JSON,
        ),
    ),
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = argparse.ArgumentParser(prog="xdyna_unianimate", description=__doc__.splitlines()[0])
    parser.add_argument("-v", "--verbose", action="store_true", help="say more, errors in full too")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        one = commands.add_parser(command.name, help=command.help, description=command.help)
        one.set_defaults(run=command.run)
        for group in (("", command.own), *command.groups):
            options.add_group(one, group)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run one command.

    0 done, 1 an error told in one sentence, 2 wrong usage, 3 a required number missed, 130 stopped.
    """
    args = build_parser().parse_args(words)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s")
    try:
        return args.run(args) or 0
    except KeyboardInterrupt:
        print("Stopped; what was finished is kept.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has read enough; what is left of it must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError | MemoryError) and not _out_of_memory(error):
            raise
        logging.getLogger(__name__).info("The error in full:", exc_info=error)
        print(f"Error: {sentence(error)}", file=sys.stderr)
        return WRONG_USAGE if isinstance(error, UsageError) else FAILED


def sentence(error: BaseException) -> str:
    """An error in one sentence."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}." if error.filename is None else f"{error.filename}: {error.strerror}."
    if _out_of_memory(error):
        return (
            "Memory ran out. Take a smaller --resolution or --context-size, fewer frames, --context-batch 1, "
            "or --precision fp16."
        )
    return str(error)


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    from ..video_core.placement import out_of_memory

    return out_of_memory(error)
