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
from xdyna_unianimate.video_core.savings import PLAIN_LAYERS, LayerSavings
from xdyna_unianimate.video_core.windows import Windows
from xdyna_unianimate.xdyna_core.reuse import (
    EVERYTHING,
    HINT_FRAMES,
    NOTHING,
    EmbeddedImages,
    OncePerFrame,
    Reuse,
)
from xdyna_unianimate.xdyna_core.sample import (
    Conditions,
    Control,
    SampleSettings,
    Span,
    branch_denoiser,
    sample_clip,
)

from ..fakes.memory import no_room
from .test_sample import pictures
from .tiny import CONFIG, normal, tiny_controlnet, tiny_unet

FRAMES, HEIGHT, WIDTH = 10, 4, 6
OFFSETS = (3, 0)
SETTINGS = SampleSettings(steps=2, guidance=3.0, window=4, overlap=2)
CLOSE = {"rtol": 0, "atol": 5e-5}
"""Of latents up to 12."""
SAVINGS = [field.name for field in fields(Reuse) if field.name != "layers"]
LAYER_SAVINGS = [field.name for field in fields(LayerSavings)]
SMALL = LayerSavings(feed_forward=2**9, group=2**11, scores=2**9)
"""Parts so small that this network is computed in many."""
UNET, POSE, FACE = tiny_unet(), tiny_controlnet(3), tiny_controlnet(6)


def conditions(*, one_text: bool = True, spans: tuple[Span, Span] = (Span(), Span(0.7))) -> Conditions:
    context = normal(2, 93, CONFIG.cross_attention_dim, seed=2)
    if one_text:
        context[1, :77] = context[0, :77]
    controls = (Control(POSE, pictures(3, FRAMES), spans[0]), Control(FACE, pictures(6, FRAMES), spans[1]))
    return Conditions(normal(1, 4, 1, HEIGHT, WIDTH, seed=1), context, controls)


@torch.no_grad()
def run(told: Conditions, settings: SampleSettings, unet: nn.Module = UNET) -> Tensor:
    predict = branch_denoiser(
        unet,
        told,
        settings.timesteps(),
        together=settings.together,
        reuse=settings.reuse,
        windows_at=settings.windows_at(FRAMES, OFFSETS),
    )
    return sample_clip(predict, normal(1, 4, FRAMES, HEIGHT, WIDTH, seed=3), settings, OFFSETS)


@contextmanager
def rows_through(*networks: nn.Module) -> Iterator[Counter[str]]:
    """How many pictures (or, of the embedding, control images) went through each module, by class name."""
    seen: Counter[str] = Counter()

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        seen[type(module).__name__] += len(x) * (x.shape[2] if x.ndim == 5 else 1)

    hooks = [network.register_forward_pre_hook(count) for network in networks]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("one_text", [True, False])
@pytest.mark.parametrize("loop", [True, False])
def test_all_savings_at_once(together: bool, batch: int, one_text: bool, loop: bool) -> None:
    told, settings = (
        conditions(one_text=one_text),
        replace(SETTINGS, together=together, batch=batch, loop=loop),
    )
    plain = run(told, replace(settings, reuse=NOTHING))
    torch.testing.assert_close(run(told, settings), plain, **CLOSE)


@pytest.mark.parametrize("saving", SAVINGS)
def test_each_saving_alone_and_all_but_it(saving: str) -> None:
    told = conditions()
    plain = run(told, replace(SETTINGS, reuse=NOTHING))
    for reuse in (replace(NOTHING, **{saving: True}), replace(EVERYTHING, **{saving: False})):
        torch.testing.assert_close(run(told, replace(SETTINGS, reuse=reuse)), plain, **CLOSE)


