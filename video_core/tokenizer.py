"""Prompts to token ids; CLIP's vocabulary is looked for on this machine only."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from .clip import TextConfig

VOCABULARY = 49408
"""Tokens of CLIP: 256 bytes, the same at the end of a word, the merges in order, start and end."""

BYTES = 258
"""Tokens of the demo's tower, which has no vocabulary: 256 bytes, start and end."""


def tokenize(prompt: str, config: TextConfig, folders: Iterable[str | os.PathLike[str]] = ()) -> Tensor:
    """int64 [1, length] ids of a prompt, cut or padded to the tower's length.

    An empty prompt needs no vocabulary. Any other takes the first that is found: in ``folders`` (a
    tokenizer's own, or the parent of one, as a diffusers folder is), then in an installed package that
    carries it. Raises ValueError where there is none.
    """
    if not prompt.strip():
        return config.empty()
    length = config.max_position_embeddings
    if config.vocab_size == BYTES:
        found = [config.start_id, *prompt.encode()[: length - 2], config.end_id]
    else:
        found = find_tokenizer(folders)(prompt, truncation=True, max_length=length).input_ids
    ids = torch.full((1, length), config.padding_id)
    ids[0, : len(found)] = torch.tensor(found)
    return ids


def find_tokenizer(folders: Iterable[str | os.PathLike[str]] = ()):
    """transformers' CLIPTokenizer from the first place that has CLIP's vocabulary (see ``tokenize``)."""
    from transformers import CLIPTokenizer

    for folder in folders:
        for place in (Path(folder), Path(folder) / "tokenizer"):
            if (place / "tokenizer.json").is_file() or (
                (place / "vocab.json").is_file() and (place / "merges.txt").is_file()
            ):
                return CLIPTokenizer.from_pretrained(place, local_files_only=True)
    packed = _installed_vocabulary()
    if packed is None:
        raise ValueError(
            "A prompt needs CLIP's vocabulary, and none was found: give a Stable Diffusion folder that has a "
            "tokenizer folder, install the package open_clip_torch, or leave the prompt empty."
        )
    with tempfile.TemporaryDirectory() as folder:
        _write_vocabulary(packed, Path(folder))
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _installed_vocabulary() -> Path | None:
    """The BPE table that the packages open_clip and clip carry; neither is imported."""
    for package in ("open_clip", "clip"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            table = Path(folder) / "bpe_simple_vocab_16e6.txt.gz"
            if table.is_file():
                return table
    return None


def _write_vocabulary(packed: Path, folder: Path) -> None:
    """CLIP's BPE table -> the two files that a tokenizer is read from."""
    lines = gzip.decompress(packed.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : VOCABULARY - 2 * 256 - 2 + 1]
    letters = _byte_letters()
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(merge.replace(" ", "") for merge in merges),
    ]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(
        json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8"
    )
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")


def _byte_letters() -> list[str]:
    """A letter for each of 256 bytes: printable Latin-1 first, as itself; then the others, from 256 on."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = 256 - len(printable)
    return [chr(code) for code in printable] + [chr(256 + i) for i in range(others)]
