"""DWPose through onnxruntime: YOLOX finds the people, RTMPose (SimCC) reads 133 points off each of them.

UniAnimate spec 9.1 to 9.3; YOLOX (Ge et al. 2021), SimCC (Li et al. 2022), DWPose (Yang et al. 2023). Both
networks are preprocess / infer / postprocess; the first and the last are functions of arrays alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .detector import Detection, add_neck, check_frame
from .dwpose_files import ONNXRUNTIME_MISSING, PERSON_FILE, POSE_FILE, ModelFiles, broken_file
from .onnx_bytes import holds_sparse_tensors
from .pose import PoseError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

logger = logging.getLogger(__name__)

STRIDES = (8, 16, 32)
PAD_GREY = 114
PERSON = 0
NMS_SCORE, NMS_IOU, PERSON_SCORE = 0.1, 0.45, 0.3
BOX_PADDING = 1.25
SPLIT_RATIO = 2.0
LARGEST_INPUT = 4096
"""Pixels of a side of a network's input, which a file states and memory is taken for."""
# K (UniAnimate spec 9.2): these are the statistics of R, G, B, and the crop they are applied to is B, G, R.
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])

PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
CPU = PROVIDERS["cpu"]


# ---- person detector: preprocess, postprocess --------------------------------------------------------------


def letterbox(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Scale a picture into the upper left of a grey canvas (UniAnimate spec 9.1).

    image uint8 BGR [H, W, 3], size (height, width) of the network -> float32 BGR [3, height, width] with
    values 0-255, and the factor by which the picture was scaled.
    """
    ratio = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, int(side * ratio)) for side in image.shape[:2])
    canvas = np.full((*size, 3), PAD_GREY, np.uint8)
    canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1), dtype=np.float32), ratio


def decode_anchors(raw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The network's [anchors, 5 + classes] with centre and size in its own pixels (UniAnimate spec 9.1)."""
    grids, strides = [], []
    for stride in STRIDES:
        rows, columns = size[0] // stride, size[1] // stride
        y, x = np.mgrid[:rows, :columns]
        grids.append(np.stack([x, y], -1).reshape(-1, 2))
        strides.append(np.full((rows * columns, 1), stride))
    grid, stride = np.concatenate(grids), np.concatenate(strides)
    decoded = raw.copy()
    decoded[:, :2] = (raw[:, :2] + grid) * stride
    decoded[:, 2:4] = np.exp(raw[:, 2:4]) * stride
    return decoded


def nms(boxes: np.ndarray, scores: np.ndarray, max_iou: float) -> list[int]:
    """Greedy non-maximum suppression: the indices kept, best first.

    boxes [n, 4] are corners; areas count with the +1 of whole pixels (UniAnimate spec 9.1).
    """
    left, top, right, bottom = boxes.T
    areas = (right - left + 1) * (bottom - top + 1)
    order = scores.argsort()[::-1]
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        width = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest]) + 1
        height = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest]) + 1
        shared = np.maximum(0.0, width) * np.maximum(0.0, height)
        order = rest[shared / (areas[best] + areas[rest] - shared) <= max_iou]
    return kept


def class_aware_nms(boxes: np.ndarray, scores: np.ndarray, max_iou: float, min_score: float) -> np.ndarray:
    """``nms`` within every class: boxes [n, 4], scores [n, classes] -> [m, 6], corners, score, class."""
    found = [np.zeros((0, 6))]
    for number, of_class in enumerate(scores.T):
        above = of_class > min_score
        kept = nms(boxes[above], of_class[above], max_iou)
        rows = np.column_stack([boxes[above][kept], of_class[above][kept]])
        found.append(np.column_stack([rows, np.full(len(kept), float(number))]))
    return np.concatenate(found)


