"""The pose type, the skeleton's tables, and the original's pose dict."""

from __future__ import annotations

import numpy as np
import pytest
from xdyna_unianimate.pose_align.pose import MISSING, Origin, PoseError, PoseSequence, normalise
from xdyna_unianimate.pose_align.skeleton import BODY20, FEET, HANDS, LIMBS, MIRROR, PARENT, Joint

from .people import CANVAS, clip, without


@pytest.mark.parametrize(
    ("points", "scores", "canvas", "said"),
    [
        ((2, 133, 2), (2, 133), CANVAS, r"\[frames, 134, 2\]; got \[2, 133, 2\]"),
        ((2, 134, 2), (3, 134), CANVAS, r"must be \[2, 134\]"),
        ((2, 134, 2), (2, 134), (0, 768), "positive width and height"),
    ],
)
def test_wrong_shapes_are_one_sentence(points, scores, canvas, said) -> None:
    with pytest.raises(PoseError, match=said):
        PoseSequence(np.zeros(points), np.zeros(scores), canvas)


def test_broken_numbers_become_missing_points() -> None:
    points, scores = clip(1).points.copy(), clip(1).scores.copy()
    points[0, 0], scores[0, 1], scores[0, 2] = np.nan, np.inf, -1
    poses = PoseSequence(points, scores, CANVAS)
    assert not poses.scores[0, :3].any() and np.isfinite(poses.points).all() and poses.scores[0, 3] > 0


def test_slices_keep_everything_and_arrays_cannot_be_written() -> None:
    poses = PoseSequence(
        clip(4).points, clip(4).scores, CANVAS, 8.0, 2, np.full((4, 134), Origin.FILLED, np.uint8)
    )
    part = poses[1:3]
    assert (len(part), part.fps, part.person_id, part.canvas) == (2, 8.0, 2, CANVAS)
    assert (part.origins == Origin.FILLED).all() and np.array_equal(part.points, poses.points[1:3])
    with pytest.raises(ValueError, match="read-only"):
        part.points[0] = 0


def test_arrays_can_lie_elsewhere() -> None:
    poses, places = clip(4), []

    def moved(array: np.ndarray) -> np.ndarray:
        places.append(array.copy())
        return places[-1]

    there = poses.lying(moved)
    assert [there.points is places[0], there.scores is places[1], there.origins is places[2]] == [True] * 3
    assert (there.canvas, there.fps, len(there)) == (poses.canvas, poses.fps, 4)
    assert np.array_equal(there[1:2].points, poses.points[1:2])
    with pytest.raises(ValueError, match="read-only"):
        there.points[0] = 0


def test_pose_dict_at_the_threshold() -> None:
    """K (spec 9.4): at a score of exactly 0.3 the coordinates stay, yet the point does not count as seen."""
    scores = np.full((1, 134), 0.9, np.float32)
    scores[0, Joint.R_ELBOW], scores[0, Joint.L_ELBOW], scores[0, Joint.L_SMALL_TOE] = 0.3, 0.29, 0.3
    scores[0, Joint.R_BIG_TOE] = 0.2
    found = normalise(PoseSequence(clip(1).points, scores, CANVAS))
    assert found.subset[0, Joint.R_ELBOW] == -1 and found.body[0, Joint.R_ELBOW, 0] == 170 / 512
    assert (found.body[0, Joint.L_ELBOW] == MISSING).all()
    left_toes, right_toes = found.body[0, 18], found.body[0, 19]
    assert left_toes[1] == pytest.approx(666 / 768) and found.subset[0, 18] == -1
    assert (right_toes == MISSING).all() and found.subset[0, 19] == -1
    assert found.subset[0, 0] == 0 and found.hands.shape == (1, 2, 21, 2) and found.faces.shape == (1, 68, 2)


def test_toes_need_both() -> None:
    one = normalise(without(clip(1), 0, Joint.L_BIG_TOE))
    assert (one.body[0, 18] == MISSING).all() and one.subset[0, 19] == 19


def test_what_moves_with_a_limb() -> None:
    moved = {limb.name: set(limb.moved) for limb in LIMBS}
    left, right = (set(range(hand.start, hand.stop)) for hand in HANDS.values())
    assert left < moved["left upper arm"] and not left & moved["right upper arm"]
    assert moved["right forearm"] == {Joint.R_WRIST} | right
    feet = set(range(FEET.start, FEET.stop))
    assert moved["left shin"] & feet == {Joint.L_BIG_TOE, Joint.L_SMALL_TOE, Joint.L_HEEL}
    assert BODY20[18] in moved["left shin"] and BODY20[19] in moved["right shin"]
    never = {Joint.NECK, Joint.R_HIP, Joint.L_HIP, *range(24, 92)}
    assert not never & set.union(*moved.values()), "spec 10.2: hips, neck and face are moved by no limb"


def test_mirror_and_parents() -> None:
    assert MIRROR[Joint.R_WRIST] == Joint.L_WRIST and MIRROR[24] == 40 and MIRROR[92] == 113
    for point in range(134):
        seen = {point}
        while point != PARENT[point]:
            point = PARENT[point]
            assert point not in seen, "parents never run in a circle"
            seen.add(point)
        assert point == Joint.NECK


@pytest.mark.parametrize("canvas", [(0, 9), (9, -1), (np.inf, 9), (np.nan, 9), (1e9, 1e9), (9,), (9, 9, 9)])
def test_canvases_that_no_picture_has_are_refused(canvas: tuple) -> None:
    with pytest.raises(PoseError, match="positive width and height"):
        PoseSequence(np.zeros((1, 134, 2)), np.zeros((1, 134)), canvas)


@pytest.mark.parametrize("fps", [0, -25, np.nan, np.inf, 10**400])
def test_rates_that_no_clip_has_are_refused(fps: float) -> None:
    with pytest.raises(PoseError, match="Frames per second"):
        PoseSequence(np.zeros((1, 134, 2)), np.zeros((1, 134)), (9, 9), fps)


def test_origins_that_mean_nothing_are_refused() -> None:
    with pytest.raises(PoseError, match="Origins are numbers"):
        PoseSequence(np.zeros((1, 134, 2)), np.zeros((1, 134)), (9, 9), origins=np.full((1, 134), 260))
