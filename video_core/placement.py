"""Where a network lives while it works: residency as a ``with`` block, device and precision by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import TypeVar

import torch
from torch import nn

log = logging.getLogger(__name__)

Module = TypeVar("Module", bound=nn.Module)
Result = TypeVar("Result")

Placed = Callable[[nn.Module], AbstractContextManager[torch.device]]
"""Given a network, a block in which it can run, which yields the device that its inputs belong on."""

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}

FP8 = "fp8"
"""The precision that computes as ``auto`` does and stores large weights in eight bits (``video_core.fp8``)."""


@contextmanager
def on_device(
    module: Module, device: torch.device | str, dtype: torch.dtype | None = None
) -> Iterator[Module]:
    """The module on ``device`` (its floating tensors as ``dtype``, if given) inside the block.

    Its own tensors wait where they were and come back at the end, whatever happened, bit for bit and
    without a transfer. So what the block writes into parameters is lost: this is for inference.
    """
    homes = [(tensor, tensor.data) for tensor in chain(module.parameters(), module.buffers())]
    try:
        for tensor, home in homes:
            # Eight bits are a way of storing (``fp8``), which stays.
            wanted = dtype if home.is_floating_point() and home.itemsize > 1 else None
            tensor.data = home.to(device=device, dtype=wanted, non_blocking=True)
        yield module
    finally:
        for tensor, home in homes:
            tensor.data = home
        free_cache(device)


def running_on(device: torch.device | str) -> Placed:
    """Networks on ``device`` for the time of a block each, and back where they were after it."""
    device = torch.device(device)

    @contextmanager
    def placed(network: nn.Module) -> Iterator[torch.device]:
        with on_device(network, device):
            yield device

    return placed


def free_cache(device: torch.device | str) -> None:
    """Hand the allocator's unused blocks of an accelerator back; nothing on a CPU."""
    kind = torch.device(device).type
    if kind in ("cuda", "mps", "xpu"):
        getattr(torch, kind).empty_cache()


def free_caches() -> None:
    """``free_cache`` of every accelerator that is there."""
    for kind in ("cuda", "xpu", "mps"):
        if getattr(torch, kind).is_available():
            free_cache(kind)


WORKING_SHARE = 0.9
"""Of the free memory that one call of a network may plan with; the rest is for what the allocator wastes."""


def free_bytes(device: torch.device | str) -> int | None:
    """Memory that new tensors can take on an accelerator; None where nobody says, as on a CPU."""
    kind = torch.device(device).type
    if kind not in ("cuda", "xpu"):
        return None
    accelerator = getattr(torch, kind)
    cached = accelerator.memory_reserved(device) - accelerator.memory_allocated(device)
    return accelerator.mem_get_info(device)[0] + cached


def fits(needed: int, free: int) -> bool:
    """Whether one call of a network may take that much of the memory that is free."""
    return needed <= WORKING_SHARE * free


def choose_device(name: str = "auto") -> torch.device:
    """``auto``: the first of CUDA (ROCm too), XPU, MPS, CPU that is there; else the device of that name.

    Raises ValueError for a name that torch does not know or cannot use here.
    """
    if name == "auto":
        found = (kind for kind in ("cuda", "xpu", "mps") if getattr(torch, kind).is_available())
        return torch.device(next(found, "cpu"))
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"The device '{name}' cannot be used here; choose auto, cuda, mps or cpu."
        ) from error
    return device


def choose_dtype(name: str, device: torch.device | str) -> torch.dtype:
    """``auto``: fp16 on an accelerator (as the published models were run), fp32 on a CPU; else by name.

    ``fp8`` computes as ``auto`` does.
    """
    if name in ("auto", FP8):
        return torch.float32 if torch.device(device).type == "cpu" else torch.float16
    if name not in DTYPES:
        raise ValueError(f"'{name}' is no precision; choose auto, {', '.join(DTYPES)} or {FP8}.")
    return DTYPES[name]


def smaller_on_oom(attempt: Callable[[int], Result], size: int) -> tuple[Result, int]:
    """``attempt(size)``, tried again with half the size while memory runs out; the result and the size used.

    Raises the original error where even size 1 does not fit.
    """
    while True:
        try:
            return attempt(size), size
        except RuntimeError as error:
            if size <= 1 or not out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        # Outside the handler, where the failed attempt's tensors are no longer held by the traceback.
        free_caches()
        size //= 2
        log.warning("Out of memory (%s); going on with %d at a time.", reason, size)


MEMORY_SIGNS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    # oneDNN's word for it on a CPU; where it means something else, less at once ends in the same error.
    "could not create a primitive",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out (CUDA has a class for it, MPS and CPU only a text)."""
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in MEMORY_SIGNS)
