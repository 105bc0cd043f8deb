"""DWPose's pre- and postprocessing against the original's, stage by stage (UniAnimate spec 9.1 to 9.4)."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
import torch
from xdyna_unianimate.pose_align import dwpose
from xdyna_unianimate.pose_align.detector import add_neck
from xdyna_unianimate.pose_align.pose import PoseSequence, normalise

from .golden import Golden, cases, holding

SYSTEM, FILES = "unianimate", "dwpose*"
CV2_MAJOR = int(cv2.__version__.split(".")[0])


def files_with(*tensors: str) -> pytest.MarkDecorator:
    """Parametrise over the files that hold these tensors."""
    return pytest.mark.parametrize("name", holding(SYSTEM, FILES, *tensors))


def people_with(suffix: str) -> pytest.MarkDecorator:
    """Parametrise over the people of every file of whom the tensor pose.N.<suffix> is stored."""
    listing = cases(SYSTEM, FILES, lambda golden: numbered(golden, suffix))
    return pytest.mark.parametrize(("name", "number"), listing)


def numbered(golden: Golden, suffix: str) -> list[str]:
    """The numbers N of the tensors pose.N.<suffix>, one per person of the file."""
    parts = [key.split(".") for key in golden.tensors]
    return sorted(part[1] for part in parts if part[0] == "pose" and part[2:] == [suffix])


def array(golden: Golden, tensor: str) -> np.ndarray:
    return golden[tensor].numpy()


def raw_anchors(golden: Golden, case: str, size: tuple[int, int]) -> np.ndarray:
    """The detector's output [anchors, 5 + classes] of a case, stored whole or as the few rows that matter."""
    if f"{case}.raw_f16" in golden:
        return array(golden, f"{case}.raw_f16")[0]
    rows = array(golden, f"{case}.person_rows")
    anchors = sum((size[0] // stride) * (size[1] // stride) for stride in dwpose.STRIDES)
    raw = np.zeros((anchors, rows.shape[1]), np.float32)
    raw[golden.meta["cases"][case]["person_anchor_rows"]] = rows
    return raw


def detector_cases(golden: Golden) -> list[str]:
    boxes = [case for case in golden.meta["cases"] if f"{case}.boxes" in golden]
    return boxes if "letterbox_u8" in golden else []


def pose_size(golden: Golden) -> tuple[int, int]:
    """(height, width) of the pose network, read off a stored crop."""
    crop = next(t for name, t in golden.tensors.items() if name.endswith(".crop_u8"))
    return crop.shape[0], crop.shape[1]


@files_with("image_bgr", "letterbox_u8")
def test_letterbox(name: str) -> None:
    golden = Golden(SYSTEM, name)
    expected = golden.tensors["letterbox_u8"]
    ours, ratio = dwpose.letterbox(array(golden, "image_bgr"), tuple(expected.shape[1:]))
    assert ours.dtype == np.float32
    assert ratio == golden.meta["letterbox_ratio"]
    golden.check("letterbox_u8", torch.from_numpy(ours), expected)


@pytest.mark.parametrize(("name", "case"), cases(SYSTEM, FILES, detector_cases))
def test_detector_boxes(name: str, case: str) -> None:
    golden = Golden(SYSTEM, name)
    size = tuple(golden.tensors["letterbox_u8"].shape[1:])
    raw = raw_anchors(golden, case, size)
    boxes, scores = dwpose.people(raw, size, golden.meta["letterbox_ratio"])
    golden.check(f"{case}.boxes", torch.from_numpy(boxes))
    assert (np.diff(scores) <= 0).all()
    for key in golden.tensors:
        if key.startswith(f"{case}.decoded_rows"):
            rows = anchors_of(array(golden, key), raw)
            golden.check(key, torch.from_numpy(dwpose.decode_anchors(raw, size)[rows]))


def anchors_of(decoded: np.ndarray, raw: np.ndarray) -> list[int]:
    """Which anchors some decoded rows are: decoding changes the box, the first four columns, alone."""
    same = (decoded[:, None, 4:] == raw[None, :, 4:]).all(-1)
    assert (same.sum(1) == 1).all(), "the stored rows should be one anchor's each"
    return same.argmax(1).tolist()


@files_with("nms.boxes", "nms.scores")
def test_non_maximum_suppression(name: str) -> None:
    golden = Golden(SYSTEM, name)
    for key in golden.tensors:
        if key.startswith("nms.keep_"):
            boxes, scores = array(golden, "nms.boxes"), array(golden, "nms.scores")
            kept = dwpose.nms(boxes, scores, float(key.removeprefix("nms.keep_")))
            golden.check(key, torch.tensor(kept))


@files_with("nms.boxes", "mcnms.scores")
def test_suppression_by_class(name: str) -> None:
    golden = Golden(SYSTEM, name)
    boxes, scores = array(golden, "nms.boxes"), array(golden, "mcnms.scores")
    ours = dwpose.class_aware_nms(boxes, scores, dwpose.NMS_IOU, dwpose.NMS_SCORE)
    golden.check("mcnms.dets", torch.from_numpy(ours))


@files_with("pose.boxes", "pose.center", "pose.0.crop_u8")
def test_crop_regions(name: str) -> None:
    golden = Golden(SYSTEM, name)
    regions = [dwpose.crop_region(box, pose_size(golden)) for box in array(golden, "pose.boxes")]
    golden.check("pose.center", torch.tensor(np.array([centre for centre, _ in regions])))
    golden.check("pose.scale_after_aspect", torch.tensor(np.array([scale for _, scale in regions])))


@people_with("crop_u8")
def test_crop(name: str, number: str) -> None:
    golden, person = Golden(SYSTEM, name), f"pose.{number}"
    size, box = pose_size(golden), array(golden, "pose.boxes")[int(number)]
    matrix = dwpose.crop_matrix(*dwpose.crop_region(box, size), size)
    golden.check(f"{person}.warp_matrix", torch.from_numpy(matrix))
    check_crop(golden, f"{person}.crop_u8", dwpose.cut_out(array(golden, "image_bgr"), matrix, size))
    top, bottom, left, right = patch_corners(golden)
    seen = dwpose.normalise(golden.tensors[f"{person}.crop_u8"].numpy())[top:bottom, left:right]
    golden.check(f"{person}.net_input_patch", torch.from_numpy(seen))


def patch_corners(golden: Golden) -> list[int]:
    """Which part of the network's input is stored, as the json's text says."""
    return [int(n) for n in re.search(r"rows (\d+):(\d+), cols (\d+):(\d+)", golden.meta["about"]).groups()]


def check_crop(golden: Golden, key: str, crop: np.ndarray) -> None:
    """Exact on OpenCV 4; OpenCV 5 interpolates a little differently, within the limits of the golden set."""
    expected = golden.tensors[key]
    if CV2_MAJOR < 5:
        golden.check(key, torch.from_numpy(crop), expected, rule="exact")
        return
    limit = golden.rule("crop")["cv2 5"]
    difference = np.abs(crop.astype(int) - expected.numpy())
    assert difference.max() <= limit["atol_u8"] and (difference > 0).mean() <= limit["share"]


@people_with("simcc_x_f16")
def test_simcc_to_pixels(name: str, number: str) -> None:
    golden, person = Golden(SYSTEM, name), f"pose.{number}"
    bins, score = dwpose.decode_simcc(*(array(golden, f"{person}.simcc_{axis}_f16") for axis in "xy"))
    golden.check(f"{person}.simcc_loc", torch.from_numpy(bins))
    golden.check(f"{person}.simcc_val", torch.from_numpy(score))
    size = pose_size(golden)
    region = dwpose.crop_region(array(golden, "pose.boxes")[int(number)], size)
    for tensor, ours in (
        ("pose.keypoints", dwpose.to_pixels(bins[0], *region, size)),
        ("pose.scores", score[0]),
    ):
        golden.check(tensor, torch.from_numpy(np.asarray(ours)), golden[tensor][int(number)])


@files_with("image_bgr", "pose.empty.center", "pose.0.crop_u8")
def test_whole_image_where_nobody_was_found(name: str) -> None:
    golden = Golden(SYSTEM, name)
    box = dwpose.whole_image(array(golden, "image_bgr"))[0]
    centre, scale = dwpose.crop_region(box, pose_size(golden))
    golden.check("pose.empty.center", torch.from_numpy(centre[None]))
    golden.check("pose.empty.scale", torch.from_numpy(scale[None]))


@files_with("convert.in_kp")
def test_order_of_points(name: str) -> None:
    golden = Golden(SYSTEM, name)
    points, scores = add_neck(array(golden, "convert.in_kp"), array(golden, "convert.in_score"))
    golden.check("convert.out_kp134", torch.from_numpy(points))
    golden.check("convert.out_score134", torch.from_numpy(scores))


@files_with("convert.in_kp", "image_bgr", "posedict.body")
def test_pose_dict(name: str) -> None:
    """Person 0 alone, in fractions of its own picture (spec 9.4)."""
    golden = Golden(SYSTEM, name)
    height, width = golden.tensors["image_bgr"].shape[:2]
    points, scores = add_neck(array(golden, "convert.in_kp"), array(golden, "convert.in_score"))
    person = normalise(PoseSequence(points[:1], scores[:1], (width, height)))
    golden.check("posedict.body", torch.from_numpy(person.body[0]))
    golden.check("posedict.subset", torch.from_numpy(person.subset))
    golden.check("posedict.hands", torch.from_numpy(person.hands[0]))
    golden.check("posedict.faces", torch.from_numpy(person.faces))
