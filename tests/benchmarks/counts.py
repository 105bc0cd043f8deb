"""Operations and bytes of the full-size systems, counted on the meta device: no weights, no GPU, no pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from xdyna_unianimate.unianimate_core import reuse as unianimate_reuse
from xdyna_unianimate.unianimate_core.sample import branch_denoiser as unianimate_branches
from xdyna_unianimate.unianimate_core.unet import UniAnimateUNet
from xdyna_unianimate.video_core.savings import LayerSavings, set_savings
from xdyna_unianimate.video_core.vae import Vae, VaeConfig
from xdyna_unianimate.xdyna_core import reuse as xdyna_reuse
from xdyna_unianimate.xdyna_core.controlnet import ControlNet
from xdyna_unianimate.xdyna_core.frames import ControlImages
from xdyna_unianimate.xdyna_core.sample import Conditions, Control
from xdyna_unianimate.xdyna_core.sample import branch_denoiser as xdyna_branches
from xdyna_unianimate.xdyna_core.unet import XDynaUNet

sys.path.insert(0, str(Path(__file__).parents[1]))
from counted import Counted
from measure import scoreless_attention, tflop
from systems import FRAMES_AT_ONCE, Size, random_network

META = torch.device("meta")

LIMITS = (
    ("unianimate", Size(32, 512, 768, 30, 32, 8), 6.0),
    ("unianimate", Size(32, 768, 1216, 30, 32, 8), 9.0),
    ("xdyna", Size(16, 512, 896, 25, 16, 4), 8.0),
)
"""What may be used at most, in GB."""

Step = Callable[[], Any]


@contextmanager
def without_values(h: int, w: int) -> Iterator[None]:
    """What depends on values, which the meta device has none of: equal texts, and control images of the size."""
    image = torch.zeros(1, 3, 8 * h, 8 * w, device=META)
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(torch, "equal", lambda *_: True))
        patches.enter_context(
            mock.patch.object(
                ControlImages, "at", lambda _self, frames, *_: image.expand(len(frames), -1, -1, -1)
            )
        )
        yield


class UniAnimate:
    """One step of UniAnimate on a clip of one window. together: both branches in one call."""

    def __init__(self, size: Size) -> None:
        self.net = random_network(UniAnimateUNet, META)
        self.frames, self.h, self.w = size.latent
        self.networks = (self.net,)
        with META:
            text, image = torch.zeros(1, 77, 1024), torch.zeros(1, 1, 1024)
            poses = torch.zeros(1, 3, 1 + self.frames, size.height, size.width, dtype=torch.uint8)
            reference = torch.zeros(1, 4, 1, self.h, self.w)
            self.latents = torch.zeros(1, 4, self.frames, self.h, self.w)
        self.told = unianimate_reuse.Pictures(text, image, None, poses, reference)
        self.pictures = [unianimate_reuse.Pictures(text), self.told]

    def conditions(self) -> list:
        return [self.net.encode_conditions(**vars(p), frames_at_once=FRAMES_AT_ONCE) for p in self.pictures]

    def step(self, plain: bool, together: bool = False) -> Step:
        told = self.pictures if plain else self.conditions()
        reuse = unianimate_reuse.NOTHING if plain else unianimate_reuse.EVERYTHING
        predict = unianimate_branches(self.net, told, together, reuse)
        return lambda: predict(self.latents, 5, [list(range(self.frames))])


class XDyna:
    """One step of X-Dyna on a clip of one window, both branches, with the pose ControlNet."""

    def __init__(self, size: Size) -> None:
        self.net, self.control = random_network(XDynaUNet, META), random_network(ControlNet, META)
        self.frames, self.h, self.w = size.latent
        self.networks = (self.net, self.control)
        with META:
            context = torch.zeros(2, 93, 768)
            self.latents = torch.zeros(1, 4, self.frames, self.h, self.w)
            images = ControlImages([None] * self.frames, None, None)
            reference = torch.zeros(1, 4, 1, self.h, self.w)
            self.told = Conditions(reference, context, (Control(self.control, images),))

    def step(self, plain: bool, together: bool = True) -> Step:
        reuse = xdyna_reuse.NOTHING if plain else xdyna_reuse.EVERYTHING
        predict = xdyna_branches(self.net, self.told, [5], together=together, reuse=reuse)
        return lambda: predict(self.latents, 5, [list(range(self.frames))])


SYSTEMS = {"unianimate": UniAnimate, "xdyna": XDyna}


@torch.no_grad()
def memory() -> list[dict[str, Any]]:
    """Peak GB of each stage at the sizes with a limit: weights and all that is alive beside them."""
    rows = []
    for name, size, limit in LIMITS:
        system = SYSTEMS[name](size)
        weights = sum(t.nbytes for net in system.networks for t in net.state_dict().values()) / 1e9
        row: dict[str, Any] = {"system": name, "size": str(size), "limit": limit, "weights": weights}
        with META, scoreless_attention(), without_values(system.h, system.w):
            for what, plain, together in (
                ("plain", True, name == "xdyna"),
                ("one branch at a time", False, False),
                ("both branches", False, True),
            ):
                call = system.step(plain, together)
                row[f"denoise, {what}"] = weights + peak(call, *system.networks)
            if name == "unianimate":
                row["conditions"] = weights + peak(system.conditions, *system.networks)
        row["decode"] = decoding(system.h, system.w)
        row["fits"] = (
            max(row["denoise, one branch at a time"], row.get("conditions", 0), row["decode"]) <= limit
        )
        rows.append(row)
    return rows


def decoding(h: int, w: int, frames: int = 1) -> float:
    """Peak GB of the autoencoder in float32, which decodes so many frames at a time."""
    vae = random_network(lambda: Vae(VaeConfig()), META).float()
    weights = sum(t.nbytes for t in vae.state_dict().values()) / 1e9
    with META, scoreless_attention():
        set_savings(vae, LayerSavings())
        return weights + peak(lambda: vae.restore(torch.zeros(frames, 4, h, w)), vae)


def peak(call: Callable[[], Any], *networks: torch.nn.Module) -> float:
    """GB that a call holds at once beside the networks."""
    with Counted(*networks) as counted:
        call()
    return counted.peak / 1e9


@torch.no_grad()
def operations() -> list[dict[str, Any]]:
    """TFLOP of one step at the official sizes: plain, ours, their ratio, and the floor at 790 TFLOP/s."""
    rows = []
    for name, size, _ in LIMITS:
        system = SYSTEMS[name](size)
        with META, without_values(system.h, system.w):
            plain, ours = (tflop(system.step(plain)) for plain in (True, False))
        rows.append(
            {
                "system": name,
                "size": str(size),
                "plain, TFLOP per step": plain,
                "ours, TFLOP per step": ours,
                "plain / ours": plain / ours,
                "floor at 790 TFLOP/s, s per step": ours / 790,
            }
        )
    return rows
