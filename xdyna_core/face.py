"""S-Face maps: what the face ControlNet is shown of the driving video (X-Dyna spec 9.4, 9.5).

Two pictures per frame, both black but for cut-outs of the driving frame:
``local`` shows a window around each eye and the mouth, ``global`` the box around the face.
Nothing else of the driving video goes on, so this module is where the driving identity stops.

Landmarks are the 68 iBUG points as plain arrays [68, 2], in pixels of the frame (x right, y down); a point
that was not found is a row of NaN (``visible_points`` makes them so). Frames are uint8 RGB [H, W, 3].

Two fidelities, everywhere in this module:

``original``  the published crop arithmetic with its faults: a lost face gives black maps, a window that
              starts left of or above the frame vanishes or is taken from the opposite border.
``robust``    the same boxes and windows where a face was found inside the frame; a lost face keeps the
              last box and centres, boxes and windows are clipped at the borders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..video_core.reels import PictureReel

Fidelity = Literal["robust", "original"]

NewReel = Callable[[], PictureReel]

LANDMARKS = 68
VISIBLE = 0.3
"""A landmark counts from this score on (the rule of the pose backends)."""

WINDOWS = {"left eye": slice(43, 48), "right eye": slice(37, 42), "mouth": slice(49, 68)}
"""Points behind each window's centre, in this order. K: each iBUG group starts one point earlier;
the network was trained without it (quirk 15)."""

MARGINS = {"left": 1.35, "top": 1.25, "right": 1.35, "bottom": 1.45}
"""Reach of the face box from its centre, in units of the larger side of the landmarks' own box."""

WINDOW_SHARE = 8
"""Half a window is this part of the face box: int(side / 512 * 64)."""


@dataclass(frozen=True)
class FaceLocation:
    """Where the cut-outs of one frame lie, in pixels.

    box:     (left, top, right, bottom), half open; ``original`` may leave right and bottom negative.
    centres: (x, y) of left eye, right eye and mouth.
    """

    box: tuple[int, int, int, int]
    centres: tuple[tuple[int, int], ...]

    @property
    def half_window(self) -> tuple[int, int]:
        """(half width, half height) of the three local windows."""
        left, top, right, bottom = self.box
        return int((right - left) / WINDOW_SHARE), int((bottom - top) / WINDOW_SHARE)


NOWHERE = FaceLocation((0, 0, 0, 0), ((0, 0),) * len(WINDOWS))
"""Before the first face was seen: empty cut-outs."""


@dataclass(frozen=True)
class FaceMaps:
    """S-Face maps of a clip.

    local, whole: uint8 RGB [F, H, W, 3] (``whole`` is the paper's global map), as arrays or reels.
    found:        bool [F], whether the frame's own landmarks were used.
    locations:    one per frame.
    """

    local: np.ndarray | PictureReel
    whole: np.ndarray | PictureReel
    found: np.ndarray
    locations: tuple[FaceLocation, ...]


def visible_points(points: np.ndarray, scores: np.ndarray, threshold: float = VISIBLE) -> np.ndarray:
    """Landmarks [..., 68, 2] with NaN where the score [..., 68] is not above the threshold."""
    return np.where((np.asarray(scores) > threshold)[..., None], points, np.nan)


def face_found(landmarks: np.ndarray) -> np.ndarray:
    """bool [...]: faces [..., 68, 2] with enough points for a box and three centres.

    Enough is at least half of the points of each eye and of the mouth.
    """
    seen = _seen(np.asarray(landmarks))
    return np.all([seen[..., group].mean(axis=-1) >= 0.5 for group in WINDOWS.values()], axis=0)


def locate(
    landmarks: np.ndarray,
    size: tuple[int, int],
    *,
    previous_box: tuple[int, int, int, int] | None = None,
    fidelity: Fidelity = "robust",
) -> FaceLocation:
    """Box and window centres of one face (X-Dyna spec 9.4).

    landmarks: [68, 2] pixels; points that were not found are left out.
    size: (width, height) of the frame.
    previous_box: is returned again, unclamped, when it holds all landmarks (its sides included).

    Kept exactly (K): float32 for means, extremes, sums and differences, float64 for the margins, int()
    towards zero for corners, round half to even for centres. Deviation (F) of ``robust``: the box is
    clamped on all four sides; the original clamps each side from one direction only.
    """
    points = np.asarray(landmarks, dtype=np.float32)
    if points.shape != (LANDMARKS, 2) or not face_found(points):
        raise ValueError(
            f"A face has {LANDMARKS} landmarks (x, y), of which both eyes and the mouth must be found; "
            f"got {int(_seen(points).sum())} found points in an array of shape {list(points.shape)}."
        )
    centres = tuple(_centre(points[group]) for group in WINDOWS.values())
    seen = points[_seen(points)]
    low, high = seen.min(axis=0), seen.max(axis=0)
    if previous_box is not None and _holds(previous_box, low, high):
        return FaceLocation(tuple(previous_box), centres)
    return FaceLocation(_face_box(low, high, size, fidelity), centres)


