"""The networks of either system from the files a person has, or from the embedded demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import models

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..unianimate_core.pipeline import Models as UniAnimateModels
    from ..video_core.clip import ClipText
    from ..xdyna_core.pipeline import Models as XDynaModels

System = Literal["unianimate", "xdyna"]


@dataclass(frozen=True)
class Part:
    """A part of a system. names: of its file, the first that is found is taken. what: it is, in a phrase."""

    names: tuple[str, ...]
    what: str


OPEN_CLIP = "open_clip_pytorch_model.bin"

PARTS: Mapping[System, Mapping[str, Part]] = {
    "unianimate": {
        "unet": Part(("unianimate_16f_32f_non_ema_223000.pth",), "the UniAnimate network"),
        "vae": Part(("v2-1_512-ema-pruned.ckpt",), "Stable Diffusion's autoencoder"),
        "clip": Part((OPEN_CLIP,), "OpenCLIP ViT-H-14"),
    },
    "xdyna": {
        "unet": Part(("unet-checkpoint-epoch-5.ckpt",), "the X-Dyna UNet"),
        "pose-net": Part(("controlnet-checkpoint-epoch-5.ckpt",), "the pose ControlNet"),
        "face-net": Part(("controlnet-face-checkpoint-epoch-2.ckpt",), "the face ControlNet"),
        "image-prompt": Part(("ip-adapter-plus_sd15.bin",), "IP-Adapter-plus for SD1.5"),
        # The image tower of IP-Adapter's folder is that of OpenCLIP ViT-H-14 under other names.
        "clip": Part(
            ("CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors", OPEN_CLIP), "the CLIP ViT-H image encoder"
        ),
        "base": Part(
            (
                "v1-5-pruned-emaonly.safetensors",
                "v1-5-pruned-emaonly.ckpt",
                "v1-5-pruned-emaonly-fp16.safetensors",
                "v1-5-pruned.safetensors",
            ),
            "a Stable Diffusion 1.5 checkpoint or folder (its UNet, autoencoder and text tower)",
        ),
        "motion": Part(("mm_sd_v15.ckpt",), "AnimateDiff's motion modules, version 1"),
        "vae": Part((), "an autoencoder instead of the base's"),
        "text": Part((), "a text tower instead of the base's"),
    },
}
"""What a system is put together from; the names of the parts are those of the command line's options."""

OPTIONAL = frozenset({"face-net", "motion"})

PLACES = (
    *models.FOLDERS,
    "checkpoints",
    "vae",
    "clip_vision",
    "text_encoders",
    "ipadapter",
    "animatediff_models",
    "diffusers",
)
"""Folders inside a models folder in which people keep these files."""


@dataclass(frozen=True)
class Weights:
    """Where a system's files come from.

    demo: the embedded stand-ins. given: file by part. folders: are searched for the published names of the
    other parts, themselves, their subfolders of ``PLACES`` and the packs of a neighbouring custom_nodes.
    """

    demo: bool = False
    given: Mapping[str, Path] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Files:
    """The files of a system by part; those of the UNet may be several, later ones win."""

    parts: Mapping[str, Path]
    unet: tuple[Path, ...]

    def stamps(self) -> list[str]:
        """Path, size and time of every file: what tells an exchanged one without reading gigabytes."""
        files = sorted({*self.unet, *self.parts.values()})
        return [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]


def default_folders() -> tuple[Path, ...]:
    """ComfyUI's models folder where this pack lies in its custom_nodes, and ``models`` in the working folder."""
    pack = Path(__file__).absolute().parents[1]
    found = [pack.parents[1] / "models"] if pack.parent.name == "custom_nodes" else []
    return tuple(folder for folder in (*found, Path("models")) if folder.is_dir())


def places(folders: Sequence[Path]) -> list[Path]:
    """Everywhere that model files are looked for, given models folders."""
    inside = [place for folder in folders for place in (folder, *(models.below(folder, n) for n in PLACES))]
    packs = models.neighbours(folder.absolute().parent / "custom_nodes" for folder in folders)
    return [place for place in inside if place is not None and place.is_dir()] + packs


# ---- finding -------------------------------------------------------------------------------------------


def find_files(system: System, weights: Weights) -> Files:
    """The files of a system. Raises FileNotFoundError with one sentence for the first part that is nowhere."""
    if weights.demo:
        return _demo_files(system)
    searched = places(weights.folders)
    parts = dict(weights.given)
    for name, part in PARTS[system].items():
        hits = (models.find(file, searched) for file in part.names)
        hit = next((hit for hit in hits if hit is not None), None)
        if name not in parts and hit is not None:
            parts[name] = hit
    for part in _needed(system, parts):
        if part not in parts:
            raise FileNotFoundError(_lacking(system, part, weights.folders))
    below = ("base", "motion", "image-prompt") if system == "xdyna" else ()
    return Files(parts, (*(parts[part] for part in below if part in parts), parts["unet"]))


def _demo_files(system: System) -> Files:
    """The embedded weights; FileNotFoundError where the installation lacks them."""
    from ..demo import checkpoints as demo

    files: dict[System, Files] = {
        "unianimate": Files({"vae": demo.VAE, "clip": demo.CLIP}, (demo.UNIANIMATE,)),
        "xdyna": Files(
            {
                "vae": demo.VAE,
                "clip": demo.CLIP,
                "text": demo.CLIP,
                "pose-net": demo.XDYNA_POSE,
                "face-net": demo.XDYNA_FACE,
                "image-prompt": demo.XDYNA_RESAMPLER,
            },
            (demo.XDYNA,),
        ),
    }
    found = files[system]
    lacking = next((file for file in (*found.unet, *found.parts.values()) if not file.is_file()), None)
    if lacking is not None:
        raise FileNotFoundError(f"The embedded weights lack {lacking}; install the project completely again.")
    return found


