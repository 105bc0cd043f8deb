"""Estimate in a graph: what it says is what the command line says, and widgets are named where it does not fit."""

from __future__ import annotations

import json

import pytest

DEMO = "demo (embedded)"
INPUTS = {
    "system": "unianimate", "weights": DEMO, "width": 64, "height": 128, "frames": 9, "steps": 2, "window": 4,
    "overlap": 1, "mode": "auto", "guided": True, "batch": 1, "branches": "as the sampler says", "precision": "fp32",
    "measure": False,
}  # fmt: skip


def prompt(fast: dict | None = None, **changes) -> dict:
    nodes = {"1": {"class_type": "XDUA_Estimate", "inputs": INPUTS | changes}}
    if fast is not None:
        nodes["2"] = {"class_type": "XDUA_FastMode", "inputs": fast}
        nodes["1"]["inputs"]["fast"] = ["2", 0]
    return nodes


@pytest.fixture
def says(comfy):
    """Inputs -> (fits, report, what the JSON holds)."""

    def run(**given) -> tuple[bool, str, dict]:
        fits, text, details = comfy.executor().run(prompt(**given)).outputs["1"]
        return fits, text, json.loads(details)

    return run


@pytest.mark.parametrize("system", ["unianimate", "xdyna"])
def test_it_says_what_the_command_line_says(says, system) -> None:
    import torch
    from xdyna_unianimate.app.estimate import estimate
    from xdyna_unianimate.app.stages import Asked
    from xdyna_unianimate.app.systems import Sampling, UniAnimate, XDyna

    fits, text, found = says(system=system)
    own = UniAnimate() if system == "unianimate" else XDyna()
    sampling = Sampling((64, 128), 2, window=4, overlap=1)
    expected = estimate(Asked(own, sampling, 9, True, torch.device("cpu"), torch.float32), clock=False)
    assert fits and found["fits"]
    assert {name: found[name] for name in ("device", "ram", "disk", "tflop")} == {
        "device": expected.device, "ram": expected.ram, "disk": expected.disk, "tflop": expected.tflop,
    }  # fmt: skip
    assert "GB of RAM" in text and "time not estimated" in text


def test_time_is_told_where_it_is_asked_for(says) -> None:
    _, text, found = says(frames=3, measure=True)
    assert found["seconds"] > 0 and "time not estimated" not in text


def test_choices_are_counted(says) -> None:
    plain = says()[2]
    work = plain["tflop"]
    assert says(guided=False)[2]["tflop"] < 0.7 * work
    fast = {"solver": "unipc", "guided_from": 0.0, "guided_until": 0.5, "reuse_every": 1, "compile": False}
    shorter = says(fast=fast)[2]
    assert shorter["tflop"] < 0.9 * work and shorter["disk"] > 3 * plain["disk"]


def test_widgets_are_named_where_it_does_not_fit(says, monkeypatch) -> None:
    from xdyna_unianimate.nodes import host

    monkeypatch.setattr(host, "free_memory", lambda: 10**8)
    fits, text, found = says(system="xdyna", branches="together", window=16, frames=16)
    assert not fits and found["advice"]
    assert "and 0.10 GB are free" in text and "--" not in text
    assert "together off" in text or "window" in text or "width 64" in text
