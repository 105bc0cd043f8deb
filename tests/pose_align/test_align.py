"""Alignment: rules of the robust walk, its report, and that nothing can make it crash or stray."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdyna_unianimate.pose_align.align import BORROWED, MAX_OUTSIDE, Ratio, Source, align
from xdyna_unianimate.pose_align.draw import STYLES, draw
from xdyna_unianimate.pose_align.pose import Origin, PoseError, PoseSequence
from xdyna_unianimate.pose_align.skeleton import BODY, HANDS, LIMBS, Joint

from .people import CANVAS, clip, standing, without

NAMES = [limb.name for limb in LIMBS]


def longer_right_forearm(factor: float) -> PoseSequence:
    """A reference whose right forearm is ``factor`` times as long as the standing person's."""
    points = standing()[None].copy()
    points[0, Joint.R_WRIST] = points[0, Joint.R_ELBOW] + factor * (
        points[0, Joint.R_WRIST] - points[0, Joint.R_ELBOW]
    )
    return PoseSequence(points, np.full((1, 134), 0.9), CANVAS)


def ratio_of(report, name: str):
    return next(ratio for ratio in report.ratios if ratio.name == name)


def test_same_person_stays_where_they_are() -> None:
    driving = clip(3)
    aligned, report = align(driving, driving[:1])
    np.testing.assert_allclose(aligned.points, driving.points, atol=1e-9)
    assert all(ratio.value == pytest.approx(1) for ratio in report.ratios)
    assert (report.shift.x, report.shift.y, report.shift.anchor) == (0, 0, ("neck",))


def test_limb_gets_the_reference_length_and_takes_the_hand_along() -> None:
    aligned, report = align(clip(2), longer_right_forearm(1.5))
    assert ratio_of(report, "right forearm").value == pytest.approx(1.5)
    for frame in range(2):
        np.testing.assert_allclose(aligned.points[frame, Joint.R_WRIST], (140 + 3 * frame, 400), atol=1e-9)
        moved = aligned.points[frame, HANDS["right"]] - clip(2).points[frame, HANDS["right"]]
        np.testing.assert_allclose(moved, np.broadcast_to((-10, 40), (21, 2)), atol=1e-9)


@pytest.mark.parametrize("fidelity", ["robust", "original"])
def test_result_is_in_the_canvas_of_the_reference(fidelity: str) -> None:
    """A landscape driving clip with the same person in it lands on the portrait reference."""
    driving = clip(2, fps=25.0, person_id=3)
    wide = replace(driving, points=driving.points * (2, 0.5) + (100, 0), canvas=(1400, 384))
    aligned, _ = align(wide, clip(1), fidelity=fidelity)
    assert (aligned.canvas, aligned.fps, aligned.person_id) == (CANVAS, 25.0, 3)
    np.testing.assert_allclose(aligned.points[0, BODY], standing()[BODY], atol=1e-9)


def test_first_frame_that_shows_everything_is_measured() -> None:
    """F (spec 10): frame 0 need not show everything."""
    driving = without(clip(4), [0, 1], [Joint.R_WRIST, Joint.L_KNEE])
    aligned, report = align(driving, longer_right_forearm(1.5))
    assert {ratio.frame for ratio in report.ratios} == {2} == {report.shift.frame}
    assert ratio_of(report, "right forearm").value == pytest.approx(1.5)
    assert not aligned.visible()[0, Joint.R_WRIST] and aligned.visible()[0, Joint.R_ELBOW]


def test_limb_by_limb_where_no_frame_shows_everything() -> None:
    driving = without(without(clip(4), [0, 2], Joint.R_WRIST), [1, 3], Joint.L_WRIST)
    _, report = align(driving, longer_right_forearm(1.5))
    assert (ratio_of(report, "left forearm").frame, ratio_of(report, "right forearm").frame) == (0, 1)
    assert ratio_of(report, "right forearm").value == pytest.approx(1.5)


def test_joints_missing_in_the_reference_are_not_waited_for() -> None:
    """A portrait: the driving clip's legs, seen only later, must not delay the measuring of the rest."""
    upper = without(clip(1), 0, [Joint.R_KNEE, Joint.R_ANKLE, Joint.L_KNEE, Joint.L_ANKLE])
    driving = without(clip(3), 0, [Joint.R_ANKLE])
    _, report = align(driving, upper)
    assert ratio_of(report, "neck").frame == 0
    assert ratio_of(report, "left thigh") == Ratio("left thigh", 1.0, Source.DEFAULT)


def test_ratio_is_borrowed_from_the_mirror_then_the_parent() -> None:
    reference = longer_right_forearm(1.5)
    never_left = without(clip(3), slice(None), Joint.L_WRIST)
    borrowed = ratio_of(align(never_left, reference)[1], "left forearm")
    assert (borrowed.source, borrowed.frame, borrowed.clamped) == (Source.MIRROR, None, False)
    assert borrowed.value == pytest.approx(1.5)
    points = reference.points.copy()
    points[0, [Joint.R_ELBOW, Joint.R_WRIST], 1] += 20
    both = [Joint.L_WRIST, Joint.R_WRIST]
    report = align(without(clip(3), slice(None), both), replace(reference, points=points))[1]
    parent, child = ratio_of(report, "right upper arm"), ratio_of(report, "right forearm")
    assert child.source is Source.PARENT and child.value == parent.value != 1


