"""The command line's options as tables, and the way from parsed options to what ``app`` is told."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..pose_align.shown import cut, shown
from .animate import Preparation, Source
from .networks import PARTS, System, Weights, default_folders, places
from .outputs import Output, suffix_of
from .poses import DETECTORS, LateDetector, PoseSettings
from .runs import Request
from .systems import Sampling, UniAnimate, XDyna

OUTPUTS = Path("outputs")

FASTEST = 1000
"""Frames per second that video files are written with at most (``video_core.encode.write_video``)."""

LARGEST = 2**64 - 1
"""Of all whole numbers: the largest seed that a generator of random numbers takes."""

MOST = 1_000_000
"""Of what is counted from 1: pixels of a side, frames, windows."""

DIGITS = 40
"""Of a number and what stands around it, so that zeros in front do no harm."""

LONGEST_REASON = 200
"""Characters of what is wrong with a job's settings: a list may hold texts of any length."""

TOGETHER = {"auto": "auto", "on": True, "off": False}
"""Values of --together; without it a system does as published."""

Option = tuple[tuple[str, ...], Mapping[str, Any]]
Group = tuple[str, tuple[Option, ...]]
"""Title and options; options without a title stand among the command's own."""


class UsageError(ValueError):
    """A wrong use of the command line, told in a sentence."""


def option(*flags: str, **settings: Any) -> Option:
    """The arguments of ``ArgumentParser.add_argument``."""
    return flags, settings


def switch(flag: str, help: str, default: bool | None = False) -> Option:
    """An option that is on or off: ``--flag`` and ``--no-flag``."""
    return option(flag, action=argparse.BooleanOptionalAction, default=default, help=help)


def add_group(parser: argparse.ArgumentParser, group: Group) -> None:
    """Add the group's options to a parser."""
    title, options = group
    place = parser.add_argument_group(title) if title else parser
    for flags, settings in options:
        place.add_argument(*flags, **settings)


def size_of(text: str) -> tuple[int, int]:
    """``512x768`` -> (512, 768), both from 1."""
    try:
        width, height = (counted(side) for side in text.lower().split("x"))
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise argparse.ArgumentTypeError(
            f"a size is WIDTHxHEIGHT, like 512x768, not {shown(text)}"
        ) from error
    return width, height


def whole(text: str) -> int:
    """A whole number that a machine counts with; ArgumentTypeError for others, before anything is looked at.

    Python itself reads no more than 4300 digits, and would repeat them all in its error.
    """
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or abs(number) > LARGEST:
        raise argparse.ArgumentTypeError(f"takes a whole number, not {shown(text)}")
    return number


def from_zero(text: str) -> int:
    """A whole number from 0 to the largest seed, likewise."""
    if not text.strip().isdecimal() or len(text) > DIGITS or int(text) > LARGEST:
        raise argparse.ArgumentTypeError(f"takes a whole number from 0 to {LARGEST}, not {shown(text)}")
    return int(text)


def counted(text: str) -> int:
    """A whole number from 1 to ``MOST``, likewise."""
    if not text.strip().isdecimal() or len(text) > DIGITS or not 0 < int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"takes a whole number from 1 to {MOST}, not {shown(text)}")
    return int(text)


