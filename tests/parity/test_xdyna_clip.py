"""SD1.5's text tower and ViT-H's image tower against X-Dyna's use of them (X-Dyna spec 1.2 and 1.4)."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from xdyna_unianimate.video_core.clip import (
    TextConfig,
    VisionConfig,
    cropped_pixels,
    text_from_tensors,
    vision_from_tensors,
)

from .golden import Golden, files

FILES = files("xdyna", "clip*")


def config_of(kind: type, stored: dict):
    known = {f.name for f in fields(kind)}
    return kind(**{name: value for name, value in stored.items() if name in known})


@pytest.mark.parametrize("name", FILES)
def test_text(name: str) -> None:
    golden = Golden("xdyna", name)
    text = text_from_tensors(golden.under("text.weights."), config_of(TextConfig, golden.meta["text_config"]))
    golden.check("text_out", text.encode(golden["input_ids"]).last)


@pytest.mark.parametrize("name", FILES)
def test_image(name: str) -> None:
    golden = Golden("xdyna", name)
    weights = golden.under("vision.weights.")
    vision = vision_from_tensors(weights, config_of(VisionConfig, golden.meta["vision_config"]))
    golden.check("vision_hidden_minus2", vision.encode(golden["pixel_values"]).penultimate)


def zero_pictures(golden: Golden) -> list[int]:
    return [i for i, pixels in enumerate(golden["pixel_values"]) if not pixels.any()]


@pytest.mark.parametrize("name", [name for name in FILES if zero_pictures(Golden("xdyna", name))])
def test_the_unconditional_picture_is_zero_after_normalising(name: str) -> None:
    golden = Golden("xdyna", name)
    weights = golden.under("vision.weights.")
    vision = vision_from_tensors(weights, config_of(VisionConfig, golden.meta["vision_config"]))
    zeros = zero_pictures(golden)
    assert torch.equal(vision.blank()[0], golden["pixel_values"][zeros[0]])
    expected = golden["vision_hidden_minus2"][zeros]
    golden.check("vision_hidden_minus2", vision.encode(vision.blank()).penultimate, expected)


PICTURES = [
    (name, tensor.split(".")[1])
    for name in files("xdyna", "preprocess*")
    for tensor in Golden("xdyna", name).tensors
    if tensor.startswith("clip.") and tensor.endswith(".in")
]


@pytest.mark.parametrize(("name", "case"), PICTURES)
def test_pictures_are_cropped_as_the_processor_does(name: str, case: str) -> None:
    golden = Golden("xdyna", name)
    pixels = cropped_pixels(
        golden[f"clip.{case}.in"].numpy(), golden.meta["clip_processor"]["crop_size"]["height"]
    )
    golden.check(f"clip.{case}.pixel_values", pixels)
