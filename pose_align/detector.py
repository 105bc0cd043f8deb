"""What every pose detector gives, the order of its points, and the choice of the detector to use."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from .dwpose_files import ONNXRUNTIME_MISSING, find_models
from .pose import POINTS, VISIBLE, PoseError
from .skeleton import COCO_NECK, COCO_SHOULDERS, FROM_COCO

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Detection:
    """One person in one frame.

    points:    float64 [134, 2], x right and y down in pixels of the frame, in the order of ``skeleton``.
    scores:    float32 [134], the backend's own confidence; not above 0 where a point was not found.
    box:       float64 [4], left, top, right, bottom in pixels of the frame.
    box_score: the backend's confidence that there is a person.
    """

    points: np.ndarray
    scores: np.ndarray
    box: np.ndarray
    box_score: float

    def __post_init__(self) -> None:
        for name, dtype, shape in (
            ("points", np.float64, (POINTS, 2)),
            ("scores", np.float32, (POINTS,)),
            ("box", np.float64, (4,)),
        ):
            value = np.asarray(getattr(self, name), dtype=dtype)
            if value.shape != shape:
                raise PoseError(f"A detection has {name} {list(shape)}; got {list(value.shape)}.")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "box_score", float(self.box_score))


@runtime_checkable
class PoseDetector(Protocol):
    """A backend. ``name`` says which one it is, ``provider`` what its networks run on."""

    name: str
    provider: str

    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[list[Detection]]:
        """The people of every frame, frame after frame, while the frames arrive.

        frames: uint8 RGB [H, W, 3] each; sizes may differ. Only a few are held at a time.
        Yields one list per frame in the frames' order, empty where nobody was found, best person first.
        Raises PoseError for anything that is not such a frame.
        """
        ...

    def detect(self, frames: Iterable[np.ndarray]) -> list[list[Detection]]:
        """All of ``stream`` as a list."""
        ...


@dataclass(frozen=True)
class Backend:
    """Whether a backend can be used here; ``detail`` is a sentence that says why (not)."""

    name: str
    usable: bool
    detail: str


def check_frame(frame: np.ndarray) -> np.ndarray:
    """The frame itself if it is uint8 RGB [H, W, 3] with at least one pixel, else PoseError."""
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise PoseError(
            f"A pose detector takes RGB frames of type uint8 and shape [height, width, 3]; "
            f"got {frame.dtype} {list(frame.shape)}."
        )
    return frame


def add_neck(points: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """COCO-WholeBody's 133 points with the neck added, in our order (UniAnimate spec 9.3).

    points [..., 133, 2] and scores [..., 133] -> [..., 134, 2] and [..., 134], types kept. The neck is the
    mean of the shoulders; its score is 1 where both are above 0.3, else 0.
    """
    shoulders = list(COCO_SHOULDERS)
    neck = points[..., shoulders, :].mean(axis=-2)
    seen = (scores[..., shoulders] > VISIBLE).all(axis=-1).astype(scores.dtype)
    order = list(FROM_COCO)
    return (
        np.insert(points, COCO_NECK, neck, axis=-2)[..., order, :],
        np.insert(scores, COCO_NECK, seen, axis=-1)[..., order],
    )


def available_backends(folders: Sequence[str | Path] = ()) -> list[Backend]:
    """Every backend with whether it can be used, in the order in which "auto" tries them.

    folders: where DWPose's files may lie (see ``dwpose_files.find_models``). Loads no library and no network.
    """
    return [_dwpose_state(folders), _mediapipe_state()]


def load_detector(
    name: str = "auto", folders: Sequence[str | Path] = (), device: str = "auto", **options: object
) -> PoseDetector:
    """Load a pose detector and log which one it is and what it runs on.

    name:    "dwpose" (onnxruntime; several people; its two files must be in ``folders``), "mediapipe"
             (no files; one person) or "auto", the first of them that can be used.
    device:  "auto", "cuda", "directml", "coreml" or "cpu"; MediaPipe runs on the CPU.
    options: passed on to the backend's class.
    Raises PoseError for an unknown name, FileNotFoundError where files are missing and ImportError where a
    library is; each says what to install or to put where.
    """
    if name == "auto":
        states = available_backends(folders)
        name = next((state.name for state in states if state.usable), "")
        if not name:
            reasons = " ".join(f"{state.name}: {state.detail}" for state in states)
            raise FileNotFoundError(f"There is no pose detector that can be used. {reasons}")
    if name == "dwpose":
        from .dwpose import DWPose

        detector: PoseDetector = DWPose.open(find_models(folders), device=device, **options)
    elif name == "mediapipe":
        from .mediapipe import MediaPipe

        detector = MediaPipe(**options)
    else:
        raise PoseError(f"There is no pose detector {name!r}; choose auto, dwpose or mediapipe.")
    logger.info("Pose detector: %s on %s.", detector.name, detector.provider)
    return detector


def _dwpose_state(folders: Sequence[str | Path]) -> Backend:
    if importlib.util.find_spec("onnxruntime") is None:
        return Backend("dwpose", False, ONNXRUNTIME_MISSING)
    try:
        files = find_models(folders)
    except FileNotFoundError as missing:
        return Backend("dwpose", False, str(missing))
    return Backend("dwpose", True, f"Found {files.person} and {files.pose}.")


def _mediapipe_state() -> Backend:
    from .mediapipe import why_unusable

    reason = why_unusable()
    return Backend("mediapipe", not reason, reason or "The installed wheel carries its models.")
