"""Following one person: whoever the detector lists where, people who cross, gaps, NaN."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from xdyna_unianimate.pose_align.detector import Detection
from xdyna_unianimate.pose_align.pose import Origin, PoseError, PoseSequence
from xdyna_unianimate.pose_align.track import Track, assign, fill_gaps, follow, iou, smooth, track

from .people import standing

CANVAS = (640, 480)
BODY_SHAPE = np.random.default_rng(7).uniform([-30, -100], [30, 100], (134, 2))
"""One person's points about its middle, in pixels."""


def person(
    x: float, y: float = 240.0, scale: float = 1.0, score: float = 0.9, mark: float = 0.0
) -> Detection:
    """Somebody who stands at (x, y). ``mark`` goes into the last point's score, to tell people apart."""
    points = BODY_SHAPE * scale + [x, y]
    scores = np.full(134, score, np.float32)
    scores[-1] = 0.5 + mark
    return Detection(points, scores, np.concatenate([points.min(0), points.max(0)]), 0.9)


def marks(poses: PoseSequence) -> list[float]:
    """The marks of the people found, frame by frame; -0.5 where nobody was."""
    return [round(float(score) - 0.5, 3) for score in poses.scores[:, -1]]


def marks_of(one: Track) -> list[float]:
    return [round(float(found.scores[-1]) - 0.5, 3) for found in one.people]


# ---- who is who --------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    orders=st.lists(st.permutations(range(3)), min_size=2, max_size=25),
    steps=st.lists(st.tuples(*[st.floats(-12, 12)] * 3), min_size=25, max_size=25),
    choose=st.integers(0, 2),
)
def test_the_order_of_the_list_does_not_matter(
    orders: list[list[int]], steps: list[tuple[float, float, float]], choose: int
) -> None:
    """Three people who wander about their places, listed in another order in every frame."""
    clip = []
    for order, step in zip(orders, steps, strict=False):
        people = [person(100 + 200 * i + step[i], mark=i / 10) for i in range(3)]
        clip.append([people[i] for i in order])
    poses = track(clip, CANVAS, 25.0, choose)
    assert marks(poses) == [choose / 10] * len(clip)
    assert poses.fps == 25.0 and poses.canvas == CANVAS


@settings(max_examples=40, deadline=None)
@given(speed=st.floats(5, 20), apart=st.floats(0, 8), flip=st.lists(st.booleans(), min_size=40, max_size=40))
def test_people_who_cross_keep_their_identity(speed: float, apart: float, flip: list[bool]) -> None:
    """They walk through each other's place at constant speed, even exactly through each other."""
    clip = []
    for number in range(40):
        pair = [
            person(120 + speed * number, 240 + apart, mark=0.1),
            person(120 + speed * 39 - speed * number, 240 - apart, mark=0.2),
        ]
        clip.append(pair[::-1] if flip[number] else pair)
    assert [set(marks_of(one)) for one in follow(clip)] in ([{0.1}, {0.2}], [{0.2}, {0.1}])


@settings(max_examples=150, deadline=None)
@given(
    there=st.lists(st.booleans(), min_size=1, max_size=30),
    beside=st.lists(st.booleans(), min_size=30, max_size=30),
)
def test_lost_frames_have_score_zero_and_the_same_person_comes_back(
    there: list[bool], beside: list[bool]
) -> None:
    """The large person comes and goes; a small one beside it must never take its place."""
    clip = []
    for number, (large, small) in enumerate(zip(there, beside, strict=False)):
        people = [person(150 + 3 * number, scale=2.0, mark=0.1)] if large else []
        clip.append(people + ([person(560, mark=0.2)] if small else []))
    # "Largest" sums over time: the large one must be there long enough to count for more.
    assume(4 * sum(there) > sum(beside[: len(there)]))
    poses = track(clip, CANVAS, choose="largest")
    assert (poses.scores.max(axis=1) > 0).tolist() == there
    assert marks(poses) == [0.1 if large else -0.5 for large in there]


def test_a_person_who_returns_far_away_after_long_is_the_same() -> None:
    clip = [[person(100)]] * 5 + [[]] * 30 + [[person(560)]] * 5
    assert len(follow(clip)) == 1


def test_somebody_of_quite_another_size_is_somebody_else() -> None:
    assert len(follow([[person(300)], [], [], [], [person(300, scale=1.5)]])) == 1
    assert len(follow([[person(300)], [], [], [], [person(300, scale=1.7)]])) == 2


