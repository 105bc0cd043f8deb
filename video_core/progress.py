"""How far a run has come, and where that is kept, so that a later run goes on from there.

A run has parts, one after the other (the segments of a chained clip, or one part that is the whole clip), and
a part has steps. What is kept are the exact bits, so that the result is the one of an uninterrupted run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Reached:
    """A state between two steps.

    done: steps that were done. latents: float32 [1, c, F, h, w] after them. memory: what the solver remembers
    of earlier steps, by its own names.
    """

    done: int
    latents: Tensor
    memory: Mapping[str, Tensor] = field(default_factory=dict)


class Progress(Protocol):
    """Where one part's progress is kept."""

    def reached(self) -> Reached | None:
        """The last state that was kept, on the CPU; None where there is none."""
        ...

    def keep(self, reached: Reached) -> None:
        """A further step is done; raises nothing where it cannot be kept."""
        ...

    def finished(self) -> Tensor | None:
        """The part's latents, on the CPU; None unless it was finished."""
        ...

    def finish(self, latents: Tensor) -> None:
        """The part is done; its steps need not be kept any longer."""
        ...


class Journal(Protocol):
    """Where a run's progress is kept."""

    def part(self, number: int) -> Progress:
        """The progress of a part, counted from 0."""
        ...


class Nowhere:
    """Journal and progress of a run that is not kept."""

    def part(self, number: int) -> Nowhere:
        """See ``Journal``."""
        return self

    def reached(self) -> None:
        """Nothing was kept."""

    def keep(self, reached: Reached) -> None:
        """Nothing is kept."""

    def finished(self) -> None:
        """Nothing was kept."""

    def finish(self, latents: Tensor) -> None:
        """Nothing is kept."""


NOWHERE = Nowhere()
