"""Picture and driving source to video, by either system: read, align, draw, animate, write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..pose_align.align import AlignmentReport, align
from ..pose_align.draw import ORIGINAL_JPEG_QUALITY, UNIANIMATE, XDYNA, Style, draw
from ..pose_align.pose import PoseError, PoseSequence
from . import poses as pose_sources
from .grids import contact_sheet
from .networks import System

if TYPE_CHECKING:
    from ..pose_align.detector import PoseDetector
    from ..unianimate_core.pipeline import Settings as UniAnimateSettings
    from ..video_core.placement import Placed
    from ..video_core.samplers import OnStep
    from ..xdyna_core.face import FaceMaps
    from ..xdyna_core.pipeline import Settings as XDynaSettings
    from .state import PoseCache

Size = tuple[int, int]


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


@dataclass(frozen=True)
class Preparation:
    """How poses become the pictures that a network is shown.

    align: "robust", "original", or "off" to take the driving poses as they are. median: over all frames.
    published_canvas: UniAnimate's skeletons on 512 x 768 and stretched, as published, else the video's size.
    jpeg: UniAnimate's skeletons through the JPEG of the original's files. hands, feet, head: what is drawn;
    None is the style's own choice.
    """

    poses: pose_sources.PoseSettings = pose_sources.PoseSettings()
    align: Literal["robust", "original", "off"] = "robust"
    median: bool = False
    published_canvas: bool = True
    jpeg: bool = False
    hands: bool | None = None
    feet: bool | None = None
    head: bool | None = None

    def style(self, system: System) -> Style:
        """The drawing style of a system with these choices."""
        style = UNIANIMATE if system == "unianimate" else XDYNA
        chosen = {part: getattr(self, part) for part in ("hands", "feet", "head")}
        chosen = {part: value for part, value in chosen.items() if value is not None}
        if self.jpeg and system == "unianimate":
            chosen["jpeg_quality"] = ORIGINAL_JPEG_QUALITY
        return replace(style, **chosen)


@dataclass(frozen=True)
class Prepared:
    """A reference and poses that belong together.

    reference: uint8 RGB [H, W, 3]. aligned: in pixels of the reference; None where skeletons came drawn.
    driving: the poses as found. report: what alignment did. fps: of the poses, None where unknown.
    drawings: ready-made skeletons in place of poses.
    """

    reference: np.ndarray
    aligned: PoseSequence | None
    reference_pose: PoseSequence | None
    driving: PoseSequence | None = None
    report: AlignmentReport | None = None
    fps: float | None = None
    drawings: pose_sources.Drawings | None = None

    @cached_property
    def frames(self) -> int:
        """Frames of the clip."""
        return len(self.drawings.frames) if self.aligned is None else len(self.aligned)


def prepare(
    source: Source,
    how: Preparation,
    detector: Callable[[], PoseDetector],
    *,
    cache: PoseCache | None = None,
    on_frame: pose_sources.OnFrame | None = None,
) -> Prepared:
    """Read everything an animation needs; poses are aligned to the reference's body.

    detector: called only where a picture has to be looked at. Raises PoseError and VideoError.
    """
    from ..video_core.images import read_picture

    reference = read_picture(source.reference)
    if source.drawn or pose_sources.is_drawn(source.driving):
        drawings = pose_sources.read_drawn(source.driving, how.poses)
        own = source.reference_pose and pose_sources.load_poses(source.reference_pose)[0:1]
        return Prepared(reference, None, own, fps=drawings.fps, drawings=drawings)
    driving = pose_sources.read(source.driving, how.poses, detector, cache=cache, on_frame=on_frame)
    if not len(driving):
        raise PoseError(f"{source.driving} holds no frames of poses; choose a clip with at least one.")
    if source.reference_pose is not None:
        target = pose_sources.load_poses(source.reference_pose)[0:1]
    else:
        target = pose_sources.of_picture(reference, detector(), how.poses.person)
    return aligned_to(reference, driving, target, how)


def aligned_to(
    reference: np.ndarray, driving: PoseSequence, target: PoseSequence, how: Preparation
) -> Prepared:
    """Driving poses fitted to the reference's pose, unless that is switched off."""
    if how.align == "off":
        return Prepared(reference, driving, target, driving, fps=driving.fps)
    aligned, report = align(driving, target, fidelity=how.align, median=how.median)
    return Prepared(reference, aligned, target, driving, report, driving.fps)


# ---- UniAnimate ----------------------------------------------------------------------------------------


