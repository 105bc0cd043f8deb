"""What a call of a network costs: operations and bytes counted on the meta device, seconds measured for a moment."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from .heap import Trace

META = torch.device("meta")

LONG_ENOUGH = 0.5
"""Seconds of work that are measured, unless one call takes longer."""

SPREAD = 0.02
"""Deviation of the random numbers that stand for trained weights: activations stay finite in half precision."""


@dataclass(frozen=True)
class Cost:
    """Of one call: tflop, 10^12 operations (a multiply-add is two). bytes: held at once beside the weights. trace:
    the tensors that make them up, as they come and go.
    """

    tflop: float
    bytes: int
    trace: Trace = field(default=(), repr=False)

    def of_size(self, factor: float) -> Cost:
        """Of a call of the same kind that takes so many times the memory; its operations are not known."""
        scaled = tuple((number, ceil(factor * size)) for number, size in self.trace)
        return Cost(0.0, int(factor * self.bytes), scaled)


@dataclass(frozen=True)
class Seconds:
    """wall: by the clock. processor: of all threads of this process, which other programs hardly disturb."""

    wall: float = 0.0
    processor: float = 0.0

    @staticmethod
    def now() -> Seconds:
        return Seconds(time.perf_counter(), time.process_time())

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.processor + other.processor)

    def __sub__(self, other: Seconds) -> Seconds:
        return self + other * -1

    def __mul__(self, times: float) -> Seconds:
        return Seconds(self.wall * times, self.processor * times)


def counted(call: Callable[[], Any], *networks: nn.Module) -> Cost:
    """What a call on the meta device costs, with an attention that keeps no scores."""
    # In a graph, ComfyUI has entered this mode already; the same tensors are to be followed everywhere.
    with (
        torch.inference_mode(),
        _Attention() as attention,
        FlopCounterMode(display=False) as flops,
        _Bytes(*networks) as held,
    ):
        call()
    return Cost((flops.get_total_flops() + attention.flops) / 1e12, held.peak, tuple(held.trace))


class _Attention(TorchFunctionMode):
    """Fused attention: its operations, and no scores in memory."""

    flops = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            q, k = args[0], args[1]
            self.flops += 4 * q.numel() * k.shape[-2]
            return torch.empty_like(q)
        return func(*args, **(kwargs or {}))


class _Bytes(TorchDispatchMode):
    """Bytes of the tensors made inside the block that are alive, the most there were, and how they came and went."""

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.trace: list[tuple[int, int]] = []
        self._kept = [t.untyped_storage() for net in networks for t in net.state_dict().values()]
        self._known = weakref.WeakSet(self._kept)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage() not in self._known:
                self._add(tensor.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        self._known.add(storage)
        size, number = storage.nbytes(), len(self.trace)
        if not size:
            return
        self.live += size
        self.peak = max(self.peak, self.live)
        self.trace.append((number, size))
        weakref.finalize(storage, self._free, number, size)

    def _free(self, number: int, size: int) -> None:
        self.live -= size
        self.trace.append((number, 0))


def weight_bytes(*networks: nn.Module) -> int:
    """Bytes of all their tensors."""
    return sum(tensor.nbytes for net in networks for tensor in net.state_dict().values())


def with_numbers(network: nn.Module, device: torch.device) -> nn.Module:
    """A network of the meta device on another, with random numbers for weights."""
    network.to_empty(device=device)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point() and tensor.itemsize > 1:
            tensor.normal_(std=SPREAD)
        else:
            tensor.zero_()
    return network


def timed(call: Callable[[], Any], device: torch.device, enough: float = LONG_ENOUGH) -> Seconds:
    """What one call takes. The first prepares kernels and does not count, unless it is long by itself."""
    first = _spent(call, device)
    if first.wall > enough and first.processor > enough:
        return first
    whole, calls = Seconds(), 0
    while not calls or (whole.wall < enough and whole.processor < enough):
        whole += _spent(call, device)
        calls += 1
    return whole * (1 / calls)


def _spent(call: Callable[[], Any], device: torch.device) -> Seconds:
    began = Seconds.now()
    call()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return Seconds.now() - began


def rate(device: torch.device, dtype: torch.dtype) -> Seconds:
    """What a TFLOP takes in a convolution as the networks have them, measured for a moment."""
    layer = nn.Conv2d(64, 64, 3, padding=1, device=device, dtype=dtype).requires_grad_(False)
    picture = torch.randn(8, 64, 24, 16, device=device, dtype=dtype)
    return timed(lambda: layer(picture), device, 0.2) * (1e12 / (2 * 9 * 64 * 64 * 8 * 24 * 16))
