from __future__ import annotations

import dataclasses

import pytest
from xdyna_unianimate.unianimate_core.config import UniAnimateConfig

from .tiny import CONFIG

RELEASE_SECTION = {
    "in_dim": 4, "dim": 320, "y_dim": 1024, "context_dim": 1024, "out_dim": 4, "dim_mult": [1, 2, 4, 4],
    "num_heads": 8, "head_dim": 64, "num_res_blocks": 2, "dropout": 0.1, "temporal_attention": True,
    "num_tokens": 4, "temporal_attn_times": 1, "use_checkpoint": True, "use_fps_condition": False,
    "use_sim_mask": False,
}  # fmt: skip
"""The ``UNet`` section of the published configuration (UniAnimate spec 1)."""


def test_defaults_are_the_release() -> None:
    assert UniAnimateConfig.from_release(RELEASE_SECTION) == UniAnimateConfig()


@pytest.mark.parametrize("config", [UniAnimateConfig(), CONFIG])
def test_json_round_trip(config: UniAnimateConfig) -> None:
    assert UniAnimateConfig.from_json(config.to_json()) == config


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        UniAnimateConfig().dim = 64


def test_derived_sizes() -> None:
    config = UniAnimateConfig()
    assert config.widths == (320, 640, 1280, 1280)
    assert (config.slot_dim, config.tower_dim, config.embed_dim, config.stride) == (12, 32, 1280, 8)
    assert [config.has_attention(level) for level in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "JSON object"),
        ("[1, 2]", "JSON object"),
        ('{"dims": 64}', "dims"),
        ('{"dim": 100}', "width 100"),
        ('{"head_dim": 512}', "a head of 512"),
        ('{"dim_mult": []}', "dim_mult"),
        ('{"num_res_blocks": 0}', "num_res_blocks"),
        ('{"num_tokens": 2.5}', "num_tokens"),
        ('{"dim_mult": [1, -1]}', "dim_mult"),
        ('{"attn_scales": ["1"]}', "attn_scales"),
        ('{"attn_scales": 1}', "attn_scales"),
    ],
)
def test_impossible_configs_are_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        UniAnimateConfig.from_json(text)


@pytest.mark.parametrize("option", [{"use_fps_condition": True}, {"temporal_attention": False}])
def test_options_that_never_worked_are_refused(option: dict[str, bool]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        UniAnimateConfig.from_release(RELEASE_SECTION | option)
