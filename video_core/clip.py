"""CLIP's text and image towers by transformers, from the files people have; no network access.

UniAnimate takes both towers of OpenCLIP's ViT-H-14 (UniAnimate spec 2.2 and 8); X-Dyna takes the image
tower of the same model in IP-Adapter's folder and Stable Diffusion 1.5's text tower (X-Dyna spec 1).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from .images import resize
from .weights import (
    Renamed,
    built,
    common_dtype,
    find_folder,
    find_weights,
    folder_config,
    load_exactly,
    open_checkpoint,
    read_config,
    read_folder_config,
    source_of,
)

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

Config = TypeVar("Config", "TextConfig", "VisionConfig")


@dataclass(frozen=True)
class TextConfig:
    """A text tower by transformers' names; the defaults are OpenCLIP ViT-H-14's.

    start_id, end_id, padding_id: tokens that frame and fill a prompt.
    """

    vocab_size: int = 49408
    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    max_position_embeddings: int = 77
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    start_id: int = 49406
    end_id: int = 49407
    padding_id: int = 0

    def empty(self) -> Tensor:
        """int64 [1, length]: the ids of an empty prompt, which needs no tokenizer."""
        ids = torch.full((1, self.max_position_embeddings), self.padding_id)
        ids[0, 0], ids[0, 1] = self.start_id, self.end_id
        return ids


OPEN_CLIP_TEXT = TextConfig()
SD15_TEXT = TextConfig(
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    hidden_act="quick_gelu",
    padding_id=49407,
)


@dataclass(frozen=True)
class VisionConfig:
    """An image tower by transformers' names; the defaults are ViT-H-14's."""

    hidden_size: int = 1280
    intermediate_size: int = 5120
    num_hidden_layers: int = 32
    num_attention_heads: int = 16
    image_size: int = 224
    patch_size: int = 14
    projection_dim: int = 1024
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5


class TextFeatures(NamedTuple):
    """float32 [b, length, hidden_size] each, both after the final layer norm.

    last: of all layers (X-Dyna). penultimate: of all but the last (UniAnimate's ``zero_y``).
    """

    last: Tensor
    penultimate: Tensor


class ImageFeatures(NamedTuple):
    """embeds: float32 [b, projection_dim], the projected class token, not normalised (UniAnimate).

    penultimate: float32 [b, 1 + patches, hidden_size], what enters the last layer, class token first, without
    the last norm (X-Dyna).
    """

    embeds: Tensor
    penultimate: Tensor


class ClipText(nn.Module):
    """A text tower; ``network`` is transformers' CLIPTextModel."""

    def __init__(self, config: TextConfig) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        self.config = config
        ids = {
            "bos_token_id": config.start_id,
            "eos_token_id": config.end_id,
            "pad_token_id": config.padding_id,
        }
        self.network = CLIPTextModel(CLIPTextConfig(**_theirs(config), **ids))

    @torch.no_grad()
    def encode(self, ids: Tensor, device: torch.device | None = None) -> TextFeatures:
        """Token ids [b, length] -> features, on the device of the ids."""
        norm = self._final_norm()
        output = self.network(input_ids=ids.to(device or norm.weight.device), output_hidden_states=True)
        found = output.last_hidden_state, norm(output.hidden_states[-2])
        return TextFeatures(*(x.to(ids.device, torch.float32) for x in found))

    def _final_norm(self) -> nn.LayerNorm:
        # transformers 4 has the tower one level deeper.
        return getattr(self.network, "text_model", self.network).final_layer_norm


class ClipVision(nn.Module):
    """An image tower; ``network`` is transformers' CLIPVisionModelWithProjection."""

    def __init__(self, config: VisionConfig) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        super().__init__()
        self.config = config
        self.network = CLIPVisionModelWithProjection(CLIPVisionConfig(**_theirs(config)))

    @torch.no_grad()
    def encode(self, pixels: Tensor, device: torch.device | None = None) -> ImageFeatures:
        """Normalised pixels [b, 3, image_size, image_size] -> features, on the device of the pixels."""
        weight = self.network.visual_projection.weight
        placed = pixels.to(device or weight.device, weight.dtype)
        output = self.network(pixel_values=placed, output_hidden_states=True)
        found = output.image_embeds, output.hidden_states[-2]
        return ImageFeatures(*(x.to(pixels.device, torch.float32) for x in found))

    def blank(self) -> Tensor:
        """float32 [1, 3, image_size, image_size] of zeros after normalising: X-Dyna's unconditional one."""
        return torch.zeros(1, 3, self.config.image_size, self.config.image_size)


# ---- pictures ------------------------------------------------------------------------------------------


def squashed_pixels(picture: np.ndarray, side: int = 224) -> Tensor:
    """A uint8 RGB picture squeezed into a square (PIL bilinear): float32 [1, 3, side, side].

    UniAnimate spec 2.1 (``vit_frame``): proportions not kept, CLIP's mean and deviation.
    """
    return _normalised(resize(picture, (side, side), "bilinear"))


def cropped_pixels(picture: np.ndarray, side: int = 224) -> Tensor:
    """The centre square of a uint8 RGB picture (PIL bicubic): float32 [1, 3, side, side].

    CLIPImageProcessor's defaults (X-Dyna spec 1.2): the short edge becomes ``side``, the long one is
    truncated to whole pixels, as is the offset of the square.
    """
    height, width = picture.shape[:2]
    short = min(width, height)
    scaled = resize(picture, (side * width // short, side * height // short), "bicubic")
    top, left = (scaled.shape[0] - side) // 2, (scaled.shape[1] - side) // 2
    return _normalised(scaled[top : top + side, left : left + side])


def _normalised(square: np.ndarray) -> Tensor:
    mean, std = (rearrange(torch.tensor(values), "c -> c 1 1") for values in (MEAN, STD))
    pixels = rearrange(torch.from_numpy(np.ascontiguousarray(square)), "h w c -> c h w").float().div(255)
    return ((pixels - mean) / std)[None]


# ---- files ---------------------------------------------------------------------------------------------

BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
"""transformers' parts of a layer -> OpenCLIP's parts of a residual block."""

AROUND_TEXT = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
AROUND_VISION = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
    "visual_projection.weight": "proj",
}
"""transformers' names around the layers -> OpenCLIP's; ``proj`` is the linear layer's weight transposed."""

THIRDS = {"q": 0, "k": 1, "v": 2}
"""Rows of OpenCLIP's in_proj, in thirds."""

TEXT_PREFIXES = ("cond_stage_model.transformer.text_model.", "cond_stage_model.model.", "text_model.", "")
VISION_PREFIXES = ("vision_model.", "visual.", "")
"""Where files keep a tower, the longest first; the first that fits any name is taken."""

NOT_THE_TEXT_TOWER = re.compile(
    r"^(visual\.|vision_model\.|visual_projection\.|text_projection|logit_scale$|attn_mask$|.*\.position_ids$)"
)
NOT_THE_VISION_TOWER = re.compile(
    r"^(text_model\.|text_projection|logit_scale$|attn_mask$|token_embedding\.|positional_embedding$|"
    r"ln_final\.|transformer\.|.*position_ids$)"
)
"""The other tower and what neither uses, in files that hold a whole CLIP model (UniAnimate spec 8)."""


def open_clip_source(name: str, around: Mapping[str, str]) -> tuple[str, Any] | str:
    """Where OpenCLIP keeps a parameter of transformers' tower, with the transform that turns it into ours."""
    if name in around:
        old = around[name]
        return (old, torch.t) if old == "proj" else old
    layer = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if layer is None:
        return name
    number, part, kind = layer.groups()
    block = f"transformer.resblocks.{number}."
    qkv = re.fullmatch(r"self_attn\.([qkv])_proj", part)
    if qkv is None:
        return f"{block}{BLOCK.get(part, part)}.{kind}"
    third = THIRDS[qkv[1]]
    return f"{block}attn.in_proj_{kind}", lambda stacked: stacked.chunk(3)[third]


def load_clip_text(path: str | os.PathLike[str], dtype: torch.dtype | None = None) -> ClipText:
    """A text tower from a file or folder, on the CPU.

    Taken: ``open_clip_pytorch_model.bin`` (or its safetensors twin), a Stable Diffusion 1.5 or 2.1 checkpoint
    (``cond_stage_model.…``), a transformers file or folder or its parent (``text_encoder``).
    Raises CheckpointError.
    """
    tensors, stored = _open(path, "text_encoder")
    default = OPEN_CLIP_TEXT if _is_open_clip(tensors) else SD15_TEXT
    config = _config(tensors, stored, default, "text_config")
    return text_from_tensors(tensors, config, dtype)


def load_clip_vision(path: str | os.PathLike[str], dtype: torch.dtype | None = None) -> ClipVision:
    """An image tower from a file or folder, on the CPU.

    Taken: ``open_clip_pytorch_model.bin`` (or its safetensors twin), a transformers file or folder or its
    parent (``image_encoder``). Raises CheckpointError.
    """
    tensors, stored = _open(path, "image_encoder")
    return vision_from_tensors(tensors, _config(tensors, stored, VisionConfig(), "vision_config"), dtype)


def text_from_tensors(
    tensors: Mapping[str, Tensor], config: TextConfig, dtype: torch.dtype | None = None
) -> ClipText:
    """A text tower of that architecture with these tensors, whichever of the known namings they have."""
    clip = built(ClipText, config, tensors)
    part = _part(tensors, TEXT_PREFIXES, NOT_THE_TEXT_TOWER)
    table = _table(clip.network, part, "text_model.", AROUND_TEXT)
    return _loaded(clip, Renamed(tensors, table), "a CLIP text tower", dtype)


def vision_from_tensors(
    tensors: Mapping[str, Tensor], config: VisionConfig, dtype: torch.dtype | None = None
) -> ClipVision:
    """An image tower of that architecture with these tensors, whichever of the known namings they have."""
    clip = built(ClipVision, config, tensors)
    part = _part(tensors, VISION_PREFIXES, NOT_THE_VISION_TOWER)
    table = _table(clip.network, part, "vision_model.", AROUND_VISION)
    return _loaded(clip, Renamed(tensors, table), "the CLIP ViT-H-14 image tower", dtype)


def _open(path: str | os.PathLike[str], part: str) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """The tensors of a file or model folder, and the folder's config.json ({} of a file)."""
    path = Path(path)
    if not path.is_dir():
        return open_checkpoint(path), {}
    folder = find_folder(path, part)
    return open_checkpoint(find_weights(folder, "model", "pytorch_model")), read_folder_config(folder)


def _config(tensors: Mapping[str, Tensor], stored: dict[str, Any], default: Config, key: str) -> Config:
    """The architecture: of the file's metadata, else of the folder's config.json, else ``default``."""
    inner = stored.get(key)
    stored = inner if isinstance(inner, dict) else stored
    known = {f.name for f in fields(default)} & stored.keys()
    folder = Path(source_of(tensors)).parent
    default = folder_config(folder, default, {name: stored[name] for name in known})
    return read_config(tensors, default, key, "config")


def _is_open_clip(tensors: Mapping[str, Tensor]) -> bool:
    return any("transformer.resblocks." in name for name in tensors)


def _part(
    tensors: Mapping[str, Tensor], prefixes: tuple[str, ...], others: re.Pattern[str]
) -> dict[str, str]:
    """Name without prefix -> name in the file, of the tensors that can belong to the tower."""
    prefix = next(p for p in prefixes if any(name.startswith(p) for name in tensors))
    if prefix.startswith("cond_stage_model."):
        return {
            n[len(prefix) :]: n
            for n in tensors
            if n.startswith(prefix) and not others.match(n[len(prefix) :])
        }
    return {n.removeprefix(prefix): n for n in tensors if not others.match(n)}


def _table(
    network: nn.Module, part: Mapping[str, str], own_prefix: str, around: Mapping[str, str]
) -> dict[str, Any]:
    """The network's names -> names in the file (with transforms); what is left over keeps its own name."""
    table: dict[str, Any] = {}
    unused = set(part)
    for name in network.state_dict():
        plain = name.removeprefix(own_prefix)
        source = plain if plain in part else open_clip_source(plain, around)
        old, transform = source if isinstance(source, tuple) else (source, None)
        if old in part:
            unused.discard(old)
            table[name] = (part[old], transform) if transform else part[old]
    return table | {part[name]: part[name] for name in unused}


def _loaded(clip: nn.Module, tensors: Renamed, source: str, dtype: torch.dtype | None):
    for module in clip.modules():
        if hasattr(module, "position_ids") and hasattr(module, "position_embedding"):
            # A constant that no file holds; on the meta device it lost its values.
            count = module.position_embedding.num_embeddings
            module.position_ids = torch.arange(count).expand(1, -1)
    load_exactly(clip.network, tensors, source=source, dtype=dtype or common_dtype(tensors))
    return clip.eval().requires_grad_(False)


def _theirs(config: TextConfig | VisionConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(config).items() if not name.endswith("_id")}
