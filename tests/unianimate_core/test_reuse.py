"""Every saving by itself and all of them at once give what the published order of work gives; and less work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn
from xdyna_unianimate.unianimate_core.reuse import EVERYTHING, NOTHING, Pictures, Reuse
from xdyna_unianimate.unianimate_core.sample import (
    SampleSettings,
    branch_denoiser,
    sample_clip,
    settled,
    working_bytes,
)
from xdyna_unianimate.video_core.savings import PLAIN_LAYERS, LayerSavings

from ..fakes.memory import no_room
from .tiny import tiny_inputs, tiny_unet

FRAMES = 7
SETTINGS = SampleSettings(steps=2, guidance=2.5, mode="windows", window=4, overlap=2)
STEPS = len(SETTINGS.timesteps())
WINDOWS = len(SETTINGS.windows(FRAMES))
CLOSE = {"rtol": 0, "atol": 5e-5}
SMALL = LayerSavings(feed_forward=2**9, group=2**11, scores=2**9)
"""Parts so small that this network is computed in many."""
UNET = tiny_unet()


def run(settings: SampleSettings, unet: nn.Module = UNET) -> Tensor:
    inputs = tiny_inputs(FRAMES)
    noise, told = inputs.pop("x"), Pictures(**inputs)
    branches = [Pictures(told.zero_y), told]
    predict = branch_denoiser(unet, branches, settings.together, settings.reuse)
    return sample_clip(predict, noise, settings)


@contextmanager
def calls_of(module: nn.Module) -> Iterator[Counter[str]]:
    """How often a module is called, and on how many rows in all."""
    seen: Counter[str] = Counter()

    def count(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.update(calls=1, rows=len(inputs[0]))

    hook = module.register_forward_pre_hook(count)
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layers", [LayerSavings(), SMALL], ids=["whole", "small parts"])
def test_all_savings_at_once(together: bool, batch: int, layers: LayerSavings) -> None:
    settings = replace(SETTINGS, together=together, batch=batch)
    plain = run(replace(settings, reuse=NOTHING))
    torch.testing.assert_close(run(replace(settings, reuse=Reuse(layers=layers))), plain, **CLOSE)


@pytest.mark.parametrize("saving", ["towers", "context"])
def test_each_saving_alone_and_all_but_it(saving: str) -> None:
    plain = run(replace(SETTINGS, reuse=NOTHING))
    for reuse in (replace(NOTHING, **{saving: True}), replace(EVERYTHING, **{saving: False})):
        torch.testing.assert_close(run(replace(SETTINGS, reuse=reuse)), plain, **CLOSE)


@pytest.mark.parametrize("saving", [field.name for field in fields(LayerSavings)])
def test_each_saving_of_the_layers_alone(saving: str) -> None:
    layers = replace(PLAIN_LAYERS, **{saving: getattr(SMALL, saving)})
    plain = run(replace(SETTINGS, reuse=NOTHING))
    torch.testing.assert_close(run(replace(SETTINGS, reuse=replace(NOTHING, layers=layers))), plain, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_in_half_precision_all_savings_stay_within_its_rounding(dtype: torch.dtype) -> None:
    """As near to float32 as the published order of work, whose norms are in float32."""
    truth, unet = run(replace(SETTINGS, reuse=NOTHING)), deepcopy(UNET).to(dtype)
    plain, ours = (run(replace(SETTINGS, reuse=reuse), unet) - truth for reuse in (NOTHING, EVERYTHING))
    assert 0 < ours.pow(2).mean() <= 1.5 * plain.pow(2).mean()
    assert (ours - plain).abs().max() <= 2 * plain.abs().max()


# -- how much work is left ---------------------------------------------------------------------------------


def test_the_towers_see_every_picture_once() -> None:
    for reuse, pictures in ((EVERYTHING, FRAMES), (NOTHING, STEPS * WINDOWS * SETTINGS.window)):
        with calls_of(UNET.dwpose_embedding) as seen:
            run(replace(SETTINGS, reuse=reuse))
        assert seen["rows"] == pictures


def test_the_transformer_over_frames_stays_with_its_window() -> None:
    with calls_of(UNET.dwpose_embedding_after) as seen:
        run(SETTINGS)
    assert seen["calls"] == STEPS * WINDOWS


def test_context_is_projected_once_per_clip_and_branch() -> None:
    projection = UNET.middle_block[1].transformer_blocks[0].attn2.to_k
    copies = STEPS * WINDOWS * (1 + SETTINGS.window)
    for reuse, rows in ((EVERYTHING, 1), (NOTHING, copies)):
        with calls_of(projection) as seen:
            run(replace(SETTINGS, reuse=reuse))
        assert seen["rows"] == 2 * rows


def test_the_time_embedding_has_one_row() -> None:
    layer = UNET.middle_block[0].emb_layers
    for reuse, rows in ((EVERYTHING, 1), (NOTHING, 1 + SETTINGS.window)):
        with calls_of(layer) as seen:
            run(replace(SETTINGS, reuse=reuse))
        assert seen["rows"] == 2 * STEPS * WINDOWS * rows


# -- guidance halves by budget -----------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "together"), [(2.0, True), (0.5, False), (None, False)])
def test_both_branches_go_together_where_memory_allows(share: float | None, together: bool) -> None:
    auto = replace(SETTINGS, together="auto")
    needed = working_bytes(UNET, 4, 6, FRAMES, replace(SETTINGS, together=True))
    assert working_bytes(UNET, 4, 6, FRAMES, auto) < needed
    free = None if share is None else int(share * needed)
    assert settled(auto, UNET, 4, 6, FRAMES, free).together is together
    assert settled(SETTINGS, UNET, 4, 6, FRAMES, free) == SETTINGS


@pytest.mark.parametrize(("first", "times"), [(0, 1), (1, 1), (1, 2), (2, 4)])
def test_memory_that_runs_out_costs_speed_alone(first: int, times: int) -> None:
    settings = replace(SETTINGS, together=True, batch=2)
    whole = run(settings)
    with no_room(UNET.out[-1], first, times) as rows:
        torch.testing.assert_close(run(settings), whole, **CLOSE)
    assert rows[-1] < rows[first]