@pytest.mark.parametrize("growth, tracks", [(2.4, 1), (2.6, 2)])
def test_a_box_may_grow_more_between_neighbouring_frames(growth: float, tracks: int) -> None:
    """Somebody steps out from behind a table: the points stay, the box becomes larger."""
    one = person(300)
    middle = np.tile((one.box[:2] + one.box[2:]) / 2, 2)
    assert len(follow([[one], [replace(one, box=middle + growth * (one.box - middle))]])) == tracks


def test_who_is_there_comes_before_who_is_lost() -> None:
    """Somebody steps to where another one was last seen."""
    here, gone = person(300, mark=0.1), person(345, mark=0.2)
    tracks = follow([[here, gone], [here], [person(345, mark=0.1)]])
    assert [marks_of(one) for one in tracks] == [[0.1] * 3, [0.2]]


def test_a_jump_within_one_frame_is_somebody_else() -> None:
    assert len(follow([[person(100)], [person(500)]])) == 2


def crowd() -> list[list[Detection]]:
    """Left (small, always), middle (large), right; and a box that flashes up once at the very left."""
    clip = []
    for number in range(12):
        people = [person(340, scale=1.5, mark=0.2), person(560, mark=0.3), person(150, scale=0.8, mark=0.1)]
        if number == 6:
            people.insert(0, person(20, 60, scale=0.3, mark=0.4))
        clip.append(people)
    return clip


@pytest.mark.parametrize(
    "choose, mark",
    [("largest", 0.2), ("leftmost", 0.1), ("rightmost", 0.3), ("centre", 0.2), (0, 0.1), (1, 0.2), (2, 0.3)],
)
def test_choices(choose: str | int, mark: float) -> None:
    assert marks(track(crowd(), CANVAS, choose=choose)) == [mark] * 12


def test_first_is_the_originals_rule() -> None:
    """K: index 0 of every frame, whoever that is (spec 9.4)."""
    assert marks(track(crowd(), CANVAS, choose="first")) == [0.2] * 6 + [0.4] + [0.2] * 5
    assert marks(track([[], *crowd()], CANVAS, choose="first"))[0] == -0.5


def test_person_id_is_the_number_by_first_appearance() -> None:
    clip = [[person(100, mark=0.1)], [person(100, mark=0.1), person(500, scale=1.5, mark=0.2)]]
    clip += [clip[-1]] * 3
    assert track(clip, CANVAS, choose="largest").person_id == 1
    assert track(clip, CANVAS, choose="leftmost").person_id == 0


@pytest.mark.parametrize("choose", ["largest", "first", "leftmost", 0])
def test_nobody_at_all_is_a_sentence(choose: str | int) -> None:
    with pytest.raises(PoseError, match=r"Nobody was found in any of the 3 frame\(s\)\. Take"):
        track([[], [], []], CANVAS, choose=choose)
    with pytest.raises(PoseError, match="no frames"):
        track([], CANVAS, choose=choose)


def test_unknown_choices_are_sentences() -> None:
    with pytest.raises(
        PoseError, match="'tallest'; take largest, leftmost, rightmost, centre, first or a number"
    ):
        track(crowd(), CANVAS, choose="tallest")
    for number in (3, -1):
        with pytest.raises(PoseError, match=f"no person {number}: from the left they are 0 to 2"):
            track(crowd(), CANVAS, choose=number)


def test_a_person_lost_halfway_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        track([[person(100)]] * 3 + [[]] * 2, CANVAS)
    assert "found in 3 of 5 frames" in caplog.text


# ---- NaN ---------------------------------------------------------------------------------------------------

broken_numbers = st.sampled_from([np.nan, np.inf, -np.inf])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_nan_from_a_backend_is_a_missing_point(data: st.DataObject) -> None:
    clip, broken = [], []
    for number in range(6):
        one = person(200 + 5 * number)
        points, scores, box = one.points.copy(), one.scores.copy(), one.box.copy()
        joints = data.draw(st.lists(st.integers(0, 133), max_size=20, unique=True))
        for joint in joints:
            if data.draw(st.booleans()):
                scores[joint] = np.nan
            else:
                points[joint, data.draw(st.integers(0, 1))] = data.draw(broken_numbers)
        if data.draw(st.booleans()):
            box[data.draw(st.integers(0, 3))] = data.draw(broken_numbers)
        clip.append([Detection(points, scores, box, 0.9)])
        broken.append(joints)
    poses = track(clip, CANVAS)
    assert np.isfinite(poses.points).all() and np.isfinite(poses.scores).all()
    for number, joints in enumerate(broken):
        assert set(np.flatnonzero(poses.scores[number] == 0)) == set(joints)


