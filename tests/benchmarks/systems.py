"""Both systems as jobs: the same stages by a plain path, which works as the originals do, and by ours.

Plain: conditions recomputed for every window and step, context projected for a copy per frame, one forward per
guidance branch where the original has two, one of both where it has that; attention is fused, as it was there;
on a GPU half-precision autocast with norms in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from xdyna_unianimate.demo import checkpoints
from xdyna_unianimate.unianimate_core import reuse as unianimate_reuse
from xdyna_unianimate.unianimate_core import sample as unianimate_sample
from xdyna_unianimate.unianimate_core.load import load_unet as load_unianimate
from xdyna_unianimate.unianimate_core.unet import UniAnimateUNet
from xdyna_unianimate.video_core.clip import ClipVision, VisionConfig, load_clip_vision
from xdyna_unianimate.video_core.savings import PLAIN_LAYERS, LayerSavings, set_savings
from xdyna_unianimate.video_core.vae import Vae, VaeConfig, load_vae
from xdyna_unianimate.xdyna_core import reuse as xdyna_reuse
from xdyna_unianimate.xdyna_core import sample as xdyna_sample
from xdyna_unianimate.xdyna_core.controlnet import ControlNet
from xdyna_unianimate.xdyna_core.frames import ControlImages
from xdyna_unianimate.xdyna_core.load import load_controlnet
from xdyna_unianimate.xdyna_core.load import load_unet as load_xdyna
from xdyna_unianimate.xdyna_core.unet import XDynaUNet

FRAMES_AT_ONCE = 16
Path = str
"""``plain`` or ``ours``."""


@dataclass(frozen=True)
class Size:
    """A named size: frames and pixels of the clip, steps, frames of a window and of its overlap."""

    frames: int
    width: int
    height: int
    steps: int
    window: int
    overlap: int

    @property
    def latent(self) -> tuple[int, int, int]:
        return self.frames, self.height // 8, self.width // 8

    def __str__(self) -> str:
        windows = f", windows {self.window}/{self.overlap}" if self.frames > self.window else ""
        return f"{self.frames} frames {self.width}x{self.height}, {self.steps} steps{windows}"


SIZES: dict[str, dict[str, Size]] = {
    "tiny": {"unianimate": Size(6, 64, 96, 1, 4, 2), "xdyna": Size(8, 64, 96, 2, 4, 1)},
    "official": {"unianimate": Size(32, 512, 768, 30, 32, 8), "xdyna": Size(16, 512, 896, 25, 16, 4)},
    "large": {"unianimate": Size(32, 768, 1216, 30, 32, 8)},
    "minute": {"unianimate": Size(600, 512, 768, 30, 32, 8), "xdyna": Size(192, 512, 896, 25, 16, 4)},
}
"""``tiny`` has the embedded weights, the others the releases' architectures with random ones."""


@dataclass(frozen=True)
class Job:
    """The stages of a system at a size, by path; ``denoise`` takes a number of steps."""

    size: Size
    device: torch.device
    networks: tuple[nn.Module, ...]
    encode: Callable[[Path], Any]
    conditions: Callable[[Path], Any]
    denoise: Callable[[Path, int], Any]
    decode: Callable[[Path], Any]

    @property
    def steps(self) -> int:
        return self.size.steps

    def stage(self, name: str, path: Path) -> Callable[[], Any]:
        """One stage, or the ``whole``, as a call."""
        if name == "whole":
            return lambda: [self.stage(part, path)() for part in STAGES]
        run = getattr(self, name)

        @torch.no_grad()
        def call() -> Any:
            with precision_of(path, self.device):
                return run(path, self.steps) if name == "denoise" else run(path)

        return call


STAGES = ("encode", "conditions", "denoise", "decode")


def precision_of(path: Path, device: torch.device) -> AbstractContextManager:
    """On a GPU the plain path runs under autocast, which takes every norm through float32."""
    mixed = path == "plain" and device.type == "cuda"
    return torch.autocast("cuda", torch.float16) if mixed else nullcontext()


def random_network(build: Callable[[], nn.Module], device: torch.device) -> nn.Module:
    """A network of the release's size in half precision (on the meta device: without values)."""
    with torch.device(device):
        return build().half().eval().requires_grad_(False)


@dataclass(frozen=True)
class Encoders:
    """Autoencoder and image tower, as both systems use them."""

    vae: Vae
    clip: ClipVision

    @classmethod
    def load(cls, tiny: bool, device: torch.device) -> Encoders:
        if tiny:
            return cls(
                load_vae(checkpoints.VAE, torch.float32), load_clip_vision(checkpoints.CLIP, torch.float32)
            )
        return cls(
            random_network(lambda: Vae(VaeConfig()), device),
            random_network(lambda: ClipVision(VisionConfig()), device),
        )

    def encode(self, path: Path, picture: Tensor, device: torch.device) -> Any:
        set_savings(self.vae, PLAIN_LAYERS if path == "plain" else LayerSavings())
        side = self.clip.config.image_size
        return self.clip.encode(torch.zeros(1, 3, side, side), device), self.vae.encode_posterior(picture)

    def decode(self, path: Path, latents: Tensor, together: int) -> None:
        set_savings(self.vae, PLAIN_LAYERS if path == "plain" else LayerSavings())
        for _ in self.vae.decode(latents, chunk=together):
            pass


