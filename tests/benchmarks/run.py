"""Benchmarks: ``python tests/benchmarks/run.py [--video FILE] [--frames N] [--json]``. Never a timed test.

Prints pose frames per second, seconds per forward of both UNets, of the autoencoder's decoder, the counted
arithmetic, and the ratio of a plain path (everything recomputed at every step, as the original does) to ours,
measured in turn A B A B. On a CPU at the embedded demo's size; on a GPU also at full size with random weights.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from xdyna_unianimate.demo import architectures, checkpoints
from xdyna_unianimate.unianimate_core.config import UniAnimateConfig
from xdyna_unianimate.unianimate_core.load import load_unet
from xdyna_unianimate.unianimate_core.unet import UniAnimateUNet
from xdyna_unianimate.video_core.vae import load_vae
from xdyna_unianimate.xdyna_core.load import load_unet as load_xdyna
from xdyna_unianimate.xdyna_core.unet import XDynaUNet

ROUNDS = 5
STEPS = 3


def seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Of one call, everything it started on the device included."""
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def median(call: Callable[[], Any], device: torch.device, rounds: int = 3) -> float:
    """The middle one of several calls, after one to warm up."""
    call()
    return sorted(seconds(call, device) for _ in range(rounds))[rounds // 2]


def ratio(turns: list[tuple[float, float]]) -> float:
    """The middle of the ratios of the turns, which a disturbed turn does not move."""
    return sorted(plain / ours for plain, ours in turns)[len(turns) // 2]


def flops(call: Callable[[], Any]) -> float:
    """TFLOP of a call: matrix products, convolutions and attention; 1 multiply-add is 2."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e12


def peak_memory(device: torch.device) -> float:
    """GB: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9


def unianimate_inputs(net: UniAnimateUNet, frames: int, size: tuple[int, int]) -> tuple[torch.Tensor, dict]:
    """(latents, conditions) of one clip of random pictures."""
    width, height = size
    like = {"device": net.out[-1].weight.device, "dtype": net.dtype}
    latents = torch.randn(1, 4, frames, height // 8, width // 8, **like)
    told = {
        "image": torch.randn(1, 1, net.config.context_dim, **like),
        "dwpose": torch.randint(0, 256, (1, 3, frames + 1, height, width), dtype=torch.uint8),
        "randomref": torch.randn(1, 4, 1, height // 8, width // 8, **like),
    }
    return latents, told


@torch.no_grad()
def unianimate(net: UniAnimateUNet, frames: int, size: tuple[int, int]) -> dict[str, float]:
    """One forward, and ``STEPS`` guided steps: plain against conditions computed once."""
    device = net.out[-1].weight.device
    x, told = unianimate_inputs(net, frames, size)
    zero_y = torch.zeros(1, 77, net.config.context_dim, device=device, dtype=net.dtype)
    conditions = [net.encode_conditions(zero_y=zero_y), net.encode_conditions(zero_y=zero_y, **told)]

    def plain() -> None:
        for t in range(STEPS):
            net(x, t, zero_y=zero_y, **told)
            net(x, t, zero_y=zero_y)

    def ours() -> None:
        branches = [net.encode_conditions(zero_y=zero_y), net.encode_conditions(zero_y=zero_y, **told)]
        for t in range(STEPS):
            for branch in branches:
                net.denoise(x, t, branch)

    ours()
    turns = [(seconds(plain, device), seconds(ours, device)) for _ in range(ROUNDS)]
    forward = lambda: net.denoise(x, 500, conditions[1])  # noqa: E731
    return {
        "seconds per forward": median(forward, device),
        "TFLOP per forward": flops(forward),
        "plain path / ours": ratio(turns),
    }


@torch.no_grad()
def xdyna(net: XDynaUNet, frames: int, size: tuple[int, int]) -> dict[str, float]:
    """One forward of a window with both guidance branches, its context projected at every call or once."""
    weight = net.conv_out.weight
    like, config = {"device": weight.device, "dtype": weight.dtype}, net.config
    width, height = size
    sample = torch.randn(2, config.in_channels, 1 + frames, height // 8, width // 8, **like)
    tokens = config.text_tokens + config.image_tokens
    context = torch.randn(2, tokens, config.cross_attention_dim, **like)
    projected = net.project_context(context)
    plain, ours = (lambda: net(sample, 500, context)), (lambda: net(sample, 500, projected))
    ours()
    turns = [(seconds(plain, weight.device), seconds(ours, weight.device)) for _ in range(ROUNDS)]
    return {
        "seconds per forward": median(ours, weight.device),
        "TFLOP per forward": flops(ours),
        "plain path / ours": ratio(turns),
    }


@torch.no_grad()
def decoder(size: tuple[int, int], frames: int) -> dict[str, float]:
    """The embedded autoencoder's decoder."""
    vae = load_vae(checkpoints.VAE, torch.float32)
    latents = torch.randn(1, 4, frames, size[1] // 8, size[0] // 8)
    took = median(lambda: list(vae.decode(latents)), torch.device("cpu"))
    return {"frames per second": frames / took}


def poses(video: Path, frames: int) -> dict[str, float | str]:
    """The pose backend that can be used here, on the first frames of a video."""
    from xdyna_unianimate.pose_align.detector import load_detector
    from xdyna_unianimate.video_core.video import open_frames

    detector = load_detector("auto")
    clip = list(islice(open_frames(video), frames))
    detector.detect(clip[:2])
    took = seconds(lambda: detector.detect(clip), torch.device("cpu"))
    return {"backend": f"{detector.name} on {detector.provider}", "frames per second": len(clip) / took}


def full_size(device: torch.device) -> dict[str, dict[str, float]]:
    """The release's networks with random weights in fp16, at the published sizes."""
    results = {}
    for name, build, run, frames, size in (
        ("UniAnimate 32 x 768 x 512", lambda: UniAnimateUNet(UniAnimateConfig()), unianimate, 32, (512, 768)),
        ("X-Dyna 16 x 896 x 512", XDynaUNet, xdyna, 16, (512, 896)),
    ):
        torch.cuda.reset_peak_memory_stats()
        with device:
            net = build().half().eval()
        results[name] = {**run(net, frames, size), "peak memory, GB": peak_memory(device)}
        del net
        torch.cuda.empty_cache()
    return results


def main() -> int:
    """Run everything that can be run here and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, help="a video with a person, for the pose backend")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    size = architectures.RESOLUTION
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        f"demo UniAnimate, {args.frames} frames {size[0]} x {size[1]}, CPU": unianimate(
            load_unet(checkpoints.UNIANIMATE, torch.float32), args.frames, size
        ),
        f"demo X-Dyna, {args.frames} frames {size[0]} x {size[1]}, CPU": xdyna(
            load_xdyna([checkpoints.XDYNA], torch.float32), args.frames, size
        ),
        "demo autoencoder, CPU": decoder(size, args.frames),
    }
    if args.video is not None:
        results["poses, CPU"] = poses(args.video, 30)
    if torch.cuda.is_available():
        results.update(full_size(torch.device("cuda")))
    results["peak resident memory, GB"] = peak_memory(torch.device("cpu"))
    if args.json:
        print(json.dumps(results, indent=1))
        return 0
    for name, value in results.items():
        print(name, "" if isinstance(value, dict) else value)
        for what, number in value.items() if isinstance(value, dict) else ():
            print(f"    {what:<24} {number:.4g}" if isinstance(number, float) else f"    {what:<24} {number}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
