"""Fast mode: what makes a result sooner and a little different. All of it is off by default."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from .guidance import Denoiser, guided
from .solvers import solver_named
from .storage import IN_MEMORY, Storage

log = logging.getLogger(__name__)

BACKEND = "inductor"


@dataclass(frozen=True)
class Fast:
    """How a run is shortened; the defaults change nothing.

    solver: "ddim" as published; "dpmpp_2m" or "unipc" need about half the steps.
    guided_from, guided_until: the share of the steps, 0 to 1, in which guidance acts; in the others the
        conditional branch runs alone, at half the cost.
    reuse_every: the coarse levels of the network run in every so manieth step, see ``deep``.
    compile: the networks' layers are compiled by ``torch.compile`` at their first call.
    """

    solver: str = "ddim"
    guided_from: float = 0.0
    guided_until: float = 1.0
    reuse_every: int = 1
    compile: bool = False

    def __post_init__(self) -> None:
        solver_named(self.solver)
        if not 0 <= self.guided_from <= self.guided_until <= 1:
            raise ValueError(
                "Guidance acts from one share of the steps to a later one, 0 to 1; "
                f"{self.guided_from} to {self.guided_until} was given."
            )
        if self.reuse_every < 1:
            raise ValueError(
                f"Deep features are made anew every 1, 2, 3 ... steps; {self.reuse_every} was given."
            )

    @property
    def always_guided(self) -> bool:
        """Whether guidance, where there is any, acts in every step."""
        return self.guided_from == 0 and self.guided_until == 1

    def guides(self, index: int, steps: int) -> bool:
        """Whether guidance acts in that step."""
        return self.guided_from <= index / steps < self.guided_until or self.always_guided


EXACT = Fast()
"""Nothing is changed."""


def guided_during(
    both: Denoiser,
    alone: Denoiser | None,
    scale: float,
    timesteps: Sequence[int],
    fast: Fast,
    storage: Storage = IN_MEMORY,
) -> Denoiser:
    """Guidance of the denoiser of two branches in some steps, in the others the conditional branch alone.

    alone: that branch's denoiser, needed unless guidance always acts. storage: see ``guided``.
    """
    everywhere = guided(both, scale, storage)
    if fast.always_guided:
        return everywhere
    if alone is None:
        raise ValueError("Guidance in a part of the steps needs a denoiser of the conditional branch alone.")
    acts = {t: fast.guides(index, len(timesteps)) for index, t in enumerate(timesteps)}
    return lambda latents, t: everywhere(latents, t) if acts[t] else alone(latents, t)


@contextmanager
def compiled(
    networks: Sequence[nn.Module], kinds: tuple[type[nn.Module], ...], backend: str | Callable = BACKEND
) -> Iterator[None]:
    """A block in which the networks' layers of these kinds are compiled; afterwards they are as they were.

    Layers rather than whole networks: there are few kinds of them, so that compiling takes seconds. Where there
    is no working compiler, the log says so and the layers run as they are.
    """
    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, kinds)]
    if not layers or not _works(backend, next(layers[0].parameters()).device):
        yield
        return
    try:
        for layer in layers:
            layer.compile(backend=backend)
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None


def _works(backend: str | Callable, device: torch.device) -> bool:
    """Whether a function of one line can be compiled; the compiler's own errors come in many kinds."""
    try:
        torch.compile(lambda x: x * 2 + 1, backend=backend)(torch.ones(2, device=device))
    except Exception as error:
        log.warning("torch.compile does not work here (%s); going on without.", type(error).__name__)
        return False
    return True
