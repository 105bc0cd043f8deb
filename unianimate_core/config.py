"""The architecture of a UniAnimate network, as data (UniAnimate spec 1 and 3)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NORM_GROUPS = 32
"""Groups of every GroupNorm of the network."""

TOWER_HEADS = 2
"""Heads of the attention over frames that follows each conditioning tower."""

DEAD_OPTIONS = frozenset(
    {"y_dim", "dropout", "temporal_attn_times", "use_checkpoint", "use_sim_mask", "training", "name", "type"}
)
"""Keys of the published ``UNet`` section without effect on the network at inference (UniAnimate spec 12)."""

FIXED_OPTIONS = {"temporal_attention": True, "use_fps_condition": False}
"""Keys of the published ``UNet`` section with one working value (UniAnimate spec 1 and 12)."""


@dataclass(frozen=True)
class UniAnimateConfig:
    """Widths and depths; the defaults are the release's (1,416,564,300 parameters).

    in_dim, out_dim: latent channels of input and prediction.
    dim, dim_mult: width of the first level, and of each level relative to it; a level halves the resolution.
    num_res_blocks: residual blocks per level on the way down, one more on the way up.
    attn_scales: resolutions (1 = the latents') whose blocks have attention.
    head_dim: width of a head everywhere; num_heads: heads of the first temporal transformer alone.
    context_dim: width of the text and image tokens; num_tokens: image tokens.
    concat_dim: channels of the pose features that are concatenated to the latents.
    """

    in_dim: int = 4
    out_dim: int = 4
    dim: int = 320
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attn_scales: tuple[float, ...] = (1.0, 0.5, 0.25)
    head_dim: int = 64
    num_heads: int = 8
    context_dim: int = 1024
    num_tokens: int = 4
    concat_dim: int = 8

    def __post_init__(self) -> None:
        for name, kind in (("dim_mult", int), ("attn_scales", float)):
            object.__setattr__(self, name, _positive_tuple(name, getattr(self, name), kind))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, tuple) and not _is_positive(value, int):
                raise ValueError(f"{field.name} must be a positive whole number, got {value!r}")
        for width in self.widths:
            if width % NORM_GROUPS or width < self.head_dim:
                raise ValueError(
                    f"dim {self.dim} times the factors {self.dim_mult} gives a level of width {width}; "
                    f"widths are multiples of {NORM_GROUPS} (norm groups) that hold a head of {self.head_dim}"
                )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.dim * m for m in self.dim_mult)

    @property
    def embed_dim(self) -> int:
        """Width of the time embedding."""
        return 4 * self.dim

    @property
    def slot_dim(self) -> int:
        """Input channels: latents and pose features, or the reference instead (UniAnimate spec 3.2)."""
        return self.in_dim + self.concat_dim

    @property
    def tower_dim(self) -> int:
        """Inner width of the conditioning towers."""
        return 4 * self.concat_dim

    @property
    def stride(self) -> int:
        """Height and width of the latents must be multiples of this: each level but the last halves them."""
        return 2 ** (len(self.dim_mult) - 1)

    def has_attention(self, level: int) -> bool:
        """Whether the blocks of a level (0 = finest) carry spatial and temporal transformers."""
        return 0.5**level in self.attn_scales

    def to_json(self) -> str:
        """JSON object of all fields, as a checkpoint's metadata ``config`` carries it."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> UniAnimateConfig:
        """The inverse of ``to_json``; fields left out take the release's value. ValueError for other text."""
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"a UniAnimate config is a JSON object, got {text[:80]!r} ({error})") from error
        if not isinstance(fields, dict):
            raise ValueError(f"a UniAnimate config is a JSON object, got {text[:80]!r}")
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown in a UniAnimate config: {unknown}; known are {sorted(known)}")
        return cls(**fields)

    @classmethod
    def from_release(cls, section: Mapping[str, Any]) -> UniAnimateConfig:
        """From the ``UNet`` section of the published YAML; dead options are dropped, broken ones refused."""
        for option, works in FIXED_OPTIONS.items():
            if section.get(option, works) != works:
                raise ValueError(f"{option}={section[option]!r} does not work in UniAnimate; use {works}")
        kept = {k: v for k, v in section.items() if k not in DEAD_OPTIONS and k not in FIXED_OPTIONS}
        return cls.from_json(json.dumps(kept))


def _is_positive(value: Any, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and value > 0


def _positive_tuple(name: str, values: Any, kind: type) -> tuple:
    """The values as a tuple of one type (JSON gives lists, and 1 for 1.0)."""
    is_list = isinstance(values, list | tuple) and len(values) > 0
    if not is_list or not all(_is_positive(value, (int, kind)) for value in values):
        raise ValueError(f"{name} must be a list of positive numbers, got {values!r}")
    return tuple(kind(value) for value in values)
