"""Schedules and timestep spacings (UniAnimate spec 4, 5; X-Dyna spec 8.1)."""

from __future__ import annotations

import pytest
import torch
from xdyna_unianimate.video_core import samplers
from xdyna_unianimate.video_core.schedule import (
    Schedule,
    leading_timesteps,
    linear_schedule,
    strided_timesteps,
    zero_terminal_snr_schedule,
)


@pytest.mark.parametrize(
    ("t", "alpha"),
    [(0, 0.99915), (1, 0.9982334), (499, 0.2423592), (939, 9.2135e-4), (949, 6.1254e-4), (991, 1.30019e-5)],
)
def test_zero_terminal_snr_table(t: int, alpha: float) -> None:
    assert zero_terminal_snr_schedule().alpha(t).item() == pytest.approx(alpha, rel=1e-5)


def test_zero_terminal_snr_ends_at_exactly_zero() -> None:
    schedule = zero_terminal_snr_schedule()
    assert schedule.alpha(999) == 0 and schedule.betas[999] == 1
    assert schedule.betas[0].item() == pytest.approx(0.00085, rel=1e-12)


def test_tables_are_float64() -> None:
    for schedule in (zero_terminal_snr_schedule(), linear_schedule()):
        assert schedule.alphas_cumprod.dtype == schedule.betas.dtype == torch.float64


def test_the_two_runs_end_differently() -> None:
    """K: one ends at abar_0 and keeps 2.9 % of the noise, the other at 1 and keeps none."""
    assert (1 - zero_terminal_snr_schedule().alpha(None)).sqrt().item() == pytest.approx(0.029, abs=2e-4)
    assert linear_schedule().alpha(None) == 1


def test_linear_table() -> None:
    assert linear_schedule().alpha(961).item() == pytest.approx(0.0024783, rel=1e-4)


def test_a_timestep_outside_the_table_is_refused() -> None:
    for t in (-1, 1000):
        with pytest.raises(ValueError, match="0 to 999"):
            linear_schedule().alpha(t)


def test_noise_of_the_terminal_step_replaces_the_signal() -> None:
    x0, noise = torch.randn(2, 1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(zero_terminal_snr_schedule().add_noise(x0, noise, 999), noise)


@pytest.mark.parametrize(
    ("steps", "count", "first"), [(30, 31, 991), (50, 50, 981), (25, 25, 961), (1, 1, 1), (27, 28, 999)]
)
def test_strided_timesteps(steps: int, count: int, first: int) -> None:
    timesteps = strided_timesteps(steps)
    assert (len(timesteps), timesteps[0], timesteps[-1]) == (count, first, 1)


def published_timesteps(steps: int) -> list[int]:
    """The rule as UniAnimate spec 5 writes it."""
    stride = 1000 // steps
    return [min(1 + k * stride, 999) for k in reversed(range(-(-1000 // stride)))]


@pytest.mark.parametrize("steps", range(1, 1001))
def test_every_step_count_is_finite_and_as_published_where_that_is(steps: int) -> None:
    """F: step counts that reach 999 are NaN in the original; all others keep its timesteps and next
    timesteps.
    """
    timesteps, published, stride = strided_timesteps(steps), published_timesteps(steps), 1000 // steps
    assert timesteps == sorted(set(published), reverse=True)
    if 999 not in published:
        assert timesteps == published
        assert timesteps[1:] == [t - stride for t in timesteps[:-1]] and timesteps[-1] - stride <= 0

    x = torch.randn(1, 4, 1, 2, 2, generator=torch.Generator().manual_seed(steps))
    schedule = zero_terminal_snr_schedule()
    first, last = (
        samplers.split_prediction(schedule, x, x.flip(1), t) for t in (timesteps[0], timesteps[-1])
    )
    assert all(torch.isfinite(tensor).all() for tensor in (*first, *last))


@pytest.mark.parametrize("steps", [3, 9, 27, 36, 37, 334, 500, 501, 1000])
def test_runs_that_are_nan_in_the_original_are_finite(steps: int) -> None:
    assert published_timesteps(steps)[0] == 999
    x = torch.randn(1, 1, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    result = samplers.sample(lambda x, t: x, x, zero_terminal_snr_schedule(), strided_timesteps(steps))
    assert torch.isfinite(result).all()


@pytest.mark.parametrize(
    ("steps", "strength", "used"),
    [(100, 0.29, 28), (25, 1.0, 25), (25, 1.3, 25), (25, 0.999, 24), (7, 0.3, 2)],
)
def test_strength_truncates(steps: int, strength: float, used: int) -> None:
    whole = leading_timesteps(steps)
    assert leading_timesteps(steps, strength) == whole[len(whole) - used :]


def test_leading_timesteps() -> None:
    timesteps = leading_timesteps(25)
    assert (timesteps[0], timesteps[1], timesteps[-1], len(timesteps)) == (961, 921, 1, 25)


def test_leading_timesteps_stay_inside_the_table() -> None:
    """F: with as many steps as the table has, the offset of 1 points behind its end."""
    assert leading_timesteps(1000) == list(range(999, 0, -1))


@pytest.mark.parametrize("steps", range(1, 1001, 37))
def test_leading_timesteps_are_in_the_table(steps: int) -> None:
    timesteps = leading_timesteps(steps)
    assert timesteps == sorted(set(timesteps), reverse=True) and timesteps[0] < 1000 and timesteps[-1] == 1


@pytest.mark.parametrize(("steps", "strength"), [(10, 0.01), (10, 0.0), (3, 0.3)])
def test_no_step_to_run_is_a_sentence(steps: int, strength: float) -> None:
    with pytest.raises(ValueError, match=f"Strength {strength:g} of {steps} steps leaves no step"):
        leading_timesteps(steps, strength)


@pytest.mark.parametrize("spacing", [strided_timesteps, leading_timesteps])
@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_step_counts_outside_the_table_are_refused(spacing, steps: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and 1000; {steps} was given"):
        spacing(steps)


def test_an_unknown_prediction_type_is_refused() -> None:
    schedule = Schedule(linear_schedule().alphas_cumprod, "sample", 1.0)
    with pytest.raises(ValueError, match="'sample'"):
        samplers.split_prediction(schedule, torch.zeros(1), torch.zeros(1), 5)
