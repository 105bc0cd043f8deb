"""Loading X-Dyna's networks from whatever files hold their parts (X-Dyna spec 2.1, 6, 7, 12).

The original starts from one file that its release does not contain. Here any set of files will do whose
union covers the UNet: each is renamed to the published names by its own convention, later files win, and
what is missing is named together with the file that should supply it. Nothing in a file is executed.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..video_core.families import family_of
from ..video_core.weights import (
    Checkpoint,
    CheckpointError,
    Renamed,
    Tensors,
    built,
    common_dtype,
    find_weights,
    load_exactly,
    open_checkpoint,
    read_config,
    shown,
    source_of,
)
from . import keys
from .config import ControlNetConfig, ResamplerConfig, XDynaConfig
from .controlnet import ControlNet
from .image_prompt import Resampler
from .motion import position_table
from .unet import XDynaUNet

StrPath = str | os.PathLike[str]

SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt", ".bin")
"""Of the files that count when a folder is given."""

CONTROLS = {3: "X-Dyna's pose ControlNet", 6: "X-Dyna's face ControlNet (local and global map)"}
"""What the number of control channels stands for."""

IP_ADAPTER_PLUS = "IP-Adapter-plus for SD1.5 (ip-adapter-plus_sd15)"

LISTED = 3
"""Names that an error shows of each group."""


@dataclass(frozen=True)
class Telltale:
    """A tensor whose second dimension shows which model a file belongs to, where its names do not.

    attribute: of the config, the right value; kinds: what other values stand for; instead: what to give.
    """

    pattern: re.Pattern[str]
    attribute: str
    kinds: Mapping[int, str]
    instead: str


TELLTALES = (
    Telltale(
        re.compile(r"^conv_in\.weight$"),
        "in_channels",
        {9: "an inpainting model", 8: "a picture-editing model (InstructPix2Pix)"},
        "an ordinary SD1.5 model",
    ),
    Telltale(
        re.compile(r"\.attn2\.to_[kv](_ip)?\.weight$"),
        "cross_attention_dim",
        {1024: "made for SD2", 1280: "made for the SDXL refiner", 2048: "made for SDXL"},
        "the file for SD1.5",
    ),
    Telltale(
        re.compile(r"\.pos_encoder\.pe$"),
        "motion_max_frames",
        {32: "an AnimateDiff motion module of version 2 or 3"},
        "version 1 (mm_sd_v15)",
    ),
)


def load_unet(paths: Sequence[StrPath], dtype: torch.dtype | None = None) -> XDynaUNet:
    """X-Dyna's UNet from files that together hold it; later files win.

    paths: any of a full X-Dyna checkpoint; an SD1.5 base (diffusers folder, diffusers or LDM single file);
        an AnimateDiff v1 motion module; an IP-Adapter-plus; the X-Dyna checkpoint over them.
    dtype: of all weights; None = the files', float32 where they differ.
    Returns the network in eval mode, without gradients, on the CPU. A file may carry its architecture as
    metadata ``config``; without it, it is the release's. Raises CheckpointError with a sentence: a file of
    another family, a part that no file supplies.
    """
    if not paths:
        raise CheckpointError("No file was given for the X-Dyna UNet; give its checkpoint, or its parts.")
    files = [open_checkpoint(weights_file(path, "unet")) for path in paths]
    config = _unet_config(files)
    net = built(XDynaUNet, config, Overlay(*files))
    expected = net.state_dict()
    given = Overlay(*(_unet_part(file, config, expected) for file in files))
    whole = _complete(given, expected)
    load_exactly(net, whole, source="the X-Dyna UNet", dtype=dtype or common_dtype(given))
    return net.eval().requires_grad_(False)


def load_controlnet(path: StrPath, channels: int = 3, dtype: torch.dtype | None = None) -> ControlNet:
    """A ControlNet for pose (3 channels) or face (6), in diffusers' or LDM's names, .ckpt or safetensors.

    Raises CheckpointError with a sentence for a file that is no ControlNet, or one of other channels.
    """
    wanted = CONTROLS.get(channels, f"a ControlNet of {channels} channels")
    file = open_checkpoint(weights_file(path))
    names = _cleaned_names(file)
    _refuse_strangers(file, names, keys.CONTROLNETS, wanted)
    config = read_config(file, ControlNetConfig(conditioning_channels=channels))
    part = Renamed(file, _controlnet_names(names, config))
    _refuse_other_families(part, config)
    _refuse_other_channels(part, channels, wanted)
    net = built(ControlNet, config, file)
    load_exactly(net.net, part, source=wanted, dtype=dtype or common_dtype(part))
    return net.eval().requires_grad_(False)


def load_resampler(path: StrPath, dtype: torch.dtype | None = None) -> Resampler:
    """The Resampler of an IP-Adapter-plus file (.bin or safetensors; its ``image_proj``), or of its own file.

    Raises CheckpointError with a sentence for an IP-Adapter of another kind.
    """
    file = open_checkpoint(weights_file(path))
    names = _cleaned_names(file)
    _refuse_strangers(file, names, keys.IMAGE_PROMPTS, IP_ADAPTER_PLUS)
    net = built(Resampler, read_config(file, ResamplerConfig()), file)
    part = Renamed(file, _inside(names, "image_proj.") or names)
    load_exactly(net, part, source=IP_ADAPTER_PLUS, dtype=dtype or common_dtype(part))
    return net.eval().requires_grad_(False)


def weights_file(path: StrPath, subfolder: str | None = None) -> Path:
    """A file itself; of a folder, or its ``subfolder``, the only weights or those named as diffusers does."""
    path = Path(path)
    if not path.is_dir():
        return path
    folder = path / subfolder if subfolder and (path / subfolder).is_dir() else path
    found = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES]
    return found[0] if len(found) == 1 else find_weights(folder, "diffusion_pytorch_model")


class Overlay(Tensors):
    """Tensors laid over each other: a later layer's tensor hides an earlier one's of the same name."""

    def __init__(self, *layers: Mapping[str, Tensor]) -> None:
        self._layers = layers
        self._holder = {name: layer for layer in layers for name in layer}
        self.source = ", ".join(dict.fromkeys(source_of(x) for x in layers if isinstance(x, Tensors)))

    def __getitem__(self, name: str) -> Tensor:
        return self._holder[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._holder)

    def __len__(self) -> int:
        return len(self._holder)

    def release(self) -> None:
        for layer in self._layers:
            if isinstance(layer, Tensors):
                layer.release()


# ---- the UNet ------------------------------------------------------------------------------------------


def _unet_config(files: Sequence[Checkpoint]) -> XDynaConfig:
    """The architecture that a file's metadata describes, else the release's."""
    described = {read_config(file, XDynaConfig()) for file in files if "config" in file.metadata}
    if len(described) > 1:
        raise CheckpointError(
            f"{', '.join(file.source for file in files)} are parts of networks of different sizes; "
            "give parts that belong together."
        )
    return described.pop() if described else XDynaConfig()


def _unet_part(file: Checkpoint, config: XDynaConfig, expected: Mapping[str, Tensor]) -> Renamed:
    """One file under the published names; CheckpointError if it holds anything that the UNet has not."""
    names = _cleaned_names(file)
    parts = "; ".join(group.supplier for group in keys.GROUPS if group.supplier != keys.COMPUTED)
    _refuse_strangers(file, names, keys.UNET_PARTS, parts)
    part = Renamed(file, _unet_names(names, config))
    _refuse_other_families(part, config)
    unexpected = [name for name in part if name not in expected]
    if unexpected:
        raise CheckpointError(
            f"{file.source} holds keys that the X-Dyna UNet has not ({_some(unexpected)}). Give {parts}."
        )
    return part


def _unet_names(names: Mapping[str, str], config: XDynaConfig) -> dict[str, str]:
    """Published name -> the file's, by the convention that the names show; unknown names stay."""
    # A whole pipeline in one file: its autoencoder and text encoder are not asked for.
    names = _inside(names, keys.LDM_UNET) or _inside(names, "unet.") or names
    if any(name.startswith("input_blocks.") for name in names):
        modules = keys.ldm_unet_modules(config)
        return {keys.renamed(name, modules) or name: old for name, old in names.items()}
    if any(name.startswith("ip_adapter.") for name in names):
        numbered = keys.ip_adapter_names(config)
        return {numbered.get(n, n): o for n, o in names.items() if not n.startswith("image_proj.")}
    if any(".motion_modules." in name and ".temporal_transformer." not in name for name in names):
        return {ours: old for name, old in names.items() for ours in keys.from_motion_adapter(name)}
    return dict(names)


