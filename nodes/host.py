"""ComfyUI's device, dtype, memory, progress and cancel, as plain callables that app and the cores take.

Nothing below this folder knows where they come from: outside ComfyUI the command line passes its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import comfy.latent_formats
import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.utils
import latent_preview
import torch
from comfy.cli_args import args
from PIL import Image
from torch import Tensor, nn

from ..video_core.fp8 import store_in_eight_bits
from ..video_core.placement import DTYPES, FP8, Placed

T = TypeVar("T")

PRECISIONS = ("auto", *DTYPES)
"""What a precision widget offers; ``auto`` follows ComfyUI's rules and start options."""

STORAGE_TOO = (*PRECISIONS, FP8)
"""What it offers for a network that denoises: also large weights kept in eight bits."""

CASTABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
CASTABLE_FROM = 2**20
"""Bytes of weights from which a layer may stay behind; smaller ones cost more to cast than they take."""

PREVIEW_FRAMES = 4
"""Frames of a clip that a live preview shows side by side, evenly spaced from first to last."""

StepCallback = Callable[..., None]
"""``on_step(done, total, latents=None, x0=None)``; may raise ComfyUI's interrupt: never swallow it."""


def device() -> torch.device:
    """Where networks run."""
    return mm.get_torch_device()


def offload_device() -> torch.device:
    """Where a network lies that is not running."""
    return mm.unet_offload_device()


def output_device() -> torch.device:
    """Where IMAGE and LATENT tensors between nodes lie."""
    return mm.intermediate_device()


def machine() -> dict[str, str]:
    """ComfyUI's version, where it runs networks, and the memory that is free there."""
    from comfyui_version import __version__

    free = mm.get_free_memory(device()) / 2**30
    return {"ComfyUI": __version__, "runs on": str(device()), "free memory": f"{free:.1f} GB"}


def free_memory() -> int:
    """Bytes that are free where networks run."""
    return int(mm.get_free_memory(device()))


def dtype(choice: str, parameters: int = 0) -> torch.dtype:
    """The dtype for a precision widget's value and a network of so many parameters.

    Our layers compute in the dtype of their weights, so where ComfyUI would store in one dtype and cast
    to another for computing (fp8 start options, devices without bf16), the computing one is taken.
    """
    if choice not in STORAGE_TOO:
        raise ValueError(f"Precision {choice!r} is unknown; choose one of {', '.join(STORAGE_TOO)}.")
    if choice in DTYPES:
        return DTYPES[choice]
    supported = [torch.float16, torch.bfloat16, torch.float32]
    stored = mm.unet_dtype(device=device(), model_params=parameters, supported_dtypes=supported)
    computed = mm.unet_manual_cast(stored, device(), supported) or stored
    return computed if computed in supported else torch.float32


def stored(network: nn.Module, choice: str) -> nn.Module:
    """The network with its weights kept as a precision widget's value has it."""
    return store_in_eight_bits(network) if choice == FP8 else network


class Managed:
    """Networks in the care of ComfyUI's memory management: what a loader node gives on.

    ComfyUI loads them before they run, evicts them when another model needs the room, and keeps part of
    them off the GPU when memory is short. For the last, big plain layers become its own subclasses of
    them (same names, same arithmetic), so code must call such a layer rather than read its ``weight``.
    """

    def __init__(self, *networks: nn.Module) -> None:
        self.patchers = {network: _patcher(network) for network in networks}

    def placed(self, working: int = 0) -> Placed:
        """What the stages of the cores take: blocks in which a network can run, on the device they yield.

        working: bytes that must stay free for activations. A network stays loaded after its block until
        somebody needs the room, so that a second run loads nothing; what the block leaves in the
        allocator's cache is given back in any case.
        """

        return together(self, working=working)


def together(*managed: Managed, working: int = 0) -> Placed:
    """``Managed.placed`` for the networks of several loaders, whose blocks may lie inside each other.

    ComfyUI is asked for all networks of the open blocks at once, so that none makes room for another. Before
    every forward of a network in its block the cancel button is looked at. ``PlacedByCore`` objects may be
    given to the blocks too.
    """
    patchers = {network: patcher for one in managed for network, patcher in one.patchers.items()}
    open_blocks: list[nn.Module] = []

    @contextmanager
    def block(network: nn.Module) -> Iterator[torch.device]:
        if isinstance(network, PlacedByCore):
            yield output_device()
            return
        # Its parts too: not every pass of a network goes through its ``forward``.
        parts = (network, *network.children())
        checks = [part.register_forward_pre_hook(lambda *_: check_cancelled()) for part in parts]
        open_blocks.append(network)
        try:
            mm.load_models_gpu([patchers[one] for one in open_blocks], memory_required=working)
            for one in open_blocks:
                _move_what_cannot_be_cast(one, patchers[one].load_device)
            yield patchers[network].load_device
        finally:
            open_blocks.remove(network)
            for check in checks:
                check.remove()
            mm.soft_empty_cache()

    return block


class PlacedByCore:
    """What stands for a network that ComfyUI itself puts in place whenever it is called."""


