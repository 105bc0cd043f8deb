"""Published order of draws, blur and start of a run against the golden tensors (X-Dyna spec 8.2)."""

from __future__ import annotations

import pytest
import torch
from xdyna_unianimate.video_core.schedule import linear_schedule
from xdyna_unianimate.xdyna_core import noise

from . import golden
from .golden import Golden

CASES = golden.cases("xdyna", "noise_init*")


def drawn(data: Golden, case: str) -> noise.ClipDraws:
    row = data.meta["cases"][case]
    channels, height, width = data[f"{case}.vae_randn"].shape[1:]
    shape = (channels, row["frames"], height, width)
    return noise.draw_original(shape, 0, row["generator_seed"], row["global_cpu_seed"], 0)


def check_frames(data: Golden, name: str, ours: torch.Tensor) -> None:
    """Golden clips have the reference in front, whose random numbers we drop."""
    data.check(name, ours, data[name][:, :, 1:])


@pytest.mark.parametrize(("file", "case"), CASES)
def test_order_of_draws(file: str, case: str) -> None:
    data = Golden("xdyna", file)
    ours = drawn(data, case)
    data.check(f"{case}.vae_randn", ours.posterior, rule="exact")
    data.check(f"{case}.u", ours.mask, data[f"{case}.u"][:, :, 1:], rule="exact")
    data.check(f"{case}.noise", ours.base, data[f"{case}.noise"][:, :, 1:], rule="exact")


@pytest.mark.parametrize(("file", "case"), CASES)
def test_posterior_sample(file: str, case: str) -> None:
    data = Golden("xdyna", file)
    sample = data[f"{case}.vae_mean"] + data[f"{case}.vae_std"] * drawn(data, case).posterior
    data.check(f"{case}.ref_latents", 0.18215 * sample[:, :, None])


@pytest.mark.parametrize(("file", "case"), CASES)
def test_blur(file: str, case: str) -> None:
    data = Golden("xdyna", file)
    reference = data[f"{case}.ref_latents"]
    data.check(f"{case}.kernel1d", noise.gaussian(noise.BLUR_RADIUS))
    data.check(f"{case}.blur_of_ref", noise.blurred(reference[:, :, 0]))
    check_frames(data, f"{case}.downgraded", noise.downgraded(reference, drawn(data, case).mask))


@pytest.mark.parametrize(("file", "case"), CASES)
def test_start(file: str, case: str) -> None:
    data = Golden("xdyna", file)
    row, reference = data.meta["cases"][case], data[f"{case}.ref_latents"]
    schedule, t = linear_schedule(), row["first_timestep"]
    assert schedule.alpha(t).item() == pytest.approx(row["abar"], rel=1e-6)
    start = noise.initial_latents(reference, drawn(data, case), schedule, t)
    check_frames(data, f"{case}.noisy", start)
    assert torch.equal(data[f"{case}.noisy"][:, :, :1], reference)