@pytest.mark.parametrize("saving", LAYER_SAVINGS)
def test_each_saving_of_the_layers_alone(saving: str) -> None:
    told = conditions()
    layers = replace(PLAIN_LAYERS, **{saving: getattr(SMALL, saving)})
    plain = run(told, replace(SETTINGS, reuse=NOTHING))
    torch.testing.assert_close(
        run(told, replace(SETTINGS, reuse=replace(NOTHING, layers=layers))), plain, **CLOSE
    )


@pytest.mark.parametrize("together", [True, False])
def test_everything_in_small_parts(together: bool) -> None:
    told, settings = conditions(one_text=False), replace(SETTINGS, together=together, batch=2)
    plain = run(told, replace(settings, reuse=NOTHING))
    torch.testing.assert_close(run(told, replace(settings, reuse=Reuse(layers=SMALL))), plain, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_in_half_precision_all_savings_stay_within_its_rounding(dtype: torch.dtype) -> None:
    """As near to float32 as the published order of work, whose norms are in float32."""
    told = conditions()
    truth = run(told, replace(SETTINGS, reuse=NOTHING))
    less = [replace(control, network=deepcopy(control.network).to(dtype)) for control in told.controls]
    told, unet = replace(told, controls=tuple(less)), deepcopy(UNET).to(dtype)
    plain, ours = (run(told, replace(SETTINGS, reuse=reuse), unet) - truth for reuse in (NOTHING, EVERYTHING))
    assert 0 < ours.pow(2).mean() <= 1.5 * plain.pow(2).mean()
    assert (ours - plain).abs().max() <= 2 * plain.abs().max()


def test_a_control_of_part_of_the_run() -> None:
    for spans in [(Span(), Span(1, 0.5, 1)), (Span(1, 0, 0.5), Span(0)), (Span(0), Span(0))]:
        told = conditions(spans=spans)
        torch.testing.assert_close(run(told, SETTINGS), run(told, replace(SETTINGS, reuse=NOTHING)), **CLOSE)


def test_single_branch() -> None:
    told = conditions()
    told, settings = replace(told, context=told.context[1:]), replace(SETTINGS, guidance=0.5)
    torch.testing.assert_close(run(told, settings), run(told, replace(settings, reuse=NOTHING)), **CLOSE)


# -- how much work is left ---------------------------------------------------------------------------------


def slots(settings: SampleSettings) -> int:
    """Frames of all windows of all steps."""
    return sum(len(window) for offset in OFFSETS for window in settings.windows(FRAMES, offset))


@pytest.mark.parametrize(
    ("reuse", "passes"),
    [
        (NOTHING, lambda: 2 * slots(SETTINGS)),
        (replace(NOTHING, branches=True), lambda: slots(SETTINGS)),
        (replace(NOTHING, frames=True), lambda: 2 * 2 * FRAMES),
        (EVERYTHING, lambda: 2 * FRAMES),
    ],
    ids=["published", "branches", "frames", "everything"],
)
@pytest.mark.parametrize("together", [True, False])
def test_controlnets_run_once_per_frame_and_step(reuse: Reuse, passes, together: bool) -> None:
    if not together and reuse == replace(NOTHING, branches=True):
        pytest.skip("branches that run apart share through the frames")
    with rows_through(POSE) as seen:
        run(conditions(), replace(SETTINGS, reuse=reuse, together=together))
    assert seen["ControlNet"] == passes()


def test_different_texts_share_no_controlnet() -> None:
    with rows_through(POSE) as seen:
        run(conditions(one_text=False), SETTINGS)
    assert seen["ControlNet"] == 2 * 2 * FRAMES


def test_control_images_are_embedded_once() -> None:
    with rows_through(POSE.net.controlnet_cond_embedding) as seen:
        run(conditions(), SETTINGS)
    assert list(seen.values()) == [FRAMES]


def test_both_branches_share_what_precedes_the_tokens() -> None:
    first, second = UNET.down_blocks[0].resnets[0], UNET.up_blocks[-1].resnets[0]
    for reuse, rows in ((EVERYTHING, 1), (NOTHING, 2)):
        windows = sum(len(SETTINGS.windows(FRAMES, offset)) for offset in OFFSETS)
        with rows_through(first) as early, rows_through(second) as late:
            run(conditions(), replace(SETTINGS, reuse=reuse))
        assert early["ResnetBlock"] == rows * windows * (1 + SETTINGS.window)
        assert late["ResnetBlock"] == 2 * windows * (1 + SETTINGS.window)


def test_context_is_projected_once() -> None:
    projection = UNET.mid_block.attentions[0].transformer_blocks[0].attn2.to_k_ip
    for reuse, calls in ((EVERYTHING, 1), (NOTHING, sum(len(SETTINGS.windows(FRAMES, o)) for o in OFFSETS))):
        seen = []
        hook = projection.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs))
        run(conditions(), replace(SETTINGS, reuse=reuse))
        hook.remove()
        assert len(seen) == calls