def rate_of(text: str) -> float:
    """Frames per second, above 0 and at most ``FASTEST``, likewise."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= FASTEST:
        raise argparse.ArgumentTypeError(
            f"takes frames per second above 0, at most {FASTEST}, not {shown(text)}"
        )
    return rate


def codec_of(text: str) -> str:
    """The name of a codec, likewise."""
    try:
        suffix_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


# ---- tables --------------------------------------------------------------------------------------------

JSON = option("--json", action="store_true", help="one JSON object on the standard output")
OVERWRITE = option("--overwrite", action="store_true", help="replace files that exist")
MODELS = option(
    "--models", type=Path, action="append", metavar="DIR", help="a models folder; may be given several times"
)

REFERENCE_PERSON = option(
    "--reference-person", default="largest", help="whose pose, where the picture shows several"
)

SOURCE: Group = (
    "source",
    (
        option("--reference", type=Path, metavar="PICTURE", help="whom to animate"),
        option(
            "--driving", type=Path, metavar="SOURCE", help="video, pose file, OpenPose JSON, pictures, or skeletons"
        ),
        option("--reference-pose", type=Path, metavar="FILE", help="pose file of the reference"),
        REFERENCE_PERSON,
        option("--face-video", type=Path, metavar="VIDEO", help="whose expressions; the driving video's unless given"),
        switch("--drawn", "the driving source shows skeletons already (known of folders with ref_pose.jpg)"),
    ),
)  # fmt: skip

POSES: Group = (
    "poses",
    (
        option("--detector", choices=DETECTORS, default="auto", help="auto takes the first that can be used"),
        option("--person", default="largest",
               help="of the driving source: largest, leftmost, rightmost, centre, first, or a number from the left"),
        option("--max-gap", type=from_zero, default=5, metavar="N", help="fill in joints lost for up to N frames"),
        switch("--smooth", "One-Euro filter over time"),
        option("--interval", "--frame-interval", "--stride", type=whole, default=1, metavar="N",
               help="take every N-th frame"),
        option("--max-frames", "--length", type=whole, metavar="N", help="take at most N frames"),
        switch("--cache", "keep poses, and take those that were kept", default=True),
        MODELS,
        option("--device", default="auto", help="auto, cuda, xpu, mps or cpu"),
    ),
)  # fmt: skip

ALIGNMENT: Group = (
    "alignment and skeletons",
    (
        option("--align", choices=("robust", "original", "off"), default="robust",
               help="fit the motion to the reference's body; original is the published frame-0 rule"),
        switch("--median", "limb ratios over all frames instead of one"),
        option("--canvas", choices=("published", "video"), default="published",
               help="UniAnimate's skeletons on 512x768 and stretched, or on the video's size"),
        switch("--jpeg", "UniAnimate's skeletons through JPEG, as in its files"),
        switch("--hands", "draw hands", default=None),
        switch("--feet", "draw feet", default=None),
        switch("--head", "draw eyes and ears (the head skeleton)", default=None),
    ),
)  # fmt: skip

SAMPLING: Group = (
    "sampling (what is left out is as published)",
    (
        option("--resolution", type=size_of, metavar="WxH", help="of the video; the embedded weights' is 128x192"),
        option("--width", type=counted, help="instead of the resolution's"),
        option("--height", type=counted, help="instead of the resolution's"),
        option("--steps", type=whole),
        option("--guidance", "--cfg", type=float, help="1 runs without the unconditional branch"),
        option("--seed", type=from_zero, help="fixes the whole result"),
        option("--noise", choices=("per_frame", "original"), default="per_frame", help="order of random draws"),
        option("--context-size", type=counted, metavar="N", help="frames of a window"),
        option("--context-overlap", type=from_zero, metavar="N", help="frames that neighbouring windows share"),
        option("--context-batch", "--context-batch-size", type=counted, default=1, metavar="N",
               help="windows in one call of the network"),
        option("--fuse", choices=("uniform", "pyramid"), default="uniform", help="how windows are averaged"),
        option("--together", choices=tuple(TOGETHER),
               help="both branches of guidance in one call: faster, more memory; auto where that is free"),
        option("--precision", default="auto", help="auto, fp16, bf16, fp32, or fp8 (large weights stored in 8 bits)"),
    ),
)  # fmt: skip

FAST: Group = (
    "fast mode (sooner, and a little different; see tests/benchmarks/RESULTS.md)",
    (
        option("--solver", choices=("ddim", "dpmpp_2m", "unipc"), default="ddim",
               help="dpmpp_2m and unipc need about half of --steps"),
        option("--guided-from", type=float, default=0.0, metavar="SHARE",
               help="share of the steps, 0 to 1, from which guidance acts"),
        option("--guided-until", type=float, default=1.0, metavar="SHARE", help="and until which"),
        option("--reuse-every", type=whole, default=1, metavar="N",
               help="the coarse levels of the network run in every N-th step only"),
        switch("--compile", "compile the networks' layers with torch.compile"),
    ),
)  # fmt: skip

UNIANIMATE: Group = (
    "UniAnimate",
    (
        option("--mode", choices=("auto", "short", "windows", "continuation"), default="auto",
               help="auto is one piece up to the length of a window, then windows"),
        switch("--first-frame", "the reference is frame 0 of the clip"),
        option("--noise-prior", type=whole, metavar="T", help="0-999; higher leaks less of the reference"),
    ),
)  # fmt: skip

XDYNA: Group = (
    "X-Dyna",
    (
        option("--prompt", default="", help="usually empty"),
        option("--negative", "--negative-prompt", default=""),
        switch("--face", "follow the driving face's expressions"),
        option("--pose-strength", type=float, default=1.0, help="of the pose ControlNet"),
        option("--face-strength", type=float, default=1.0, help="of the face ControlNet"),
        option("--reference-strength", type=float, default=1.0, help="of the Dynamics-Adapter"),
        option("--image-strength", type=float, default=1.0, help="of the image prompt"),
        switch("--loop", "windows wrap from the last frames to the first", default=True),
    ),
)

FILES: Group = (
    "model files (found in models folders by their published names unless given)",
    (
        option("--weights", choices=("files", "demo"), default="files",
               help="demo: the embedded stand-ins, which --guidance 1.5 suits"),
        option("--unet", type=Path, metavar="FILE"),
        option("--vae", type=Path, metavar="FILE"),
        option("--clip", type=Path, metavar="FILE"),
        option("--text", type=Path, metavar="FILE", help="X-Dyna's text tower, where the base has none"),
        option("--base", type=Path, metavar="FILE", help="X-Dyna's Stable Diffusion 1.5, file or folder"),
        option("--motion", type=Path, metavar="FILE", help="AnimateDiff v1 modules, where the UNet lacks them"),
        option("--image-prompt", type=Path, metavar="FILE", help="IP-Adapter-plus"),
        option("--pose-net", type=Path, metavar="FILE", help="X-Dyna's pose ControlNet"),
        option("--face-net", type=Path, metavar="FILE", help="X-Dyna's face ControlNet"),
    ),
)  # fmt: skip

BOTH_HAVE = tuple(part for part in PARTS["unianimate"] if part in PARTS["xdyna"])
XDYNA_FILES: Group = (
    "X-Dyna's own files, where those above are UniAnimate's",
    tuple(option(f"--xdyna-{part}", type=Path, metavar="FILE") for part in BOTH_HAVE),
)

CLIP: Group = (
    "result",
    (
        option("--fps", type=rate_of, help="the driving clip's unless given, which drops its sound"),
        option(
            "--codec", type=codec_of, help="h264, h265, vp9, av1, gif, webp, or png for a folder of pictures"
        ),
        switch("--strip", "reference and skeleton beside the result"),
    ),
)
PLACE: Group = (
    "",
    (
        option("-o", "--output", type=Path, default=OUTPUTS, help="a file, or a folder for named files"),
        OVERWRITE,
        JSON,
    ),
)

LONG: Group = (
    "long runs",
    (
        switch("--resume", "keep what is done, and go on with a run that was cut off", default=True),
        option(
            "--keep-every", type=counted, default=1, metavar="N", help="steps after which a state is kept"
        ),
    ),
)

MODEL = option("--model", choices=("unianimate", "xdyna"), default="unianimate")
PER_JOB = (("", (MODEL,)), POSES, ALIGNMENT, SAMPLING, FAST, UNIANIMATE, XDYNA, FILES, CLIP)
"""Options that an entry of a job list may set."""


# ---- a job's own settings ------------------------------------------------------------------------------


class _JobParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"A job's settings are the options of animate: {cut(message, LONGEST_REASON)}.")


def with_settings(args: argparse.Namespace, settings: Mapping[str, Any]) -> argparse.Namespace:
    """The arguments with a job's settings over them, which are checked as if they had been typed."""
    parser = _JobParser(add_help=False, allow_abbrev=False)
    for group in PER_JOB:
        add_group(parser, group)
    words = [word for name, value in settings.items() for word in _typed(name, value)]
    return parser.parse_args(words, argparse.Namespace(**vars(args)))


