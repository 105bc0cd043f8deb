"""The sampling loop and DDIM (UniAnimate spec 5, X-Dyna spec 8.1)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from xdyna_unianimate.video_core.samplers import NonFiniteError, ddim, ddim_step, sample, split_prediction
from xdyna_unianimate.video_core.schedule import (
    leading_timesteps,
    linear_schedule,
    strided_timesteps,
    zero_terminal_snr_schedule,
)

SCHEDULES = {"v": zero_terminal_snr_schedule(), "epsilon": linear_schedule()}
SPACINGS = {"v": strided_timesteps, "epsilon": leading_timesteps}
kinds = pytest.mark.parametrize("kind", ["v", "epsilon"])


def normal(seed: int, shape: tuple[int, ...] = (1, 4, 3, 2, 2)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def truth_teller(kind: str, x0: Tensor):
    """A network that knows x0 and predicts exactly what belongs to it."""
    schedule = SCHEDULES[kind]

    def denoise(x: Tensor, t: int) -> Tensor:
        alpha = schedule.alpha(t)
        eps = (x.double() - alpha.sqrt() * x0.double()) / (1 - alpha).sqrt()
        return eps if kind == "epsilon" else alpha.sqrt() * eps - (1 - alpha).sqrt() * x0.double()

    return denoise


@kinds
@pytest.mark.parametrize("t", [1, 500, 991])
def test_split_prediction_undoes_add_noise(kind: str, t: int) -> None:
    x0, eps = normal(0), normal(1)
    schedule, alpha = SCHEDULES[kind], SCHEDULES[kind].alpha(t).float()
    prediction = eps if kind == "epsilon" else alpha.sqrt() * eps - (1 - alpha).sqrt() * x0
    found_x0, found_eps = split_prediction(schedule, schedule.add_noise(x0, eps, t), prediction, t)
    torch.testing.assert_close(found_x0, x0, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found_eps, eps, atol=1e-4, rtol=1e-4)


def test_zero_signal_is_the_limit_of_small_signal() -> None:
    """F: the original divides by zero at timestep 999."""
    x, v = normal(0), normal(1)
    x0, eps = split_prediction(SCHEDULES["v"], x, v, 999)
    assert torch.equal(x0, -v) and torch.equal(eps, x)
    near = split_prediction(SCHEDULES["v"], x, v, 998)
    torch.testing.assert_close(near[0], x0, atol=5e-3, rtol=0)
    torch.testing.assert_close(near[1], eps, atol=5e-3, rtol=0)


@kinds
@pytest.mark.parametrize("steps", [1, 2, 7, 27, 30])
def test_a_perfect_network_leads_to_its_picture(kind: str, steps: int) -> None:
    """K: the v schedule ends at abar_0, so x keeps the noise's share of it; x0 itself is exact."""
    schedule, timesteps = SCHEDULES[kind], SPACINGS[kind](steps)
    x0, estimates = normal(2), []
    start = schedule.add_noise(x0, normal(3), timesteps[0])
    result = sample(
        truth_teller(kind, x0), start, schedule, timesteps, on_step=lambda *a: estimates.append(a[3])
    )
    torch.testing.assert_close(estimates[-1], x0, atol=1e-3, rtol=0)
    left = 1 - schedule.final_alpha
    assert (result - x0).abs().max() <= 8 * left**0.5 + 1e-3


@kinds
def test_the_last_step_goes_to_the_final_alpha(kind: str) -> None:
    x, prediction, schedule = normal(0), normal(1), SCHEDULES[kind]
    x0, eps = split_prediction(schedule, x, prediction, 1)
    expected = schedule.final_alpha**0.5 * x0 + (1 - schedule.final_alpha) ** 0.5 * eps
    torch.testing.assert_close(ddim_step(schedule, x, prediction, 1, None)[0], expected)


@pytest.mark.parametrize("t", [999, 991, 500])
def test_eta_one_keeps_the_variance(t: int) -> None:
    """DDPM's variance: mean square of noise around sqrt(abar) x0 equals 1 - abar after the step too."""
    schedule, shape = SCHEDULES["v"], (1, 4, 50, 20, 20)
    x, zero = normal(0, shape), torch.zeros(shape)
    # With x0 = 0: x = sqrt(1 - abar) eps and v = sqrt(abar) eps.
    alpha = schedule.alpha(t).float()
    result = ddim_step(
        schedule, (1 - alpha).sqrt() * x, alpha.sqrt() * x, t, t - 33, eta=1.0, noise=normal(1, shape)
    )[0]
    assert (result - zero).var().item() == pytest.approx(1 - schedule.alpha(t - 33).item(), rel=0.02)