# -- what is kept ------------------------------------------------------------------------------------------


@torch.no_grad()
def test_only_as_many_embedded_images_are_kept_as_there_is_room_for() -> None:
    images = pictures(3, FRAMES)
    one = POSE.embed(images.at([0])).nbytes
    embedded = EmbeddedImages(POSE, images, limit=2 * one)
    for frames, passes in ([4, 5, 6], 3), ([4, 6, 5, 6], 1), ([5, 4], 0):
        with rows_through(POSE.net.controlnet_cond_embedding) as seen:
            ours = embedded.at(frames, torch.device("cpu"))
        assert sum(seen.values()) == passes
        torch.testing.assert_close(ours, POSE.embed(images.at(frames)), **CLOSE)


def test_the_memory_of_small_embedded_images_does_not_grow_with_the_clip() -> None:
    """24 kB a frame at 64 x 96, until 128 MB were full: most of what a long clip's memory grew by."""
    frames = 2 * HINT_FRAMES
    embedded = EmbeddedImages(POSE, pictures(3, frames), limit=2**40)
    for start in range(0, frames, 16):
        embedded.at(range(start, start + 16), torch.device("cpu"))
    assert len(embedded._kept) == HINT_FRAMES


def test_a_frame_is_dropped_after_its_last_use() -> None:
    windows: Windows = [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 0, 1]]
    asked: list[list[int]] = []
    compute = branchless(asked)
    frames = OncePerFrame(compute, lambda t, row: Counter(frame for window in windows for frame in window))
    clip = normal(1, 4, 6, HEIGHT, WIDTH)
    for t in (9, 5):
        kept = []
        for window in windows:
            ours = frames(clip[:, :, window], t, window, 0)
            assert torch.equal(ours.mid, clip[:, :, window])
            kept.append(sorted(frames._known[0].frames) if 0 in frames._known else [])
        assert kept == [[0, 1, 2, 3], [0, 1, 4, 5], []]
    assert asked == [[0, 1, 2, 3], [4, 5]] * 2


def branchless(asked: list[list[int]]):
    """Residuals that are the latents themselves; keeps a list of the frames that it was asked for."""
    from xdyna_unianimate.xdyna_core.controlnet import Residuals

    def compute(latents: Tensor, t: int, frames: list[int], row: int) -> Residuals:
        asked.append(frames)
        return Residuals((latents,), latents)

    return compute


@pytest.mark.parametrize(
    "network", [UNET.conv_out, POSE.net.controlnet_mid_block], ids=["unet", "ControlNet"]
)
@pytest.mark.parametrize(("first", "times"), [(0, 1), (1, 1), (2, 4)])
def test_memory_that_runs_out_costs_speed_alone(network: nn.Module, first: int, times: int) -> None:
    told, settings = conditions(), replace(SETTINGS, together=True, batch=2)
    whole = run(told, settings)
    with no_room(network, first, times) as rows:
        torch.testing.assert_close(run(told, settings), whole, **CLOSE)
    assert len(rows) > first + times
