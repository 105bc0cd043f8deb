"""The whole path on tiny networks: stages in order, what each is given, nothing lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from xdyna_unianimate.video_core.clip import ClipVision, VisionConfig, cropped_pixels
from xdyna_unianimate.video_core.placement import running_on
from xdyna_unianimate.video_core.samplers import NonFiniteError
from xdyna_unianimate.video_core.schedule import linear_schedule
from xdyna_unianimate.video_core.storage import OnDisk
from xdyna_unianimate.video_core.vae import Vae, VaeConfig
from xdyna_unianimate.xdyna_core import face, frames
from xdyna_unianimate.xdyna_core.noise import blurred, draw
from xdyna_unianimate.xdyna_core.pipeline import Inputs, Models, Settings, animate, image_tokens
from xdyna_unianimate.xdyna_core.reuse import NOTHING
from xdyna_unianimate.xdyna_core.sample import SampleSettings, Span

from .tiny import CONFIG, RESAMPLER, normal, tiny_controlnet, tiny_resampler, tiny_unet

SIZE = (48, 32)
VISION = VisionConfig(
    hidden_size=RESAMPLER.embedding_dim,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=28,
    projection_dim=8,
)
VAE = VaeConfig(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4, sample_size=32)


def text(seed: int, tokens: int = 77) -> Tensor:
    return normal(1, tokens, CONFIG.cross_attention_dim, seed=seed)


@pytest.fixture(scope="module")
def models() -> Models:
    torch.manual_seed(1)
    vae, clip = (network.eval().requires_grad_(False) for network in (Vae(VAE), ClipVision(VISION)))
    return Models(tiny_unet(), vae, clip, tiny_resampler(), text(4), tiny_controlnet(3), tiny_controlnet(6))


def pictures(count: int, width: int, height: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (count, height, width, 3), np.uint8)


def face_points(count: int) -> np.ndarray:
    """A face around the middle of frames of 60 x 40 pixels that moves a little."""
    points = np.random.default_rng(3).uniform((25, 15), (33, 23), (68, 2))
    return points + np.arange(count)[:, None, None]


def faces(count: int, driving: np.ndarray | None = None) -> face.FaceMaps:
    driving = pictures(count, 60, 40, 2) if driving is None else driving
    return face.face_maps(driving, face_points(count))


def inputs(count: int, **more) -> Inputs:
    """Pictures of other sizes than the clip's, all different."""
    given = {"reference": pictures(1, 70, 50, 0)[0], "poses": list(pictures(count, 24, 40, 1))}
    return Inputs(**{**given, "faces": faces(count), **more})


def settings(*, seed: int = 5, order="per_frame", stretch="clip", spans=None, **sampling) -> Settings:
    options = {"steps": 2, "window": 4, "overlap": 2, "guidance": 3.0} | sampling
    return Settings(
        seed=seed,
        size=SIZE,
        order=order,
        stretch=stretch,
        sampling=SampleSettings(**options),
        **(spans or {}),
    )


def video(models: Models, given: Inputs, options: Settings, placed=None, **callbacks) -> Tensor:
    return torch.cat(list(animate(models, given, options, placed, **callbacks)))


# -- the method, written out once more, as X-Dyna spec 8.3 has it ----------------------------------------