def test_eta_draws_one_noise_per_step_and_is_reproducible() -> None:
    asked: list[int] = []

    def noise_at(index: int) -> Tensor:
        asked.append(index)
        return normal(100 + index)

    timesteps = strided_timesteps(5)
    runs = [
        sample(lambda x, t: x, normal(0), SCHEDULES["v"], timesteps, solver=ddim(0.5, noise_at)) for _ in "ab"
    ]
    assert asked == [0, 1, 2, 3, 4] * 2 and torch.equal(*runs)
    assert not torch.equal(runs[0], sample(lambda x, t: x, normal(0), SCHEDULES["v"], timesteps))


@pytest.mark.parametrize(
    ("eta", "noise_at", "says"),
    [(0.5, None, "noise_at"), (1.5, normal, "between 0"), (-0.1, normal, "between")],
)
def test_wrong_eta_is_refused(eta: float, noise_at, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ddim(eta, noise_at)


def test_the_state_is_float32_whatever_the_network_computes_in() -> None:
    seen: list[torch.dtype] = []

    def half_network(x: Tensor, t: int) -> Tensor:
        seen.append(x.dtype)
        return x.half()

    result = sample(half_network, normal(0).half(), SCHEDULES["v"], strided_timesteps(3))
    assert result.dtype == torch.float32 and set(seen) == {torch.float32}


def test_on_step_sees_every_step_and_the_final_latents() -> None:
    calls: list[tuple[int, int, Tensor, Tensor]] = []
    timesteps = strided_timesteps(4)
    result = sample(lambda x, t: x, normal(0), SCHEDULES["v"], timesteps, on_step=lambda *a: calls.append(a))
    assert [(done, total) for done, total, *_ in calls] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert torch.equal(calls[-1][2], result) and calls[0][3].shape == result.shape


def test_on_step_may_stop_the_run() -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int, latents: Tensor, x0: Tensor) -> None:
        if done == 2:
            raise Stop

    calls: list[int] = []
    with pytest.raises(Stop):
        sample(
            lambda x, t: calls.append(t) or x, normal(0), SCHEDULES["v"], strided_timesteps(9), on_step=stop
        )
    assert len(calls) == 2


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_nan_keeps_the_last_finite_latents(poison: float) -> None:
    states: list[Tensor] = []

    def breaks_in_step_3(x: Tensor, t: int) -> Tensor:
        states.append(x)
        return x * poison if len(states) == 3 else x

    with pytest.raises(NonFiniteError, match=r"step 3 of 10 \(timestep 701\)") as caught:
        sample(breaks_in_step_3, normal(0), SCHEDULES["v"], strided_timesteps(10))
    assert caught.value.done == 2 and torch.equal(caught.value.latents, states[-1])


def test_nan_in_the_start_is_refused_before_the_network_runs() -> None:
    start = normal(0)
    start[0, 0, 0, 0, 0] = float("nan")
    calls: list[int] = []
    with pytest.raises(NonFiniteError, match="starting latents"):
        sample(lambda x, t: calls.append(t) or x, start, SCHEDULES["v"], [1])
    assert not calls


class SecondOrder:
    """Adams-Bashforth: the slope of the middle of a step from those of two beginnings."""

    def __init__(self, schedule, timesteps) -> None:
        self.steps, self.memory = len(timesteps), {}

    def __call__(self, x: Tensor, prediction: Tensor, index: int) -> tuple[Tensor, Tensor]:
        slope = (3 * prediction - self.memory["slope"]) / 2 if index else prediction
        self.memory["slope"] = prediction
        return x + slope / self.steps, x


def test_a_solver_may_remember() -> None:
    """Multistep solvers: the loop asks a solver for a step once and gives it the index."""
    result = sample(
        lambda x, t: -x, torch.ones(1, 1, 1, 1, 1), SCHEDULES["v"], range(200, 0, -1), solver=SecondOrder
    )
    assert result.item() == pytest.approx(0.36787944, abs=1e-4)
