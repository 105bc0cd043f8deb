"""Fast mode on X-Dyna's networks: every step whole is the exact result, less work gives something near it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from xdyna_unianimate.video_core.deep import DeepFeatures
from xdyna_unianimate.video_core.fast import EXACT, Fast, compiled
from xdyna_unianimate.xdyna_core.pipeline import COMPILED
from xdyna_unianimate.xdyna_core.sample import SampleSettings, branch_denoiser, sample_clip

from .test_reuse import FRAMES, HEIGHT, UNET, WIDTH, conditions
from .tiny import normal

OFFSETS = (3, 0, 1, 2, 3, 1)
SETTINGS = SampleSettings(steps=6, guidance=3.0, window=4, overlap=2)


@torch.no_grad()
def run(fast: Fast = EXACT, **changes) -> Tensor:
    settings, told = replace(SETTINGS, fast=fast, **changes), conditions()
    timesteps = settings.timesteps()
    denoisers = [
        branch_denoiser(
            UNET,
            replace(told, context=context),
            timesteps,
            together=settings.together,
            windows_at=settings.windows_at(FRAMES, OFFSETS),
            deep=DeepFeatures(timesteps, fast.reuse_every),
        )
        for context in (told.context, told.context[1:])
    ]
    noise = normal(1, 4, FRAMES, HEIGHT, WIDTH, seed=3)
    return sample_clip(denoisers[0], noise, settings, OFFSETS, alone=denoisers[1])


class Calls:
    """How often the middle of the network ran, and how many rows came out of its finest level."""

    def __enter__(self) -> Calls:
        self.middle = self.rows = 0
        self.hooks = [
            UNET.mid_block.register_forward_hook(lambda *_: setattr(self, "middle", self.middle + 1)),
            UNET.conv_out.register_forward_hook(lambda _, x, y: setattr(self, "rows", self.rows + len(y))),
        ]
        return self

    def __exit__(self, *_) -> None:
        for hook in self.hooks:
            hook.remove()


@pytest.mark.parametrize("together", [True, False])
def test_reuse_runs_the_coarse_levels_in_some_steps(together: bool) -> None:
    """The windows move from step to step; frames keep what any window made of them."""
    with Calls() as whole:
        exact = run(together=together)
    with Calls() as some:
        near = run(Fast(reuse_every=2), together=together)
    assert some.middle == whole.middle / 2 and some.rows == whole.rows
    off = (near - exact).pow(2).mean().sqrt() / exact.std()
    assert 0 < off < 0.35
    assert torch.equal(run(together=together), exact), "the network is as it was"


def test_taken_in_the_same_step_deep_features_change_nothing() -> None:
    features, told = DeepFeatures([500, 499], 2), conditions()
    x, window = normal(1, 4, 5, HEIGHT, WIDTH, seed=5), [[0, 1, 2, 3]]
    context = told.context[:1]
    with torch.no_grad():
        whole = UNET(x, 500, context, deep=features.at(500, [0], window))
        finest = UNET(x, 500, context, deep=features.at(499, [0], window))
        assert torch.equal(whole, UNET(x, 500, context))
    torch.testing.assert_close(finest, whole, rtol=0, atol=1e-5)


def test_guidance_in_part_of_the_steps_runs_fewer_branches() -> None:
    with Calls() as whole:
        exact = run()
    with Calls() as part:
        near = run(Fast(guided_until=0.5))
    assert part.rows == 0.75 * whole.rows
    assert not torch.equal(near, exact)


@pytest.mark.parametrize("solver", ["dpmpp_2m", "unipc"])
def test_other_solvers_run_to_a_finite_clip(solver: str) -> None:
    assert torch.isfinite(run(Fast(solver=solver))).all()


@pytest.mark.slow  # compiling takes 20 seconds
def test_compiled_is_the_same() -> None:
    settings = {"steps": 1}
    plain = run(**settings)
    with compiled([UNET], COMPILED, "eager"):
        torch.testing.assert_close(run(**settings), plain, rtol=1e-4, atol=1e-4)
    assert torch.equal(run(**settings), plain)
