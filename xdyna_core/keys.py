"""Names of X-Dyna's weights: which part each belongs to, and what else the parts' files call them.

Our modules bear the published names. Everything here is data about names, and functions from names to names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..video_core import families
from .config import ControlNetConfig, XDynaConfig

UNET_PARTS = frozenset(
    {
        families.DIFFUSERS_UNET,
        families.IP_ADAPTER,
        families.LDM_UNET,
        families.MOTION_MODULE,
        families.MOTION_UNET,
        families.STABLE_DIFFUSION,
        families.XDYNA,
    }
)
"""Families of files that can hold a part of the UNet."""

CONTROLNETS = frozenset({families.LDM_CONTROL, families.XDYNA_CONTROL})
IMAGE_PROMPTS = frozenset({families.IP_ADAPTER})


@dataclass(frozen=True)
class Group:
    """A part of the UNet: its keys, and the file that supplies them."""

    name: str
    pattern: re.Pattern[str]
    supplier: str


COMPUTED = "nobody: it is computed"

GROUPS = (
    Group(
        "Dynamics-Adapter",
        re.compile(r"\.attn1\.to_(q_ff|out_ff)\."),
        "the X-Dyna UNet checkpoint",
    ),
    Group(
        "IP-Adapter",
        re.compile(r"\.attn2\.to_[kv]_ip\."),
        "IP-Adapter-plus for SD1.5 (ip-adapter-plus_sd15)",
    ),
    Group(
        "position table",
        re.compile(r"\.pos_encoder\.pe$"),
        COMPUTED,
    ),
    Group(
        "motion module",
        re.compile(r"\.motion_modules\."),
        "the AnimateDiff v1 motion module (mm_sd_v15)",
    ),
    Group(
        "SD1.5 UNet",
        re.compile(r""),
        "an SD1.5 checkpoint or its unet folder (any SD1.5 fine-tune)",
    ),
)
"""X-Dyna spec 2.1's groups, the first that matches; 48, 32, 40, 520 and 686 keys at full size."""


def group_of(name: str) -> Group:
    """The part of the UNet that a published name belongs to."""
    return next(group for group in GROUPS if group.pattern.search(name))


def cleaned(name: str) -> str:
    """Without the ``module.`` that training wrappers leave (X-Dyna spec 12); not in ``motion_modules.``."""
    return name.replace("module.", "")


# ---- LDM names -----------------------------------------------------------------------------------------

LDM_UNET = "model.diffusion_model."
LDM_CONTROLNET = "control_model."
"""Prefixes of the networks inside LDM checkpoints."""

LDM_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}

LDM_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
}

LDM_UNET_OUT = {"out.0": "conv_norm_out", "out.2": "conv_out"}


def ldm_unet_modules(config: XDynaConfig) -> dict[str, str]:
    """LDM module -> published module, for the SD1.5 part of the UNet."""
    return {**_ldm_encoder(config), **_ldm_decoder(config), **LDM_UNET_OUT}


def ldm_controlnet_modules(config: ControlNetConfig) -> dict[str, str]:
    """LDM module -> published module, for a ControlNet."""
    encoder = _ldm_encoder(config)
    inputs = {name.split(".")[1] for name in encoder if name.startswith("input_blocks.")}
    zero_convs = {f"zero_convs.{i}.0": f"controlnet_down_blocks.{i}" for i in range(len(inputs))}
    hint = "controlnet_cond_embedding"
    # The hint's convolutions stand at even places, SiLUs between them.
    pictures = {
        f"input_hint_block.{2 * (i + 1)}": f"{hint}.blocks.{i}"
        for i in range(2 * (len(config.conditioning_embedding_out_channels) - 1))
    }
    ends = {
        "input_hint_block.0": f"{hint}.conv_in",
        f"input_hint_block.{2 * (len(pictures) + 1)}": f"{hint}.conv_out",
        "middle_block_out.0": "controlnet_mid_block",
    }
    return {**encoder, **zero_convs, **pictures, **ends}


