"""The whole path on tiny networks: stages in order, every mode, nothing lost on the way (UniAnimate spec
2).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from xdyna_unianimate.unianimate_core.noise import NoiseSettings, draw, unified_noise
from xdyna_unianimate.unianimate_core.pipeline import (
    Inputs,
    Models,
    Settings,
    animate,
    conditions,
    denoise,
    encode,
)
from xdyna_unianimate.unianimate_core.sample import SampleSettings, segments
from xdyna_unianimate.video_core.clip import ClipVision, VisionConfig, squashed_pixels
from xdyna_unianimate.video_core.images import resize, unit
from xdyna_unianimate.video_core.placement import running_on
from xdyna_unianimate.video_core.samplers import NonFiniteError
from xdyna_unianimate.video_core.schedule import strided_timesteps, zero_terminal_snr_schedule
from xdyna_unianimate.video_core.storage import OnDisk
from xdyna_unianimate.video_core.vae import Vae, VaeConfig, decode

from ..fakes.memory import no_room
from .tiny import CONFIG, tiny_unet

SCHEDULE = zero_terminal_snr_schedule()
SIZE = (32, 48)
VISION = VisionConfig(
    hidden_size=24,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=3,
    image_size=28,
    projection_dim=CONFIG.context_dim,
)
VAE = VaeConfig(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4, sample_size=32)


@pytest.fixture(scope="module")
def models() -> Models:
    unet = tiny_unet()
    vae, clip = (network.eval().requires_grad_(False) for network in (Vae(VAE), ClipVision(VISION)))
    text = torch.randn(1, 5, CONFIG.context_dim, generator=torch.Generator().manual_seed(4))
    return Models(unet, vae, clip, text)


def inputs(frames: int) -> Inputs:
    """Pictures of other sizes than the clip's, all different."""
    pictures = np.random.default_rng(0).integers(0, 256, (frames + 1, 40, 24, 3), np.uint8)
    reference = np.random.default_rng(1).integers(0, 256, (50, 70, 3), np.uint8)
    return Inputs(reference, pictures[0], list(pictures[1:]))


def settings(
    mode: str = "short", *, seed: int = 5, first_frame: bool = False, noise=None, **sampling
) -> Settings:
    options = {"steps": 2, "window": 4, "overlap": 2} | sampling
    return Settings(seed, SIZE, first_frame, noise, SampleSettings(mode=mode, **options))


def video(models: Models, frames: int, options: Settings, placed=None, **callbacks) -> Tensor:
    return torch.cat(list(animate(models, inputs(frames), options, placed, **callbacks)))


# ---- the method, written out once more -----------------------------------------------------------------


def pixels(pictures) -> Tensor:
    return rearrange(
        unit([resize(picture, SIZE, "bilinear") for picture in pictures]), "f h w c -> 1 c f h w"
    )


