"""Optical flow on frames that were moved by a known amount."""

import cv2
import numpy as np
import pytest
from xdyna_unianimate.app.metrics.motion import (
    FLOW_SIDE,
    STILL,
    Motion,
    agreement,
    flow_at,
    flow_energy,
    flow_products,
    flow_sized,
    unexplained_change,
    warped,
)

SIDE = 128


def texture(seed: int = 0, side: int = SIDE) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    soft = cv2.GaussianBlur(noise, (0, 0), 3).astype(np.float32)
    return np.clip((soft - soft.mean()) * 4 + 128, 0, 255).astype(np.uint8)


def moved(frame: np.ndarray, right: int, down: int = 0) -> np.ndarray:
    return np.roll(frame, (down, right), (0, 1))


INSIDE = np.zeros((SIDE, SIDE), bool)
INSIDE[20:-20, 20:-20] = True


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, -2), (4, 3)])
def test_a_shift_is_seen_explained_and_weighed(right, down):
    motion = Motion(texture(), moved(texture(), right, down))
    assert np.median(motion.to_before[INSIDE], 0) == pytest.approx((-right, -down), abs=0.2)
    assert np.median(motion.to_after[INSIDE], 0) == pytest.approx((right, down), abs=0.2)
    assert motion.trusted[INSIDE].mean() > 0.95
    plain = np.abs(motion.after.astype(float) - motion.before).mean()
    assert unexplained_change(motion) < 0.25 * plain
    energy = (right**2 + down**2) * (100 / SIDE) ** 2
    assert flow_energy(motion, INSIDE) == pytest.approx(energy, rel=0.15)


def test_nothing_happens_between_identical_frames():
    motion = Motion(texture(), texture())
    assert unexplained_change(motion) < 0.05
    assert flow_energy(motion, INSIDE) < 1e-3


@pytest.mark.parametrize("levels", [5, 12])
def test_a_change_of_brightness_is_flicker_and_no_motion(levels):
    frame = np.clip(texture(), 30, 220)
    motion = Motion(frame, frame + np.uint8(levels))
    assert unexplained_change(motion) == pytest.approx(levels, rel=0.25)
    assert flow_energy(motion, INSIDE) < 0.5


def test_frames_that_have_nothing_in_common_flicker_and_do_not_move():
    motion = Motion(texture(0), texture(1))
    shift = Motion(texture(0), moved(texture(0), 6))
    assert unexplained_change(motion) > 5 * unexplained_change(shift)
    assert motion.trusted[INSIDE].mean() < 0.5


def test_energy_counts_only_the_pixels_asked_for():
    before, after = texture(), texture()
    after[:, SIDE // 2 :] = moved(texture(), 4)[:, SIDE // 2 :]
    motion = Motion(before, after)
    still, moving = INSIDE.copy(), INSIDE.copy()
    still[:, SIDE // 2 - 12 :] = False
    moving[:, : SIDE // 2 + 12] = False
    assert flow_energy(motion, still) < 0.05 * flow_energy(motion, moving)
    assert np.isnan(flow_energy(motion, np.zeros_like(INSIDE)))


PAN = [(2, 0), (3, 1), (1, -2)]
"""(right, down) in pixels, step by step."""


@pytest.mark.parametrize(("times", "wanted"), [((1, 1), 1.0), ((2, 2), 1.0), ((0, 0), 0.0), ((-1, -1), -1.0)])
def test_motion_agrees_with_the_true_one(times, wanted):
    """The truth itself, twice as fast (which the energy tells), standing still, and the other way."""
    products = []
    for right, down in PAN:
        moves = [(right, down), (times[0] * right, times[1] * down)]
        truth, own = (flow_at(Motion(texture(), moved(texture(), *move)), INSIDE) for move in moves)
        products.append(flow_products(own, truth))
    assert agreement(products) == pytest.approx(wanted, abs=0.02)


def test_a_turned_pan_agrees_in_nothing():
    pairs = [
        (np.tile(one, (50, 1)), np.tile(two, (50, 1))) for one, two in (((3, 0), (0, 3)), ((0, 2), (2, 0)))
    ]
    assert agreement([flow_products(*pair) for pair in pairs]) == 0
    half = [flow_products(*pairs[0]), flow_products(pairs[0][1], pairs[0][1])]
    assert agreement(half) == pytest.approx(0.5)


def test_nothing_agrees_with_a_truth_that_stands_still():
    still, grain = np.zeros((50, 2)), np.full((50, 2), 0.7 * STILL * 0.99)
    moving = np.full((50, 2), 4.0)
    for truth in (still, grain):
        assert np.isnan(agreement([flow_products(moving, truth)]))
    assert np.isnan(agreement([]))


def test_motion_where_the_truth_has_none_lowers_agreement():
    half = np.concatenate([np.full((50, 2), 3.0), np.zeros((50, 2))])
    assert agreement([flow_products(np.full((100, 2), 3.0), half)]) == pytest.approx(np.sqrt(0.5))


def test_warping_reads_at_the_displaced_place():
    ramp = np.tile(np.arange(16, dtype=np.float32), (8, 1))
    right = np.zeros((8, 16, 2), np.float32)
    right[..., 0] = 2.5
    np.testing.assert_allclose(warped(ramp, right)[:, :12], ramp[:, :12] + 2.5, atol=1e-5)


def test_sizes():
    assert flow_sized(np.zeros((2 * FLOW_SIDE, FLOW_SIDE, 3), np.uint8)).shape == (
        FLOW_SIDE,
        FLOW_SIDE // 2,
        3,
    )
    small = texture()
    assert flow_sized(small) is small
    with pytest.raises(ValueError, match="one size"):
        unexplained_change(Motion(texture(), texture(side=64)))