def unianimate(size: Size, tiny: bool, device: torch.device) -> Job:
    """UniAnimate: two forwards per step, towers in every one of them as published."""
    net = (
        load_unianimate(checkpoints.UNIANIMATE, torch.float32)
        if tiny
        else random_network(UniAnimateUNet, device)
    )
    encoders = Encoders.load(tiny, device)
    frames, h, w = size.latent
    like = {"device": device, "dtype": net.dtype}
    text = torch.randn(1, 77, net.config.context_dim, **like)
    told = unianimate_reuse.Pictures(
        text,
        image=torch.randn(1, 1, net.config.context_dim, **like),
        dwpose=torch.zeros(1, 3, 1 + frames, size.height, size.width, dtype=torch.uint8),
        randomref=torch.randn(1, 4, 1, h, w, **like),
    )
    mode = "windows" if frames > size.window else "short"
    settings = unianimate_sample.SampleSettings(mode=mode, window=size.window, overlap=size.overlap)
    noise = torch.randn(1, 4, frames, h, w)
    kept: dict[str, Any] = {}

    def conditions(path: Path) -> None:
        pictures = [unianimate_reuse.Pictures(text), told]
        set_savings(net, LayerSavings())
        kept[path] = pictures
        if path == "ours":
            kept[path] = [net.encode_conditions(**vars(p), frames_at_once=FRAMES_AT_ONCE) for p in pictures]

    def denoise(path: Path, steps: int) -> Tensor:
        reuse = unianimate_reuse.NOTHING if path == "plain" else unianimate_reuse.EVERYTHING
        how = replace(settings, steps=steps, reuse=reuse)
        together = path == "ours" and tiny is False and device.type == "cuda"
        predict = unianimate_sample.branch_denoiser(net, kept[path], together, reuse)
        return unianimate_sample.sample_clip(predict, noise, how)

    return Job(
        size,
        device,
        (net, encoders.vae, encoders.clip),
        lambda path: encoders.encode(path, torch.rand(1, size.height, size.width, 3), device),
        conditions,
        denoise,
        lambda path: encoders.decode(path, noise.to(device), 2),
    )


def xdyna(size: Size, tiny: bool, device: torch.device) -> Job:
    """X-Dyna with the pose ControlNet: both branches in one forward, as published."""
    if tiny:
        net = load_xdyna([checkpoints.XDYNA], torch.float32)
        control = load_controlnet(checkpoints.XDYNA_POSE, 3, torch.float32)
    else:
        net, control = random_network(XDynaUNet, device), random_network(ControlNet, device)
    encoders = Encoders.load(tiny, device)
    frames, h, w = size.latent
    config, like = net.config, {"device": device, "dtype": net.dtype}
    context = torch.randn(2, config.text_tokens + config.image_tokens, config.cross_attention_dim, **like)
    context[1, : config.text_tokens] = context[0, : config.text_tokens]
    pictures = np.zeros((frames, size.height, size.width, 3), np.uint8)
    images = ControlImages(pictures, np.full(3, -1, np.float32), np.ones(3, np.float32))
    reference = torch.randn(1, 4, 1, h, w, **like)
    told = xdyna_sample.Conditions(reference, context, (xdyna_sample.Control(control, images),))
    settings = xdyna_sample.SampleSettings(window=size.window, overlap=size.overlap)
    noise = torch.randn(1, 4, frames, h, w)

    def denoise(path: Path, steps: int) -> Tensor:
        reuse = xdyna_reuse.NOTHING if path == "plain" else xdyna_reuse.EVERYTHING
        how = replace(settings, steps=steps, reuse=reuse)
        offsets = [7 * step for step in range(steps)]
        windows_at = how.windows_at(frames, offsets)
        predict = xdyna_sample.branch_denoiser(net, told, how.timesteps(), reuse=reuse, windows_at=windows_at)
        return xdyna_sample.sample_clip(predict, noise, how, offsets)

    return Job(
        size,
        device,
        (net, control, encoders.vae, encoders.clip),
        lambda path: encoders.encode(path, torch.rand(1, size.height, size.width, 3), device),
        lambda path: None,
        denoise,
        lambda path: encoders.decode(path, noise.to(device), 1 if path == "plain" else 2),
    )


SYSTEMS: dict[str, Callable[[Size, bool, torch.device], Job]] = {"unianimate": unianimate, "xdyna": xdyna}
