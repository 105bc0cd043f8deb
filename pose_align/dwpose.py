"""DWPose through onnxruntime: YOLOX finds the people, RTMPose (SimCC) reads 133 points off each of them.

UniAnimate spec 9.1 to 9.3; YOLOX (Ge et al. 2021), SimCC (Li et al. 2022), DWPose (Yang et al. 2023). Both networks
are preprocess / infer / postprocess, and the first and the last are functions of arrays without any network.
"""

from __future__ import annotations

import logging
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .detector import Detection, add_neck, check_frame
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
# K (UniAnimate spec 9.2): these are the statistics of R, G, B, and the crop they are applied to is B, G, R.
MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])

PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
ONNXRUNTIME_MISSING = (
    "DWPose runs through onnxruntime, which is not installed: pip install onnxruntime-gpu "
    "(onnxruntime on a Mac), or choose the mediapipe detector."
)


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
    """Greedy non-maximum suppression: indices kept, best first. boxes [n, 4] (corners), areas with the +1 rule."""
    left, top, right, bottom = boxes.T
    areas = (right - left + 1) * (bottom - top + 1)
    order = scores.argsort()[::-1]
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        width = np.maximum(0.0, np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest]) + 1)
        height = np.maximum(0.0, np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest]) + 1)
        shared = width * height
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
    """Centre [2] and (width, height) [2] of the padded box, grown on one side to the shape of ``size`` (h, w)."""
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


@dataclass
class _Frame:
    """A frame on its way: what is still to be posed and what has been found."""

    boxes: np.ndarray
    box_scores: np.ndarray
    found: list[Detection]

    @property
    def done(self) -> bool:
        return len(self.found) == len(self.boxes)


