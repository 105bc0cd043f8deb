"""Picture and driving source to what a system is shown: read, align, draw in its style."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..pose_align.align import AlignmentReport, align
from ..pose_align.draw import ORIGINAL_JPEG_QUALITY, UNIANIMATE, XDYNA, Style, draw
from ..pose_align.pose import PoseError, PoseSequence
from . import poses as pose_sources

if TYPE_CHECKING:
    from ..pose_align.detector import PoseDetector
    from ..video_core.storage import Storage
    from .state import PoseCache

Size = tuple[int, int]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """What an animation is made from.

    reference: a picture. driving: anything ``poses.read`` takes, or ready-made pose pictures.
    reference_pose: a pose file of the reference; without it the pose is found in the picture.
    face: the video whose expressions X-Dyna follows; None takes the driving video itself, if it is one.
    drawn: the driving source shows skeletons already, to be used as they are.
    """

    reference: Path
    driving: Path
    reference_pose: Path | None = None
    face: Path | None = None
    drawn: bool = False

    @property
    def shows_skeletons(self) -> bool:
        """Whether the driving source is ready-made pose pictures: said so, or known by the reference's."""
        return self.drawn or pose_sources.is_drawn(self.driving)


@dataclass(frozen=True)
class Preparation:
    """How poses become the pictures that a network is shown.

    poses: of the driving source. reference_person: whose pose of the reference picture, named as in ``poses``.
    align: "robust", "original", or "off" to take the driving poses as they are. median: over all frames.
    published_canvas: UniAnimate's skeletons on 512 x 768 and stretched, as published, else the video's size.
    jpeg: UniAnimate's skeletons through the JPEG of the original's files. hands, feet, head: what is drawn;
    None is the style's own choice.
    """

    poses: pose_sources.PoseSettings = pose_sources.PoseSettings()
    reference_person: str | int = "largest"
    align: Literal["robust", "original", "off"] = "robust"
    median: bool = False
    published_canvas: bool = True
    jpeg: bool = False
    hands: bool | None = None
    feet: bool | None = None
    head: bool | None = None

    def style(self, published: Style) -> Style:
        """A system's style with these choices."""
        chosen = {part: getattr(self, part) for part in ("hands", "feet", "head")}
        return published.replace(**{part: value for part, value in chosen.items() if value is not None})


@dataclass(frozen=True)
class FaceSource:
    """Whose expressions are followed.

    video: its frames. driving: one pose per frame, in their pixels. target: the poses on whose faces they are
    laid, in pixels of the reference: the aligned ones with faces of its size, or the reference's own.
    """

    video: Path
    driving: PoseSequence
    target: PoseSequence


@dataclass(frozen=True)
class Prepared:
    """A reference and poses that belong together.

    reference: uint8 RGB [H, W, 3]. reference_pose: one frame in its pixels; None where it is not known.
    driving: the poses as found. aligned: the same fitted to the reference, in its pixels. report: how.
    drawings: ready-made skeletons in place of driving and aligned poses. fps: of either, None if unknown.
    interval: of the driving source's frames, every n-th was taken. faces: None follows no expressions.
    clips: folder for pictures of a clip that are too many for memory; None holds all of them there.
    storage: where the poses lie, None is in memory.
    """

    reference: np.ndarray
    reference_pose: PoseSequence | None
    driving: PoseSequence | None = None
    aligned: PoseSequence | None = None
    report: AlignmentReport | None = None
    drawings: pose_sources.Drawings | None = None
    fps: float | None = None
    interval: int = 1
    faces: FaceSource | None = None
    clips: Path | None = None
    storage: Storage | None = None

    def lying(self, storage: Storage) -> Prepared:
        """The same with all poses of the clip in a storage."""
        from ..video_core.storage import array_in

        known: dict[int, PoseSequence] = {}

        def moved(poses: PoseSequence | None) -> PoseSequence | None:
            if poses is None or len(poses) == 1:
                return poses
            return known.setdefault(id(poses), poses.lying(partial(array_in, storage)))

        faces = self.faces
        if faces is not None:
            faces = replace(faces, driving=moved(faces.driving), target=moved(faces.target))
        there = {"driving": moved(self.driving), "aligned": moved(self.aligned), "faces": faces}
        return replace(self, **there, storage=storage)

    @property
    def frames(self) -> int:
        """Frames of the clip."""
        return len(self.drawings.frames if self.drawings is not None else self.aligned)


def prepare(
    source: Source,
    how: Preparation,
    detector: PoseDetector,
    *,
    face: bool = False,
    cache: PoseCache | None = None,
    on_frame: pose_sources.OnFrame | None = None,
    clips: Path | None = None,
) -> Prepared:
    """Read everything an animation needs; poses are aligned to the reference's body.

    detector: asked only where a picture has to be looked at. face: with the driving face for X-Dyna.
    clips: see ``Prepared``.
    Raises PoseError, VideoError, or ValueError where a face is asked for and no video shows one.
    """
    from ..video_core.images import read_picture

    reference = read_picture(source.reference)
    target = _reference_pose(source, how, reference, detector, cache)
    given: dict[str, object] = {"interval": how.poses.interval, "clips": clips}
    if source.shows_skeletons:
        drawings = pose_sources.read_drawn(source.driving, how.poses, clips)
        prepared = Prepared(reference, target, drawings=drawings, fps=drawings.fps, **given)
    else:
        driving = pose_sources.read(source.driving, how.poses, detector, cache=cache, on_frame=on_frame)
        if not len(driving):
            raise PoseError(f"{source.driving} holds no frames of poses; choose a clip with at least one.")
        aligned, report = _aligned(driving, target, how)
        prepared = Prepared(reference, target, driving, aligned, report, fps=driving.fps, **given)
    if not face:
        return prepared
    read = partial(pose_sources.read, detector=detector, cache=cache, on_frame=on_frame)
    return replace(prepared, faces=_face_source(source, how, prepared, read))


