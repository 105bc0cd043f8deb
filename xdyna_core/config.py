"""The architectures of X-Dyna's networks, as data whose defaults are the release (X-Dyna spec 2.1, 6, 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

FIXED_OPTIONS: Mapping[str, tuple[Any, ...]] = {
    "act_fn": ("silu",),
    "center_input_sample": (False,),
    "cfg_ratio": (0.0,),
    "cross_id": (True,),
    "downsample_padding": (1,),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "mid_block_scale_factor": (1, 1.0),
    "motion_module_decoder_only": (False,),
    "motion_module_mid_block": (False,),
    "motion_module_type": ("Vanilla",),
    "temporal_attention_dim_div": (1,),
    "temporal_position_encoding": (True,),
    "unet_use_cross_frame_attention": ("mixed_cross",),
    "unet_use_ipadapter": (True,),
    "unet_use_temporal_attention": (False,),
    "use_inflated_groupnorm": (False,),
    "use_motion_module": (True,),
    "use_reference_image_cfg": (False,),
}
"""Published options with one supported value each: the release has no other (X-Dyna spec 2.1, 3, 5)."""

LONGEST_TABLE = 1024
"""Positions of the motion modules: their tables are computed where no file holds them."""


@dataclass(frozen=True)
class XDynaConfig:
    """The 3-D UNet (X-Dyna spec 2.1). Its levels run from fine to coarse, one down block each.

    attention_levels:  which levels have spatial transformers (every level has motion modules).
    attention_heads:   heads of the spatial attentions; SD1.5's config calls it ``attention_head_dim``.
    text_tokens, image_tokens: the context is [text tokens, image tokens] along its token axis.
    motion_max_frames: positions known to the motion modules, so the longest window.
    """

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    layers_per_block: int = 2
    cross_attention_dim: int = 768
    attention_heads: int = 8
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    text_tokens: int = 77
    image_tokens: int = 16
    motion_heads: int = 8
    motion_blocks: int = 1
    motion_attentions: int = 2
    motion_max_frames: int = 24

    def __post_init__(self) -> None:
        if len(self.attention_levels) != len(self.block_out_channels):
            raise ValueError(
                f"attention_levels names {len(self.attention_levels)} levels, "
                f"block_out_channels {len(self.block_out_channels)}; give both the same length."
            )
        if self.motion_max_frames > LONGEST_TABLE:
            raise ValueError(f"motion_max_frames is at most {LONGEST_TABLE}; got {self.motion_max_frames}.")

    @classmethod
    def from_release(cls, config: Mapping[str, Any]) -> XDynaConfig:
        """From the ``config.json`` of a UNet with the yaml's ``unet_additional_kwargs`` merged into it."""
        motion = config.get("motion_module_kwargs", {})
        _refuse_other_options({**config, **motion})
        return cls(
            attention_levels=_attention_levels(config),
            attention_heads=config["attention_head_dim"],
            motion_heads=motion.get("num_attention_heads", cls.motion_heads),
            motion_blocks=motion.get("num_transformer_block", cls.motion_blocks),
            motion_attentions=len(motion.get("attention_block_types", range(cls.motion_attentions))),
            motion_max_frames=motion.get("temporal_position_encoding_max_len", cls.motion_max_frames),
            **_same_names(cls, config),
        )


@dataclass(frozen=True)
class ControlNetConfig:
    """A ControlNet: 3 control channels for pose, 6 for the face maps [local, global] (X-Dyna spec 6)."""

    conditioning_channels: int = 3
    in_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    layers_per_block: int = 2
    cross_attention_dim: int = 768
    attention_heads: int = 8
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    conditioning_embedding_out_channels: tuple[int, ...] = (16, 32, 96, 256)

    @classmethod
    def from_release(cls, config: Mapping[str, Any]) -> ControlNetConfig:
        """From a ``config.json`` as diffusers writes it for a ControlNetModel."""
        _refuse_other_options(config)
        return cls(
            attention_levels=_attention_levels(config),
            attention_heads=config["attention_head_dim"],
            **_same_names(cls, config),
        )

    def for_diffusers(self) -> dict[str, Any]:
        """Arguments of ``diffusers.ControlNetModel``."""
        values = asdict(self)
        levels = values.pop("attention_levels")
        heads = values.pop("attention_heads")
        return {
            **values,
            "attention_head_dim": heads,
            "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in levels),
        }


@dataclass(frozen=True)
class ResamplerConfig:
    """IP-Adapter-plus's Resampler: image features -> ``num_queries`` tokens (X-Dyna spec 7)."""

    dim: int = 768
    depth: int = 4
    dim_head: int = 64
    heads: int = 12
    num_queries: int = 16
    embedding_dim: int = 1280
    output_dim: int = 768
    ff_mult: int = 4


def _same_names(cls: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a published config that bear our own names."""
    named = {field.name for field in fields(cls)} & set(config)
    return {name: tuple(v) if isinstance(v := config[name], list) else v for name in named}


def _attention_levels(config: Mapping[str, Any]) -> tuple[bool, ...]:
    """SD1.5's rule where a config names no block types: all levels but the coarsest."""
    levels = len(config["block_out_channels"])
    types = config.get("down_block_types") or ["CrossAttn"] * (levels - 1) + ["plain"]
    return tuple("CrossAttn" in kind for kind in types)


def _refuse_other_options(config: Mapping[str, Any]) -> None:
    """ValueError for an option that the release does not use and these modules do not build."""
    for name, values in FIXED_OPTIONS.items():
        if name in config and config[name] not in values:
            raise ValueError(f"{name} = {config[name]!r} is not X-Dyna's; its value is {values[0]!r}.")
