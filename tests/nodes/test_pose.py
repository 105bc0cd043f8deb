"""The pose nodes, run as a graph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

DEMO = "demo (embedded)"


def extract(source: list, **changes) -> dict:
    values = {
        "detector": ["1", 0], "person": "largest", "fill_gaps": 5, "smooth": False, "interval": 1,
        "max_frames": 0, "fps": 8.0, **changes,
    }  # fmt: skip
    return {"class_type": "XDUA_ExtractPose", "inputs": {**values, **({"images": source} if source else {})}}


@pytest.fixture
def graph() -> dict:
    return {
        "1": {"class_type": "XDUA_LoadPoseDetector", "inputs": {"detector": DEMO, "device": "auto"}},
        "2": {"class_type": "XDUA_DemoInputs", "inputs": {"frames": 4}},
        "3": extract(["2", 1], fps=12.0),
        "4": extract(["2", 0]),
        "5": {
            "class_type": "XDUA_AlignPose",
            "inputs": {"driving": ["3", 0], "reference": ["4", 0], "fidelity": "robust", "median": False},
        },
    }


DRAWN = {
    "style": "unianimate", "width": 0, "height": 0, "scale_strokes": False, "jpeg": False,
    "hands": True, "feet": True, "head": True, "face": False,
}  # fmt: skip


def sink(node: str, prompt: dict) -> dict:
    """An output node for what a node gives first: an image is shown, poses are saved."""
    if prompt[node]["class_type"] in ("XDUA_DrawPose", "XDUA_DemoInputs"):
        return {"class_type": "PreviewImage", "inputs": {"images": [node, 0]}}
    values = {"poses": [node, 0], "filename_prefix": "poses/test", "format": ".npz"}
    return {"class_type": "XDUA_SavePose", "inputs": values}


def outputs(comfy, prompt: dict, node: str):
    """What a node gave when everything up to it ran."""
    whole = prompt if prompt[node]["class_type"] == "XDUA_SavePose" else {**prompt, "99": sink(node, prompt)}
    return comfy.executor().run(whole).outputs[node]


def test_extracted_poses_are_the_drawn_ones(comfy, graph):
    found = outputs(comfy, graph, "3")
    exact = outputs(comfy, graph, "2")[3]
    np.testing.assert_allclose(found[0].points, exact.points, atol=1e-9)
    assert found[1] == 12.0 and found[2] == 4


def test_a_video_is_read_as_a_stream(comfy, graph):
    graph["3"] = extract([], max_frames=3)
    graph["3"]["inputs"]["video"] = ["2", 2]
    poses, fps, frames = outputs(comfy, graph, "3")
    assert frames == 3 and fps == pytest.approx(12.0)


def test_extract_without_a_source_says_so(comfy, graph):
    graph["3"] = extract([])
    with pytest.raises(Exception, match="connect images or video"):
        outputs(comfy, graph, "3")


def test_alignment_reports_every_limb_and_draws_it(comfy, graph):
    aligned, reference, report, picture = outputs(comfy, graph, "5")
    assert aligned.canvas == reference.canvas and len(reference) == 1
    assert "left forearm" in report and picture.shape[0] == 1 and picture.max() <= 1


@pytest.mark.parametrize(("style", "shape"), [("unianimate", (4, 768, 512, 3)), ("xdyna", (4, 384, 256, 3))])
def test_drawn_in_each_style(comfy, graph, style, shape):
    graph["6"] = {"class_type": "XDUA_DrawPose", "inputs": {**DRAWN, "poses": ["5", 0], "style": style}}
    [drawn] = outputs(comfy, graph, "6")
    assert tuple(drawn.shape) == shape and 0.9 < float(drawn.max()) <= 1


def test_half_a_size_is_refused(comfy, graph):
    graph["6"] = {"class_type": "XDUA_DrawPose", "inputs": {**DRAWN, "poses": ["5", 0], "width": 512}}
    with pytest.raises(Exception, match="both 0 or both given"):
        outputs(comfy, graph, "6")


@pytest.mark.parametrize("dialect", ["aux", "core", "openpose"])
def test_keypoints_go_out_and_come_back(comfy, graph, dialect):
    graph["6"] = {
        "class_type": "XDUA_PoseToKeypoints",
        "inputs": {"poses": ["5", 0], "dialect": dialect, "real_scores": False},
    }
    graph["7"] = {
        "class_type": "XDUA_KeypointsToPose",
        "inputs": {"keypoints": ["6", 0], "person": "largest", "fps": 12.0},
    }
    run = comfy.executor().run({**graph, "99": sink("7", graph)})
    np.testing.assert_allclose(run.outputs["7"][0].points, run.outputs["5"][0].points, atol=1e-3)
    assert len(json.loads(run.ui["6"]["openpose_json"][0])) == 4


@pytest.mark.parametrize("kind", [".npz", ".json"])
def test_saved_poses_load_again(comfy, graph, kind):
    graph["6"] = {
        "class_type": "XDUA_SavePose",
        "inputs": {"poses": ["5", 0], "filename_prefix": "poses/mine", "format": kind},
    }
    [file] = outputs(comfy, graph, "6")
    kept = comfy.base / "input" / f"kept{kind}"
    kept.write_bytes(Path(file).read_bytes())
    load = {"1": {"class_type": "XDUA_LoadPose", "inputs": {"file": kept.name}}}
    poses, fps = outputs(comfy, load, "1")
    np.testing.assert_array_equal(poses.points, outputs(comfy, graph, "5")[0].points)
    assert fps == pytest.approx(12.0)


def test_no_file_outside_the_input_folder_is_read(comfy):
    load = {"1": {"class_type": "XDUA_LoadPose", "inputs": {"file": "../secret.npz"}}}
    with pytest.raises(Exception, match="input folder|is not in"):
        outputs(comfy, load, "1")
