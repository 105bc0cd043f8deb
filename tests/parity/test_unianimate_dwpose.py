"""DWPose's pre- and postprocessing against the original's, stage by stage (UniAnimate spec 9.1 to 9.4)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from xdyna_unianimate.pose_align import dwpose
from xdyna_unianimate.pose_align.detector import add_neck
from xdyna_unianimate.pose_align.pose import PoseSequence, normalise

from .golden import Golden, cases, files

CV2_MAJOR = int(cv2.__version__.split(".")[0])
names = pytest.mark.parametrize("name", files("unianimate", "dwpose*"))


def numbered(golden: Golden, suffix: str) -> list[str]:
    """The numbers N of the tensors pose.N.<suffix>, one per person of the file."""
    parts = [key.split(".") for key in golden.tensors]
    return sorted(part[1] for part in parts if part[0] == "pose" and part[2:] == [suffix])


def array(golden: Golden, tensor: str) -> np.ndarray:
    return golden[tensor].numpy()


def raw_anchors(golden: Golden, case: str, shape: tuple[int, int]) -> np.ndarray:
    """The detector's output [anchors, 5 + classes] of a case, stored whole or as the few rows that matter."""
    if f"{case}.raw_f16" in golden:
        return array(golden, f"{case}.raw_f16")[0]
    raw = np.zeros(shape, np.float32)
    raw[golden.meta["cases"][case]["person_anchor_rows"]] = array(golden, f"{case}.person_rows")
    return raw


