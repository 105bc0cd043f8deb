"""The choice of frames (UniAnimate spec 2.1)."""

from __future__ import annotations

import pytest
from xdyna_unianimate.unianimate_core.frames import BLACK, choose_frames


@pytest.mark.parametrize(
    ("poses", "length", "interval", "expected"),
    [
        (9, None, 1, list(range(9))),
        (9, None, 4, [0, 4, 8]),
        (9, 3, 2, [0, 2, 4]),
        (9, 32, 2, [0, 2, 4, 6, 8]),
        (1, 32, 1, [0]),
        (9, 1, 5, [0]),
    ],
)
def test_robust_choice(poses: int, length: int | None, interval: int, expected: list[int]) -> None:
    assert choose_frames(poses, length=length, interval=interval) == expected


def test_original_choice_of_a_short_clip_changes_the_interval_and_adds_black_frames() -> None:
    """F (spec 2.1): the default does neither."""
    assert choose_frames(9, length=6, interval=2, fidelity="original") == [0, 1, 2, 3, 4, 5]
    assert choose_frames(3, length=5, fidelity="original") == [0, 1, 2, BLACK, BLACK]


@pytest.mark.parametrize("length", [1, 2, 7, 16])
def test_original_choice_has_the_length_asked_for(length: int) -> None:
    for poses in range(1, 40):
        chosen = choose_frames(poses, length=length, interval=3, fidelity="original")
        assert len(chosen) == length and max(chosen) < poses


@pytest.mark.parametrize(("poses", "length", "interval"), [(0, None, 1), (5, 0, 1), (5, None, 0)])
def test_impossible_choices_are_sentences(poses: int, length: int | None, interval: int) -> None:
    with pytest.raises(ValueError, match="no frames|from 1 up"):
        choose_frames(poses, length=length, interval=interval)
