"""The networks of either system from the files a person has, or from the embedded demo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from . import models

if TYPE_CHECKING:
    import torch

    from ..unianimate_core.pipeline import Models as UniAnimateModels
    from ..xdyna_core.pipeline import Models as XDynaModels

System = Literal["unianimate", "xdyna"]

PUBLISHED: Mapping[System, Mapping[str, str]] = {
    "unianimate": {
        "unet": "unianimate_16f_32f_non_ema_223000.pth",
        "vae": "v2-1_512-ema-pruned.ckpt",
        "clip": "open_clip_pytorch_model.bin",
    },
    "xdyna": {
        "unet": "unet-checkpoint-epoch-5.ckpt",
        "pose": "controlnet-checkpoint-epoch-5.ckpt",
        "face": "controlnet-face-checkpoint-epoch-2.ckpt",
        "image-prompt": "ip-adapter-plus_sd15.bin",
    },
}
"""Part -> published file name; X-Dyna's base and CLIP towers have many names and are given as paths."""

NEEDED: Mapping[System, tuple[str, ...]] = {
    "unianimate": ("unet", "vae", "clip"),
    "xdyna": ("unet", "pose", "image-prompt", "base", "clip"),
}
"""Parts that a system cannot do without; a base is an SD1.5 checkpoint or folder, with VAE and text tower."""


@dataclass(frozen=True)
class Files:
    """The files of a system by part; ``unet`` of X-Dyna may be several, later ones win."""

    parts: Mapping[str, Path]
    unet: tuple[Path, ...]

    def get(self, part: str) -> Path | None:
        return self.parts.get(part)


def demo_files(system: System) -> Files:
    """The embedded weights; FileNotFoundError where the installation lacks them."""
    from ..demo import checkpoints as demo

    parts = {
        "unianimate": {"vae": demo.VAE, "clip": demo.CLIP},
        "xdyna": {
            "vae": demo.VAE, "clip": demo.CLIP, "text": demo.CLIP, "pose": demo.XDYNA_POSE,
            "face": demo.XDYNA_FACE, "image-prompt": demo.XDYNA_RESAMPLER,
        },
    }[system]  # fmt: skip
    unet = demo.UNIANIMATE if system == "unianimate" else demo.XDYNA
    lacking = next((path for path in (unet, *parts.values()) if not path.is_file()), None)
    if lacking is not None:
        raise FileNotFoundError(f"The embedded weights lack {lacking}; install the project completely again.")
    return Files(parts, (unet,))


def find_files(system: System, given: Mapping[str, Path], folders: Iterable[Path]) -> Files:
    """The files that were given by part, and for the rest the published names in the folders.

    Raises FileNotFoundError with one sentence for the first part that is needed and nowhere.
    """
    folders = list(folders)
    searched = folders + [folder / name for folder in folders for name in (*models.FOLDERS, "clip_vision")]
    parts = {part: path for part, path in given.items() if path is not None}
    for part, name in PUBLISHED[system].items():
        if part not in parts and (hit := models.find(name, searched)) is not None:
            parts[part] = hit
    for part in NEEDED[system]:
        if part not in parts:
            raise FileNotFoundError(_lacking(system, part, searched))
    over = [parts[part] for part in ("base", "motion", "image-prompt") if system == "xdyna" and part in parts]
    return Files(parts, (*over, parts["unet"]))


def _lacking(system: System, part: str, searched: list[Path]) -> str:
    home = searched[0] / system if searched else Path(system)
    name = PUBLISHED[system].get(part)
    hint = f" Give it with --{part}, or run the embedded stand-in with --weights demo."
    if name is not None:
        return models.missing(name, searched, home) + hint
    what = {"base": "a Stable Diffusion 1.5 checkpoint or folder", "clip": "the CLIP ViT-H image encoder"}[
        part
    ]
    return f"X-Dyna needs {what}, which has no name of its own to look for.{hint}"


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


def load_xdyna(
    files: Files, dtype: torch.dtype, prompts: tuple[str, str] = ("", ""), face: bool = True
) -> tuple[XDynaModels, torch.Tensor, torch.Tensor]:
    """X-Dyna's networks on the CPU, and the features of (prompt, negative prompt), [1, 77, d] each.

    face: whether the face ControlNet is loaded, where there is one.
    """
    import torch

    from ..video_core.clip import load_clip_text, load_clip_vision
    from ..video_core.tokenizer import tokenize
    from ..video_core.vae import load_vae
    from ..xdyna_core.load import load_controlnet, load_resampler, load_unet
    from ..xdyna_core.pipeline import Models

    base = files.get("base")
    text = load_clip_text(files.get("text") or base, torch.float32)
    folders = [path for path in (base, files.get("text")) if path is not None and path.is_dir()]
    prompt, negative = (text.encode(tokenize(p, text.config, folders)).last for p in prompts)
    face_file = files.get("face") if face else None
    networks = Models(
        unet=load_unet(files.unet, dtype),
        vae=load_vae(files.get("vae") or base, torch.float32),
        clip=load_clip_vision(files.parts["clip"], torch.float32),
        resampler=load_resampler(files.parts["image-prompt"], torch.float32),
        empty_text=text.encode(text.config.empty()).last,
        pose=load_controlnet(files.parts["pose"], 3, dtype),
        face=None if face_file is None else load_controlnet(face_file, 6, dtype),
    )
    return networks, prompt, negative
