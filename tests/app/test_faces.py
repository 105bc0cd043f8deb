"""S-Face maps made from poses: where the face lands, and what the fidelities do with a driving frame."""

from __future__ import annotations

import numpy as np
import pytest
from xdyna_unianimate.app.faces import maps_in_place, maps_on_reference, on_canvas
from xdyna_unianimate.pose_align.pose import PoseSequence
from xdyna_unianimate.pose_align.skeleton import FACE

SHAPE = np.random.default_rng(5).uniform(-1, 1, (68, 2))


def poses(centres: list[tuple[float, float]], radius: float, canvas: tuple[int, int]) -> PoseSequence:
    """Nothing but faces around the centres."""
    points, scores = np.zeros((len(centres), 134, 2)), np.zeros((len(centres), 134), np.float32)
    for frame, centre in enumerate(centres):
        points[frame, FACE], scores[frame, FACE] = SHAPE * radius + centre, 0.9
    return PoseSequence(points, scores, canvas)


def frames(count: int, canvas: tuple[int, int]) -> list[np.ndarray]:
    return [np.full((canvas[1], canvas[0], 3), 200, np.uint8)] * count


def middle(picture: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(picture.any(-1))
    return np.array([columns.min() + columns.max() + 1, rows.min() + rows.max() + 1]) / 2


def test_maps_follow_the_aligned_head_in_the_cropped_reference():
    driving = poses([(30, 30), (40, 34)], 6, (80, 60))
    # A wide reference: X-Dyna cuts out its middle 100 x 100, which becomes 50 x 50.
    aligned = poses([(150, 60), (160, 50)], 20, (300, 100))
    maps = maps_on_reference(frames(2, (80, 60)), driving, aligned, (50, 50))
    assert maps.whole.shape == (2, 50, 50, 3) and maps.found.all()
    for frame, centre in enumerate([(25, 30), (30, 25)]):
        assert np.abs(middle(maps.local[frame]) - centre).max() < 6


def test_one_reference_pose_moves_all_frames_alike():
    driving = poses([(30, 30), (40, 30)], 6, (80, 60))
    maps = maps_on_reference(frames(2, (80, 60)), driving, poses([(20, 25)], 6, (50, 50)), (50, 50))
    moved = middle(maps.local[1]) - middle(maps.local[0])
    assert np.allclose(moved, (10, 0), atol=1)


def test_in_place_the_driving_frame_is_cropped_as_published():
    """X-Dyna spec 9.3: of what is cut from a tall frame a quarter goes above."""
    driving = poses([(30, 50)], 6, (60, 120))
    maps = maps_in_place(frames(1, (60, 120)), driving, (30, 30))
    assert maps.whole.shape == (1, 30, 30, 3)
    box = maps.locations[0].box
    assert box[0] < 15 < box[2] and box[1] < (50 - 15) / 2 < box[3]


def test_a_lost_face_is_held_or_black():
    driving = poses([(30, 30), (30, 30)], 6, (60, 60))
    lost = PoseSequence(driving.points, driving.scores * np.array([[1.0], [0.0]]), driving.canvas)
    robust, original = (maps_in_place(frames(2, (60, 60)), lost, (60, 60), f) for f in ("robust", "original"))
    assert robust.whole[1].any() and not original.whole[1].any()
    assert np.array_equal(robust.whole[0], original.whole[0])


def test_no_face_is_a_sentence():
    driving = poses([(30, 30)], 6, (60, 60))
    nobody = PoseSequence(driving.points, driving.scores * 0, driving.canvas)
    with pytest.raises(ValueError, match="No face was found"):
        maps_on_reference(frames(1, (60, 60)), nobody, driving, (60, 60))


def test_poses_change_their_resolution():
    small = on_canvas(poses([(30, 30)], 6, (60, 60)), (30, 20))
    assert small.canvas == (30, 20) and np.allclose(small.points[0, FACE], (SHAPE * 6 + 30) * (0.5, 1 / 3))