def by_the_book(models: Models, frames: int, options: Settings, mode: str) -> Tensor:
    """Frames of a clip or a chain of segments: the original's draws, whole forwards, no cached conditions."""
    given, unet, vae = inputs(frames), models.unet, models.vae
    generator = torch.Generator().manual_seed(options.seed)
    posterior = torch.randn(1, 4, SIZE[1] // 8, SIZE[0] // 8, generator=generator)
    base = torch.randn(1, 4, frames, SIZE[1] // 8, SIZE[0] // 8, generator=generator)
    offset = torch.randn(1, 4, frames, 1, 1, generator=generator)
    picture = pixels([given.reference])
    latents = vae.encode(rearrange(picture, "1 c f h w -> f h w c"), noise=posterior)
    image = models.clip.encode(squashed_pixels(given.reference, 28)).embeds[:, None]
    signal = zero_terminal_snr_schedule().alphas_cumprod[949].float()
    start = signal.sqrt() * latents + (1 - signal).sqrt() * (base + 0.1 * offset)

    first = picture if options.first_frame else None
    parts = segments(frames, options.sampling.window) if mode == "continuation" else [range(frames)]
    clip = []
    for part in parts:
        poses = pixels([given.reference_pose, *(given.poses[frame] for frame in part)])
        cond = {"image": image, "dwpose": poses, "randomref": latents}
        if first is not None:
            cond["local_image"] = first.expand(-1, -1, len(part), -1, -1)
            if part[0] == 0:
                del cond["randomref"]
        x = start[:, :, part.start : part.stop]
        for t, after in zip(*_steps(options.sampling.steps), strict=True):
            uncond_v = unet(x, t, zero_y=models.empty_text)
            v = uncond_v + 2.5 * (unet(x, t, zero_y=models.empty_text, **cond) - uncond_v)
            a, b = (zero_terminal_snr_schedule().alphas_cumprod[i].float() for i in (t, after))
            x0, eps = a.sqrt() * x - (1 - a).sqrt() * v, (1 - a).sqrt() * x + a.sqrt() * v
            x = b.sqrt() * x0 + (1 - b).sqrt() * eps
        decoded = torch.cat(list(vae.decode(x)))
        first = rearrange(decoded[-1:], "f h w c -> 1 c f h w")
        clip.append(decoded[1:] if part[0] else decoded)
    return torch.cat(clip)


def _steps(steps: int) -> tuple[list[int], list[int]]:
    timesteps = strided_timesteps(steps)
    return timesteps, [*timesteps[1:], 0]


@pytest.mark.parametrize(
    ("mode", "frames", "first_frame"),
    [("short", 3, False), ("short", 3, True), ("continuation", 6, False), ("continuation", 6, True)],
)
def test_the_pipeline_is_the_method(models: Models, mode: str, frames: int, first_frame: bool) -> None:
    """K: a first frame replaces the reference slot; [P] segments that continue keep it (spec 2.4, 2.6)."""
    options = settings(mode, first_frame=first_frame, noise=NoiseSettings(order="original"))
    ours = video(models, frames, options)
    torch.testing.assert_close(ours, by_the_book(models, frames, options, mode), atol=2e-4, rtol=0)


def test_a_new_seed_encodes_nothing_again(models: Models) -> None:
    """The stages one by one: pictures and poses are encoded before any random number is drawn."""
    given, placed = inputs(3), running_on("cpu")
    encoded = encode(models, given.reference, SIZE, placed)
    told = conditions(models.unet, encoded, given, SIZE, placed)
    for seed in (5, 6):
        options = settings(seed=seed)
        draws = draw(seed, (4, 3, SIZE[1] // 8, SIZE[0] // 8))
        noise = unified_noise(draws, encoded.posterior.latents(draws.posterior), SCHEDULE, options.noise_used)
        decoder = partial(decode, models.vae, placed)
        (latents,) = denoise(models.unet, told, noise, options.sampling, placed, decoder=decoder)
        assert torch.equal(torch.cat(list(decoder(latents))), video(models, 3, options))


def test_without_a_pose_of_the_reference(models: Models) -> None:
    """F (spec 3.2): the reference is taken as it is."""
    given = replace(inputs(2), reference_pose=None)
    clip, blank = (
        torch.cat(list(animate(models, one, settings())))
        for one in (given, replace(given, reference_pose=np.zeros((8, 8, 3), np.uint8)))
    )
    assert clip.isfinite().all() and not torch.equal(clip, blank)


def test_another_models_towers_are_refused(models: Models) -> None:
    with pytest.raises(ValueError, match="text tower gives features of 9 values, the network takes 24"):
        video(replace(models, empty_text=torch.zeros(1, 5, 9)), 2, settings())


def test_noise_of_another_clip_is_refused(models: Models) -> None:
    given, placed = inputs(3), running_on("cpu")
    told = conditions(models.unet, encode(models, given.reference, SIZE, placed), given, SIZE, placed)
    noise = unified_noise(draw(1, (4, 2, 6, 4)), None, SCHEDULE)
    with pytest.raises(ValueError, match="3 frames of latent size 4 x 6, the noise 2 of 4 x 6"):
        denoise(models.unet, told, noise, SampleSettings(), placed, decoder=iter)


# ---- every mode and length -----------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 9])
@pytest.mark.parametrize("mode", ["short", "windows", "continuation"])
def test_as_many_frames_as_poses(models: Models, mode: str, frames: int) -> None:
    clip = video(models, frames, settings(mode, steps=1))
    assert clip.shape == (frames, SIZE[1], SIZE[0], 3)
    assert clip.dtype == torch.float32 and clip.min() >= 0 and clip.max() <= 1 and clip.std() > 0.01


def test_one_seed_fixes_the_result(models: Models) -> None:
    first, second, other = (video(models, 3, settings(seed=seed)) for seed in (5, 5, 6))
    assert torch.equal(first, second) and not torch.allclose(first, other, atol=0.05)


def test_the_inputs_matter(models: Models) -> None:
    given = inputs(3)
    changes = {
        "reference": 255 - given.reference,
        "reference_pose": 255 - given.reference_pose,
        "poses": [given.poses[0], 255 - given.poses[1], given.poses[2]],
    }
    expected = video(models, 3, settings())
    for name, value in changes.items():
        changed = torch.cat(list(animate(models, replace(given, **{name: value}), settings())))
        assert not torch.allclose(changed, expected, atol=1e-3), name


def test_the_published_noise_of_each_mode() -> None:
    """K: prior 949 before the offset in short runs, 939 after it in long ones (spec 2.3)."""
    used = {mode: settings(mode).noise_used for mode in ("short", "windows", "continuation")}
    assert {mode: noise.flow for mode, noise in used.items()} == {
        "short": "short",
        "windows": "long",
        "continuation": "short",
    }
    assert settings("windows", noise=NoiseSettings(prior=999)).noise_used.prior_timestep == 999


def test_without_guidance_the_unconditional_branch_never_runs(models: Models, monkeypatch) -> None:
    rows: list[int] = []
    predict = models.unet.predict
    monkeypatch.setattr(models.unet, "predict", lambda x, *told: rows.append(len(x)) or predict(x, *told))
    video(models, 3, settings(guidance=1, together=True))
    assert rows == [1, 1]
    video(models, 3, settings(guidance=2, together=True))
    assert rows[2:] == [2, 2]


# ---- residency, progress, stopping ---------------------------------------------------------------------


class Residency:
    """Notes which network is placed when, and refuses two at a time."""

    def __init__(self) -> None:
        self.here: list[str] = []
        self.order: list[str] = []

    @contextmanager
    def __call__(self, network: nn.Module) -> Iterator[torch.device]:
        assert not self.here, f"{type(network).__name__} beside {self.here}"
        self.here.append(type(network).__name__)
        self.order.append(type(network).__name__)
        try:
            yield torch.device("cpu")
        finally:
            self.here.pop()


def test_one_network_at_a_time_each_stage_once(models: Models) -> None:
    placed = Residency()
    video(models, 3, settings(), placed)
    assert placed.order == ["ClipVision", "Vae", "UniAnimateUNet", "UniAnimateUNet", "Vae"]
    assert not placed.here


def test_segments_are_decoded_as_they_are_finished(models: Models) -> None:
    placed = Residency()
    frames = animate(models, inputs(7), settings("continuation"), placed)
    first = [next(frames), next(frames)]
    assert sum(map(len, first)) == 4 and placed.order[4:] == ["Vae"]
    assert sum(map(len, frames)) == 3 and not placed.here


def test_frames_before_an_error_are_kept_and_networks_leave(models: Models) -> None:
    placed, kept = Residency(), []

    class Stop(Exception):
        pass

    def stop_in_the_second_segment(done: int, total: int, latents: Tensor, x0: Tensor) -> None:
        if done == 3:
            raise Stop

    frames = animate(models, inputs(7), settings("continuation"), placed, on_step=stop_in_the_second_segment)
    with pytest.raises(Stop):
        for chunk in frames:
            kept.append(chunk)
    expected = video(models, 7, settings("continuation"))[:4]
    assert torch.equal(torch.cat(kept), expected) and not placed.here


def test_an_abandoned_clip_leaves_no_network_behind(models: Models) -> None:
    placed = Residency()
    frames = animate(models, inputs(7), settings("continuation"), placed)
    next(frames)
    del frames
    assert not placed.here


def test_progress_counts_the_steps_of_all_segments(models: Models) -> None:
    steps: list[tuple[int, int]] = []
    video(models, 7, settings("continuation", steps=3), on_step=lambda *a: steps.append(a[:2]))
    per_segment = len(strided_timesteps(3))
    assert steps == [(i + 1, 2 * per_segment) for i in range(2 * per_segment)]


def test_progress_within_a_step(models: Models) -> None:
    windows: list[tuple[int, int]] = []
    video(models, 8, settings("windows", steps=1), on_window=lambda *a: windows.append(a))
    assert windows == [(1, 3), (2, 3), (3, 3)]


def test_nan_in_the_network_is_a_sentence_that_keeps_the_latents(models: Models) -> None:
    broken = tiny_unet()
    broken.out[-1].bias.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="step 1 of 2") as caught:
        video(replace(models, unet=broken), 3, settings())
    assert caught.value.latents.shape == (1, 4, 3, SIZE[1] // 8, SIZE[0] // 8)


# ---- what cannot become a clip -------------------------------------------------------------------------


def refuses(models: Models, given: Inputs, options: Settings, says: str) -> None:
    placed = Residency()
    with pytest.raises(ValueError, match=says):
        animate(models, given, options, placed)
    assert not placed.order


def test_no_poses(models: Models) -> None:
    refuses(models, inputs(0), settings(), "There are no poses")


@pytest.mark.parametrize("size", [(40, 48), (32, 50), (0, 48), (32, -16)])
def test_sizes_that_do_not_fit_the_network(models: Models, size: tuple[int, int]) -> None:
    width, height = size
    refuses(
        models, inputs(2), replace(settings(), size=size), f"multiples of 16; {width} x {height} was given"
    )


def test_a_first_frame_does_not_belong_to_many_windows(models: Models) -> None:
    """F (spec 2.6): every window of the original would be pulled to start at that frame."""
    refuses(models, inputs(5), settings("windows", first_frame=True), "continuation")
    assert len(video(models, 4, settings("windows", first_frame=True, steps=1))) == 4


@pytest.mark.parametrize(("first", "times"), [(0, 1), (1, 2)])
def test_poses_are_encoded_fewer_at_a_time_where_memory_runs_out(models, first: int, times: int) -> None:
    given, placed = inputs(33), running_on("cpu")
    encoded = encode(models, given.reference, SIZE, placed)
    whole = conditions(models.unet, encoded, given, SIZE, placed)
    with no_room(models.unet.dwpose_embedding, first, times) as rows:
        again = conditions(models.unet, encoded, given, SIZE, placed)
    torch.testing.assert_close(again.cond.pose, whole.cond.pose, rtol=0, atol=1e-6)
    assert rows[first + times] < rows[first]


@pytest.mark.parametrize("mode", ["short", "windows", "continuation"])
@pytest.mark.parametrize("more", [{}, {"guidance": None}, {"fuse": "pyramid", "batch": 2, "together": True}])
def test_a_clip_on_disk_is_the_same(models: Models, mode: str, more: dict, tmp_path) -> None:
    options = settings(mode, **more)
    expected = video(models, 7, options)
    assert torch.equal(video(models, 7, options, storage=OnDisk(tmp_path, stretch=2)), expected)
