"""Long runs in a graph: one that was cut off goes on where it stopped, to the same bits; branches by memory."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from xdyna_unianimate.app import state
from xdyna_unianimate.video_core.progress import NOWHERE
from xdyna_unianimate.xdyna_core.frames import Fitted

from ..fakes.executor import NodeError
from . import test_xdyna
from .test_unianimate import bar, graph, node  # noqa: F401 - a fixture

STEPS = 4
OFF = {"resume": False, "keep_every": 1, "branches": "as the sampler says"}
DEMO = "demo (embedded)"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all state."""
    monkeypatch.setenv("XDUA_CACHE", str(tmp_path))
    return tmp_path


def xdyna_graph() -> dict:
    """Drawn poses to latents "10", with the embedded networks."""
    return {
        "1": node("XDUA_DemoInputs", frames=5),
        "2": node("XDUA_LoadXDyna", unet=DEMO, base="none", motion_module="none", ip_adapter="none", precision="fp32"),
        "3": node("XDUA_LoadVae", vae=DEMO, precision="fp32"),
        "4": node("XDUA_LoadClip", clip=DEMO, precision="fp32"),
        "5": node("XDUA_LoadClipVision", clip_vision=DEMO, precision="fp32"),
        "6": node("XDUA_DrawPose", poses=["1", 3], **test_xdyna.SIZE, **test_xdyna.DRAWN),
        "7": node("CLIPTextEncode", text="", clip=["4", 0]),
        "8": node(
            "XDUA_XDynaConditioning", xdyna=["2", 0], clip_vision=["5", 0], vae=["3", 0], reference=["1", 0],
            positive=["7", 0], negative=["7", 0], **test_xdyna.SIZE,
        ),
        "9": test_xdyna.node("XDUA_LoadXDynaControlNet", kind="pose", controlnet=DEMO, precision="fp32"),
        "11": node(
            "XDUA_ApplyPoseControl", conditions=["8", 0], controlnet=["9", 0], poses=["6", 0], **test_xdyna.SPAN
        ),
        "10": node(
            "XDUA_XDynaSampler", xdyna=["2", 0], conditions=["11", 0], **(test_xdyna.SAMPLER | {"steps": STEPS})
        ),
        "12": node("VAEDecode", samples=["10", 0], vae=["3", 0]),
        "13": node("PreviewImage", images=["12", 0]),
    }  # fmt: skip


GRAPHS = {
    "unianimate": lambda: graph(3, steps=STEPS),
    "continuation": lambda: graph(7, steps=STEPS, mode="continuation"),
    "xdyna": xdyna_graph,
}


def with_options(prompt: dict, **changes) -> dict:
    prompt["20"] = node("XDUA_RunOptions", **(OFF | changes))
    prompt["10"]["inputs"]["run"] = ["20", 0]
    return prompt


def latents(run) -> torch.Tensor:
    return run.outputs["10"][0]["samples"]


def kept_runs(place: Path) -> list[Path]:
    return list((place / state.RUNS).glob("*"))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that were done."""
    done: list[int] = []
    keep = state.Part.keep
    monkeypatch.setattr(
        state.Part, "keep", lambda part, reached: (done.append(reached.done), keep(part, reached))
    )
    return done


@pytest.mark.parametrize("how", GRAPHS)
def test_a_cancelled_run_goes_on_to_the_same_bits(comfy, place, bar, steps, how) -> None:  # noqa: F811
    """Even in another process: nothing but the folder is taken over."""
    import comfy.model_management as mm

    plain = latents(comfy.executor().run(GRAPHS[how]()))
    assert not kept_runs(place), "off by default"
    bar.then = lambda *_: mm.interrupt_current_processing(len(steps) == 3)
    with pytest.raises(NodeError) as caught:
        comfy.executor().run(with_options(GRAPHS[how](), resume=True))
    assert isinstance(caught.value.__cause__, mm.InterruptProcessingException)
    bar.then = None
    mm.interrupt_current_processing(False)
    [folder] = kept_runs(place)
    assert "step" in json.loads((folder / state.MANIFEST).read_text(encoding="utf-8"))["entries"]
    again = latents(comfy.executor().run(with_options(GRAPHS[how](), resume=True)))
    assert torch.equal(again, plain)
    before = len(steps)
    parts = 2 if how == "continuation" else 1
    assert before == parts * len(set(steps)), "no step was done twice"
    assert torch.equal(latents(comfy.executor().run(with_options(GRAPHS[how](), resume=True))), plain)
    assert len(steps) == before, "a finished run is there until it is forgotten"
    assert len(kept_runs(place)) == 1


def test_what_decides_the_latents_is_another_run(comfy, place) -> None:
    executor = comfy.executor()
    for changes in ({}, {"seed": 6}, {"guidance": 2.0}):
        executor.run(with_options(graph(2, steps=1, **changes), resume=True))
    other = with_options(graph(2, steps=1), resume=True)
    other["1"]["inputs"]["frames"] = 3
    executor.run(other)
    assert len(kept_runs(place)) == 4


def test_at_its_defaults_nothing_is_changed_or_written(comfy, place) -> None:
    run = comfy.executor().run(with_options(graph(2, steps=1)))
    plain = latents(comfy.executor().run(graph(2, steps=1)))
    assert torch.equal(latents(run), plain)
    options = run.outputs["20"][0]
    assert options.journal(lambda: pytest.fail("nothing is kept")) is NOWHERE
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("choice", "together"), [("auto", "auto"), ("together", True), ("one after the other", False)]
)
def test_branches_reach_the_pipeline(comfy, monkeypatch, choice, together) -> None:
    from xdyna_unianimate.unianimate_core import pipeline

    seen = []
    settled = pipeline.settled
    monkeypatch.setattr(
        pipeline, "settled", lambda how, *rest: seen.append(how.together) or settled(how, *rest)
    )
    comfy.executor().run(with_options(graph(2, steps=1), branches=choice))
    assert seen == [together]


def test_old_runs_are_forgotten(tmp_path: Path) -> None:
    runs = state.Runs.at(tmp_path)
    for name, days in (("new", 1), ("old", 8)):
        run = runs.run(name)
        run.part(0).finish(torch.zeros(1, 4, 1, 2, 2))
        for file in run.folder.iterdir():
            os.utime(file, (time.time() - 86400 * days,) * 2)
    runs.forget_old()
    assert [folder.name for folder in kept_runs(tmp_path)] == [runs.run("new").folder.name]


def test_identity_sees_every_part() -> None:
    """Of tensors, networks, pictures that are made when asked for, and settings."""
    pictures = [torch.full((8, 8, 3), value, dtype=torch.uint8).numpy() for value in (1, 2)]
    made = [Fitted(order, (8, 8), lambda picture: picture) for order in (pictures, pictures[::-1])]
    layer, other = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    things = [
        *made, layer, other, torch.zeros(2), torch.zeros(3), (torch.zeros(2),), pictures[0], None, 1, "1",
        SimpleNamespace,
    ]  # fmt: skip
    keys = [state.identity(thing) for thing in things]
    assert len(set(keys)) == len(keys)
    assert keys == [state.identity(thing) for thing in things]
    eight = torch.nn.Linear(3, 3)
    eight.register_buffer("small", torch.zeros(300).to(torch.float8_e4m3fn))
    first = state.identity(eight)
    eight.small.view(torch.uint8).fill_(3)
    assert state.identity(eight) != first, "weights stored in eight bits too"