def _aligned(
    driving: PoseSequence, target: PoseSequence | None, how: Preparation
) -> tuple[PoseSequence, AlignmentReport | None]:
    if how.align == "off":
        return driving, None
    return align(driving, target, fidelity=how.align, median=how.median)


def _reference_pose(
    source: Source, how: Preparation, reference: np.ndarray, detector: PoseDetector, cache: PoseCache | None
) -> PoseSequence | None:
    """The reference's pose; where nothing is aligned to it, one that cannot be found is None."""
    if source.reference_pose is not None:
        poses = pose_sources.load_poses(source.reference_pose)[:1]
        if not len(poses):
            raise PoseError(f"{source.reference_pose} holds no pose; choose a file with at least one frame.")
        return poses
    try:
        return pose_sources.of_picture(reference, detector, how.reference_person, cache=cache)
    except (PoseError, OSError, ImportError) as error:
        if how.align != "off" and not source.shows_skeletons:
            raise
        log.info("Going on without the reference's pose: %s", error)
        return None


def _face_source(
    source: Source, how: Preparation, prepared: Prepared, read: Callable[..., PoseSequence]
) -> FaceSource:
    """The driving video itself, or the video that was named for the face, frame by frame beside the poses."""
    target = _faces_to_lie_on(prepared)
    if target is None:
        raise ValueError(
            f"Expressions are laid on the reference's face, and no person was found in {source.reference}; "
            "give its pose as a file, or leave the face out."
        )
    if source.face is None and (prepared.driving is None or pose_sources.is_pose_file(source.driving)):
        raise ValueError(
            f"{source.driving} shows no face to follow; name the video that its poses were taken from, "
            "or leave the face out."
        )
    if source.face is None:
        return FaceSource(source.driving, prepared.driving, target)
    driving = read(source.face, replace(how.poses, max_frames=prepared.frames))
    if len(driving) != prepared.frames:
        raise ValueError(
            f"{source.face} gives {len(driving)} frames for {prepared.frames} poses of {source.driving}; "
            "both must be of the same length, or take fewer frames."
        )
    return FaceSource(source.face, driving, target)


def _faces_to_lie_on(prepared: Prepared) -> PoseSequence | None:
    """The aligned poses with faces of the reference's size, or what there is of both."""
    from .faces import with_faces_of

    aligned, own = prepared.aligned, prepared.reference_pose
    if prepared.report is None or aligned is None or own is None:
        return own if aligned is None else aligned
    return with_faces_of(aligned, own)


# ---- skeletons, as each network knows them -------------------------------------------------------------


POSES_TOUCHED = 64
"""Poses on disk whose memory is given back together; each takes 3 kB."""


@dataclass(frozen=True)
class Skeletons(Sequence[np.ndarray]):
    """Skeletons uint8 RGB [h, w, 3] that are drawn when they are asked for: a long clip's would fill the memory.

    poses, style: see ``draw``; strokes are scaled. size: (width, height), None is the style's own canvas.
    crop: they are seen ``in_crop`` of that size. storage: where the poses lie, which gets back what was touched of
    it now and then.
    """

    poses: PoseSequence
    style: Style
    size: Size | None = None
    crop: Size | None = None
    storage: Storage | None = None

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, frame: int) -> np.ndarray:
        number = range(len(self.poses))[frame]
        one = self.poses[number : number + 1]
        seen = one if self.crop is None else in_crop(one, self.crop)
        if self.storage is not None and number % POSES_TOUCHED == 0:
            self.storage.tidy()
        return draw(seen, self.style, self.size, scale_strokes=True)[0]


def unianimate_skeletons(
    prepared: Prepared, how: Preparation, size: Size
) -> tuple[Sequence[np.ndarray], np.ndarray | None]:
    """UniAnimate's driving skeletons uint8 RGB [h, w, 3], and the reference's, if its pose is known.

    size: of the video. They are drawn on the published canvas, or on one of that size.
    """
    style = how.style(UNIANIMATE).replace(jpeg_quality=ORIGINAL_JPEG_QUALITY if how.jpeg else None)
    canvas = None if how.published_canvas else size
    given, target = prepared.drawings, prepared.reference_pose
    own = None if given is None else given.reference
    if own is None and target is not None:
        own = draw(target, style, canvas, scale_strokes=True)[0]
    if own is None:
        log.warning("UniAnimate is not told the reference's pose; it keeps the person less well without.")
    if given is not None:
        return given.frames, own
    return Skeletons(prepared.aligned, style, canvas, storage=prepared.storage), own


def xdyna_skeletons(prepared: Prepared, how: Preparation, size: Size) -> Sequence[np.ndarray]:
    """X-Dyna's driving skeletons uint8 RGB [h, w, 3], in the part of the reference that it cuts out."""
    if prepared.drawings is not None:
        return prepared.drawings.frames
    return Skeletons(prepared.aligned, how.style(XDYNA), size, crop=size, storage=prepared.storage)


def in_crop(poses: PoseSequence, size: Size) -> PoseSequence:
    """Poses in pixels of a reference, seen from the part of it that X-Dyna cuts out for ``size``."""
    from ..xdyna_core.frames import reference_crop

    left, top, width, height = reference_crop(poses.canvas, size)
    return replace(poses, points=poses.points - (left, top), canvas=(width, height))
