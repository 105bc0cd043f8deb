"""Clocks and counters: seconds in turns A B A B, operations, bytes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from counted import Counted
from torch.utils.flop_counter import FlopCounterMode
from xdyna_unianimate.app.costs import Seconds, weight_bytes

PEAKS = {"H100": 790.0, "H200": 790.0}
"""Dense half-precision TFLOP/s of devices, as the cost documents count their floors."""


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], Any], device: torch.device) -> Seconds:
    """Of one call, everything it started on the device included: by the clock, and of the processor."""
    synchronize(device)
    start = Seconds.now()
    call()
    synchronize(device)
    return Seconds.now() - start


def work(taken: Seconds, device: torch.device) -> float:
    """Seconds that other work on the machine does not change.

    On a CPU those that this process had a core, all threads together: with one thread and nothing else to do,
    what a clock shows.
    """
    return taken.processor if device.type == "cpu" else taken.wall


def in_turns(
    plain: Callable[[], Any], ours: Callable[[], Any], device: torch.device, rounds: int
) -> list[tuple[Seconds, Seconds]]:
    """(plain, ours) of each round, one after the other, so that both meet the same machine."""
    return [(seconds(plain, device), seconds(ours, device)) for _ in range(rounds)]


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def tflop(call: Callable[[], Any]) -> float:
    """TFLOP of a call: matrix products, convolutions and attention; 1 multiply-add is 2."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e12


def peak_rate(device: torch.device, side: int = 1024) -> float | None:
    """TFLOP/s the device can do: of a table for a GPU (None if unknown), a measured matrix product on a CPU."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return next((rate for key, rate in PEAKS.items() if key in name), None)
    a = torch.randn(side, side)
    best = min(work(seconds(lambda: a @ a, device), device) for _ in range(10))
    return 2 * side**3 / best / 1e12


@contextmanager
def scoreless_attention() -> Any:
    """Attention on the meta device as a fused kernel does it, for counting bytes: nothing but its result."""
    kept = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = lambda q, *_, **__: torch.empty_like(q)
    try:
        yield
    finally:
        F.scaled_dot_product_attention = kept


@contextmanager
def peak_of(device: torch.device, *networks: torch.nn.Module) -> Any:
    """A dict whose ``GB`` is, after the block, the most that was allocated inside it, with the networks' weights.

    On a GPU as its allocator says; on a CPU the tensors that were alive at once, followed one by one.
    """
    found: dict[str, float] = {}
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found["GB"] = torch.cuda.max_memory_allocated(device) / 1e9
        return
    with Counted(*networks) as counted:
        yield found
    found["GB"] = (weight_bytes(*networks) + counted.peak) / 1e9
