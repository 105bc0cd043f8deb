"""Seeded draws: per frame, and in the order of the calls."""

from __future__ import annotations

import pytest
import torch
from xdyna_unianimate.video_core.noise import InOrder, PerFrame, draws, seeded

SHAPE = (1, 4, 9, 3, 5)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_a_longer_clip_begins_like_a_shorter_one(kind: str, frames: int) -> None:
    whole = getattr(PerFrame(7), kind)("base", SHAPE)
    part = getattr(PerFrame(7), kind)("base", (1, 4, frames, 3, 5))
    assert torch.equal(whole[:, :, :frames], part)


def test_frames_names_and_seeds_differ() -> None:
    """Also neighbouring seeds and frames, which a sum of the two would confuse."""
    drawn = [
        PerFrame(seed).normal(name, SHAPE)[:, :, frame]
        for seed in (0, 1, 2, 2**64 - 1)
        for name in ("base", "offset")
        for frame in range(9)
    ]
    flat = torch.stack(drawn).flatten(1)
    assert len(torch.unique(flat, dim=0)) == len(drawn)
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 0.6


def test_per_frame_draws_do_not_depend_on_what_was_drawn_before() -> None:
    source = PerFrame(3)
    first = source.normal("base", SHAPE)
    source.normal("offset", SHAPE)
    assert torch.equal(source.normal("base", SHAPE), first)


def test_pictures_are_drawn_whole() -> None:
    picture = PerFrame(3).normal("posterior", (1, 4, 3, 5))
    assert picture.shape == (1, 4, 3, 5)
    assert torch.equal(picture, PerFrame(3).normal("posterior", (1, 4, 3, 5)))


def test_original_order_is_one_stream() -> None:
    generator = torch.Generator().manual_seed(11)
    expected = [torch.randn(1, 4, 3, 5, generator=generator), torch.rand(SHAPE, generator=generator)]
    source = draws("original", 11)
    assert torch.equal(source.normal("a", (1, 4, 3, 5)), expected[0])
    assert torch.equal(source.uniform("b", SHAPE), expected[1])
    assert isinstance(source, InOrder)


@pytest.mark.parametrize("order", ["per_frame", "original"])
def test_distributions(order: str) -> None:
    normal, uniform = (
        draws(order, 0).normal("n", (1, 4, 8, 40, 40)),
        draws(order, 0).uniform("u", (1, 4, 8, 40, 40)),
    )
    assert abs(normal.mean().item()) < 0.02 and normal.std().item() == pytest.approx(1, abs=0.02)
    assert uniform.min() >= 0 and uniform.max() < 1 and uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert normal.dtype == uniform.dtype == torch.float32 and normal.device.type == "cpu"


@pytest.mark.parametrize("order", ["per_frame", "original"])
def test_the_global_generator_is_neither_used_nor_moved(order: str) -> None:
    torch.manual_seed(1)
    before, first = torch.get_rng_state(), draws(order, 5).normal("base", SHAPE)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(draws(order, 5).normal("base", SHAPE), first)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_impossible_seeds_are_sentences(seed: int) -> None:
    for fails in (lambda: seeded(seed), lambda: PerFrame(seed).normal("base", SHAPE)):
        with pytest.raises(ValueError, match="between 0 and 2"):
            fails()


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match="'random'"):
        draws("random", 1)
