"""How the real program starts with the pack: quickly, with nothing heavy, and with the options that change much."""

from __future__ import annotations

import re
from pathlib import Path

import av
import pytest

from ..fakes import comfy_host, server

PACK = Path(__file__).resolve().parents[2]
HEAVY = {"diffusers", "cv2", "onnxruntime", "mediapipe"}


def test_loading_takes_less_than_a_second_and_touches_nothing(tmp_path):
    """The best of three starts, as other programs may keep the machine busy."""
    seconds = []
    while not seconds or (min(seconds) >= 1 and len(seconds) < 3):
        report = server.loaded(comfy_host.real_path(), PACK, tmp_path / f"start {len(seconds)}")
        imported = {name.split(".")[0] for name in report["imports"]}
        assert any(name.endswith("xdyna-unianimate.nodes.xdyna") for name in report["modules"]), (
            "it was loaded"
        )
        assert not imported & HEAVY, "the program itself may import them"
        assert report["told"] == [], "no network, no file written, no program started, no variable set"
        (told,) = re.findall(r"([\d.]+) seconds.*xdyna-unianimate", report["log"])
        seconds.append(float(told))
    print(seconds, sorted(imported), sorted(HEAVY & set(report["modules"])))
    assert min(seconds) < 1


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--cache-none", "loaded completely"),
        ("--lowvram", "loaded completely"),
        ("--novram", "loaded partially"),
    ],
)
def test_both_systems_run_with_an_option_that_changes_memory(start, shipped, option, says):
    """Core splits networks with --novram, and with --lowvram where memory is short, which it is not here."""
    prompt = shipped("compare_systems")
    with start(option, cpu=option == "--cache-none") as running:
        (number,) = (n for n, node in prompt.items() if node["class_type"] == "XDUA_EncodeVideo")
        (saved,) = running.run(prompt, limit=400)[number]["images"]
        with av.open(str(running.base / "output" / saved["subfolder"] / saved["filename"])) as video:
            assert sum(1 for _ in video.decode(video=0)) == 16
        assert says in running.whole_log()
