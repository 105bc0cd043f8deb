"""Choice of frames, crops and control images: what no golden tells apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from xdyna_unianimate.xdyna_core import frames


@pytest.mark.parametrize(
    ("available", "length", "stride", "expected"),
    [
        (5, None, 1, [0, 1, 2, 3, 4]),
        (5, 3, 1, [0, 1, 2]),
        (5, 9, 1, [0, 1, 2, 3, 4]),  # F is the number actually read
        (9, None, 2, [0, 2, 4, 6, 8]),
        (9, 3, 2, [0, 2, 4]),
        (9, 16, 4, [0, 4, 8]),
        (1, 16, 7, [0]),
    ],
)
def test_plain_mode_counts_with_the_stride(available, length, stride, expected) -> None:
    assert frames.choose_frames(available, length=length, stride=stride) == expected


def test_face_mode_applies_the_stride() -> None:
    """F of quirk 12, and what the original does instead: as many frames, but consecutive."""
    assert frames.choose_frames(9, stride=2, driving_frames=9) == [0, 2, 4, 6, 8]
    assert frames.choose_frames(9, stride=2, driving_frames=9, fidelity="original") == [0, 1, 2, 3, 4]
    assert frames.choose_frames(9, stride=2, fidelity="original") == [0, 2, 4, 6, 8]


def test_driving_clip_too_short_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="driving clip has 8 frames, but frame 8 is needed"):
        frames.choose_frames(9, stride=2, driving_frames=8)
    assert frames.choose_frames(9, stride=2, length=4, driving_frames=8) == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("arguments", "words"), [((0, 1, 1), "no frames"), ((3, 0, 1), "length"), ((3, 1, 0), "stride")]
)
def test_impossible_choices(arguments, words) -> None:
    available, length, stride = arguments
    with pytest.raises(ValueError, match=words):
        frames.choose_frames(available, length=length, stride=stride)


@given(
    st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    st.tuples(st.integers(8, 2048), st.integers(8, 2048)),
)
def test_crops_lie_inside_and_have_the_shape(source, target) -> None:
    for crop in (frames.reference_crop, frames.driving_crop):
        left, top, width, height = crop(source, target)
        assert left >= 0 and top >= 0 and width >= 1 and height >= 1
        assert left + width <= source[0] and top + height <= source[1]
        assert width == source[0] or height == source[1]
        # One pixel of truncation is all that the shape may be off by.
        wanted = height * target[0] / target[1]
        assert abs(width - wanted) <= max(1, target[0] / target[1]) + 1e-6


def test_pose_frames_take_the_crop_of_their_driving_frame() -> None:
    pose = np.arange(40 * 20 * 3, dtype=np.uint8).reshape(40, 20, 3)
    driving = np.zeros((30, 20, 3), np.uint8)
    left, top, width, height = frames.driving_crop((20, 30), (16, 16))
    ours = frames.fit_driving(pose, (20, 20), like=driving)
    assert (left, top, width, height) == (0, 2, 20, 20)
    assert np.array_equal(ours, pose[2:22])


def clip_of(*levels: int) -> list[np.ndarray]:
    return [np.full((8, 8, 3), level, np.uint8) for level in levels]


def test_min_max_is_taken_over_the_whole_clip() -> None:
    """K of quirk 5: one minimum and maximum for all frames and channels."""
    clip = clip_of(50, 100, 150)
    clip[1][..., 2] = 250
    images = frames.control_images(clip, (8, 8)).at([0, 1, 2])
    assert images.shape == (3, 3, 8, 8)
    assert torch.allclose(images[:, 0, 0, 0], torch.tensor([0.0, 0.25, 0.5]))
    assert torch.allclose(images[:, 2, 0, 0], torch.tensor([0.0, 1.0, 0.5]))


def test_images_of_a_window_equal_those_of_the_clip() -> None:
    rng = np.random.default_rng(0)
    control = frames.control_images(rng.integers(20, 200, (5, 9, 7, 3), dtype=np.uint8), (8, 16))
    assert torch.equal(control.at([3, 0]), control.at(range(5))[[3, 0]])


def test_black_and_white_clip_equals_plain_division() -> None:
    clip = clip_of(0, 77, 255)
    stretched = frames.control_images(clip, (8, 8)).at([0, 1, 2])
    plain = frames.control_images(clip, (8, 8), stretch="none").at([0, 1, 2])
    assert torch.allclose(stretched, plain, atol=1e-6)
    assert plain[1, 0, 0, 0].item() == pytest.approx(77 / 255, abs=1e-6)


def test_plain_division_ignores_the_content() -> None:
    grey = frames.control_images(clip_of(100, 150), (8, 8), stretch="none").at([0, 1])
    assert torch.allclose(grey[:, 0, 0, 0], torch.tensor([100 / 255, 150 / 255]))


@pytest.mark.parametrize("level", [0, 90, 255])
def test_constant_clip_is_zero_not_nan(level: int) -> None:
    """F of quirk 5: also in each face map by itself."""
    flat = frames.control_images(clip_of(level, level), (8, 8))
    varied = frames.control_images(clip_of(0, 255), (8, 8))
    assert torch.equal(flat.at([0, 1]), torch.zeros(2, 3, 8, 8))
    face = frames.face_control(flat, varied).at([0, 1])
    assert torch.equal(face[:, :3], torch.zeros(2, 3, 8, 8))
    assert torch.equal(face[:, 3:], varied.at([0, 1]))


def test_face_maps_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 3 frames"):
        frames.face_control(
            frames.control_images(clip_of(0, 1), (8, 8)), frames.control_images(clip_of(0, 1, 2), (8, 8))
        )


def test_empty_control_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="no frames"):
        frames.control_images([], (8, 8))