@torch.no_grad()
def by_the_book(models: Models, given: Inputs, options: Settings) -> Tensor:
    """Frames of a clip: the reference repeated in the state, one window per call, no cached conditions."""
    count, (width, height) = len(given.poses), (side // 8 for side in SIZE)
    sampling, schedule = options.sampling, linear_schedule()
    timesteps = sampling.timesteps()
    draws = draw(
        options.seed, (4, count, height, width), len(timesteps), options.order, window=sampling.window
    )

    picture = torch.from_numpy(frames.fit_reference(given.reference, SIZE))[None].float() / 127.5 - 1
    posterior = models.vae.network.encode(rearrange(picture, "f h w c -> f c h w")).latent_dist
    reference = 0.18215 * (posterior.mean + posterior.std * draws.posterior)[:, :, None]
    seen = models.clip.network(cropped_pixels(given.reference, 28), output_hidden_states=True)
    blank = models.clip.network(torch.zeros(1, 3, 28, 28), output_hidden_states=True)
    tokens = [models.resampler(output.hidden_states[-2]) for output in (blank, seen)]
    texts = [models.empty_text if t is None else t for t in (given.negative, given.prompt)]
    context = torch.cat([torch.cat(pair, dim=1) for pair in zip(texts, tokens, strict=True)])

    clips = [[frames.fit_pose(pose, SIZE) for pose in given.poses], given.faces.local, given.faces.whole]
    pose, local, whole = (frames.control_images(clip, SIZE).at(range(count)) for clip in clips)
    nets = [(models.pose, pose), (models.face, torch.cat([local, whole], dim=1))]

    soft = torch.where(draws.mask >= 0.5, reference, blurred(reference[:, :, 0])[:, :, None])
    alpha = schedule.alphas_cumprod
    x = alpha[timesteps[0]].sqrt().float() * soft + (1 - alpha[timesteps[0]]).sqrt().float() * draws.base
    x = torch.cat([reference, x], dim=2)
    for t, following, offset in zip(timesteps, [*timesteps[1:], None], draws.offsets, strict=True):
        eps, visits = torch.zeros(2, *x.shape[1:]), torch.zeros(count + 1)
        for window in sampling.windows(count, offset):
            at = [0, *(1 + frame for frame in window)]
            view = x[:, :, at].repeat(2, 1, 1, 1, 1)
            eps[:, :, at] += models.unet(view, t, context, *residuals(nets, view, t, context, window))
            visits[at] += 1
        uncond, cond = eps / visits[:, None, None]
        e = uncond + sampling.guidance * (cond - uncond)
        a, ahead = alpha[t].float(), torch.tensor(1.0) if following is None else alpha[following].float()
        x0 = (x - (1 - a).sqrt() * e) / a.sqrt()
        x = torch.cat([reference, (ahead.sqrt() * x0 + (1 - ahead).sqrt() * e)[:, :, 1:]], dim=2)
    decoded = models.vae.network.decode(rearrange(x[0, :, 1:], "c f h w -> f c h w") / 0.18215).sample
    return rearrange((decoded / 2 + 0.5).clamp(0, 1), "f c h w -> f h w c")


def residuals(nets, view: Tensor, t: int, context: Tensor, window: list[int]):
    """diffusers' own ControlNetModels on both branches' pictures, a zero frame for the reference in front."""
    views = rearrange(view[:, :, 1:], "b c f h w -> (b f) c h w")
    words = context[:, :77].repeat_interleave(len(window), dim=0)
    total = None
    for network, images in nets:
        down, mid = network.net(views, t, words, images[window].repeat(2, 1, 1, 1), return_dict=False)
        own = [rearrange(part, "(b f) c h w -> b c f h w", b=2) for part in (*down, mid)]
        own = [torch.cat([torch.zeros_like(part[:, :, :1]), part], dim=2) for part in own]
        total = own if total is None else [a + b for a, b in zip(total, own, strict=True)]
    return total[:-1], total[-1]


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (3, settings()),
        (7, settings()),
        (7, settings(order="original", seed=9, guidance=1.0)),
        (6, settings(steps=5, strength=0.5, loop=False)),
    ],
    ids=["one window", "windows", "original order, guidance 1", "late start, open clip"],
)
def test_by_the_book(models, count: int, options: Settings) -> None:
    given = inputs(count, prompt=text(1), negative=text(2))
    ours = video(models, given, options)
    assert ours.shape == (count, SIZE[1], SIZE[0], 3) and ours.dtype == torch.float32
    assert torch.allclose(ours, by_the_book(models, given, options), atol=1e-4)
    assert ours.std() > 0.01


# -- one seed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["per_frame", "original"])
def test_one_seed_fixes_the_result(models, order) -> None:
    """F of quirk 6, whatever the global generators do."""
    given, options = inputs(5), settings(order=order)
    first = video(models, given, options)
    torch.manual_seed(123)
    assert torch.equal(first, video(models, given, options))
    assert not torch.allclose(first, video(models, given, replace(options, seed=6)), atol=1e-3)


