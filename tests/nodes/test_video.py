"""The encoder node in a graph: every format and size, sound, the workflow inside, cancel, core's nodes."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from ..fakes.executor import Executor, NodeError

FORMATS = {
    "mp4 (h264)": ".mp4",
    "webm (vp9)": ".webm",
    "gif": ".gif",
    "webp": ".webp",
    "png sequence": "",
}


class Frames:
    """A test's own source: moving grey of any size and number of channels, with a tone."""

    @classmethod
    def INPUT_TYPES(cls):
        size = ("INT", {"default": 16, "min": 1, "max": 4096})
        return {"required": {"frames": size, "height": size, "width": size, "channels": size}}

    RETURN_TYPES = ("IMAGE", "AUDIO", "VHS_VIDEOINFO")
    FUNCTION = "make"

    def make(self, frames, height, width, channels):
        level = torch.linspace(0, 1, frames).reshape(-1, 1, 1, 1).expand(frames, height, width, channels)
        tone = torch.sin(torch.arange(48000) * 0.05).reshape(1, 1, -1).expand(1, 2, -1)
        return (
            level.clone(),
            {"waveform": tone, "sample_rate": 16000},
            {"loaded_fps": 12.5, "source_fps": 50.0},
        )


@pytest.fixture
def executor(comfy) -> Executor:
    return Executor(comfy.classes | {"Frames": Frames})


def prompt(frames=6, height=32, width=48, channels=3, **settings) -> dict:
    encode = {
        "images": ["1", 0],
        "fps": 8.0,
        "format": "mp4 (h264)",
        "filename_prefix": "tests/clip",
        "save_workflow": True,
        "crf": -1,
    }
    make = {"frames": frames, "height": height, "width": width, "channels": channels}
    return {
        "1": {"class_type": "Frames", "inputs": make},
        "2": {"class_type": "XDUA_EncodeVideo", "inputs": encode | settings},
    }


def read(path: Path) -> np.ndarray:
    """Mean grey of every frame."""
    if path.is_dir():
        return np.array([np.asarray(Image.open(file)).mean() for file in sorted(path.iterdir())])
    if path.suffix == ".webp":
        with Image.open(path) as picture:
            return np.array([np.asarray(_frame(picture, i)).mean() for i in range(picture.n_frames)])
    with av.open(str(path)) as container:
        return np.array([frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)])


def _frame(picture, index):
    picture.seek(index)
    return picture.convert("RGB")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_every_frame_and_is_shown(executor, comfy, name):
    run = executor.run(prompt(format=name))
    path = Path(run.outputs["2"][1])
    assert path.suffix == FORMATS[name] and comfy.base / "output" / "tests" == path.parent
    assert np.allclose(read(path), np.linspace(0, 255, 6), atol=4)
    (shown,) = run.ui["2"]["images"]
    assert (comfy.base / "output" / shown["subfolder"] / shown["filename"]).is_file()
    playing = bool(run.ui["2"].get("animated", [False])[0])
    assert playing == (name not in ("gif", "png sequence")), "the page plays everything animated as a video"


@pytest.mark.parametrize(("height", "width", "channels"), [(33, 47, 3), (1, 1, 3), (31, 48, 4), (32, 31, 1)])
def test_any_size_and_channel_count_is_saved_and_passed_on(executor, height, width, channels):
    graph = prompt(3, height, width, channels)
    graph["3"] = {
        "class_type": "SaveVideo",
        "inputs": {"video": ["2", 0], "filename_prefix": "tests/core", "format": "auto", "codec": "auto"},
    }
    run = executor.run(graph)
    with av.open(run.outputs["2"][1]) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == (height + height % 2, width + width % 2)
        assert container.streams.video[0].average_rate == 8
    (saved,) = run.ui["3"]["images"]
    assert saved["filename"].endswith(".mp4")


@pytest.mark.parametrize("name", ["gif", "webp", "png sequence"])
def test_what_can_hold_odd_sizes_keeps_them(executor, name):
    path = Path(executor.run(prompt(2, 33, 47, format=name)).outputs["2"][1])
    with Image.open(path / "00000.png" if path.is_dir() else path) as picture:
        assert picture.size == (47, 33)


