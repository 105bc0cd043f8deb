"""What an animation will take, before anything is loaded: memory, disk, operations, time.

The networks are built on the meta device from their architecture alone, and one call of each is run there while
bytes and operations are counted. The constants below are calibrations, which RESULTS.md compares with runs.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..video_core.windows import Windows

if TYPE_CHECKING:
    from .animate import Source
    from .poses import PoseSettings
    from .runs import Request

BASE_BYTES = 515e6
"""Resident memory of Python with torch, diffusers, OpenCV and PyAV, before a network is loaded."""

RELEASE_ENCODERS = {"unianimate": 1_069_750_000, "xdyna": 868_800_000}
"""Parameters beside those that denoise: autoencoder, CLIP towers, Resampler (cost tables of both systems)."""

ENCODER_BYTES = 4
"""They run in float32."""

DECODED_AT_ONCE = 2
"""Frames in one pass of the autoencoder (``Vae.decode``)."""

STATES = 2
"""States of a resumable run that are on disk at once: the last one, and the next while it is written."""

CLIP_COPIES = 6
"""Tensors of the clip's latents in memory: draws, noise, state, sums of both branches, what is written."""

FLOAT = 4


@dataclass(frozen=True)
class Cost:
    """Of one call: tflop, 10^12 operations (a multiply-add is two). bytes: held at once beside the weights."""

    tflop: float
    bytes: int


