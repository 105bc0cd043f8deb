"""The type every backend fills, the order of its points, and the choice of a backend."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from xdyna_unianimate.pose_align import detector
from xdyna_unianimate.pose_align.pose import PoseError
from xdyna_unianimate.pose_align.skeleton import FACE, LEFT_HAND, RIGHT_HAND, Joint

# COCO's 17 body points and COCO-WholeBody's 6 foot points, in their published order.
COCO = [
    "NOSE",
    "L_EYE",
    "R_EYE",
    "L_EAR",
    "R_EAR",
    "L_SHOULDER",
    "R_SHOULDER",
    "L_ELBOW",
    "R_ELBOW",
    "L_WRIST",
    "R_WRIST",
    "L_HIP",
    "R_HIP",
    "L_KNEE",
    "R_KNEE",
    "L_ANKLE",
    "R_ANKLE",
    "L_BIG_TOE",
    "L_SMALL_TOE",
    "L_HEEL",
    "R_BIG_TOE",
    "R_SMALL_TOE",
    "R_HEEL",
]


def test_every_point_of_coco_wholebody_goes_to_its_name() -> None:
    points = np.stack([np.arange(133.0), -np.arange(133.0)], axis=1)
    ours, scores = detector.add_neck(points, np.full(133, 0.9))
    for number, name in enumerate(COCO):
        assert ours[Joint[name]].tolist() == [number, -number], name
    for part, first in ((FACE, 23), (LEFT_HAND, 91), (RIGHT_HAND, 112)):
        assert ours[part, 0].tolist() == list(range(first, first + part.stop - part.start))
    assert ours[Joint.NECK].tolist() == [5.5, -5.5]
    assert scores.tolist() == [1.0 if i == Joint.NECK else 0.9 for i in range(134)]


@pytest.mark.parametrize("left, right, neck", [(0.31, 0.9, 1), (0.3, 0.9, 0), (0.9, 0.0, 0), (2.0, 1.5, 1)])
def test_the_neck_needs_both_shoulders(left: float, right: float, neck: int) -> None:
    scores = np.zeros(133)
    scores[[5, 6]] = left, right
    assert detector.add_neck(np.zeros((133, 2)), scores)[1][Joint.NECK] == neck


def test_people_may_be_stacked() -> None:
    points, scores = np.random.default_rng(0).random((3, 2, 133, 2)), np.ones((3, 2, 133), np.float32)
    stacked = detector.add_neck(points, scores)
    assert stacked[0].shape == (3, 2, 134, 2) and stacked[1].dtype == np.float32
    assert np.array_equal(stacked[0][2, 1], detector.add_neck(points[2, 1], scores[2, 1])[0])


def test_a_detection_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(PoseError, match=r"points \[134, 2\]; got \[133, 2\]"):
        detector.Detection(np.zeros((133, 2)), np.zeros(134), np.zeros(4), 1.0)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(PoseError, match="'openpose'; choose auto, dwpose or mediapipe"):
        detector.load_detector("openpose")


def test_without_any_backend_both_reasons_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    states = detector.available_backends([tmp_path])
    assert [(state.name, state.usable) for state in states] == [("dwpose", False), ("mediapipe", False)]
    with pytest.raises(FileNotFoundError) as error:
        detector.load_detector("auto", [tmp_path])
    for part in ("pip install onnxruntime", "pip install --no-deps -r requirements-mediapipe.txt"):
        assert part in str(error.value)


def test_dwpose_without_files_says_what_is_missing(tmp_path: Path) -> None:
    state = detector.available_backends([tmp_path])[0]
    assert not state.usable and "yolox_l.onnx" in state.detail
    with pytest.raises(FileNotFoundError, match="yolox_l.onnx"):
        detector.load_detector("dwpose", [tmp_path])


def test_auto_prefers_dwpose_where_its_files_are(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="DWPose needs onnxruntime")
    pytest.importorskip("onnx", reason="the stand-in networks are built with onnx")
    from . import standin_onnx

    standin_onnx.build(tmp_path)
    loaded = detector.load_detector("auto", [tmp_path], device="cpu", batch=2)
    assert (loaded.name, loaded.provider) == ("dwpose", "CPU")
    state = detector.available_backends([tmp_path])[0]
    assert state.usable and str(tmp_path / "yolox_l.onnx") in state.detail


def test_auto_takes_mediapipe_where_dwposes_files_are_not(tmp_path: Path) -> None:
    if not detector.available_backends()[1].usable:
        pytest.skip("MediaPipe is not installed (requirements-mediapipe.txt)")
    loaded = detector.load_detector("auto", [tmp_path])
    assert (loaded.name, loaded.provider) == ("mediapipe", "CPU")


def test_asking_what_is_there_imports_no_heavy_library() -> None:
    code = (
        "import sys; from xdyna_unianimate.pose_align import detector; detector.available_backends();"
        "print([n for n in ('cv2', 'onnxruntime', 'mediapipe', 'matplotlib', 'torch') if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
