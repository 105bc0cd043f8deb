"""Much at once and for long: queues, two processes on one cache and model folder, hundreds of runs, long clips."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from xdyna_unianimate.video_core.video import open_video

from ..app.conftest import own_place, small_weights  # noqa: F401
from ..app.test_resume import pictures, words
from ..benchmarks.long_clips import measured
from ..fakes import comfy_host
from . import processes

FAMILY = "load"

GROWTH = 15
"""MB that the last quarter of many runs may take more than the second: 5 after 200 runs."""


@pytest.fixture
def comfy(tmp_path):
    with comfy_host.running(tmp_path / "comfy") as host:
        yield host


def prompt(frames: int, prefix: str) -> dict:
    drawn = {"style": "unianimate", "width": 64, "height": 96, "scale_strokes": True, "jpeg": False, "hands": True,
             "feet": True, "head": True, "face": False}  # fmt: skip
    saved = {"fps": 8.0, "format": "mp4 (h264)", "filename_prefix": prefix, "save_workflow": True, "crf": -1}
    return {
        "1": {"class_type": "XDUA_DemoInputs", "inputs": {"frames": frames}},
        "2": {"class_type": "XDUA_DrawPose", "inputs": {"poses": ["1", 3], **drawn}},
        "3": {"class_type": "XDUA_EncodeVideo", "inputs": {"images": ["2", 0], **saved}},
    }


def test_twenty_prompts_queued_at_once(tally, comfy):
    """ComfyUI runs a queue one by one; each gives a file of its own, none takes another's name."""
    executor, made = comfy.executor(), set()
    for number in range(20):
        run = executor.run(prompt(2 + number % 3, "queue/same"))
        if "3" in run.executed:
            made.add(run.outputs["3"][1])
        tally.worked()
    assert len(made) == 20
    assert {file.name for file in (comfy.base / "output" / "queue").iterdir()} == {
        Path(name).name for name in made
    }


@pytest.mark.skipif(not processes.can_measure(), reason="memory is read from /proc")
def test_many_runs_in_one_process_in_flat_memory(tally, amount, own_place, capsys):  # noqa: F811
    from xdyna_unianimate.app.cli import main

    runs, memory = amount(2, 200), []
    for _ in range(runs):
        assert main(words("xdyna", own_place / "out", "--no-resume", "--steps", "1")) == 0
        memory.append(processes.resident())
        tally.worked()
    capsys.readouterr()
    assert processes.growth(memory) < GROWTH, f"{processes.growth(memory):.0f} MB more at the end: {memory}"


ONE = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from xdyna_unianimate.app.cli import main
from xdyna_unianimate.demo import checkpoints
given = json.loads(sys.argv[1])
for name, file in given["weights"].items():
    setattr(checkpoints, name, Path(file))
raise SystemExit(max(main(words) for words in given["all"]))
"""


def run_at_once(tally, own_place, small_weights, lists) -> None:  # noqa: F811
    """A process for each list of command lines, all with one cache."""
    weights = {name: str(file) for name, file in small_weights.items()}
    environment = {**os.environ, "XDUA_CACHE": str(own_place / "cache"), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ONE, json.dumps({"weights": weights, "all": all_words})],
            env=environment, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL,
        )
        for all_words in lists
    ]  # fmt: skip
    for process in running:
        said = process.communicate(timeout=300)[1]
        tally.worked() if process.returncode == 0 else tally.lost(said)


@pytest.mark.full
def test_two_processes_share_a_cache_and_models(tally, own_place, small_weights):  # noqa: F811
    """Same poses, same kept runs, same weights, at the same time: both end, with the same frames."""
    times = 10
    lists = [[words("xdyna", own_place / f"{name}{n}") for n in range(times)] for name in ("one", "two")]
    run_at_once(tally, own_place, small_weights, lists)
    first = pictures(own_place / "one0")
    assert len(first) == 10
    for number in range(times):
        for name in ("one", "two"):
            same = pictures(own_place / f"{name}{number}") == first
            tally.worked() if same else tally.lost(f"{name}{number} has other frames")
    assert not list(own_place.rglob("*.part"))


@pytest.mark.full
@pytest.mark.parametrize("codec", ["h264", "png"])
def test_processes_that_write_into_one_folder(tally, own_place, small_weights, codec):  # noqa: F811
    """The same pictures, so the same names, with three seeds, at the same time: no clip replaces another."""
    out, times = own_place / "out", 5
    lists = [
        [words("xdyna", out, "--codec", codec, "--seed", f"{seed}{n}") for n in range(times)]
        for seed in "123"
    ]
    for line in chain(*lists):
        line.remove("--overwrite")
    run_at_once(tally, own_place, small_weights, lists)
    sheets = [file for file in out.iterdir() if file.stem.endswith("_sheet")]
    clips = [file for file in out.iterdir() if file not in sheets]
    assert len(sheets) == len(clips) == 3 * times, [file.name for file in out.iterdir()]
    shown = {b"".join(frame.tobytes() for frame in open_video(clip).frames()) for clip in clips}
    tally.worked(len(shown))
    for _ in range(3 * times - len(shown)):
        tally.lost("a clip is there twice, and another one is missing")


@pytest.mark.full
@pytest.mark.skipif(not processes.can_measure(), reason="memory is read from /proc")
def test_a_clip_of_10000_frames_in_flat_memory(tally, tmp_path):
    """At the benchmark's tiny size, with windows; see tests/benchmarks/long_clips.py."""
    # Both are long, so that what has their length lies on disk; held, it is 18 kB a frame.
    short, long = (measured("xdyna", frames, tmp_path, in_use=True) for frames in (1000, 10_000))
    assert short["code"] == long["code"] == 0
    for what, in_use, most in ("in use", True, 1), ("at the peak, with glibc's free memory", False, 10):
        less, more = (max(one["curve"]) if in_use else one["peak"] for one in (short, long))
        growth = (more - less) / 9000 * 1000
        assert growth < most, f"{growth:.1f} kB a frame {what}: {less:.0f} MB, then {more:.0f} MB"
    tally.worked(2)
