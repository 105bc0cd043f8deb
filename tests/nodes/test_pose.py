"""The pose nodes, run as graphs on the drawn inputs: found, cached, aligned, drawn, exchanged, kept."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from ..fakes.executor import Executor, NodeError

DEMO = "demo (embedded)"
FOUND = {
    "person": "largest", "fill_gaps": 5, "smooth": False, "interval": 1, "max_frames": 0, "fps": 8.0, "number": 0,
}  # fmt: skip
DRAWN = {
    "style": "unianimate", "width": 0, "height": 0, "scale_strokes": False, "jpeg": False,
    "hands": True, "feet": True, "head": True, "face": False,
}  # fmt: skip
READ = {"person": "largest", "fps": 12.0, "number": 0, "width": 0, "height": 0}


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def extract(images: list | None = None, **changes) -> dict:
    source = {} if images is None else {"images": images}
    return node("XDUA_ExtractPose", detector=["1", 0], **(FOUND | source | changes))


@pytest.fixture
def graph() -> dict:
    return {
        "1": node("XDUA_LoadPoseDetector", detector=DEMO, device="auto"),
        "2": node("XDUA_DemoInputs", frames=4),
        "3": extract(["2", 1], fps=12.0),
        "4": extract(["2", 0]),
        "5": node("XDUA_AlignPose", driving=["3", 0], reference=["4", 0], fidelity="robust", median=False),
    }


def run(comfy, prompt: dict, key: str, executor: Executor | None = None):
    """The run of everything up to one node, with an output node after it."""
    kind = prompt[key]["class_type"]
    save = node("XDUA_SavePose", poses=[key, 0], filename_prefix="poses/test", format=".npz")
    sinks = {
        "XDUA_DrawPose": node("PreviewImage", images=[key, 0]),
        "XDUA_DemoInputs": node("PreviewImage", images=[key, 0]),
    }
    whole = prompt if kind == "XDUA_SavePose" else {**prompt, "99": sinks.get(kind, save)}
    return (executor or comfy.executor()).run(whole)


def outputs(comfy, prompt: dict, key: str):
    return run(comfy, prompt, key).outputs[key]


@pytest.fixture
def cache(comfy, monkeypatch, tmp_path) -> Path:
    """An empty pose cache."""
    monkeypatch.setenv("XDUA_CACHE", str(tmp_path))
    return tmp_path / "poses"


# ---- finding -------------------------------------------------------------------------------------------


def test_extracted_poses_are_the_drawn_ones(comfy, graph):
    poses, fps, frames, preview = outputs(comfy, graph, "3")
    np.testing.assert_allclose(poses.points, outputs(comfy, graph, "2")[3].points, atol=1e-9)
    assert (fps, frames) == (12.0, 4)
    assert preview.shape[:2] == (1, 324) and preview.shape[2] > 4 * 200 and preview.max() > 0.9


def test_the_detector_says_what_it_is(comfy, graph):
    assert outputs(comfy, graph, "3") and run(comfy, graph, "3").outputs["1"][1].startswith(DEMO)


def test_a_video_is_read_as_a_stream(comfy, graph, cache, monkeypatch):
    graph["3"] = extract(video=["2", 2], max_frames=3, interval=2)
    monkeypatch.setattr(
        "comfy_api.latest.InputImpl.VideoFromFile.get_components",
        lambda self: pytest.fail("held the whole clip"),
    )
    poses, fps, frames, _ = outputs(comfy, graph, "3")
    assert frames == len(poses) == 3 and fps == pytest.approx(6.0) and poses.fps == pytest.approx(6.0)


def test_a_video_of_frames_gives_what_the_frames_give(comfy, graph, cache):
    graph["6"] = node("CreateVideo", images=["2", 1], fps=12.0)
    graph["7"] = extract(video=["6", 0])
    graph["8"] = node("XDUA_SavePose", poses=["3", 0], filename_prefix="poses/test", format=".npz")
    done = run(comfy, graph, "7")
    np.testing.assert_array_equal(done.outputs["7"][0].points, done.outputs["3"][0].points)
    assert done.outputs["7"][0].fps == done.outputs["3"][0].fps == 12.0


@pytest.mark.parametrize("source", ["images", "video"])
def test_what_was_found_before_is_not_looked_for_again(comfy, graph, cache, monkeypatch, source):
    from xdyna_unianimate.demo.detector import DemoDetector

    looked = []
    stream = DemoDetector.stream
    monkeypatch.setattr(DemoDetector, "stream", lambda self, frames: looked.append(1) or stream(self, frames))
    graph["3"] = extract(**{source: ["2", 1 if source == "images" else 2]})
    first = outputs(comfy, graph, "3")[0]
    assert looked and len(list(cache.iterdir())) == 1
    looked.clear()
    np.testing.assert_array_equal(outputs(comfy, graph, "3")[0].points, first.points)
    graph["3"]["inputs"] |= {"smooth": True, "fill_gaps": 2}
    assert not np.array_equal(outputs(comfy, graph, "3")[0].points, first.points)
    assert not looked, "another executor, smoothed anew, and still from the cache"
    graph["3"]["inputs"]["interval"] = 2
    outputs(comfy, graph, "3")
    assert looked


def test_other_frames_are_other_poses(comfy, graph, cache):
    """Content decides, not the node: the same prompt with another clip behind it is looked at anew."""
    outputs(comfy, graph, "3")
    graph["2"]["inputs"]["frames"] = 5
    assert outputs(comfy, graph, "3")[2] == 5


def test_a_cache_that_cannot_be_written_costs_nothing_else(comfy, graph, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDUA_CACHE", str(tmp_path / "file"))
    assert outputs(comfy, graph, "3")[2] == 4


def test_a_later_widget_runs_later_nodes_only(comfy, graph):
    executor = comfy.executor()
    run(comfy, graph, "5", executor)
    graph["5"]["inputs"]["median"] = True
    assert run(comfy, graph, "5", executor).executed == ["5", "99"]


def test_the_bar_moves_with_every_frame_and_cancel_is_heard(comfy, graph, cache, interrupt):
    from comfy import model_management as mm
    from comfy import utils

    seen = []

    def hook(done, total, preview, node_id=None, **_):
        seen.append((done, total))
        if total == 24 and done == 2:
            mm.interrupt_current_processing(True)

    graph["3"] = extract(video=["2", 2])
    utils.set_progress_bar_global_hook(hook)
    try:
        with pytest.raises(NodeError) as caught:
            outputs(comfy, graph, "3")
    finally:
        utils.set_progress_bar_global_hook(None)
        mm.interrupt_current_processing(False)
    assert isinstance(caught.value.__cause__, interrupt)
    assert (1, 24) in seen and max(seen)[0] <= 3
    assert not cache.exists(), "half a clip is nothing to keep"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "connect images or video"),
        (
            {"images": ["2", 0], "person": "by number", "number": 3},
            "no person 3: from the left they are 0 to 0",
        ),
    ],
)
def test_what_cannot_be_found_is_a_sentence(comfy, graph, changes, sentence):
    graph["3"] = extract(**changes)
    with pytest.raises(NodeError, match=sentence):
        outputs(comfy, graph, "3")


def test_a_picture_without_a_person_is_a_sentence(comfy, graph):
    graph["6"] = node("EmptyImage", width=64, height=64, batch_size=2, color=0)
    graph["3"] = extract(["6", 0])
    with pytest.raises(NodeError, match=r"Nobody was found in any of the 2 frame\(s\)"):
        outputs(comfy, graph, "3")


def test_a_choice_that_is_not_in_the_list_is_a_sentence(comfy):
    """0.3.64 lets any text through to the node."""
    frames = torch.zeros(1, 8, 8, 3)
    with pytest.raises(ValueError, match="person: there is no 'tallest'; choose one of largest"):
        comfy.pack["XDUA_ExtractPose"].execute(None, **(FOUND | {"person": "tallest"}), images=frames)
    with pytest.raises(ValueError, match="detector: there is no 'openpose'"):
        comfy.pack["XDUA_LoadPoseDetector"].execute("openpose", "auto")


# ---- aligning and drawing ------------------------------------------------------------------------------


def test_alignment_reports_every_limb_and_draws_it(comfy, graph):
    aligned, reference, report, picture = outputs(comfy, graph, "5")
    assert aligned.canvas == reference.canvas and len(reference) == 1
    assert "left forearm" in report and picture.shape[0] == 1 and picture.max() <= 1


def test_the_report_is_shown_on_the_node(comfy, graph):
    [file] = run(comfy, graph, "5").ui["5"]["images"]
    assert (comfy.base / "temp" / file["subfolder"] / file["filename"]).is_file()


@pytest.mark.parametrize(("style", "shape"), [("unianimate", (4, 768, 512, 3)), ("xdyna", (4, 384, 256, 3))])
def test_drawn_in_each_style_as_the_network_knows_it(comfy, graph, style, shape):
    from xdyna_unianimate.pose_align.draw import STYLES, draw

    graph["6"] = node("XDUA_DrawPose", poses=["5", 0], **(DRAWN | {"style": style}))
    done = run(comfy, graph, "6")
    drawn, expected = done.outputs["6"][0], draw(done.outputs["5"][0], STYLES[style])
    assert tuple(drawn.shape) == shape
    np.testing.assert_array_equal((drawn * 255).round().numpy(), expected)


@pytest.mark.parametrize(
    "change", [{"hands": False}, {"feet": False}, {"head": False}, {"face": True}, {"jpeg": True}]
)
def test_every_part_can_be_left_out_or_added(comfy, graph, change):
    graph["6"] = node("XDUA_DrawPose", poses=["5", 0], **DRAWN)
    graph["7"] = node("XDUA_DrawPose", poses=["5", 0], **(DRAWN | change))
    graph["8"] = node("PreviewImage", images=["7", 0])
    done = run(comfy, graph, "6")
    assert not torch.equal(done.outputs["6"][0], done.outputs["7"][0])


def test_strokes_grow_with_the_canvas_when_asked_to(comfy, graph):
    sizes = {"width": 1024, "height": 1536}
    graph["6"] = node("XDUA_DrawPose", poses=["5", 0], **(DRAWN | sizes))
    graph["7"] = node("XDUA_DrawPose", poses=["5", 0], **(DRAWN | sizes | {"scale_strokes": True}))
    graph["8"] = node("PreviewImage", images=["7", 0])
    done = run(comfy, graph, "6")
    thin, thick = (float((done.outputs[key][0] > 0).float().mean()) for key in ("6", "7"))
    assert thick > 1.5 * thin


def test_half_a_size_is_refused(comfy, graph):
    graph["6"] = node("XDUA_DrawPose", poses=["5", 0], **(DRAWN | {"width": 512}))
    with pytest.raises(NodeError, match="both 0 or both given"):
        outputs(comfy, graph, "6")


# ---- other packs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["aux", "core", "openpose"])
def test_keypoints_go_out_and_come_back(comfy, graph, dialect):
    graph["6"] = node("XDUA_PoseToKeypoints", poses=["5", 0], dialect=dialect, real_scores=False)
    graph["7"] = node("XDUA_KeypointsToPose", keypoints=["6", 0], **READ)
    done = run(comfy, graph, "7")
    ours, back = done.outputs["5"][0], done.outputs["7"][0]
    np.testing.assert_array_equal(back.points, ours.points)
    assert back.fps == ours.fps and done.outputs["7"][1] == ""
    [text] = done.ui["6"]["openpose_json"]
    assert json.loads(text) == done.outputs["6"][0] and len(done.outputs["6"][0]) == 4


def aux_frame(**changes) -> dict:
    """A frame as controlnet_aux gives it: 1.0 or 0.0, None for a missing hand."""
    body = [value for i in range(18) for value in (10.0 + i, 20.0 + 2 * i, 1.0)]
    person = {
        "pose_keypoints_2d": body, "face_keypoints_2d": None, "hand_left_keypoints_2d": None,
        "hand_right_keypoints_2d": [value for i in range(21) for value in (12.0 + i, 30.0, 1.0)],
    }  # fmt: skip
    return {"people": [person], "canvas_height": 96, "canvas_width": 64} | changes


def read(comfy, frames: list, **changes):
    return comfy.pack["XDUA_KeypointsToPose"].execute(frames, **(READ | changes)).args


def test_keypoints_of_controlnet_aux_come_in_and_what_they_lack_is_said(comfy):
    poses, notes = read(comfy, [aux_frame(), aux_frame(people=[])])
    assert len(poses) == 2 and poses.canvas == (64, 96) and poses.fps == 12.0
    assert poses.visible()[0, :18].all() and not poses.visible()[1].any() and "feet" in notes


def test_keypoints_without_a_canvas_need_one(comfy):
    frame = {"people": aux_frame()["people"]}
    with pytest.raises(ValueError, match="give the width and height"):
        read(comfy, [frame])
    assert read(comfy, [frame], width=64, height=96)[0].canvas == (64, 96)


def test_animals_are_refused_politely(comfy):
    with pytest.raises(ValueError, match="animals"):
        read(comfy, [{"version": "ap10k", "animals": [], "canvas_height": 8, "canvas_width": 8}])


# ---- files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".npz", ".json", "OpenPose .json"])
def test_saved_poses_load_again(comfy, graph, kind):
    graph["6"] = node("XDUA_SavePose", poses=["5", 0], filename_prefix="poses/mine", format=kind)
    done = run(comfy, graph, "6")
    file = Path(done.outputs["6"][0])
    assert str(file) in done.ui["6"]["text"][0]
    kept = comfy.base / "input" / f"kept-{file.name}"
    kept.write_bytes(file.read_bytes())
    poses, fps = outputs(comfy, {"1": node("XDUA_LoadPose", file=kept.name)}, "1")
    np.testing.assert_array_equal(poses.points, done.outputs["5"][0].points)
    assert fps == pytest.approx(12.0)


def test_a_file_that_changed_is_read_again(comfy, graph):
    from xdyna_unianimate.demo.inputs import driving_poses
    from xdyna_unianimate.pose_align.interchange import save_poses

    file, executor = comfy.base / "input" / "changing.npz", comfy.executor()
    load = {"1": node("XDUA_LoadPose", file=file.name)}
    for frames in (2, 3):
        save_poses(driving_poses()[:frames], file)
        assert len(run(comfy, load, "1", executor).outputs["1"][0]) == frames
    assert run(comfy, load, "1", executor).executed == []


def test_no_file_outside_the_input_folder_is_read(comfy):
    load = comfy.pack["XDUA_LoadPose"]
    with pytest.raises(FileNotFoundError, match="no file '../secret.npz' in ComfyUI's input folder"):
        load.execute("../secret.npz")
    assert load.fingerprint_inputs("../secret.npz") == "../secret.npz is missing"


def test_the_demo_inputs_belong_together(comfy, graph):
    reference, driving, video, poses, pose, fps = outputs(comfy, graph, "2")
    assert reference.shape[1:] == driving.shape[1:] and len(driving) == len(poses) == 4 and len(pose) == 1
    assert video.get_dimensions() == (driving.shape[2], driving.shape[1])
    assert Fraction(fps) == 12 and poses.fps == fps
