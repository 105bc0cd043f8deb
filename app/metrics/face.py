"""Whether the face of the result moves as the driving face does, from the 68 face points of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

INNER_LIPS = ((61, 67), (62, 66), (63, 65))
EYELIDS = (((37, 41), (38, 40)), ((43, 47), (44, 46)))
EYE_CORNERS = ((36, 39), (42, 45))
EYES = (slice(36, 42), slice(42, 48))
MOUTH, NOSE_TIP, JAW_ENDS = slice(48, 68), 30, (0, 16)

FEWEST = 3
"""Frames below which a correlation says nothing."""
MOSTLY = 0.8
"""Share of the frames in which a point has to be seen to be compared at all."""


@dataclass(frozen=True)
class FaceMotion:
    """A face through time, every series float64 [F] with NaN where the face was not seen.

    mouth: inner lips apart, in face sizes. eyes: lids apart, in widths of the eye.
    turn, nod: where the nose tip lies between the ears' sides (-1..1) and between eyes (0) and mouth (1).
    tilt: angle of the line through the eyes, in degrees.
    """

    mouth: np.ndarray
    eyes: np.ndarray
    turn: np.ndarray
    nod: np.ndarray
    tilt: np.ndarray


def face_motion(points: np.ndarray) -> FaceMotion:
    """Landmarks [F, 68, 2] in pixels, NaN where not seen -> the series; size and place drop out."""
    points = np.asarray(points, np.float64)
    eyes = np.stack([points[:, eye].mean(1) for eye in EYES], 1)
    across = eyes[:, 1] - eyes[:, 0]
    centre, mouth = eyes.mean(1), points[:, MOUTH].mean(1)
    jaw = points[:, list(JAW_ENDS)]
    with np.errstate(divide="ignore", invalid="ignore"):
        lids = [
            _gaps(points, lids) / _gaps(points, (corners,))
            for lids, corners in zip(EYELIDS, EYE_CORNERS, strict=True)
        ]
        turn = 2 * _along(points[:, NOSE_TIP] - jaw.mean(1), jaw[:, 1] - jaw[:, 0])
        nod = _along(points[:, NOSE_TIP] - centre, mouth - centre)
        tilt = np.degrees(np.arctan2(across[:, 1], across[:, 0]))
        mouth_open = _gaps(points, INNER_LIPS) / _whole_face_size(points)
        return FaceMotion(mouth_open, np.mean(lids, axis=0), turn, nod, tilt)


def face_size(points: np.ndarray) -> np.ndarray:
    """[F]: root mean square distance of the landmarks [F, 68, 2] seen from their middle, in pixels."""
    centred, seen = _centred(points)
    return np.sqrt(_mean_over_seen(np.square(centred).sum(-1), seen))


def _whole_face_size(points: np.ndarray) -> np.ndarray:
    """[F]: as ``face_size``, but a frame that lacks points is as large as those of the clip that lack none say.

    A face is not smaller for a jaw that was not found.
    """
    size, seen = face_size(points), np.isfinite(points).all(-1)
    whole = seen.all(1)
    if not whole.any():
        return size
    shape = points[whole].mean(0)
    return size * face_size(shape[None]) / face_size(np.where(seen[..., None], shape, np.nan))


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's -1..1 of two series [F] over the frames that both have; NaN where one of them is constant."""
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < FEWEST:
        return float("nan")
    first, second = (series[both] - series[both].mean() for series in (first, second))
    spread = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / spread) if spread > 1e-9 else float("nan")


def why_uncorrelated(driving: np.ndarray, found: np.ndarray) -> str:
    """Why ``correlation`` of the driving face's series [F] and the result's has no number, as half a sentence."""
    both = np.isfinite(driving) & np.isfinite(found)
    if both.sum() < FEWEST:
        return f"fewer than {FEWEST} frames show this in both faces"
    still = np.std(driving[both]) <= np.std(found[both])
    return f"the {'driving face' if still else 'face of the result'} never moves in this way"


def motion_agreement(driving: np.ndarray, found: np.ndarray) -> np.ndarray:
    """[F] in -1..1: cosine between how both faces [F, 68, 2] differ from their own average shape.

    Place, size and identity drop out: 1 means the same expression and turn of the head in that frame, 0
    nothing in common. Points that are mostly missing are left out of all frames; NaN where another one is
    missing, or a face stands at its average exactly.
    """
    seen = np.isfinite(driving).all(-1) & np.isfinite(found).all(-1)
    with_face = seen.mean(1) >= 0.5
    agreement = np.full(len(seen), np.nan)
    used = seen[with_face].sum(0) >= MOSTLY * with_face.sum()
    told = with_face & seen[:, used].all(1)
    if not told.any():
        return agreement
    first, second = (_deviations(points[told][:, used]) for points in (driving, found))
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    moving = lengths > 1e-9
    agreement[told] = np.where(moving, (first * second).sum(-1) / np.where(moving, lengths, 1), np.nan)
    return agreement


def found_share(wanted: np.ndarray, found: np.ndarray) -> float:
    """Share of the frames with a driving face in which the result has one too (bool [F] each); else NaN."""
    return float(found[wanted].mean()) if wanted.any() else float("nan")


def _gaps(points: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    """[F]: mean distance of the pairs."""
    return np.mean([np.linalg.norm(points[:, a] - points[:, b], axis=-1) for a, b in pairs], axis=0)


def _along(offset: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """[F]: the offset's component along the axis, in lengths of the axis."""
    return (offset * axis).sum(-1) / np.square(axis).sum(-1)


def _deviations(points: np.ndarray) -> np.ndarray:
    """[F, 2 P]: shapes [F, P, 2] about their middle and of unit size, less the mean shape."""
    centred = points - points.mean(1, keepdims=True)
    size = face_size(points)[:, None, None]
    shapes = centred / np.where(size > 0, size, np.inf)
    return (shapes - shapes.mean(0)).reshape(len(points), -1)


def _centred(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points [F, 68, 2] about the middle of those seen, 0 where not seen; and which are, bool [F, 68]."""
    seen = np.isfinite(points).all(-1)
    known = np.where(seen[..., None], points, 0.0)
    middle = _mean_over_seen(known, seen[..., None])
    return np.where(seen[..., None], known - middle[:, None], 0.0), seen


def _mean_over_seen(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Mean over the points (axis 1) of values that are 0 where not seen; 0 where nothing is."""
    return values.sum(1) / np.maximum(seen.sum(1), 1)