def paint(
    frame: np.ndarray, location: FaceLocation, fidelity: Fidelity = "robust"
) -> tuple[np.ndarray, np.ndarray]:
    """The (local, global) maps of one frame: uint8 RGB [H, W, 3], black outside the cut-outs.

    Deviation (F) of ``robust``: windows are clipped at the borders. ``original`` hands the raw numbers
    to Python slices, where a negative start counts from the far end (quirk 15).
    """
    local, whole = np.zeros_like(frame), np.zeros_like(frame)
    left, top, right, bottom = location.box
    whole[top:bottom, left:right] = frame[top:bottom, left:right]
    half_width, half_height = location.half_window
    for x, y in location.centres:
        corners = (y - half_height, y + half_height, x - half_width, x + half_width)
        if fidelity == "robust":
            corners = tuple(max(corner, 0) for corner in corners)
        y0, y1, x0, x1 = corners
        local[y0:y1, x0:x1] = frame[y0:y1, x0:x1]
    return local, whole


def face_maps(
    frames: Iterable[np.ndarray],
    landmarks: np.ndarray,
    *,
    fidelity: Fidelity = "robust",
    new_reel: NewReel | None = None,
) -> FaceMaps:
    """S-Face maps of a clip.

    frames: F pictures uint8 RGB [H, W, 3] of one size; an iterator is read once, frame by frame.
    landmarks: [F, 68, 2] pixels of these frames. new_reel: what the maps are put into; None makes arrays of them.

    Raises ValueError where frames and landmarks do not have the same length.
    """
    landmarks = _checked(landmarks)
    found = face_found(landmarks)
    local, whole = ([], []) if new_reel is None else (new_reel(), new_reel())
    locations, last = [], NOWHERE
    for index, frame in enumerate(frames):
        if index >= len(landmarks):
            raise ValueError(_lengths(f"more than {index}", len(landmarks)))
        if found[index]:
            height, width = frame.shape[:2]
            last = location = locate(landmarks[index], (width, height), fidelity=fidelity)
        else:
            location = _when_lost(last, fidelity)
        for maps, painted in zip((local, whole), paint(frame, location, fidelity), strict=True):
            maps.append(painted)
        locations.append(location)
    if not locations or len(locations) != len(landmarks):
        raise ValueError(_lengths(len(locations), len(landmarks)))
    if new_reel is None:
        local, whole = np.stack(local), np.stack(whole)
    return FaceMaps(local, whole, found, tuple(locations))


def alignment_matrix(driving: np.ndarray, target: np.ndarray) -> np.ndarray:
    """float64 [2, 3], the affine map that lays the driving face over the target face (X-Dyna spec 9.5).

    driving, target: [68, 2] pixels of their own pictures; only points found in both count. Scale and
    shift per axis, no rotation: the box (landmark mean, full extent) of the driving face becomes that of
    the target.
    """
    driving, target = (np.asarray(points, dtype=np.float32) for points in (driving, target))
    common = _seen(driving) & _seen(target)
    extent = np.ptp(driving[common], axis=0).astype(np.float64) if common.any() else np.zeros(2)
    if extent.min() < 1:
        raise ValueError(
            f"The driving face and the reference face share {int(common.sum())} points over "
            f"{extent[0]:.1f} x {extent[1]:.1f} pixels, too few to be aligned; use pictures in which the "
            "face can be seen, or switch face control off."
        )
    centres = (points[common].mean(axis=0).astype(np.float64) for points in (driving, target))
    centre, target_centre = centres
    scale = np.ptp(target[common], axis=0).astype(np.float64) / extent
    return np.column_stack([np.diag(scale), target_centre - scale * centre])


def closest_frame(landmarks: np.ndarray, target: np.ndarray) -> int:
    """The frame whose face is turned and shaped most like the target face.

    landmarks: [F, 68, 2] of the driving clip. target: [68, 2]. Faces are compared after their mean and
    their size were taken out. F: the original's search for its best frame cannot run (quirk 28); laying
    one scale over all frames is only right where the two heads look the same way.
    """
    landmarks, target = _checked(landmarks), np.asarray(target, np.float64)
    found = np.flatnonzero(face_found(landmarks))
    if not len(found) or not face_found(target):
        missing = "the reference picture" if len(found) else "any frame of the driving video"
        raise ValueError(
            f"No face was found in {missing}; use one that shows the face, or switch face control off."
        )
    return int(min(found, key=lambda frame: _difference(landmarks[frame], target)))