def test_somebody_without_a_single_number_is_nobody() -> None:
    empty = Detection(np.full((134, 2), np.nan), np.full(134, np.nan), np.full(4, np.nan), np.nan)
    with pytest.raises(PoseError, match="Nobody was found"):
        track([[empty]], CANVAS)
    assert marks(track([[empty, person(100)]], CANVAS)) == [0.0]


# ---- assignment --------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(0, 6),
    columns=st.integers(0, 6),
    seed=st.integers(0, 2**32 - 1),
    forbidden=st.floats(0, 0.8),
)
def test_assignment_is_the_cheapest(rows: int, columns: int, seed: int, forbidden: float) -> None:
    random = np.random.default_rng(seed)
    cost = random.random((rows, columns))
    cost[random.random(cost.shape) < forbidden] = 1e6
    pairs = assign(cost)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == min(rows, columns)
    assert sum(cost[pair] for pair in pairs) == pytest.approx(cost[linear_sum_assignment(cost)].sum())


def test_iou() -> None:
    a = np.array([0.0, 0.0, 2.0, 2.0])
    assert iou(a, a) == 1
    assert iou(a, a + 1) == pytest.approx(1 / 7)
    assert iou(a, a + 3) == 0


# ---- gaps --------------------------------------------------------------------------------------------------


def sequence(scores: np.ndarray, points: np.ndarray | None = None) -> PoseSequence:
    frames = len(scores)
    if points is None:
        points = np.random.default_rng(1).uniform(0, 400, (frames, 134, 2))
    return PoseSequence(points, scores, CANVAS, 25.0)


@settings(max_examples=60, deadline=None)
@given(seen=st.lists(st.booleans(), min_size=1, max_size=30), longest=st.integers(0, 6))
def test_short_gaps_are_filled_on_a_line_and_marked(seen: list[bool], longest: int) -> None:
    scores = np.full((len(seen), 134), 0.8, np.float32)
    scores[~np.array(seen), 5] = 0.2
    before = sequence(scores)
    after = fill_gaps(before, longest)
    for number in range(len(seen)):
        left = next((i for i in range(number, -1, -1) if seen[i]), None)
        right = next((i for i in range(number, len(seen)) if seen[i]), None)
        inside = left is not None and right is not None and 0 < right - left - 1 <= longest
        assert after.origins[number, 5] == (Origin.FILLED if inside else Origin.DETECTED)
        if inside:
            share = (number - left) / (right - left)
            line = (1 - share) * before.points[left, 5] + share * before.points[right, 5]
            assert after.points[number, 5] == pytest.approx(line)
            assert after.scores[number, 5] == pytest.approx(0.8)
        else:
            assert np.array_equal(after.points[number, 5], before.points[number, 5])
    others = np.arange(134) != 5
    assert np.array_equal(after.points[:, others], before.points[:, others])
    assert (after.origins[:, others] == Origin.DETECTED).all()


def test_a_filled_score_is_the_lower_neighbours() -> None:
    scores = np.full((3, 134), 0.8, np.float32)
    scores[:, 5] = 0.9, 0.0, 0.4
    assert fill_gaps(sequence(scores)).scores[1, 5] == pytest.approx(0.4)


def test_a_negative_gap_is_refused() -> None:
    with pytest.raises(PoseError, match="got -1"):
        fill_gaps(sequence(np.ones((2, 134))), -1)


# ---- One-Euro ----------------------------------------------------------------------------------------------


def one_euro(
    values: np.ndarray, rate: float, min_cutoff: float, beta: float, derivative_cutoff: float
) -> np.ndarray:
    """The paper's algorithm 1, one number after another."""

    def alpha(cutoff: float) -> float:
        tau = 1 / (2 * np.pi * cutoff)
        return 1 / (1 + tau * rate)

    filtered, speed = [values[0]], 0.0
    for value in values[1:]:
        step = (value - filtered[-1]) * rate
        speed = alpha(derivative_cutoff) * step + (1 - alpha(derivative_cutoff)) * speed
        weight = alpha(min_cutoff + beta * abs(speed))
        filtered.append(weight * value + (1 - weight) * filtered[-1])
    return np.array(filtered)


