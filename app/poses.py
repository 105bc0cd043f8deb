"""Any driving source to poses: pose files, videos, pictures, and pose pictures that somebody drew already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..pose_align.detector import available_backends, load_detector
from ..pose_align.interchange import load_poses
from ..pose_align.pose import PoseError, PoseSequence
from ..pose_align.shown import shown
from . import state

if TYPE_CHECKING:
    from ..pose_align.detector import Detection, PoseDetector
    from ..video_core.video import VideoSource

OnFrame = Callable[[int, int | None], None]
"""(frames done, frames in all, perhaps an estimate, None where nobody knows); may raise to stop."""

REFERENCE_DRAWING = "ref_pose.jpg"
"""The file of a folder of ready-made pose pictures that holds the reference's (UniAnimate spec 2.1)."""

POSE_FILES = (".npz", ".json")
MOST_DIGITS = 9
"""Of a person's number."""

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

    def __post_init__(self) -> None:
        if self.interval < 1 or (self.max_frames is not None and self.max_frames < 1):
            raise ValueError(
                "Interval and number of frames count from 1 up; "
                f"got interval {shown(self.interval)}, number {shown(self.max_frames)}."
            )
        if isinstance(self.person, str) and self.person.isdecimal() and len(self.person) > MOST_DIGITS:
            raise ValueError(f"There is no person {shown(self.person)}: from the left they are 0, 1, 2, ...")

    @property
    def choice(self) -> str | int:
        """``person`` as ``track`` takes it: a number is one, also where it came as text."""
        numbered = isinstance(self.person, str) and self.person.isdecimal()
        return int(self.person) if numbered else self.person


@dataclass(frozen=True)
class Drawings:
    """Ready-made pose pictures: uint8 RGB [h, w, 3] each, and the reference's own, if there is one."""

    frames: Sequence[np.ndarray]
    reference: np.ndarray | None = None
    fps: float | None = None


# ---- detectors -----------------------------------------------------------------------------------------


def open_detector(name: str = "auto", folders: Sequence[Path] = (), device: str = "auto") -> PoseDetector:
    """A pose detector by name (``DETECTORS``); "demo" knows the drawn inputs only."""
    if name == DEMO:
        from ..demo.detector import DemoDetector

        return DemoDetector()
    return load_detector(name, folders, device=device)


@dataclass
class LateDetector:
    """A ``PoseDetector`` that is opened by the first frame, so that poses from the cache need none."""

    choice: str = "auto"
    folders: tuple[Path, ...] = ()
    device: str = "auto"

    @cached_property
    def opened(self) -> PoseDetector:
        """The detector itself; see ``open_detector`` for what it raises."""
        return open_detector(self.choice, self.folders, self.device)

    @cached_property
    def identity(self) -> str:
        """Which backend it is, with which weights, found without loading it; empty where there is none."""
        if self.choice == DEMO:
            return DEMO
        usable = {state.name: state.detail for state in available_backends(self.folders) if state.usable}
        name = next(iter(usable), "") if self.choice == "auto" else self.choice
        if name not in usable:
            return ""
        if name == "mediapipe":
            return f"mediapipe {metadata.version('mediapipe')}"
        return " ".join((name, usable[name], *_stamps(self.folders)))

    @property
    def name(self) -> str:
        """See ``PoseDetector``."""
        return self.opened.name

    @property
    def provider(self) -> str:
        """See ``PoseDetector``."""
        return self.opened.provider

    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[list[Detection]]:
        """See ``PoseDetector.stream``."""
        return self.opened.stream(frames)

    def detect(self, frames: Iterable[np.ndarray]) -> list[list[Detection]]:
        """See ``PoseDetector.detect``."""
        return self.opened.detect(frames)


def _stamps(folders: Sequence[Path]) -> list[str]:
    """Size and time of DWPose's two files, which tell an exchanged file without reading it."""
    from ..pose_align.dwpose_files import find_models

    files = find_models(folders)
    stats = [file.stat() for file in (files.person, files.pose)]
    return [f"{stat.st_size} {stat.st_mtime_ns}" for stat in stats]


def _identity(detector: PoseDetector) -> str:
    return getattr(detector, "identity", detector.name)


# ---- frames to poses -----------------------------------------------------------------------------------


def find(
    frames: Iterable[np.ndarray],
    detector: PoseDetector,
    settings: PoseSettings,
    *,
    fps: float | None = None,
    count: int | None = None,
    on_frame: OnFrame | None = None,
) -> PoseSequence:
    """One person's poses in frames uint8 RGB [H, W, 3], which are read as a stream and not kept.

    fps, count: of the frames given; the count is for ``on_frame`` only. ``settings.interval`` and
    ``max_frames`` are the reader's business. Raises PoseError where nobody was found.
    """
    return refined(_followed(frames, detector, settings, fps, count, on_frame), settings)


def refined(poses: PoseSequence, settings: PoseSettings) -> PoseSequence:
    """Poses as they were seen, with gaps filled and smoothed as the settings say."""
    from ..pose_align.track import fill_gaps, smooth

    poses = fill_gaps(poses, settings.max_gap) if settings.max_gap else poses
    return smooth(poses) if settings.smooth else poses


