"""Both towers of a tiny OpenCLIP against UniAnimate's use of them (UniAnimate spec 2.2 and 8)."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from xdyna_unianimate.video_core.clip import TextConfig, VisionConfig, text_from_tensors, vision_from_tensors

from .golden import Golden, files

FILES = files("unianimate", "clip*")


@cache
def opened(name: str):
    golden = Golden("unianimate", name)
    model = golden.meta["config"]
    text, vision = model["text_cfg"], model["vision_cfg"]
    start, end, padding = golden["text_tokens"][0, [0, 1, -1]].tolist()
    text_config = TextConfig(
        vocab_size=text["vocab_size"],
        hidden_size=text["width"],
        intermediate_size=4 * text["width"],
        num_hidden_layers=text["layers"],
        num_attention_heads=text["heads"],
        max_position_embeddings=text["context_length"],
        start_id=start,
        end_id=end,
        padding_id=padding,
    )
    vision_config = VisionConfig(
        hidden_size=vision["width"],
        intermediate_size=4 * vision["width"],
        num_hidden_layers=vision["layers"],
        num_attention_heads=vision["width"] // vision["head_width"],
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        projection_dim=model["embed_dim"],
    )
    weights = golden.under("weights.")
    return golden, text_from_tensors(weights, text_config), vision_from_tensors(weights, vision_config)


@pytest.mark.parametrize("name", FILES)
def test_image_embeds(name: str) -> None:
    golden, _, vision = opened(name)
    golden.check("image_embed", vision.encode(golden["pixel_values"]).embeds)


@pytest.mark.parametrize("name", FILES)
def test_empty_text(name: str) -> None:
    """zero_y, from ids that are made without a tokenizer."""
    golden, text, _ = opened(name)
    assert torch.equal(text.config.empty(), golden["text_tokens"])
    golden.check("text_features_penultimate", text.encode(golden["text_tokens"]).penultimate)
