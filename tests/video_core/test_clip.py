"""The towers' files and key tables, pictures and prompts; their numbers are compared in tests/parity."""

from __future__ import annotations

import gzip
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pytest
import torch
from PIL import Image
from xdyna_unianimate.video_core import clip
from xdyna_unianimate.video_core.clip import (
    OPEN_CLIP_TEXT,
    SD15_TEXT,
    ClipText,
    ClipVision,
    TextConfig,
    VisionConfig,
    load_clip_text,
    load_clip_vision,
)
from xdyna_unianimate.video_core.tokenizer import find_tokenizer, tokenize
from xdyna_unianimate.video_core.weights import CheckpointError, save_checkpoint

from ..manifest import MANIFESTS, summary, travelling

TEXT = TextConfig(
    vocab_size=20,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=3,
    num_attention_heads=2,
    max_position_embeddings=9,
    start_id=18,
    end_id=19,
)
VISION = VisionConfig(
    hidden_size=24,
    intermediate_size=32,
    num_hidden_layers=3,
    num_attention_heads=3,
    image_size=28,
    patch_size=14,
    projection_dim=10,
)
METADATA = {"text_config": json.dumps(asdict(TEXT)), "vision_config": json.dumps(asdict(VISION))}
MANIFEST = MANIFESTS / "unianimate" / "open_clip_vit_h_14.json"


@pytest.fixture(scope="module")
def text() -> ClipText:
    torch.manual_seed(0)
    return ClipText(TEXT).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def vision() -> ClipVision:
    torch.manual_seed(1)
    return ClipVision(VISION).eval().requires_grad_(False)


