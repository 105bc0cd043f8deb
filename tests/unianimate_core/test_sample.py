"""Clips of any length: one piece, windows, chained segments (UniAnimate spec 2.5, 2.6, 6)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from xdyna_unianimate.unianimate_core.sample import (
    SampleSettings,
    branch_denoiser,
    continued,
    sample_clip,
    segments,
)
from xdyna_unianimate.video_core.schedule import strided_timesteps
from xdyna_unianimate.video_core.windows import Windows, anchored_windows

from .tiny import tiny_inputs, tiny_unet


def noise(frames: int) -> Tensor:
    return torch.randn(1, 4, frames, 2, 2, generator=torch.Generator().manual_seed(frames))


def frame_by_frame(latents: Tensor, t: int, windows: Windows) -> Tensor:
    """Two branches that treat every frame by itself, so that windows cannot matter."""
    return torch.stack([latents.cos(), latents.sin() + t / 1000])


class Recorder:
    """A network of one or two branches that notes what it is asked."""

    def __init__(self, branches: int = 2) -> None:
        self.branches = branches
        self.calls: list[Windows] = []

    def __call__(self, latents: Tensor, t: int, windows: Windows) -> Tensor:
        self.calls.append(windows)
        return torch.stack([latents * 0.1] * self.branches)


@pytest.mark.parametrize("frames", [1, 5, 32, 33, 71])
@pytest.mark.parametrize("mode", ["short", "windows"])
def test_windows_of_a_clip(mode: str, frames: int) -> None:
    expected = [list(range(frames))] if mode == "short" else anchored_windows(frames, 32, 8)
    assert SampleSettings(mode=mode).windows(frames) == expected


@pytest.mark.parametrize("frames", [1, 3, 9])
def test_any_number_of_frames(frames: int) -> None:
    """F: the original needs two frames, and in long runs at least a window of them."""
    for mode in ("short", "windows"):
        options = SampleSettings(mode=mode, window=4, overlap=2, steps=3)
        assert sample_clip(frame_by_frame, noise(frames), options).shape == (1, 4, frames, 2, 2)


def test_windows_do_not_change_what_frames_decide_alone() -> None:
    whole = sample_clip(frame_by_frame, noise(9), SampleSettings(steps=4))
    for batch, fuse in ((1, "uniform"), (3, "pyramid")):
        options = SampleSettings(steps=4, mode="windows", window=4, overlap=2, batch=batch, fuse=fuse)
        torch.testing.assert_close(
            sample_clip(frame_by_frame, noise(9), options), whole, atol=1e-4, rtol=1e-4
        )


def test_a_clip_shorter_than_a_window_is_one_window_in_natural_order() -> None:
    """F: the original repeats frames, runs backwards or stops (spec 6)."""
    network = Recorder()
    sample_clip(network, noise(7), SampleSettings(mode="windows", steps=1))
    assert network.calls == [[[0, 1, 2, 3, 4, 5, 6]]]


def test_batches_of_windows() -> None:
    network = Recorder()
    sample_clip(network, noise(20), SampleSettings(mode="windows", window=6, overlap=2, batch=3, steps=1))
    assert [len(call) for call in network.calls] == [3, 2]


@pytest.mark.parametrize("scale", [None, 1, 1.0])
def test_without_guidance_one_branch_runs(scale: float | None) -> None:
    """F: without a scale the original's long sampler fails."""
    for mode in ("short", "windows"):
        options = SampleSettings(guidance=scale, mode=mode, window=4, overlap=2, steps=2)
        assert not options.guided
        assert sample_clip(Recorder(branches=1), noise(6), options).shape == (1, 4, 6, 2, 2)


def test_guidance_of_one_is_the_conditional_branch() -> None:
    cond_only = sample_clip(
        lambda x, t, w: frame_by_frame(x, t, w)[1:], noise(5), SampleSettings(guidance=1, steps=4)
    )
    nearly = sample_clip(frame_by_frame, noise(5), SampleSettings(guidance=1 + 1e-6, steps=4))
    torch.testing.assert_close(cond_only, nearly, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(
        cond_only, sample_clip(frame_by_frame, noise(5), SampleSettings(steps=4)), atol=1e-2
    )


@pytest.mark.parametrize("guidance", [0, 0.5, 2.5, 10])
def test_other_scales_need_both_branches(guidance: float) -> None:
    assert SampleSettings(guidance=guidance).guided


def test_thirty_steps_are_thirty_one_evaluations() -> None:
    """K (spec 12)."""
    network, done = Recorder(), []
    sample_clip(network, noise(2), SampleSettings(), on_step=lambda i, n, *_: done.append((i, n)))
    assert len(network.calls) == 31 and done[-1] == (31, 31)


def test_progress_over_windows() -> None:
    done = []
    options = SampleSettings(mode="windows", window=6, overlap=2, steps=1)
    sample_clip(Recorder(), noise(20), options, on_window=lambda i, n: done.append((i, n)))
    assert done == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_an_unknown_mode_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="'long' was given"):
        SampleSettings(mode="long")


# ---- the network under its conditions ------------------------------------------------------------------


@pytest.fixture(scope="module")
def unet():
    return tiny_unet()


