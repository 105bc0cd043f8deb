"""DWPose from frames to points through onnxruntime, with the stand-in pair of ``standin_onnx``."""

from __future__ import annotations

import errno
import gc
import hashlib
import logging
import os
import subprocess
import sys
import types
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from xdyna_unianimate.pose_align import dwpose, dwpose_files
from xdyna_unianimate.pose_align.detector import PoseDetector, add_neck
from xdyna_unianimate.pose_align.onnx_bytes import holds_sparse_tensors
from xdyna_unianimate.pose_align.pose import PoseError

onnxruntime = pytest.importorskip("onnxruntime", reason="DWPose needs onnxruntime")
pytest.importorskip("onnx", reason="the stand-in networks are built with onnx")

from onnx import TensorProto, helper  # noqa: E402

from . import standin_onnx  # noqa: E402  (it imports onnx)

CPU = "CPUExecutionProvider"


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUX_ANNOTATOR_CKPTS_PATH", raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A name that C++ on Windows cannot open: the bytes are read by Python.
    folder = tmp_path_factory.mktemp("модели") / "dwpose"
    standin_onnx.build(folder)
    return folder


@pytest.fixture(scope="module")
def detector(folder: Path) -> dwpose.DWPose:
    return dwpose.DWPose.open(dwpose_files.find_models([folder]), device="cpu", batch=4)


def frame(*rectangles: tuple[int, int, int, int], size: tuple[int, int] = (480, 640)) -> np.ndarray:
    """White rectangles (left, top, right, bottom) on black, uint8 RGB [*size, 3]."""
    picture = np.zeros((*size, 3), np.uint8)
    for left, top, right, bottom in rectangles:
        picture[top:bottom, left:right] = 255
    return picture


LEFT, RIGHT = (100, 100, 180, 300), (400, 150, 520, 400)


def expected_points(rectangle: tuple[int, int, int, int]) -> np.ndarray:
    """Where the stand-in must see a rectangle's 134 points: its middle plus the offsets in crop pixels."""
    left, top, right, bottom = rectangle
    middle = np.array([left + right, top + bottom]) / 2
    region_width = max((right - left) * 1.25, (bottom - top) * 1.25 * 288 / 384)
    points = middle + standin_onnx.OFFSETS * region_width / 288
    return add_neck(points, np.ones(len(points)))[0]


def test_two_people_are_read_where_they_stand(detector: dwpose.DWPose) -> None:
    people = detector.detect([frame(LEFT, RIGHT)])[0]
    assert len(people) == 2, "duplicates and the dog must go"
    assert [person.box_score for person in people] == pytest.approx([0.9, 0.8])
    for person, rectangle in zip(people, (LEFT, RIGHT), strict=True):
        assert person.box == pytest.approx(np.array(rectangle), abs=1.5)
        assert np.abs(person.points - expected_points(rectangle)).max() < 1.5
        assert person.scores == pytest.approx(
            add_neck(np.zeros((133, 2)), standin_onnx.PEAKS)[1], abs=0.02
        ), "a point's score is the smaller of its two maxima"


def test_it_is_a_pose_detector_that_says_what_it_runs_on(detector: dwpose.DWPose) -> None:
    assert isinstance(detector, PoseDetector)
    assert (detector.name, detector.provider) == ("dwpose", "CPU")


def test_colours_arrive_in_the_networks_order(folder: Path) -> None:
    """The frames are RGB, the networks see BGR (K: spec 9.1, 9.2)."""
    seen = {}
    detector = dwpose.DWPose.open(dwpose_files.find_models([folder]), device="cpu")
    run = dwpose._run

    def spy(session, tensor):
        seen[tensor.shape[1:]] = tensor
        return run(session, tensor)

    picture = frame(LEFT)
    picture[..., 0] = np.minimum(picture[..., 0], 240)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dwpose, "_run", spy)
        detector.detect([picture])
    red, blue = 2, 0
    assert seen[3, 640, 640][0, :, 200, 140].tolist() == [255, 255, 240]
    crop = seen[3, 384, 288][0, :, 192, 144]
    assert crop[red] == pytest.approx((240 - dwpose.MEAN[red]) / dwpose.STD[red])
    assert crop[blue] == pytest.approx((255 - dwpose.MEAN[blue]) / dwpose.STD[blue])


