"""Face boxes, lost faces, borders, alignment, and what of the driving identity gets through."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from xdyna_unianimate.video_core.reels import PictureReel
from xdyna_unianimate.xdyna_core import face, frames

SIZE = (120, 160)


def landmarks(centre=(60, 80), scale=40.0, turn: float = 0.0) -> np.ndarray:
    """68 points of a schematic face [68, 2]: jaw, brows, nose, eyes, mouth in iBUG's order.

    turn shifts the inner features sideways, as a head that looks to one side would.
    """
    jaw = [(np.cos(a), np.sin(a)) for a in np.linspace(np.pi, 0, 17)]
    brows = [(x, -0.6) for x in np.linspace(-0.7, 0.7, 10)]
    nose = [(0, y) for y in np.linspace(-0.3, 0.1, 4)] + [(x, 0.2) for x in np.linspace(-0.2, 0.2, 5)]
    eyes = [
        (side + 0.15 * np.cos(a), -0.35 + 0.07 * np.sin(a))
        for side in (-0.4, 0.4)
        for a in np.arange(6) * np.pi / 3
    ]
    mouth = [(0.3 * np.cos(a), 0.55 + 0.12 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 20)]
    points = np.array(jaw + brows + nose + eyes + mouth)
    points[17:, 0] += turn
    return points * scale + centre


def noise_frame(seed: int = 0, size=SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (size[1], size[0], 3), dtype=np.uint8)


LOST = np.full((68, 2), np.nan)


def test_original_and_robust_agree_on_a_face_inside_the_frame() -> None:
    clip = [noise_frame(i) for i in range(3)]
    points = np.stack([landmarks((60 + i, 80), 25) for i in range(3)])
    ours, published = (face.face_maps(clip, points, fidelity=f) for f in ("robust", "original"))
    assert ours.locations == published.locations
    assert np.array_equal(ours.local, published.local) and np.array_equal(ours.whole, published.whole)


def test_lost_face_keeps_the_last_box() -> None:
    """F of quirk 14; the original's maps are black there."""
    clip = [noise_frame(i) for i in range(4)]
    points = np.stack([LOST, landmarks(scale=25), LOST, landmarks((50, 70), 25)])
    ours, published = (face.face_maps(clip, points, fidelity=f) for f in ("robust", "original"))
    assert ours.found.tolist() == [False, True, False, True]
    assert ours.locations[2] == ours.locations[1] != ours.locations[3]
    left, top, right, bottom = ours.locations[2].box
    assert np.array_equal(ours.whole[2][top:bottom, left:right], clip[2][top:bottom, left:right])
    assert not ours.whole[0].any() and not ours.local[0].any()  # no face was seen yet
    assert ours.local[2].any() and not published.local[2].any() and not published.whole[2].any()
    assert published.locations[2].centres == published.locations[1].centres


def test_box_holding_includes_its_sides() -> None:
    points = landmarks(scale=25).round()
    tight = (*points.min(0).astype(int), *points.max(0).astype(int))
    assert face.locate(points, SIZE, previous_box=tight).box == tight
    for side, inward in enumerate((1, 1, -1, -1)):
        smaller = list(tight)
        smaller[side] += inward
        assert face.locate(points, SIZE, previous_box=tuple(smaller)).box != tuple(smaller)


@pytest.mark.parametrize(("value", "rounded"), [(10.5, 10), (11.5, 12), (-0.5, 0), (-1.5, -2), (10.49, 10)])
def test_centres_round_half_to_even(value: float, rounded: int) -> None:
    points = landmarks()
    points[43:48] = value
    assert face.locate(points, SIZE, fidelity="original").centres[0] == (rounded, rounded)


def test_first_point_of_each_group_is_left_out() -> None:
    """K of quirk 15."""
    points = landmarks()
    moved = points.copy()
    moved[[36, 42, 48]] += 3
    assert face.locate(points, SIZE).centres == face.locate(moved, SIZE).centres


def test_windows_at_the_border_are_clipped_not_lost() -> None:
    """F of quirk 15: a negative start empties the original's window, ours shows the part inside."""
    frame = noise_frame()
    location = face.locate(landmarks((12, 80), 40), SIZE)
    eye_x, eye_y = location.centres[1]
    half_width, half_height = location.half_window
    assert eye_x - half_width < 0 < eye_x + half_width
    inside = np.s_[eye_y - half_height : eye_y + half_height, : eye_x + half_width]
    ours, published = (face.paint(frame, location, f)[0] for f in ("robust", "original"))
    assert np.array_equal(ours[inside], frame[inside])
    assert not published[inside].any()


