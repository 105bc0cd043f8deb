"""Translations say the same things of the same inputs as the schemas do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "locales"
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


def test_other_languages_are_written_in_their_letters():
    chinese = json.loads((FOLDER / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    for name, entry in chinese.items():
        tooltips = [part["tooltip"] for part in (*entry["inputs"].values(), *entry["outputs"].values())]
        for text in [entry["display_name"], entry["description"], *tooltips]:
            assert any("\u4e00" <= letter <= "\u9fff" for letter in text) or text == "X-Dyna", (
                f"{name}: {text}"
            )
