"""Beside other packs' nodes and core's: exact structures of theirs come in, ours go out, rates and sound go through.

``golden/sdpose.json`` was written by core's own code (0.33): keypoints and scores as its network gives them, in
COCO-WholeBody's order, and the POSE_KEYPOINT that core makes of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from ..fakes.executor import Executor, NodeError
from ..fakes.prompts import unianimate_told

DEMO = "demo (embedded)"
SDPOSE = Path(__file__).parent / "golden" / "sdpose.json"
READ = {"person": "largest", "fps": 12.0, "number": 0, "width": 0, "height": 0}
FOUND = {
    "person": "largest", "fill_gaps": 0, "smooth": False, "interval": 1, "max_frames": 0, "fps": 8.0, "number": 0,
}  # fmt: skip
ENCODED = {
    "fps": 8.0,
    "format": "mp4 (h264)",
    "filename_prefix": "mixes/clip",
    "save_workflow": False,
    "crf": -1,
}


def node(class_type: str, /, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


# ---- POSE_KEYPOINT -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sdpose() -> dict:
    return json.loads(SDPOSE.read_text(encoding="utf-8"))


def with_neck(sdpose: dict, frame: int, person: int = 0) -> np.ndarray:
    """What SDPose's network found, in our order; the neck is between the shoulders."""
    from xdyna_unianimate.pose_align.detector import add_neck

    points, scores = (np.array(sdpose[name][frame][person]) for name in ("keypoints", "scores"))
    return add_neck(points, scores)[0]


def test_keypoints_of_cores_sdpose_come_in(comfy, sdpose):
    poses, notes = comfy.pack["XDUA_KeypointsToPose"].execute(sdpose["frames"], **READ).args
    assert poses.canvas == (256, 384) and len(poses) == 3 and poses.fps == 12.0
    for frame in (0, 1):
        np.testing.assert_allclose(poses.points[frame], with_neck(sdpose, frame), atol=1e-2)
        assert poses.visible()[frame].all(), "feet and face too"
    assert "hand" in notes, "core calls the left hand of COCO-WholeBody right; each goes to its own wrist"
    lost = ~poses.visible()[2]
    assert lost[92:113].all() and lost[7] and lost.sum() == 22, "left hand and wrist were not seen"
    assert (poses.points[poses.visible()] >= 0).all(), "core's -1 for what it did not find is no place"


def test_several_people_of_cores_sdpose_are_told_apart(comfy, sdpose):
    second = [sdpose["frames"][1]] * 2
    read = comfy.pack["XDUA_KeypointsToPose"].execute
    small, _ = read(second, **{**READ, "person": "leftmost"}).args
    large, _ = read(second, **{**READ, "person": "largest"}).args
    np.testing.assert_allclose(large.points[1], with_neck(sdpose, 1), atol=1e-2)
    np.testing.assert_allclose(small.points[1], with_neck(sdpose, 1, person=1), atol=1e-2)


def shape_of(value):
    """Keys, lengths and types."""
    if isinstance(value, Mapping):
        return {key: shape_of(entry) for key, entry in value.items() if key != "xdua_poses"}
    if isinstance(value, list) and value and isinstance(value[0], float):
        return len(value), {type(number) for number in value}
    if isinstance(value, list):
        return [shape_of(entry) for entry in value]
    return type(value)


def test_our_poses_go_out_as_core_itself_writes_them(comfy, sdpose):
    poses, _ = comfy.pack["XDUA_KeypointsToPose"].execute([sdpose["frames"][0]], **READ).args
    [ours] = comfy.pack["XDUA_PoseToKeypoints"].execute(poses, "core", True).args[0]
    theirs = sdpose["frames"][0]
    assert shape_of(ours) == shape_of(theirs)
    for key in ("pose_keypoints_2d", "foot_keypoints_2d"):
        np.testing.assert_allclose(ours["people"][0][key], theirs["people"][0][key], atol=1e-2)
    face = (np.reshape(one["people"][0]["face_keypoints_2d"], (70, 3)) for one in (ours, theirs))
    np.testing.assert_allclose(*(points[:, :2] for points in face), atol=1e-2)


