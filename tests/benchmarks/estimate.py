"""What ``animate --dry-run`` predicts beside what runs take: the embedded weights on a CPU, a process for each run.

    python tests/benchmarks/estimate.py [--only unianimate] [--turns 2] [--json]

RAM is the peak of the process; disk the most that its resumable state and the tensors of a long clip took, seen
before every file that is deleted and after every tensor that is made;
time the processor's of all threads of the process after its imports, which other jobs on the machine disturb least.
Prediction and run take turns; the mean of the turns is shown.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from statistics import mean
from typing import Any
from weakref import WeakSet

SETTINGS: dict[str, tuple[tuple[str, int, int, tuple[str, ...]], ...]] = {
    # (size, frames, steps, further options)
    "unianimate": (
        ("64x96", 8, 12, ()),
        ("64x96", 96, 2, ()),
        ("64x96", 32, 6, ("--guidance", "1")),
        ("96x128", 48, 4, ("--context-size", "16", "--context-overlap", "4")),
        ("128x192", 48, 2, ("--mode", "continuation", "--context-size", "16")),
        ("128x192", 16, 4, ("--solver", "unipc", "--guided-until", "0.5")),
        ("128x192", 24, 4, ("--reuse-every", "2", "--together", "on")),
        ("192x256", 32, 2, ()),
        ("192x320", 12, 4, ()),
        ("64x64", 600, 2, ()),
    ),
    "xdyna": (
        ("64x96", 8, 12, ()),
        ("64x96", 96, 2, ()),
        ("64x96", 32, 6, ("--guidance", "0.5")),
        ("96x128", 48, 4, ("--context-size", "8", "--context-overlap", "2")),
        ("128x192", 24, 4, ("--together", "off")),
        ("128x192", 16, 4, ("--solver", "unipc", "--guided-until", "0.5")),
        ("128x192", 24, 4, ("--reuse-every", "2", "--context-batch", "2")),
        ("192x256", 32, 2, ()),
        ("192x288", 12, 4, ()),
        ("64x64", 600, 2, ()),
    ),
}
CHILD = "--child"

IMPORTED = (
    "av",
    "cv2",
    "diffusers.models.autoencoders.autoencoder_kl",
    "transformers.models.clip.modeling_clip",
    "xdyna_unianimate.unianimate_core.load",
    "xdyna_unianimate.unianimate_core.pipeline",
    "xdyna_unianimate.xdyna_core.load",
    "xdyna_unianimate.xdyna_core.pipeline",
)
"""What a run imports late, and a server such as ComfyUI once."""


def child(words: list[str]) -> None:
    """``animate`` in this process; prints what it took."""
    import resource

    from xdyna_unianimate.app import state
    from xdyna_unianimate.app.cli import main
    from xdyna_unianimate.video_core.storage import OnDisk

    for name in IMPORTED:
        import_module(name)
    cache, most, sweep, zeros = Path(os.environ["XDUA_CACHE"]), 0, state.Run._sweep, OnDisk.zeros
    mapped: WeakSet[mmap.mmap] = WeakSet()

    def look() -> None:
        nonlocal most
        most = max(most, held(cache) + sum(map(len, mapped)))

    def sweeping(run: state.Run) -> None:
        look()
        sweep(run)

    def making(disk: OnDisk, *shape: Any) -> Any:
        made = zeros(disk, *shape)
        mapped.update(disk._maps)
        look()
        return made

    state.Run._sweep, OnDisk.zeros = sweeping, making
    imports, began = time.process_time(), time.monotonic()
    code = main(words)
    taken = {"code": code, "wall": time.monotonic() - began, "processor": time.process_time() - imports}
    ram = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**taken, "imports": imports, "ram": ram, "disk": most}))


def held(cache: Path) -> int:
    """Bytes of the resumable runs in a folder."""
    return sum(file.stat().st_size for file in (cache / "runs").glob("*/*"))


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
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=3600, env=environment)
    return json.loads(done.stdout[done.stdout.rindex("\n{") if "\n{" in done.stdout else 0 :])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=SETTINGS)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    if not args.json:
        print(
            "| system, setting | RAM, MB: predicted / measured | disk, kB | processor, s |\n|---|---|---|---|"
        )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for system in [args.only] if args.only else SETTINGS:
            for setting in SETTINGS[system]:
                typed = words(system, setting, folder)
                dry = [sys.executable, "-m", "xdyna_unianimate", *typed, "--dry-run"]
                run = [sys.executable, __file__, CHILD, *typed]
                turns = [(ran(dry, folder), ran(run, folder)) for _ in range(args.turns)]
                rows.append({"system": system, "setting": setting, "turns": turns})
                if not args.json:
                    print(line(system, setting, turns), flush=True)
    if args.json:
        print(json.dumps(rows))
    return 0


def line(system: str, setting: tuple, turns: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """A row of the table."""
    size, frames, steps, more = setting
    said, took = (
        {name: mean(one[name] for one in all_) for name in NUMBERS} for all_ in zip(*turns, strict=True)
    )
    cells = [
        f"{said[name] / unit:.{digits}f} / {took[name] / unit:.{digits}f} = {said[name] / took[name]:.2f}"
        for name, (unit, digits) in NUMBERS.items()
    ]
    return (
        f"| {' '.join([f'{system}, {size}, {frames} frames, {steps} steps', *more])} | {' | '.join(cells)} |"
    )


NUMBERS = {"ram": (1e6, 0), "disk": (1e3, 0), "processor": (1, 1)}
"""Name -> its unit in the table, and digits after the point."""


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        child(sys.argv[2:])
    else:
        raise SystemExit(main())
