"""The node that measures results, run as a graph on the drawn clip."""

from __future__ import annotations

import csv
import io
import json

import pytest

FRAMES = 5
VALUES = {
    "conditions": "", "stop_if_missed": False, "filename_prefix": "quality/test", "window_size": 0,
    "window_overlap": 2,
}  # fmt: skip


def graph(**changes) -> dict:
    return {
        "1": {"class_type": "XDUA_DemoInputs", "inputs": {"frames": FRAMES}},
        "2": {
            "class_type": "XDUA_LoadPoseDetector",
            "inputs": {"detector": "demo (embedded)", "device": "auto"},
        },
        "3": {"class_type": "XDUA_EvaluateResult", "inputs": {"images": ["1", 1], **VALUES, **changes}},
    }


WHOLE = {
    "poses": ["1", 3], "detector": ["2", 0], "reference": ["1", 0], "reference_pose": ["1", 4],
    "truth": ["1", 1],
}  # fmt: skip


def test_the_driving_clip_follows_its_own_poses(comfy):
    run = comfy.executor().run(graph(**WHOLE, conditions="psnr>=99\njoints_5 >= 95\n"))
    report, passed, plot, table, numbers = run.outputs["3"]
    found = json.loads(numbers)
    assert passed is True and found["failures"] == []
    assert found["frames"] == FRAMES and found["summary"]["psnr"] == 100
    assert found["summary"]["joints_5"] > 95 and "joints_5" in report
    assert len(list(csv.reader(io.StringIO(table)))) == FRAMES + 1
    assert plot.ndim == 4 and plot.min() >= 0 and plot.max() <= 1
    assert {file.suffix for file in (comfy.base / "output" / "quality").iterdir()} == {
        ".csv",
        ".json",
        ".png",
    }


def test_conditions_that_do_not_hold(comfy):
    report, passed, *_ = comfy.executor().run(graph(conditions="flicker<=0\npsnr>=1")).outputs["3"]
    assert passed is False
    assert "flicker<=0 does not hold" in report and "psnr was not measured" in report
    with pytest.raises(Exception, match="misses its conditions"):
        comfy.executor().run(graph(conditions="flicker<=0", stop_if_missed=True))
    with pytest.raises(Exception, match="no measure"):
        comfy.executor().run(graph(conditions="beauty>1"))


def test_nothing_is_written_without_a_name(comfy):
    before = set((comfy.base / "output").rglob("*"))
    run = comfy.executor().run(graph(filename_prefix="", window_size=3, window_overlap=0))
    assert set((comfy.base / "output").rglob("*")) == before
    assert "seam_score" in json.loads(run.outputs["3"][4])["summary"]


def test_segments_are_marked_where_they_met(comfy):
    """Of 5 frames in segments of 3: the second continues frame 2, so step 2 is the border; windows have other ones."""
    run = comfy.executor().run(graph(filename_prefix="", segments=3))
    assert json.loads(run.outputs["3"][4])["borders"] == [2]
    run = comfy.executor().run(graph(filename_prefix="", window_size=2, window_overlap=0))
    assert json.loads(run.outputs["3"][4])["borders"] == [1, 2, 3]
    with pytest.raises(Exception, match="in windows or in segments"):
        comfy.executor().run(graph(window_size=3, segments=3))
    assert json.loads(comfy.executor().run(graph()).outputs["3"][4])["borders"] == []


def test_embeddings_of_a_connected_clip_vision(comfy):
    from xdyna_unianimate.nodes import paths

    prompt = graph(images=["1", 0], reference=["1", 0], clip_vision=["4", 0])
    prompt["4"] = {
        "class_type": "XDUA_LoadClipVision",
        "inputs": {"clip_vision": paths.DEMO, "precision": "fp32"},
    }
    found = json.loads(comfy.executor().run(prompt).outputs["3"][4])
    assert found["summary"]["embedding_similarity"] == pytest.approx(1, abs=1e-4)