@pytest.mark.parametrize("centre", [(-300, 80), (500, 80), (60, -300), (60, 600), (-140, -160)])
def test_face_outside_the_frame_shows_nothing_foreign(centre) -> None:
    """The original copies most of the frame when a corner stays negative; ours is black."""
    location = face.locate(landmarks(centre, 20), SIZE)
    left, top, right, bottom = location.box
    assert 0 <= left <= SIZE[0] and 0 <= right <= SIZE[0] and 0 <= top <= SIZE[1] and 0 <= bottom <= SIZE[1]
    assert not any(picture.any() for picture in face.paint(noise_frame(), location))


def test_half_hidden_face_is_found_from_its_visible_points() -> None:
    points, scores = landmarks(), np.ones(68)
    scores[[0, 1, 2, 36, 37]] = 0.1
    points[[0, 1, 2, 36, 37]] = 1e6  # coordinates of missing points mean nothing
    seen = face.visible_points(points, scores)
    assert face.face_found(seen)
    left, top, right, bottom = face.locate(seen, (400, 400)).box
    assert right <= 200 and bottom <= 200
    scores[36:42] = 0
    assert not face.face_found(face.visible_points(points, scores))


def test_only_the_three_patches_and_the_box_get_through() -> None:
    """Cross-identity: the driving person may change everywhere else, the maps stay, bit for bit."""
    clip = [noise_frame(i) for i in range(3)]
    points = np.stack([landmarks(scale=25), LOST, landmarks((50, 70), 25)])
    maps = face.face_maps(clip, points)
    outside_box, outside_windows = [], []
    for index, frame in enumerate(clip):
        other = noise_frame(100 + index)
        left, top, right, bottom = maps.locations[index].box
        box = np.zeros(frame.shape, bool)
        box[top:bottom, left:right] = True
        outside_box.append(np.where(box, frame, other))
        outside_windows.append(np.where(maps.local[index] > 0, frame, other))
    again = face.face_maps(outside_box, points)
    assert np.array_equal(again.local, maps.local) and np.array_equal(again.whole, maps.whole)
    assert np.array_equal(face.face_maps(outside_windows, points).local, maps.local)
    # ... and on to the network's own images: nothing outside the box is anything but the clip's black.
    size = frames.control_images(maps.whole, SIZE), frames.control_images(maps.local, SIZE)
    images = frames.face_control(size[1], size[0]).at(range(3)).numpy()
    for index in range(3):
        left, top, right, bottom = maps.locations[index].box
        images[index, :, top:bottom, left:right] = 0
    assert not images.any()


def test_box_and_patches_have_the_published_proportions() -> None:
    points = landmarks((200, 200), 50)
    low, high = points.astype(np.float32).min(0), points.astype(np.float32).max(0)
    side, centre = (high - low).max(), (low + high) / 2
    location = face.locate(points, (400, 400))
    left, top, right, bottom = location.box
    assert np.allclose([centre[0] - left, centre[1] - top], np.array([1.35, 1.25]) * side, atol=1)
    assert np.allclose([right - centre[0], bottom - centre[1]], np.array([1.35, 1.45]) * side, atol=1)
    assert location.half_window == ((right - left) // 8, (bottom - top) // 8)


def test_mismatched_lengths_are_refused() -> None:
    points = np.stack([landmarks()] * 3)
    for count in (0, 2, 4):
        with pytest.raises(ValueError, match="landmarks have 3"):
            face.face_maps([noise_frame()] * count, points)
        with pytest.raises(ValueError, match="landmarks have 3"):
            face.aligned_face_maps([noise_frame()] * count, points, landmarks(), SIZE)
    with pytest.raises(ValueError, match="aligned poses have 2 frames and the driving faces 3"):
        face.aligned_face_maps([noise_frame()] * 3, points, points[:2], SIZE)


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"landmarks \[F, 68, 2\]"):
        face.face_maps([noise_frame()], np.zeros((1, 67, 2)))
    with pytest.raises(ValueError, match="68 landmarks"):
        face.locate(LOST, SIZE)


def test_alignment_lays_mean_and_extent_over_the_target() -> None:
    driving, target = landmarks((30, 40), 20), landmarks((70, 90), 35) * (1.0, 0.8)
    moved = face.align_points(driving, face.alignment_matrix(driving, target))
    assert np.allclose(moved.mean(0), target.mean(0), atol=1e-4)
    assert np.allclose(np.ptp(moved, axis=0), np.ptp(target, axis=0), atol=1e-4)


def test_alignment_uses_points_found_in_both() -> None:
    driving, target = landmarks((30, 40), 20), landmarks((70, 90), 40)
    expected = face.alignment_matrix(driving, target)
    driving[:5], target[60:] = np.nan, np.nan
    assert np.allclose(face.alignment_matrix(driving, target), expected, atol=1e-3)


