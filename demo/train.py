"""Train the demo's networks on drawn puppets.

``python -m xdyna_unianimate.demo.train autoencoder|unianimate|xdyna``. The classes are the project's own,
only narrow; the shipped weights came from these commands.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..unianimate_core.unet import UniAnimateUNet
from ..video_core.clip import (
    MEAN,
    STD,
    ClipText,
    ClipVision,
    cropped_pixels,
    load_clip_text,
    load_clip_vision,
)
from ..video_core.schedule import Schedule, linear_schedule, zero_terminal_snr_schedule
from ..video_core.vae import Vae, load_vae
from ..xdyna_core.controlnet import ControlNet, Residuals
from ..xdyna_core.image_prompt import Resampler
from ..xdyna_core.unet import XDynaUNet
from . import checkpoints as weights
from .architectures import AUTOENCODER, CONTROL, RESAMPLER, UNIANIMATE, VISION, XDYNA
from .checkpoints import store
from .data import CANVAS, HELD_OUT, batches, draw_clip, draw_picture, pixels
from .training import Plan, curve, train

TERMINAL_SHARE = 0.15
"""Share of training steps at the last timestep, where a clip has to be invented from the conditions alone."""

Report = Callable[[int, int, float], None]


# ---- autoencoder ---------------------------------------------------------------------------------------


def reconstruction_loss(vae: Vae, batch: Tensor, generator: torch.Generator) -> Tensor:
    """Squared, absolute and edge error of the reconstruction, and a little KL so that latents stay small."""
    posterior = vae.network.encode(batch).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator)
    restored = vae.network.decode(posterior.mean + posterior.std * noise.to(posterior.mean)).sample.float()
    edges = sum((restored - batch).diff(dim=axis).abs().mean() for axis in (-1, -2))
    return (
        F.mse_loss(restored, batch)
        + 0.5 * F.l1_loss(restored, batch)
        + 0.5 * edges
        + 1e-6 * posterior.kl().mean()
    )


def _draw_pixels(seed: int) -> Tensor:
    return pixels(draw_picture(seed))


def train_autoencoder(folder: Path, plan: Plan, report: Report) -> Vae:
    """The demo's autoencoder, with the mean and deviation of its latents in its config."""
    torch.manual_seed(plan.seed)
    vae = Vae(AUTOENCODER).to(memory_format=torch.channels_last)
    _quieten_posterior(vae)
    vae = train(
        vae, reconstruction_loss, lambda first: batches(_draw_pixels, plan.batch, first), plan, folder, report
    )
    return with_latent_statistics(vae)


@torch.no_grad()
def _quieten_posterior(vae: Vae) -> None:
    """Start with a small posterior deviation: at 1, the first hundreds of steps see little but noise."""
    moments, half = vae.network.quant_conv, vae.config.latent_channels
    moments.bias[half:] = -6.0
    moments.weight[half:] *= 0.1


@torch.no_grad()
def with_latent_statistics(vae: Vae, pictures: int = 256) -> Vae:
    """Measure each latent channel's mean and deviation, so that sampler units have mean 0, deviation 1."""
    frames = np.stack([draw_picture(seed) for seed in range(pictures)])
    latents = vae.encode(torch.from_numpy(frames).float() / 255, chunk=16) / vae.config.scaling_factor
    statistics = {
        "latents_mean": tuple(latents.mean((0, 2, 3, 4)).tolist()),
        "latents_std": tuple(latents.std((0, 2, 3, 4)).tolist()),
    }
    vae.config = replace(vae.config, **statistics)
    return vae


# ---- what both systems are shown -----------------------------------------------------------------------

SHAPES = ((8, 2), (8, 2), (2, 8))
"""(clips, frames) of successive batches: many puppets for looks, long clips for motion, equal work."""


def _draw_batch(seed: int, style: object) -> dict[str, Tensor]:
    """uint8 tensors: reference [b, H, W, 3], frames [b, F, H, W, 3], poses [b, 1 + F, H, W, 3]."""
    from ..pose_align.draw import draw
    from ..pose_align.pose import PoseSequence

    clips, frames = SHAPES[seed % len(SHAPES)]
    drawn = [draw_clip(seed * 8 % HELD_OUT + i, frames) for i in range(clips)]
    skeletons = []
    for clip in drawn:
        points = np.concatenate([clip.reference_points[None], clip.points])
        poses = PoseSequence(points, np.ones(points.shape[:2], np.float32), CANVAS)
        skeletons.append(_resize(draw(poses, style, scale_strokes=style.canvas is None)))
    arrays = {
        "reference": [clip.reference for clip in drawn],
        "frames": [clip.frames for clip in drawn],
        "poses": skeletons,
    }
    return {name: torch.from_numpy(np.stack(pictures)) for name, pictures in arrays.items()}


