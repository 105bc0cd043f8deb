"""Strengths and spans, guidance, windows, and the ways of calling the networks, on tiny random ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from xdyna_unianimate.video_core.schedule import linear_schedule
from xdyna_unianimate.xdyna_core.controlnet import ControlNet
from xdyna_unianimate.xdyna_core.frames import ControlImages, control_images, face_control
from xdyna_unianimate.xdyna_core.reuse import NOTHING
from xdyna_unianimate.xdyna_core.sample import (
    Conditions,
    Control,
    SampleSettings,
    Span,
    branch_denoiser,
    sample_clip,
)
from xdyna_unianimate.xdyna_core.unet import XDynaUNet

from .tiny import CONFIG, normal, tiny_controlnet, tiny_unet

FRAMES, HEIGHT, WIDTH = 6, 4, 6
STEPS = [751, 501, 251, 1]


@pytest.fixture(scope="module")
def unet() -> XDynaUNet:
    return tiny_unet()


@pytest.fixture(scope="module")
def controlnets() -> dict[int, ControlNet]:
    return {channels: tiny_controlnet(channels) for channels in (3, 6)}


def pictures(channels: int, frames: int = FRAMES, seed: int = 0) -> ControlImages:
    rng = np.random.default_rng(seed)
    clip = rng.integers(0, 256, (frames, 8 * HEIGHT, 8 * WIDTH, channels), dtype=np.uint8)
    return ControlImages(clip, np.full(channels, -1, np.float32), np.full(channels, 1, np.float32))


@pytest.fixture(scope="module")
def conditions(controlnets) -> Conditions:
    return Conditions(
        reference=normal(1, 4, 1, HEIGHT, WIDTH, seed=1),
        context=normal(2, 93, CONFIG.cross_attention_dim, seed=2),
        controls=(Control(controlnets[3], pictures(3)), Control(controlnets[6], pictures(6))),
    )


@torch.no_grad()
def predict(unet, conditions, t: int = STEPS[0], windows=None, **options) -> Tensor:
    windows = windows or [list(range(FRAMES))]
    latents = torch.cat([normal(1, 4, FRAMES, HEIGHT, WIDTH, seed=3)[:, :, window] for window in windows])
    return branch_denoiser(unet, conditions, STEPS, **options)(latents, t, windows)


def scaled(span: Span, network) -> Control:
    return Control(network, pictures(network.config.conditioning_channels), span)


# -- strengths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1], ids=["pose", "face"])
def test_control_strength(unet, conditions, index: int) -> None:
    """0 equals leaving the ControlNet out, 1 the original; between, the result moves with the strength."""
    control = conditions.controls[index]

    def at(strength: float) -> Tensor:
        controls = list(conditions.controls)
        controls[index] = replace(control, span=Span(strength))
        return predict(unet, replace(conditions, controls=tuple(controls)))

    without = replace(conditions, controls=conditions.controls[1 - index :][:1])
    assert torch.equal(at(0), predict(unet, without))
    assert torch.equal(at(1), predict(unet, conditions))
    off, half, full = (at(strength) for strength in (0, 0.5, 1))
    assert not torch.allclose(off, half) and not torch.allclose(half, full)
    assert (half - off).norm() < (full - off).norm()


def test_adapter_strength(unet, conditions, monkeypatch) -> None:
    """0 equals a UNet whose adapter outputs nothing, biases included."""
    full, off = (predict(unet, replace(conditions, adapter=Span(s))) for s in (1, 0))
    assert torch.equal(full, predict(unet, conditions))
    layers = [module for name, module in unet.named_modules() if name.endswith("to_out_ff")]
    leaves = [leaf for layer in layers for leaf in (layer.modules()) if isinstance(leaf, torch.nn.Linear)]
    assert leaves
    for leaf in leaves:
        monkeypatch.setattr(leaf.weight, "data", torch.zeros_like(leaf.weight))
        monkeypatch.setattr(leaf.bias, "data", torch.zeros_like(leaf.bias))
    assert torch.allclose(off, predict(unet, conditions), atol=1e-5)
    assert not torch.allclose(off, full, atol=1e-3)


def test_image_prompt_strength(unet, conditions) -> None:
    """0 equals leaving the image tokens out: they can be anything."""
    other = conditions.context.clone()
    other[:, -16:] = normal(2, 16, CONFIG.cross_attention_dim, seed=9)
    off = replace(conditions, image_prompt=Span(0))
    assert torch.equal(predict(unet, off), predict(unet, replace(off, context=other)))
    full = predict(unet, replace(conditions, image_prompt=Span(1)))
    assert torch.equal(full, predict(unet, conditions))
    assert not torch.allclose(full, predict(unet, replace(conditions, context=other)), atol=1e-3)


@pytest.mark.parametrize(
    ("span", "active"),
    [
        (Span(), [1, 1, 1, 1]),
        (Span(0.7), [0.7] * 4),
        (Span(1, 0.5, 1), [0, 0, 1, 1]),
        (Span(1, 0, 0.5), [1, 1, 0, 0]),
        (Span(2, 0.2, 0.6), [0, 2, 2, 0]),
        (Span(1, 0, 0), [0, 0, 0, 0]),
        (Span(1, 1, 1), [0, 0, 0, 0]),
    ],
)
def test_span_counts_steps(span: Span, active: list[float]) -> None:
    assert [span.at(index / 4) for index in range(4)] == active


@pytest.mark.parametrize("what", ["pose", "face", "adapter", "image_prompt"])
def test_span_switches_in_the_run(unet, conditions, what: str) -> None:
    """In the second half only: as without before, as published after."""

    def with_span(span: Span) -> Conditions:
        if what in ("adapter", "image_prompt"):
            return replace(conditions, **{what: span})
        index = ("pose", "face").index(what)
        controls = list(conditions.controls)
        controls[index] = replace(controls[index], span=span)
        return replace(conditions, controls=tuple(controls))

    late, off = with_span(Span(1, 0.5, 1)), with_span(Span(0))
    for t in STEPS[:2]:
        assert torch.equal(predict(unet, late, t), predict(unet, off, t))
    for t in STEPS[2:]:
        assert torch.equal(predict(unet, late, t), predict(unet, conditions, t))


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((-1,), "strength"),
        ((float("nan"),), "strength"),
        ((1, 0.6, 0.5), "start to end"),
        ((1, 0, 1.5), "start to end"),
    ],
)
def test_impossible_spans(numbers, words) -> None:
    with pytest.raises(ValueError, match=words):
        Span(*numbers)


# -- what the networks are given -------------------------------------------------------------------------


def test_reference_goes_in_front_of_every_window_and_comes_out_again(unet, conditions) -> None:
    seen = []
    hook = unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    windows = [[0, 1, 2], [3, 4, 5]]
    try:
        out = predict(unet, conditions, windows=windows, reuse=NOTHING)
    finally:
        hook.remove()
    latents = normal(1, 4, FRAMES, HEIGHT, WIDTH, seed=3)
    assert out.shape == (2, 2, 4, 3, HEIGHT, WIDTH) and seen[0].shape == (4, 4, 4, HEIGHT, WIDTH)
    for row, view in enumerate(seen[0]):
        assert torch.equal(view[:, :1], conditions.reference[0])
        assert torch.equal(view[:, 1:], latents[0][:, windows[row % 2]])


def test_controlnets_see_the_windows_frames_and_the_same_images_in_both_branches(unet, conditions) -> None:
    network, seen = conditions.controls[0].network, []
    hook = network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    windows = [[4, 5, 0], [1, 2, 3]]
    try:
        predict(unet, conditions, windows=windows)
    finally:
        hook.remove()
    clip, frames = normal(1, 4, FRAMES, HEIGHT, WIDTH, seed=3), sum(windows, [])
    with torch.no_grad():
        expected = network.embed(conditions.controls[0].images.at(frames))
    for branch, (latents, _, text, embedding) in enumerate(seen):
        assert torch.equal(latents, clip[:, :, frames])
        assert torch.equal(text, conditions.context[branch : branch + 1, :77])
        assert torch.allclose(embedding, expected, atol=1e-6)
    assert len(seen) == 2


@pytest.mark.parametrize("together", [True, False])
def test_ways_of_calling_agree(unet, conditions, together: bool) -> None:
    windows = [[0, 1, 2, 3], [2, 3, 4, 5]]
    apart = [predict(unet, conditions, windows=[window]) for window in windows]
    ours = predict(unet, conditions, windows=windows, together=together)
    assert torch.allclose(ours, torch.cat(apart, dim=1), atol=1e-5)


def test_single_branch_is_the_conditional_half(unet, conditions) -> None:
    alone = replace(conditions, context=conditions.context[1:])
    assert torch.allclose(predict(unet, alone), predict(unet, conditions)[1:], atol=1e-5)


def test_no_controlnet_at_all(unet, conditions) -> None:
    bare = predict(unet, replace(conditions, controls=()))
    assert bare.shape == (2, 1, 4, FRAMES, HEIGHT, WIDTH)
    assert not torch.allclose(bare, predict(unet, conditions), atol=1e-3)


def test_face_maps_are_all_the_face_net_is_given(unet, conditions) -> None:
    """The black maps of a clip without a face give finite numbers, in the network too."""
    black = control_images(np.zeros((FRAMES, 8 * HEIGHT, 8 * WIDTH, 3), np.uint8), (8 * WIDTH, 8 * HEIGHT))
    controls = (conditions.controls[0], replace(conditions.controls[1], images=face_control(black, black)))
    assert torch.isfinite(predict(unet, replace(conditions, controls=controls))).all()


def test_mismatched_conditions_are_sentences(conditions) -> None:
    conditions.check(FRAMES, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match=r"6 images of 48 x 32 pixels, the video 7 frames of 48 x 32"):
        conditions.check(FRAMES + 1, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="encode the reference at the size of the clip"):
        conditions.check(FRAMES, HEIGHT, WIDTH + 1)


# -- the run ---------------------------------------------------------------------------------------------


def branches(latents: Tensor, t: int, windows) -> Tensor:
    """(uncond, cond) = (0.1 x, 0.3 x): what guidance makes of it can be read off."""
    return torch.stack([0.1 * latents, 0.3 * latents])


def cond_only(latents: Tensor, t: int, windows) -> Tensor:
    return branches(latents, t, windows)[1:]


START = normal(1, 4, 20, 2, 2)


def run(denoise, settings: SampleSettings, offsets=(0,) * 50, **options) -> Tensor:
    return sample_clip(denoise, START, settings, offsets, **options)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 0.99])
def test_guidance_below_one_runs_the_conditional_branch_alone(guidance: float) -> None:
    """F of quirk 3: the original stops with an UnboundLocalError."""
    settings = SampleSettings(steps=4, guidance=guidance)
    assert not settings.guided
    assert torch.equal(run(cond_only, settings), run(cond_only, SampleSettings(steps=4, guidance=0)))


def test_guidance_of_one_runs_both_unless_asked() -> None:
    both, one = (
        SampleSettings(steps=4, guidance=1.0),
        SampleSettings(steps=4, guidance=1.0, both_at_one=False),
    )
    assert both.guided and not one.guided
    assert torch.allclose(run(branches, both), run(cond_only, one), atol=1e-5)
    assert not torch.allclose(run(branches, replace(both, guidance=2.0)), run(branches, both), atol=1e-3)


@pytest.mark.parametrize("guidance", [-0.1, float("nan"), float("inf")])
def test_impossible_guidance(guidance: float) -> None:
    with pytest.raises(ValueError, match="number from 0 up"):
        SampleSettings(guidance=guidance)


def seen_windows(settings: SampleSettings, offsets) -> list[list[list[int]]]:
    seen: dict[int, list[list[int]]] = {}

    def denoise(latents: Tensor, t: int, windows) -> Tensor:
        seen.setdefault(t, []).extend(windows)
        return branches(latents, t, windows)

    run(denoise, settings, offsets)
    return [seen[t] for t in sorted(seen, reverse=True)]


def test_offsets_turn_the_windows_step_by_step() -> None:
    closed = seen_windows(SampleSettings(steps=3), [0, 5, 15])
    assert [windows[0][0] for windows in closed] == [0, 5, 15]
    assert closed[1] == [[(5 + k) % 20 for k in range(16)], [(17 + k) % 20 for k in range(16)]]


def test_an_open_clip_keeps_its_ends_apart() -> None:
    """The option for clips that do not loop: no window wraps, seams still move, every frame is seen."""
    steps = seen_windows(SampleSettings(steps=3, window=8, loop=False), [0, 3, 7])
    for windows in steps:
        assert all(window == list(range(window[0], window[0] + 8)) for window in windows)
        assert {frame for window in windows for frame in window} == set(range(20))
    assert len({tuple(map(tuple, windows)) for windows in steps}) > 1


def test_strength_runs_the_last_steps() -> None:
    steps = []
    run(branches, SampleSettings(steps=5, strength=0.65), on_step=lambda *state: steps.append(state[:2]))
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_too_few_offsets_are_a_sentence() -> None:
    with pytest.raises(ValueError, match="4 steps run and there are 3 window offsets"):
        run(branches, SampleSettings(steps=4), (0, 0, 0))


def test_a_callback_stops_the_run() -> None:
    def stop(done: int, total: int, latents: Tensor, x0: Tensor) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(branches, SampleSettings(steps=4), on_step=stop)


def test_progress_counts_windows() -> None:
    seen = []
    run(branches, SampleSettings(steps=1), on_window=lambda *progress: seen.append(progress))
    assert seen == [(1, 2), (2, 2)]


def test_state_is_float32_whatever_the_network_computes_in(conditions) -> None:
    unet = tiny_unet().to(torch.bfloat16)
    bare = replace(conditions, controls=())
    settings = SampleSettings(steps=2, guidance=2.0)
    denoise = branch_denoiser(unet, bare, settings.timesteps(linear_schedule()))
    with torch.no_grad():
        out = sample_clip(denoise, normal(1, 4, 3, HEIGHT, WIDTH), settings, (0, 0))
    assert out.dtype == torch.float32 and torch.isfinite(out).all()
