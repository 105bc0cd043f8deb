"""What every node of the pack keeps to; a node added to nodes/*.py is covered without a line here."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from ..fakes.workflow import WIDGETS

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = ("INT", "FLOAT")
MOST = 100_000
"""Of any number but a seed."""

CORE_TYPES = WIDGETS | {
    "IMAGE", "MASK", "LATENT", "AUDIO", "VIDEO", "VAE", "CLIP", "CLIP_VISION", "CLIP_VISION_OUTPUT",
    "CONDITIONING", "CONTROL_NET", "*", "POSE_KEYPOINT", "VHS_VIDEOINFO", "CONTEXT_OPTIONS",
}  # fmt: skip
TAKEN = (
    "UniAnimateImage",
    "Gen_align_pose",
    "ReposeImage",
    "ADE_",
    "VHS_",
    "MimicMotion",
    "WanVideo",
    "SDPose",
)


@pytest.fixture
def schemas(comfy):
    return {name: node.GET_SCHEMA() for name, node in comfy.pack.items()}


def inputs(schemas):
    """(where, input, its options as the page gets them)."""
    for name, schema in schemas.items():
        for part in schema.inputs or []:
            yield f"{name}.{part.id}", part, part.as_dict()


def types_of(part) -> list[str]:
    return str(part.get_io_type()).split(",")


def test_ids_are_ours_plain_and_not_taken(comfy, schemas):
    for name, schema in schemas.items():
        assert re.fullmatch(r"XDUA_[A-Z][A-Za-z0-9]+", name) and schema.node_id == name
        assert name not in comfy.core and not any(name[5:].startswith(taken) for taken in TAKEN)


def test_titles_texts_and_places(schemas):
    titles = [schema.display_name for schema in schemas.values()]
    assert len(set(titles)) == len(titles)
    for name, schema in schemas.items():
        assert schema.display_name[0].isupper() and "XDUA" not in schema.display_name, name
        assert re.fullmatch(r"X-Dyna \+ UniAnimate/[a-z -]+", schema.category), name
        assert len(schema.description) > 30 and schema.description.endswith("."), name


def test_every_input_and_output_explains_itself(schemas):
    silent = [where for where, part, _ in inputs(schemas) if not (part.tooltip or "").endswith(".")]
    for name, schema in schemas.items():
        for output in schema.outputs or []:
            if not (output.tooltip or "").endswith(".") or not output.display_name:
                silent.append(f"{name} -> {output.display_name or output.io_type}")
    assert not silent, f"these need a tooltip that is a sentence (and outputs a name): {silent}"


def test_names_are_words_for_python_and_for_the_page(schemas):
    bad = [where for where, part, _ in inputs(schemas) if not re.fullmatch(r"[a-z][a-z0-9_]*", part.id)]
    assert not bad


def test_numbers_have_a_default_inside_their_range(schemas):
    for where, part, options in inputs(schemas):
        if types_of(part)[0] not in NUMBERS or options.get("forceInput"):
            continue
        assert {"default", "min", "max"} <= set(options), where
        assert options["min"] <= options["default"] <= options["max"], where
        step = options.get("step")
        if step and part.get_io_type() == "INT":
            assert (options["default"] - options["min"]) % step == 0, f"{where}: the step misses the default"


def test_numbers_move_in_steps_and_end_somewhere(schemas):
    """A share ends at 1, a side of a picture moves by what its network takes, nothing but a seed is endless."""
    for where, part, options in inputs(schemas):
        kind = types_of(part)[0]
        if kind not in NUMBERS or options.get("forceInput"):
            continue
        low, high, step = options["min"], options["max"], options.get("step")
        assert low < high and (high <= MOST or part.id == "seed"), where
        if kind == "FLOAT":
            assert step and step <= (high - low) / 10, f"{where}: the page would move it by 1"
            assert abs((options["default"] - low) / step - round((options["default"] - low) / step)) < 1e-6, (
                where
            )
        if part.id.endswith("_percent") or part.id.startswith("guided_"):
            assert (low, high) == (0.0, 1.0), where
        if part.id in ("width", "height") and step is not None:
            assert step % 8 == low % 8 == 0, where


def test_people_find_a_node_by_words_of_their_own(comfy, monkeypatch):
    """Search aliases where the core knows them, also where these tests meet one that does not."""
    from xdyna_unianimate.nodes import api

    given: dict[str, list[str]] = {}
    known = api._known

    def noted(call, options):
        given.setdefault(name, []).extend(options.get("search_aliases", ()))
        return known(call, options)

    monkeypatch.setattr(api, "_known", noted)
    for name, node in comfy.pack.items():
        schema = node.define_schema()
        words = given[name]
        assert len(words) >= 2 and len(set(words)) == len(words), f"{name}: {words}"
        assert all(word == word.lower().strip() and word != schema.display_name.lower() for word in words), (
            name
        )
        if hasattr(schema, "search_aliases"):
            assert schema.search_aliases == words, name


def test_lists_have_a_default_among_their_entries(schemas):
    for where, part, options in inputs(schemas):
        if types_of(part) == ["COMBO"]:
            assert options["options"] and all(isinstance(entry, str) for entry in options["options"]), where
            assert options.get("default", options["options"][0]) in options["options"], where


def test_other_widgets_have_a_default(schemas):
    for where, part, options in inputs(schemas):
        if types_of(part)[0] in ("STRING", "BOOLEAN") and not options.get("forceInput"):
            assert "default" in options, where


def test_sockets_are_known_types_and_can_be_filled(comfy, schemas):
    made = {str(kind) for node in comfy.pack.values() for kind in node.RETURN_TYPES}
    for where, part, _ in inputs(schemas):
        for kind in types_of(part):
            assert kind in CORE_TYPES or kind.startswith("XDUA_"), f"{where}: {kind}"
            assert kind in CORE_TYPES or kind in made, f"{where}: no node gives a {kind}"


def test_execute_takes_exactly_what_the_schema_offers(comfy, schemas):
    for name, schema in schemas.items():
        parameters = inspect.signature(comfy.pack[name].execute).parameters
        assert set(parameters) == {part.id for part in schema.inputs or []}, name
        for part in schema.inputs or []:
            has_default = parameters[part.id].default is not inspect.Parameter.empty
            assert has_default == bool(part.optional), (
                f"{name}.{part.id}: a default exactly for optional inputs"
            )


def test_a_fingerprint_is_given_all_inputs(comfy, schemas):
    """Core passes every input and takes an error for a change: such a node would run every time."""
    for name, schema in schemas.items():
        if "fingerprint_inputs" in vars(comfy.pack[name]):
            hook = inspect.signature(comfy.pack[name].fingerprint_inputs)
            hook.bind(**{part.id: None for part in schema.inputs or []})


def test_optional_inputs_come_last(schemas):
    """The page lists required inputs first, so only then do saved values stand in the schema's order."""
    for name, schema in schemas.items():
        optional = [bool(part.optional) for part in schema.inputs or []]
        assert optional == sorted(optional), f"{name}: put optional inputs last"


