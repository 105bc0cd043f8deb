"""The sampling loop and its solvers; the loop knows neither networks, windows nor guidance.

A solver is a function of (schedule, timesteps) that returns a step; a step turns (latents, prediction, index
of the timestep) into (latents of the next timestep, estimate of x0) and may remember what it has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from .guidance import Denoiser
from .progress import NOWHERE, Progress, Reached
from .schedule import Schedule
from .storage import IN_MEMORY, Storage, all_finite


class Step(Protocol):
    """memory: what further steps need to know of those before, so that a run can be gone on with; tensors of the
    latents' shape, each frame of which a step makes from that frame alone.
    """

    memory: dict[str, Tensor]

    def __call__(self, x: Tensor, prediction: Tensor, index: int) -> tuple[Tensor, Tensor]: ...


OnStep = Callable[[int, int, Tensor, Tensor], None]
"""(steps done, steps in all, latents, estimate of x0), both float32 [1, c, F, h, w]; may raise to stop."""


class Solver(Protocol):
    def __call__(self, schedule: Schedule, timesteps: Sequence[int]) -> Step: ...


class NonFiniteError(ValueError):
    """NaN or infinity while sampling; ``latents`` is the last finite state, reached after ``done`` steps."""

    def __init__(self, sentence: str, latents: Tensor | None, done: int) -> None:
        super().__init__(sentence)
        self.latents = latents
        self.done = done


def split_prediction(schedule: Schedule, x: Tensor, prediction: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """(x0, eps) with x = sqrt(abar) x0 + sqrt(1 - abar) eps, all of one shape; float32 where x is.

    F: at zero terminal SNR (abar = 0) v-prediction gives x0 = -v and eps = x, the limit of the formula in
    which the original divides by zero (UniAnimate spec 5). A noise prediction gives no x0 there: an error.
    """
    alpha = schedule.alpha(t)
    signal, spread = alpha.sqrt().to(x.dtype), (1 - alpha).sqrt().to(x.dtype)
    # Done in place where something new was made: whole clips go through here.
    if schedule.prediction_type == "v_prediction":
        x0 = (signal * x).sub_(spread * prediction)
        if alpha == 0:
            return x0, x
        return x0, ((1 / alpha).sqrt().to(x.dtype) * x).sub_(x0).div_((1 / alpha - 1).sqrt().to(x.dtype))
    if schedule.prediction_type == "epsilon":
        if alpha == 0:
            raise ValueError(
                f"Timestep {t} holds no signal, so a noise prediction does not determine the picture."
            )
        return (x - spread * prediction).div_(signal), prediction
    raise ValueError(
        f"Prediction type 'epsilon' or 'v_prediction' was expected, not {schedule.prediction_type!r}."
    )


def ddim_step(
    schedule: Schedule,
    x: Tensor,
    prediction: Tensor,
    t: int,
    t_next: int | None,
    *,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of DDIM (Song et al., eq. 12) from timestep t to the smaller t_next (None: end of the run).

    x, prediction, noise: one shape, float32. eta 0 (both releases) is deterministic, 1 is DDPM's variance
    and needs ``noise``; x0 is never clipped (UniAnimate spec 5, X-Dyna spec 8.1). Returns (next x, estimate
    of x0).
    """
    x0, eps = split_prediction(schedule, x, prediction, t)
    alpha, alpha_next = (schedule.alpha(step).to(x.dtype) for step in (t, t_next))
    sigma = eta * ((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next)).sqrt()
    # The clamp guards a rounding error below zero, which occurs at eta 1 and zero terminal SNR.
    x_next = (alpha_next.sqrt() * x0).add_((1 - alpha_next - sigma**2).clamp(min=0).sqrt() * eps)
    return (x_next if noise is None else x_next.add_(sigma * noise)), x0


