"""One seed fixes everything; frames keep their noise; small latents; injected numbers."""

from __future__ import annotations

import random

import pytest
import torch
from xdyna_unianimate.video_core.schedule import linear_schedule
from xdyna_unianimate.xdyna_core import noise

SHAPE = (4, 5, 8, 6)


def equal(a: noise.ClipDraws, b: noise.ClipDraws) -> dict[str, bool]:
    return {
        "posterior": torch.equal(a.posterior, b.posterior),
        "mask": torch.equal(a.mask, b.mask),
        "base": torch.equal(a.base, b.base),
        "offsets": a.offsets == b.offsets,
    }


@pytest.mark.parametrize("order", ["per_frame", "original"])
def test_one_seed_fixes_every_number(order) -> None:
    """F of quirk 6, whatever happens to the global generators meanwhile."""
    first = noise.draw(7, SHAPE, 9, order)
    torch.manual_seed(1)
    random.seed(1)
    torch.rand(3)
    assert all(equal(first, noise.draw(7, SHAPE, 9, order)).values())
    assert not any(equal(first, noise.draw(8, SHAPE, 9, order)).values())


@pytest.mark.parametrize("order", ["per_frame", "original"])
def test_numbers_are_what_they_claim(order) -> None:
    drawn = noise.draw(3, (4, 12, 32, 32), 400, order)
    assert drawn.posterior.shape == (1, 4, 32, 32)
    assert drawn.mask.shape == drawn.base.shape == (1, 4, 12, 32, 32)
    assert drawn.mask.min() >= 0 and drawn.mask.max() < 1
    assert drawn.mask.mean().item() == pytest.approx(0.5, abs=0.01)
    assert drawn.base.mean().item() == pytest.approx(0, abs=0.02)
    assert drawn.base.std().item() == pytest.approx(1, abs=0.02)
    assert set(drawn.offsets) == set(range(16))


@pytest.mark.parametrize("order", ["per_frame", "original"])
def test_mask_and_noise_are_independent(order) -> None:
    drawn = noise.draw(3, (4, 12, 32, 32), 1, order)
    streams = [
        drawn.posterior.expand(12, -1, -1, -1).flatten(),
        drawn.mask.flatten(),
        drawn.base.flatten(),
    ]
    correlation = torch.corrcoef(torch.stack(streams)) - torch.eye(3)
    assert correlation.abs().max() < 0.02


def test_per_frame_noise_does_not_depend_on_the_length() -> None:
    short, long = (noise.draw(5, (4, frames, 8, 6), 3) for frames in (4, 9))
    assert torch.equal(short.base, long.base[:, :, :4]) and torch.equal(short.mask, long.mask[:, :, :4])
    assert torch.equal(short.posterior, long.posterior) and short.offsets == long.offsets
    frames = long.base.unbind(2)
    assert not any(torch.equal(frames[0], frame) for frame in frames[1:])


def test_offsets_of_a_longer_run_begin_alike() -> None:
    assert noise.window_offsets(3, 4) == noise.window_offsets(3, 9)[:4]
    assert max(noise.window_offsets(3, 200, window=8)) == 7


def test_unknown_order_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="'per_frame' or in the 'original' order; 'random'"):
        noise.draw(7, SHAPE, 9, "random")


def test_without_encoding_the_mask_is_the_first_draw() -> None:
    latents_given = noise.draw_original(SHAPE, 2, 7, 8, 9, encodes=False)
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(latents_given.mask, torch.rand(1, 4, 6, 8, 6, generator=generator)[:, :, 1:])
    assert not latents_given.posterior.any()


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (7, 3), (4, 4), (5, 5)])
def test_small_latents_are_blurred_with_a_smaller_radius(size) -> None:
    """F: below 5 x 5 the original's reflection is an error."""
    latents = torch.randn(1, 4, *size)
    ours = noise.blurred(latents)
    assert ours.shape == latents.shape and torch.isfinite(ours).all()
    assert torch.allclose(noise.blurred(torch.ones_like(latents)), torch.ones_like(latents))
    assert torch.equal(ours, latents) == (size == (1, 1))


def test_blur_is_nearly_a_mean() -> None:
    latents = torch.randn(1, 2, 21, 21)
    assert torch.allclose(
        noise.blurred(latents)[..., 10, 10], latents[..., 6:15, 6:15].mean((-2, -1)), atol=0.02
    )


def test_mask_chooses_element_by_element() -> None:
    reference = torch.randn(1, 4, 1, 8, 6)
    uniform = torch.tensor([0.0, 0.4999, 0.5, 0.9])[None, None, :, None, None].expand(1, 4, 4, 8, 6)
    ours = noise.downgraded(reference, uniform)
    soft = noise.blurred(reference[:, :, 0])
    for frame, expected in enumerate([soft, soft, reference[:, :, 0], reference[:, :, 0]]):
        assert torch.equal(ours[:, :, frame], expected)


def test_start_follows_the_injected_numbers() -> None:
    reference, schedule = torch.randn(1, 4, 1, 8, 6), linear_schedule()
    sharp = noise.ClipDraws(
        torch.zeros(1, 4, 8, 6), torch.ones(1, 4, 3, 8, 6), torch.zeros(1, 4, 3, 8, 6), (0,)
    )
    start = noise.initial_latents(reference, sharp, schedule, 401)
    expected = schedule.alpha(401).sqrt().float() * reference.expand(1, 4, 3, 8, 6)
    assert torch.allclose(start, expected, atol=1e-6)


def test_a_given_clip_takes_the_references_place() -> None:
    reference, clip, schedule = torch.randn(1, 4, 1, 8, 6), noise.draw(7, SHAPE, 1), linear_schedule()
    given = torch.randn(clip.base.shape)
    start = noise.initial_latents(reference, clip, schedule, 401, given)
    assert torch.equal(start, schedule.add_noise(given, clip.base, 401))
    with pytest.raises(ValueError, match="make them alike"):
        noise.initial_latents(reference, clip, schedule, 401, given[:, :, :1])


def test_reference_of_another_size_is_a_sentence() -> None:
    clip = noise.draw(7, SHAPE, 1)
    with pytest.raises(ValueError, match="Encode it at the size of the clip"):
        noise.initial_latents(torch.zeros(1, 4, 1, 8, 8), clip, linear_schedule(), 1)
    with pytest.raises(ValueError, match="at least one frame"):
        noise.draw(7, (4, 0, 8, 6), 1)
