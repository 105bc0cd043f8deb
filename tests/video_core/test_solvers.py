"""Solvers of higher order: diffusers' own, the exact solution of a known problem, and the ends of the schedules."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from xdyna_unianimate.video_core.progress import Reached
from xdyna_unianimate.video_core.samplers import sample
from xdyna_unianimate.video_core.schedule import (
    Schedule,
    leading_timesteps,
    linear_schedule,
    scaled_linear_betas,
    strided_timesteps,
    zero_terminal_snr_schedule,
)
from xdyna_unianimate.video_core.solvers import SOLVERS, solver_named

FAST = ("dpmpp_2m", "unipc")
SYSTEMS = {
    "X-Dyna": (linear_schedule(), leading_timesteps),
    "UniAnimate": (zero_terminal_snr_schedule(), strided_timesteps),
}
START = torch.randn(1, 4, 2, 3, 5, generator=torch.Generator().manual_seed(0))
SPREAD, MIDDLE = 0.4, 0.7
"""Of the Gaussian that the network of these tests has learnt perfectly."""


def perfect(schedule: Schedule):
    """The exact prediction for data of N(MIDDLE, SPREAD^2), whose path is known in closed form."""

    def denoise(x: Tensor, t: int) -> Tensor:
        a = schedule.alpha(t)
        signal, noise = a.sqrt().item(), (1 - a).sqrt().item()
        variance = (signal * SPREAD) ** 2 + noise**2
        x0 = MIDDLE + signal * SPREAD**2 / variance * (x - signal * MIDDLE)
        eps = noise / variance * (x - signal * MIDDLE)
        return eps if schedule.prediction_type == "epsilon" else signal * eps - noise * x0

    return denoise


def exact(schedule: Schedule, t: int) -> Tensor:
    """Where the path of START at timestep t ends: the standardised value stays what it is."""

    def moments(a: Tensor) -> tuple[float, float]:
        return a.sqrt().item() * MIDDLE, math.sqrt(a.item() * SPREAD**2 + 1 - a.item())

    (mean, std), (last_mean, last_std) = moments(schedule.alpha(t)), moments(schedule.alpha(None))
    return last_mean + last_std * (START - mean) / std


def error(solver: str, system: str, steps: int) -> float:
    schedule, spaced = SYSTEMS[system]
    timesteps = spaced(steps)
    found = sample(perfect(schedule), START, schedule, timesteps, solver=solver_named(solver))
    return (found - exact(schedule, timesteps[0])).abs().max().item()


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("solver", FAST)
@pytest.mark.parametrize("steps", [5, 10, 20, 40, 100])
def test_comes_closer_than_ddim(solver: str, system: str, steps: int) -> None:
    assert error(solver, system, steps) < 0.85 * error("ddim", system, steps)


@pytest.mark.parametrize("system", SYSTEMS)
def test_all_solvers_agree_in_the_limit(system: str) -> None:
    assert max(error(solver, system, 500) for solver in SOLVERS) < 0.02


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("solver", [*FAST, "ddim"])
def test_order_of_convergence(solver: str, system: str) -> None:
    """Away from both ends twice the steps leave a quarter of the error, half of it with DDIM."""
    whole, _ = SYSTEMS[system]
    schedule = Schedule(whole.alphas_cumprod, whole.prediction_type, whole.alpha(200).item())

    def off(steps: int) -> float:
        timesteps = [800 - 600 * i // steps for i in range(steps)]
        found = sample(perfect(schedule), START, schedule, timesteps, solver=solver_named(solver))
        return (found - exact(schedule, 800)).abs().max().item()

    ratio = off(15) / off(30)
    assert 1.7 < ratio < 2.4 if solver == "ddim" else ratio > 3


@pytest.mark.parametrize("solver", FAST)
@pytest.mark.parametrize("steps", [3, 9, 27])
def test_a_run_from_no_signal_is_finite(solver: str, steps: int) -> None:
    """These counts reach timestep 999, where the schedule holds no signal."""
    assert strided_timesteps(steps)[0] == 999
    assert error(solver, "UniAnimate", steps) < error("ddim", "UniAnimate", steps) + 1e-6


@pytest.mark.parametrize("solver", FAST)
def test_one_step_is_ddims(solver: str) -> None:
    schedule = linear_schedule()
    run = lambda name: sample(perfect(schedule), START, schedule, [500], solver=solver_named(name))  # noqa: E731
    torch.testing.assert_close(run(solver), run("ddim"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("solver", FAST)
def test_equals_diffusers(solver: str) -> None:
    """Same betas, timesteps and end (no noise), scaled-linear, where their configuration can be ours."""
    diffusers = pytest.importorskip("diffusers")
    betas = scaled_linear_betas()
    schedule = Schedule(torch.cumprod(1 - betas, 0), "epsilon", 1.0)
    timesteps = [901, 751, 601, 451, 301, 151, 1]
    options = {"trained_betas": betas.float().numpy(), "solver_order": 2, "final_sigmas_type": "zero"}
    if solver == "unipc":
        theirs = diffusers.UniPCMultistepScheduler(**options, solver_type="bh2", lower_order_final=True)
    else:
        theirs = diffusers.DPMSolverMultistepScheduler(**options, lower_order_final=True)
    theirs.set_timesteps(len(timesteps))
    table = torch.cumprod(1 - betas, 0)
    sigmas = ((1 - table[timesteps]) / table[timesteps]).sqrt()
    theirs.sigmas = torch.cat([sigmas, torch.zeros(1)]).float()
    theirs.timesteps = torch.tensor(timesteps)
    network, x = perfect(schedule), START
    for t in theirs.timesteps:
        x = theirs.step(network(x, int(t)), t, x).prev_sample
    ours = sample(network, START, schedule, timesteps, solver=solver_named(solver))
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


class Kept:
    """A progress that stops a run after some steps and hands its state to the next."""

    def __init__(self, start: Reached | None = None) -> None:
        self.states = [] if start is None else [start]

    def reached(self) -> Reached | None:
        return self.states[-1] if self.states else None

    def keep(self, reached: Reached) -> None:
        self.states.append(Reached(reached.done, reached.latents.clone(), dict(reached.memory)))

    def finished(self) -> None:
        return None

    def finish(self, latents: Tensor) -> None:
        pass


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("done", [1, 2, 5])
def test_a_run_gone_on_with_ends_in_the_same_bits(solver: str, done: int) -> None:
    schedule, spaced = SYSTEMS["X-Dyna"]
    run = lambda progress: sample(  # noqa: E731
        perfect(schedule), START, schedule, spaced(8), solver=solver_named(solver), progress=progress
    )
    first = Kept()
    whole = run(first)
    assert torch.equal(run(Kept(first.states[done - 1])), whole)


def test_states_are_kept_where_the_denoiser_remembers_nothing() -> None:
    schedule, spaced = SYSTEMS["X-Dyna"]
    kept = Kept()
    sample(perfect(schedule), START, schedule, spaced(7), progress=kept, keep_every=3)
    assert [state.done for state in kept.states] == [3, 6]


def test_an_unknown_solver_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="ddim, dpmpp_2m, unipc; 'euler' was given"):
        solver_named("euler")
