"""S-Face maps, boxes and centres against the golden arithmetic (X-Dyna spec 9.4)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from xdyna_unianimate.xdyna_core import face

from . import golden
from .golden import Golden

FILES = "*sface"


def rows(kind: str):
    return golden.cases("xdyna", FILES, lambda g: range(len(g.meta.get(kind, []))))


def expect_location(data: Golden, location: face.FaceLocation, row: dict) -> None:
    assert list(location.box) == row["bbox"]
    assert [list(centre) for centre in location.centres] == row["centers"]
    golden.count(data)


def expect_maps(data: Golden, name: str, frame: np.ndarray, location: face.FaceLocation) -> None:
    local, whole = face.paint(frame, location, "original")
    for kind, ours in (("local", local), ("global", whole)):
        data.check(f"{name}.{kind}", torch.from_numpy(ours))


@pytest.mark.parametrize(("file", "index"), rows("cases"))
def test_one_frame(file: str, index: str) -> None:
    data = Golden("xdyna", file)
    row = data.meta["cases"][int(index)]
    height, width = data.meta["resolution_h_w"]
    if row.get("detected", True):
        location = face.locate(
            data[f"{row['name']}.landmarks"].numpy(),
            (width, height),
            previous_box=row["last_bbox"],
            fidelity="original",
        )
    else:
        location = face.FaceLocation(tuple(row["last_bbox"]), tuple(map(tuple, row["last_center"])))
    expect_location(data, location, row)
    expect_maps(data, row["name"], data["image"].numpy(), location)


@pytest.mark.parametrize(
    "file", [f for f in golden.files("xdyna", FILES) if "loop" in Golden("xdyna", f).meta]
)
def test_clip(file: str) -> None:
    """The driver's walk over a clip, where faces come and go; frame k is the image rolled by 3k columns."""
    data = Golden("xdyna", file)
    rows = data.meta["loop"]
    clip = [np.roll(data["image"].numpy(), 3 * row["frame"], axis=1) for row in rows]
    landmarks = np.full((len(rows), face.LANDMARKS, 2), np.nan)
    for index, row in enumerate(rows):
        if row["detected"]:
            landmarks[index] = data[f"loop.{row['frame']}.landmarks"].numpy()
    maps = face.face_maps(clip, landmarks, fidelity="original")
    assert maps.found.tolist() == [row["detected"] for row in rows]
    for index, row in enumerate(rows):
        expect_location(data, maps.locations[index], row)
        data.check(f"loop.{row['frame']}.local", torch.from_numpy(maps.local[index]))
        data.check(f"loop.{row['frame']}.global", torch.from_numpy(maps.whole[index]))


@pytest.mark.parametrize(
    ("file", "index"),
    golden.cases("xdyna", FILES, lambda g: range(len(g.meta.get("rounding", {"cases": []})["cases"]))),
)
def test_rounding(file: str, index: str) -> None:
    """Large frames, where another float width changes a corner or a centre."""
    data = Golden("xdyna", file)
    rounding = data.meta["rounding"]
    height, width = rounding["resolution_h_w"]
    location = face.locate(
        data["rounding.landmarks"][int(index)].numpy(), (width, height), fidelity="original"
    )
    expect_location(data, location, rounding["cases"][int(index)])