@pytest.mark.parametrize(("factor", "value"), [(3.0, 2.0), (0.2, 0.5)])
def test_borrowed_ratios_are_clamped(factor: float, value: float) -> None:
    report = align(without(clip(3), slice(None), Joint.L_WRIST), longer_right_forearm(factor))[1]
    measured, borrowed = ratio_of(report, "right forearm"), ratio_of(report, "left forearm")
    assert measured.value == pytest.approx(factor), "what was measured is not clamped"
    assert (borrowed.value, borrowed.clamped) == (value, True)


def test_median_over_frames() -> None:
    """One frame in which the arm points at the camera does not count for more than one frame."""
    driving = clip(5)
    points = driving.points.copy()
    points[0, Joint.R_WRIST] = points[0, Joint.R_ELBOW] + (1, 20)
    driving = replace(driving, points=points)
    reference = clip(1)
    first = ratio_of(align(driving, reference)[1], "right forearm")
    median = ratio_of(align(driving, reference, median=True)[1], "right forearm")
    assert first.frame == 0 and first.value > 3
    assert median.frame is None and median.value == pytest.approx(1)


@pytest.mark.parametrize(("turned", "side"), [(2, 1), (3, -1)])
def test_who_turns_round_keeps_a_size_in_the_median(turned: int, side: int) -> None:
    """Shoulders change sides: of four frames' ratios, 1 and -1, the plain median was 0 and the figure a point."""
    driving = without(clip(4), slice(None), [Joint.R_HIP, Joint.L_HIP])
    points = driving.points.copy()
    points[:turned, :, 0] = 2 * points[:turned, [Joint.NECK], 0] - points[:turned, :, 0]
    aligned, report = align(replace(driving, points=points), clip(1), median=True)
    assert ratio_of(report, "x").value == pytest.approx(side), "as most frames have it"
    assert np.ptp(aligned.points[0, [Joint.R_SHOULDER, Joint.L_SHOULDER], 0]) > 10


def test_a_missing_hip_lends_the_scale_of_the_shoulders() -> None:
    """Head-and-shoulders reference, twice as large: the person is enlarged, not stretched."""
    hips_down = [
        Joint.R_HIP,
        Joint.R_KNEE,
        Joint.R_ANKLE,
        Joint.L_HIP,
        Joint.L_KNEE,
        Joint.L_ANKLE,
        *range(18, 24),
    ]
    close_up = without(replace(clip(1), points=standing()[None] * 2 - 250), 0, hips_down)
    aligned, report = align(clip(2), close_up)
    assert report.x.value == pytest.approx(2) and report.y.value == pytest.approx(2)
    assert report.y.source is Source.OTHER_AXIS
    np.testing.assert_allclose(aligned.points[0, Joint.R_HIP], standing()[Joint.R_HIP] * 2 - 250, atol=1e-9)


def test_shoulders_seen_from_the_side_do_not_flatten_the_person() -> None:
    """F: where the original's horizontal ratio would be 1/28, the vertical one serves for both axes."""
    profile = standing()[None].copy()
    profile[0, :, 0] = 256 + (profile[0, :, 0] - 256) / 28
    aligned, report = align(clip(2), PoseSequence(profile, np.full((1, 134), 0.9), CANVAS))
    assert report.x.source is Source.OTHER_AXIS and report.x.value == pytest.approx(1)
    assert np.ptp(aligned.points[0, BODY, 0]) > 100


def test_a_missing_joint_moves_nothing() -> None:
    """F: the original moves what hangs on a missing joint by the literal -1 (spec 10); we bridge it."""
    reference = longer_right_forearm(2.0)
    driving = without(clip(3), 1, [Joint.R_ELBOW])
    aligned, _ = align(driving, reference)
    arm = clip(3).points[1, Joint.R_WRIST] - clip(3).points[1, Joint.R_SHOULDER]
    expected = clip(3).points[1, Joint.R_SHOULDER] + 2 * arm
    np.testing.assert_allclose(aligned.points[1, Joint.R_WRIST], expected, atol=1e-9)
    handless = without(clip(3), 1, [Joint.R_WRIST])
    aligned, _ = align(handless, reference)
    np.testing.assert_allclose(
        aligned.points[1, HANDS["right"]], handless.points[1, HANDS["right"]], atol=1e-9
    )


def test_without_a_neck_something_else_is_laid_on_the_reference() -> None:
    shoulders = [Joint.NECK, Joint.R_SHOULDER, Joint.L_SHOULDER]
    driving = without(clip(3), slice(None), shoulders)
    aligned, report = align(driving, without(replace(clip(1), points=standing()[None] + 40), 0, shoulders))
    assert report.shift.anchor == ("r hip", "l hip")
    np.testing.assert_allclose(aligned.points[0, Joint.R_HIP], standing()[Joint.R_HIP] + 40, atol=1e-9)


