"""Every shipped workflow: laid out tidily, explained by notes, complete, and run to its end."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import pytest
from xdyna_unianimate.app import models

from ..fakes import workflow
from ..fakes.canvas import box, curve, group_box, input_at, output_at

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "workflows").glob("*.json"))
STEPS = 2
"""Of the samplers, here: the graph is what is tested, not the picture."""

GROUPS = ("Inputs", "Pose", "Model", "Sampling", "Output")
GAP = 40
"""Between nodes, titles and the label with the pack's name above them included."""

POSE_FILES = ("yolox_l.onnx", "dw-ll_ucoco_384.onnx")
UNIANIMATE_FILES = (
    "unianimate_16f_32f_non_ema_223000.pth",
    "v2-1_512-ema-pruned.ckpt",
    "open_clip_pytorch_model.bin",
)
XDYNA_FILES = ("unet-checkpoint-epoch-5.ckpt", "ip-adapter-plus_sd15.bin")
CONTROLNETS = {
    "pose": "controlnet-checkpoint-epoch-5.ckpt",
    "face": "controlnet-face-checkpoint-epoch-2.ckpt",
}
FILES_OF = {
    "XDUA_LoadPoseDetector": lambda node: POSE_FILES,
    "XDUA_LoadUniAnimate": lambda node: UNIANIMATE_FILES,
    "XDUA_LoadXDyna": lambda node: XDYNA_FILES,
    "XDUA_LoadXDynaControlNet": lambda node: (CONTROLNETS[node["widgets_values"][0]],),
}
"""What a loader needs for real."""


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def shipped(request) -> dict:
    return json.loads(request.param.read_text(encoding="utf-8"))


def named(node: dict) -> str:
    return f"{node['id']} {node.get('title') or node['type']}"


def notes(shipped: dict) -> list[str]:
    return [node["widgets_values"][0] for node in shipped["nodes"] if node["type"] == "MarkdownNote"]


def test_there_are_workflows():
    assert len(FILES) == 6


def test_it_runs_to_its_end(comfy, shipped):
    prompt = workflow.to_prompt(shipped, comfy.classes)
    for node in prompt.values():
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = STEPS
    run = comfy.executor().run(prompt)
    assert run.ui, "nothing was shown"


def test_no_boxes_overlap_and_none_stands_close_above_another(shipped):
    for one, other in combinations(shipped["nodes"], 2):
        assert not box(one).overlaps(box(other), apart=20), f"{named(one)} and {named(other)} overlap"
        apart = GAP if "Reroute" not in (one["type"], other["type"]) else 0
        assert not box(one).overlaps(box(other), apart), f"{named(one)} and {named(other)} are too close"


def test_groups_do_not_overlap_and_hold_every_node_whole(shipped):
    for one, other in combinations(shipped["groups"], 2):
        assert not group_box(one).overlaps(group_box(other)), f"{one['title']} and {other['title']}"
    for node in shipped["nodes"]:
        around = [g["title"] for g in shipped["groups"] if group_box(g, inside=True).holds(box(node))]
        assert len(around) == 1, f"{named(node)} lies whole in these groups: {around}"


def test_groups_are_titled(shipped):
    titles = [group["title"] for group in shipped["groups"]]
    assert len(set(titles)) == len(titles)
    assert {title.split(":")[0] for title in titles} <= set(GROUPS)
    assert {"Inputs", "Output"} <= set(titles)


def test_every_link_runs_left_to_right_and_hides_behind_nothing(shipped):
    nodes = {node["id"]: node for node in shipped["nodes"]}
    for _, source, output, target, entry, kind in shipped["links"]:
        link = f"{kind} from {named(nodes[source])} to {named(nodes[target])}"
        assert box(nodes[source]).right <= box(nodes[target]).left, f"{link} runs backwards"
        points = list(curve(output_at(nodes[source], output), input_at(nodes[target], entry)))
        for node in shipped["nodes"]:
            if node["id"] not in (source, target):
                assert not any(map(box(node).hides, points)), f"{link} passes behind {named(node)}"


def test_both_ends_of_a_link_know_it(shipped):
    nodes = {node["id"]: node for node in shipped["nodes"]}
    for number, source, output, target, entry, _ in shipped["links"]:
        assert number in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][entry]["link"] == number
    held = [slot["link"] for node in shipped["nodes"] for slot in node["inputs"] if slot["link"]]
    assert sorted(held) == sorted(link[0] for link in shipped["links"])


def test_every_widget_has_its_value(comfy, shipped):
    """A file with fewer values loads too, but then its author has not seen the newest widgets."""
    for node in shipped["nodes"]:
        if node["type"] in comfy.classes:
            widgets = workflow.widgets(comfy.classes[node["type"]])
            assert len(node["widgets_values"]) == len(widgets), f"{named(node)}: save it again ({widgets})"


def test_every_input_of_a_node_is_among_the_files(comfy, shipped):
    for node in shipped["nodes"]:
        if node["type"] in comfy.pack:
            types = comfy.pack[node["type"]].INPUT_TYPES()
            names = {**types.get("required", {}), **types.get("optional", {})}
            assert {slot["name"] for slot in node["inputs"]} <= set(names), named(node)


def test_loaders_stand_on_the_embedded_weights(shipped):
    loaders = [node for node in shipped["nodes"] if node["type"].startswith("XDUA_Load")]
    assert loaders
    for node in loaders:
        assert "demo (embedded)" in node["widgets_values"], named(node)


def test_the_output_group_saves_a_video_and_leaves_room_for_the_player(shipped):
    [output] = [group for group in shipped["groups"] if group["title"] == "Output"]
    [player] = [node for node in shipped["nodes"] if node["type"] == "XDUA_EncodeVideo"]
    assert group_box(output, inside=True).holds(box(player))
    assert player["size"][1] >= 500


def test_notes_name_every_file_with_folder_licence_and_page(shipped):
    rows = [row for note in notes(shipped) for row in note.splitlines()]
    wanted = {name for node in shipped["nodes"] for name in FILES_OF.get(node["type"], lambda _: ())(node)}
    assert wanted
    for name in wanted:
        file = models.described(name)
        row = next((row for row in rows if f"`models/{file.folder}/{name}`" in row), "")
        assert file.licence in row.replace("**", "") and f"({file.page})" in row, f"no note tells of {name}"


def test_notes_speak_of_known_files_only(shipped):
    told = {name for note in notes(shipped) for name in re.findall(r"`models/\w+/([\w.-]+\.\w+)`", note)}
    elsewhere = {"mm_sd_v15.ckpt", "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"}
    assert not {name for name in told - elsewhere if models.described(name) is None}


def test_a_first_note_says_how_to_use_files_of_ones_own(shipped):
    first = next(note for note in notes(shipped) if "Demo inputs" in note)
    assert "Load Image" in first and "Load Video" in first and "demo (embedded)" in first
