"""The demo's detector knows the drawn inputs, whatever size they come in, and nobody else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from xdyna_unianimate.demo import inputs
from xdyna_unianimate.demo.detector import DemoDetector
from xdyna_unianimate.pose_align.detector import PoseDetector
from xdyna_unianimate.pose_align.pose import PoseError
from xdyna_unianimate.pose_align.track import track
from xdyna_unianimate.video_core.images import read_picture
from xdyna_unianimate.video_core.video import open_frames


@pytest.fixture(scope="module")
def detector() -> DemoDetector:
    return DemoDetector()


def test_it_is_a_detector(detector: DemoDetector) -> None:
    assert isinstance(detector, PoseDetector)


def test_it_finds_the_exact_joints_of_the_driving_clip(detector: DemoDetector) -> None:
    found = track(detector.detect(open_frames(inputs.DRIVING)), inputs.CANVAS, inputs.FPS)
    assert np.allclose(found.points, inputs.driving_poses().points)
    assert found.visible().all()


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_it_finds_them_at_any_size(detector: DemoDetector, scale: float) -> None:
    picture = cv2.resize(read_picture(inputs.REFERENCE), None, fx=scale, fy=scale)
    [[person]] = detector.detect([picture])
    assert np.allclose(person.points, inputs.reference_pose().points[0] * scale)
    left, top, right, bottom = person.box
    assert 0 < left < right < picture.shape[1]
    assert 0 < top < bottom < picture.shape[0]


def test_it_finds_nobody_elsewhere(detector: DemoDetector) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (384, 256, 3), np.uint8)
    mirrored = np.ascontiguousarray(read_picture(inputs.REFERENCE)[::-1])
    assert detector.detect([noise, mirrored]) == [[], []]


def test_it_refuses_what_is_no_frame(detector: DemoDetector) -> None:
    with pytest.raises(PoseError, match="uint8"):
        detector.detect([np.zeros((8, 8, 3), np.float32)])