def _needed(system: System, parts: Mapping[str, Path]) -> list[str]:
    """Parts without which the system cannot run: X-Dyna's base is not, where its three parts are given."""
    whole = {"vae", "text"} <= parts.keys()
    return [
        part
        for part in PARTS[system]
        if part not in OPTIONAL
        and not (system == "xdyna" and (part in ("vae", "text") or part == "base" and whole))
    ]


def _lacking(system: System, name: str, folders: Sequence[Path]) -> str:
    part = PARTS[system][name]
    hint = f"Or give it with --{name}, or take the embedded stand-ins with --weights demo."
    row = models.described(part.names[0])
    if row is not None:
        home = row.home(folders[0] if folders else Path("models")).parent
        return f"{models.missing(part.names[0], folders, home)} {hint}"
    where = ", ".join(map(str, folders)) or "no folder"
    return f"There is no {part.names[0]} or another file for {part.what}. Searched: {where}. {hint}"


# ---- loading -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class XDynaNetworks:
    """X-Dyna's networks and what turns prompts into features. tokenizers: folders with a vocabulary."""

    models: XDynaModels
    text: ClipText
    tokenizers: tuple[Path, ...] = ()

    def features(self, prompt: str) -> Tensor:
        """float32 [1, 77, d]; an empty prompt needs no vocabulary."""
        from ..video_core.tokenizer import tokenize

        return self.text.encode(tokenize(prompt, self.text.config, self.tokenizers)).last


def load_unianimate(files: Files, dtype: torch.dtype) -> UniAnimateModels:
    """UniAnimate's networks on the CPU; CLIP and autoencoder stay float32 (UniAnimate spec 2.5)."""
    import torch

    from ..unianimate_core.load import load_unet
    from ..unianimate_core.pipeline import Models
    from ..video_core.clip import load_clip_text, load_clip_vision
    from ..video_core.vae import load_vae

    text = load_clip_text(files.parts["clip"], torch.float32)
    return Models(
        unet=load_unet(files.unet[-1], dtype),
        vae=load_vae(files.parts["vae"], torch.float32),
        clip=load_clip_vision(files.parts["clip"], torch.float32),
        empty_text=text.encode(text.config.empty()).penultimate,
    )


def load_xdyna(files: Files, dtype: torch.dtype, *, face: bool) -> XDynaNetworks:
    """X-Dyna's networks on the CPU, the face ControlNet if ``face``; what is not denoised with is float32."""
    import torch

    from ..video_core.clip import load_clip_text, load_clip_vision
    from ..video_core.vae import load_vae
    from ..xdyna_core.load import load_controlnet, load_resampler, load_unet
    from ..xdyna_core.pipeline import Models

    if face and "face-net" not in files.parts:
        raise FileNotFoundError(f"{_lacking('xdyna', 'face-net', ())} Or leave the face out: --no-face.")
    base = files.parts.get("base")
    text = load_clip_text(files.parts.get("text", base), torch.float32)
    networks = Models(
        unet=load_unet(files.unet, dtype),
        vae=load_vae(files.parts.get("vae", base), torch.float32),
        clip=load_clip_vision(files.parts["clip"], torch.float32),
        resampler=load_resampler(files.parts["image-prompt"], torch.float32),
        empty_text=text.encode(text.config.empty()).last,
        pose=load_controlnet(files.parts["pose-net"], 3, dtype),
        face=load_controlnet(files.parts["face-net"], 6, dtype) if face else None,
    )
    folders = [files.parts[part] for part in ("base", "text") if part in files.parts]
    return XDynaNetworks(networks, text, tuple(folder for folder in folders if folder.is_dir()))


def load(
    system: System, weights: Weights, dtype: torch.dtype, *, face: bool = False, fp8: bool = False
) -> Any:
    """``Models`` of UniAnimate, or ``XDynaNetworks``. fp8: what denoises keeps its weights in eight bits."""
    from ..video_core.fp8 import store_in_eight_bits

    files = find_files(system, weights)
    loaded = load_unianimate(files, dtype) if system == "unianimate" else load_xdyna(files, dtype, face=face)
    models = loaded if system == "unianimate" else loaded.models
    denoising = [models.unet] if system == "unianimate" else [models.unet, models.pose, models.face]
    for network in filter(None, denoising if fp8 else []):
        store_in_eight_bits(network)
    return loaded


def size_multiple(system: System, weights: Weights, *, published: bool = False) -> int:
    """What both sides of a video must be multiples of, read from the file's header where it says so.

    published: take the published network's where its file is missing, instead of FileNotFoundError.
    """
    if system == "xdyna":
        return 8
    from ..unianimate_core.config import UniAnimateConfig
    from ..video_core.weights import open_checkpoint, read_config

    try:
        file = find_files(system, weights).unet[-1]
    except FileNotFoundError:
        if not published:
            raise
        return 8 * UniAnimateConfig().stride
    return 8 * read_config(open_checkpoint(file), UniAnimateConfig()).stride
