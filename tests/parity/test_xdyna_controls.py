"""Control images as the ControlNets receive them, against the golden ones (X-Dyna spec 6)."""

from __future__ import annotations

import pytest
import torch
from xdyna_unianimate.xdyna_core import frames

from . import golden
from .golden import Golden


def cases(tensor: str):
    """Lists every (file, case) whose file holds this tensor."""
    return golden.cases(
        "xdyna", "extras_controls*", lambda g: [case for case in g.meta["cases"] if f"{case}.{tensor}" in g]
    )


def expect(data: Golden, name: str, ours: torch.Tensor) -> None:
    """Equal to the golden images; where the original is NaN (0/0) ours must be 0."""
    expected = data[name]
    broken = expected.isnan()
    assert not ours[broken].any()
    data.check(name, torch.where(broken, 0.0, ours), torch.where(broken, 0.0, expected))


def prepared(data: Golden, case: str, clip: str) -> frames.ControlImages:
    height, width = data.meta["cases"][case]["target_hw"]
    return frames.control_images(data[f"{case}.{clip}"].numpy(), (width, height))


@pytest.mark.parametrize(("file", "case"), cases("pose_cond"))
def test_pose(file: str, case: str) -> None:
    data = Golden("xdyna", file)
    images = prepared(data, case, "pose_images")
    expect(data, f"{case}.pose_cond", images.at(range(len(images))))


@pytest.mark.parametrize(("file", "case"), cases("face_cond"))
def test_face(file: str, case: str) -> None:
    data = Golden("xdyna", file)
    local = prepared(data, case, "face_local_images")
    whole = prepared(data, case, "face_global_images")
    images = frames.face_control(local, whole)
    expect(data, f"{case}.face_cond", images.at(range(len(images))))
