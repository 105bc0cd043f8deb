"""Translations say the same things of the same inputs as the schemas do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "locales"
INSTEAD = {
    "潜变量": "Latent", "潜空间": "Latent", "检查点": "Checkpoint", "去噪": "降噪", "姿势": "姿态",
    "正向提示": "正面条件", "反向提示": "负面条件",
    "文本塔": "文本编码器", "图像塔": "图像编码器", "种子数": "种子", "引导比例": "引导系数",
}  # fmt: skip
"""A word -> what ComfyUI's own Chinese texts say."""

LANGUAGES = sorted(folder.name for folder in FOLDER.iterdir())


@pytest.fixture(params=LANGUAGES)
def entries(request) -> dict:
    return json.loads((FOLDER / request.param / "nodeDefs.json").read_text(encoding="utf-8"))


def texts(entry: dict) -> list[str]:
    parts = [*entry["inputs"].values(), *entry["outputs"].values()]
    return [entry["display_name"], entry["description"], *(text for part in parts for text in part.values())]


def test_there_are_languages():
    assert {"en", "zh"} <= set(LANGUAGES)


def test_every_node_is_there(comfy, entries):
    assert sorted(entries) == sorted(comfy.pack)


def test_entries_have_the_inputs_and_outputs_of_their_nodes(comfy, entries):
    for name, entry in entries.items():
        schema = comfy.pack[name].GET_SCHEMA()
        assert list(entry["inputs"]) == [part.id for part in schema.inputs or []], name
        assert list(entry["outputs"]) == [str(number) for number in range(len(schema.outputs or []))], name
        assert all(set(part) == {"name", "tooltip"} for part in entry["inputs"].values()), name


def test_no_text_is_empty_or_has_signs_that_the_page_would_read(entries):
    """The page's translator takes braces, at-colons and bars for its own."""
    for name, entry in entries.items():
        for text in texts(entry):
            assert text.strip() and not set("{}|") & set(text) and "@:" not in text, name


def test_english_is_what_the_nodes_say(comfy):
    english = json.loads((FOLDER / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    for name, entry in english.items():
        schema = comfy.pack[name].GET_SCHEMA()
        assert (entry["display_name"], entry["description"]) == (schema.display_name, schema.description), (
            name
        )
        for part in schema.inputs or []:
            assert entry["inputs"][part.id]["tooltip"] == part.tooltip, f"{name}.{part.id}"
        for number, part in enumerate(schema.outputs or []):
            assert entry["outputs"][str(number)] == {"name": part.display_name, "tooltip": part.tooltip}, name


def chinese_of_english() -> Iterator[tuple[str, str, str]]:
    """(where, English text, Chinese text)."""
    english, chinese = (
        json.loads((FOLDER / language / "nodeDefs.json").read_text(encoding="utf-8"))
        for language in ("en", "zh")
    )
    for name, entry in english.items():
        yield from zip((f"{name} {i}" for i in range(999)), texts(entry), texts(chinese[name]), strict=False)


def test_the_same_sentence_is_the_same_in_chinese():
    said: dict[str, set[str]] = {}
    for _, english, chinese in chinese_of_english():
        if english.endswith("."):
            said.setdefault(english, set()).add(chinese)
    assert not {english: found for english, found in said.items() if len(found) > 1}


def test_chinese_uses_the_words_of_comfyuis_own_page():
    wrong = [
        f"{where}: {word} for {ours}"
        for where, _, text in chinese_of_english()
        for word, ours in INSTEAD.items()
        if word in text
    ]
    assert not wrong


def test_numbers_and_names_of_files_are_in_both_languages():
    """A file, a licence or a figure that is in one text alone was forgotten in the other."""
    kept = re.compile(
        r"[\w-]+\.(?:onnx|pth|ckpt|bin|safetensors|npz)\b|sha256|MIT|OpenRAIL-M|Apache-2\.0|\b\d{3,}\b"
    )
    for where, english, chinese in chinese_of_english():
        assert set(kept.findall(english)) <= set(
            kept.findall(chinese.replace("，", " ").replace("。", " "))
        ), where


def test_other_languages_are_written_in_their_letters():
    chinese = json.loads((FOLDER / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    for name, entry in chinese.items():
        tooltips = [part["tooltip"] for part in (*entry["inputs"].values(), *entry["outputs"].values())]
        for text in [entry["display_name"], entry["description"], *tooltips]:
            assert any("\u4e00" <= letter <= "\u9fff" for letter in text) or text == "X-Dyna", (
                f"{name}: {text}"
            )
