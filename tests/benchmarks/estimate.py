"""What ``animate --dry-run`` predicts beside what runs take: the embedded weights on a CPU, a process for each run.

    python tests/benchmarks/estimate.py [--only unianimate] [--json]

RAM is the peak of the process, disk the most that its resumable state took, processor time that of the process
(which other jobs on the machine disturb least) and wall time that of the run without imports.
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

SETTINGS: dict[str, tuple[tuple[str, int, int, tuple[str, ...]], ...]] = {
    # (size, frames, steps, further options)
    "unianimate": (
        ("64x96", 8, 4, ()),
        ("64x96", 32, 2, ()),
        ("64x96", 32, 2, ("--guidance", "1")),
        ("64x96", 48, 2, ("--context-size", "16", "--context-overlap", "4")),
        ("64x96", 48, 2, ("--mode", "continuation", "--context-size", "16")),
        ("128x192", 8, 2, ()),
        ("128x192", 16, 2, ()),
        ("192x192", 8, 2, ()),
    ),
    "xdyna": (
        ("64x96", 8, 4, ()),
        ("64x96", 16, 2, ()),
        ("64x96", 16, 4, ("--guidance", "0.5")),
        ("64x96", 48, 2, ()),
        ("64x96", 48, 2, ("--context-size", "8", "--context-overlap", "2")),
        ("128x192", 8, 2, ()),
        ("128x192", 16, 2, ()),
        ("192x192", 8, 2, ()),
    ),
}
CHILD = "--child"


def child(words: list[str]) -> None:
    """``animate`` in this process; prints what it took."""
    import resource

    from xdyna_unianimate.app.cli import main

    cache, most, stop = Path(os.environ["XDUA_CACHE"]), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.wait(0.01):
            most = max(most, held(cache))

    watcher = threading.Thread(target=watch, daemon=True)
    began = time.monotonic()
    watcher.start()
    code = main(words)
    stop.set()
    used = resource.getrusage(resource.RUSAGE_SELF)
    taken = {"code": code, "wall": time.monotonic() - began, "cpu": used.ru_utime + used.ru_stime}
    print(json.dumps({**taken, "ram": used.ru_maxrss * 1024, "disk": most}))


def held(cache: Path) -> int:
    """Bytes of the resumable runs in a folder."""
    total = 0
    for file in (cache / "runs").glob("*/*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            continue
    return total


def words(system: str, setting: tuple[str, int, int, tuple[str, ...]], folder: Path) -> list[str]:
    """The command line of a setting."""
    from xdyna_unianimate.demo import inputs
    from xdyna_unianimate.pose_align.interchange import save_poses

    size, frames, steps, more = setting
    found = inputs.driving_poses()
    poses = folder / f"poses{frames}.npz"
    save_poses(found[[frame % len(found) for frame in range(frames)]], poses)
    source = ("--reference", inputs.REFERENCE, "--reference-pose", inputs.REFERENCE_POSE, "--driving", poses)
    place = ("--output", folder / "clip.mp4", "--overwrite", "--json", "--device", "cpu")
    quick = ("--weights", "demo", "--detector", "demo", "--resolution", size, "--steps", steps)
    return [str(word) for word in ("animate", "--model", system, *source, *quick, *more, *place)]


def ran(command: list[str], folder: Path) -> dict[str, Any]:
    """The JSON that a process prints last."""
    environment = {**os.environ, "XDUA_CACHE": str(folder / "cache")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=3600, env=environment
    )
    return json.loads(done.stdout[done.stdout.rindex("\n{") if "\n{" in done.stdout else 0 :])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SETTINGS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    if not args.json:
        print("| system, setting | RAM, MB: predicted / measured | disk, kB | seconds: predicted / processor / wall |")
        print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for system in [args.only] if args.only else SETTINGS:
            for setting in SETTINGS[system]:
                typed = words(system, setting, folder)
                dry = [sys.executable, "-m", "xdyna_unianimate", *typed, "--dry-run"]
                said, took = ran(dry, folder), ran([sys.executable, __file__, CHILD, *typed], folder)
                rows.append({"system": system, "setting": setting, "predicted": said, "measured": took})
                if not args.json:
                    print(line(system, setting, said, took), flush=True)
    if args.json:
        print(json.dumps(rows))
    return 0


def line(system: str, setting: tuple, said: dict[str, Any], took: dict[str, Any]) -> str:
    """A row of the table."""
    size, frames, steps, more = setting
    ram, disk = (
        f"{said[name] / unit:.0f} / {took[name] / unit:.0f} = {said[name] / took[name]:.2f}"
        for name, unit in (("ram", 1e6), ("disk", 1e3))
    )
    seconds = f"{said['seconds']:.1f} / {took['cpu']:.1f} / {took['wall']:.1f}"
    return f"| {system}, {size}, {frames} frames, {steps} steps {' '.join(more)} | {ram} | {disk} | {seconds} |"


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        child(sys.argv[2:])
    else:
        raise SystemExit(main())