# -- strengths, prompts, guidance ------------------------------------------------------------------------


def test_strength_zero_is_leaving_out(models) -> None:
    given, options = inputs(3), settings()
    full = video(models, given, options)
    no_pose = video(models, given, settings(spans={"pose": Span(0)}))
    no_face = video(models, given, settings(spans={"face": Span(0)}))
    assert torch.equal(no_pose, video(replace(models, pose=None), given, options))
    assert torch.equal(no_face, video(models, replace(given, faces=None), options))
    assert not torch.allclose(no_pose, full, atol=1e-4) and not torch.allclose(no_face, full, atol=1e-4)


@pytest.mark.parametrize("name", ["adapter", "image_prompt"])
def test_other_strengths_reach_the_networks(models, name: str) -> None:
    given = inputs(3)
    full, off = (video(models, given, settings(spans={name: Span(s)})) for s in (1, 0))
    assert torch.equal(full, video(models, given, settings()))
    assert not torch.allclose(off, full, atol=1e-4)


def test_prompts_of_different_length(models) -> None:
    """The shorter one is repeated, which attention does not notice."""
    twice = text(2).repeat(1, 2, 1)
    given = inputs(3, prompt=text(1), negative=text(2))
    ours = video(models, replace(given, negative=twice), settings())
    assert torch.allclose(ours, video(models, given, settings()), atol=1e-4)
    assert not torch.allclose(ours, video(models, inputs(3), settings()), atol=1e-4)


@contextmanager
def calls(network: nn.Module) -> Iterator[list]:
    seen: list = []
    hook = network.register_forward_pre_hook(lambda module, given: seen.append(given))
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize(("guidance", "branches"), [(0.0, 1), (0.9, 1), (1.0, 2), (7.5, 2)])
def test_guidance_below_one_is_a_single_branch(models, guidance: float, branches: int) -> None:
    with calls(models.unet) as seen:
        video(models, inputs(3), settings(guidance=guidance, reuse=NOTHING))
    assert [len(given[0]) for given in seen] == [branches, branches]


