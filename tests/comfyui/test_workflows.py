"""Every shipped workflow on the real server: a video that plays, nothing done twice, late changes cheap."""

from __future__ import annotations

import copy
from pathlib import Path

import av
import pytest

from ..fakes.executor import downstream

WORKFLOWS = sorted(file.stem for file in (Path(__file__).resolve().parents[2] / "workflows").glob("*.json"))
ENCODER = "XDUA_EncodeVideo"
FPS = 12
"""Of the drawn driving clip."""

CHANGES = (
    (ENCODER, "fps", 6.0),
    (ENCODER, "format", "webm (vp9)"),
    (ENCODER, "crf", 40),
    ("XDUA_GridCompare", "labels", "a\nb\nc\nd"),
    ("XDUA_UniAnimateSampler", "guidance", 1.0),
    ("XDUA_UnifiedNoise", "seed", 8),
    ("XDUA_XDynaSampler", "seed", 8),
    ("XDUA_ApplyFaceControl", "strength", 0.5),
    ("XDUA_ApplyPoseControl", "strength", 0.5),
    ("XDUA_DrawPose", "hands", False),
    ("XDUA_AlignPose", "median", True),
)
"""(node, widget, another value), the latest first."""


@pytest.fixture(params=WORKFLOWS)
def prompt(request, shipped) -> dict:
    return shipped(request.param)


def numbers(prompt: dict, kind: str) -> list[str]:
    return [number for number, node in prompt.items() if node["class_type"] == kind]


def run(comfyui, page, prompt: dict) -> tuple[dict, set[str]]:
    """The history entry, and the nodes that the page saw running."""
    number = comfyui.start(prompt, page.client)
    entry = comfyui.wait(number, limit=400)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    page.until("executing", node=None, prompt_id=number)
    return entry, {one.content["node"] for one in page.of("executing", prompt_id=number)} - {None}


def test_there_are_workflows():
    assert len(WORKFLOWS) == 6


def test_it_ends_in_a_video_that_plays_and_is_shown_in_its_node(comfyui, page, prompt):
    shown = run(comfyui, page, prompt)[0]["outputs"]
    ((frames, _),) = {(prompt[n]["inputs"]["frames"], n) for n in numbers(prompt, "XDUA_DemoInputs")}
    for number in numbers(prompt, ENCODER):
        (saved,) = shown[number]["images"]
        assert shown[number]["animated"] == [True] and saved["type"] == "output"
        with av.open(str(comfyui.base / "output" / saved["subfolder"] / saved["filename"])) as video:
            stream = video.streams.video[0]
            assert stream.average_rate == FPS
            pictures = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
        assert len(pictures) == frames
        assert pictures[0].std() > 5 and (pictures[0] != pictures[-1]).any(), "it shows something that moves"


def test_a_second_run_does_nothing_and_a_late_change_only_what_depends_on_it(comfyui, page, prompt):
    run(comfyui, page, prompt)
    requests = comfyui.whole_log().count("Requested to load")
    files = comfyui.files()
    assert run(comfyui, page, prompt)[1] == set(), "nothing has changed"
    assert comfyui.files() == files
    for kind, widget, value in CHANGES:
        for number in numbers(prompt, kind):
            prompt = copy.deepcopy(prompt)
            assert widget in prompt[number]["inputs"] and prompt[number]["inputs"][widget] != value
            prompt[number]["inputs"][widget] = value
            assert run(comfyui, page, prompt)[1] == downstream(prompt, number), (kind, widget)
    assert comfyui.whole_log().count("Requested to load") == requests, "nothing was loaded a second time"
