"""What fast mode saves and what it costs: every option and two combinations against the exact 50-step result.

``python tests/benchmarks/fast.py [--frames 8] [--compile] [--only WORDS] [--json]``: a held-out drawn figure, the
embedded weights, both systems. Seconds are processor time of one thread on a CPU, wall time on a GPU; PSNR and SSIM
are of the frames against those of the exact result, as published (DDIM, 50 steps).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from xdyna_unianimate.app.animate import Preparation, Prepared
from xdyna_unianimate.app.metrics.fidelity import psnr, ssim
from xdyna_unianimate.app.networks import Weights, load
from xdyna_unianimate.app.systems import Sampling, UniAnimate, XDyna
from xdyna_unianimate.demo.heldout import held_out
from xdyna_unianimate.video_core.placement import choose_device, running_on

STEPS = 50
SYSTEMS = (UniAnimate(), XDyna())
OPTIONS: Mapping[str, Mapping[str, object]] = {
    "ddim, 25 steps": {"steps": 25},
    "dpmpp_2m, 25 steps": {"steps": 25, "solver": "dpmpp_2m"},
    "unipc, 25 steps": {"steps": 25, "solver": "unipc"},
    "ddim, 12 steps": {"steps": 12},
    "dpmpp_2m, 12 steps": {"steps": 12, "solver": "dpmpp_2m"},
    "unipc, 12 steps": {"steps": 12, "solver": "unipc"},
    "ddim, 11 steps": {"steps": 11},
    "unipc, 11 steps": {"steps": 11, "solver": "unipc"},
    "unipc, 10 steps": {"steps": 10, "solver": "unipc"},
    "unipc, 12 steps, reuse every 2": {"steps": 12, "solver": "unipc", "reuse_every": 2},
    "guided until 0.5": {"guided_until": 0.5},
    "guided from 0.5": {"guided_from": 0.5},
    "reuse every 2": {"reuse_every": 2},
    "reuse every 3": {"reuse_every": 3},
    "unipc, 13 steps, guided until 0.85": {"steps": 13, "solver": "unipc", "guided_until": 0.85},
    "unipc, 20 steps, guided until 0.6": {"steps": 20, "solver": "unipc", "guided_until": 0.6},
    "unipc, 16 steps, guided until 0.6, reuse every 2": {
        "steps": 16, "solver": "unipc", "guided_until": 0.6, "reuse_every": 2,
    },
}  # fmt: skip
REST = "of it beside the steps"
"""Encoding, conditions, decoding: what no option shortens."""

COMPILED = {"compile": {"compile": True}}


@dataclass(frozen=True)
class Row:
    """One way to run: seconds, how many times sooner than exact, and how near to it."""

    system: str
    how: str
    seconds: float
    sooner: float = float("nan")
    psnr: float = float("nan")
    ssim: float = float("nan")


def clock(device: torch.device) -> float:
    """Seconds that work on the device has taken."""
    if device.type == "cpu":
        return time.process_time()
    torch.accelerator.synchronize()
    return time.perf_counter()


def rows(frames: int, options: Mapping[str, Mapping[str, object]], device: torch.device) -> Iterator[Row]:
    """Exact first, then every option, for both systems."""
    task = held_out(0, frames)
    prepared = Prepared(
        task.reference, task.reference_pose, task.poses, aligned=task.poses, fps=task.poses.fps
    )
    exact = Sampling(task.poses.canvas, STEPS, seed=7)
    for system in SYSTEMS:
        networks = load(system.system, Weights(demo=True), torch.float32)

        def run(sampling: Sampling, system=system, networks=networks) -> tuple[np.ndarray, float]:
            settings = system.settings(sampling, frames)
            start = clock(device)
            clip = system.clip(networks, prepared, Preparation(), settings, running_on(device))
            return np.stack(list(clip.frames)), clock(device) - start

        run(replace(exact, steps=1))
        _, one = run(replace(exact, steps=1))
        truth, whole = run(exact)
        yield Row(system.title, "exact", whole, 1.0, 100.0, 1.0)
        yield Row(system.title, REST, one - (whole - one) / (STEPS - 1))
        for how, changes in options.items():
            if changes.get("compile"):
                run(replace(exact, **changes))
            made, seconds = run(replace(exact, **changes))
            near = (
                np.mean([measure(a, b) for a, b in zip(made, truth, strict=True)]) for measure in (psnr, ssim)
            )
            yield Row(system.title, how, seconds, whole / seconds, *map(float, near))


def main() -> None:
    """The module as a command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument(
        "--compile", action="store_true", help="with torch.compile too, which takes minutes to begin"
    )
    parser.add_argument(
        "--only", default="", help="options with these words in their name; exact is always made"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    options = {**OPTIONS, **(COMPILED if args.compile else {})}
    options = {name: changes for name, changes in options.items() if args.only in name}
    found = rows(args.frames, options, choose_device(args.device))
    if args.json:
        print(json.dumps([asdict(row) for row in found], indent=1))
        return
    print("| system | | seconds | times sooner | PSNR, dB | SSIM |\n|---|---|---|---|---|---|")
    for r in found:
        near = "| | | |" if r.how == REST else f"| {r.sooner:.2f} | {r.psnr:.1f} | {r.ssim:.3f} |"
        print(f"| {r.system} | {r.how} | {r.seconds:.1f} {near}", flush=True)


if __name__ == "__main__":
    main()
