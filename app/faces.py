"""S-Face maps from poses: the driving frames' faces, laid over the reference's or left where they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..pose_align.pose import PoseSequence
from ..pose_align.skeleton import FACE, Joint
from ..xdyna_core.face import (
    FaceMaps,
    Fidelity,
    NewReel,
    aligned_face_maps,
    alignment_matrix,
    closest_frame,
    face_maps,
    visible_points,
)
from ..xdyna_core.frames import driving_crop, fit_driving
from .animate import Size, in_crop

NOSE_TIP = 30
"""Of the 68 points, the one that body detectors call the nose."""


def on_canvas(poses: PoseSequence, size: Size) -> PoseSequence:
    """The same poses in pixels of frames (width, height) of another resolution."""
    return replace(poses, points=poses.points * np.array(size) / np.array(poses.canvas), canvas=size)


def with_faces_of(aligned: PoseSequence, reference: PoseSequence) -> PoseSequence:
    """Aligned poses whose faces have the reference's size and sit on the noses of their own heads.

    Alignment fits limbs and leaves face points to the figure's two ratios, as published (UniAnimate spec 10),
    so that a large head would be given a small face. F (X-Dyna spec 9.5): the size is that of the reference's
    face, axis by axis, measured in the frame whose face is turned most like it.
    Raises ValueError where the reference or every frame is without a face.
    """
    faces, own = _landmarks(aligned), _landmarks(reference)[0]
    scale = np.diag(alignment_matrix(faces[closest_frame(faces, own)], own)[:, :2])
    points, tips = aligned.points.copy(), aligned.points[:, FACE.start + NOSE_TIP]
    noses = np.where(aligned.visible()[:, [Joint.NOSE]], points[:, Joint.NOSE], tips)
    points[:, FACE] = noses[:, None] + scale * (points[:, FACE] - tips[:, None])
    return replace(aligned, points=points)


def maps_on_reference(
    frames: Iterable[np.ndarray],
    driving: PoseSequence,
    reference: PoseSequence,
    size: Size,
    new_reel: NewReel | None = None,
) -> FaceMaps:
    """Maps of the clip's size with the driving face laid over the reference's face (X-Dyna spec 9.5).

    frames: uint8 RGB, one per driving pose. driving: poses in pixels of these frames. reference: in pixels of
    the reference picture; the aligned poses, whose heads the maps then follow, or the reference's own pose.
    new_reel: see ``face_maps``. Raises ValueError where no frame shows a face.
    """
    targets = _landmarks(on_canvas(in_crop(reference, size), size))
    target = targets[0] if len(targets) == 1 else targets
    return aligned_face_maps(frames, _landmarks(driving), target, size, new_reel)


def maps_in_place(
    frames: Iterable[np.ndarray], driving: PoseSequence, size: Size, fidelity: Fidelity = "robust"
) -> FaceMaps:
    """Maps of the clip's size with the face where it is in the driving frames, as published (spec 9.3, 9.4).

    frames, driving: see ``maps_on_reference``.
    """
    left, top, width, height = driving_crop(driving.canvas, size)
    cut = replace(driving, points=driving.points - (left, top), canvas=(width, height))
    inside = on_canvas(cut, size)
    return face_maps((fit_driving(frame, size) for frame in frames), _landmarks(inside), fidelity=fidelity)


def _landmarks(poses: PoseSequence) -> np.ndarray:
    """float64 [F, 68, 2], NaN where a point was not found."""
    return visible_points(poses.points[:, FACE], poses.scores[:, FACE])
