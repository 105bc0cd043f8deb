"""Body outlines and colours of drawn puppets, whose clothes are known."""

from dataclasses import replace

import numpy as np
import pytest
from xdyna_unianimate.app.metrics.appearance import (
    CLOTHES,
    Figure,
    body_mask,
    clothes_colours,
    clothing_error,
    colour_similarity,
    cosine,
)
from xdyna_unianimate.demo import puppets

CANVAS = (256, 384)
PUPPET = replace(
    puppets.Puppet.from_seed(1), shirt=(214, 40, 57), trousers=(40, 80, 200), striped=False, skirt=False
)


def drawn(puppet: puppets.Puppet, moment: float = 0.0, background=(128, 200, 128)):
    points = puppets.joints(puppet, puppets.Motion.from_seed(1).angles(moment), CANVAS)
    plain = np.broadcast_to(np.uint8(background), (CANVAS[1], CANVAS[0], 3))
    figure = Figure(points, np.ones(134, bool), puppet.height * CANVAS[1])
    return puppets.render(puppet, points, plain), figure, plain


@pytest.mark.parametrize("moment", [0.0, 13.0, 31.0])
def test_the_mask_covers_the_body_and_little_else(moment):
    picture, figure, plain = drawn(PUPPET, moment)
    body = (picture != plain).any(-1)
    mask = body_mask(figure, CANVAS)
    assert mask[body].mean() > 0.85
    assert body[mask].mean() > 0.6
    wide = body_mask(figure, CANVAS, 0.06)
    assert wide[body].mean() > 0.99
    assert not (mask & ~wide).any()


def test_nobody_has_no_mask_and_no_clothes():
    picture, figure, _ = drawn(PUPPET)
    nobody = replace(figure, seen=np.zeros(134, bool))
    assert not body_mask(nobody, CANVAS).any()
    assert np.isnan(clothes_colours(picture, nobody)).all()
    outside = replace(figure, points=figure.points - 1e5)
    assert np.isnan(clothes_colours(picture, outside)).all()


def test_clothes_have_the_colours_that_were_drawn():
    picture, figure, _ = drawn(PUPPET)
    colours = dict(zip(CLOTHES, clothes_colours(picture, figure), strict=True))
    for piece, wanted in (("right side", PUPPET.shirt), ("left thigh", PUPPET.trousers)):
        # The renderer lightens the middle of a limb by 18 %.
        assert np.abs(colours[piece] - np.clip(np.array(wanted) * 1.18, 0, 255)).max() < 45


def test_clothing_error_in_another_pose_and_other_clothes():
    reference = clothes_colours(*drawn(PUPPET)[:2])
    moved = clothes_colours(*drawn(PUPPET, 17.0)[:2])
    redressed = replace(PUPPET, shirt=(60, 160, 70))
    other = clothes_colours(*drawn(redressed, 17.0)[:2])
    assert clothing_error(reference, reference) == 0
    assert clothing_error(reference, moved) < 12
    assert clothing_error(reference, other) > 3 * clothing_error(reference, moved)
    assert clothing_error(reference, reference + 7) == pytest.approx(7)
    assert np.isnan(clothing_error(reference, np.full_like(reference, np.nan)))


def test_colour_similarity():
    first, figure, _ = drawn(PUPPET)
    second, other_figure, _ = drawn(PUPPET, 17.0, background=(30, 30, 60))
    stranger, strange_figure, _ = drawn(puppets.Puppet.from_seed(14), 17.0)
    mask, other, strange = (body_mask(f, CANVAS) for f in (figure, other_figure, strange_figure))
    assert colour_similarity(first, mask, first, mask) == pytest.approx(1)
    same = colour_similarity(first, mask, second, other)
    assert same > 0.75
    assert colour_similarity(first, mask, stranger, strange) < same - 0.2
    black, white = np.zeros_like(first), np.full_like(first, 255)
    assert colour_similarity(black, mask, white, mask) == pytest.approx(0, abs=1e-6)
    assert np.isnan(colour_similarity(first, mask, second, np.zeros_like(mask)))


def test_cosine():
    assert cosine(np.array([1, 0]), np.array([5, 0])) == pytest.approx(1)
    assert cosine(np.array([1, 0]), np.array([0, 2])) == pytest.approx(0)
    assert cosine(np.array([1, 1]), np.array([-1, -1])) == pytest.approx(-1)
    assert np.isnan(cosine(np.zeros(2), np.ones(2)))
