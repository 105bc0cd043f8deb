"""The pack in the real program: it loads, is described as its classes say, runs, saves, caches, stops."""

from __future__ import annotations

import json
import subprocess

import av
import pytest
from PIL import Image

PACK_MODULE = "custom_nodes.xdyna-unianimate"


@pytest.fixture(scope="module")
def info(comfyui):
    return comfyui.get("/object_info")


@pytest.fixture(scope="module")
def ours(info):
    return {name: node for name, node in info.items() if node["python_module"] == PACK_MODULE}


def picture(comfyui, name: str, size: tuple[int, int] = (75, 51)) -> str:
    Image.linear_gradient("L").resize(size).convert("RGB").save(comfyui.base / "input" / name)
    return name


def clip(comfyui, name: str = "ramp.png", **settings) -> dict:
    """LoadImage -> our encoder -> core's SaveVideo."""
    encode = {
        "images": ["1", 0],
        "fps": 8.0,
        "format": "mp4 (h264)",
        "crf": 20,
        "filename_prefix": "x/clip",
    }
    encode |= {"save_workflow": True} | settings
    save = {"video": ["2", 0], "filename_prefix": "x/core", "format": "auto", "codec": "auto"}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": picture(comfyui, name)}},
        "2": {"class_type": "XDUA_EncodeVideo", "inputs": encode},
        "3": {"class_type": "SaveVideo", "inputs": save},
    }


def test_the_pack_loads_without_a_word_of_complaint(comfyui, ours):
    assert ours and all(name.startswith("XDUA_") for name in ours)
    log, found, _ = comfyui.whole_log().partition("Starting server")
    assert found and "IMPORT FAILED" not in log and "Traceback" not in log and "are left out" not in log


def test_the_page_finds_a_text_and_a_file_for_every_node(comfyui, ours):
    for name, node in ours.items():
        assert (
            node["display_name"]
            and node["description"]
            and node["category"].startswith("X-Dyna + UniAnimate/")
        )
        page = f"/extensions/xdyna-unianimate/docs/{name}.md"
        answer = subprocess.run(
            ["curl", "-sf", comfyui.url + page], capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0 and answer.stdout.startswith(f"# {node['display_name']}"), page


def test_a_clip_of_odd_size_is_saved_shown_and_passed_on_to_core(comfyui):
    shown = comfyui.run(clip(comfyui))
    for node in ("2", "3"):
        (saved,) = shown[node]["images"]
        assert shown[node]["animated"] == [True] and saved["type"] == "output"
        with av.open(str(comfyui.base / "output" / saved["subfolder"] / saved["filename"])) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            stored = json.loads(container.metadata["prompt"])
        assert stored["1"]["class_type"] == "LoadImage"


def test_a_late_change_runs_late_nodes_only(comfyui):
    comfyui.run(clip(comfyui, "late.png"))
    entry = comfyui.wait(comfyui.start(clip(comfyui, "late.png", fps=12.0)))
    (cached,) = [
        message[1]["nodes"] for message in entry["status"]["messages"] if message[0] == "execution_cached"
    ]
    assert cached == ["1"]


def test_a_bad_value_arrives_as_one_sentence(comfyui):
    entry = comfyui.wait(comfyui.start(clip(comfyui, filename_prefix="../outside/clip")))
    (failure,) = [m[1] for m in entry["status"]["messages"] if m[0] == "execution_error"]
    assert failure["node_id"] == "2"
    assert "outside the output folder" in failure["exception_message"]