def test_sound_is_muxed_and_cut_where_the_frames_end(executor):
    run = executor.run(prompt(frames=8, audio=["1", 1]))
    with av.open(run.outputs["2"][1]) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert samples / 16000 == pytest.approx(1.0, abs=0.15)
    assert run.outputs["2"][0].get_components().audio["sample_rate"] == 16000


def test_the_loaded_frame_rate_goes_before_the_widget(executor):
    run = executor.run(prompt(video_info=["1", 2]))
    with av.open(run.outputs["2"][1]) as container:
        assert container.streams.video[0].average_rate == Fraction(25, 2)
    assert run.outputs["2"][0].get_components().frame_rate == Fraction(25, 2)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_workflow_travels_in_the_file_when_wanted(executor, wanted):
    graph = prompt(save_workflow=wanted)
    run = executor.run(graph, extra_pnginfo={"workflow": {"nodes": [], "name": "Ünïcode 工作流"}})
    with av.open(run.outputs["2"][1]) as container:
        stored = {key: container.metadata.get(key) for key in ("prompt", "workflow")}
    if wanted:
        assert json.loads(stored["prompt"]) == graph
        assert json.loads(stored["workflow"])["name"] == "Ünïcode 工作流"
    else:
        assert stored == {"prompt": None, "workflow": None}


def test_the_first_png_holds_the_workflow_too(executor):
    graph = prompt(format="png sequence")
    folder = Path(executor.run(graph).outputs["2"][1])
    assert json.loads(Image.open(folder / "00000.png").info["prompt"]) == graph


def test_quality_changes_the_size(comfy):
    noise = torch.rand(4, 64, 64, 3, generator=torch.Generator().manual_seed(0))

    def size(crf: int) -> int:
        node = comfy.pack["XDUA_EncodeVideo"]
        return Path(node.execute(noise, 8.0, "mp4 (h264)", "tests/noise", False, crf).args[1]).stat().st_size

    assert size(0) > size(-1) > size(45)


def test_a_new_frame_rate_encodes_again_and_nothing_else(executor):
    executor.run(prompt())
    again = executor.run(prompt(fps=12.0))
    assert again.executed == ["2"]
    assert executor.run(prompt(fps=12.0)).executed == []


def test_cancel_keeps_the_frames_that_were_ready_and_leaves_no_finished_file(executor, comfy, interrupt):
    import comfy.model_management as mm
    import comfy.utils

    name = f"cancelled by {interrupt.__base__.__name__}"
    cancel = lambda done, total, preview, node_id=None, **_: mm.interrupt_current_processing(True)  # noqa: E731
    comfy.utils.set_progress_bar_global_hook(cancel)
    try:
        with pytest.raises(NodeError) as caught:
            executor.run(prompt(frames=200, filename_prefix=f"tests/{name}"))
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
        mm.interrupt_current_processing(False)
    assert isinstance(caught.value.__cause__, interrupt)
    (kept,) = (p for p in _outputs() if p.name.startswith(name))
    assert ".partial" in kept.name and 1 <= len(read(kept)) < 200


def _outputs() -> list[Path]:
    import folder_paths

    return list(Path(folder_paths.get_output_directory(), "tests").iterdir())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"filename_prefix": "../clip"}, "outside the output folder"),
        ({"frames": 0}, "there are no frames"),
        ({"channels": 5}, "expected pictures"),
    ],
)
def test_what_cannot_be_saved_is_a_sentence(comfy, settings, sentence):
    class Any(Frames):
        """Takes sizes that a widget would not."""

        @classmethod
        def INPUT_TYPES(cls):
            return {
                "required": {
                    key: ("INT", {"default": 1}) for key in ("frames", "height", "width", "channels")
                }
            }

    with pytest.raises(NodeError, match=sentence):
        Executor(comfy.classes | {"Frames": Any}).run(prompt(**settings))


@pytest.mark.parametrize("wrong", ["avi", {"a": {}}], ids=["a text", "no text"])
def test_a_format_that_is_not_in_the_list_is_a_sentence(comfy, wrong):
    """0.3.64 lets anything through to the node."""
    node = comfy.pack["XDUA_EncodeVideo"]
    with pytest.raises(ValueError, match="format: there is no .*; choose one of mp4"):
        node.execute(torch.zeros(1, 4, 4, 3), 8.0, wrong, "tests/clip", False, -1)
