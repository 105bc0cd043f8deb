"""What both systems cost: ``python tests/benchmarks/run.py [--size NAME] [--system NAME] [--json]``.

Times every stage and the whole, a plain path that works as the originals do against ours, in turns A B A B of
one run; with ``--count`` operations and bytes of the full-size networks, counted without running them. Never a
timed test.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
import counts
from measure import in_turns, middle, peak_of, peak_rate, tflop, work
from systems import SIZES, STAGES, SYSTEMS, Job, Size


def measured(job: Job, rounds: int, rate: float | None) -> dict[str, Any]:
    """Seconds by stage and path, ratios, operations, and what share of the floor is reached."""
    paths = ("plain", "ours")
    operations = {path: tflop(job.stage("whole", path)) for path in paths}
    results: dict[str, Any] = {}
    for name in (*STAGES, "whole"):
        for path in paths:
            job.stage("conditions", path)()
        turns = in_turns(job.stage(name, "plain"), job.stage(name, "ours"), job.device, rounds)
        worked = [tuple(work(taken, job.device) for taken in turn) for turn in turns]
        plain, ours = (middle([turn[i] for turn in worked]) for i in (0, 1))
        results[name] = {
            "plain, s": plain,
            "ours, s": ours,
            "plain / ours": middle([a / b for a, b in worked]),
            "plain / ours, by the clock": middle([a.wall / b.wall for a, b in turns]),
        }
    whole = results["whole"]
    whole["operations, plain / ours"] = operations["plain"] / operations["ours"]
    whole["ours, TFLOP"] = operations["ours"]
    whole["ours, TFLOP/s"] = operations["ours"] / whole["ours, s"]
    whole["share of the floor"] = None if rate is None else whole["ours, TFLOP/s"] / rate
    for path in paths:
        with peak_of(job.device, *job.networks) as peak:
            job.stage("whole", path)()
        whole[f"peak allocated, {path}, GB"] = peak["GB"]
    return results


def machine(device: torch.device, rate: float | None) -> dict[str, Any]:
    """What the figures belong to."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "device": f"{device.type}, {name}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "can do, TFLOP/s": rate,
    }


def run(names: list[str], chosen: dict[str, Size], args: argparse.Namespace) -> dict[str, Any]:
    """All results of the systems that have this size."""
    device = torch.device("cuda" if torch.cuda.is_available() and args.size != "tiny" else "cpu")
    if device.type == "cpu" and args.size != "tiny":
        raise SystemExit(
            f"The size {args.size!r} is the releases' own and needs a GPU; take tiny, or --count."
        )
    rate = peak_rate(device)
    results: dict[str, Any] = {"machine": machine(device, rate), "size": args.size}
    for name in names:
        if name in chosen:
            job = SYSTEMS[name](chosen[name], args.size == "tiny", device)
            results[f"{name}, {job.size}"] = measured(job, args.rounds, rate)
    scale = 1 if sys.platform == "darwin" else 1024
    results["resident at most, GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9
    return results


def counted() -> dict[str, Any]:
    """Operations and memory of the full-size networks, on no device at all."""
    return {"operations": counts.operations(), "memory, GB": counts.memory()}


def show(value: Any, name: str = "", depth: int = 0) -> None:
    """Nested results as indented lines."""
    indent = "    " * depth
    if isinstance(value, dict):
        print(f"{indent}{name}")
        for key, entry in value.items():
            show(entry, key, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            show(entry, name, depth)
    else:
        number = "unmeasured" if value is None else f"{value:.4g}" if isinstance(value, float) else value
        print(f"{indent}{name:<34} {number}")


def main() -> int:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--system", choices=["both", *SYSTEMS], default="both")
    parser.add_argument("--rounds", type=int, default=3, help="turns of plain and ours")
    parser.add_argument(
        "--count", action="store_true", help="count operations and bytes at the official sizes instead"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    names = list(SYSTEMS) if args.system == "both" else [args.system]
    results = counted() if args.count else run(names, SIZES[args.size], args)
    if args.json:
        print(json.dumps(results, indent=1))
    else:
        show(results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