def _followed(
    frames: Iterable[np.ndarray],
    detector: PoseDetector,
    settings: PoseSettings,
    fps: float | None,
    count: int | None,
    on_frame: OnFrame | None,
) -> PoseSequence:
    """The chosen person as it was seen."""
    from ..pose_align.track import track

    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise PoseError("The clip has no frames, so there is no pose to find; choose another video.")
    size = first.shape[1], first.shape[0]

    def people() -> Iterator[list[Detection]]:
        for number, found in enumerate(detector.stream(_of_size(chain([first], frames), size)), start=1):
            if on_frame is not None:
                on_frame(number, count)
            yield found

    return track(people(), size, fps, choose=settings.choice)


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

    content: what identifies the video (``state.content_of``); without it nothing is cached. What is cached
    is the person as it was seen: gaps and smoothing can be set anew without looking again.
    """
    interval, most = settings.interval, settings.max_frames
    count = -(-video.count // interval)

    def look() -> PoseSequence:
        return _followed(
            video.frames(interval, most),
            detector,
            settings,
            None if video.fps is None else float(video.fps) / interval,
            count if most is None else min(count, most),
            on_frame,
        )

    key = (content, settings.choice, interval, most, _identity(detector))
    return refined(_remembered(look, cache if content and key[-1] else None, *key), settings)


def of_picture(
    picture: np.ndarray,
    detector: PoseDetector,
    person: str | int = "largest",
    *,
    cache: state.PoseCache | None = None,
) -> PoseSequence:
    """The pose of the person in a reference picture uint8 RGB [H, W, 3], one frame."""
    from ..pose_align.track import track

    settings, identity = PoseSettings(person), _identity(detector)

    def look() -> PoseSequence:
        people = detector.detect([picture])
        size = (picture.shape[1], picture.shape[0])
        if not any(people):
            raise PoseError(
                f"No person was found in the reference picture ({size[0]} x {size[1]}) by {detector.name}. "
                "Take a picture that shows one person clearly, or give a pose file."
            )
        return track(people, size, choose=settings.choice)

    return _remembered(look, cache if identity else None, picture, person, identity)


def _remembered(
    look: Callable[[], PoseSequence], cache: state.PoseCache | None, *key: object
) -> PoseSequence:
    """What ``look`` finds, or found before under the same key."""
    if cache is None:
        return look()
    name = state.key_of(*key)
    poses = cache.find(name)
    if poses is None:
        poses = look()
        cache.store(name, poses)
    return poses


def _of_size(frames: Iterable[np.ndarray], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The frames; PoseError at the first that is not of that (width, height), the first one's."""
    for number, frame in enumerate(frames):
        here = (frame.shape[1], frame.shape[0])
        if here != size:
            raise PoseError(
                f"Frame {number} is {here[0]} x {here[1]} pixels, the first {size[0]} x {size[1]}; "
                "a clip has frames of one size."
            )
        yield frame


WIDEST_GLANCE = 4
"""Widths of a skeleton's picture in its heights: a file may claim a canvas of 10,000,000 x 1 pixels."""


def at_a_glance(poses: PoseSequence, frames: int = 4, height: int = 320) -> np.ndarray:
    """A few of the skeletons in their own colours, side by side: uint8 RGB [height, W, 3]."""
    from ..pose_align.draw import UNIANIMATE, draw
    from .grids import columns

    chosen = np.unique(np.linspace(0, len(poses) - 1, frames).round().astype(int))
    width = max(1, round(height * min(poses.canvas[0] / poses.canvas[1], WIDEST_GLANCE)))
    style = UNIANIMATE.replace(reverse_channels=False)
    return columns(list(draw(poses[chosen], style, (width, height), scale_strokes=True)))


# ---- files to poses ------------------------------------------------------------------------------------


def read(
    source: Path,
    settings: PoseSettings,
    detector: PoseDetector,
    *,
    cache: state.PoseCache | None = None,
    on_frame: OnFrame | None = None,
) -> PoseSequence:
    """Poses of a pose file, an OpenPose folder, a video, a picture or a folder of pictures.

    detector: asked only where frames have to be looked at.
    """
    if is_pose_file(source):
        return every(load_poses(source), settings)
    from ..video_core.video import open_video

    video = open_video(source)
    content = state.content_of(source) if cache is not None else ""
    return find_in_video(video, detector, settings, cache=cache, content=content, on_frame=on_frame)


def every(poses: PoseSequence, settings: PoseSettings) -> PoseSequence:
    """Every n-th of the poses, at most so many as the settings say, at the frame rate that is left."""
    chosen = poses[:: settings.interval][: settings.max_frames]
    return replace(chosen, fps=None if poses.fps is None else poses.fps / settings.interval)


def is_pose_file(source: Path) -> bool:
    """Whether a path is a pose file, or a folder of OpenPose's JSON files."""
    if source.is_dir():
        return any(source.glob("*_keypoints.json")) or (any(source.glob("*.json")) and not _pictures(source))
    return source.suffix.lower() in POSE_FILES


def is_drawn(source: Path) -> bool:
    """Whether a folder holds ready-made pose pictures, known by the reference's drawing among them."""
    return source.is_dir() and (source / REFERENCE_DRAWING).is_file()


def read_drawn(source: Path, settings: PoseSettings, clips: Path | None = None) -> Drawings:
    """Ready-made pose pictures of a folder or a video, in the order of their names or in time.

    The reference's drawing (``ref_pose.jpg``) is set apart from the frames. clips: folder for what of a long clip
    has no place in memory; None holds all of it there.
    """
    from ..video_core.images import read_picture
    from ..video_core.reels import PictureReel
    from ..video_core.video import open_video

    video = open_video(source, skip=(REFERENCE_DRAWING,))
    reference = read_picture(source / REFERENCE_DRAWING) if is_drawn(source) else None
    fps = None if video.fps is None else float(video.fps) / settings.interval
    frames = PictureReel(clips)
    for frame in video.frames(settings.interval, settings.max_frames):
        frames.append(frame)
    return Drawings(frames, reference, fps)


def _pictures(folder: Path) -> bool:
    from ..video_core.images import PICTURE_SUFFIXES

    return any(file.suffix.lower() in PICTURE_SUFFIXES for file in folder.iterdir())
