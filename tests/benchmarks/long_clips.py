"""Memory over the length of a clip: poses, ready-made skeletons or a face with sound to a video at a tiny size.

    python tests/benchmarks/long_clips.py [--frames 250 1000 2000] [--how xdyna ...] [--steady] [--json]

Each length has a process of its own. Prints, for each way to make long clips, the peak of the resident memory by
length, and how it runs during the longest. ``--steady`` fixes glibc's rules for free memory, see ``STEADY``. Reads
/proc or the peak of the process, so the curve needs Linux and the peaks any POSIX system.
"""

from __future__ import annotations

import argparse
import json
import os
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
CHILD = "--child"

STEADY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**26)}
"""Where glibc's own rules end. By them, a block that was freed raises the size up to which blocks come from the heap,
and twice as much of the heap's end is kept free, up to 64 MB: a longer clip, whose poses take a larger block once, has
more free memory afterwards, and runs of one length differ by tens of MB. With these, all may have the most at once."""


def child(words: list[str]) -> None:
    """``animate`` in this process; prints what it held, in MB, over time."""
    import resource

    from xdyna_unianimate.app.cli import main

    curve: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.25):
            curve.append(resident())

    watcher = threading.Thread(target=watch, daemon=True)
    began = time.monotonic()
    watcher.start()
    code = main(words)
    stop.set()
    seconds, peak = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"code": code, "seconds": seconds, "peak": peak, "curve": curve}))


def resident() -> float:
    """MB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def measured(how: str, frames: int, folder: Path, steady: bool = False) -> dict[str, Any]:
    """One run in a process of its own. steady: with ``STEADY``."""
    from xdyna_unianimate.demo import inputs

    source = ("--reference", inputs.REFERENCE, "--reference-pose", inputs.REFERENCE_POSE)
    source += driving(how, frames, folder)
    place = ("--output", folder / "clip.mp4", "--overwrite", "--json")
    quick = ("--weights", "demo", "--detector", "demo", "--resolution", SIZE, "--steps", STEPS)
    words = [str(word) for word in ("animate", *source, *quick, *HOWS[how], *place)]
    ran = subprocess.run(
        [sys.executable, __file__, CHILD, *words],
        env={**os.environ, **(STEADY if steady else {})},
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
    parser.add_argument("--steady", action="store_true", help="with glibc's rules for free memory fixed")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results: dict[str, dict[int, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for how in args.how:
            results[how] = {}
            for frames in args.frames:
                one = results[how][frames] = measured(how, frames, Path(folder), args.steady)
                if not args.json:
                    print(
                        f"{how}, {frames} frames: peak {one['peak']:.0f} MB, {one['seconds']:.0f} s",
                        flush=True,
                    )
            points = np.linspace(0, len(one["curve"]) - 1, POINTS).astype(int)
            if not args.json:
                print("    over time: " + " ".join(f"{one['curve'][i]:.0f}" for i in points), flush=True)
    if args.json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        child(sys.argv[2:])
    else:
        raise SystemExit(main())
