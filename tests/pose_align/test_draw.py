"""Drawing: colours, channel order, toggles, sizes, JPEG, and X-Dyna's style against the published video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from xdyna_unianimate.pose_align.draw import (
    ORIGINAL_JPEG_QUALITY,
    STYLES,
    UNIANIMATE,
    XDYNA,
    Style,
    draw,
    draw_frames,
)
from xdyna_unianimate.pose_align.pose import PoseError, PoseSequence
from xdyna_unianimate.pose_align.skeleton import COLOURS, HANDS, STROKES, Joint

from .people import CANVAS, clip, standing, without

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "media" / "pose" / "example_1_pose_1.mp4"


def middle(poses: PoseSequence, first: Joint, second: Joint) -> tuple[int, int]:
    """(row, column) of the middle of a stroke."""
    x, y = poses.points[0, [first, second]].mean(0).astype(int)
    return y, x


def test_channels_are_those_the_network_was_trained_on() -> None:
    """UniAnimate spec 11: files are written with red and blue exchanged; X-Dyna's are not."""
    poses = without(clip(1), 0, np.r_[HANDS["right"]])
    shoulder = middle(poses, Joint.NECK, Joint.R_SHOULDER)
    fingertip = tuple(poses.points[0, HANDS["left"].stop - 1].astype(int)[::-1])
    unianimate, xdyna = draw(poses)[0], draw(poses, XDYNA)[0]
    assert unianimate[shoulder].tolist() == [0, 0, 153] and unianimate[fingertip].tolist() == [255, 0, 0]
    assert xdyna[shoulder].tolist() == [153, 0, 0] and xdyna[fingertip].tolist() == [0, 0, 255]


def test_xdyna_has_no_head_no_feet_and_keeps_the_nose() -> None:
    poses = clip(1)
    canvas = draw(poses, XDYNA)[0]
    for joint in (Joint.R_EYE, Joint.L_EYE, Joint.R_EAR, Joint.L_EAR, Joint.L_BIG_TOE, Joint.R_HEEL):
        x, y = poses.points[0, joint].astype(int)
        assert not canvas[y, x].any()
    x, y = poses.points[0, Joint.NOSE].astype(int)
    assert canvas[y, x].tolist() == [255, 0, 0]
    assert canvas[middle(poses, Joint.NECK, Joint.NOSE)].tolist() == [0, 0, 153]


@pytest.mark.parametrize(
    ("part", "joint"), [("head", Joint.R_EAR), ("feet", 18), ("hands", 100), ("face", 30)]
)
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_every_part_can_be_switched(style: Style, part: str, joint: int) -> None:
    poses = clip(1)
    place = poses.points[0, joint] if joint != 18 else poses.points[0, [18, 19]].mean(0)
    x, y = place.astype(int)
    with_it, without_it = (draw(poses, style.replace(**{part: on}))[0, y, x] for on in (True, False))
    assert with_it.any() and not np.array_equal(with_it, without_it)


def test_canvas_is_the_styles_the_callers_or_the_videos() -> None:
    poses = replace(clip(2), canvas=(640, 360))
    assert draw(poses).shape == (2, 768, 512, 3)
    assert draw(poses, XDYNA).shape == (2, 360, 640, 3)
    assert draw(poses, XDYNA, (96, 64)).shape == (2, 64, 96, 3)
    with pytest.raises(PoseError, match="positive width and height; got 0 x 64"):
        draw(poses, size=(0, 64))


def test_strokes_grow_with_the_canvas_only_when_asked() -> None:
    poses, big = clip(1), (1024, 1536)
    row = int(2 * poses.points[0, [Joint.R_KNEE, Joint.R_ANKLE], 1].mean())

    def width(scale: bool) -> int:
        return int(draw(poses, UNIANIMATE, big, scale_strokes=scale)[0, row, :512].any(-1).sum())

    assert width(False) == 9 and 16 <= width(True) <= 18
    assert UNIANIMATE.scaled(CANVAS) == UNIANIMATE
    assert UNIANIMATE.scaled((32, 48)).joint_radius == 1


def test_frames_come_one_by_one() -> None:
    frames = draw_frames(clip(3))
    assert iter(frames) is frames
    np.testing.assert_array_equal(np.stack(list(frames)), draw(clip(3)))


def test_hands_in_the_first_row_count_as_missing() -> None:
    """K (spec 11): seen are hand points with both integer coordinates from 1 on."""

    def lit(y: float) -> bool:
        alone = without(clip(1), 0, [i for i in range(134) if i != 92])
        points = alone.points.copy()
        points[0, 92] = (100, y)
        return bool(draw(replace(alone, points=points)).any())

    assert not lit(0.99) and lit(1.0)


