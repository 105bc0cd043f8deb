"""Context windows and their averaging (UniAnimate spec 6, X-Dyna spec 8.4)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from xdyna_unianimate.video_core.windows import (
    anchored_windows,
    fuse_weights,
    open_windows,
    uniform_windows,
    windowed,
)

sizes = st.integers(2, 40).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


def first_and_last(windows: list[list[int]]) -> list[tuple[int, int]]:
    return [(window[0], window[-1]) for window in windows]


def test_the_examples_of_the_specification() -> None:
    assert first_and_last(anchored_windows(71, 32, 8)) == [(0, 31), (24, 55), (39, 70)]
    assert len(anchored_windows(600, 32, 8)) == 25
    closed = uniform_windows(192, 16, 4)
    assert len(closed) == 16 and sum(map(len, closed)) == 256
    assert closed[-1] == [180, 181, 182, 183, 184, 185, 186, 187, 188, 189, 190, 191, 0, 1, 2, 3]
    assert len(uniform_windows(20, 16, 4)) == 2


def test_the_offset_turns_a_closed_loop() -> None:
    plain, turned = uniform_windows(20, 16, 4), uniform_windows(20, 16, 4, offset=7)
    assert turned == [[(frame + 7) % 20 for frame in window] for window in plain]


@pytest.mark.parametrize("frames", range(1, 33))
def test_a_clip_that_fits_is_one_window_in_natural_order(frames: int) -> None:
    """F (UniAnimate spec 6): the original repeats frames, runs backwards or stops; K: no offset turns it."""
    natural = [list(range(frames))]
    assert anchored_windows(frames, 32, 8) == natural
    assert open_windows(frames, 32, 8, offset=5) == natural
    assert uniform_windows(frames, 32, 8, offset=5) == natural


@given(frames=st.integers(1, 150), size_overlap=sizes, offset=st.integers(0, 60))
@settings(max_examples=200, deadline=None)
def test_open_clips_never_wrap_and_lose_no_frame(
    frames: int, size_overlap: tuple[int, int], offset: int
) -> None:
    size, overlap = size_overlap
    for windows in (
        anchored_windows(frames, size, overlap),
        open_windows(frames, size, overlap, offset=offset),
    ):
        assert {frame for window in windows for frame in window} == set(range(frames))
        assert all(window == list(range(window[0], window[-1] + 1)) for window in windows)
        assert {len(window) for window in windows} == {min(frames, size)}
        ends = [window[-1] + 1 for window in windows]
        assert all(end - after[0] >= overlap for end, after in zip(ends, windows[1:], strict=False))


@given(frames=st.integers(1, 150), size_overlap=sizes)
@settings(max_examples=200, deadline=None)
def test_open_windows_without_offset_are_the_anchored_ones(
    frames: int, size_overlap: tuple[int, int]
) -> None:
    size, overlap = size_overlap
    assert open_windows(frames, size, overlap) == anchored_windows(frames, size, overlap)


def test_open_windows_move_their_seams() -> None:
    starts = {
        start for offset in range(12) for start, _ in first_and_last(open_windows(40, 16, 4, offset=offset))
    }
    assert starts == set(range(25))


@given(frames=st.integers(1, 150), size_overlap=sizes, step=st.integers(0, 50), offset=st.integers(0, 30))
@settings(max_examples=200, deadline=None)
def test_closed_loops_hold_every_frame(
    frames: int, size_overlap: tuple[int, int], step: int, offset: int
) -> None:
    size, overlap = size_overlap
    windows = uniform_windows(frames, size, overlap, step=step, offset=offset)
    assert {frame for window in windows for frame in window} == set(range(frames))


@pytest.mark.parametrize("table", [anchored_windows, open_windows, uniform_windows])
@pytest.mark.parametrize(
    ("frames", "size", "overlap", "says"),
    [
        (0, 32, 8, "at least one frame"),
        (50, 32, 32, "overlap by 32"),
        (50, 0, 0, "0 frames"),
        (50, 8, -1, "-1"),
    ],
)
def test_impossible_windows_are_sentences(table, frames: int, size: int, overlap: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        table(frames, size, overlap)


def test_impossible_strides_are_refused() -> None:
    with pytest.raises(ValueError, match="stride"):
        uniform_windows(50, 16, 4, stride=0)


def clip(frames: int = 13) -> Tensor:
    return torch.randn(1, 4, frames, 3, 2, generator=torch.Generator().manual_seed(frames))


def position_dependent(latents: Tensor, t: int, windows: list[list[int]]) -> Tensor:
    """Two branches whose prediction depends on the place in the window, as a real network's does."""
    place = torch.arange(latents.shape[2], dtype=latents.dtype)[:, None, None]
    return torch.stack([latents * (place + t), latents.flip(2) - place])


def naive(latents: Tensor, t: int, windows: list[list[int]], weights) -> Tensor:
    total = torch.zeros(2, *latents.shape[1:])
    visits = torch.zeros(latents.shape[2])
    for window in windows:
        predictions = position_dependent(latents[:, :, window], t, [window])
        for place, frame in enumerate(window):
            total[:, :, frame] += predictions[:, 0, :, place] * weights[len(window)][place]
            visits[frame] += weights[len(window)][place]
    return total / visits[:, None, None]