def ddim(eta: float = 0.0, noise_at: Callable[[int], Tensor] | None = None) -> Solver:
    """The DDIM solver; with eta above 0 every step adds its sigma times ``noise_at(index of the step)``.

    noise_at: standard normal of the latents' shape. F: at eta 0 none is drawn; UniAnimate draws and drops it.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie between 0 (deterministic) and 1 (DDPM); {eta:g} was given.")
    if eta > 0 and noise_at is None:
        raise ValueError(
            "DDIM with eta above 0 adds noise in every step; give the noise of each step (noise_at)."
        )

    return lambda schedule, timesteps: _Ddim(schedule, [*timesteps, None], eta, noise_at)


@dataclass
class _Ddim:
    """A step of DDIM, which remembers nothing. timesteps: those of the run, then None."""

    schedule: Schedule
    timesteps: Sequence[int | None]
    eta: float
    noise_at: Callable[[int], Tensor] | None
    memory: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, prediction: Tensor, index: int) -> tuple[Tensor, Tensor]:
        noise = self.noise_at(index).to(x) if self.eta > 0 else None
        here, ahead = self.timesteps[index : index + 2]
        return ddim_step(self.schedule, x, prediction, here, ahead, eta=self.eta, noise=noise)


@torch.no_grad()
def sample(
    denoise: Denoiser,
    latents: Tensor,
    schedule: Schedule,
    timesteps: Sequence[int],
    *,
    solver: Solver | None = None,
    on_step: OnStep | None = None,
    progress: Progress = NOWHERE,
    keep_every: int = 1,
    storage: Storage = IN_MEMORY,
) -> Tensor:
    """From noise to latents: one prediction and one solver step per timestep.

    denoise: one branch, [1, c, F, h, w] (guidance and windows are wrapped around it beforehand).
    latents: the noised start [1, c, F, h, w]; the state is kept in float32 whatever the network computes in.
    timesteps: descending. solver: DDIM with eta 0 unless given. on_step: see OnStep. progress: every step is
    kept there, or those after which the denoiser remembers nothing (``keep_every``), and what was kept by an
    earlier run is not done again. storage: where what has the size of the clip lies, and how much of it a solver
    (one that draws no noise, unless it lies in memory) takes at a time.
    Returns float32 latents of the start's shape. NonFiniteError keeps the last finite latents.
    """
    step = (solver or ddim())(schedule, timesteps)
    x = latents.float()
    if not all_finite(x, storage):
        raise NonFiniteError(
            "The starting latents hold NaN or infinity; check the noise and the reference.", None, 0
        )
    start = progress.reached()
    if start is not None:
        x = start.latents.to(x)
        step.memory.update({name: tensor.to(x) for name, tensor in start.memory.items()})
    for index, t in list(enumerate(timesteps))[0 if start is None else start.done :]:
        following, x0 = _stepped(step, x, denoise(x, t).float(), index, storage)
        if not all_finite(following, storage):
            raise NonFiniteError(
                f"The network gave NaN or infinity in step {index + 1} of {len(timesteps)} (timestep {t}). "
                "Overflow of half precision is the usual cause: try bfloat16 or float32, or other weights.",
                x,
                index,
            )
        # Contiguous, because that is how a kept state comes back, and kernels round by the layout.
        x = following.contiguous()
        if (index + 1) % keep_every == 0:
            progress.keep(Reached(index + 1, x, dict(step.memory)))
        if on_step is not None:
            on_step(index + 1, len(timesteps), x, x0)
        storage.tidy()
    return x


def _stepped(
    step: Step, x: Tensor, prediction: Tensor, index: int, storage: Storage
) -> tuple[Tensor, Tensor]:
    """A solver's step, a stretch of frames after the other where the storage wants that."""
    stretches = storage.stretches(x.shape[2])
    if len(stretches) == 1:
        return step(x, prediction, index)
    following, x0 = storage.zeros(x.shape), storage.zeros(x.shape)
    before, after = step.memory, {}
    for part in stretches:
        step.memory = {name: tensor[:, :, part] for name, tensor in before.items()}
        following[:, :, part], x0[:, :, part] = step(x[:, :, part], prediction[:, :, part], index)
        after = after or {name: storage.zeros(x.shape) for name in step.memory}
        for name, tensor in step.memory.items():
            after[name][:, :, part] = tensor
        storage.tidy()
    step.memory = after
    return following, x0