def test_a_schema_is_the_same_every_time(comfy):
    for name, node in comfy.pack.items():
        first, second = (json.dumps(node.INPUT_TYPES(), default=str) for _ in range(2))
        assert first == second, name


def test_a_node_shows_something_or_gives_something(comfy, schemas):
    for name, schema in schemas.items():
        assert schema.is_output_node or schema.outputs, name


def test_every_node_has_a_page_that_names_its_inputs_and_outputs(schemas):
    for name, schema in schemas.items():
        page = ROOT / "web" / "docs" / f"{name}.md"
        assert page.is_file(), f"write web/docs/{name}.md"
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {schema.display_name}\n"), page
        named = [part.id for part in schema.inputs or []]
        named += [output.display_name for output in schema.outputs or []]
        assert not [word for word in named if f"`{word}`" not in text], page


def test_no_page_is_left_of_a_node_that_is_gone(schemas):
    assert {page.stem for page in (ROOT / "web" / "docs").glob("*.md")} <= set(schemas)


def test_every_node_is_run_by_a_test_or_a_workflow(schemas):
    places = [path for path in Path(__file__).parent.glob("test_*.py") if path.name != Path(__file__).name]
    texts = [path.read_text(encoding="utf-8") for path in [*places, *(ROOT / "workflows").glob("*.json")]]
    unused = [name for name in schemas if not any(f'"{name}"' in text for text in texts)]
    assert not unused, f"no prompt in tests/nodes and no workflow uses {unused}"