def anchor_shape(golden: Golden, size: tuple[int, int]) -> tuple[int, int]:
    anchors = sum((size[0] // stride) * (size[1] // stride) for stride in dwpose.STRIDES)
    columns = next(value.shape[-1] for key, value in golden.tensors.items() if key.endswith(".raw_f16"))
    return anchors, columns


def detector_cases(golden: Golden) -> list[str]:
    return [case for case in golden.meta["cases"] if f"{case}.boxes" in golden]


def pose_size(golden: Golden) -> tuple[int, int]:
    """(height, width) of the pose network, read off the stored crop."""
    crop = golden[f"pose.{numbered(golden, 'crop_u8')[0]}.crop_u8"]
    return crop.shape[0], crop.shape[1]


@names
def test_letterbox(name: str) -> None:
    golden = Golden("unianimate", name)
    expected = golden.tensors["letterbox_u8"]
    ours, ratio = dwpose.letterbox(array(golden, "image_bgr"), tuple(expected.shape[1:]))
    assert ours.dtype == np.float32
    assert ratio == golden.meta["letterbox_ratio"]
    golden.check("letterbox_u8", torch.from_numpy(ours), expected)


@pytest.mark.parametrize("name, case", cases("unianimate", "dwpose*", detector_cases))
def test_detector_boxes(name: str, case: str) -> None:
    golden = Golden("unianimate", name)
    size = tuple(golden.tensors["letterbox_u8"].shape[1:])
    raw = raw_anchors(golden, case, anchor_shape(golden, size))
    boxes, scores = dwpose.people(raw, size, golden.meta["letterbox_ratio"])
    golden.check(f"{case}.boxes", torch.from_numpy(boxes))
    assert (np.diff(scores) <= 0).all()
    for key in golden.tensors:
        if key.startswith(f"{case}.decoded_rows"):
            rows = decoded_rows(key, raw.shape[0])
            assert len(rows) == len(golden[key])
            golden.check(key, torch.from_numpy(dwpose.decode_anchors(raw, size)[rows]))


def decoded_rows(key: str, anchors: int) -> list[int]:
    """The anchor rows that the golden set's README names for this tensor."""
    return [0, 1, 81, 6399, 6400, 6441, 8000, anchors - 1]


@names
def test_non_maximum_suppression(name: str) -> None:
    golden = Golden("unianimate", name)
    boxes = array(golden, "nms.boxes")
    for key in golden.tensors:
        if key.startswith("nms.keep_"):
            kept = dwpose.nms(boxes, array(golden, "nms.scores"), float(key.removeprefix("nms.keep_")))
            golden.check(key, torch.tensor(kept))
    ours = dwpose.class_aware_nms(boxes, array(golden, "mcnms.scores"), dwpose.NMS_IOU, dwpose.NMS_SCORE)
    golden.check("mcnms.dets", torch.from_numpy(ours))


@names
def test_crop(name: str) -> None:
    golden = Golden("unianimate", name)
    size, image, boxes = pose_size(golden), array(golden, "image_bgr"), array(golden, "pose.boxes")
    regions = [dwpose.crop_region(box, size) for box in boxes]
    golden.check("pose.center", torch.tensor(np.array([centre for centre, _ in regions])))
    golden.check("pose.scale_after_aspect", torch.tensor(np.array([scale for _, scale in regions])))
    for number in numbered(golden, "warp_matrix"):
        matrix = dwpose.crop_matrix(*regions[int(number)], size)
        golden.check(f"pose.{number}.warp_matrix", torch.from_numpy(matrix))
        crop = dwpose.cut_out(image, matrix, size)
        check_crop(golden, f"pose.{number}.crop_u8", crop)
        stored = golden.tensors[f"pose.{number}.crop_u8"].numpy()
        patch = dwpose.normalise(stored)[100:108, 60:70]
        golden.check(f"pose.{number}.net_input_patch", torch.from_numpy(patch))


def check_crop(golden: Golden, key: str, crop: np.ndarray) -> None:
    """Exact on OpenCV 4; OpenCV 5 interpolates a little differently, within the limits of the golden set."""
    expected = golden.tensors[key]
    if CV2_MAJOR < 5:
        golden.check(key, torch.from_numpy(crop), expected, rule="exact")
        return
    limit = golden.rule("crop")["cv2 5"]
    difference = np.abs(crop.astype(int) - expected.numpy())
    assert difference.max() <= limit["atol_u8"] and (difference > 0).mean() <= limit["share"]


@names
def test_simcc_to_pixels(name: str) -> None:
    golden = Golden("unianimate", name)
    size, keypoints, scores = pose_size(golden), [], []
    for number in numbered(golden, "simcc_x_f16"):
        x, y = (array(golden, f"pose.{number}.simcc_{axis}_f16") for axis in "xy")
        bins, score = dwpose.decode_simcc(x, y)
        golden.check(f"pose.{number}.simcc_loc", torch.from_numpy(bins))
        golden.check(f"pose.{number}.simcc_val", torch.from_numpy(score))
        region = dwpose.crop_region(array(golden, "pose.boxes")[int(number)], size)
        keypoints.append(dwpose.to_pixels(bins[0], *region, size))
        scores.append(score[0])
    golden.check("pose.keypoints", torch.tensor(np.array(keypoints)))
    golden.check("pose.scores", torch.tensor(np.array(scores)))


@names
def test_whole_image_where_nobody_was_found(name: str) -> None:
    golden = Golden("unianimate", name)
    box = dwpose.whole_image(array(golden, "image_bgr"))[0]
    centre, scale = dwpose.crop_region(box, pose_size(golden))
    golden.check("pose.empty.center", torch.from_numpy(centre[None]))
    golden.check("pose.empty.scale", torch.from_numpy(scale[None]))


@names
def test_order_of_points(name: str) -> None:
    golden = Golden("unianimate", name)
    points, scores = add_neck(array(golden, "convert.in_kp"), array(golden, "convert.in_score"))
    golden.check("convert.out_kp134", torch.from_numpy(points))
    golden.check("convert.out_score134", torch.from_numpy(scores))


@names
def test_pose_dict(name: str) -> None:
    """Person 0 alone, in fractions of its own picture (spec 9.4)."""
    golden = Golden("unianimate", name)
    height, width = golden.tensors["image_bgr"].shape[:2]
    points, scores = add_neck(array(golden, "convert.in_kp"), array(golden, "convert.in_score"))
    person = normalise(PoseSequence(points[:1], scores[:1], (width, height)))
    golden.check("posedict.body", torch.from_numpy(person.body[0]))
    golden.check("posedict.subset", torch.from_numpy(person.subset))
    golden.check("posedict.hands", torch.from_numpy(person.hands[0]))
    golden.check("posedict.faces", torch.from_numpy(person.faces))
