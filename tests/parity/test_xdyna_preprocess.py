"""Reference crop, driving crop, area squeeze, CLIP pixels and face alignment against the golden pictures."""

from __future__ import annotations

import cv2
import pytest
import torch
from xdyna_unianimate.video_core.clip import cropped_pixels
from xdyna_unianimate.xdyna_core import face, frames

from . import golden
from .golden import Golden


def entries(kind: str):
    """Lists every (file, index) whose json has an entry of this kind, about a picture that the file holds."""
    return golden.cases(
        "xdyna",
        "preprocess*",
        lambda g: [
            i
            for i, row in enumerate(g.meta.get(kind, []))
            if "index" not in row or f"crop.{row['index']}.in" in g
        ],
    )


def numbered(prefix: str):
    """Lists every (file, i) for which the file holds ``<prefix>.<i>.in``."""
    return golden.cases(
        "xdyna",
        "preprocess*",
        lambda g: [n.split(".")[1] for n in g.tensors if n.startswith(f"{prefix}.") and n.endswith(".in")],
    )


def target(data: Golden, name: str) -> tuple[int, int]:
    height, width = data[name].shape[:2]
    return width, height


@pytest.mark.parametrize(("file", "case"), numbered("crop"))
def test_reference_crop(file: str, case: str) -> None:
    data = Golden("xdyna", file)
    ours = frames.fit_reference(data[f"crop.{case}.in"].numpy(), target(data, f"crop.{case}.out"))
    data.check(f"crop.{case}.out", torch.from_numpy(ours))


@pytest.mark.parametrize(("file", "case"), numbered("crop"))
def test_pose_squeeze(file: str, case: str) -> None:
    data = Golden("xdyna", file)
    ours = frames.fit_pose(data[f"crop.{case}.in"].numpy(), target(data, f"area.{case}.out"))
    data.check(f"area.{case}.out", torch.from_numpy(ours))


@pytest.mark.parametrize(("file", "case"), numbered("crop"))
def test_driving_crop_picture(file: str, case: str) -> None:
    data = Golden("xdyna", file)
    ours = frames.fit_driving(data[f"crop.{case}.in"].numpy(), target(data, f"facecrop.{case}.out"))
    data.check(f"facecrop.{case}.out", torch.from_numpy(ours))


@pytest.mark.parametrize(("file", "case"), entries("crop2ratio"))
def test_driving_crop_numbers(file: str, case: str) -> None:
    data = Golden("xdyna", file)
    row = data.meta["crop2ratio"][int(case)]
    (height, width), (in_height, in_width) = row["resolution_h_w"], row["in_hw"]
    ours = frames.driving_crop((in_width, in_height), (width, height))
    assert ours == (row["start_w"], row["start_h"], row["target_w"], row["target_h"])
    golden.count(data)


@pytest.mark.parametrize(("file", "case"), entries("face_video_crop"))
def test_driving_crop_of_pictures(file: str, case: str) -> None:
    data = Golden("xdyna", file)
    row = data.meta["face_video_crop"][int(case)]
    source, size = target(data, f"crop.{row['index']}.in"), target(data, f"facecrop.{row['index']}.out")
    assert frames.driving_crop(source, size) == (
        row["start_w"],
        row["start_h"],
        row["target_w"],
        row["target_h"],
    )
    golden.count(data)


@pytest.mark.parametrize(("file", "case"), numbered("clip"))
def test_clip_pixels(file: str, case: str) -> None:
    data = Golden("xdyna", file)
    data.check(f"clip.{case}.pixel_values", cropped_pixels(data[f"clip.{case}.in"].numpy()))


@pytest.mark.parametrize("file", golden.holding("xdyna", "preprocess*", "align.frames", "align.video_out"))
def test_face_alignment(file: str) -> None:
    data = Golden("xdyna", file)
    matrix = face.alignment_matrix(data["align.drv_landmarks"].numpy(), data["align.src_landmarks"].numpy())
    expected = torch.tensor(data.meta["align"]["matrix"], dtype=torch.float64)
    # The json's matrix comes from cv2's solver over float32 corners, ours is the closed form.
    golden.compare("align.matrix", torch.from_numpy(matrix), expected, {"rel": 1e-6})
    size = tuple(data.meta["align"]["dsize_wh"])
    ours = [face.align_frame(frame, matrix, size) for frame in data["align.frames"].numpy()]
    rule = data.rule("align.video_out")
    if isinstance(rule, dict):
        rule = rule[f"cv2 {cv2.__version__.split('.')[0]}"]
    rule = {"atol": rule["atol_u8"]} if isinstance(rule, dict) else rule
    data.check("align.video_out", torch.stack([torch.from_numpy(frame) for frame in ours]), rule=rule)
