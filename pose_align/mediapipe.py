"""MediaPipe Holistic: one person, on the CPU, without a download, for the models come inside the wheel.

The wheel's graph is run as it lies there, packets in and packets out. ``mediapipe.solutions``, which would do
the same, edits the graph through calls that protobuf 5 and later no longer have; this way any protobuf does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .detector import Detection, add_neck, check_frame
from .pose import VISIBLE

logger = logging.getLogger(__name__)

# ---- tables: COCO-WholeBody's 133 points from MediaPipe's --------------------------------------------------

# Of BlazePose's 33 points: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles (left before
# right), then big toe, small toe, heel of the left and of the right foot. BlazePose has one tip of the foot;
# it stands for both toes, so that their middle, which UniAnimate draws, is that tip.
BODY = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
FEET = (31, 31, 29, 32, 32, 30)

# Of the 468 points of the face mesh, the nearest to the 68 of iBUG 300-W, in their order: the picture's left
# before its right. Chosen on iBUG's mean face and looked at on real frames.
JAW = (127, 234, 93, 132, 172, 136, 150, 176, 152, 400, 379, 365, 397, 361, 323, 454, 356)
BROWS = (70, 63, 105, 66, 107) + (336, 296, 334, 293, 300)
NOSE = (168, 197, 5, 4) + (98, 97, 2, 326, 327)
EYES = (33, 160, 158, 133, 153, 144) + (362, 385, 387, 263, 373, 380)
LIPS = (61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91) + (78, 82, 13, 312, 308, 317, 14, 87)
FACE = JAW + BROWS + NOSE + EYES + LIPS
assert len(BODY) == 17 and len(FACE) == len(set(FACE)) == 68

HAND = tuple(range(21))


@dataclass(frozen=True)
class _Source:
    """Where a part of the body comes from: the graph's streams, and which of their points stand for which."""

    landmarks: str
    presence: str
    table: tuple[int, ...]


_HANDS = "handlandmarksleftandrightcpu__handlandmarksfromposecpu_{}__handlandmarkcpu__hand_presence_score"
# In the order of COCO-WholeBody. Left and right are the person's own: the graph finds hands from the wrists.
SOURCES = {
    "body": _Source(
        "pose_landmarks",
        "poselandmarkcpu__poselandmarkbyroicpu__tensorstoposelandmarksandsegmentation__pose_presence_score",
        BODY + FEET,
    ),
    "face": _Source("face_landmarks", "facelandmarksfromposecpu__facelandmarkcpu__face_presence_score", FACE),
    "left hand": _Source("left_hand_landmarks", _HANDS.format(1), HAND),
    "right hand": _Source("right_hand_landmarks", _HANDS.format(2), HAND),
}

GRAPH = "modules/holistic_landmark/holistic_landmark_cpu.binarypb"
OPTIONS = {
    "model_complexity": 1,
    # Smoothing is ``track.smooth``'s, which marks what it touched.
    "smooth_landmarks": False,
    "enable_segmentation": False,
    "smooth_segmentation": False,
    "refine_face_landmarks": False,
}
FRAME_MICROSECONDS = 33_333
"""Any step will do: without smoothing the graph only needs times that grow."""

INSTALL = "pip install --no-deps -r requirements-mediapipe.txt"


@dataclass(frozen=True)
class Landmarks:
    """What the graph says about one part of the body in one frame.

    points:   float64 [n, 2], fractions of the frame's width and height; may lie outside it.
    scores:   float32 [n], for the body the smaller of visibility and presence, point by point; for face and
              hands, which have none, the presence of the whole part.
    presence: how sure the network is that the part is there.
    """

    points: np.ndarray
    scores: np.ndarray
    presence: float


def to_person(parts: Mapping[str, Landmarks], width: int, height: int) -> Detection | None:
    """The parts found in a frame of the given size, by names of ``SOURCES``, as one person.

    Points of missing parts get score 0. None where there is no body or no point of it is seen.
    """
    if "body" not in parts:
        return None
    points, scores = [], []
    for name, source in SOURCES.items():
        table = list(source.table)
        found = parts.get(name)
        points.append(found.points[table] if found else np.zeros((len(table), 2)))
        scores.append(found.scores[table] if found else np.zeros(len(table), np.float32))
    pixels = np.concatenate(points) * [width, height]
    confidence = np.concatenate(scores)
    seen = pixels[confidence > VISIBLE]
    if not len(seen):
        return None
    box = np.concatenate([seen.min(axis=0), seen.max(axis=0)])
    return Detection(*add_neck(pixels, confidence), box, parts["body"].presence)


