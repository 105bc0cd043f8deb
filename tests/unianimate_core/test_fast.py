"""Fast mode on UniAnimate's network: every step whole is the exact result, less work gives something near it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from xdyna_unianimate.unianimate_core.pipeline import COMPILED
from xdyna_unianimate.unianimate_core.sample import SampleSettings, branch_denoiser, sample_clip
from xdyna_unianimate.video_core.deep import DeepFeatures
from xdyna_unianimate.video_core.fast import EXACT, Fast, compiled

from .tiny import tiny_inputs, tiny_unet

FRAMES = 5
UNET = tiny_unet()
SETTINGS = SampleSettings(steps=6, guidance=2.0, mode="windows", window=4, overlap=2)


@pytest.fixture(scope="module")
def branches():
    told = tiny_inputs(FRAMES)
    told.pop("x")
    return UNET.encode_conditions(zero_y=told["zero_y"]), UNET.encode_conditions(**told)


@torch.no_grad()
def run(branches, fast: Fast = EXACT, **changes) -> Tensor:
    settings = replace(SETTINGS, fast=fast, **changes)
    denoisers = [
        branch_denoiser(
            UNET, own, settings.together, deep=DeepFeatures(settings.timesteps(), fast.reuse_every)
        )
        for own in (branches, branches[1:])
    ]
    noise = torch.randn(1, 4, FRAMES, 4, 6, generator=torch.Generator().manual_seed(0))
    return sample_clip(denoisers[0], noise, settings, alone=denoisers[1])


class Calls:
    """How often the middle of the network, and its finest level, ran."""

    def __enter__(self) -> Calls:
        self.middle = self.finest = 0
        self.hooks = [
            UNET.middle_block[0].register_forward_hook(lambda *_: setattr(self, "middle", self.middle + 1)),
            UNET.out.register_forward_hook(lambda *_: setattr(self, "finest", self.finest + 1)),
        ]
        return self

    def __exit__(self, *_) -> None:
        for hook in self.hooks:
            hook.remove()


@pytest.mark.parametrize("together", [True, False])
def test_reuse_runs_the_coarse_levels_in_some_steps(branches, together: bool) -> None:
    exact = run(branches, together=together)
    with Calls() as calls:
        near = run(branches, Fast(reuse_every=2), together=together)
    assert calls.finest * 4 == calls.middle * 7, "4 of the 7 steps are whole"
    off = (near - exact).pow(2).mean().sqrt() / exact.std()
    assert 0 < off < 0.35
    assert torch.equal(run(branches, together=together), exact), "the network is as it was"


def test_taken_in_the_same_step_deep_features_change_nothing(branches) -> None:
    """At one timestep the finest level alone gives what the whole network gave."""
    features = DeepFeatures([500, 499], 2)
    x = torch.randn(1, 4, 4, 4, 6)
    cond = branches[1].windows([[0, 1, 2, 3]])
    with torch.no_grad():
        whole = UNET.denoise(x, 500, cond, features.at(500, [0], [[0, 1, 2, 3]]))
        finest = UNET.denoise(x, 500, cond, features.at(499, [0], [[0, 1, 2, 3]]))
        assert torch.equal(whole, UNET.denoise(x, 500, cond))
    torch.testing.assert_close(finest, whole, rtol=0, atol=1e-6)


def test_guidance_in_part_of_the_steps_runs_fewer_branches(branches) -> None:
    with Calls() as whole:
        exact = run(branches)
    with Calls() as part:
        near = run(branches, Fast(guided_until=0.5))
    assert part.finest < 0.8 * whole.finest
    assert not torch.equal(near, exact)
    assert torch.equal(run(branches, Fast(guided_until=0.0)), run(branches[1:], guidance=None))


def test_other_solvers_come_to_the_same_clip(branches) -> None:
    fine, coarse = run(branches, steps=50), run(branches, steps=6)
    for solver in ("dpmpp_2m", "unipc"):
        ours = run(branches, Fast(solver=solver), steps=50)
        assert (ours - fine).pow(2).mean() < (coarse - fine).pow(2).mean()


@pytest.mark.slow  # compiling takes 20 seconds
def test_compiled_is_the_same(branches) -> None:
    plain = run(branches, steps=2)
    with compiled([UNET], COMPILED, "eager"):
        torch.testing.assert_close(run(branches, steps=2), plain, rtol=1e-4, atol=1e-4)
    assert torch.equal(run(branches, steps=2), plain)
