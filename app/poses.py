"""Any driving source to poses: pose files, videos, pictures, and pose pictures that somebody drew already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..pose_align.interchange import load_poses
from ..pose_align.pose import PoseError, PoseSequence
from . import state

if TYPE_CHECKING:
    from ..pose_align.detector import Detection, PoseDetector
    from ..video_core.video import VideoSource

OnFrame = Callable[[int], None]
"""(frames done); may raise to stop."""

REFERENCE_DRAWING = "ref_pose.jpg"
"""The file of a folder of ready-made pose pictures that holds the reference's (UniAnimate spec 2.1)."""

POSE_FILES = (".npz", ".json")
DEMO = "demo"
DETECTORS = ("auto", "dwpose", "mediapipe", DEMO)


@dataclass(frozen=True)
class PoseSettings:
    """How poses are read from frames.

    person: largest, leftmost, rightmost, centre, first, or a number from 0 counted from the left.
    max_gap: joints lost for at most this many frames are filled in; 0 fills none. smooth: One-Euro filter.
    interval, max_frames: every n-th frame, at most so many; None takes all.
    """

    person: str | int = "largest"
    max_gap: int = 5
    smooth: bool = False
    interval: int = 1
    max_frames: int | None = None


@dataclass(frozen=True)
class Drawings:
    """Ready-made pose pictures: uint8 RGB [h, w, 3] each, and the reference's own, if there is one."""

    frames: Sequence[np.ndarray]
    reference: np.ndarray | None = None
    fps: float | None = None


def open_detector(name: str = "auto", folders: Sequence[Path] = (), device: str = "auto") -> PoseDetector:
    """A pose detector by name (``DETECTORS``); "demo" knows the drawn inputs only."""
    if name == DEMO:
        from ..demo.detector import DemoDetector

        return DemoDetector()
    from ..pose_align.detector import load_detector

    return load_detector(name, folders, device=device)


def find(
    frames: Iterable[np.ndarray],
    detector: PoseDetector,
    settings: PoseSettings,
    *,
    fps: float | None = None,
    on_frame: OnFrame | None = None,
) -> PoseSequence:
    """One person's poses in frames uint8 RGB [H, W, 3], which are read as a stream and not kept.

    fps: of the frames given. ``settings.interval`` and ``max_frames`` are the reader's business.
    Raises PoseError where nobody was found.
    """
    from ..pose_align.track import fill_gaps, smooth, track

    size: list[tuple[int, int]] = []
    found: list[list[Detection]] = []
    for people in detector.stream(_measured(frames, size)):
        found.append(people)
        if on_frame is not None:
            on_frame(len(found))
    if not size:
        raise PoseError("The clip has no frames, so there is no pose to find; choose another video.")
    poses = track(found, size[0], fps, choose=_choice(settings.person))
    poses = fill_gaps(poses, settings.max_gap) if settings.max_gap else poses
    return smooth(poses) if settings.smooth else poses


def find_in_video(
    video: VideoSource,
    detector: PoseDetector,
    settings: PoseSettings,
    *,
    cache: state.PoseCache | None = None,
    content: str = "",
    on_frame: OnFrame | None = None,
) -> PoseSequence:
    """Poses of a video, from the cache where the same bytes were read with the same settings before.

    content: what identifies the video (``state.content_of``); without it nothing is cached.
    """
    key = state.key_of(content, asdict(settings), detector.name)
    known = cache.find(key) if cache is not None and content else None
    if known is not None:
        return known
    fps = None if video.fps is None else float(video.fps) / settings.interval
    frames = video.frames(settings.interval, settings.max_frames)
    poses = find(frames, detector, settings, fps=fps, on_frame=on_frame)
    if cache is not None and content:
        cache.store(key, poses)
    return poses


def read(
    source: Path,
    settings: PoseSettings,
    detector: Callable[[], PoseDetector],
    *,
    cache: state.PoseCache | None = None,
    on_frame: OnFrame | None = None,
) -> PoseSequence:
    """Poses of a pose file, an OpenPose folder, a video, a picture or a folder of pictures.

    detector: called only where frames have to be looked at.
    """
    if is_pose_file(source):
        return load_poses(source)[_every(settings)]
    from ..video_core.video import open_video

    content = state.content_of(source) if cache is not None else ""
    return find_in_video(
        open_video(source), detector(), settings, cache=cache, content=content, on_frame=on_frame
    )


def of_picture(picture: np.ndarray, detector: PoseDetector, person: str | int = "largest") -> PoseSequence:
    """The pose of the person in a reference picture uint8 RGB [H, W, 3], one frame."""
    try:
        return find([picture], detector, PoseSettings(person, max_gap=0))
    except PoseError as error:
        raise PoseError(
            f"No person was found in the reference picture ({picture.shape[1]} x {picture.shape[0]}) by "
            f"{detector.name}. Take a picture that shows one person clearly, or give a pose file."
        ) from error


def is_pose_file(source: Path) -> bool:
    """Whether a path is a pose file, or a folder of OpenPose's JSON files."""
    if source.is_dir():
        return any(source.glob("*.json"))
    return source.suffix.lower() in POSE_FILES


def is_drawn(source: Path) -> bool:
    """Whether a folder holds ready-made pose pictures, known by the reference's drawing among them."""
    return source.is_dir() and (source / REFERENCE_DRAWING).is_file()


def read_drawn(source: Path, settings: PoseSettings) -> Drawings:
    """Ready-made pose pictures of a folder or a video, drawn in the order of their names or in time.

    The reference's drawing (``ref_pose.jpg``) is set apart from the frames.
    """
    from ..video_core.images import read_picture
    from ..video_core.video import open_video

    video = open_video(source, skip=(REFERENCE_DRAWING,))
    drawing = source / REFERENCE_DRAWING
    reference = read_picture(drawing) if is_drawn(source) else None
    fps = None if video.fps is None else float(video.fps) / settings.interval
    return Drawings(list(video.frames(settings.interval, settings.max_frames)), reference, fps)


def _every(settings: PoseSettings) -> slice:
    stop = None if settings.max_frames is None else settings.interval * settings.max_frames
    return slice(0, stop, settings.interval)


def _choice(person: str | int) -> str | int:
    return int(person) if isinstance(person, str) and person.isdigit() else person


def _measured(frames: Iterable[np.ndarray], size: list[tuple[int, int]]) -> Iterator[np.ndarray]:
    """The frames, all of the first one's size, whose (width, height) is put into ``size``."""
    for number, frame in enumerate(frames):
        here = (frame.shape[1], frame.shape[0])
        if not size:
            size.append(here)
        if here != size[0]:
            raise PoseError(
                f"Frame {number} is {here[0]} x {here[1]} pixels, the first {size[0][0]} x {size[0][1]}; "
                "a clip has frames of one size."
            )
        yield frame
