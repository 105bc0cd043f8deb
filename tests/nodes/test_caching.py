"""ComfyUI's cache over every shipped workflow: a changed widget runs again what depends on it, and nothing else.

The graphs run for real, on a few small frames with the embedded weights; the executor keeps results as core's
classic cache does, by class, inputs and fingerprints.
"""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from ..fakes import workflow
from ..fakes.executor import Prompt, downstream, set_widgets

FILES = sorted((Path(__file__).parents[2] / "workflows").glob("*.json"))
LESS = {"frames": 3, "steps": 1, "width": 64, "height": 128}
"""Of everything that takes time."""

ENCODE = "XDUA_EncodeVideo"
AFTER_SAMPLING = {"VAEDecode", "XDUA_GridCompare", ENCODE}
CHANGES: Mapping[str, tuple[str, Mapping[str, Any], set[str] | None]] = {
    "frame rate": (ENCODE, {"fps": 12.0}, {ENCODE}),
    "codec and quality": (ENCODE, {"format": "webm (vp9)", "crf": 40}, {ENCODE}),
    "labels": ("XDUA_GridCompare", {"labels": ""}, {"XDUA_GridCompare", ENCODE}),
    "guidance": ("XDUA_UniAnimateSampler", {"guidance": 2.0}, {"XDUA_UniAnimateSampler", *AFTER_SAMPLING}),
    "seed": ("XDUA_XDynaSampler", {"seed": 8}, {"XDUA_XDynaSampler", *AFTER_SAMPLING}),
    "strength of the face": (
        "XDUA_ApplyFaceControl",
        {"strength": 0.5},
        {"XDUA_ApplyFaceControl", "XDUA_XDynaSampler", *AFTER_SAMPLING},
    ),
    "strength of the pose": (
        "XDUA_ApplyPoseControl",
        {"strength": 0.5},
        {"XDUA_ApplyPoseControl", "XDUA_ApplyFaceControl", "XDUA_XDynaSampler", *AFTER_SAMPLING},
    ),
    "noise": (
        "XDUA_UnifiedNoise",
        {"seed": 8},
        {"XDUA_UnifiedNoise", "XDUA_UniAnimateSampler", *AFTER_SAMPLING},
    ),
    "ratios": ("XDUA_AlignPose", {"median": True}, None),
}
"""What is changed, one after the other -> the node, its widgets, and the kinds of nodes that may run again
(None: all but loaders and the search for people)."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_change_runs_what_depends_on_it(comfy, file):
    executor, graph = (
        comfy.executor(),
        workflow.to_prompt(json.loads(file.read_text(encoding="utf-8")), comfy.classes),
    )
    set_widgets(graph, **LESS)
    first = executor.run(graph).executed
    # Two nodes that are alike, such as empty prompts, run once.
    assert kinds(graph, first) == kinds(graph, graph), "everything in a workflow is needed"
    assert executor.run(graph).executed == [], "fingerprints are of files, not of moments"
    for what, (kind, values, allowed) in CHANGES.items():
        starts = [node_id for node_id, node in graph.items() if node["class_type"] == kind]
        if not starts:
            continue
        for start in starts:
            assert any(graph[start]["inputs"][name] != value for name, value in values.items()), what
            graph[start]["inputs"] |= values
        executed = executor.run(graph).executed
        assert set(executed) == set().union(*(downstream(graph, start) for start in starts)), what
        ran = kinds(graph, executed)
        assert allowed is None or ran <= allowed, what
        assert not {name for name in ran if name.startswith(("XDUA_Load", "XDUA_ExtractPose"))}, what


def kinds(graph: Prompt, node_ids: Iterable[str]) -> set[str]:
    return {graph[node_id]["class_type"] for node_id in node_ids}


def test_nothing_runs_every_time_but_what_looks_at_the_machine(comfy):
    """A fingerprint that is never the same would run everything behind it in every run."""
    always = set()
    for name, node in comfy.pack.items():
        if "fingerprint_inputs" in vars(node):
            values = {part.id: part.as_dict().get("default") for part in node.GET_SCHEMA().inputs}
            one, other = (node.fingerprint_inputs(**values) for _ in range(2))
            always |= {name} if one != other else set()
    assert always == {"XDUA_Doctor", "XDUA_DownloadModels", "XDUA_Estimate"}


LOADERS = {
    "XDUA_LoadVae": lambda made: made.vae,
    "XDUA_LoadClip": lambda made: made.text,
    "XDUA_LoadClipVision": lambda made: made.vision,
    "XDUA_LoadUniAnimate": lambda made: made.unet,
    "XDUA_LoadXDyna": lambda made: made.unet,
    "XDUA_LoadXDynaControlNet": lambda made: made.network,
}
"""Loaders of networks -> the network in what they give."""


@pytest.mark.parametrize("name", LOADERS)
def test_a_loader_is_pure(comfy, name):
    """The same numbers in a network of its own each time, with nothing else changed or kept."""
    node = comfy.pack[name]
    values = {part.id: part.as_dict()["default"] for part in node.GET_SCHEMA().inputs}
    state, dtype, threads = torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads()
    one, other = (LOADERS[name](node.execute(**values).args[0]) for _ in range(2))
    assert one is not other
    first, second = one.state_dict(), other.state_dict()
    assert list(first) == list(second)
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key]) and tensor.device.type == "cpu", key
        assert tensor.data_ptr() != second[key].data_ptr() or not tensor.numel(), f"{key} is shared"
    assert torch.equal(state, torch.get_rng_state())
    assert (dtype, threads) == (torch.get_default_dtype(), torch.get_num_threads())
    gone = weakref.ref(one)
    del one, first, tensor
    gc.collect()
    assert gone() is None, "a loader keeps nothing"


def test_every_loader_of_networks_is_tried(comfy):
    others = {"XDUA_LoadPose", "XDUA_LoadPoseDetector"}
    assert {name for name in comfy.pack if name.startswith("XDUA_Load")} == LOADERS.keys() | others