def _resize(pictures: np.ndarray) -> np.ndarray:
    """uint8 [n, H, W, 3] at the demo's size, as pose pictures are read (UniAnimate spec 2.1)."""
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(p).resize(CANVAS, Image.BILINEAR)) for p in pictures])


def _planes(pictures: Tensor) -> Tensor:
    """uint8 [b, F, H, W, 3] -> float32 [b, 3, F, H, W] in 0..1."""
    return rearrange(pictures, "b f h w c -> b c f h w").float() / 255


def _latents(vae: Vae, pictures: Tensor) -> Tensor:
    """uint8 [b, F, H, W, 3] -> latents [b, 4, F, h, w] in sampler units."""
    flat = vae.encode(rearrange(pictures, "b f h w c -> (b f) h w c").float() / 255, chunk=16)
    return rearrange(flat, "1 c (b f) h w -> b c f h w", b=len(pictures))


def draw_timesteps(count: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """int64 [count]: uniform, but the last timestep with probability ``TERMINAL_SHARE``."""
    last = schedule.train_steps - 1
    uniform = torch.randint(0, last + 1, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < TERMINAL_SHARE, last, uniform)


# ---- UniAnimate ----------------------------------------------------------------------------------------


class UniAnimateWithVision(nn.Module):
    """What is trained together: the network, and the image tower whose embedding it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = UniAnimateUNet(UNIANIMATE)
        self.vision = ClipVision(VISION)

    def embed(self, pictures: Tensor) -> Tensor:
        """[b, 1, d] of pictures float [b, 3, H, W] in 0..1, uncropped (UniAnimate spec 2.1)."""
        small = F.interpolate(pictures, (224, 224), mode="bilinear", antialias=True)
        mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
        return self.vision.network((small - mean) / std).image_embeds[:, None]


def _draw_unianimate(seed: int) -> dict[str, Tensor]:
    from ..pose_align.draw import UNIANIMATE as STYLE

    return _draw_batch(seed, STYLE)


def unianimate_loss(vae: Vae, zero_y: Tensor) -> Callable[[nn.Module, object, torch.Generator], Tensor]:
    """v-prediction error under one of the kinds of input that the paper mixes (section 3.3).

    Reference mode, first-frame mode, both together, or no condition at all (for guidance).
    """
    schedule = zero_terminal_snr_schedule()

    def loss(model: UniAnimateWithVision, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        x0, reference = _latents(vae, batch["frames"]), _latents(vae, batch["reference"][:, None])
        noise = torch.randn(x0.shape, generator=generator)
        noise = noise + 0.1 * torch.randn(*x0.shape[:3], 1, 1, generator=generator)
        t = draw_timesteps(len(x0), schedule, generator)
        alpha = schedule.alphas_cumprod[t].float()[:, None, None, None, None]
        x = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
        told: dict[str, Tensor] = {}
        kind = torch.rand((), generator=generator).item()
        if kind > 0.07:
            told["dwpose"] = _planes(batch["poses"])
            told["image"] = model.embed(_planes(batch["reference"][:, None])[:, :, 0])
        if kind > 0.45:
            told["randomref"] = reference
        if 0.07 < kind <= 0.6:
            told["local_image"] = _planes(batch["frames"][:, :1])
        return F.mse_loss(model.unet(x, t, zero_y=zero_y, **told).float(), target)

    return loss


def train_unianimate(
    folder: Path, plan: Plan, report: Report, vae: Vae, zero_y: Tensor
) -> UniAnimateWithVision:
    """The network and its image tower, both input kinds mixed, all layers from the first step."""
    torch.manual_seed(plan.seed)
    model = UniAnimateWithVision()
    stream = lambda first: batches(_draw_unianimate, None, first)  # noqa: E731
    return train(model, unianimate_loss(vae, zero_y), stream, plan, folder, report)


# ---- X-Dyna --------------------------------------------------------------------------------------------

MOST_WEIGHT = 20.0
"""Bound of the weight 1 / abar, which makes an error of the noise one of the picture."""


class XDynaNetworks(nn.Module):
    """UNet with adapter and motion modules, pose and face ControlNets, Resampler."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = XDynaUNet(XDYNA)
        self.pose = ControlNet(CONTROL)
        self.face = ControlNet(replace(CONTROL, conditioning_channels=6))
        self.resampler = Resampler(RESAMPLER)


def _draw_xdyna(seed: int) -> dict[str, Tensor]:
    """As ``_draw_batch``, with face maps [b, F, H, W, 6]; half of the faces are another puppet's."""
    from ..pose_align.draw import XDYNA as STYLE

    batch = _draw_batch(seed, STYLE)
    clips, frames = batch["frames"].shape[:2]
    faces = [draw_face_maps(seed * 8 % HELD_OUT + i, frames) for i in range(clips)]
    return {**batch, "faces": torch.from_numpy(np.stack(faces))}


def draw_face_maps(seed: int, frames: int) -> np.ndarray:
    """uint8 [F, H, W, 6], local and global S-Face maps of a clip's motion, worn by its puppet or another."""
    from ..xdyna_core.face import face_maps

    clip = draw_clip(seed, frames, other_face=seed % 2 == 0)
    maps = face_maps(clip.frames, clip.points[:, 24:92])
    return np.concatenate([maps.local, maps.whole], axis=-1)


def xdyna_loss(
    vae: Vae, text: Tensor, vision: ClipVision, face: bool
) -> Callable[[nn.Module, object, torch.Generator], Tensor]:
    """Noise-prediction error on the frames behind the clean reference (X-Dyna spec 8.3).

    text: features of the empty prompt [1, 77, d]. face: whether the face ControlNet takes part.
    """
    schedule = linear_schedule()

    def loss(model: XDynaNetworks, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        x0, reference = _latents(vae, batch["frames"]), _latents(vae, batch["reference"][:, None])
        noise = torch.randn(x0.shape, generator=generator)
        t = draw_timesteps(len(x0), schedule, generator)
        alpha = schedule.alphas_cumprod[t].float()[:, None, None, None, None]
        x = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        context = _context(model, text, vision, batch["reference"], generator)
        controls = [(model.pose, _planes(batch["poses"][:, 1:]))]
        if face:
            controls.append((model.face, _planes(batch["faces"])))
        added = _residuals(controls, x, t, text)
        sample = torch.cat([reference, x], dim=2)
        predicted = model.unet(sample, t, context, added.down, added.mid)[:, :, 1:].float()
        return ((predicted - noise) ** 2 * (1 / alpha).clamp(max=MOST_WEIGHT)).mean()

    return loss


def _context(
    model: XDynaNetworks, text: Tensor, vision: ClipVision, reference: Tensor, generator: torch.Generator
) -> Tensor:
    """[b, 77 + 16, d]: the empty prompt, then the reference's tokens, blank for one clip in ten."""
    pixels = torch.cat([cropped_pixels(picture.numpy()) for picture in reference])
    blank = torch.rand(len(pixels), generator=generator) < 0.1
    features = vision.encode(torch.where(blank[:, None, None, None], vision.blank(), pixels)).penultimate
    return torch.cat([text.expand(len(pixels), -1, -1), model.resampler(features)], dim=1)


def _residuals(controls: list[tuple[ControlNet, Tensor]], x: Tensor, t: Tensor, text: Tensor) -> Residuals:
    """The sum of what the ControlNets add, for images [b, c, F, H, W] in 0..1."""
    total = None
    for network, images in controls:
        hints = network.embed(rearrange(images, "b c f h w -> (b f) c h w"))
        hints = rearrange(hints, "1 c (b f) h w -> b c f h w", b=len(x))
        own = network(x, t, text.expand(len(x), -1, -1), hints)
        total = own if total is None else total + own
    return total


def train_xdyna(
    folder: Path, plan: Plan, face_plan: Plan, report: Report, vae: Vae, text: Tensor, vision: ClipVision
) -> XDynaNetworks:
    """UNet, pose ControlNet and Resampler first; then the face ControlNet alone, grown from the pose's."""
    torch.manual_seed(plan.seed)
    model = XDynaNetworks()
    stream = lambda first: batches(_draw_xdyna, None, first)  # noqa: E731
    model.face.requires_grad_(False)
    model = train(model, xdyna_loss(vae, text, vision, face=False), stream, plan, folder / "body", report)
    _grow_face(model)
    model.requires_grad_(False)
    model.face.requires_grad_(True)
    return train(model, xdyna_loss(vae, text, vision, face=True), stream, face_plan, folder / "face", report)


def _grow_face(model: XDynaNetworks) -> None:
    """The face ControlNet starts as the pose ControlNet, with silent outputs."""
    own = model.face.net.state_dict()
    fitting = {n: v for n, v in model.pose.net.state_dict().items() if v.shape == own[n].shape}
    model.face.net.load_state_dict({**own, **fitting})
    outputs = [model.face.net.controlnet_mid_block, *model.face.net.controlnet_down_blocks]
    for output in outputs:
        for parameter in output.parameters():
            torch.nn.init.zeros_(parameter)


# ---- commands ------------------------------------------------------------------------------------------

PLANS = {
    "autoencoder": Plan(4000, learning_rate=2e-3, average=0.99),
    "unianimate": Plan(2600, learning_rate=1.2e-3, average=0.995),
    "xdyna": Plan(2600, learning_rate=1.2e-3, average=0.995),
}
FACE_SHARE = 0.15
"""Iterations of the face ControlNet, as a share of the body's."""


def run_autoencoder(folder: Path, plan: Plan, report: Report) -> None:
    vae = train_autoencoder(folder, plan, report)
    store(weights.VAE, {"": vae.network}, {"config": vae.config}, note_of(plan))


def run_unianimate(folder: Path, plan: Plan, report: Report) -> None:
    vae, text, _ = _trained_before()
    model = train_unianimate(folder, plan, report, vae, text.encode(text.config.empty()).penultimate)
    store_unianimate(model, text, note_of(plan))


def store_unianimate(model: UniAnimateWithVision, text: ClipText, note: str) -> None:
    """The network, and both towers in one file; the text tower stays as it was drawn."""
    store(weights.UNIANIMATE, {"": model.unet}, {"config": UNIANIMATE}, note)
    towers = {"text_model.": text.network, "": model.vision.network}
    store(weights.CLIP, towers, {"text_config": text.config, "vision_config": VISION}, note)


def run_xdyna(folder: Path, plan: Plan, report: Report) -> None:
    """After UniAnimate, whose image tower it looks through."""
    vae, text, vision = _trained_before()
    face_plan = replace(plan, iterations=max(1, int(plan.iterations * FACE_SHARE)), learning_rate=6e-4)
    empty = text.encode(text.config.empty()).last
    model = train_xdyna(folder, plan, face_plan, report, vae, empty, vision)
    note, face = note_of(plan), replace(CONTROL, conditioning_channels=6)
    store(weights.XDYNA, {"": model.unet}, {"config": XDYNA}, note)
    store(weights.XDYNA_POSE, {"": model.pose.net}, {"config": CONTROL}, note)
    store(weights.XDYNA_FACE, {"": model.face.net}, {"config": face}, note_of(face_plan))
    store(weights.XDYNA_RESAMPLER, {"": model.resampler}, {"config": RESAMPLER}, note)


def note_of(plan: Plan) -> str:
    """What a weight file says about how it was made."""
    return f"trained on drawn puppets: {plan.iterations} iterations, seed {plan.seed}"


def _trained_before() -> tuple[Vae, ClipText, ClipVision]:
    vae = load_vae(weights.VAE, torch.float32)
    return vae, load_clip_text(weights.CLIP, torch.float32), load_clip_vision(weights.CLIP, torch.float32)


RUNS = {"autoencoder": run_autoencoder, "unianimate": run_unianimate, "xdyna": run_xdyna}


def main(arguments: list[str] | None = None) -> int:
    """Train one network, store it in the demo's weights, and save its loss curve beside its state."""
    from tqdm import tqdm

    parser = argparse.ArgumentParser(prog="xdyna_unianimate.demo.train", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=RUNS)
    parser.add_argument("folder", type=Path, help="for the state, from which a cut run goes on")
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    plan = replace(PLANS[args.what], seed=args.seed)
    plan = plan if args.iterations is None else replace(plan, iterations=args.iterations)
    losses: list[float] = []
    with tqdm(total=plan.iterations, desc=args.what) as bar:

        def report(done: int, total: int, loss: float) -> None:
            losses.append(loss)
            bar.update(done - bar.n)
            bar.set_postfix(loss=f"{loss:.4f}")

        RUNS[args.what](args.folder, plan, report)
    curve(losses, args.what, args.folder / "curve.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
