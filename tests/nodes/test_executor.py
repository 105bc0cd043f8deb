"""The test harness itself: the executor, the workflow reader, and the stand-ins against the real program."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest
import torch
from PIL import Image

from ..fakes import comfy_host
from ..fakes.executor import NodeError, PromptError
from ..fakes.workflow import to_prompt, widgets


class Add:
    """A classic node that counts its runs."""

    runs = 0

    @classmethod
    def INPUT_TYPES(cls):
        number = ("INT", {"default": 1, "min": 0, "max": 9})
        return {"required": {"a": number}, "optional": {"b": ("INT", {"default": 0, "forceInput": True})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "add"

    def add(self, a, b=0):
        Add.runs += 1
        return (a + b,)


class Show(Add):
    OUTPUT_NODE = True

    def add(self, a, b=0):
        return {"ui": {"text": [str(a + b)]}, "result": (a + b,)}


class Fail(Show):
    def add(self, a, b=0):
        raise ValueError("because")


class Draw:
    """The page adds a widget of its own after a seed and after an upload."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": (["a.png"], {"image_upload": True}),
                "model": ("MODEL",),
                "seed": ("INT", {"control_after_generate": True}),
                "mode": ("COMBO", {"options": ["x", "y"]}),
            }
        }

    RETURN_TYPES = ()
    FUNCTION = "draw"


@pytest.fixture
def executor(comfy):
    from ..fakes.executor import Executor

    return Executor({"Add": Add, "Show": Show, "Fail": Fail, "Draw": Draw} | comfy.classes)


def chain(a: int = 1, late: int = 3) -> dict:
    return {
        "9": {"class_type": "Show", "inputs": {"a": late, "b": ["2", 0]}},
        "2": {"class_type": "Add", "inputs": {"a": 2, "b": ["1", 0]}},
        "1": {"class_type": "Add", "inputs": {"a": a}},
    }


def test_nodes_run_in_dependency_order(executor):
    run = executor.run(chain())
    assert run.executed == ["1", "2", "9"]
    assert run.outputs["9"] == (6,) and run.ui["9"] == {"text": ["6"]}


def test_only_what_changed_runs_again(executor):
    executor.run(chain())
    assert executor.run(chain()).executed == []
    assert executor.run(chain(late=4)).executed == ["9"]
    assert executor.run(chain(a=2, late=4)).executed == ["1", "2", "9"]


def test_a_node_without_a_way_to_an_output_does_not_run(executor):
    prompt = chain() | {"7": {"class_type": "Fail", "inputs": {"a": 1}}}
    prompt["7"]["class_type"] = "Add"
    assert "7" not in executor.run(prompt).executed


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"1": {"class_type": "Add", "inputs": {}}}, "node 1 (Add): input a is missing"),
        ({"1": {"class_type": "Add", "inputs": {"a": 10}}}, "10 is bigger than 9"),
        ({"1": {"class_type": "Nothing", "inputs": {}}}, "there is no node Nothing"),
        ({"2": {"class_type": "Add", "inputs": {"a": 1, "b": ["1", 1]}}}, "output 1 of node 1, which has 1"),
        ({"2": {"class_type": "Add", "inputs": {"a": 1, "b": ["5", 0]}}}, "node 5, which does not exist"),
        ({"1": {"class_type": "Add", "inputs": {"a": 1, "b": ["2", 0]}}}, "goes in a circle"),
    ],
)
def test_a_bad_prompt_is_refused(executor, change, fault):
    with pytest.raises(PromptError, match=fault.replace("(", r"\(").replace(")", r"\)")):
        executor.run(chain() | change)


def test_a_wrong_link_type_and_a_value_not_in_the_list_are_refused(executor):
    prompt = {
        "1": {"class_type": "Add", "inputs": {"a": 1}},
        "2": {"class_type": "Draw", "inputs": {"image": "b.png", "model": ["1", 0], "seed": 1, "mode": "z"}},
    }
    faults = executor.faults(prompt)
    assert any("wants MODEL and gets INT" in fault for fault in faults)
    assert sum("is not in" in fault for fault in faults) == 2


def test_a_failing_node_is_named_and_earlier_ones_are_kept(executor):
    prompt = chain() | {"9": {"class_type": "Fail", "inputs": {"a": 1, "b": ["2", 0]}}}
    with pytest.raises(NodeError, match=r"node 9 \(Fail\): ValueError: because"):
        executor.run(prompt)


def test_core_nodes_load_and_show_a_picture(executor, comfy):
    Image.new("RGB", (6, 4), (255, 0, 51)).save(comfy.base / "input" / "red.png")
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "red.png"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    run = executor.run(prompt)
    assert torch.allclose(run.outputs["1"][0][0, 0, 0], torch.tensor([1.0, 0.0, 0.2]))
    (shown,) = run.ui["2"]["images"]
    assert Image.open(comfy.base / "temp" / shown["subfolder"] / shown["filename"]).size == (6, 4)
    assert executor.run(prompt).executed == []
    Image.new("RGB", (6, 4)).save(comfy.base / "input" / "red.png")
    assert executor.run(prompt).executed == ["1", "2"]