@pytest.mark.parametrize("together", [False, True])
def test_branch_denoiser_is_the_network_on_each_window(unet, together: bool) -> None:
    inputs = tiny_inputs(7)
    x, zero_y = inputs.pop("x"), inputs["zero_y"]
    branches = [unet.encode_conditions(zero_y=zero_y), unet.encode_conditions(**inputs)]
    windows = [[0, 1, 2], [4, 5, 6]]
    views = torch.cat([x[:, :, window] for window in windows])
    ours = branch_denoiser(unet, branches, together)(views, 501, windows)
    for row, window in enumerate(windows):
        told = inputs | {
            "local_image": inputs["local_image"][:, :, window],
            "dwpose": inputs["dwpose"][:, :, [0, *(frame + 1 for frame in window)]],
        }
        torch.testing.assert_close(
            ours[0, row : row + 1], unet(x[:, :, window], 501, zero_y=zero_y), atol=2e-5, rtol=1e-4
        )
        torch.testing.assert_close(
            ours[1, row : row + 1], unet(x[:, :, window], 501, **told), atol=2e-5, rtol=1e-4
        )


def test_conditions_are_computed_once_per_clip(unet, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = tiny_inputs(5)
    x = inputs.pop("x")
    branches = [unet.encode_conditions(zero_y=inputs["zero_y"]), unet.encode_conditions(**inputs)]
    for tower in (unet.dwpose_embedding, unet.randomref_embedding2, unet.local_image_embedding):
        monkeypatch.setattr(tower, "forward", None)
    result = sample_clip(branch_denoiser(unet, branches, False), x, SampleSettings(steps=2))
    assert torch.isfinite(result).all()


# ---- chained segments ----------------------------------------------------------------------------------


@given(frames=st.integers(1, 700), size=st.integers(2, 64))
def test_segments_share_one_frame_and_are_of_nearly_equal_length(frames: int, size: int) -> None:
    parts = segments(frames, size)
    assert parts[0][0] == 0 and parts[-1][-1] == frames - 1
    assert all(before[-1] == after[0] for before, after in zip(parts, parts[1:], strict=False))
    lengths = [len(part) for part in parts]
    assert max(lengths) <= size and max(lengths) - min(lengths) <= 1
    assert len(parts) == max(1, -(-(frames - 1) // (size - 1)))


def test_600_frames_are_20_segments() -> None:
    assert len(segments(600, 32)) == 20


@pytest.mark.parametrize(
    ("frames", "size", "says"), [(0, 32, "at least one frame"), (9, 1, "at least 2 frames")]
)
def test_impossible_segments_are_sentences(frames: int, size: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        segments(frames, size)


def numbered(segment: range, picture: Tensor | None) -> Tensor:
    """'Latents' that say which frame of the clip they are."""
    return torch.tensor([float(frame) for frame in segment]).reshape(1, 1, -1, 1, 1)


@pytest.mark.parametrize("frames", [1, 2, 32, 33, 63, 100])
def test_the_shared_frame_comes_once(frames: int) -> None:
    clip = torch.cat(list(continued(numbered, lambda latents: latents, segments(frames, 32))), dim=2)
    assert clip.flatten().tolist() == list(range(frames))


def test_each_segment_continues_the_last_frame_of_the_one_before() -> None:
    """Its first driving pose is that frame's, so pose and picture agree (spec 2.6)."""
    told: list[tuple[int, Tensor | None]] = []

    def records(segment: range, picture: Tensor | None) -> Tensor:
        told.append((segment[0], picture))
        return numbered(segment, picture)

    list(continued(records, lambda latents: latents + 0.5, segments(63, 32)))
    assert told[0] == (0, None)
    assert [(first, picture.item()) for first, picture in told[1:]] == [(31, 31.5)]


def test_a_given_first_frame_starts_the_chain_and_stays_in_the_clip() -> None:
    told = []
    chain = continued(
        lambda segment, picture: told.append(picture) or numbered(segment, picture),
        lambda x: x,
        segments(40, 32),
        "given",
    )
    assert sum(latents.shape[2] for latents in chain) == 40 and told[0] == "given"


def test_no_picture_is_decoded_after_the_last_segment() -> None:
    decoded = []
    list(continued(numbered, lambda latents: decoded.append(latents) or latents, segments(63, 32)))
    assert len(decoded) == 1


def test_segments_come_as_they_are_finished_and_survive_an_error() -> None:
    def fails_in_the_second(segment: range, picture: Tensor | None) -> Tensor:
        if segment[0]:
            raise RuntimeError("out of memory")
        return numbered(segment, picture)

    kept = []
    with pytest.raises(RuntimeError):
        for latents in continued(fails_in_the_second, lambda x: x, segments(63, 32)):
            kept.append(latents)
    assert kept[0].shape[2] == 32


# ---- a share of the run --------------------------------------------------------------------------------


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 31), (0.5, 16), (0.1, 3), (0.001, 1)])
def test_a_share_of_the_run_is_its_last_steps(strength: float, steps: int) -> None:
    """F: the original always starts from noise alone."""
    settings, clip, seen = SampleSettings(guidance=1), noise(3), []
    begin = settings.timestep_of(strength)
    sample_clip(lambda x, t, windows: torch.stack([seen.append(t) or 0 * x]), clip, settings, begin=begin)
    assert seen == strided_timesteps(30)[-steps:] and seen[0] == begin


@pytest.mark.parametrize("strength", [0, -0.5, 1.01])
def test_a_share_that_is_none_is_a_sentence(strength: float) -> None:
    with pytest.raises(ValueError, match=f"above 0 and at most at 1; {strength}"):
        SampleSettings().timestep_of(strength)