def _complete(given: Overlay, expected: Mapping[str, Tensor]) -> Overlay:
    """The files' tensors with what may be computed; CheckpointError that says who supplies the rest."""
    tables = {
        name: position_table(*place.shape[1:])
        for name, place in expected.items()
        if name.endswith(".pos_encoder.pe") and name not in given
    }
    whole = Overlay(tables, Renamed(given, _copied_queries(given, expected)), given)
    missing = [name for name in expected if name not in whole]
    if missing:
        raise CheckpointError(f"{given.source}: {_missing_sentence(missing, expected)}")
    return whole


def _copied_queries(given: Overlay, expected: Mapping[str, Tensor]) -> dict[str, str]:
    """Adapter queries that no file holds are the frames' own, as the original fills them (X-Dyna spec 2.1).

    Only where the trained output projection is there: without it nothing of the adapter has been given.
    """
    copies = {name: name.replace(".to_q_ff.", ".to_q.") for name in expected if ".to_q_ff." in name}
    return {
        name: source
        for name, source in copies.items()
        if name not in given and source in given and name.replace(".to_q_ff.", ".to_out_ff.") in given
    }


def _missing_sentence(missing: Sequence[str], expected: Mapping[str, Tensor]) -> str:
    wanted = Counter(keys.group_of(name).name for name in expected)
    lacking = []
    for group in keys.GROUPS:
        names = [name for name in missing if keys.group_of(name) is group]
        if names:
            number = f"{len(names)} of {wanted[group.name]} {group.name} keys"
            lacking.append(f"{number} ({_some(names)}), which come from {group.supplier}")
    return f"this does not make a whole X-Dyna UNet. Missing: {'; '.join(lacking)}. Add the files named."