def hugging_face(network: torch.nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    """transformers 4's names, which every published file has: one prefix before the tower."""
    tensors = {k.removeprefix(prefix): v.clone() for k, v in network.state_dict().items()}
    return {k if k == "visual_projection.weight" else prefix + k: v for k, v in tensors.items()}


def open_clip(
    tensors: dict[str, torch.Tensor], prefix: str, around: dict[str, str], to: str
) -> dict[str, torch.Tensor]:
    """Tensors of a tower under OpenCLIP's names, its three projections stacked."""
    found: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        plain = name.removeprefix(prefix)
        source = clip.open_clip_source(plain, around)
        old, transform = source if isinstance(source, tuple) else (source, None)
        if ".in_proj_" in old:
            stacked = (
                [tensors[name.replace("q_proj", f"{x}_proj")] for x in "qkv"] if "q_proj" in name else None
            )
            found |= {to + old: torch.cat(stacked)} if stacked else {}
        else:
            found[to + old] = value.t().contiguous() if transform else value.clone()
    return found


def whole_open_clip(text: ClipText, vision: ClipVision) -> dict[str, torch.Tensor]:
    return (
        open_clip(text.network.state_dict(), "text_model.", clip.AROUND_TEXT, "")
        | open_clip(vision.network.state_dict(), "vision_model.", clip.AROUND_VISION, "visual.")
        | {
            "logit_scale": torch.tensor(1.0),
            "text_projection": torch.zeros(16, 10),
            "attn_mask": torch.zeros(9, 9),
        }
    )


def saved(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    return save_checkpoint(path, tensors, METADATA)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = one.network.state_dict(), other.network.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


# ---- files ---------------------------------------------------------------------------------------------


TEXT_FILES: dict[str, Callable[[ClipText, ClipVision], dict[str, torch.Tensor]]] = {
    "transformers 5": lambda text, _: {
        k.removeprefix("text_model."): v.clone() for k, v in text.network.state_dict().items()
    },
    "transformers 4": lambda text, _: hugging_face(text.network, "text_model."),
    "old buffers": lambda text, _: (
        hugging_face(text.network, "text_model.")
        | {
            "text_model.embeddings.position_ids": torch.arange(9)[None],
            "text_projection.weight": torch.zeros(10, 16),
        }
    ),
    "whole CLIP": lambda text, vision: (
        hugging_face(text.network, "text_model.")
        | hugging_face(vision.network, "vision_model.")
        | {"logit_scale": torch.tensor(1.0)}
    ),
    "SD 1.5": lambda text, _: (
        {f"cond_stage_model.transformer.{k}": v for k, v in hugging_face(text.network, "text_model.").items()}
        | {"model.diffusion_model.a": torch.zeros(1), "first_stage_model.b": torch.zeros(1)}
    ),
    "SD 2.1": lambda text, vision: (
        {
            f"cond_stage_model.model.{k}": v
            for k, v in whole_open_clip(text, vision).items()
            if "visual" not in k
        }
        | {"model.diffusion_model.a": torch.zeros(1)}
    ),
    "OpenCLIP": whole_open_clip,
}


@pytest.mark.parametrize("kind", TEXT_FILES)
def test_every_text_file_loads(text: ClipText, vision: ClipVision, tmp_path: Path, kind: str) -> None:
    loaded = load_clip_text(saved(tmp_path / "a.safetensors", TEXT_FILES[kind](text, vision)))
    assert loaded.config == TEXT and same(loaded, text)
    ids = TEXT.empty()
    assert torch.equal(loaded.encode(ids).penultimate, text.encode(ids).penultimate)


VISION_FILES: dict[str, Callable[[ClipText, ClipVision], dict[str, torch.Tensor]]] = {
    "image_encoder": lambda _, vision: hugging_face(vision.network, "vision_model."),
    "old buffers": lambda _, vision: (
        hugging_face(vision.network, "vision_model.")
        | {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
    ),
    "whole CLIP": TEXT_FILES["whole CLIP"],
    "OpenCLIP": whole_open_clip,
}


@pytest.mark.parametrize("kind", VISION_FILES)
def test_every_vision_file_loads(text: ClipText, vision: ClipVision, tmp_path: Path, kind: str) -> None:
    loaded = load_clip_vision(saved(tmp_path / "a.safetensors", VISION_FILES[kind](text, vision)))
    assert loaded.config == VISION and same(loaded, vision)
    pixels = torch.randn(2, 3, 28, 28)
    assert torch.equal(loaded.encode(pixels).embeds, vision.encode(pixels).embeds)


@pytest.mark.parametrize("inside", [True, False])
def test_model_folders(text: ClipText, vision: ClipVision, tmp_path: Path, inside: bool) -> None:
    for part, tower, load in (
        ("text_encoder", text, load_clip_text),
        ("image_encoder", vision, load_clip_vision),
    ):
        folder = tmp_path / part
        folder.mkdir()
        config = asdict(tower.config) | {"_name_or_path": "x", "architectures": ["CLIP"]}
        (folder / "config.json").write_text(json.dumps(config))
        prefix = "text_model." if part == "text_encoder" else "vision_model."
        save_checkpoint(folder / "model.safetensors", hugging_face(tower.network, prefix))
        loaded = load(tmp_path if inside else folder, torch.float16)
        assert loaded.config == tower.config
        assert {p.dtype for p in loaded.parameters()} == {torch.float16}


def test_key_tables_cover_the_published_file_exactly() -> None:
    """UniAnimate spec 8: 686 keys of open_clip_pytorch_model.bin, every name and shape."""
    with torch.device("meta"):
        text, vision = ClipText(OPEN_CLIP_TEXT), ClipVision(VisionConfig())
    file = open_clip(text.network.state_dict(), "text_model.", clip.AROUND_TEXT, "")
    file |= open_clip(vision.network.state_dict(), "vision_model.", clip.AROUND_VISION, "visual.")
    ours = {name: list(tensor.shape) for name, tensor in file.items()}
    unused = {"text_projection": [1024, 1024], "logit_scale": []}  # by either tower
    assert len(ours | unused) == 686
    assert sum(math.prod(shape) for shape in (ours | unused).values()) == 986_109_441
    assert summary(ours | unused) == travelling("unianimate_clip")
    if MANIFEST.is_file():
        assert ours | unused == json.loads(MANIFEST.read_text())


def test_another_models_file_is_one_sentence(text: ClipText, tmp_path: Path) -> None:
    tensors = hugging_face(text.network, "text_model.")
    path = save_checkpoint(tmp_path / "a.safetensors", tensors)
    with pytest.raises(CheckpointError, match="mis-shaped") as caught:
        load_clip_text(path)
    assert "a CLIP text tower" in str(caught.value)
    with pytest.raises(CheckpointError, match="missing"):
        load_clip_vision(path)


def test_loading_opens_no_connection(text: ClipText, tmp_path: Path) -> None:
    connections: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple) -> None:
        if watching and event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
            connections.append(event)

    sys.addaudithook(watch)
    try:
        load_clip_text(saved(tmp_path / "a.safetensors", hugging_face(text.network, "text_model.")))
        with pytest.raises(ValueError, match="vocabulary"):
            find_tokenizer([tmp_path])
    finally:
        watching = False
    assert not connections


# ---- features ------------------------------------------------------------------------------------------


def test_text_features_are_normed_and_causal(text: ClipText) -> None:
    ids = torch.tensor([[18, 3, 4, 19, 0, 0, 0, 0, 0]])
    features = text.encode(ids)
    assert features.last.shape == features.penultimate.shape == (1, 9, 16)
    assert torch.allclose(features.penultimate.mean(-1), torch.zeros(1, 9), atol=1e-5)
    changed = text.encode(torch.cat([ids[:, :4], ids[:, 4:] + 1], dim=1))
    assert torch.allclose(features.last[:, :4], changed.last[:, :4], atol=1e-6)
    assert not torch.allclose(features.last[:, 4:], changed.last[:, 4:], atol=1e-3)


def test_features_are_float32_whatever_the_weights(vision: ClipVision) -> None:
    from xdyna_unianimate.video_core.placement import on_device

    with on_device(vision, "cpu", torch.bfloat16):
        features = vision.encode(vision.blank())
    assert features.embeds.dtype == features.penultimate.dtype == torch.float32
    assert features.embeds.shape == (1, 10) and features.penultimate.shape == (1, 5, 24)


# ---- pictures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(61, 83), (83, 61), (30, 30), (224, 224), (500, 40), (225, 301)])
def test_cropped_pixels_equal_transformers_processor(size: tuple[int, int]) -> None:
    """X-Dyna spec 1.2: what CLIPImageProcessor does by default (PIL's bicubic)."""
    from transformers import CLIPImageProcessor

    picture = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    try:
        from transformers import CLIPImageProcessorPil as Processor
    except ImportError:
        Processor = CLIPImageProcessor
    expected = Processor()(Image.fromarray(picture), return_tensors="pt").pixel_values
    ours = clip.cropped_pixels(picture)
    assert ours.shape == (1, 3, 224, 224)
    assert torch.allclose(ours, expected, atol=1e-6)


def test_squashed_pixels_keep_everything_and_no_proportions() -> None:
    """UniAnimate spec 2.1: no crop; a picture split in two halves stays split in the middle."""
    picture = np.zeros((40, 100, 3), np.uint8)
    picture[:, 50:] = 255
    pixels = clip.squashed_pixels(picture, 20)[0]
    assert pixels.shape == (3, 20, 20)
    for channel, (mean, std) in enumerate(zip(clip.MEAN, clip.STD, strict=True)):
        assert torch.allclose(pixels[channel, :, :9], torch.tensor(-mean / std))
        assert torch.allclose(pixels[channel, :, 11:], torch.tensor((1 - mean) / std))


# ---- prompts -------------------------------------------------------------------------------------------


def test_empty_prompts_need_no_vocabulary() -> None:
    """UniAnimate spec 2.2 pads with 0, Stable Diffusion 1.5 with the end token."""
    assert tokenize("", OPEN_CLIP_TEXT)[0].tolist() == [49406, 49407] + [0] * 75
    assert tokenize("  ", SD15_TEXT)[0].tolist() == [49406] + [49407] * 76


def test_the_demos_tower_reads_bytes() -> None:
    config = replace(TEXT, vocab_size=258, start_id=256, end_id=257, padding_id=257)
    assert tokenize("hé", config)[0].tolist() == [256, ord("h"), 0xC3, 0xA9, 257, 257, 257, 257, 257]
    assert tokenize("longer than that", config)[0].tolist() == [256, *b"longer ", 257]


def vocabulary(folder: Path) -> dict[str, int]:
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    merges = ["c a", "ca t</w>"]
    words = [
        *letters,
        *(f"{x}</w>" for x in letters),
        *(m.replace(" ", "") for m in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    return {w: i for i, w in enumerate(words)}


@pytest.mark.parametrize("inside", ["", "tokenizer"])
def test_prompts_take_a_folders_vocabulary(tmp_path: Path, inside: str) -> None:
    ids = vocabulary(tmp_path / inside)
    start, end = ids["<|startoftext|>"], ids["<|endoftext|>"]
    config = replace(TEXT, start_id=start, end_id=end, padding_id=end)
    found = tokenize("cat CAB", config, [tmp_path / "nowhere", tmp_path])[0].tolist()
    assert found == [start, ids["cat</w>"], ids["ca"], ids["b</w>"], end, end, end, end, end]
    long = tokenize("cat " * 30, config, [tmp_path])[0].tolist()
    assert long == [start, *[ids["cat</w>"]] * 7, end]


def test_prompts_without_a_vocabulary_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave the prompt empty"):
        tokenize("a cat", SD15_TEXT, [tmp_path])


def test_an_installed_package_s_vocabulary_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table as the packages ship it: a heading, then merges, more of them than are used."""
    package = tmp_path / "open_clip"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    pairs = [a + b for a in ascii_lowercase for b in ascii_lowercase if a + b != "ca"]
    quadruples = [f"{a} {b}" for a in pairs for b in pairs]
    merges = ["c a", "ca t</w>", *(" ".join(pair) for pair in pairs), *quadruples[:50_000]]
    table = "\n".join(["#version: 0.2", *merges])
    (package / "bpe_simple_vocab_16e6.txt.gz").write_bytes(gzip.compress(table.encode()))
    monkeypatch.syspath_prepend(tmp_path)
    ids = tokenize("cat", SD15_TEXT)[0].tolist()
    # 256 bytes and 256 bytes at a word's end come first; then the merges in order.
    assert ids[:3] == [49406, 256 + 256 + 1, 49407]
