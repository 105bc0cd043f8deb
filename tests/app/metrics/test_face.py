"""Face motion of drawn faces, whose mouth, eyes and head move by known amounts."""

import numpy as np
import pytest
from xdyna_unianimate.app.metrics.face import (
    correlation,
    face_motion,
    face_size,
    found_share,
    motion_agreement,
)
from xdyna_unianimate.demo import puppets
from xdyna_unianimate.pose_align.skeleton import FACE

FRAMES = 30
TIME = np.arange(FRAMES)
MOUTH, TURN, TILT = 0.45 + 0.4 * np.sin(TIME / 3), 0.3 * np.sin(TIME / 5), 0.15 * np.cos(TIME / 4)
BLINK = (TIME % 9 < 2).astype(float)


def faces(
    puppet_seed: int = 0, canvas=(256, 384), mouth=MOUTH, turn=TURN, tilt=TILT, blink=BLINK
) -> np.ndarray:
    """[F, 68, 2] of a puppet that makes these movements."""
    puppet, resting = puppets.Puppet.from_seed(puppet_seed), puppets.STILL.angles(5.0)
    rows = zip(mouth, turn, tilt, blink, strict=True)
    angles = ({**resting, "mouth": m, "turn": t, "head": h, "blink": b} for m, t, h, b in rows)
    return np.stack([puppets.joints(puppet, one, canvas)[FACE] for one in angles])


@pytest.mark.parametrize(
    ("series", "wanted"), [("mouth", MOUTH), ("turn", TURN), ("tilt", -TILT), ("eyes", -BLINK)]
)
def test_series_follow_what_was_drawn(series, wanted):
    assert correlation(getattr(face_motion(faces()), series), wanted) > 0.98


def test_size_and_place_drop_out():
    ours, moved = face_motion(faces()), face_motion(3 * faces() + (40, -7))
    for name in ("mouth", "eyes", "turn", "nod", "tilt"):
        np.testing.assert_allclose(getattr(ours, name), getattr(moved, name), atol=1e-9)
    np.testing.assert_allclose(face_size(3 * faces()), 3 * face_size(faces()))


def test_nod_moves_the_nose_between_eyes_and_mouth():
    points = faces()
    points[:, 30, 1] += np.linspace(0, 5, FRAMES)
    assert (np.diff(face_motion(points).nod - face_motion(faces()).nod) > 0).all()


def test_agreement_does_not_care_whose_face_it_is():
    other = motion_agreement(faces(0), faces(7, canvas=(512, 768)))
    assert np.nanmean(other) > 0.95
    np.testing.assert_allclose(motion_agreement(faces(), faces()), 1)


def test_agreement_of_faces_that_move_otherwise():
    against = motion_agreement(faces(), faces(mouth=0.9 - MOUTH, turn=-TURN, tilt=-TILT, blink=1 - BLINK))
    assert np.nanmean(against) < -0.5
    shuffled = np.random.default_rng(0).permutation(FRAMES)
    assert abs(np.nanmean(motion_agreement(faces(), faces()[shuffled]))) < 0.4


def test_missing_points_and_frames():
    points = faces()
    points[3] = np.nan
    points[5, :10] = np.nan
    agreement = motion_agreement(faces(), points)
    assert np.flatnonzero(np.isnan(agreement)).tolist() == [3, 5]
    assert np.nanmin(agreement) > 0.98
    without_jaw = points.copy()
    without_jaw[:, :17] = np.nan
    assert np.isfinite(motion_agreement(faces(), without_jaw)).sum() == FRAMES - 1
    motion = face_motion(points)
    assert np.isnan(motion.mouth[3]) and np.isfinite(motion.mouth[5]) and np.isnan(motion.turn[5])
    still = np.repeat(faces()[:1], FRAMES, axis=0)
    assert np.isnan(motion_agreement(faces(), still)).all()
    assert np.isnan(motion_agreement(faces(), np.full_like(still, np.nan))).all()


@pytest.mark.parametrize("canvas", [(256, 384), (128, 192)])
def test_a_mouth_is_as_far_open_where_the_jaw_was_not_found(canvas):
    slow = faces(canvas=canvas, mouth=0.5 + 0.05 * np.sin(TIME / 3))
    partly = slow.copy()
    partly[::2, :17] = np.nan
    whole, seen = (face_motion(points).mouth for points in (slow, partly))
    np.testing.assert_allclose(seen, whole, rtol=0.02)
    assert correlation(seen, whole) > 0.98


def test_correlation():
    rising = np.arange(10.0)
    assert correlation(rising, 3 * rising + 2) == pytest.approx(1)
    assert correlation(rising, -rising) == pytest.approx(-1)
    assert np.isnan(correlation(rising, np.ones(10)))
    gaps = np.where(rising < 8, np.nan, rising)
    assert np.isnan(correlation(rising, gaps))


def test_found_share():
    wanted = np.array([True, True, True, False])
    assert found_share(wanted, np.array([True, True, False, True])) == pytest.approx(2 / 3)
    assert np.isnan(found_share(~np.ones(3, bool), np.ones(3, bool)))
