"""Seeded random numbers: drawn on the CPU in float32, so that one seed gives one result on every device.

Two orders. ``PerFrame``: what frame i gets depends on the seed and i only, so that a longer, shorter or
resumed clip keeps its frames. ``InOrder``: one generator, one draw after the other, as the published
programs do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Generator, Tensor

from .storage import IN_MEMORY, Storage

Order = Literal["per_frame", "original"]


class Draws(Protocol):
    """A source of random tensors; ``name`` says what a draw is for, shape [1, c, F, h, w] or [1, c, h, w]."""

    def normal(self, name: str, shape: Sequence[int]) -> Tensor:
        """Standard normal float32 of the shape, on the CPU."""
        ...

    def uniform(self, name: str, shape: Sequence[int]) -> Tensor:
        """Uniform float32 in [0, 1) of the shape, on the CPU."""
        ...


def draws(order: Order, seed: int, storage: Storage = IN_MEMORY) -> Draws:
    """The source of an order: "per_frame" or "original". storage: where what it draws for clips lies."""
    if order == "per_frame":
        return PerFrame(seed, storage)
    if order == "original":
        return InOrder(seeded(seed), storage)
    raise ValueError(f"Noise is drawn 'per_frame' or in the 'original' order; {order!r} was given.")


def seeded(seed: int) -> Generator:
    """A fresh CPU generator; seed: 0 to 2^64 - 1."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"A seed lies between 0 and 2^64 - 1; {seed} was given.")
    return Generator().manual_seed(seed)


@dataclass(frozen=True)
class PerFrame:
    """Draws that depend on seed, name and frame only; calls may come in any order and repeat themselves."""

    seed: int
    storage: Storage = field(default=IN_MEMORY, repr=False)

    def normal(self, name: str, shape: Sequence[int]) -> Tensor:
        return self._draw(torch.randn, name, shape)

    def uniform(self, name: str, shape: Sequence[int]) -> Tensor:
        return self._draw(torch.rand, name, shape)

    def _draw(self, draw: Callable[..., Tensor], name: str, shape: Sequence[int]) -> Tensor:
        seeded(self.seed)
        if len(shape) < 5:
            return draw(tuple(shape), generator=self._generator(name, 0))
        batch, channels, frames, *size = shape
        whole = self.storage.zeros(shape)
        for part in self.storage.stretches(frames):
            for i in range(part.start, part.stop):
                whole[:, :, i] = draw((batch, channels, *size), generator=self._generator(name, i))
            self.storage.tidy()
        return whole

    def _generator(self, name: str, frame: int) -> Generator:
        # Hashed, because neighbouring seeds must not share the noise of neighbouring frames.
        digest = hashlib.blake2b(f"{self.seed}/{name}/{frame}".encode(), digest_size=8).digest()
        return seeded(int.from_bytes(digest, "big"))


@dataclass(frozen=True)
class InOrder:
    """Draws in the order of the calls, all from one generator; names are ignored."""

    generator: Generator = field(repr=False)
    storage: Storage = field(default=IN_MEMORY, repr=False)

    def normal(self, name: str, shape: Sequence[int]) -> Tensor:
        return self._draw(torch.randn, shape)

    def uniform(self, name: str, shape: Sequence[int]) -> Tensor:
        return self._draw(torch.rand, shape)

    def _draw(self, draw: Callable[..., Tensor], shape: Sequence[int]) -> Tensor:
        # As a whole, because the order of the numbers is that of the tensor.
        whole = draw(tuple(shape), generator=self.generator, out=self.storage.zeros(shape))
        self.storage.tidy()
        return whole