def test_stretch_of_control_images_is_a_choice(models) -> None:
    dim = inputs(3, poses=list(pictures(3, 24, 40, 1) // 3))
    assert not torch.allclose(
        video(models, dim, settings()), video(models, dim, settings(stretch="none")), atol=1e-4
    )


# -- identity --------------------------------------------------------------------------------------------


def test_nothing_of_the_driving_identity_but_the_face_cut_outs(models) -> None:
    """Another person outside the face box: the video is the same, bit for bit."""
    driving = pictures(3, 60, 40, 2)
    maps = faces(3, driving)
    other = pictures(3, 60, 40, 77)
    for index, location in enumerate(maps.locations):
        left, top, right, bottom = location.box
        assert 0 < (right - left) * (bottom - top) < 60 * 40
        other[index, top:bottom, left:right] = driving[index, top:bottom, left:right]
    assert not np.array_equal(other, driving)
    ours = video(models, inputs(3, faces=maps), settings())
    assert torch.equal(ours, video(models, inputs(3, faces=faces(3, other)), settings()))
    assert not torch.equal(
        ours, video(models, inputs(3, faces=faces(3, pictures(3, 60, 40, 77))), settings())
    )


def test_a_clip_without_a_face_is_finite(models) -> None:
    """F of quirk 5."""
    lost = face.face_maps(pictures(3, 60, 40, 2), np.full((3, 68, 2), np.nan))
    ours = video(models, inputs(3, faces=lost), settings())
    assert torch.isfinite(ours).all()


# -- residency, progress, errors -------------------------------------------------------------------------


class Residency:
    """A ``placed`` that keeps a list of who was resident together."""

    def __init__(self, models: Models) -> None:
        self.names = {id(network): name for name, network in vars(models).items()}
        self.inside: list[str] = []
        self.seen: list[tuple[str, ...]] = []

    @contextmanager
    def __call__(self, network: nn.Module) -> Iterator[torch.device]:
        self.inside.append(self.names[id(network)])
        self.seen.append(tuple(self.inside))
        try:
            yield torch.device("cpu")
        finally:
            self.inside.remove(self.names[id(network)])


def test_networks_are_resident_only_in_their_stage(models) -> None:
    placed = Residency(models)
    video(models, inputs(3), settings(), placed)
    denoising = [("unet",), ("unet", "pose"), ("unet", "pose", "face")]
    assert placed.seen == [("clip",), ("resampler",), ("vae",), *denoising, ("vae",)]
    assert not placed.inside


def test_progress_and_stopping(models) -> None:
    steps, windows, placed = [], [], Residency(models)

    def on_step(done: int, total: int, latents: Tensor, x0: Tensor) -> None:
        steps.append((done, total, latents.shape))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video(
            models,
            inputs(5),
            settings(steps=3),
            placed,
            on_step=on_step,
            on_window=lambda *at: windows.append(at),
        )
    assert steps == [(1, 3, (1, 4, 5, 4, 6)), (2, 3, (1, 4, 5, 4, 6))]
    assert windows == [(1, 3), (2, 3), (3, 3)] * 2 and not placed.inside


def test_frames_before_an_error_are_kept(models, monkeypatch) -> None:
    decoded, real = [], models.vae._decode_batch

    def failing(*args):
        if len(decoded) == 2:
            raise OSError("no space left")
        decoded.append(args)
        return real(*args)

    monkeypatch.setattr(models.vae, "_decode_batch", failing)
    kept, placed = [], Residency(models)
    with pytest.raises(OSError):
        for some in animate(models, inputs(6), settings(), placed):
            kept.append(some)
    assert sum(map(len, kept)) == 4 and not placed.inside


def test_overflow_keeps_the_last_latents(models) -> None:
    def overflow(module, given, output: Tensor) -> Tensor:
        return output * (float("inf") if given[1] < 100 else 1)

    hook = models.unet.register_forward_hook(overflow)
    try:
        with pytest.raises(NonFiniteError) as error:
            video(models, inputs(3), settings())
    finally:
        hook.remove()
    assert error.value.done == 1 and error.value.latents.shape == (1, 4, 3, 4, 6)


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ({"poses": []}, {}, "no poses"),
        ({}, {"size": (48, 36)}, "multiples of 8; 48 x 36"),
        ({}, {"size": (0, 32)}, "multiples of 8"),
        ({"faces": faces(2)}, {}, "2 face maps for 3 poses"),
        ({}, {"sampling": SampleSettings(strength=0.01)}, "leaves no step to run"),
    ],
)
def test_impossible_inputs_are_sentences_before_any_work(models, given, options, words) -> None:
    placed = Residency(models)
    with pytest.raises(ValueError, match=words):
        animate(models, replace(inputs(3), **given), replace(settings(), **options), placed)
    assert not placed.seen


def test_window_longer_than_the_motion_modules(models) -> None:
    long = SampleSettings(window=25, overlap=4)
    with pytest.raises(ValueError, match="A window of 25 frames was asked for"):
        animate(models, inputs(30), replace(settings(), sampling=long))
    assert len(video(models, inputs(3), replace(settings(), sampling=replace(long, steps=1)))) == 3


def test_faces_without_their_network_are_a_sentence(models) -> None:
    with pytest.raises(ValueError, match="without a face ControlNet"):
        animate(replace(models, face=None), inputs(3), settings())


def test_an_image_tower_of_another_width_is_a_sentence(models):
    other = ClipVision(replace(VISION, hidden_size=16))
    with pytest.raises(ValueError, match="features of 16 values, the IP-Adapter takes 20; choose the one"):
        image_tokens(other, models.resampler, pictures(1, 30, 30, 4)[0], running_on("cpu"))


@pytest.mark.parametrize("order", ["per_frame", "original"])
@pytest.mark.parametrize("more", [{}, {"guidance": 0.0}, {"fuse": "pyramid", "batch": 2, "together": False}])
def test_a_clip_on_disk_is_the_same(models: Models, order: str, more: dict, tmp_path) -> None:
    given, options = inputs(9), settings(order=order, **more)
    expected = video(models, given, options)
    assert torch.equal(video(models, given, options, storage=OnDisk(tmp_path, stretch=2)), expected)