def align_frame(frame: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The frame moved by ``matrix`` onto a black canvas of ``size`` (width, height), bilinear."""
    import cv2

    return cv2.warpAffine(frame, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def align_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points [..., 2] moved by ``matrix`` [2, 3]."""
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def aligned_face_maps(
    frames: Iterable[np.ndarray],
    landmarks: np.ndarray,
    target: np.ndarray,
    size: tuple[int, int],
    new_reel: NewReel | None = None,
) -> FaceMaps:
    """S-Face maps with the driving face laid over the reference face: the default of the pack.

    target: [68, 2], the reference's face: one matrix for the clip, taken at ``closest_frame``; or
            [F, 68, 2], the faces of an aligned pose sequence: one matrix per frame with a face, so that
            the cut-outs follow the head of the skeleton that the pose ControlNet sees.
    size:   (width, height) of the canvas that ``target`` lives in; the maps have this size.
    new_reel: see ``face_maps``.
    """
    landmarks, target = _checked(landmarks), np.asarray(target)
    if target.ndim == 3 and len(target) != len(landmarks):
        raise ValueError(
            f"The aligned poses have {len(target)} frames and the driving faces {len(landmarks)}; "
            "both must come from the same frames of the same clip."
        )
    if target.ndim == 3:
        matrices = _matrix_per_frame(landmarks, target)
    else:
        best = closest_frame(landmarks, target)
        matrices = [alignment_matrix(landmarks[best], target)] * len(landmarks)
    moved = np.stack([align_points(*pair) for pair in zip(landmarks, matrices, strict=True)])
    # A clip longer than its landmarks is told apart by face_maps; the last matrix lets it get there.
    warped = (align_frame(frame, matrices[min(i, len(matrices) - 1)], size) for i, frame in enumerate(frames))
    return face_maps(warped, moved, new_reel=new_reel)


def _matrix_per_frame(landmarks: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
    """A frame without a face takes the matrix of the nearest earlier frame with one, else of the first."""
    found = np.flatnonzero(face_found(landmarks) & face_found(targets))
    if not len(found):
        raise ValueError(
            "No frame has a face both in the driving video and in the aligned poses; use a clip that "
            "shows the face, or switch face control off."
        )
    earlier = np.searchsorted(found, np.arange(len(landmarks)), side="right") - 1
    own = [alignment_matrix(landmarks[frame], targets[frame]) for frame in found]
    return [own[max(index, 0)] for index in earlier]


def _when_lost(last: FaceLocation, fidelity: Fidelity) -> FaceLocation:
    """Where an undetected frame's cut-outs lie.

    F (quirk 14): ``robust`` holds box and centres. The original's driver carries the centres but never
    stores the box, so its box, its windows and both maps are empty.
    """
    return last if fidelity == "robust" else FaceLocation(NOWHERE.box, last.centres)


def _seen(landmarks: np.ndarray) -> np.ndarray:
    return np.isfinite(landmarks).all(axis=-1)


def _centre(points: np.ndarray) -> tuple[int, int]:
    x, y = np.round(points[_seen(points)].mean(axis=0))  # float32 mean, half to even
    return int(x), int(y)


def _holds(box: Sequence[int], low: np.ndarray, high: np.ndarray) -> bool:
    left, top, right, bottom = box
    return bool(low[0] >= left and low[1] >= top and high[0] <= right and high[1] <= bottom)


def _face_box(
    low: np.ndarray, high: np.ndarray, size: tuple[int, int], fidelity: Fidelity
) -> tuple[int, int, int, int]:
    width, height = size
    side = float((high - low).max())
    centre_x, centre_y = (float(s) * 0.5 for s in low + high)
    left = int(centre_x - MARGINS["left"] * side)
    top = int(centre_y - MARGINS["top"] * side)
    right = int(centre_x + MARGINS["right"] * side)
    bottom = int(centre_y + MARGINS["bottom"] * side)
    box = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if fidelity == "original":
        return box
    left, top, right, bottom = box
    return min(left, width), min(top, height), max(right, 0), max(bottom, 0)


def _difference(face: np.ndarray, other: np.ndarray) -> float:
    """Mean squared distance of two faces [68, 2] in units of their size, over the points found in both."""
    common = _seen(face) & _seen(other)
    if common.sum() < LANDMARKS // 2:
        return float("inf")
    return float(np.square(_shape(face[common]) - _shape(other[common])).sum(axis=1).mean())


def _shape(points: np.ndarray) -> np.ndarray:
    """Points [P, 2] about their mean, with unit root-mean-square radius."""
    centred = points - points.mean(axis=0)
    return centred / max(np.sqrt(np.square(centred).sum(axis=1).mean()), 1e-6)


def _checked(landmarks: np.ndarray) -> np.ndarray:
    landmarks = np.asarray(landmarks)
    if landmarks.ndim != 3 or landmarks.shape[1:] != (LANDMARKS, 2):
        raise ValueError(f"A clip's faces are landmarks [F, {LANDMARKS}, 2]; got {list(landmarks.shape)}.")
    return landmarks


def _lengths(frames: int | str, faces: int) -> str:
    return (
        f"The driving clip has {frames} frames and the face landmarks have {faces}; "
        "both must come from the same frames of the same clip."
    )