def test_core_makes_the_recorded_structure_and_takes_ours(comfy, sdpose):
    """In the program itself, where it has these nodes."""
    if not comfy.real:
        pytest.skip("needs a real ComfyUI at COMFYUI_PATH")
    nodes = pytest.importorskip("comfy_extras.nodes_sdpose", reason="this ComfyUI has no SDPose")
    given = (
        [[np.array(person) for person in frame] for frame in sdpose[name]] for name in ("keypoints", "scores")
    )
    made = nodes._to_openpose_frames(*given, 384, 256)
    assert shape_of(made) == shape_of(sdpose["frames"])
    for ours, theirs in zip(made, sdpose["frames"], strict=True):
        for one, other in zip(ours["people"], theirs["people"], strict=True):
            assert all(np.allclose(one[key], other[key], atol=1e-3) for key in other)
    from xdyna_unianimate.demo.inputs import driving_poses

    poses = driving_poses()[:3]
    exported = comfy.pack["XDUA_PoseToKeypoints"].execute(poses, "core", False).args[0]
    drawn = nodes.SDPoseDrawKeypoints.execute(exported, True, True, True, True, 4, 3, 0.3, True).args[0]
    assert drawn.shape == (3, 384, 256, 3) and all((frame > 0.2).any() for frame in drawn)
    for x, y in poses.points[0][[2, 5, 8, 11]].round().astype(int):
        assert drawn[0, y - 2 : y + 3, x - 2 : x + 3].max() > 0.2, "shoulders and hips where they are"
    boxes = nodes.SDPoseFaceBBoxes.execute(exported, 1.5, True).args[0]
    assert [len(frame) for frame in boxes] == [1, 1, 1]


# ---- frame rates and sound -----------------------------------------------------------------------------

VIDEO_INFO = {
    "source_fps": 25.0, "source_frame_count": 20, "source_duration": 0.8, "source_width": 48, "source_height": 32,
    "loaded_fps": 12.5, "loaded_frame_count": 10, "loaded_duration": 0.8, "loaded_width": 48, "loaded_height": 32,
}  # fmt: skip
"""All of VideoHelperSuite's keys: every second frame of a clip was loaded (peers 3d)."""


class LazySound(Mapping):
    """VideoHelperSuite's AUDIO: a mapping that reads its file when it is indexed, and raises without a sound."""

    def __init__(self, sound: dict | None) -> None:
        self.sound = sound

    def __getitem__(self, key):
        if self.sound is None:
            raise RuntimeError("Failed to extract audio")
        return self.sound[key]

    def __iter__(self):
        return iter(("waveform", "sample_rate"))

    def __len__(self):
        return 2


def tone(seconds: float, rate: int = 16000) -> dict:
    wave = torch.sin(torch.arange(int(seconds * rate)) * 0.1)
    return {"waveform": wave.expand(1, 2, -1), "sample_rate": rate}


class Loaded:
    """What VideoHelperSuite's Load Video gives: IMAGE, frame count, AUDIO, VHS_VIDEOINFO."""

    silent = False

    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES = ("IMAGE", "INT", "AUDIO", "VHS_VIDEOINFO")
    FUNCTION = "load"

    def load(self):
        grey = torch.linspace(0, 1, 10).reshape(-1, 1, 1, 1).expand(-1, 32, 48, 3)
        return grey.clone(), 10, LazySound(None if self.silent else tone(0.8)), dict(VIDEO_INFO)


class Silent(Loaded):
    """The same of a file without sound."""

    silent = True


@pytest.fixture
def executor(comfy) -> Executor:
    return Executor({**comfy.classes, "Loaded": Loaded, "Silent": Silent})