@pytest.mark.parametrize("fuse", ["uniform", "pyramid"])
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("frames", [1, 5, 6, 13, 20])
def test_windows_are_averaged(frames: int, batch: int, fuse: str) -> None:
    windows = anchored_windows(frames, 6, 2)
    weights = {length: fuse_weights(length, fuse).tolist() for length in range(1, 7)}
    denoise = windowed(position_dependent, lambda t: windows, batch=batch, fuse=fuse)
    torch.testing.assert_close(denoise(clip(frames), 3), naive(clip(frames), 3, windows, weights))


def test_one_window_is_the_networks_own_prediction() -> None:
    x = clip(6)
    denoise = windowed(position_dependent, lambda t: [list(range(6))])
    assert torch.equal(denoise(x, 3), position_dependent(x, 3, [])[:, 0])


def test_windows_may_change_with_the_timestep_and_wrap() -> None:
    asked: list[int] = []

    def windows_at(t: int) -> list[list[int]]:
        asked.append(t)
        return uniform_windows(13, 6, 2, offset=t)

    denoise, weights = windowed(position_dependent, windows_at), {6: [1.0] * 6}
    for t in (5, 2):
        expected = naive(clip(), t, uniform_windows(13, 6, 2, offset=t), weights)
        torch.testing.assert_close(denoise(clip(), t), expected)
    assert asked == [5, 2]


def test_the_network_is_told_which_frames_each_row_concerns() -> None:
    windows, seen = anchored_windows(20, 6, 2), []

    def records(latents: Tensor, t: int, rows: list[list[int]]) -> Tensor:
        seen.append(rows)
        for row, window in zip(latents, rows, strict=True):
            assert torch.equal(row, clip(20)[0, :, window])
        return latents[None]

    windowed(records, lambda t: windows, batch=3)(clip(20), 5)
    assert [len(rows) for rows in seen] == [3, 2] and [w for rows in seen for w in rows] == windows


def test_windows_of_different_lengths_do_not_share_a_call() -> None:
    rows = []

    def records(latents: Tensor, t: int, windows: list[list[int]]) -> Tensor:
        rows.append([len(window) for window in windows])
        return latents[None]

    x = clip(7)
    result = windowed(records, lambda t: [[0, 1, 2], [2, 3, 4], [4, 5], [5, 6]], batch=4)(x, 0)
    assert rows == [[3, 3], [2, 2]]
    torch.testing.assert_close(result, x)


def test_the_number_of_branches_is_the_networks() -> None:
    for branches in (1, 2, 3):
        denoise = windowed(
            lambda x, t, w, n=branches: torch.stack([x] * n), lambda t: anchored_windows(13, 6, 2)
        )
        assert denoise(clip(), 0).shape == (branches, 4, 13, 3, 2)


def test_a_frame_twice_in_a_window_counts_twice() -> None:
    """F (UniAnimate spec 6, X-Dyna spec 11.29): the original keeps one of the two contributions."""
    places = lambda x, t, w: torch.arange(3.0)[:, None, None].expand(x.shape)[None]  # noqa: E731
    result = windowed(places, lambda t: [[0, 1, 0]])(torch.zeros(1, 1, 2, 1, 1), 0)
    assert result.flatten().tolist() == [1.0, 1.0]


def test_half_precision_predictions_are_summed_in_float32() -> None:
    denoise = windowed(lambda x, t, w: x.half()[None], lambda t: anchored_windows(13, 6, 2))
    result = denoise(clip(), 0)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, clip().half().float())


def test_progress_over_windows_may_stop_the_run() -> None:
    calls: list[tuple[int, int]] = []
    denoise = windowed(
        lambda x, t, w: x[None],
        lambda t: anchored_windows(20, 6, 2),
        batch=2,
        on_window=lambda *a: calls.append(a),
    )
    denoise(clip(20), 0)
    assert calls == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("length", "expected"), [(1, [1]), (2, [1, 1]), (5, [1, 2, 3, 2, 1]), (6, [1, 2, 3, 3, 2, 1])]
)
def test_pyramid(length: int, expected: list[int]) -> None:
    assert fuse_weights(length, "pyramid").tolist() == expected


def test_flat_is_another_name_of_uniform() -> None:
    assert torch.equal(fuse_weights(5, "flat"), fuse_weights(5, "uniform"))


def test_unknown_fuse_batch_and_shapes_are_refused() -> None:
    same = lambda x, t, w: x[None]  # noqa: E731
    with pytest.raises(ValueError, match="'ramp'"):
        windowed(same, lambda t: [[0]], fuse="ramp")
    with pytest.raises(ValueError, match="batch 0"):
        windowed(same, lambda t: [[0]], batch=0)
    with pytest.raises(ValueError, match="one clip"):
        windowed(same, lambda t: [[0]])(clip().repeat(2, 1, 1, 1, 1), 0)
    with pytest.raises(ValueError, match=r"frame 1 of 13 \(12 frames"):
        windowed(same, lambda t: [[0]])(clip(), 0)