def test_best_frame_looks_where_the_reference_looks() -> None:
    """F of quirk 28: place and size do not matter, the turn of the head does."""
    turns = [0.3, 0.2, -0.02, -0.3]
    clip = np.stack([landmarks((20 * i, 50), 10 + 5 * i, turn) for i, turn in enumerate(turns)])
    assert face.closest_frame(clip, landmarks((300, 20), 77, 0.0)) == 2
    assert face.closest_frame(clip, landmarks((300, 20), 77, -0.28)) == 3
    clip[2] = np.nan
    assert face.closest_frame(clip, landmarks((300, 20), 77, 0.0)) == 1


def test_no_face_anywhere_is_a_sentence() -> None:
    lost, seen = np.stack([LOST] * 2), np.stack([landmarks()] * 2)
    with pytest.raises(ValueError, match="any frame of the driving video"):
        face.closest_frame(lost, landmarks())
    with pytest.raises(ValueError, match="reference picture"):
        face.closest_frame(seen, LOST)
    with pytest.raises(ValueError, match="No frame has a face"):
        face.aligned_face_maps([noise_frame()] * 2, lost, seen, SIZE)
    with pytest.raises(ValueError, match="too few to be aligned"):
        face.alignment_matrix(np.zeros((68, 2)), landmarks())


def centres_of(maps: face.FaceMaps) -> np.ndarray:
    return np.array([location.centres for location in maps.locations])


def test_aligned_maps_lie_on_the_reference_face() -> None:
    clip = [noise_frame(i) for i in range(2)]
    driving = np.stack([landmarks((40, 60), 20), landmarks((46, 60), 20)])
    target = landmarks((150, 120), 40)
    maps = face.aligned_face_maps(clip, driving, target, (300, 240))
    assert maps.whole.shape == (2, 240, 300, 3)
    wanted = np.array(face.locate(target, (300, 240)).centres)
    assert np.abs(centres_of(maps)[0] - wanted).max() <= 1
    # One matrix for the clip: the head's own motion stays, at the scale of the reference.
    assert np.abs(centres_of(maps)[1] - wanted - (12, 0)).max() <= 1


def test_maps_follow_the_aligned_poses_frame_by_frame() -> None:
    clip = [noise_frame(i) for i in range(3)]
    driving = np.stack([landmarks((40, 60), 20), LOST, landmarks((60, 60), 20)])
    targets = np.stack([landmarks((150, 120), 40), LOST, landmarks((110, 100), 40)])
    maps = face.aligned_face_maps(clip, driving, targets, (300, 240))
    for index in (0, 2):
        wanted = np.array(face.locate(targets[index], (300, 240)).centres)
        assert np.abs(centres_of(maps)[index] - wanted).max() <= 1
    assert maps.found.tolist() == [True, False, True] and maps.locations[1] == maps.locations[0]


# ---- long clips ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fidelity", ["robust", "original"])
def test_maps_on_disk_are_the_same(fidelity: face.Fidelity, tmp_path: Path) -> None:
    """And so is what the network is given of them, with the range of values of the whole clip."""
    clip = [noise_frame(i) // (i + 1) for i in range(4)]
    points = np.stack([landmarks(scale=25), LOST, landmarks((50, 70), 25), landmarks((5, 9), 25)])
    arrays, reels = (
        face.face_maps(iter(clip), points, fidelity=fidelity, new_reel=new)
        for new in (None, partial(PictureReel, tmp_path, 0))
    )
    assert reels.locations == arrays.locations and np.array_equal(reels.found, arrays.found)
    controls = []
    for maps in (arrays, reels):
        sides = [frames.control_images(side, SIZE) for side in (maps.local, maps.whole)]
        controls.append(frames.face_control(*sides))
    for name in ("low", "high"):
        assert np.array_equal(getattr(controls[0], name), getattr(controls[1], name))
    assert controls[0].frames.shape == controls[1].frames.shape == (4, SIZE[1], SIZE[0], 6)
    for some in ([0, 1, 2, 3], [3, 1, 1]):
        assert torch.equal(controls[0].at(some), controls[1].at(some))
        whole = np.concatenate([arrays.local[some], arrays.whole[some]], axis=-1)
        assert np.array_equal(controls[1].frames[some], whole)


def test_aligned_maps_on_disk_are_the_same(tmp_path: Path) -> None:
    clip = [noise_frame(i) for i in range(3)]
    driving = np.stack([landmarks((40, 60), 20), LOST, landmarks((60, 60), 20)])
    target = landmarks((150, 120), 40)
    arrays = face.aligned_face_maps(clip, driving, target, (300, 240))
    reels = face.aligned_face_maps(iter(clip), driving, target, (300, 240), partial(PictureReel, tmp_path, 0))
    assert np.array_equal(np.stack(reels.local), arrays.local)
    assert np.array_equal(np.stack(reels.whole), arrays.whole)
