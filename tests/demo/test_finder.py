"""The finder on true frames of held-out puppets, whose joints are known, and on what it must not find."""

import cv2
import numpy as np
import pytest
from xdyna_unianimate.demo import puppets
from xdyna_unianimate.demo.data import CANVAS, HELD_OUT
from xdyna_unianimate.demo.finder import PuppetFinder, skeletons
from xdyna_unianimate.pose_align.detector import PoseDetector
from xdyna_unianimate.pose_align.skeleton import FACE, Joint

JOINTS = slice(0, 14)
LIPS = FACE.start + 62, FACE.start + 66


def frame_of(seed: int, moment: float, canvas=CANVAS):
    """(puppet, picture, points) of a held-out clip."""
    puppet = puppets.Puppet.from_seed(seed)
    points = puppets.joints(puppet, puppets.Motion.from_seed(seed).angles(moment), canvas)
    scene = puppets.Scene.from_seed(seed).render(moment, canvas)
    return puppet, puppets.render(puppet, points, scene), points


def errors(puppet, found, points, canvas=CANVAS) -> np.ndarray:
    """Distances of the 14 joints in body heights."""
    return np.linalg.norm(found.points - points, axis=-1)[JOINTS] / (puppet.height * canvas[1])


@pytest.fixture(scope="module")
def found():
    """(puppet, points, points found in the frame, and in the frame as soft as generated ones) of 8 clips."""
    rows = []
    for seed in range(HELD_OUT, HELD_OUT + 8):
        puppet, picture, points = frame_of(seed, 7.0 * (seed - HELD_OUT))
        soft = cv2.GaussianBlur(picture, (0, 0), 1.2)
        [[sharp_find], [soft_find]] = PuppetFinder(puppet).detect([picture, soft])
        rows.append((puppet, points, sharp_find, soft_find))
    return rows


@pytest.mark.parametrize("which", [2, 3], ids=["true frames", "softened frames"])
def test_finds_the_joints_of_true_frames(found, which):
    apart = np.concatenate([errors(row[0], row[which], row[1]) for row in found])
    assert (apart < 0.05).mean() >= 0.98
    assert (apart < 0.10).mean() >= 0.99


@pytest.mark.parametrize("which", [2, 3], ids=["true frames", "softened frames"])
def test_sees_how_far_the_mouth_is_open(found, which):
    opened = lambda points: np.linalg.norm(points[LIPS[0]] - points[LIPS[1]])  # noqa: E731
    seen, true = zip(*((opened(row[which].points), opened(row[1])) for row in found), strict=True)
    assert np.corrcoef(seen, true)[0, 1] > 0.8


def test_follows_the_picture_and_not_the_truth():
    puppet, picture, points = frame_of(HELD_OUT, 0.0)
    moved = np.roll(picture, 6, axis=1)
    assert errors(puppet, PuppetFinder(puppet).find(moved), points + (6, 0)).mean() < 0.03
    _, other, elsewhere = frame_of(HELD_OUT, 20.0)
    assert errors(puppet, PuppetFinder(puppet).find(other), elsewhere).max() < 0.05
    assert errors(puppet, PuppetFinder(puppet).find(other), points).max() > 0.10


def test_scores_say_when_nobody_is_there():
    puppet, picture, _ = frame_of(HELD_OUT, 0.0)
    noise = np.random.default_rng(0).integers(0, 256, picture.shape, np.uint8)
    finder = PuppetFinder(puppet)
    assert finder.find(picture).box_score > 0.6
    assert finder.find(noise).box_score < 0.3
    assert finder.find(np.full_like(picture, 128)).box_score < 0.3


def test_works_at_another_size():
    canvas = (256, 384)
    puppet, picture, points = frame_of(HELD_OUT + 3, 11.0, canvas)
    assert errors(puppet, PuppetFinder(puppet).find(picture), points, canvas).max() < 0.05


def test_geometry_is_the_renderers():
    rng = np.random.default_rng(0)
    puppet = puppets.Puppet.from_seed(HELD_OUT)
    angles = rng.uniform(-0.5, 0.9, (5, len(puppets.ANGLES)))
    batch = skeletons(puppet, angles, CANVAS)
    for i, row in enumerate(angles):
        points = puppets.joints(puppet, dict(zip(puppets.ANGLES, row, strict=True)), CANVAS)
        np.testing.assert_allclose(batch.joints[i, 1:14], points[1:14], atol=1e-9)
        ears = points[[Joint.R_EAR, Joint.L_EAR]]
        np.testing.assert_allclose(batch.head[i], ears.mean(0), atol=1e-9)


def test_is_a_pose_detector():
    assert isinstance(PuppetFinder(puppets.Puppet.from_seed(0)), PoseDetector)