def clip() -> list[np.ndarray]:
    """Nobody, one, two, nobody, two, one, one … with people that move."""
    counts = [0, 1, 2, 0, 2, 1, 1, 0, 0, 2, 2, 2, 1]
    rectangles = [(100 + 7 * i, 90, 170 + 7 * i, 300) for i in range(len(counts))]
    return [frame(*(rectangles[i], RIGHT)[:count]) for i, count in enumerate(counts)]


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_batching_changes_nothing(folder: Path, detector: dwpose.DWPose, batch: int) -> None:
    other = dwpose.DWPose.open(dwpose_files.find_models([folder]), device="cpu", batch=batch)
    for ours, theirs in zip(other.detect(clip()), detector.detect(clip()), strict=True):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert np.array_equal(a.points, b.points) and np.allclose(a.scores, b.scores, atol=1e-6)


def test_people_of_several_frames_share_a_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    run = dwpose._run

    def spy(session, tensor):
        sizes.append(tensor.shape)
        return run(session, tensor)

    monkeypatch.setattr(dwpose, "_run", spy)
    detector = dwpose.DWPose.open(dwpose_files.find_models([folder]), device="cpu", batch=4)
    detector.detect([frame(LEFT, RIGHT)] * 5)
    assert [size[0] for size in sizes if size[2:] == standin_onnx.POSE_SIZE] == [4, 4, 2]


@pytest.mark.parametrize("fixed", [1, 3])
def test_a_network_with_a_fixed_batch(tmp_path: Path, detector: dwpose.DWPose, fixed: int) -> None:
    standin_onnx.build(tmp_path, batch=fixed)
    ours = dwpose.DWPose.open(dwpose_files.find_models([tmp_path]), device="cpu", batch=8).detect(clip())
    theirs = detector.detect(clip())
    assert [len(people) for people in ours] == [len(people) for people in theirs]
    assert all(
        np.array_equal(a.points, b.points)
        for one, other in zip(ours, theirs, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_frames_are_let_go_as_they_stream(detector: dwpose.DWPose) -> None:
    alive: list[weakref.ref] = []
    most = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal most
        for number in range(40):
            most = max(most, sum(reference() is not None for reference in alive))
            picture = frame(LEFT) if number % 3 else frame()
            alive.append(weakref.ref(picture))
            yield picture
            del picture

    gc.disable()
    try:
        found = sum(1 for _ in detector.stream(frames()))
    finally:
        gc.enable()
    assert found == 40
    assert most <= 2


def test_results_come_while_frames_arrive(detector: dwpose.DWPose) -> None:
    taken = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield frame()

    stream = detector.stream(frames())
    assert [next(stream) for _ in range(6)] == [[]] * 6
    assert taken <= 8


def test_nobody_is_nobody_unless_the_whole_picture_is_asked_for(
    folder: Path, detector: dwpose.DWPose
) -> None:
    """F: the original always poses the whole picture then (spec 9.2)."""
    assert detector.detect([frame()]) == [[]]
    files = dwpose_files.find_models([folder])
    fallback = dwpose.DWPose.open(files, device="cpu", whole_image_if_empty=True).detect([frame()])
    assert fallback[0][0].box.tolist() == [0, 0, 640, 480]
    assert (fallback[0][0].scores <= 0).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (64, 64), (1300, 700)])
def test_any_size_of_frame(detector: dwpose.DWPose, size: tuple[int, int]) -> None:
    assert len(detector.detect([frame(size=size)])) == 1


NO_FRAMES = [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]


@pytest.mark.parametrize("wrong", NO_FRAMES)
def test_what_is_no_frame_is_refused(detector: dwpose.DWPose, wrong: np.ndarray) -> None:
    with pytest.raises(PoseError, match="RGB frames of type uint8"):
        detector.detect([wrong])


# ---- providers ---------------------------------------------------------------------------------------------


