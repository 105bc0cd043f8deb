"""What is said before anything is loaded, against counts of the specs and what runs were measured to take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from xdyna_unianimate.app import estimate as module
from xdyna_unianimate.app import networks
from xdyna_unianimate.app.animate import Source
from xdyna_unianimate.app.cli import main
from xdyna_unianimate.app.estimate import estimate, frames_of
from xdyna_unianimate.app.networks import Weights
from xdyna_unianimate.app.poses import PoseSettings
from xdyna_unianimate.app.runs import Request
from xdyna_unianimate.app.systems import Sampling, UniAnimate, XDyna
from xdyna_unianimate.demo import inputs

CPU = torch.device("cpu")
SOURCE = Source(inputs.REFERENCE, inputs.DRIVING_POSES)
SMALL = Sampling((64, 96), 2, window=4, overlap=1)


def of(system: UniAnimate | XDyna, frames: int = 9, sampling: Sampling = SMALL) -> module.Estimate:
    return estimate(Request(system, SOURCE, Weights(demo=True), sampling=sampling), frames, CPU, torch.float32)


def test_unianimates_work_is_the_specs() -> None:
    """Cost table: 31 x 135.1 TFLOP of denoising and 32 x 3.80 of decoding at 768 x 512."""
    found = estimate(Request(UniAnimate(), SOURCE), 32, CPU, torch.float16)
    assert found.tflop == pytest.approx(31 * 135.1 + 32 * 3.80, rel=0.02)
    assert found.ram > 2 * 1_416_564_300 + 4 * module.RELEASE_ENCODERS["unianimate"]


@pytest.mark.parametrize("system", [UniAnimate(mode="windows"), UniAnimate(mode="continuation"), XDyna()], ids=str)
def test_memory_does_not_grow_with_the_clip_but_for_its_latents(system) -> None:
    short, long = of(system, 50), of(system, 500)
    latents = 450 * 4 * 4 * 8 * 12
    assert long.ram - short.ram == module.CLIP_COPIES * latents
    assert long.disk - short.disk == module.STATES * latents
    assert 7 < long.tflop / short.tflop < 13


def test_less_is_predicted_for_less() -> None:
    found = of(XDyna())
    assert of(XDyna(), sampling=replace(SMALL, steps=4)).tflop > 1.3 * found.tflop
    assert of(XDyna(), sampling=replace(SMALL, size=(128, 192))).ram > found.ram


def test_frames_are_counted_without_looking() -> None:
    whole = len(inputs.driving_poses())
    assert frames_of(SOURCE, PoseSettings()) == whole
    assert frames_of(Source(inputs.REFERENCE, inputs.DRIVING), PoseSettings(interval=3)) == -(-whole // 3)
    assert frames_of(SOURCE, PoseSettings(max_frames=5)) == 5


WORDS = ("animate", "--reference", str(inputs.REFERENCE), "--driving", str(inputs.DRIVING_POSES), "--weights",
         "demo", "--resolution", "64x96", "--max-frames", "9", "--dry-run")  # fmt: skip


@pytest.mark.parametrize("model", ["unianimate", "xdyna"])
def test_a_dry_run_loads_nothing_and_writes_nothing(model: str, own_place: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(networks, "load", None)
    assert main([*WORDS, "--model", model, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["frames"], said["fits"], said["device"]) == (9, True, 0)
    assert said["seconds"] > 0
    assert not (own_place / "outputs").exists()


def test_it_says_what_to_change_where_it_does_not_fit(monkeypatch, capsys) -> None:
    monkeypatch.setattr(module, "free_memory", lambda device: 10**8)
    assert main([*WORDS, "--context-batch", "2"]) == 0
    said = capsys.readouterr().out
    assert "and 0.1 GB are free" in said
    for flag in ("--context-batch 1", "--context-size", "--resolution", "--precision fp16"):
        assert flag in said


def test_a_list_of_jobs_is_not_estimated(capsys) -> None:
    assert main(["animate", "--jobs", "list.json", "--dry-run"]) == 2
    assert "leave out --jobs" in capsys.readouterr().err
