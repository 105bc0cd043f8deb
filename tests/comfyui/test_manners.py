"""Long nodes on the real server: previews and bars that move, cancelled and failed runs, the memory they leave."""

from __future__ import annotations

import copy
import io
import time

import pytest
from PIL import Image

from ..fakes.executor import set_widgets
from ..fakes.listener import listening

SPARE = 50 * 2**20
SAMPLERS = {"unianimate_short": "XDUA_UniAnimateSampler", "xdyna_pose_face": "XDUA_XDynaSampler"}
FRAMES = {"unianimate_short": 13, "xdyna_pose_face": 14}
"""That no other test asks for: poses of a clip that was seen before come from a cache, without a bar. The
reference's may."""

FAILURES = {
    "unianimate_short": {"mode": "windows", "window": 8, "overlap": 8},
    "xdyna_pose_face": {"window": 4, "overlap": 4},
}
"""Windows that cannot be."""

LONG = {
    "XDUA_ExtractPose",
    "XDUA_FaceMaps",
    "XDUA_DrawPose",
    *SAMPLERS.values(),
    "VAEDecode",
    "XDUA_EncodeVideo",
}
"""Nodes with a bar."""

PATIENCE = 3.0
"""Seconds from the press of cancel to its effect, on a busy machine."""


@pytest.fixture(params=SAMPLERS)
def name(request) -> str:
    return request.param


@pytest.fixture
def prompt(name, shipped) -> dict:
    return shipped(name)


def number_of(prompt: dict, kind: str) -> str:
    (number,) = (number for number, node in prompt.items() if node["class_type"] == kind)
    return number


def changed(prompt: dict, **changes) -> dict:
    """With other widgets, each in every node that has it; the seed is one of them."""
    return set_widgets(copy.deepcopy(prompt), **changes)


def message(entry: dict, kind: str) -> dict:
    """The one message of a kind in a history entry; AssertionError with all where there is none."""
    found = [content for name, content in entry["status"]["messages"] if name == kind]
    assert len(found) == 1, entry["status"]["messages"]
    return found[0]


def test_long_nodes_move_their_bars_and_the_sampler_shows_its_frames(comfyui, page, name, prompt):
    sampler = number_of(prompt, SAMPLERS[name])
    number = comfyui.start(changed(prompt, frames=FRAMES[name], seed=31, steps=4), page.client)
    assert message(comfyui.wait(number), "execution_success")
    page.until("executing", node=None, prompt_id=number)
    begun = page.until("executing", node=sampler, prompt_id=number).when
    ended = next(one.when for one in page.of("executing", prompt_id=number) if one.when > begun)
    previews = [one for one in page.of("preview") if begun < one.when < ended]
    pictures = [Image.open(io.BytesIO(one.content)) for one in previews]
    assert len(pictures) >= 2 and pictures[0].tobytes() != pictures[-1].tobytes()
    assert all(picture.width > picture.height for picture in pictures), "frames side by side"
    bars: dict[str, list[list[float]]] = {}
    for node in prompt:
        bar = [one.content for one in page.of("progress", node=node, prompt_id=number)]
        if bar:
            bars.setdefault(prompt[node]["class_type"], []).append([one["value"] / one["max"] for one in bar])
    assert set(bars) >= LONG & {node["class_type"] for node in prompt.values()}
    assert all(
        values == sorted(values) and values[-1] == 1 for kind in LONG & set(bars) for values in bars[kind]
    )
    steps = {one.content["value"] for one in page.of("progress", node=sampler, prompt_id=number)}
    assert steps >= {1, 2, 3, 4}


def test_cancel_takes_effect_within_a_forward_and_leaves_nothing(comfyui, page, name, prompt):
    sampler = number_of(prompt, SAMPLERS[name])
    comfyui.run(prompt)
    before = comfyui.files()
    number = comfyui.start(changed(prompt, seed=32, steps=900), page.client)
    page.until("progress", count=3, node=sampler, prompt_id=number)
    comfyui.post("/interrupt", {})
    asked = time.monotonic()
    entry = comfyui.wait(number)
    took = page.until("execution_interrupted", prompt_id=number).when - asked
    moves = page.of("progress", node=sampler, prompt_id=number)
    later = [one for one in moves if one.when > asked]
    print(name, f"{took:.2f} s after the press; a step takes {(moves[2].when - moves[0].when) / 2:.2f} s")
    assert message(entry, "execution_interrupted")["node_id"] == sampler
    assert took < PATIENCE and len(later) <= 1, (took, len(later))
    assert comfyui.files() == before
    shown = comfyui.run(changed(prompt, seed=32))
    assert shown[number_of(prompt, "XDUA_EncodeVideo")]["images"]


@pytest.mark.parametrize(
    ("workflow", "stopped", "changing", "widget", "value"),
    [
        ("pose_align", "XDUA_ExtractPose", "XDUA_DemoInputs", "frames", 21),
        ("pose_align", "XDUA_EncodeVideo", "XDUA_EncodeVideo", "format", "webm (vp9)"),
        ("unianimate_short", "VAEDecode", "XDUA_UnifiedNoise", "seed", 33),
    ],
)
def test_cancel_is_heard_between_frames(comfyui, page, shipped, workflow, stopped, changing, widget, value):
    prompt = shipped(workflow)
    comfyui.run(prompt)
    before = comfyui.files()
    prompt[number_of(prompt, changing)]["inputs"][widget] = value
    node = next(number for number in prompt if prompt[number]["class_type"] == stopped)
    number = comfyui.start(prompt, page.client)
    page.until("progress", node=node, prompt_id=number)
    comfyui.post("/interrupt", {})
    assert message(comfyui.wait(number), "execution_interrupted")["node_id"] == node
    left = [file.name for file in comfyui.files() - before]
    assert all(".partial" in name for name in left) and len(left) == (stopped == "XDUA_EncodeVideo")
    assert comfyui.run(prompt), "and the next run is whole"


def test_a_second_a_cancelled_and_a_failed_run_leave_the_memory_of_the_first(start, clients, name, prompt):
    sampler, encoder = number_of(prompt, SAMPLERS[name]), number_of(prompt, "XDUA_EncodeVideo")
    with start() as fresh, listening(fresh.url, next(clients)) as page:
        fresh.run(changed(prompt, seed=40))
        first = fresh.memory()
        grown = {}
        fresh.run(changed(prompt, seed=41))
        grown["second"] = fresh.memory() - first
        number = fresh.start(changed(prompt, seed=42, steps=900), page.client)
        page.until("progress", count=3, node=sampler, prompt_id=number)
        fresh.post("/interrupt", {})
        assert message(fresh.wait(number), "execution_interrupted")
        grown["cancelled"] = fresh.memory() - first
        entry = fresh.wait(fresh.start(changed(prompt, seed=43, **FAILURES[name])))
        assert "cannot overlap" in message(entry, "execution_error")["exception_message"]
        grown["failed early"] = fresh.memory() - first
        entry = fresh.wait(fresh.start(changed(prompt, seed=44, filename_prefix="../outside/clip")))
        assert message(entry, "execution_error")["node_id"] == encoder
        grown["failed late"] = fresh.memory() - first
        fresh.run(changed(prompt, seed=45))
        grown["after them"] = fresh.memory() - first
    print(name, f"{first / 2**20:.0f} MB,", {what: f"{size / 2**20:+.0f} MB" for what, size in grown.items()})
    assert max(grown.values()) < SPARE, grown