class FakeSession:
    """An onnxruntime session on a machine where CUDA raises and DirectML silently becomes the CPU."""

    tried: list[str] = []
    works = (CPU,)
    raises = ("CUDAExecutionProvider",)

    def __init__(
        self,
        model: bytes,
        options: object,
        providers: list[str],
        disabled_optimizers: list[str] | None = None,
    ) -> None:
        assert isinstance(model, bytes)
        self.provider, self.left_out = providers[0], disabled_optimizers
        self.tried.append(self.provider)
        if self.provider in self.raises:
            raise RuntimeError("no such library")

    def get_providers(self) -> list[str]:
        return [self.provider, CPU] if self.provider in self.works else [CPU]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    monkeypatch.setattr(FakeSession, "tried", [])
    monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    every = [CPU, "CoreMLExecutionProvider", "DmlExecutionProvider", "CUDAExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: every)
    return FakeSession


def test_providers_are_tried_in_order_and_the_cpu_is_owned_up_to(
    fake: type[FakeSession], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        session = dwpose.open_session(folder / "yolox_l.onnx")
    assert fake.tried == ["CUDAExecutionProvider", "DmlExecutionProvider", "CoreMLExecutionProvider", CPU]
    assert session.get_providers() == [CPU, CPU]
    assert "cannot use CUDAExecutionProvider: no such library" in caplog.text
    assert "DWPose runs on the CPU" in caplog.text


def test_the_first_that_works_wins(
    fake: type[FakeSession],
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fake, "works", ("DmlExecutionProvider", CPU))
    assert dwpose.open_session(folder / "yolox_l.onnx").get_providers()[0] == "DmlExecutionProvider"
    assert "runs on the CPU" not in caplog.text


def test_a_device_by_name(fake: type[FakeSession], folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    dwpose.open_session(folder / "yolox_l.onnx", "cpu")
    assert fake.tried == [CPU]
    assert not caplog.text
    dwpose.open_session(folder / "yolox_l.onnx", "coreml")
    assert fake.tried == [CPU, "CoreMLExecutionProvider", CPU]
    with pytest.raises(PoseError, match="'tpu'.*auto, cuda, directml, coreml, cpu"):
        dwpose.open_session(folder / "yolox_l.onnx", "tpu")


def test_only_the_published_files_have_their_constants_computed_while_they_are_opened(
    fake: type[FakeSession], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 129 bytes took 2 GB so."""
    path = folder / "yolox_l.onnx"
    assert dwpose.open_session(path, "cpu").left_out == ["ConstantFolding"]
    content = path.read_bytes()
    known = dwpose_files.ModelFile((path.name,), len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(dwpose, "PERSON_FILE", known)
    assert dwpose.open_session(path, "cpu").left_out == []


# ---- files -------------------------------------------------------------------------------------------------


def with_sparse(where: str) -> bytes:
    """A network with a sparse tensor of a gigabyte in 100 bytes, somewhere in it."""
    value = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    sparse = helper.make_sparse_tensor(value, helper.make_tensor("i", TensorProto.INT64, [1], [3]), [2**28])
    constant = helper.make_node("Constant", [], ["w"], sparse_value=sparse)
    x, y, yes = (
        helper.make_tensor_value_info(name, kind, [1]) for name, kind in zip("xyc", (1, 1, 9), strict=True)
    )
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("w", 1, None)])
    nodes = {
        "initializer": [helper.make_node("Add", ["x", "w"], ["y"])],
        "node": [constant, helper.make_node("Add", ["x", "w"], ["y"])],
        "branch": [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
        "function": [helper.make_node("Own", ["x"], ["y"], domain="own")],
        "nowhere": [helper.make_node("Relu", ["x"], ["y"])],
    }[where]
    graph = helper.make_graph(
        nodes, "g", [x, yes], [y], sparse_initializer=[sparse] if where == "initializer" else []
    )
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    add = helper.make_node("Add", ["a", "w"], ["b"])
    own = helper.make_function("own", "Own", ["a"], ["b"], [constant, add], versions[:1])
    functions = [own] if where == "function" else []
    return helper.make_model(
        graph, opset_imports=versions, functions=functions, ir_version=9
    ).SerializeToString()


@pytest.mark.parametrize("where", ["initializer", "node", "branch", "function"])
def test_sparse_tensors_are_refused_before_onnxruntime_unpacks_them(tmp_path: Path, where: str) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(with_sparse(where))
    with pytest.raises(PoseError, match="a.onnx was refused: it holds sparse tensors"):
        dwpose.open_session(path, "cpu")
    assert not holds_sparse_tensors(with_sparse("nowhere"))


@pytest.mark.parametrize("damaged", [b"\x3a", b"\x3a\x7f", b"\xff" * 12, b"\x3b", b"\x09abc", b"\x08"])
def test_bytes_that_are_no_messages_are_noticed(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="it ends|no field"):
        holds_sparse_tensors(damaged)


def test_a_truncated_file_is_named_with_the_size_it_should_have(tmp_path: Path) -> None:
    path = tmp_path / "yolox_l.onnx"
    path.write_bytes(b"half a download")
    with pytest.raises(PoseError, match="has 15 bytes instead of 216746733: download it again from https://"):
        dwpose.open_session(path, "cpu")


def test_exchanged_files_are_noticed(folder: Path) -> None:
    files = dwpose_files.find_models([folder])
    with pytest.raises(PoseError, match="not DWPose's person detector.*2 output"):
        dwpose.DWPose.open(dwpose_files.ModelFiles(files.pose, files.person), device="cpu")


PLACES = [
    ("models/dwpose", "models"),
    ("models/dwpose", ""),
    ("custom_nodes/ComfyUI_ControlNet_Aux/ckpts/yzd-v/DWPose", "custom_nodes"),
    ("custom_nodes/comfyui_controlnet_aux/ckpts/yzd-v/DWPose", ""),
    ("custom_nodes/comfyui-unianimate-w/checkpoints", "custom_nodes"),
    ("custom_nodes/ComfyUI-MimicMotionWrapper/models/DWPose", "custom_nodes"),
    ("custom_nodes/ComfyUI-WanVideoWrapper/unianimate/models/DWPose", "custom_nodes"),
]


@pytest.mark.parametrize("place, given", PLACES)
def test_files_are_found_where_other_packs_keep_them(tmp_path: Path, place: str, given: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    for name in ("YOLOX_L.onnx", "dw-ll_ucoco_384.onnx"):
        (tmp_path / place / name).write_bytes(b"")
    found = dwpose_files.find_models([tmp_path / "nothing", tmp_path / given])
    assert (found.person.name, found.pose.name) == ("YOLOX_L.onnx", "dw-ll_ucoco_384.onnx")


def test_the_larger_pose_network_is_preferred_and_the_smaller_taken(tmp_path: Path) -> None:
    (tmp_path / "yolox_l.onnx").write_bytes(b"")
    (tmp_path / "dw-ll_ucoco.onnx").write_bytes(b"")
    assert dwpose_files.find_models([tmp_path]).pose.name == "dw-ll_ucoco.onnx"
    (tmp_path / "dw-ll_ucoco_384.onnx").write_bytes(b"")
    assert dwpose_files.find_models([tmp_path]).pose.name == "dw-ll_ucoco_384.onnx"


def put(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("yolox_l.onnx", "dw-ll_ucoco_384.onnx"):
        (folder / name).write_bytes(b"")


def test_the_annotator_folder_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "elsewhere" / "yzd-v" / "DWPose")
    monkeypatch.setenv("AUX_ANNOTATOR_CKPTS_PATH", str(tmp_path / "elsewhere"))
    assert dwpose_files.find_models().person.parent == tmp_path / "elsewhere" / "yzd-v" / "DWPose"


@pytest.mark.parametrize("quote", ["", '"'])
def test_the_annotator_folder_of_the_packs_config(tmp_path: Path, quote: str) -> None:
    put(tmp_path / "comfyui_controlnet_aux" / "my ckpts" / "yzd-v" / "DWPose")
    config = f'# annotator_ckpts_path: "./no"\nannotator_ckpts_path: {quote}./my ckpts{quote}  # here\n'
    (tmp_path / "comfyui_controlnet_aux" / "config.yaml").write_text(config, encoding="utf-8")
    assert dwpose_files.find_models([tmp_path]).pose.is_file()


def test_missing_files_are_asked_for_by_name_size_place_licence_and_page(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as both:
        dwpose_files.find_models([tmp_path])
    names = "yolox_l.onnx (217 MB) and dw-ll_ucoco_384.onnx (134 MB)"
    for part in (names, str(tmp_path), "Licence: Apache-2.0", "https://"):
        assert part in str(both.value)
    (tmp_path / "yolox_l.onnx").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="needs dw-ll_ucoco_384.onnx") as one:
        dwpose_files.find_models([tmp_path])
    assert "yolox_l" not in str(one.value)


def test_onnxruntime_is_told_to_send_nothing_before_it_is_imported() -> None:
    script = (
        "import os, sys\n"
        "from xdyna_unianimate.pose_align.dwpose import import_onnxruntime\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "import_onnxruntime()\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.split() == ["1"]


def test_a_network_that_fails_while_it_runs_is_one_sentence() -> None:
    class Session:
        def get_inputs(self) -> list:
            return [types.SimpleNamespace(name="x")]

        def run(self, *_: object) -> None:
            raise RuntimeError("Failed to allocate\nmemory for requested buffer")

    with pytest.raises(PoseError, match="Failed to allocate memory") as caught:
        dwpose._run(Session(), np.zeros(1))
    assert "\n" not in str(caught.value)


def test_a_disk_that_fails_names_the_network_s_file(tmp_path, monkeypatch):
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(OSError) as caught:
        dwpose.open_session(tmp_path / "a.onnx")
    assert caught.value.filename == str(tmp_path / "a.onnx")