def renamed(name: str, modules: Mapping[str, str]) -> str | None:
    """The name with its module replaced by the table's longest match; None where the table has none."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        if module in modules:
            return ".".join([modules[module], *parts[length:]])
    return None


def _ldm_encoder(config: XDynaConfig | ControlNetConfig) -> dict[str, str]:
    """conv_in, time embedding, down blocks and middle: what UNets and ControlNets share."""
    table = dict(LDM_ENDS)
    place = 1
    for level, attention in enumerate(config.attention_levels):
        block = f"down_blocks.{level}"
        for layer in range(config.layers_per_block):
            table |= _ldm_layer(f"input_blocks.{place}", block, layer, attention)
            place += 1
        if level + 1 < len(config.attention_levels):
            table[f"input_blocks.{place}.0.op"] = f"{block}.downsamplers.0.conv"
            place += 1
    middle = _ldm_resnet("middle_block.0", "mid_block.resnets.0")
    middle |= _ldm_resnet("middle_block.2", "mid_block.resnets.1")
    return {**table, **middle, "middle_block.1": "mid_block.attentions.0"}


def _ldm_decoder(config: XDynaConfig) -> dict[str, str]:
    table: dict[str, str] = {}
    layers = config.layers_per_block + 1
    for i, attention in enumerate(reversed(config.attention_levels)):
        for layer in range(layers):
            table |= _ldm_layer(f"output_blocks.{i * layers + layer}", f"up_blocks.{i}", layer, attention)
        if i + 1 < len(config.attention_levels):
            # The upsampling stands in the last layer's block, after its attention where it has one.
            last = f"output_blocks.{(i + 1) * layers - 1}.{1 + attention}.conv"
            table[last] = f"up_blocks.{i}.upsamplers.0.conv"
    return table


def _ldm_layer(ldm: str, block: str, layer: int, attention: bool) -> dict[str, str]:
    table = _ldm_resnet(f"{ldm}.0", f"{block}.resnets.{layer}")
    return {**table, f"{ldm}.1": f"{block}.attentions.{layer}"} if attention else table


def _ldm_resnet(ldm: str, published: str) -> dict[str, str]:
    return {f"{ldm}.{theirs}": f"{published}.{ours}" for theirs, ours in LDM_RESNET.items()}


# ---- IP-Adapter and motion adapters --------------------------------------------------------------------


def ip_adapter_names(config: XDynaConfig) -> dict[str, str]:
    """IP-Adapter's name -> published name.

    IP-Adapter numbers a UNet's attentions in the order down, up, middle, self and cross in turn; only the
    cross-attentions, the odd numbers, have weights.
    """
    levels = list(enumerate(config.attention_levels))
    down = [f"down_blocks.{i}.attentions.{j}" for i, a in levels if a for j in range(config.layers_per_block)]
    up = [
        f"up_blocks.{i}.attentions.{j}"
        for i, a in enumerate(reversed(config.attention_levels))
        if a
        for j in range(config.layers_per_block + 1)
    ]
    return {
        f"ip_adapter.{2 * i + 1}.{to}.weight": f"{transformer}.transformer_blocks.0.attn2.{to}.weight"
        for i, transformer in enumerate([*down, *up, "mid_block.attentions.0"])
        for to in ("to_k_ip", "to_v_ip")
    }


MOTION_ADAPTER = (
    (".norm1.", ".norms.0."),
    (".norm2.", ".norms.1."),
    (".norm3.", ".ff_norm."),
    (".attn1.", ".attention_blocks.0."),
    (".attn2.", ".attention_blocks.1."),
)
"""diffusers' MotionAdapter -> AnimateDiff, inside a transformer block."""


def from_motion_adapter(name: str) -> list[str]:
    """The published names of one of a diffusers MotionAdapter; its position table serves both attentions."""
    name = re.sub(r"(\.motion_modules\.\d+\.)", r"\1temporal_transformer.", name)
    if name.endswith(".pos_embed.pe"):
        block = name.removesuffix("pos_embed.pe")
        return [f"{block}attention_blocks.{i}.pos_encoder.pe" for i in range(2)]
    for theirs, ours in MOTION_ADAPTER:
        name = name.replace(theirs, ours)
    return [name]