def seen(file: str) -> tuple[Fraction, int, int]:
    """(frames per second, frames, samples of sound) of a video file."""
    with av.open(file) as container:
        rate = container.streams.video[0].average_rate
        frames = sum(1 for _ in container.decode(video=0))
    with av.open(file) as container:
        samples = sum(f.samples for f in container.decode(audio=0)) if container.streams.audio else 0
    return rate, frames, samples


def test_rate_and_sound_of_videohelpersuite_go_through_to_the_file_and_to_core(executor):
    prompt = {
        "1": node("Loaded"),
        "2": node("XDUA_EncodeVideo", images=["1", 0], audio=["1", 2], video_info=["1", 3], **ENCODED),
        "3": node("GetVideoComponents", video=["2", 0]),
        "4": node("PreviewImage", images=["3", 0]),
    }
    run = executor.run(prompt)
    rate, frames, samples = seen(run.outputs["2"][1])
    assert (rate, frames) == (Fraction(25, 2), 10) and samples / 16000 == pytest.approx(0.8, abs=0.1)
    images, sound, fps, *_ = run.outputs["3"]
    assert len(images) == 10 and fps == 12.5 and sound["sample_rate"] == 16000


def test_a_clip_of_videohelpersuite_without_sound_is_one_without_sound(executor):
    prompt = {
        "1": node("Silent"),
        "2": node("XDUA_EncodeVideo", images=["1", 0], audio=["1", 2], video_info=["1", 3], **ENCODED),
    }
    assert seen(executor.run(prompt).outputs["2"][1]) == (Fraction(25, 2), 10, 0)


def test_poses_have_the_rate_at_which_videohelpersuite_loaded_the_frames(executor):
    prompt = {
        "1": node("Loaded"),
        "2": node("XDUA_DemoInputs", frames=4),
        "3": node("XDUA_LoadPoseDetector", detector=DEMO, device="auto"),
        "4": node("XDUA_ExtractPose", detector=["3", 0], images=["2", 1], video_info=["1", 3], **FOUND),
        "5": node("XDUA_SavePose", poses=["4", 0], filename_prefix="poses/x", format=".npz"),
    }
    poses, fps, *_ = executor.run(prompt).outputs["4"]
    assert fps == poses.fps == 12.5
    del prompt["4"]["inputs"]["video_info"]
    assert executor.run(prompt).outputs["4"][1] == 8.0


def test_a_video_of_core_keeps_rate_and_sound_to_the_end(comfy, executor):
    """Load Video -> its parts -> poses and result -> Encode video -> Save Video."""
    from xdyna_unianimate.video_core.video import Audio, write_video

    file, sound = comfy.base / "input" / "with-sound.mp4", tone(0.8)
    grey = [np.full((32, 48, 3), 20 * i, np.uint8) for i in range(10)]
    write_video(
        iter(grey), file, Fraction(25, 2), audio=Audio(sound["waveform"][0].numpy(), 16000), overwrite=True
    )
    prompt = {
        "1": node("LoadVideo", file=file.name),
        "2": node("GetVideoComponents", video=["1", 0]),
        "3": node("XDUA_EncodeVideo", images=["2", 0], audio=["2", 1], **{**ENCODED, "fps": ["2", 2]}),
        "4": node("SaveVideo", video=["3", 0], filename_prefix="mixes/core", format="auto", codec="auto"),
    }
    run = executor.run(prompt)
    rate, frames, samples = seen(run.outputs["3"][1])
    assert (rate, frames) == (Fraction(25, 2), 10) and samples / 16000 == pytest.approx(0.8, abs=0.15)
    parts = run.outputs["3"][0].get_components()
    assert parts.frame_rate == Fraction(25, 2) and parts.audio["sample_rate"] == 16000
    [saved] = run.ui["4"]["images"]
    rate, frames, samples = seen(str(comfy.base / "output" / saved["subfolder"] / saved["filename"]))
    assert (rate, frames) == (Fraction(25, 2), 10) and (samples > 0 or not comfy.real)


