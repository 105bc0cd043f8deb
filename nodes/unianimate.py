"""UniAnimate: its network, what it is told of a clip, the noise it starts from, and the sampler."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..app.networks import demo_files
from ..unianimate_core import pipeline
from ..unianimate_core.noise import NO_PRIOR, PRIOR, NoiseSettings, UnifiedNoise, draw, unified_noise
from ..unianimate_core.sample import SampleSettings, working_bytes
from ..unianimate_core.unet import UniAnimateUNet
from ..video_core.schedule import zero_terminal_snr_schedule
from ..video_core.vae import decode
from . import context, encoders, host, images, paths, sockets
from .api import advanced, io, schema, seed

FOLDERS = ("unianimate", "diffusion_models")
"""Model folder ids in which the network's files are listed."""

PARAMETERS = 1_416_564_300
"""Of the release (UniAnimate spec 1)."""

MODES = ("short", "windows", "continuation")
ORDERS = {"per frame": "per_frame", "original": "original"}
FUSES = ("uniform", "pyramid")


@dataclass(frozen=True)
class Loaded:
    """UniAnimate's network in the care of ComfyUI's memory management."""

    unet: UniAnimateUNet
    managed: host.Managed


@dataclass(frozen=True)
class Control:
    """All that UniAnimate is told of a clip; the reference's latents are drawn with the noise.

    encoded: the reference as the networks see it. told: the poses, and both branches of guidance.
    vae: in whose units latents come and go, and which makes the pictures that segments continue.
    """

    encoded: pipeline.Encoded
    told: pipeline.Told
    vae: encoders.Encoder