class MediaPipe:
    """MediaPipe Holistic as a ``PoseDetector``; at most one person per frame.

    video: follow the person from frame to frame, which is faster and steadier. False for unrelated pictures.
    Raises ImportError where MediaPipe cannot be used, saying what to install.
    """

    name = "mediapipe"
    provider = "CPU"

    def __init__(self, video: bool = True) -> None:
        if reason := why_unusable():
            raise ImportError(reason)
        self._video = video

    def detect(self, frames: Iterable[np.ndarray]) -> list[list[Detection]]:
        """See ``PoseDetector.detect``."""
        return list(self.stream(frames))

    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[list[Detection]]:
        """See ``PoseDetector.stream``. Every call is a clip of its own; one frame is held."""
        with _holistic(self._video) as infer:
            for frame in frames:
                image = np.ascontiguousarray(check_frame(frame))
                person = to_person(infer(image), width=image.shape[1], height=image.shape[0])
                yield [person] if person else []


@contextlib.contextmanager
def _holistic(video: bool) -> Iterator[Callable[[np.ndarray], dict[str, Landmarks]]]:
    """The running graph as a function from a frame uint8 RGB [H, W, 3] to the parts found in it."""
    python, resource_util = _import_mediapipe()
    creator, getter = python.packet_creator, python.packet_getter
    # The folder above the package: the graph names its models from there.
    package = Path(python.__file__).parents[1]
    resource_util.set_resource_dir(str(package.parent))
    graph = python.CalculatorGraph(binary_graph_path=str(package / GRAPH))
    packets: dict[str, Any] = {}
    for source in SOURCES.values():
        for name in (source.landmarks, source.presence):
            graph.observe_output_stream(name, packets.__setitem__, True)
    make = {bool: creator.create_bool, int: creator.create_int}
    options = {**OPTIONS, "use_prev_landmarks": video}
    graph.start_run({name: make[type(value)](value) for name, value in options.items()})
    time = 0

    def infer(frame: np.ndarray) -> dict[str, Landmarks]:
        nonlocal time
        time += FRAME_MICROSECONDS
        packets.clear()
        image = creator.create_image_frame(frame, image_format=python.ImageFormat.SRGB)
        graph.add_packet_to_input_stream(stream="image", packet=image.at(time))
        graph.wait_until_idle()
        found = {name: _landmarks(source, packets, getter) for name, source in SOURCES.items()}
        return {name: landmarks for name, landmarks in found.items() if landmarks}

    try:
        yield infer
    finally:
        graph.close()


def _landmarks(source: _Source, packets: Mapping[str, Any], getter: Any) -> Landmarks | None:
    """One part's packets as arrays; None where the graph did not find it."""
    packet, score = packets.get(source.landmarks), packets.get(source.presence)
    if packet is None or packet.is_empty():
        return None
    presence = 1.0 if score is None or score.is_empty() else getter.get_float(score)
    rows = getter.get_proto(packet).landmark
    points = np.array([(row.x, row.y) for row in rows])
    own = [min(row.visibility, row.presence) if row.HasField("visibility") else presence for row in rows]
    return Landmarks(points, np.array(own, np.float32), presence)


def why_unusable() -> str:
    """A sentence that says why MediaPipe cannot be used and what to do, or nothing. Imports nothing."""
    missing = [name for name in ("mediapipe", "matplotlib", "attr") if importlib.util.find_spec(name) is None]
    if missing:
        return f"MediaPipe needs {', '.join(missing)}, not installed here: {INSTALL}."
    places = importlib.util.find_spec("mediapipe").submodule_search_locations
    if not any((Path(place) / GRAPH).is_file() for place in places):
        return f"The installed mediapipe does not carry Holistic's graph; 0.10.21 does: {INSTALL}."
    return ""


def _import_mediapipe() -> tuple[Any, Any]:
    """``mediapipe.python`` and its ``resource_util``."""
    said = io.StringIO()
    # With protobuf 5 and later the import prints an AttributeError of a converter that is not used here.
    with contextlib.redirect_stderr(said):
        import mediapipe.python as python
        from mediapipe.python._framework_bindings import resource_util
    if said.getvalue():
        logger.debug("Importing mediapipe printed: %s", said.getvalue().strip())
    return python, resource_util