def people(raw: np.ndarray, size: tuple[int, int], ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """The people among the detector's anchors: boxes float64 [n, 4] in pixels, scores [n], best first.

    raw float32 [anchors, 5 + classes] as the network gives them for ``letterbox``'s picture and ratio.
    """
    decoded = decode_anchors(raw, size)
    centre, half = decoded[:, :2], decoded[:, 2:4] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1) / ratio
    # Suppression is per class and only people are kept, so the other 79 classes need not be looked at.
    scores = decoded[:, 4:5] * decoded[:, 5 + PERSON : 6 + PERSON]
    kept = class_aware_nms(boxes, scores, NMS_IOU, NMS_SCORE)
    kept = kept[kept[:, 4] > PERSON_SCORE]
    return kept[:, :4], kept[:, 4]


# ---- pose network: preprocess, postprocess -----------------------------------------------------------------


def whole_image(image: np.ndarray) -> np.ndarray:
    """The box [1, 4] that stands for a person whom the detector missed (UniAnimate spec 9.2)."""
    return np.array([[0.0, 0.0, image.shape[1], image.shape[0]]])


def crop_region(box: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Centre [2] and (width, height) [2] of the padded box, one side grown to the shape of ``size``."""
    centre = np.array([box[0] + box[2], box[1] + box[3]]) * 0.5
    width, height = np.array([box[2] - box[0], box[3] - box[1]]) * BOX_PADDING
    aspect = size[1] / size[0]
    if width > height * aspect:
        return centre, np.array([width, width / aspect])
    return centre, np.array([height * aspect, height])


def crop_matrix(centre: np.ndarray, scale: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The affine map [2, 3] from the picture to a crop of ``size`` (h, w), without rotation.

    Three float32 pairs of points rather than the closed form, which differs by 1e-6 (UniAnimate spec 9.2).
    """
    height, width = size
    source = _corner_points(centre, np.array([0.0, scale[0] * -0.5]))
    target = _corner_points(np.array([width * 0.5, height * 0.5]), np.array([0.0, width * -0.5]))
    return cv2.getAffineTransform(source, target)


def _corner_points(centre: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Three points float32 [3, 2]: the centre, the middle of the upper side, and a right angle off it."""
    points = np.zeros((3, 2), np.float32)
    points[0], points[1] = centre, centre + up
    difference = points[0] - points[1]
    points[2] = points[1] + np.array([-difference[1], difference[0]], np.float32)
    return points


def cut_out(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The crop uint8 [h, w, 3] that ``crop_matrix`` describes; black where it leaves the picture."""
    return cv2.warpAffine(image, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR)


def normalise(crop: np.ndarray) -> np.ndarray:
    """A crop uint8 BGR [h, w, 3] as float64 in the pose network's range, same layout."""
    return (crop - MEAN) / STD


def decode_simcc(simcc_x: np.ndarray, simcc_y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bins [..., 2] float32 and scores [...] of SimCC's two classifications along x and y [..., bins].

    The score is the smaller of the two maxima; where it is not positive, both bins are -1.
    """
    bins = np.stack([simcc_x.argmax(-1), simcc_y.argmax(-1)], axis=-1).astype(np.float32)
    scores = np.minimum(simcc_x.max(-1), simcc_y.max(-1))
    bins[scores <= 0] = -1
    return bins, scores


def to_pixels(bins: np.ndarray, centre: np.ndarray, scale: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """SimCC bins [133, 2] of one crop as float64 pixels of the picture."""
    inside = bins / SPLIT_RATIO / np.array([size[1], size[0]])
    return inside * scale + centre - scale / 2


# ---- the detector ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Crop:
    """One person waiting for the pose network: the cut-out and where it was."""

    pixels: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    box: np.ndarray
    box_score: float


class DWPose:
    """The two networks as a ``PoseDetector``.

    person, pose: open onnxruntime sessions. Their input sizes, and whether the pose network takes a batch,
    are read from them.
    batch: people, of one or several frames, that the pose network sees at once.
    whole_image_if_empty: where no box was found, pose the whole picture as UniAnimate does (spec 9.2).
        F: off by default, because a frame without a person is a frame without a person; ``track`` says so.
    """

    name = "dwpose"

    def __init__(
        self,
        person: InferenceSession,
        pose: InferenceSession,
        batch: int = 8,
        whole_image_if_empty: bool = False,
    ) -> None:
        self._person, self._pose = person, pose
        self._person_size = _network_size(person, "person detector", outputs=1)
        self._pose_size = _network_size(pose, "pose network", outputs=2)
        fixed = pose.get_inputs()[0].shape[0]
        self._fixed_batch = isinstance(fixed, int)
        self._batch = fixed if self._fixed_batch else max(1, batch)
        self._whole_image_if_empty = whole_image_if_empty
        providers = [one.get_providers()[0].removesuffix("ExecutionProvider") for one in (person, pose)]
        self.provider = " and ".join(dict.fromkeys(providers))

    @classmethod
    def open(cls, files: ModelFiles, device: str = "auto", **options: object) -> DWPose:
        """Load both files; see ``open_session`` for the device and the class for the options."""
        person, pose = open_session(files.person, device), open_session(files.pose, device)
        try:
            return cls(person, pose, **options)
        except PoseError as error:
            raise PoseError(f"{files.person} and {files.pose}: {error}") from error

    def detect(self, frames: Iterable[np.ndarray]) -> list[list[Detection]]:
        """See ``PoseDetector.detect``."""
        return list(self.stream(frames))

    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[list[Detection]]:
        """See ``PoseDetector.stream``. Holds one frame and the crops of ``batch`` people or frames."""
        waiting: list[list[_Crop]] = []
        for frame in frames:
            waiting.append(self._cut_people(check_frame(frame)))
            if max(len(waiting), sum(map(len, waiting))) >= self._batch:
                yield from self._read_poses(waiting)
                waiting = []
        yield from self._read_poses(waiting)

    def _cut_people(self, frame: np.ndarray) -> list[_Crop]:
        """Everybody in a frame uint8 RGB [H, W, 3], best first, cut out for the pose network."""
        image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        tensor, ratio = letterbox(image, self._person_size)
        raw = _run(self._person, tensor[None])[0][0]
        boxes, scores = people(raw, self._person_size, ratio)
        if not len(boxes) and self._whole_image_if_empty:
            boxes, scores = whole_image(image), np.zeros(1)
        crops = []
        for box, score in zip(boxes, scores, strict=True):
            centre, scale = crop_region(box, self._pose_size)
            pixels = cut_out(image, crop_matrix(centre, scale, self._pose_size), self._pose_size)
            crops.append(_Crop(pixels, centre, scale, box, float(score)))
        return crops

    def _read_poses(self, frames: Sequence[Sequence[_Crop]]) -> Iterator[list[Detection]]:
        """Run the pose network on the people of all these frames together; yields frame by frame."""
        crops = [crop for frame in frames for crop in frame]
        starts = range(0, len(crops), self._batch)
        found = chain.from_iterable(self._read_batch(crops[start : start + self._batch]) for start in starts)
        for frame in frames:
            yield list(islice(found, len(frame)))

    def _read_batch(self, crops: Sequence[_Crop]) -> list[Detection]:
        tensor = np.stack([normalise(crop.pixels).transpose(2, 0, 1) for crop in crops]).astype(np.float32)
        if self._fixed_batch:
            tensor = np.pad(tensor, [(0, self._batch - len(crops)), (0, 0), (0, 0), (0, 0)])
        bins, scores = decode_simcc(*_run(self._pose, tensor))
        return [
            Detection(
                *add_neck(to_pixels(of_one, crop.centre, crop.scale, self._pose_size), score),
                crop.box,
                crop.box_score,
            )
            for crop, of_one, score in zip(crops, bins, scores, strict=False)
        ]


def _run(session: InferenceSession, tensor: np.ndarray) -> list[np.ndarray]:
    try:
        return session.run(None, {session.get_inputs()[0].name: tensor})
    except Exception as error:  # onnxruntime's exceptions share no narrower base
        reason = " ".join(str(error).split())[:300]
        raise PoseError(
            f"A network of DWPose cannot run on these frames; onnxruntime says: {reason}. Is its file the right one?"
        ) from error


def _network_size(session: InferenceSession, what: str, outputs: int) -> tuple[int, int]:
    """(height, width) of a network's input, which must be [batch, 3, height, width]."""
    inputs, given = session.get_inputs(), len(session.get_outputs())
    shape = inputs[0].shape if inputs else []
    sized = len(shape) == 4 and all(isinstance(side, int) and 0 < side <= LARGEST_INPUT for side in shape[2:])
    if not sized or len(inputs) != 1 or given != outputs:
        raise PoseError(
            f"This ONNX file is not DWPose's {what}: its input is {shape} with {given} output(s); "
            f"expected [batch, 3, height, width] with {outputs}."
        )
    return shape[2], shape[3]


def import_onnxruntime() -> ModuleType:
    """onnxruntime, told before its first import to send nothing: its wheels report uses to their maker's servers.

    Whoever sets ORT_DISABLE_TELEMETRY decides for themselves. ImportError where it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as missing:
        raise ImportError(ONNXRUNTIME_MISSING) from missing
    return onnxruntime


def open_session(path: str | Path, device: str = "auto") -> InferenceSession:
    """Open an ONNX file on the first provider that works, the CPU in the end; then a line in the log says so.

    device: "auto" (CUDA, DirectML, CoreML, CPU in this order) or one of ``PROVIDERS``.
    Raises ImportError without onnxruntime, PoseError for an unknown device or a file that is no ONNX network.
    """
    onnxruntime = import_onnxruntime()
    if device not in ("auto", *PROVIDERS):
        raise PoseError(f"There is no device {device!r} for DWPose; choose auto, {', '.join(PROVIDERS)}.")
    path = Path(path)
    # The bytes are read here: the C++ side cannot open every Windows path.
    try:
        model = path.read_bytes()
    except OSError as error:
        # read names no file, and is where a disk is found to be broken.
        raise OSError(error.errno, error.strerror, str(path)) from error
    _refuse_sparse(path, model)
    available = onnxruntime.get_available_providers()
    wanted = PROVIDERS.values() if device == "auto" else (PROVIDERS[device], CPU)
    for provider in (p for p in wanted if p in available and p != CPU):
        session = _accelerated(model, provider)
        if session is not None:
            return session
    if device != "cpu":
        logger.warning("DWPose runs on the CPU: of %s, which onnxruntime offers, no other works.", available)
    try:
        return _session(model, [CPU])
    except Exception as error:  # onnxruntime's exceptions share no narrower base
        reason = " ".join(str(error).split())[:300]
        raise PoseError(f"{broken_file(path, len(model))} onnxruntime says: {reason}") from error


def _refuse_sparse(path: Path, model: bytes) -> None:
    try:
        sparse = holds_sparse_tensors(model)
    except ValueError as error:
        raise PoseError(f"{broken_file(path, len(model))} It is no ONNX network: {error}.") from error
    if sparse:
        raise PoseError(
            f"{path} was refused: it holds sparse tensors, which DWPose's networks do not, and of which a few bytes "
            "become any amount of memory."
        )


def _session(model: bytes, providers: Sequence[str]) -> InferenceSession:
    """Opened with all optimisations where it is a published file.

    In others no constants are computed while they are opened: any amount of memory can be made of a few bytes.
    """
    onnxruntime = import_onnxruntime()
    published = {file.size: file.sha256 for file in (PERSON_FILE, POSE_FILE)}
    known = len(model) in published and hashlib.sha256(model).hexdigest() == published[len(model)]
    options = onnxruntime.SessionOptions()
    # Not its own format, which has not been looked through.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    left_out = [] if known else ["ConstantFolding"]
    return onnxruntime.InferenceSession(
        model, options, providers=list(providers), disabled_optimizers=left_out
    )


def _accelerated(model: bytes, provider: str) -> InferenceSession | None:
    """A session that really runs on the provider, or None and a line in the log."""
    onnxruntime = import_onnxruntime()
    if provider == PROVIDERS["cuda"] and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    try:
        session = _session(model, [provider, CPU])
    except Exception as error:  # onnxruntime's exceptions share no narrower base
        logger.warning("DWPose cannot use %s: %s", provider, error)
        return None
    # Where a provider's libraries are missing, onnxruntime takes the CPU without an exception.
    return session if session.get_providers()[0] == provider else None