def test_widgets_stand_in_the_order_of_the_page():
    assert widgets(Draw) == ["image", None, "seed", None, "mode"]
    assert widgets(Add) == ["a"]


WORKFLOW = {
    "nodes": [
        {"id": 3, "type": "Show", "order": 2, "widgets_values": [3],
         "inputs": [{"name": "b", "type": "INT", "link": 12}]},
        {"id": 1, "type": "Add", "order": 0, "widgets_values": [1], "inputs": [],
         "outputs": [{"name": "INT", "type": "INT", "links": [10]}]},
        {"id": 2, "type": "Reroute", "order": 1, "inputs": [{"name": "", "type": "*", "link": 10}],
         "outputs": [{"name": "", "type": "INT", "links": [11]}]},
        {"id": 5, "type": "Add", "order": 1, "mode": 4, "widgets_values": [7],
         "inputs": [{"name": "b", "type": "INT", "link": 11}],
         "outputs": [{"name": "INT", "type": "INT", "links": [12]}]},
        {"id": 6, "type": "Fail", "order": 1, "mode": 2, "widgets_values": [7], "inputs": []},
        {"id": 4, "type": "MarkdownNote", "order": 3, "widgets_values": ["Put files here."]},
    ],
    "links": [[10, 1, 0, 2, 0, "INT"], [11, 2, 0, 5, 0, "INT"], [12, 5, 0, 3, 0, "INT"]],
}  # fmt: skip


def test_a_workflow_file_becomes_the_prompt_that_the_page_sends(executor):
    prompt = to_prompt(WORKFLOW, executor.classes)
    assert prompt == {
        "1": {"class_type": "Add", "inputs": {"a": 1}},
        "3": {"class_type": "Show", "inputs": {"a": 3, "b": ["1", 0]}},
    }
    assert executor.run(prompt).ui["3"] == {"text": ["4"]}


def test_a_saved_value_too_many_is_a_lost_widget():
    shifted = {
        "nodes": [{"id": 1, "type": "Add", "widgets_values": [1, "randomize"], "inputs": []}],
        "links": [],
    }
    with pytest.raises(ValueError, match="2 widget values saved, 1 widgets"):
        to_prompt(shifted, {"Add": Add})


# ---- the stand-ins cannot drift ----


def definitions() -> list[tuple[str, str, list[str]]]:
    """(module, qualified name, parameter names) of every function that the stand-ins define."""
    found = []
    for file in sorted(comfy_host.STAND_INS.rglob("*.py")):
        module = ".".join(file.relative_to(comfy_host.STAND_INS).with_suffix("").parts).removesuffix(
            ".__init__"
        )
        for path, function in _functions(ast.parse(file.read_text()), ()):
            if not any(part.startswith("_") and part != "__init__" for part in path):
                arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
                found.append(
                    (module, ".".join(path), [a.arg for a in arguments if a.arg not in ("self", "cls")])
                )
    return found


def _functions(tree: ast.AST, path: tuple[str, ...]):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, (*path, node.name))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (*path, node.name), node


OWN = {
    "CastWeightBiasOp.cast",
    "CastWeightBiasOp.forward",
    "ComfyNode.INPUT_TYPES",
    "ComfyNode.PREPARE_CLASS_CLONE",
}
"""How the stand-ins do what core does elsewhere, and what only executors call (it differs by version)."""


def parameters_of(module: str, path: str) -> list[str] | None:
    """Those of the real function; None where there is none."""
    real = importlib.import_module(module)
    for part in path.split("."):
        real = getattr(real, part, None)
    if isinstance(real, property):
        return []
    return (
        None if real is None else [p for p in inspect.signature(real).parameters if p not in ("self", "cls")]
    )


@pytest.mark.comfyui
@pytest.mark.skipif(comfy_host.real_path() is None, reason="COMFYUI_PATH names no ComfyUI to compare with")
def test_every_stand_in_has_the_real_one_s_name_and_parameters(comfy):
    compared = [(module, path, ours) for module, path, ours in definitions() if path not in OWN]
    drifted = []
    for module, path, ours in compared:
        theirs = parameters_of(module, path)
        if theirs is None or ours != [name for name in theirs if name in ours]:
            drifted.append(f"{module}.{path}: ours {ours}, theirs {theirs}")
    assert not drifted, "\n".join(drifted)
    assert len(compared) > 80


def test_the_comparison_sees_the_stand_ins():
    known = {(module, path): arguments for module, path, arguments in definitions()}
    assert known["comfy.utils", "ProgressBar.update_absolute"] == ["value", "total", "preview"]
    assert known["folder_paths", "get_save_image_path"][:2] == ["filename_prefix", "output_dir"]
    assert Path(comfy_host.STAND_INS).is_dir()