def test_smoothing_is_the_papers_filter() -> None:
    poses = sequence(np.ones((40, 134)))
    ours = smooth(poses, min_cutoff=0.8, beta=4.0, derivative_cutoff=1.5)
    for joint, axis in ((0, 0), (77, 1)):
        theirs = one_euro(poses.points[:, joint, axis] / CANVAS[1], 25.0, 0.8, 4.0, 1.5) * CANVAS[1]
        assert ours.points[:, joint, axis] == pytest.approx(theirs)


def test_jitter_goes_and_a_jump_stays() -> None:
    jitter = np.random.default_rng(3).normal(0, 1.0, (100, 134, 2))
    still = sequence(np.ones((100, 134)), 200 + jitter)
    assert smooth(still).points[10:].std(axis=0).mean() < 0.6 * still.points[10:].std(axis=0).mean()
    jump = sequence(
        np.ones((30, 134)), np.where(np.arange(30)[:, None, None] < 15, 50.0, 400.0) + jitter[:30]
    )
    assert np.abs(smooth(jump).points[17] - 400).max() < 40


def test_smoothed_joints_are_marked_and_filled_ones_stay_filled() -> None:
    scores = np.full((6, 134), 0.8, np.float32)
    scores[2, 5] = 0
    scores[3:, 6] = 0
    poses = smooth(fill_gaps(sequence(scores)))
    assert poses.origins[:, 4].tolist() == [Origin.DETECTED] + [Origin.SMOOTHED] * 5
    assert poses.origins[2, 5] == Origin.FILLED
    assert poses.origins[3, 5] == Origin.SMOOTHED
    assert poses.origins[3:, 6].tolist() == [Origin.DETECTED] * 3


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_smoothing_never_reaches_across_a_gap(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    scores = np.where(random.random((20, 134)) < share, 0.0, 0.9)
    poses = sequence(scores)
    ours = smooth(poses)
    visible = poses.visible()
    fresh = visible & ~np.vstack([np.zeros((1, 134), bool), visible[:-1]])
    for untouched in (fresh, ~visible):
        assert np.allclose(ours.points[untouched], poses.points[untouched])
        assert (ours.origins[untouched] == Origin.DETECTED).all()
    assert np.array_equal(ours.scores, poses.scores)
    assert np.isfinite(ours.points).all()
    low, high = poses.points[visible].min(initial=1e9), poses.points[visible].max(initial=-1e9)
    assert (ours.points[visible] >= low - 1e-6).all() and (ours.points[visible] <= high + 1e-6).all()


def test_the_size_of_the_picture_does_not_matter() -> None:
    small = sequence(np.ones((20, 134)))
    large = replace(small, points=small.points * 4, canvas=(CANVAS[0] * 4, CANVAS[1] * 4))
    assert smooth(large).points == pytest.approx(smooth(small).points * 4)


@pytest.mark.parametrize("wrong", [{"min_cutoff": 0}, {"derivative_cutoff": -1}, {"beta": -1}])
def test_impossible_cutoffs_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(PoseError, match="One-Euro takes cut-offs above 0"):
        smooth(sequence(np.ones((2, 134))), **wrong)


@pytest.mark.parametrize("value", [1e8, -1e30, 1e308, np.inf, np.nan])
def test_what_is_further_than_any_picture_is_no_observation(value: float) -> None:
    points = standing()
    points[5] = value, 10.0
    person = Detection(points, np.full(134, 0.9), np.array([value, 0, 10.0, 10.0]), 1.0)
    with np.errstate(all="raise", under="ignore"):
        poses = track([[person], [person]], (512, 768))
    assert (poses.scores[:, 5] == 0).all() and (poses.scores[:, :5] > 0).all()


def test_a_box_without_a_size_is_that_of_the_points() -> None:
    flat = Detection(standing(), np.full(134, 0.9), np.array([5.0, 5.0, 5.0 + 5e-324, 6.0]), 1.0)
    hair = Detection(standing(), np.full(134, 0.9), np.array([0.0, 0.0, 5e-324, 5e-324]), 1.0)
    assert (track([[flat], [hair], [flat]], (512, 768)).scores > 0).all()
