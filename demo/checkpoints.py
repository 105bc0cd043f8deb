"""The demo's weight files: where they lie, and how trained networks become them.

Each is fp16 safetensors with its architecture in the metadata, opened by the loaders of the real files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from ..video_core.weights import save_checkpoint

FOLDER = Path(__file__).parent / "weights"
VAE = FOLDER / "vae.safetensors"
CLIP = FOLDER / "clip.safetensors"
UNIANIMATE = FOLDER / "unianimate.safetensors"
XDYNA = FOLDER / "xdyna.safetensors"
XDYNA_POSE = FOLDER / "xdyna_pose.safetensors"
XDYNA_FACE = FOLDER / "xdyna_face.safetensors"
XDYNA_RESAMPLER = FOLDER / "xdyna_resampler.safetensors"


def store(path: Path, networks: Mapping[str, nn.Module], configs: Mapping[str, object], note: str) -> Path:
    """Write the networks' tensors, each under its prefix ("" for none), with their configs as metadata.

    configs: metadata key ("config", "text_config", ...) -> frozen dataclass. note: how the weights were made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        prefix + name: value.half() if value.is_floating_point() else value
        for prefix, network in networks.items()
        for name, value in network.state_dict().items()
    }
    metadata = {key: json.dumps(asdict(config)) for key, config in configs.items()}
    return save_checkpoint(path, tensors, {**metadata, "note": note})


def keep_former(path: Path, folder: Path) -> Path | None:
    """Copy a file that is about to be replaced into the folder; where it is kept, None where there is none.

    One that is there already stays: it is what was there before the first of several runs.
    """
    kept = folder / path.name
    if not kept.exists():
        if not path.exists():
            return None
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f"{path.name}.part"
        shutil.copyfile(path, aside)
        aside.replace(kept)
    return kept


def store_untrained(folder: Path = FOLDER, seed: int = 0) -> list[Path]:
    """All files with freshly initialised networks: what training starts from."""
    from dataclasses import replace

    from ..unianimate_core.unet import UniAnimateUNet
    from ..video_core.clip import ClipText, ClipVision
    from ..video_core.vae import Vae
    from ..xdyna_core.controlnet import ControlNet
    from ..xdyna_core.image_prompt import Resampler
    from ..xdyna_core.unet import XDynaUNet
    from . import architectures as arch

    torch.manual_seed(seed)
    face = replace(arch.CONTROL, conditioning_channels=6)
    text, vision = ClipText(arch.TEXT), ClipVision(arch.VISION)
    clip_configs = {"text_config": arch.TEXT, "vision_config": arch.VISION}
    parts = [
        (VAE, {"": Vae(arch.AUTOENCODER).network}, {"config": arch.AUTOENCODER}),
        (CLIP, {"text_model.": text.network, "": vision.network}, clip_configs),
        (UNIANIMATE, {"": UniAnimateUNet(arch.UNIANIMATE)}, {"config": arch.UNIANIMATE}),
        (XDYNA, {"": XDynaUNet(arch.XDYNA)}, {"config": arch.XDYNA}),
        (XDYNA_POSE, {"": ControlNet(arch.CONTROL).net}, {"config": arch.CONTROL}),
        (XDYNA_FACE, {"": ControlNet(face).net}, {"config": face}),
        (XDYNA_RESAMPLER, {"": Resampler(arch.RESAMPLER)}, {"config": arch.RESAMPLER}),
    ]
    return [store(folder / path.name, networks, configs, "untrained") for path, networks, configs in parts]