@dataclass(frozen=True)
class _Crop:
    """One person waiting for the pose network."""

    frame: _Frame
    pixels: np.ndarray
    centre: np.ndarray
    scale: np.ndarray


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
        self._person_input, self._pose_input = person.get_inputs()[0], pose.get_inputs()[0]
        self._person_size = _network_size(person, "person detector", outputs=1)
        self._pose_size = _network_size(pose, "pose network", outputs=2)
        self._batch = max(1, batch) if not isinstance(self._pose_input.shape[0], int) else 1
        self._whole_image_if_empty = whole_image_if_empty
        self.provider = pose.get_providers()[0].removesuffix("ExecutionProvider")

    @classmethod
    def open(cls, files: ModelFiles, device: str = "auto", **options: object) -> DWPose:
        """Load both files on the first provider of CUDA, DirectML, CoreML and CPU that works, or on ``device``."""
        return cls(open_session(files.person, device), open_session(files.pose, device), **options)

    def detect(self, frames: Iterable[np.ndarray]) -> list[list[Detection]]:
        """See ``PoseDetector.detect``."""
        return list(self.stream(frames))

    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[list[Detection]]:
        """See ``PoseDetector.stream``. At most ``batch`` crops wait; the frames they come from are let go."""
        waiting: deque[_Frame] = deque()
        crops: list[_Crop] = []
        for frame in frames:
            image = cv2.cvtColor(check_frame(frame), cv2.COLOR_RGB2BGR)
            boxes, box_scores = self.find_people(image)
            waiting.append(_Frame(boxes, box_scores, []))
            crops += [self._crop(waiting[-1], image, box) for box in boxes]
            del frame, image
            while len(crops) >= self._batch:
                self._pose_crops(crops[: self._batch])
                del crops[: self._batch]
            # A clip without people never fills a batch, and its frames must not queue up.
            while waiting and waiting[0].done:
                yield waiting.popleft().found
        if crops:
            self._pose_crops(crops)
        for frame in waiting:
            yield frame.found

    def find_people(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes [n, 4] in pixels and scores [n] of a uint8 BGR picture, best first."""
        tensor, ratio = letterbox(image, self._person_size)
        raw = self._person.run(None, {self._person_input.name: tensor[None]})[0][0]
        boxes, scores = people(raw, self._person_size, ratio)
        if not len(boxes) and self._whole_image_if_empty:
            return whole_image(image), np.zeros(1)
        return boxes, scores

    def _crop(self, frame: _Frame, image: np.ndarray, box: np.ndarray) -> _Crop:
        centre, scale = crop_region(box, self._pose_size)
        pixels = cut_out(image, crop_matrix(centre, scale, self._pose_size), self._pose_size)
        return _Crop(frame, pixels, centre, scale)

    def _pose_crops(self, crops: Sequence[_Crop]) -> None:
        """Run the pose network and give every crop's person to its frame."""
        tensor = np.stack([normalise(crop.pixels).transpose(2, 0, 1) for crop in crops]).astype(np.float32)
        simcc = self._pose.run(None, {self._pose_input.name: tensor})
        for crop, bins, scores in zip(crops, *decode_simcc(*simcc), strict=True):
            points = to_pixels(bins, crop.centre, crop.scale, self._pose_size)
            number = len(crop.frame.found)
            box, box_score = crop.frame.boxes[number], crop.frame.box_scores[number]
            crop.frame.found.append(Detection(*add_neck(points, scores), box, box_score))


def _network_size(session: InferenceSession, what: str, outputs: int) -> tuple[int, int]:
    """(height, width) of a network's input, which must be [batch, 3, height, width]."""
    shape = session.get_inputs()[0].shape
    if len(shape) != 4 or not all(isinstance(side, int) for side in shape[2:]) or len(session.get_outputs()) != outputs:
        raise PoseError(
            f"This ONNX file is not DWPose's {what}: its input is {shape} and it has {len(session.get_outputs())} "
            f"outputs; expected [batch, 3, height, width] and {outputs}."
        )
    return shape[2], shape[3]


def open_session(path: str | Path, device: str = "auto") -> InferenceSession:
    """Open an ONNX file on the best provider that works; where it is not the one asked for, the log says so.

    Raises ImportError without onnxruntime, PoseError for an unknown device or a file that is no ONNX network.
    """
    try:
        import onnxruntime
    except ImportError as missing:
        raise ImportError(ONNXRUNTIME_MISSING) from missing

    if device not in ("auto", *PROVIDERS):
        raise PoseError(f"There is no device {device!r} for DWPose; choose auto, {', '.join(PROVIDERS)}.")
    available = onnxruntime.get_available_providers()
    wanted = [PROVIDERS[device]] if device != "auto" else list(PROVIDERS.values())
    # The bytes are read here: the C++ side cannot open every Windows path.
    model = Path(path).read_bytes()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    cpu = PROVIDERS["cpu"]
    if any(p in available for p in wanted if p == PROVIDERS["cuda"]) and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    for provider in dict.fromkeys([*(p for p in wanted if p in available), cpu]):
        try:
            session = onnxruntime.InferenceSession(model, options, providers=list(dict.fromkeys([provider, cpu])))
        # onnxruntime's exceptions share no base but Exception.
        except Exception as error:
            if provider == cpu:
                raise PoseError(f"{_broken_file(Path(path), len(model))} onnxruntime says: {error}") from error
            logger.warning("DWPose cannot use %s: %s", provider, error)
            continue
        if session.get_providers()[0] == provider:
            break
    if provider == cpu and wanted != [cpu]:
        logger.warning("DWPose runs on the CPU: onnxruntime offers %s, and none of them but the CPU works.", available)
    return session


# ---- the files ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelFile:
    """A published file: names under which it is known, best first, and the size in bytes of the first."""

    names: tuple[str, ...]
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ModelFiles:
    """Where DWPose's two networks lie."""

    person: Path
    pose: Path


PERSON_FILE = ModelFile(
    ("yolox_l.onnx",), 216_746_733, "7860ae79de6c89a3c1eb72ae9a2756c0ccfbe04b7791bb5880afabd97855a411"
)
# The second name is the 256x192 network; its input size is read from the file.
POSE_FILE = ModelFile(
    ("dw-ll_ucoco_384.onnx", "dw-ll_ucoco.onnx"),
    134_399_116,
    "724f4ff2439ed61afb86fb8a1951ec39c6220682803b4a8bd4f598cd913b1843",
)
LICENCE = "Apache-2.0 by its model page; trained on data sets with terms of their own"
PAGE = "https://huggingface.co/yzd-v/DWPose"

AUX_PACK = "comfyui_controlnet_aux"
CKPTS = ("", "yzd-v/DWPose", "hr16/yolox-onnx", "hr16/UnJIT-DWPose")
# Below a models folder, a custom_nodes folder, a pack's own folder, or ComfyUI's root.
LAYOUTS = (
    *CKPTS,
    "dwpose",
    "checkpoints",
    "ckpts/yzd-v/DWPose",
    "ckpts/hr16/UnJIT-DWPose",
    "models/dwpose",
    "models/DWPose",
    *(f"{pack}/ckpts/{place}" for pack in (AUX_PACK, f"custom_nodes/{AUX_PACK}") for place in CKPTS if place),
    *(
        f"{prefix}{place}"
        for prefix in ("", "custom_nodes/")
        for place in (
            "ComfyUI-UniAnimate-W/checkpoints",
            "UniAnimate/checkpoints",
            "UniAnimate-DiT/checkpoints",
            "ComfyUI-MimicMotionWrapper/models/DWPose",
            "ComfyUI-WanVideoWrapper/unianimate/models/DWPose",
        )
    ),
)


def find_models(folders: Sequence[str | Path] = ()) -> ModelFiles:
    """Find DWPose's two files, also where other packs keep them; every name is matched without regard to case.

    folders: models folders, custom_nodes folders or ComfyUI's root, in order of preference; after them the folder
    that AUX_ANNOTATOR_CKPTS_PATH names and the one in comfyui_controlnet_aux's config.yaml.
    Raises FileNotFoundError with the names, sizes, licence and page of what is missing.
    """
    roots = [Path(folder) for folder in folders]
    roots += _auxiliary_folders(roots)
    places = [place for root in roots for layout in LAYOUTS if (place := _below(root, layout))]
    found = {file: _first_file(places, file.names) for file in (PERSON_FILE, POSE_FILE)}
    missing = [f"{file.names[0]} ({file.bytes / 1e6:.0f} MB)" for file, path in found.items() if path is None]
    if missing:
        where = str(roots[0]) if roots else "a folder that you name"
        raise FileNotFoundError(
            f"DWPose needs {' and '.join(missing)}: download from {PAGE} and put into {where}. Licence: {LICENCE}."
        )
    return ModelFiles(found[PERSON_FILE], found[POSE_FILE])


def _auxiliary_folders(roots: Iterable[Path]) -> list[Path]:
    """Folders that the controlnet_aux pack was told to use."""
    found = []
    if named := os.environ.get("AUX_ANNOTATOR_CKPTS_PATH"):
        found.append(Path(named))
    for root in roots:
        for pack in (_below(root, AUX_PACK), _below(root, f"custom_nodes/{AUX_PACK}")):
            config = pack and _below(pack, "config.yaml")
            text = config.read_text(encoding="utf-8", errors="replace") if config else ""
            if match := re.search(r"^annotator_ckpts_path:\s*[\"']?([^\"'#\r\n]+)", text, re.MULTILINE):
                found.append(pack / match[1].strip())
    return found


def _below(folder: Path, path: str) -> Path | None:
    """``folder/path`` if it is there, its parts matched without regard to case."""
    for part in filter(None, path.split("/")):
        exact = folder / part
        folder = exact if exact.exists() else _named_like(folder, part)
        if folder is None:
            return None
    return folder if folder.exists() else None


def _named_like(folder: Path, name: str) -> Path | None:
    if not folder.is_dir():
        return None
    return next((entry for entry in sorted(folder.iterdir()) if entry.name.casefold() == name.casefold()), None)


def _first_file(places: Sequence[Path], names: Sequence[str]) -> Path | None:
    candidates = (_below(place, name) for name in names for place in places if place.is_dir())
    return next((file for file in candidates if file is not None and file.is_file()), None)


def _broken_file(path: Path, size: int) -> str:
    """A sentence about an ONNX file that does not open."""
    known = next((file for file in (PERSON_FILE, POSE_FILE) if file.names[0] == path.name.casefold()), None)
    if known and size != known.bytes:
        return f"{path} has {size} bytes instead of {known.bytes}: download it again from {PAGE}."
    return f"{path} ({size} bytes) cannot be opened as an ONNX network."
