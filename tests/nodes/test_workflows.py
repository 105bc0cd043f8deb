"""Every shipped workflow: laid out tidily, explained by a note, and run to its end with the embedded weights."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest

from ..fakes import workflow

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "workflows").glob("*.json"))
TITLE = 30
STEPS = 2
"""Of the samplers, here: the graph is what is tested, not the picture."""

GROUPS = {"Inputs", "Pose", "Model", "Sampling", "Output"}


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def shipped(request) -> dict:
    return json.loads(request.param.read_text(encoding="utf-8"))


def box(node: dict) -> tuple[float, float, float, float]:
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def test_there_are_workflows():
    assert FILES


def test_it_runs_to_its_end(comfy, shipped):
    prompt = workflow.to_prompt(shipped, comfy.classes)
    for node in prompt.values():
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = STEPS
    run = comfy.executor().run(prompt)
    assert run.ui, "nothing was shown"


def test_no_boxes_overlap(shipped):
    for one, other in combinations(shipped["nodes"], 2):
        a, b = box(one), box(other)
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{one['type']} and {other['type']} overlap"


def test_every_link_runs_left_to_right(shipped):
    places = {node["id"]: box(node) for node in shipped["nodes"]}
    for _, source, _, target, _, kind in shipped["links"]:
        assert places[source][2] <= places[target][0], f"a {kind} link runs backwards"


def test_groups_are_titled_and_a_note_names_the_files(shipped):
    assert {group["title"] for group in shipped["groups"]} <= GROUPS
    [note] = [node for node in shipped["nodes"] if node["type"] == "MarkdownNote"]
    assert "models/" in note["widgets_values"][0] and "licen" in note["widgets_values"][0].lower()