def core_vision(clip_vision: Any, pixels: Tensor) -> tuple[Tensor, ...]:
    """(last hidden, penultimate hidden, embeds, ...) of CLIP_VISION for normalised pixels [b, 3, s, s].

    Its own ``encode_image`` takes pictures only, and rounds them to 8 bits.
    """
    mm.load_models_gpu([clip_vision.patcher])
    return clip_vision.model(pixel_values=pixels.to(clip_vision.load_device), intermediate_output=-2)


def vocabulary() -> Path:
    """The folder of CLIP's vocabulary that ComfyUI brings along."""
    return Path(comfy.utils.__file__).parent / "sd1_tokenizer"


def check_cancelled() -> None:
    """Raises ComfyUI's interrupt when the user asked to stop.

    It is an Exception in older versions and a BaseException in newer ones: never catch it without raising it.
    """
    mm.throw_exception_if_processing_interrupted()


def progress(total: int) -> StepCallback:
    """A bar of ``total`` steps on the running node, with a live preview, that also stops on cancel.

    The callable takes the cores' ``(done, total, latents, x0)``; ``x0`` [1, 4, F, h, w] in sampler units is
    previewed when the user has previews switched on. For stages without latents call it with ``done`` alone.
    """
    bar = comfy.utils.ProgressBar(total)
    previewer = latent_preview.get_previewer(device(), comfy.latent_formats.SD15())

    def on_step(done: int, total: int | None = None, latents: Tensor | None = None, x0: Tensor | None = None):
        check_cancelled()
        picture = None
        if previewer is not None and x0 is not None and x0.shape[1] == 4:
            picture = previewer.decode_latent_to_preview_image("JPEG", preview_strip(x0).to(device()))
        bar.update_absolute(done, total, picture)

    return on_step


def counted(items: Iterable[T], total: int) -> Iterator[T]:
    """The items, the bar moving and the cancel button working while they are used."""
    step = progress(total)
    for done, item in enumerate(items, start=1):
        yield item
        step(done)


class CountedPictures(Sequence[T]):
    """Pictures that move the bar, and look at the cancel button, when they are asked for."""

    def __init__(self, pictures: Sequence[T]) -> None:
        self._pictures, self._step = pictures, progress(len(pictures))

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> T:
        self._step(index + 1)
        return self._pictures[index]


class SamplerProgress:
    """One bar that moves with every window of every step: a sampler's ``on_step`` and ``on_window``."""

    def __init__(self, steps: int) -> None:
        self._bar, self._done, self._steps, self._windows = progress(steps), 0, steps, 1

    def on_step(self, done: int, total: int, latents: Tensor, x0: Tensor) -> None:
        self._done, self._steps = done, total
        self._bar(done * self._windows, total * self._windows, latents, x0)

    def on_window(self, done: int, windows: int) -> None:
        self._windows = windows
        self._bar(self._done * windows + done, self._steps * windows)


def show(total: int) -> Callable[[int, Image.Image], None]:
    """A bar whose preview is a picture that the caller draws: ``(done, picture)``."""
    bar = comfy.utils.ProgressBar(total)

    def on_picture(done: int, picture: Image.Image) -> None:
        check_cancelled()
        bar.update_absolute(done, total, ("JPEG", picture, latent_preview.MAX_PREVIEW_RESOLUTION))

    return on_picture


def preview_strip(latents: Tensor) -> Tensor:
    """Up to four frames of [1, c, F, h, w] side by side: [1, c, h, n * w], first and last among them."""
    frames = latents.shape[2]
    count = min(PREVIEW_FRAMES, frames)
    chosen = [math.floor(i * (frames - 1) / max(count - 1, 1) + 0.5) for i in range(count)]
    return torch.cat([latents[:, :, i] for i in chosen], dim=-1)


def workflow_metadata(hidden: Any) -> dict[str, str]:
    """The prompt and the workflow as JSON texts, to be stored in a saved file; empty with --disable-metadata.

    ``hidden`` is the running node class's ``cls.hidden`` (output nodes have it).
    """
    if args.disable_metadata or hidden is None:
        return {}
    entries = dict(hidden.extra_pnginfo or {})
    if hidden.prompt is not None:
        entries["prompt"] = hidden.prompt
    return {name: json.dumps(value) for name, value in entries.items()}


class _Roof(nn.Module):
    """Holds a network: ComfyUI sets ``device`` and more on what it manages, where the name may be taken."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def _patcher(network: nn.Module) -> comfy.model_patcher.ModelPatcher:
    _make_castable(network)
    roof = _Roof(network.eval().requires_grad_(False))
    return comfy.model_patcher.ModelPatcher(roof, load_device=device(), offload_device=offload_device())


def _make_castable(network: nn.Module) -> None:
    ours = comfy.ops.disable_weight_init
    for layer in network.modules():
        # Exact types only: a subclass may read its own weight.
        if type(layer) in CASTABLE and layer.weight.nbytes >= CASTABLE_FROM:
            layer.__class__ = getattr(ours, type(layer).__name__)


def _move_what_cannot_be_cast(network: nn.Module, device: torch.device) -> None:
    """After a partial load: ComfyUI leaves lone parameters, buffers and other layers where they were."""
    for layer in network.modules():
        if not hasattr(layer, "comfy_cast_weights"):
            layer._apply(lambda tensor: tensor.to(device), recurse=False)
