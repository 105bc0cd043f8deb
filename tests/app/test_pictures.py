"""Thumbnails: there for every workflow, as the template browser wants them, made with the file's own settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from xdyna_unianimate.app import pictures
from xdyna_unianimate.app.systems import UniAnimate

WORKFLOWS = sorted(pictures.WORKFLOWS.glob("*.json"))
LIMIT = 60_000
WIDGETS = {
    "XDUA_UniAnimateSampler": {"steps": 0, "guidance": 1, "mode": 2, "window": 3, "overlap": 4},
    "XDUA_XDynaSampler": {"seed": 0, "steps": 2, "guidance": 3, "window": 5, "overlap": 6},
    "XDUA_UnifiedNoise": {"seed": 0},
    "XDUA_DemoInputs": {"frames": 0},
}
"""Positions of saved values."""


def saved(file: Path) -> dict[str, dict]:
    nodes = {node["type"]: node for node in json.loads(file.read_text(encoding="utf-8"))["nodes"]}
    return {
        kind: {name: nodes[kind]["widgets_values"][place] for name, place in places.items()}
        for kind, places in WIDGETS.items()
        if kind in nodes
    }


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_every_workflow_has_a_small_square_picture(file):
    picture = file.with_suffix(".jpg")
    assert picture.stat().st_size < LIMIT
    with Image.open(picture) as opened:
        assert opened.size == (pictures.THUMBNAIL,) * 2 and opened.format == "JPEG"
        assert np.asarray(opened.convert("L")).std() > 20, "an empty picture"


def test_a_picture_belongs_to_every_workflow_and_to_nothing_else():
    assert {file.stem for file in pictures.WORKFLOWS.glob("*.jpg")} == {file.stem for file in WORKFLOWS}
    assert {*pictures.SHOWN, "pose_align"} == {file.stem for file in WORKFLOWS}


@pytest.mark.parametrize("name", pictures.SHOWN)
def test_a_picture_is_made_with_its_files_settings(name):
    how, values = pictures.SHOWN[name], saved(pictures.WORKFLOWS / f"{name}.json")
    assert values["XDUA_DemoInputs"] == {"frames": how.frames}
    for request in pictures.requests_of(how):
        sampling, ours = request.sampling, isinstance(request.system, UniAnimate)
        node = values["XDUA_UniAnimateSampler" if ours else "XDUA_XDynaSampler"]
        seed = values["XDUA_UnifiedNoise"]["seed"] if ours else node["seed"]
        assert (sampling.steps, sampling.guidance, sampling.seed) == (node["steps"], node["guidance"], seed)
        assert not ours or request.system.mode == node["mode"]
        if how.frames > 16:
            assert (sampling.window, sampling.overlap) == (node["window"], node["overlap"])


def test_they_are_made_by_one_call(tmp_path):
    quick = {"unianimate_short": replace(pictures.SHOWN["unianimate_short"], frames=2, steps=1)}
    made = pictures.thumbnails(tmp_path, quick)
    assert [file.name for file in made] == ["unianimate_short.jpg", "pose_align.jpg"]
    assert all(Image.open(file).size == (pictures.THUMBNAIL,) * 2 for file in made)


def test_a_wide_picture_is_shown_whole():
    wide = np.full((10, 40, 3), 200, np.uint8)
    square = pictures.squared(wide, 80)
    assert square.shape == (80, 80, 3)
    assert (square[30:50] == 200).all() and (square[:30] == pictures.GROUND).all()


def test_pictures_of_the_pages_are_made_by_one_call(tmp_path):
    quick = {
        name: replace(pictures.SHOWN[name], frames=2, steps=1) for name in ("unianimate_short", "xdyna_pose")
    }
    made = {file.name for file in pictures.pages(tmp_path, quick)}
    assert made == {file.name for file in pictures.PAGES.iterdir()}
