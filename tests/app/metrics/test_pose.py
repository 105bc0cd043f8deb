"""Joint errors of poses that were moved, hidden or stretched by a known amount."""

from dataclasses import replace

import numpy as np
import pytest
from xdyna_unianimate.app.metrics.pose import body_height, joint_errors, mean_error, share_within
from xdyna_unianimate.demo import puppets
from xdyna_unianimate.pose_align.pose import PoseSequence
from xdyna_unianimate.pose_align.skeleton import BODY, HEAD, Joint

CANVAS = (256, 384)
PUPPET = puppets.Puppet.from_seed(3)


def poses(frames: int = 4) -> PoseSequence:
    motion = puppets.Motion.from_seed(3)
    points = np.stack([puppets.joints(PUPPET, motion.angles(5.0 * i), CANVAS) for i in range(frames)])
    return PoseSequence(points, np.ones(points.shape[:2]), CANVAS)


def without(sequence: PoseSequence, joints) -> PoseSequence:
    scores = sequence.scores.copy()
    scores[:, list(joints)] = 0
    return replace(sequence, scores=scores)


def shifted(sequence: PoseSequence, by: float, joints=BODY) -> PoseSequence:
    points = sequence.points.copy()
    points[:, joints] += (by, 0)
    return replace(sequence, points=points)


def test_the_height_is_the_puppets():
    true = PUPPET.height * CANVAS[1]
    assert body_height(poses()) == pytest.approx(true, rel=0.1)
    hidden = [Joint.R_ANKLE, Joint.L_ANKLE]
    assert body_height(without(poses(), hidden)) == pytest.approx(true, rel=0.15)


def test_a_person_who_bends_is_not_smaller():
    bent = poses(20)
    points = bent.points.copy()
    points[:10, [Joint.NOSE, *HEAD]] = points[:10, [Joint.R_KNEE]]
    assert body_height(replace(bent, points=points)) == pytest.approx(body_height(poses(20)), rel=0.05)


def test_without_a_body_there_is_no_measure():
    with pytest.raises(ValueError, match="down to the hips"):
        body_height(without(poses(), range(134)))


@pytest.mark.parametrize(("share", "near", "far"), [(0.0, 1, 1), (0.04, 1, 1), (0.07, 0, 1), (0.12, 0, 0)])
def test_a_shift_is_measured_in_body_heights(share, near, far):
    wanted, height = poses(), body_height(poses())
    errors = joint_errors(wanted, shifted(wanted, share * height), height)
    np.testing.assert_allclose(errors, share, atol=1e-9)
    np.testing.assert_allclose(mean_error(errors), share, atol=1e-9)
    assert (share_within(errors, 0.05) == near).all()
    assert (share_within(errors, 0.10) == far).all()


def test_what_was_not_found_misses_and_what_was_not_wanted_does_not_count():
    wanted, height = poses(), body_height(poses())
    arm = [Joint.R_ELBOW, Joint.R_WRIST, Joint.L_WRIST]
    lost = joint_errors(wanted, without(wanted, arm), height)
    assert np.isinf(lost[:, arm]).all()
    np.testing.assert_allclose(share_within(lost, 0.1), 15 / 18)
    np.testing.assert_allclose(mean_error(lost), 0)
    unwanted = joint_errors(without(wanted, arm), shifted(wanted, 99, arm), height)
    np.testing.assert_allclose(share_within(unwanted, 0.05), 1)


def test_frames_without_a_wanted_joint_have_no_number():
    nobody = joint_errors(without(poses(), range(134)), poses(), 100)
    assert np.isnan(share_within(nobody, 0.1)).all() and np.isnan(mean_error(nobody)).all()


@pytest.mark.parametrize("other", [poses(3), replace(poses(), canvas=(9, 9))])
def test_only_frame_by_frame_on_one_canvas(other):
    with pytest.raises(ValueError, match="frame by frame on one canvas"):
        joint_errors(poses(), other, 100)
