"""The unified noised input (UniAnimate spec 2.3)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from xdyna_unianimate.unianimate_core.noise import ClipDraws, NoiseSettings, draw, unified_noise
from xdyna_unianimate.video_core.schedule import zero_terminal_snr_schedule

SCHEDULE = zero_terminal_snr_schedule()
SHAPE = (4, 6, 3, 2)


@pytest.fixture
def drawn() -> ClipDraws:
    return draw(11, SHAPE)


def reference() -> Tensor:
    return torch.randn(1, 4, 1, 3, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("flow", "prior"), [("short", 949), ("long", 939)])
def test_defaults_are_the_published_priors(flow: str, prior: int) -> None:
    assert NoiseSettings(flow=flow).prior_timestep == prior
    assert NoiseSettings(flow=flow, prior=960).prior_timestep == 960


def test_short_adds_the_offset_before_the_prior_and_long_after(drawn: ClipDraws) -> None:
    """K: so the offset keeps its full strength in the long flow only."""
    alpha = SCHEDULE.alpha(940)
    signal = alpha.sqrt().float() * reference()
    spread = (1 - alpha).sqrt().float()
    short = unified_noise(drawn, reference(), SCHEDULE, NoiseSettings(prior=940, flow="short")).latents
    long = unified_noise(drawn, reference(), SCHEDULE, NoiseSettings(prior=940, flow="long")).latents
    torch.testing.assert_close(short, signal + spread * (drawn.base + 0.1 * drawn.offset))
    torch.testing.assert_close(long, signal + spread * drawn.base + 0.1 * drawn.offset)
    assert not torch.equal(short, long)


@pytest.mark.parametrize(("prior", "share"), [(939, 0.030354), (949, 0.024750)])
def test_the_prior_leaks_a_trace_of_the_reference(drawn: ClipDraws, prior: int, share: float) -> None:
    """K: although sampling starts at timestep 991."""
    settings = NoiseSettings(prior=prior)
    with_reference, without = (
        unified_noise(drawn, ref, SCHEDULE, settings).latents for ref in (reference(), 0 * reference())
    )
    torch.testing.assert_close(
        with_reference - without, share * reference().expand(-1, -1, 6, -1, -1), atol=2e-6, rtol=1e-4
    )


@pytest.mark.parametrize("flow", ["short", "long"])
def test_prior_999_is_no_prior(drawn: ClipDraws, flow: str) -> None:
    settings = NoiseSettings(prior=999, flow=flow)
    expected = unified_noise(drawn, None, SCHEDULE, settings).latents
    assert torch.equal(unified_noise(drawn, reference(), SCHEDULE, settings).latents, expected)
    torch.testing.assert_close(expected, drawn.base + 0.1 * drawn.offset)


def test_offset_zero_is_the_base_noise(drawn: ClipDraws) -> None:
    assert torch.equal(unified_noise(drawn, None, SCHEDULE, NoiseSettings(offset=0)).latents, drawn.base)


@pytest.mark.parametrize("order", ["per_frame", "original"])
def test_one_seed_fixes_everything(order: str) -> None:
    first, second, other = draw(11, SHAPE, order), draw(11, SHAPE, order), draw(12, SHAPE, order)
    for name in ("posterior", "base", "offset"):
        assert torch.equal(getattr(first, name), getattr(second, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_per_frame_noise_does_not_depend_on_the_length_of_the_clip() -> None:
    longer = draw(11, (4, 40, 3, 2))
    shorter = draw(11, SHAPE)
    assert torch.equal(longer.posterior, shorter.posterior)
    for name in ("base", "offset"):
        assert torch.equal(getattr(longer, name)[:, :, :6], getattr(shorter, name))


def test_original_order_draws_posterior_then_base_then_offset() -> None:
    generator = torch.Generator().manual_seed(11)
    shapes = {"posterior": (1, 4, 3, 2), "base": (1, 4, 6, 3, 2), "offset": (1, 4, 6, 1, 1)}
    drawn = draw(11, SHAPE, "original")
    for name, shape in shapes.items():
        assert torch.equal(getattr(drawn, name), torch.randn(shape, generator=generator))


def test_the_posterior_draw_does_not_depend_on_the_length() -> None:
    """So that the reference can be encoded before the clip's length is known."""
    for order in ("per_frame", "original"):
        assert torch.equal(draw(5, (4, 1, 3, 2), order).posterior, draw(5, SHAPE, order).posterior)


def test_first_frame_input(drawn: ClipDraws) -> None:
    noise, picture = unified_noise(drawn, reference(), SCHEDULE), torch.rand(1, 3, 1, 24, 16)
    assert noise.first_frame is None and noise.frames == 6
    continuing = noise.continuing(picture)
    assert torch.equal(continuing.first_frame, picture) and torch.equal(continuing.latents, noise.latents)


@pytest.mark.parametrize("shape", [(1, 3, 1, 24, 24), (1, 3, 6, 24, 16), (3, 24, 16)])
def test_a_first_frame_of_another_size_is_a_sentence(drawn: ClipDraws, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[1, 3, 1, 24, 16\]"):
        unified_noise(drawn, None, SCHEDULE).continuing(torch.rand(shape))


def test_a_reference_of_another_size_or_with_nan_is_a_sentence(drawn: ClipDraws) -> None:
    with pytest.raises(ValueError, match="size of the clip"):
        unified_noise(drawn, torch.zeros(1, 4, 1, 2, 3), SCHEDULE)
    with pytest.raises(ValueError, match="NaN"):
        unified_noise(drawn, reference() * float("nan"), SCHEDULE)


def test_noise_over_a_clip_is_the_clip_where_little_noise_is_left(drawn: ClipDraws) -> None:
    noise, clip = unified_noise(drawn, reference(), SCHEDULE), torch.randn(drawn.base.shape)
    nearly, half = noise.over(clip, SCHEDULE, 1), noise.over(clip, SCHEDULE, 500)
    assert (nearly.timestep, half.timestep, noise.timestep) == (1, 500, None)
    assert (nearly.latents - clip).abs().mean() < 0.1 < (half.latents - clip).abs().mean()
    assert torch.equal(half.reference, noise.reference) and torch.equal(noise.reference, reference())


def test_a_clip_to_start_from_that_does_not_fit_is_a_sentence(drawn: ClipDraws) -> None:
    noise = unified_noise(drawn, None, SCHEDULE)
    with pytest.raises(ValueError, match=r"\[1, 4, 5, 3, 2\].*\[1, 4, 6, 3, 2\]"):
        noise.over(torch.zeros(1, 4, 5, 3, 2), SCHEDULE, 500)
    with pytest.raises(ValueError, match="NaN"):
        noise.over(drawn.base * float("nan"), SCHEDULE, 500)


@pytest.mark.parametrize("prior", [-1, 1000])
def test_impossible_priors_are_sentences(prior: int) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 999 .*{prior} was given"):
        NoiseSettings(prior=prior)


def test_unknown_flows_and_empty_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="'medium'"):
        NoiseSettings(flow="medium")
    with pytest.raises(ValueError, match="at least one frame"):
        draw(1, (4, 0, 3, 2))