# ---- latents -------------------------------------------------------------------------------------------


def small_clip() -> dict:
    """UniAnimate on three frames of 64 x 128, to latents."""
    size = {"width": 64, "height": 128}
    return {
        "demo": node("XDUA_DemoInputs", frames=3),
        "vae": node("XDUA_LoadVae", vae=DEMO, precision="fp32"),
        "clip": node("XDUA_LoadClip", clip=DEMO, precision="fp32"),
        "vision": node("XDUA_LoadClipVision", clip_vision=DEMO, precision="fp32"),
        "unet": node("XDUA_LoadUniAnimate", unet=DEMO, precision="fp32"),
        **unianimate_told("unet", "told", "noise", size),
        "latent": node(
            "XDUA_UniAnimateSampler", unianimate=["unet", 0], conditions=["told", 0], noise=["noise", 0], steps=4,
            guidance=1.0, mode="short", window=32, overlap=8, fuse="uniform", strength=1.0, batch=1, together=False,
        ),
        "frames": node("VAEDecode", samples=["latent", 0], vae=["vae", 0]),
        "show": node("PreviewImage", images=["frames", 0]),
    }  # fmt: skip


def test_latents_go_to_cores_decoder_and_its_encoded_ones_come_back(comfy, executor):
    prompt = small_clip()
    run = executor.run(prompt)
    latent = run.outputs["latent"][0]
    assert set(latent) == {"samples"} and latent["samples"].shape == (3, 4, 16, 8)
    assert latent["samples"].dtype == torch.float32 and latent["samples"].device.type == "cpu"
    assert run.outputs["frames"][0].shape == (3, 128, 64, 3)
    prompt["encoded"] = node("VAEEncode", pixels=["frames", 0], vae=["vae", 0])
    prompt["again"] = {**prompt["latent"], "inputs": {**prompt["latent"]["inputs"], "strength": 0.3}}
    prompt["again"]["inputs"]["latent"] = ["encoded", 0]
    prompt["refined"] = node("VAEDecode", samples=["again", 0], vae=["vae", 0])
    prompt["show"]["inputs"]["images"] = ["refined", 0]
    refined = executor.run(prompt).outputs["refined"][0]
    assert (refined - run.outputs["frames"][0]).abs().mean() < 0.2, "near the frames it began with"


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        (torch.zeros(3, 16, 16, 8), r"expected samples \[frames, 4, height/8, width/8\].*got \[3, 16, 16, 8\]"),
        (torch.zeros(1, 16, 3, 16, 8), r"got \[1, 16, 3, 16, 8\]"),
        (torch.zeros(2, 4, 16, 8), "2 frames of latent size 8 x 16 were given, and the conditions are 3 frames"),
        (torch.zeros(3, 4, 8, 8), "3 frames of latent size 8 x 8 were given, .* are 3 frames of 8 x 16"),
    ],
)  # fmt: skip
def test_latents_of_other_shapes_are_refused_with_the_rule(comfy, samples, sentence):
    class Give:
        INPUT_TYPES = classmethod(lambda cls: {"required": {}})
        RETURN_TYPES = ("LATENT",)
        FUNCTION = "give"

        def give(self):
            return ({"samples": samples},)

    prompt = {**small_clip(), "given": node("Give")}
    prompt["latent"]["inputs"]["latent"] = ["given", 0]
    with pytest.raises(NodeError, match=sentence):
        Executor({**comfy.classes, "Give": Give}).run(prompt)


def test_latents_of_video_models_with_four_channels_are_split_into_frames(comfy):
    from xdyna_unianimate.nodes.images import samples_of

    clip = torch.randn(1, 4, 3, 16, 8)
    assert torch.equal(samples_of({"samples": clip, "batch_index": [0, 1, 2]}), clip[0].movedim(1, 0))