def unianimate_skeletons(
    prepared: Prepared, how: Preparation, size: Size
) -> tuple[Sequence[np.ndarray], np.ndarray]:
    """The driving skeletons and the reference's, uint8 RGB, as UniAnimate knows them."""
    style, canvas = how.style("unianimate"), None if how.published_canvas else size
    given, target = prepared.drawings, prepared.reference_pose
    if given is not None and given.reference is not None:
        return given.frames, given.reference
    if target is None:
        raise ValueError(
            f"UniAnimate needs the reference's own skeleton beside the drawn ones: a file "
            f"{pose_sources.REFERENCE_DRAWING} in their folder, or the reference's pose as a pose file."
        )
    frames = given.frames if given is not None else draw(prepared.aligned, style, canvas)
    return frames, draw(target, style, canvas)[0]


def unianimate(
    networks,
    prepared: Prepared,
    how: Preparation,
    settings: UniAnimateSettings,
    placed: Placed,
    on_step: OnStep | None = None,
) -> Iterator[np.ndarray]:
    """Frames uint8 RGB [H, W, 3] of UniAnimate, as they are finished."""
    from ..unianimate_core.pipeline import Inputs, animate
    from ..video_core.images import to_bytes

    skeletons, target = unianimate_skeletons(prepared, how, settings.size)
    inputs = Inputs(reference=prepared.reference, poses=skeletons, reference_pose=target)
    for chunk in animate(networks, inputs, settings, placed, on_step=on_step):
        yield from to_bytes(chunk)


# ---- X-Dyna --------------------------------------------------------------------------------------------


def in_crop(poses: PoseSequence, size: Size) -> PoseSequence:
    """Poses in pixels of a reference, seen from the part of it that X-Dyna cuts out for ``size``."""
    from ..xdyna_core.frames import reference_crop

    left, top, width, height = reference_crop(poses.canvas, size)
    return replace(poses, points=poses.points - (left, top), canvas=(width, height))


def xdyna_skeletons(prepared: Prepared, how: Preparation, size: Size) -> Sequence[np.ndarray]:
    """The driving skeletons, uint8 RGB, as X-Dyna's pose ControlNet knows them, in the reference's crop."""
    if prepared.drawings is not None:
        return prepared.drawings.frames
    return draw(in_crop(prepared.aligned, size), how.style("xdyna"), size, scale_strokes=True)


def xdyna_faces(prepared: Prepared, frames: Iterable[np.ndarray], size: Size) -> FaceMaps:
    """S-Face maps of the driving frames, laid over the face of the aligned skeleton.

    frames: the driving video's, one per pose. Raises ValueError where no frame shows a face.
    """
    from .faces import maps_on_reference

    if prepared.aligned is None or prepared.driving is None:
        raise ValueError(
            "Face maps need the poses of the driving video; give the video itself, not drawn skeletons."
        )
    return maps_on_reference(frames, prepared.driving, prepared.aligned, size)


def xdyna(
    networks,
    prompts,
    prepared: Prepared,
    how: Preparation,
    settings: XDynaSettings,
    placed: Placed,
    *,
    faces: FaceMaps | None = None,
    on_step: OnStep | None = None,
) -> Iterator[np.ndarray]:
    """Frames uint8 RGB [H, W, 3] of X-Dyna, as they are finished. prompts: features of (prompt, negative)."""
    from ..video_core.images import to_bytes
    from ..xdyna_core.pipeline import Inputs, animate

    skeletons = xdyna_skeletons(prepared, how, settings.size)
    inputs = Inputs(
        reference=prepared.reference, poses=skeletons, faces=faces, prompt=prompts[0], negative=prompts[1]
    )
    for chunk in animate(networks, inputs, settings, placed, on_step=on_step):
        yield from to_bytes(chunk)


# ---- results -------------------------------------------------------------------------------------------


def sheet(prepared: Prepared, skeletons: Sequence[np.ndarray], result: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 RGB contact sheet: reference | skeleton | result."""
    return contact_sheet({"reference": [prepared.reference], "skeleton": skeletons, "result": result})


def strip(
    prepared: Prepared, skeletons: Sequence[np.ndarray], frames: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """Frames beside what they were made from: reference, skeleton, result (UniAnimate spec 2.5)."""
    from ..video_core.images import resize

    for frame, skeleton in zip(frames, skeletons, strict=False):
        size = (frame.shape[1], frame.shape[0])
        beside = [resize(picture, size, "bilinear") for picture in (prepared.reference, skeleton)]
        yield np.concatenate([*beside, frame], axis=1)


def kept_for_sheet(frames: Iterable[np.ndarray], keep: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, passed on; copies of about a quarter of a megapixel go into ``keep``."""
    for frame in frames:
        step = max(1, round((frame.shape[0] * frame.shape[1] / 250_000) ** 0.5))
        keep.append(np.ascontiguousarray(frame[::step, ::step]))
        yield frame