def test_jpeg_is_that_of_the_file(tmp_path: Path) -> None:
    """Written by cv2 in the table's order and read as RGB, as the original's files are."""
    poses = clip(1)
    plain = draw(poses, UNIANIMATE.replace(reverse_channels=False))[0]
    cv2.imwrite(str(tmp_path / "pose.jpg"), plain)
    as_read = cv2.cvtColor(cv2.imread(str(tmp_path / "pose.jpg")), cv2.COLOR_BGR2RGB)
    ours = draw(poses, UNIANIMATE.replace(jpeg_quality=ORIGINAL_JPEG_QUALITY))[0]
    np.testing.assert_array_equal(ours, as_read)
    assert 0.05 < np.abs(ours.astype(int) - draw(poses)[0]).mean() < 2


def test_points_far_outside_do_not_stop_the_drawing() -> None:
    points = clip(1).points.copy()
    points[0, Joint.R_WRIST], points[0, 120] = (1e12, -1e12), (1e300, 5)
    assert draw(PoseSequence(points, clip(1).scores, CANVAS)).any()


def joints_of(frame: np.ndarray) -> PoseSequence:
    """The body joints of a published frame: centres of the spots in the joints' full colours."""
    points, scores = np.zeros((1, 134, 2)), np.zeros((1, 134))
    for joint in range(14):
        spot = (np.abs(frame.astype(int) - COLOURS[joint]).max(-1) < 45).astype(np.uint8)
        if joint == Joint.L_KNEE:
            spot[: len(spot) * 2 // 3] = 0  # the hands are as blue as the left knee
        _, _, boxes, centres = cv2.connectedComponentsWithStats(spot, connectivity=8)
        best = 1 + boxes[1:, 4].argmax() if len(boxes) > 1 else 0
        if best and 30 <= boxes[best, 4] <= 75:
            # Half a pixel up, so that truncating rounds.
            points[0, joint], scores[0, joint] = centres[best] + 0.5, 1
    return PoseSequence(points, scores, frame.shape[1::-1])


def luma_error(frame: np.ndarray, poses: PoseSequence, style: Style) -> float:
    """Mean grey levels between a published frame and ours, around the figure and away from the hands."""
    weights = np.array([0.299, 0.587, 0.114])
    ours = draw(poses, style)[0]
    around = draw(poses, style.replace(half_width=7, joint_radius=7))[0].any(-1)
    blue = ((frame.astype(int) - (0, 0, 255)) ** 2).sum(-1) < 8000
    blue[len(blue) * 2 // 3 :] = False
    around &= cv2.dilate(blue.astype(np.uint8), np.ones((25, 25))) == 0
    return float(np.abs((ours.astype(float) - frame) @ weights)[around].mean())


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="needs the published pose video in shared/media")
def test_xdyna_style_is_that_of_the_published_video() -> None:
    import av

    with av.open(str(PUBLISHED)) as video:
        frames = [
            frame.to_ndarray(format="rgb24")
            for _, frame in zip(range(24), video.decode(video=0), strict=False)
        ]
    found = [(frame, joints_of(frame)) for frame in frames[::4]]
    assert all(poses.visible()[0, :14].sum() >= 11 for _, poses in found)

    def error(**changes: float) -> float:
        return np.mean([luma_error(frame, poses, XDYNA.replace(**changes)) for frame, poses in found])

    ours = error()
    assert ours < 7
    for changes in (
        {"half_width": 3},
        {"half_width": 5},
        {"joint_radius": 3},
        {"joint_radius": 5},
        {"dimming": 0.5},
        {"dimming": 0.7},
        {"reverse_channels": True},
    ):
        assert error(**changes) > 1.15 * ours, f"{changes} fits as well as the table"
    frame, poses = found[0]
    for stroke, colour in zip(STROKES[:13], COLOURS, strict=False):
        if poses.visible()[0, list(stroke)].all() and Joint.R_WRIST not in stroke:
            there = frame[middle(poses, *stroke)].astype(int)
            assert np.abs(there - 0.6 * np.array(colour)).max() <= 25


def test_standing_person_is_drawn_whole() -> None:
    """Every joint of the 20-point body shows its own full colour at its own place."""
    canvas = draw(clip(1), UNIANIMATE.replace(reverse_channels=False, hands=False))[0]
    for joint in range(18):
        x, y = standing()[joint].astype(int)
        assert canvas[y, x].tolist() == list(COLOURS[joint])


def test_a_canvas_of_any_claimed_size_is_not_drawn() -> None:
    with pytest.raises(PoseError, match="no more than"):
        draw(replace(clip(1), canvas=(100_000, 100_000)), XDYNA)