@dataclass(frozen=True)
class Estimate:
    """What a run takes. Memory and disk in bytes.

    device: on the accelerator, 0 where there is none. ram: of the process. disk: of the state that is kept
    meanwhile; the result comes to it. tflop: operations in all. seconds: None where the device's speed is not
    known. advice: what to change, where it does not fit.
    """

    device: int
    ram: int
    disk: int
    tflop: float
    seconds: float | None
    advice: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether it should run as it is."""
        return not self.advice

    def lines(self) -> list[str]:
        """The same for a person."""
        took = "unknown" if self.seconds is None else f"about {self.seconds:,.0f} s"
        return [
            f"Memory: {self.device / 1e9:.2f} GB on the device, {self.ram / 1e9:.2f} GB of RAM",
            f"Disk while it runs: {self.disk / 1e6:,.1f} MB",
            f"Work: {self.tflop:,.2f} TFLOP, {took}",
            *self.advice,
        ]


def estimate(request: Request, frames: int, device: torch.device, dtype: torch.dtype) -> Estimate:
    """Of a request for a clip of so many frames. Only headers of files are read."""
    own = _Xdyna(request) if request.system.system == "xdyna" else _UniAnimate(request)
    settings = request.system.settings(request.sampling, frames)
    with torch.no_grad(), torch.device("meta"):
        networks, step = own.step(settings, frames, dtype)
        decoding = own.decoding(settings.size)
    weights = sum(tensor.nbytes for net in networks for tensor in net.state_dict().values())
    encoders = own.encoder_bytes()
    clip = FLOAT * 4 * frames * (settings.size[0] // 8) * (settings.size[1] // 8)
    tflop = step.tflop * own.calls(settings, frames) + decoding.tflop * frames / DECODED_AT_ONCE
    working = max(weights + step.bytes, encoders + decoding.bytes)
    alone = device.type == "cpu"
    at_once = max(step.bytes, decoding.bytes) if alone else 0
    found = Estimate(
        device=0 if alone else int(working + CLIP_COPIES * clip),
        ram=int(BASE_BYTES + weights + encoders + at_once + CLIP_COPIES * clip),
        disk=STATES * clip,
        tflop=tflop,
        seconds=tflop / speed(device, dtype),
    )
    return replace(found, advice=advice(request, found, free_memory(device)))


def frames_of(source: Source, how: PoseSettings) -> int:
    """Frames of the clip that a driving source will give, without looking at any."""
    from ..pose_align.interchange import load_poses
    from ..video_core.video import open_video
    from .poses import REFERENCE_DRAWING, is_pose_file

    if is_pose_file(source.driving):
        count = len(load_poses(source.driving))
    else:
        count = open_video(source.driving, skip=(REFERENCE_DRAWING,)).count
    count = ceil(count / how.interval)
    return count if how.max_frames is None else min(count, how.max_frames)


def advice(request: Request, found: Estimate, free: int | None) -> tuple[str, ...]:
    """What to change where ``free`` bytes are not enough, the least harm first; nothing where they are."""
    needed = found.device or found.ram
    if free is None or needed <= free:
        return ()
    said = [f"This needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free."]
    if request.sampling.batch > 1:
        said.append("Take --context-batch 1: windows one after the other, the same result.")
    said.append("Take a smaller --context-size (16, or 12): less memory in every step, more seams.")
    said.append("Take a smaller --resolution, or --precision fp16.")
    return tuple(said)


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free where networks run; None where the system does not say."""
    from ..video_core.placement import free_bytes

    if device.type != "cpu":
        return free_bytes(device)
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 - no file of ours
            found = dict(line.split(":") for line in file)
        return 1024 * int(found["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None


def speed(device: torch.device, dtype: torch.dtype, seconds: float = 0.2) -> float:
    """TFLOP per second of a convolution as the networks have them, measured for a moment."""
    layer = nn.Conv2d(64, 64, 3, padding=1, device=device, dtype=dtype).requires_grad_(False)
    picture = torch.randn(8, 64, 24, 16, device=device, dtype=dtype)
    layer(picture)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        float(layer(picture)[0, 0, 0, 0])
        done += 1
    return done * 2 * 9 * 64 * 64 * 8 * 24 * 16 / (time.perf_counter() - began) / 1e12


def counted(call: Callable[[], Any], *networks: nn.Module) -> Cost:
    """What a call on the meta device costs, with an attention that keeps no scores."""
    with _Attention() as attention, FlopCounterMode(display=False) as flops, _Bytes(*networks) as held:
        call()
    return Cost((flops.get_total_flops() + attention.flops) / 1e12, held.peak)


class _Attention(TorchFunctionMode):
    """Fused attention: its operations, and no scores in memory."""

    flops = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            q, k = args[0], args[1]
            self.flops += 4 * q.numel() * k.shape[-2]
            return torch.empty_like(q)
        return func(*args, **(kwargs or {}))


class _Bytes(TorchDispatchMode):
    """Bytes of the tensors made inside the block that are alive, and the most there were."""

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._kept = [t.untyped_storage() for net in networks for t in net.state_dict().values()]
        self._known = weakref.WeakSet(self._kept)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage() not in self._known:
                self._add(tensor.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._known.add(storage)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size


# ---- the two systems -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _System:
    request: Request

    def config(self, default: Any, demo: str, *keys: str) -> Any:
        """The architecture of the embedded file of that name, or the release's."""
        from ..demo import checkpoints
        from ..video_core.weights import open_checkpoint, read_config

        if not self.request.weights.demo:
            return default
        return read_config(open_checkpoint(getattr(checkpoints, demo)), default, *keys)

    def encoder_bytes(self) -> int:
        """Weights of autoencoder and CLIP, in float32."""
        from .networks import find_files

        if not self.request.weights.demo:
            return ENCODER_BYTES * RELEASE_ENCODERS[self.request.system.system]
        parts = find_files(self.request.system.system, self.request.weights).parts
        files = {file for name, file in parts.items() if not name.endswith("-net")}
        # The embedded files are fp16.
        return 2 * sum(file.stat().st_size for file in files)

    def decoding(self, size: tuple[int, int]) -> Cost:
        """The autoencoder on the frames that go through it at once."""
        from ..video_core.vae import Vae, VaeConfig

        vae = Vae(self.config(VaeConfig(), "VAE", "vae_config", "config")).requires_grad_(False)
        latents = torch.zeros(DECODED_AT_ONCE, 4, size[1] // 8, size[0] // 8)
        return counted(lambda: vae.network.decode(latents), vae)


class _UniAnimate(_System):
    def step(self, settings: Any, frames: int, dtype: torch.dtype) -> tuple[list[nn.Module], Cost]:
        """The network, and one call of it for one branch."""
        from ..unianimate_core.config import UniAnimateConfig
        from ..unianimate_core.unet import UniAnimateUNet

        unet = UniAnimateUNet(self.config(UniAnimateConfig(), "UNIANIMATE")).to(dtype).requires_grad_(False)
        how = settings.sampling
        window = frames if how.mode == "short" else min(frames, how.window)
        told = unet.encode_conditions(zero_y=torch.zeros(1, 77, unet.config.context_dim))
        shape = (how.batch, 4, window, settings.size[1] // 8, settings.size[0] // 8)
        return [unet], counted(lambda: unet.denoise(torch.zeros(shape), 5, told), unet)

    def calls(self, settings: Any, frames: int) -> float:
        """Calls of ``step`` in a run."""
        how = settings.sampling
        if how.mode == "continuation":
            windows = sum(len(part) for part in how.parts(frames)) / min(frames, how.window)
        else:
            windows = ceil(len(how.windows(frames)) / how.batch)
        return windows * len(how.timesteps()) * (2 if how.guided else 1)


class _Xdyna(_System):
    def step(self, settings: Any, frames: int, dtype: torch.dtype) -> tuple[list[nn.Module], Cost]:
        """The networks, and one call of them for all branches; ControlNets see one branch (texts are equal)."""
        from ..xdyna_core.config import ControlNetConfig, XDynaConfig
        from ..xdyna_core.controlnet import ControlNet
        from ..xdyna_core.unet import XDynaUNet

        unet = XDynaUNet(self.config(XDynaConfig(), "XDYNA")).to(dtype).requires_grad_(False)
        kinds = [("XDYNA_POSE", 3), *([("XDYNA_FACE", 6)] if self.request.system.face else [])]
        controls = [
            ControlNet(self.config(ControlNetConfig(conditioning_channels=channels), name)).to(dtype)
            for name, channels in kinds
        ]
        how, config = settings.sampling, unet.config
        height, width = (side // 8 for side in reversed(settings.size))
        branches, window = (2 if how.guided else 1), min(frames, how.window)
        tokens = 77 + config.image_tokens
        context = torch.zeros(branches, tokens, config.cross_attention_dim, dtype=dtype)
        sample = torch.zeros(branches * how.batch, 4, 1 + window, height, width)

        def call() -> None:
            held = []
            for control, (_, channels) in zip(controls, kinds, strict=True):
                hints = control.embed(torch.zeros(window, channels, 8 * height, 8 * width, dtype=dtype))
                held.append(control(sample[:1, :, 1:], 5, context[:1, :77], hints))
            unet(sample, 5, unet.project_context(context.repeat_interleave(how.batch, 0)))

        return [unet, *controls], counted(call, unet, *controls)

    def calls(self, settings: Any, frames: int) -> float:
        """Calls of ``step`` in a run."""
        how = settings.sampling
        windows: Windows = how.windows(frames, 0)
        return ceil(len(windows) / how.batch) * len(how.timesteps())