def _typed(name: str, value: object) -> list[str]:
    """``seed: 3`` as it would be typed: ``--seed=3``."""
    name = name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = "x".join(map(str, value))
    return [f"--{name}={value}"]


# ---- from options to what app is told ------------------------------------------------------------------


def model_folders(args: argparse.Namespace) -> tuple[Path, ...]:
    """Where model files are looked for."""
    return tuple(args.models) if args.models else default_folders()


def detector_of(args: argparse.Namespace) -> LateDetector:
    """The pose detector of the options, which is not opened yet."""
    return LateDetector(args.detector, tuple(places(model_folders(args))), args.device)


def pose_settings(args: argparse.Namespace) -> PoseSettings:
    """How poses are read."""
    return PoseSettings(args.person, args.max_gap, args.smooth, args.interval, args.max_frames)


def source_of(args: argparse.Namespace) -> Source:
    """What an animation is made from; UsageError where a half of it is missing."""
    if args.reference is None or args.driving is None:
        raise UsageError("Give both --reference and --driving.")
    return Source(args.reference, args.driving, args.reference_pose, args.face_video, args.drawn)


def request_of(args: argparse.Namespace, system: System, source: Source) -> Request:
    """One animation by one of the systems."""
    own = _unianimate(args) if system == "unianimate" else _xdyna(args)
    return Request(
        system=own,
        source=source,
        weights=Weights(args.weights == "demo", _given(args, system), model_folders(args)),
        preparation=_preparation(args),
        sampling=_sampling(args, own),
        output=Output(args.fps, args.codec, args.strip, args.overwrite),
    )


