"""An accelerator without room, for as long as a test wants it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def no_room(module: nn.Module, first: int, times: int) -> Iterator[list[int]]:
    """The calls number ``first`` (from 0) and those after it find no memory, ``times`` in all.

    Yields the rows of every call that there has been.
    """
    rows: list[int] = []

    def before(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        rows.append(len(inputs[0]))
        if first <= len(rows) - 1 < first + times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    handle = module.register_forward_pre_hook(before)
    try:
        yield rows
    finally:
        handle.remove()
