"""Window borders and what shows at them."""

import numpy as np
import pytest
from xdyna_unianimate.app.metrics.seams import borders, quarter_drop, seam_score
from xdyna_unianimate.unianimate_core.sample import segments
from xdyna_unianimate.video_core.windows import anchored_windows


def test_borders_are_where_windows_begin_and_end():
    # 71 frames, size 32, overlap 8: 0-31, 24-55, 39-70 (UniAnimate spec 6).
    assert borders(anchored_windows(71, 32, 8), 71) == [23, 31, 38, 55]
    assert borders(anchored_windows(20, 32, 8), 20) == []
    assert borders([[0, 1], [2, 3]], 4) == [1]
    assert borders([list(part) for part in segments(9, 5)], 9) == [3, 4]


@pytest.mark.parametrize(("jump", "score"), [(2.0, 1.0), (5.0, 2.2), (0.75, 0.5)])
def test_seam_score(jump, score):
    changes = np.full(19, 2.0)
    changes[[4, 9]] = jump
    assert seam_score(changes, [4, 9]) == pytest.approx(score)


def test_a_still_clip_is_seamless():
    assert seam_score(np.zeros(9), [4]) == 1


@pytest.mark.parametrize("at", [[], range(9)])
def test_no_score_without_both_kinds(at):
    assert np.isnan(seam_score(np.ones(9), at))


def test_quarter_drop():
    assert quarter_drop(np.r_[np.full(8, 30.0), np.full(16, 5.0), np.full(8, 28.5)]) == pytest.approx(1.5)
    assert quarter_drop(np.arange(8.0)) == -6
    assert quarter_drop(np.r_[np.nan, 4, 0, 0, 0, 0, 1, 1]) == 3
    assert np.isnan(quarter_drop(np.ones(3))) and np.isnan(quarter_drop(np.full(8, np.nan)))
