"""Saved workflows hold widgets by position: nothing that they rely on changes.

The golden file is ``golden/object_info.json``; after an addition (a node, an optional input or an output
at the end, an entry of a list) it is made anew by ``python -m tests.fakes.frozen``.
"""

from __future__ import annotations

import copy
import json

import pytest

from ..fakes import frozen

NODE = "XDUA_EncodeVideo"


@pytest.fixture
def golden() -> frozen.Frozen:
    return frozen.read()


def test_saved_workflows_keep_everything(comfy, golden):
    assert frozen.broken(golden, frozen.of_classes(comfy.pack)) == []


def test_additions_stand_in_the_golden_file(comfy, golden):
    assert frozen.of_classes(comfy.pack) == golden, "run: python -m tests.fakes.frozen"


def test_the_file_is_as_the_command_writes_it(golden):
    assert frozen.GOLDEN.read_text(encoding="utf-8") == frozen.text(golden)


def test_lists_of_files_exist_and_hold_no_entries(golden):
    for node, names in frozen.FILE_LISTS.items():
        inputs = {entry["name"]: entry for entry in golden[node]["inputs"]}
        assert all(inputs[name]["type"] == "COMBO" and "options" not in inputs[name] for name in names)


def change(golden: frozen.Frozen, what: str) -> frozen.Frozen:
    now = copy.deepcopy(golden)
    inputs, outputs = now[NODE]["inputs"], now[NODE]["outputs"]
    entry = {part["name"]: part for part in inputs}
    changes = {
        "id": lambda: now.pop(NODE),
        "name": lambda: entry["crf"].update(name="quality"),
        "position": lambda: inputs.insert(1, inputs.pop(2)),
        "inserted": lambda: inputs.insert(1, {"name": "speed", "type": "FLOAT", "optional": True}),
        "gone": lambda: inputs.pop(),
        "type": lambda: entry["fps"].update(type="INT"),
        "default": lambda: entry["fps"].update(default=30.0),
        "switched default": lambda: entry["save_workflow"].update(default=False),
        "range": lambda: entry["crf"].update(max=40),
        "option": lambda: entry["format"]["options"].pop(0),
        "required": lambda: entry["audio"].pop("optional"),
        "output gone": lambda: outputs.pop(),
        "output order": lambda: outputs.reverse(),
        "output type": lambda: outputs[0].__setitem__(0, "IMAGE"),
        "new required": lambda: inputs.append({"name": "speed", "type": "FLOAT", "default": 1.0}),
    }
    changes[what]()
    return now


@pytest.mark.parametrize(
    "what",
    ["id", "name", "position", "inserted", "gone", "type", "default", "switched default", "range", "option",
     "required", "output gone", "output order", "output type", "new required"],
)  # fmt: skip
def test_what_breaks_saved_workflows_is_told(golden, what):
    found = frozen.broken(golden, change(golden, what))
    assert found and all(NODE in text for text in found)


def test_additions_break_nothing(golden):
    now = copy.deepcopy(golden)
    now["XDUA_New"] = {"inputs": [], "outputs": []}
    inputs = now[NODE]["inputs"]
    inputs.append({"name": "speed", "type": "FLOAT", "default": 1.0, "optional": True})
    next(part for part in inputs if part["name"] == "format")["options"].append("mov")
    now[NODE]["outputs"].append(["INT", "count"])
    assert frozen.broken(golden, now) == []


def test_a_changed_schema_of_a_real_class_is_seen(comfy, golden, monkeypatch):
    """The whole way: another default in the class itself."""
    node = comfy.pack[NODE]
    types = copy.deepcopy(dict(node.INPUT_TYPES()))
    types["required"]["fps"][1]["default"] = 99.0
    monkeypatch.setattr(node, "INPUT_TYPES", classmethod(lambda cls, *args: types))
    [told] = frozen.broken(golden, frozen.of_classes(comfy.pack))
    assert "default of fps" in told and "99.0" in told


def test_a_server_is_read_the_same_way(comfy, golden):
    """/object_info is JSON of the classes: tuples become lists, nothing else changes."""
    info = {
        name: {"input": node.INPUT_TYPES(), "output": node.RETURN_TYPES, "output_name": node.RETURN_NAMES}
        for name, node in comfy.pack.items()
    }
    assert frozen.of_server(json.loads(json.dumps(info, default=str))) == golden