def _given(args: argparse.Namespace, system: System) -> dict[str, Path]:
    """The files that were given for a system; in a comparison X-Dyna's shared parts have names of their own."""
    compared = system == "xdyna" and hasattr(args, f"xdyna_{BOTH_HAVE[0]}")
    own = {part: f"xdyna_{part}" for part in BOTH_HAVE} if compared else {}
    named = {part: own.get(part, part.replace("-", "_")) for part in PARTS[system]}
    return {part: file for part, name in named.items() if (file := getattr(args, name)) is not None}


def _preparation(args: argparse.Namespace) -> Preparation:
    return Preparation(
        poses=pose_settings(args),
        reference_person=args.reference_person,
        align=args.align,
        median=args.median,
        published_canvas=args.canvas == "published",
        jpeg=args.jpeg,
        hands=args.hands,
        feet=args.feet,
        head=args.head,
    )


def _sampling(args: argparse.Namespace, system: UniAnimate | XDyna) -> Sampling:
    size = args.resolution or _size_of_weights(args)
    if args.width is not None or args.height is not None:
        width, height = size or system.settings(Sampling(), 1).size
        size = (args.width or width, args.height or height)
    return Sampling(
        size=size,
        steps=args.steps,
        guidance=args.guidance,
        seed=args.seed,
        order=args.noise,
        window=args.context_size,
        overlap=args.context_overlap,
        batch=args.context_batch,
        fuse=args.fuse,
        together=TOGETHER.get(args.together),
        solver=args.solver,
        guided_from=args.guided_from,
        guided_until=args.guided_until,
        reuse_every=args.reuse_every,
        compile=args.compile,
    )


def _size_of_weights(args: argparse.Namespace) -> tuple[int, int] | None:
    """The embedded weights' own resolution; None is the published one."""
    if args.weights != "demo":
        return None
    from ..demo.architectures import RESOLUTION

    return RESOLUTION


def _unianimate(args: argparse.Namespace) -> UniAnimate:
    return UniAnimate(args.mode, args.first_frame, args.noise_prior)


def _xdyna(args: argparse.Namespace) -> XDyna:
    return XDyna(
        face=args.face,
        prompt=args.prompt,
        negative=args.negative,
        pose_strength=args.pose_strength,
        face_strength=args.face_strength,
        reference_strength=args.reference_strength,
        image_strength=args.image_strength,
        loop=args.loop,
    )