def test_original_keeps_the_literals_it_would_draw() -> None:
    """K (spec 11): a missing hand point that its alignment moves into the picture, the original draws."""
    driving = without(replace(clip(1), points=standing()[None] * 10 - 3000), 0, [HANDS["left"].start])
    aligned, _ = align(driving, clip(1), fidelity="original")
    assert aligned.origins[0, HANDS["left"].start] == Origin.LITERAL
    assert aligned.visible()[0, HANDS["left"].start]
    robust, _ = align(driving, clip(1))
    assert not robust.visible()[0, HANDS["left"].start]


@pytest.mark.parametrize(
    ("driving", "reference", "options", "said"),
    [
        (clip(2), without(clip(1), 0, slice(None)), {}, "No person was found in the reference picture"),
        (without(clip(2), slice(None), slice(None)), clip(1), {}, "No person was found in the driving clip"),
        (clip(2)[:0], clip(1), {}, "driving clip has no frames"),
        (clip(2), clip(1), {"fidelity": "exact"}, "one of robust, original; got 'exact'"),
        (clip(2), clip(1), {"fidelity": "original", "median": True}, "frame 0 only"),
    ],
)
def test_bad_input_is_one_sentence(driving, reference, options, said) -> None:
    with pytest.raises(PoseError, match=said):
        align(driving, reference, **options)


def test_person_lost_halfway() -> None:
    aligned, _ = align(without(clip(4), [2, 3], slice(None)), clip(1))
    assert aligned.visible()[:2].all() and not aligned.visible()[2:].any()
    assert not draw(aligned)[2:].any()


def test_report_in_words_numbers_and_a_picture() -> None:
    report = align(clip(3), without(longer_right_forearm(3.0), 0, Joint.L_WRIST))[1]
    text = report.text()
    assert all(f"{name} " in text for name in ("x", "y", *NAMES))
    assert "mirror, clamped" in text and "measured in frame 0" in text and "by neck of frame 0" in text
    numbers = json.loads(report.json())
    assert [row["name"] for row in numbers["ratios"]] == ["x", "y", *NAMES]
    clamped = next(row for row in numbers["ratios"] if row["clamped"])
    assert clamped == {
        "name": "left forearm",
        "value": 2.0,
        "source": "mirror",
        "frame": None,
        "clamped": True,
    }
    picture = report.picture(400)
    assert picture.shape[0] == 400 and picture.dtype == np.uint8
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3)}
    assert {(110, 220, 110), (255, 110, 90), (95, 95, 105)} <= colours, "measured, clamped, reference"


coordinates = st.floats(-2000, 4000, width=32)
sizes = st.integers(1, 3000)


@st.composite
def sequences(draw_from, frames: int) -> PoseSequence:
    """Anything a backend or a file could hand us: wild, mirrored, collapsed, half missing, off the canvas."""
    seed = draw_from(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    points = np.repeat(standing()[None], frames, 0)
    points = points + rng.normal(0, draw_from(st.sampled_from([0.0, 5.0, 80.0, 2000.0])), points.shape)
    scales = st.sampled_from([-1, 0, 1e-6, 0.4, 1, 9])
    points = points * (draw_from(scales), draw_from(scales)) + (
        draw_from(coordinates),
        draw_from(coordinates),
    )
    missing = rng.random((frames, 134)) < draw_from(st.floats(0, 1))
    scores = np.where(missing, 0.0, rng.uniform(0.2, 1.2, (frames, 134)))
    if draw_from(st.booleans()):
        points[:, Joint.R_ELBOW] = points[:, Joint.R_SHOULDER]
    if draw_from(st.booleans()):
        points[rng.random(points.shape) < 0.02] = np.nan
    return PoseSequence(points, scores, (draw_from(sizes), draw_from(sizes)))


@settings(max_examples=150, deadline=None)
@given(sequences(frames=3), sequences(frames=1), st.sampled_from(["robust", "median", "original"]))
def test_never_crashes_never_a_monster(driving: PoseSequence, reference: PoseSequence, rule: str) -> None:
    options = {"median": True} if rule == "median" else {"fidelity": rule}
    if not (driving.visible()[:, BODY].any() and reference.visible()[:, BODY].any()):
        with pytest.raises(PoseError, match="No person"):
            align(driving, reference, **options)
        return
    aligned, report = align(driving, reference, **options)
    assert np.isfinite(aligned.points).all()
    assert all(np.isfinite(ratio.value) for ratio in report.ratios)
    assert np.isfinite([report.shift.x, report.shift.y]).all()
    if rule != "original":
        inside = aligned.points / aligned.canvas
        assert inside.min() >= -MAX_OUTSIDE - 1e-9 and inside.max() <= 1 + MAX_OUTSIDE + 1e-9
        assert np.array_equal(aligned.scores, driving.scores), "nothing seen is lost, nothing is invented"
        for ratio in report.limbs:
            measured = ratio.source is Source.MEASURED
            low, high = (0.1, 10) if measured else BORROWED
            assert low <= ratio.value <= high
    for style in STYLES.values():
        assert draw(aligned, style, (96, 64)).shape == (3, 64, 96, 3)
