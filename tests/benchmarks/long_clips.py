"""Memory over the length of a clip: poses, ready-made skeletons or a face with sound to a video at a tiny size.

    python tests/benchmarks/long_clips.py [--frames 250 1000 2000] [--how xdyna ...] [--in-use] [--json]

Each length has a process of its own. Prints, for each way to make long clips, the peak of the resident memory by
length, and how it runs during the longest. ``--in-use`` gives free memory back to the system before every look, and
prints the largest of these looks too: by glibc's own rules a process keeps up to 64 MB of it, more or less of that by
chance. Reads /proc or the peak of the process, so the curve needs Linux and the peaks any POSIX system.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

WINDOWS = ("--mode", "windows", "--context-size", "16", "--context-overlap", "4")
HOWS = {
    "unianimate windows": WINDOWS,
    "unianimate continuation": ("--mode", "continuation", "--context-size", "16"),
    "xdyna": ("--model", "xdyna"),
    "unianimate skeletons": WINDOWS,
    "xdyna skeletons": ("--model", "xdyna"),
    "xdyna face": ("--model", "xdyna", "--face"),
}
SIZE, STEPS, POINTS = "64x96", 2, 10
RATE, PITCH = 44100, 440
"""Of the sound, a tone: samples a second, and Hz."""
CHILD, IN_USE = "--child", "--child-in-use"


def child(in_use: bool, words: list[str]) -> None:
    """``animate`` in this process; prints what it held, in MB, over time."""
    import resource

    from xdyna_unianimate.app.cli import main

    curve: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.25):
            if in_use:
                give_back()
            curve.append(resident())

    watcher = threading.Thread(target=watch, daemon=True)
    began = time.monotonic()
    watcher.start()
    code = main(words)
    stop.set()
    seconds, peak = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"code": code, "seconds": seconds, "peak": peak, "curve": curve}))


def give_back() -> None:
    """Free memory to the system: glibc keeps the end of its heap, and whatever lies between blocks in use."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def resident() -> float:
    """MB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def measured(how: str, frames: int, folder: Path, in_use: bool = False) -> dict[str, Any]:
    """One run in a process of its own: seconds, MB at the peak, and MB over time.

    in_use: the latter without free memory, see above (where the C library is glibc).
    """
    from xdyna_unianimate.demo import inputs

    source = ("--reference", inputs.REFERENCE, "--reference-pose", inputs.REFERENCE_POSE)
    source += driving(how, frames, folder)
    place = ("--output", folder / "clip.mp4", "--overwrite", "--json")
    quick = ("--weights", "demo", "--detector", "demo", "--resolution", SIZE, "--steps", STEPS)
    words = [str(word) for word in ("animate", *source, *quick, *HOWS[how], *place)]
    ran = subprocess.run(
        [sys.executable, __file__, IN_USE if in_use else CHILD, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=3600,
    )
    return json.loads(ran.stdout.splitlines()[-1])


def driving(how: str, frames: int, folder: Path) -> tuple[Any, ...]:
    """Words that name a driving source of so many frames, made from the embedded one over and over."""
    from xdyna_unianimate.demo import inputs
    from xdyna_unianimate.pose_align.draw import draw
    from xdyna_unianimate.pose_align.interchange import save_poses
    from xdyna_unianimate.video_core.video import open_frames

    found = inputs.driving_poses()
    if how.endswith("skeletons"):
        clip = list(draw(found, size=inputs.CANVAS, scale_strokes=True))
        return "--driving", repeated(clip, frames, folder / f"skeletons{frames}.mp4"), "--drawn"
    poses = folder / f"poses{frames}.npz"
    save_poses(found[np.arange(frames) % len(found)], poses)
    if not how.endswith("face"):
        return "--driving", poses
    clip = list(open_frames(inputs.DRIVING))
    return "--driving", poses, "--face-video", repeated(clip, frames, folder / f"face{frames}.mp4")


def repeated(clip: list[np.ndarray], frames: int, path: Path, fps: int = 8) -> Path:
    """A video of so many frames with stereo sound, unless it is there."""
    from xdyna_unianimate.video_core.decode import Audio
    from xdyna_unianimate.video_core.video import write_video

    if not path.exists():
        tone = np.sin(np.arange(frames * RATE // fps) * (2 * np.pi * PITCH / RATE)).astype(np.float32) / 4
        write_video(
            (clip[i % len(clip)] for i in range(frames)), path, fps, audio=Audio(np.stack([tone] * 2), RATE)
        )
    return path


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[250, 1000, 2000])
    parser.add_argument("--how", nargs="+", choices=HOWS, default=list(HOWS))
    parser.add_argument("--in-use", action="store_true", help="give free memory back before every look")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results: dict[str, dict[int, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for how in args.how:
            results[how] = {}
            for frames in args.frames:
                one = results[how][frames] = measured(how, frames, Path(folder), args.in_use)
                if not args.json:
                    used = f", in use {max(one['curve']):.0f} MB" if args.in_use else ""
                    print(
                        f"{how}, {frames} frames: peak {one['peak']:.0f} MB{used}, {one['seconds']:.0f} s",
                        flush=True,
                    )
            points = np.linspace(0, len(one["curve"]) - 1, POINTS).astype(int)
            if not args.json:
                print("    over time: " + " ".join(f"{one['curve'][i]:.0f}" for i in points), flush=True)
    if args.json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] in ([CHILD], [IN_USE]):
        child(sys.argv[1] == IN_USE, sys.argv[2:])
    else:
        raise SystemExit(main())
