"""Drawn people: the same seed draws the same picture, and joints lie where the picture shows them."""

from __future__ import annotations

import numpy as np
import pytest
from xdyna_unianimate.demo import puppets
from xdyna_unianimate.pose_align.skeleton import FACE, HANDS, Joint

CANVAS = (128, 192)
SEEDS = range(12)


def figure(seed: int, frame: float = 0.0) -> tuple[puppets.Puppet, np.ndarray]:
    puppet, motion = puppets.Puppet.from_seed(seed), puppets.Motion.from_seed(seed)
    return puppet, puppets.joints(puppet, motion.angles(frame), CANVAS)


def test_a_seed_fixes_puppet_motion_scene_and_picture() -> None:
    def pictures(seed: int) -> np.ndarray:
        parts = (kind.from_seed(seed) for kind in (puppets.Puppet, puppets.Motion, puppets.Scene))
        return np.stack([picture for picture, _ in puppets.clip(*parts, 3, CANVAS)])

    assert np.array_equal(pictures(4), pictures(4))
    assert not np.array_equal(pictures(4), pictures(5))


def test_a_clip_can_start_anywhere_in_its_motion() -> None:
    puppet, motion, scene = (k.from_seed(2) for k in (puppets.Puppet, puppets.Motion, puppets.Scene))
    whole = list(puppets.clip(puppet, motion, scene, 5, CANVAS))
    later = list(puppets.clip(puppet, motion, scene, 2, CANVAS, start=3))
    for (picture, points), (again, same) in zip(whole[3:], later, strict=True):
        assert np.array_equal(picture, again)
        assert np.array_equal(points, same)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_figure_stands_in_the_picture_and_faces_the_viewer(seed: int) -> None:
    _, points = figure(seed, frame=7.0)
    assert np.isfinite(points).all()
    assert (points[:, 1] > 0).all()
    assert (points[:, 1] < CANVAS[1]).all()
    assert (np.abs(points[:, 0] - CANVAS[0] / 2) < 0.6 * CANVAS[0]).all()
    assert points[Joint.R_SHOULDER, 0] < points[Joint.L_SHOULDER, 0]
    assert points[Joint.NOSE, 1] < points[Joint.NECK, 1] < points[Joint.R_HIP, 1] < points[Joint.R_ANKLE, 1]
    for side, wrist in (("right", Joint.R_WRIST), ("left", Joint.L_WRIST)):
        assert np.array_equal(points[HANDS[side].start], points[wrist])


def test_limbs_keep_their_lengths_while_they_move() -> None:
    limbs = [(Joint.R_SHOULDER, Joint.R_ELBOW), (Joint.L_HIP, Joint.L_KNEE), (Joint.L_KNEE, Joint.L_ANKLE)]

    def lengths(frame: float) -> list[float]:
        points = figure(3, frame)[1]
        return [float(np.linalg.norm(points[a] - points[b])) for a, b in limbs]

    assert np.allclose(lengths(0), lengths(11.5))
    assert not np.allclose(figure(3, 0)[1], figure(3, 11.5)[1])


def test_a_blink_closes_the_eyes_and_the_mouth_opens() -> None:
    puppet = puppets.Puppet.from_seed(1)
    still = puppets.STILL.angles(0.0)

    def face(**changes: float) -> np.ndarray:
        return puppets.joints(puppet, {**still, **changes}, CANVAS)[FACE]

    eye = [37, 41]
    opened, closed = (np.ptp(face(blink=blink)[eye, 1]) for blink in (0.0, 1.0))
    assert closed < 0.2 * opened
    lips = [62, 66]
    assert np.ptp(face(mouth=0.9)[lips, 1]) > 3 * np.ptp(face(mouth=0.0)[lips, 1])


@pytest.mark.parametrize("seed", SEEDS)
def test_colours_are_where_the_joints_say(seed: int) -> None:
    """On a black background the middle of a shin has the colour of the leg, the borders none."""
    puppet = puppets.Puppet.from_seed(seed)
    points = puppets.joints(puppet, puppets.STILL.angles(0.0), CANVAS)
    picture = puppets.render(puppet, points, np.zeros((CANVAS[1], CANVAS[0], 3), np.uint8))
    knee, ankle = points[Joint.R_KNEE], points[Joint.R_ANKLE]
    x, y = np.round(knee + 0.5 * (ankle - knee)).astype(int)
    leg = np.array(puppet.skin if puppet.skirt else puppet.trousers)
    assert np.abs(picture[y, x].astype(int) - np.clip(leg * 1.18, 0, 255)).max() < 40
    assert picture[0].max() == 0
    assert picture[int(points[Joint.NECK, 1]), 2].max() == 0


@pytest.mark.parametrize("kind", puppets.Scene.KINDS)
def test_every_scene_but_the_plain_one_moves(kind: str) -> None:
    scene = puppets.Scene(kind, (90, 120, 200), (200, 180, 120), 3)
    first, later = scene.render(0, CANVAS), scene.render(9, CANVAS)
    assert first.shape == (CANVAS[1], CANVAS[0], 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, scene.render(0, CANVAS))
    assert np.array_equal(first, later) == (kind == "plain")