# ---- ControlNets ---------------------------------------------------------------------------------------


def _controlnet_names(names: Mapping[str, str], config: ControlNetConfig) -> dict[str, str]:
    """Published name -> the file's; unknown names stay."""
    names = _inside(names, keys.LDM_CONTROLNET) or names
    if not any(name.startswith("input_blocks.") for name in names):
        return dict(names)
    modules = keys.ldm_controlnet_modules(config)
    return {keys.renamed(name, modules) or name: old for name, old in names.items()}


def _refuse_other_channels(part: Renamed, channels: int, wanted: str) -> None:
    """A face ControlNet given for pose, or the other way round."""
    name = "controlnet_cond_embedding.conv_in.weight"
    shape = part[name].shape if name in part else ()
    if len(shape) == 4 and shape[1] != channels:
        raise CheckpointError(
            f"{part.source} takes control pictures of {shape[1]} channels "
            f"({CONTROLS.get(shape[1], 'no ControlNet of this system')}); {wanted} takes {channels}. "
            "Choose another file, or load it as what it is."
        )


# ---- telling files apart -------------------------------------------------------------------------------


def _cleaned_names(file: Checkpoint) -> dict[str, str]:
    """Name without training wrappers -> the file's name."""
    return {keys.cleaned(name): name for name in file}


def _inside(names: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The names with the prefix, without it; empty where the file has no such section."""
    return {name.removeprefix(prefix): old for name, old in names.items() if name.startswith(prefix)}


def _refuse_strangers(file: Checkpoint, names: Mapping[str, str], wanted: Set[str], instead: str) -> None:
    """A file whose names are another kind's; names that nobody knows are left to the exact comparison."""
    family = family_of(names)
    if family is not None and family not in wanted:
        raise CheckpointError(f"{file.source} is {family}. Give {instead}.")


def _refuse_other_families(part: Renamed, config: XDynaConfig | ControlNetConfig) -> None:
    """Models whose names are SD1.5's but whose shapes are not."""
    for name in part:
        for telltale in TELLTALES:
            if not telltale.pattern.search(name):
                continue
            shape, wanted = part[name].shape, getattr(config, telltale.attribute)
            width = shape[1] if len(shape) > 1 else None
            if width != wanted and width in telltale.kinds:
                raise CheckpointError(
                    f"{part.source} is {telltale.kinds[width]}: {name} has {width} where X-Dyna has "
                    f"{wanted}. Give {telltale.instead}."
                )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:LISTED])) + (", ..." if len(names) > LISTED else "")
