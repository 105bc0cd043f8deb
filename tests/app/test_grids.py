"""Labelled columns and contact sheets."""

from __future__ import annotations

import numpy as np
import pytest
from xdyna_unianimate.app import grids


def picture(value: int, height: int = 40, width: int = 30) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_one_picture_stays_as_it_is() -> None:
    assert grids.columns([picture(9)]).shape == (40, 30, 3)


def test_columns_stand_between_black_lines() -> None:
    """Two pixels between and around, as X-Dyna's grid has them (X-Dyna spec 9.6)."""
    row = grids.columns([picture(200), picture(100)])
    assert row.shape == (44, 66, 3)
    assert (row[2:-2, 2:32] == 200).all()
    assert (row[2:-2, 34:64] == 100).all()
    frame = np.ones(row.shape[:2], bool)
    frame[2:-2, 2:32] = frame[2:-2, 34:64] = False
    assert (row[frame] == 0).all()


def test_columns_of_other_heights_keep_their_proportions() -> None:
    assert grids.columns([picture(1), picture(2, 80, 20)]).shape == (44, 2 + 30 + 2 + 10 + 2, 3)


def test_a_label_stands_above_and_leaves_the_picture_alone() -> None:
    out = grids.labelled(picture(7), "a label that is far longer than the picture is wide")
    assert out.shape == (40 + grids.LABEL_HEIGHT, 30, 3)
    assert (out[grids.LABEL_HEIGHT :] == 7).all()
    assert len(np.unique(out[: grids.LABEL_HEIGHT])) > 1


def test_a_grid_video_is_a_stream_as_long_as_its_shortest_clip() -> None:
    read = []

    def clip(count: int):
        for number in range(count):
            read.append(number)
            yield picture(number)

    frames = grids.grid_frames({"a": clip(3), "b": clip(5)}, labels=False)
    assert not read
    first = next(frames)
    assert read == [0, 0]
    assert first.shape == (44, 66, 3)
    assert sum(1 for _ in frames) == 2


def test_labels_of_a_grid_keep_their_size_whatever_the_pictures_had() -> None:
    [frame] = grids.grid_frames({"a": [picture(9)], "b": [picture(9, 400, 300)]})
    top = frame[2 : 2 + grids.LABEL_HEIGHT]
    assert frame.shape == (44 + grids.LABEL_HEIGHT, 66, 3)
    assert (top[:, 2:3] == top[:, 34:35]).all() and (frame[2 + grids.LABEL_HEIGHT : -2, 34:64] == 9).all()


def test_a_sheet_spreads_rows_over_the_clip() -> None:
    clips = {"still": [picture(255)], "clip": [picture(10 * i) for i in range(11)]}
    sheet = grids.contact_sheet(clips, rows=3, height=40)
    row = 40 + 2 * grids.PADDING
    assert sheet.shape == (3 * row + grids.LABEL_HEIGHT, 66, 3)
    tops = [grids.LABEL_HEIGHT, grids.LABEL_HEIGHT + row, grids.LABEL_HEIGHT + 2 * row]
    assert [int(sheet[top + 20, 50, 0]) for top in tops] == [0, 50, 100]
    assert [int(sheet[top + 20, 15, 0]) for top in tops] == [255] * 3


def test_a_sheet_of_nothing_says_so() -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        grids.contact_sheet({})
