"""Poses to and from other programs: POSE_KEYPOINT, OpenPose JSON files, and pose files of our own.

POSE_KEYPOINT is a list with one dict per frame, in two dialects that share the name (peers spec 3b): that of
comfyui_controlnet_aux ("aux") and that of ComfyUI's own SDPose nodes ("core", with feet). "openpose" is what
the OpenPose program writes (BODY_25, feet among them). All are read alike; what had to be guessed or mended
is said in notes. Every frame that we write carries our own fields under ``EXTRA``, which other readers
ignore, so that our poses come back exactly as they went.
"""

from __future__ import annotations

import glob
import io
import json
import logging
import os
import re
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .detector import Detection
from .pose import FARTHEST, FASTEST, POINTS, VISIBLE, PoseError, PoseSequence, possible, usable
from .shown import cut, shown
from .skeleton import FACE, FEET, HANDS, WRISTS, Joint
from .track import Choice, track

logger = logging.getLogger(__name__)

EXTRA = "xdua_poses"
"""The key of a frame under which our own fields travel."""
VERSION = 1
FILE_FORMAT = "xdua-poses"
FILE_SUFFIXES = (".npz", ".json")
NPZ_ARRAYS = ("points", "scores", "origins")

Frame = dict[str, Any]

_MID_HIP = -1
BODY_18 = tuple(range(18))
BODY_25 = (*range(8), _MID_HIP, *range(8, 24))
"""OpenPose's 25 points in our numbers; the middle of the hips is not one of ours."""
FACE_70 = (*range(FACE.start, FACE.stop), Joint.R_EYE, Joint.L_EYE)
"""OpenPose's face: the 68 points, then the pupils, for which the eyes stand in."""
BODIES = {3 * len(points): points for points in (BODY_18, BODY_25)}
"""The body's order by the length of its flat list."""

NORMALISED_UP_TO = 2.0
"""A clip without any coordinate above this is in fractions of the canvas, not in pixels."""
UNCHANGED = 1e-3
"""Pixels by which another program may have rounded our coordinates without having edited them."""

UNPACKED_LIMIT = 1 << 29
"""Bytes of an unpacked .npz: 190,000 frames. A small archive can claim any size."""

FILE_LIMIT = UNPACKED_LIMIT
"""Bytes of an .npz that is read."""

TEXT_LIMIT = 3 << 26
"""Bytes of JSON that are read, of a folder's files together: 200 MB, which take up to 27 times that in memory.
10,000 frames with hands and face take 35 MB as OpenPose writes them, 165 MB with our own fields, and 85 MB as a pose
file of ours."""

DETAILS_LIMIT = 1 << 16
"""Bytes of an .npz's details, which are a hundred letters: text of a few hundred kB can fill the memory."""

LEFT_AFTER = 60.0
"""Seconds after which a half-written file is nobody's: a pose file is written at once."""

LONGEST_REASON = 200
"""Characters of another library's reason in an error."""

DAMAGE = (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError)
"""What Python and numpy raise over values that are not what a format promises."""


@dataclass(frozen=True)
class Dialect:
    """body: the points of ``pose_keypoints_2d``; feet: a key of its own for the six foot points."""

    body: tuple[int, ...]
    feet: bool = False
    version: float | None = None


DIALECTS = {
    "aux": Dialect(BODY_18),
    "core": Dialect(BODY_18, feet=True),
    "openpose": Dialect(BODY_25, version=1.3),
}
HAND_KEYS = {side: f"hand_{side}_keypoints_2d" for side in HANDS}
BODY_KEY, FACE_KEY, FEET_KEY = "pose_keypoints_2d", "face_keypoints_2d", "foot_keypoints_2d"


@dataclass(frozen=True)
class Imported:
    """Poses from another program, and a sentence for everything that was guessed, mended or missing."""

    poses: PoseSequence
    notes: tuple[str, ...] = ()


def to_openpose(
    poses: PoseSequence | Sequence[PoseSequence], *, dialect: str = "aux", real_scores: bool = False
) -> list[Frame]:
    """POSE_KEYPOINT: one dict per frame, coordinates in pixels of the one canvas, flat lists of [x, y, c].

    poses:       one person, or several of equal length and canvas.
    real_scores: the detector's scores as c. The default is 1 for seen and 0 for missing points, because the
                 aux nodes drop every point with c < 1; the true scores travel under ``EXTRA`` either way.
    Absent hands and faces are zeros, never None, on which core's drawing stops. A frame without anybody has
    an empty list of people.
    """
    if dialect not in DIALECTS:
        raise PoseError(f"A POSE_KEYPOINT dialect is one of {', '.join(DIALECTS)}; got {shown(dialect)}.")
    people = [poses] if isinstance(poses, PoseSequence) else list(poses)
    if not people:
        raise PoseError("There is nobody to write: give one pose sequence or several.")
    if len({(person.canvas, len(person)) for person in people}) > 1:
        sizes = ", ".join(f"{len(p)} frames of {p.canvas[0]}x{p.canvas[1]}" for p in people)
        raise PoseError(
            f"People in one POSE_KEYPOINT share frames and canvas; got {sizes}. Align them first."
        )
    style, (width, height) = DIALECTS[dialect], people[0].canvas
    return [
        {
            **({"version": style.version} if style.version else {}),
            "people": [_person(p, i, style, real_scores) for p in people if p.visible()[i].any()],
            "canvas_height": height,
            "canvas_width": width,
            EXTRA: {
                "version": VERSION,
                "fps": people[0].fps,
                "dialect": dialect,
                "real_scores": real_scores,
                "people": [_own_fields(person, i) for person in people],
            },
        }
        for i in range(len(people[0]))
    ]


def from_openpose(
    frames: Iterable[Frame] | Frame,
    *,
    choose: Choice = "largest",
    canvas: tuple[int, int] | None = None,
    fps: float | None = None,
) -> Imported:
    """Poses from POSE_KEYPOINT frames of any dialect, or from the contents of OpenPose's files.

    choose: which of several people, as ``track.track`` has it: largest, leftmost, ..., or a number from the
            left.
    canvas: (width, height) where the frames do not say, as OpenPose's own files do not.
    fps:    frames per second, which the format does not hold; our own exports do.

    Everything comes out in pixels of one canvas, that of the first frame. Raises PoseError with a sentence
    where frames are malformed, show animals, or nobody.
    """
    if not isinstance(frames, Iterable):
        raise PoseError(f"Pose keypoints are a list with one dict per frame; got a {type(frames).__name__}.")
    frames = [frames] if isinstance(frames, Mapping) else list(frames)
    canvases = _canvases(frames, canvas)
    notes: list[str] = []
    crowd = [_read_frame(frame, size) for frame, size in zip(frames, canvases, strict=True)]
    crowd = _in_pixels(crowd, canvases, notes)
    crowd = _on_one_canvas(crowd, canvases, notes)
    chosen = _choose(crowd, choose, canvases[0])
    _note_missing_feet(chosen, notes)
    chosen = _hands_to_their_wrists(chosen, notes)
    rates = [rate for frame in frames if _is_between(rate := _own(frame).get("fps"), 0, FASTEST)]
    poses = PoseSequence(
        np.stack([person.points for person in chosen]),
        np.stack([person.scores for person in chosen]),
        canvases[0],
        next(iter(rates), None) if fps is None else fps,
        max(person.person_id for person in chosen),
        np.stack([person.origins for person in chosen]),
    )
    return Imported(poses, tuple(notes))


def save_openpose(
    poses: PoseSequence | Sequence[PoseSequence],
    path: str | Path,
    *,
    dialect: str = "aux",
    real_scores: bool = False,
) -> None:
    """Write OpenPose JSON: one list in a file that ends in .json, else a folder with one file per frame.

    Files of an earlier, longer clip that bear this folder's name are deleted; they would be read as its end.
    """
    frames, path = to_openpose(poses, dialect=dialect, real_scores=real_scores), Path(path)
    if path.suffix.lower() == ".json":
        _write(path, json.dumps(frames).encode())
        return
    path.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        _write(path / _frame_name(path, i), json.dumps(frame).encode())
    for file in list(path.iterdir()):
        number = _number_of_frame(path, file)
        if number is not None and number >= len(frames):
            file.unlink(missing_ok=True)


def _frame_name(folder: Path, number: int) -> str:
    return f"{folder.name}_{number:012d}_keypoints.json"


def _number_of_frame(folder: Path, file: Path) -> int | None:
    """The number of a file that ``_frame_name`` named; None for all others."""
    digits = file.name.removeprefix(f"{folder.name}_").removesuffix("_keypoints.json")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        return None
    return int(digits) if file.name == _frame_name(folder, int(digits)) else None


def load_openpose(
    path: str | Path,
    *,
    choose: Choice = "largest",
    canvas: tuple[int, int] | None = None,
    fps: float | None = None,
) -> Imported:
    """Read OpenPose JSON: a file with one frame or a list of frames, or a folder with one file per frame.

    A folder's files are taken in the order of the numbers in their names, then of the names. For the rest see
    ``from_openpose``.
    """
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = sorted(path.glob("*.json"), key=_by_number)
        _check_size(path, sum(file.stat().st_size for file in files), TEXT_LIMIT)
    if not files:
        raise PoseError(f"The folder {path} holds no .json files with pose keypoints.")
    frames = [frame for file in files for frame in _as_frames(file, _json_in(file))]
    with _named(path):
        return from_openpose(frames, choose=choose, canvas=canvas, fps=fps)


def _by_number(file: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", file.stem)], file.name


def check_pose_file(path: Path) -> None:
    """Raise PoseError for a name that ``save_poses`` cannot write, before anything is looked for."""
    if path.suffix.lower() not in FILE_SUFFIXES:
        raise PoseError(f"A pose file ends in .npz or .json; got {path.name}.")


def save_poses(poses: PoseSequence, path: str | Path) -> None:
    """Write a pose file that ``load_poses`` gives back exactly: .npz (small, quick) or .json (readable)."""
    path = Path(path)
    check_pose_file(path)
    details = {
        "format": FILE_FORMAT,
        "version": VERSION,
        "canvas": list(poses.canvas),
        "fps": poses.fps,
        "person_id": poses.person_id,
    }
    arrays = {name: getattr(poses, name) for name in NPZ_ARRAYS}
    if path.suffix.lower() == ".npz":
        stream = io.BytesIO()
        np.savez_compressed(stream, details=np.array(json.dumps(details)), **arrays)
        _write(path, stream.getvalue())
    else:
        lists = {name: values.tolist() for name, values in arrays.items()}
        content = json.dumps({**details, **lists}).encode()
        # What could not be read again.
        _check_size(path, len(content), TEXT_LIMIT)
        _write(path, content)


def load_poses(path: str | Path) -> PoseSequence:
    """Read a pose file of ours; OpenPose JSON, a file or a folder, is taken too and its notes are logged."""
    path = Path(path)
    if path.is_dir():
        return _logged(path, load_openpose(path))
    if path.suffix.lower() == ".npz":
        return _from_fields(path, _npz_fields(path))
    content = _json_in(path)
    if isinstance(content, dict) and "format" in content:
        return _from_fields(path, content)
    frames = _as_frames(path, content)
    with _named(path):
        imported = from_openpose(frames)
    return _logged(path, imported)


def _person(poses: PoseSequence, i: int, dialect: Dialect, real_scores: bool) -> dict[str, list[float]]:
    seen = poses.visible()[i]
    confidence = poses.scores[i] if real_scores else np.ones(POINTS, np.float32)
    triples = np.where(seen[:, None], np.column_stack([poses.points[i], confidence]), 0.0)
    middle = triples[[Joint.R_HIP, Joint.L_HIP]].mean(0)
    both_hips = triples[Joint.R_HIP, 2] > 0 and triples[Joint.L_HIP, 2] > 0
    extended = np.vstack([triples, middle if both_hips else np.zeros(3)])  # index -1 is _MID_HIP
    return {
        BODY_KEY: extended[list(dialect.body)].ravel().tolist(),
        **({FEET_KEY: triples[FEET].ravel().tolist()} if dialect.feet else {}),
        FACE_KEY: triples[list(FACE_70)].ravel().tolist(),
        **{HAND_KEYS[side]: triples[hand].ravel().tolist() for side, hand in HANDS.items()},
    }


def _own_fields(poses: PoseSequence, i: int) -> dict[str, Any]:
    return {
        "person_id": poses.person_id,
        "points": poses.points[i].ravel().tolist(),
        "scores": poses.scores[i].tolist(),
        "origins": poses.origins[i].tolist(),
    }


@dataclass(frozen=True)
class _Person:
    """One person in one frame; own: taken from our own fields, so nothing in it needs mending."""

    points: np.ndarray
    scores: np.ndarray
    origins: np.ndarray
    own: bool = False
    person_id: int = 0

    def scaled(self, factor: tuple[float, float]) -> _Person:
        return replace(self, points=self.points * factor)

    def with_hands_exchanged(self) -> _Person:
        order = np.arange(POINTS)
        order[HANDS["left"]], order[HANDS["right"]] = order[HANDS["right"]], np.r_[HANDS["left"]]
        return replace(
            self, points=self.points[order], scores=self.scores[order], origins=self.origins[order]
        )


def _nobody() -> _Person:
    return _Person(np.zeros((POINTS, 2)), np.zeros(POINTS, np.float32), np.zeros(POINTS, np.uint8), own=True)


def _canvases(frames: Sequence[Frame], given: tuple[int, int] | None) -> list[tuple[int, int]]:
    """(width, height) of every frame: its own, else the caller's, else the first that any frame names."""
    if not frames:
        raise PoseError("There are no frames in these pose keypoints.")
    for number, frame in enumerate(frames):
        if not isinstance(frame, Mapping):
            kind = type(frame).__name__
            raise PoseError(f"Frame {number} of the pose keypoints is a {kind}, expected a dict.")
        if "animals" in frame:
            raise PoseError(
                f"Frame {number} holds animals (AP10K keypoints), whose skeleton does not fit a person. "
                "Use a detector for people, such as DWPose, and its POSE_KEYPOINT."
            )
    named = [_named_canvas(frame) for frame in frames]
    fallback = given or next((size for size in named if size), None)
    if fallback is None:
        raise PoseError(
            "These pose keypoints do not say how large their pictures were (canvas_width and canvas_height "
            "are missing, or no sizes); give the width and height of the video they were made from."
        )
    return [size or fallback for size in named]


def _named_canvas(frame: Frame) -> tuple[int, int] | None:
    size = frame.get("canvas_width"), frame.get("canvas_height")
    sensible = all(_is_between(side, 0, FARTHEST) and side >= 1 for side in size)
    return (int(size[0]), int(size[1])) if sensible else None


def _is_between(value: Any, low: float, high: float) -> bool:
    """Whether a value from a file is a number above ``low``, at most ``high``."""
    return isinstance(value, int | float) and low < value <= high


def _own(frame: Frame) -> dict[str, Any]:
    """Our own fields of a frame, empty where there are none that this version can read."""
    own = frame.get(EXTRA)
    return own if isinstance(own, dict) and own.get("version") == VERSION else {}


def _read_frame(frame: Frame, canvas: tuple[int, int]) -> list[_Person]:
    people = frame.get("people")
    people = [] if people is None else people
    if not isinstance(people, list | tuple):
        raise PoseError(f"'people' in a frame of pose keypoints is a list; got a {type(people).__name__}.")
    restored = _restored(frame, people, canvas)
    return [_read_person(person) for person in people] if restored is None else restored


def _restored(frame: Frame, people: list[Any], canvas: tuple[int, int]) -> list[_Person] | None:
    """The people from our own fields; None without them, or where another program moved the keypoints."""
    own = _own(frame)
    try:
        sequences = [
            PoseSequence(
                np.reshape(_numbers(person["points"]), (1, POINTS, 2)),
                np.reshape(_numbers(person["scores"]), (1, POINTS)),
                canvas,
                person_id=int(person["person_id"]),
                origins=np.reshape(_numbers(person["origins"]), (1, POINTS)),
            )
            for person in own["people"]
        ]
        written = to_openpose(sequences, dialect=own["dialect"], real_scores=own["real_scores"])[0]["people"]
        if not _same(written, people):
            return None
    except DAMAGE:
        return None
    return [_Person(p.points[0], p.scores[0], p.origins[0], True, p.person_id) for p in sequences]


def _same(ours: list[dict], theirs: list[dict]) -> bool:
    """Whether all keypoint lists agree up to rounding."""
    if len(ours) != len(theirs):
        return False
    pairs = [(a[key], b.get(key)) for a, b in zip(ours, theirs, strict=True) for key in a]
    return all(
        b is not None and np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=0, atol=UNCHANGED)
        for a, b in pairs
    )


def _read_person(person: Any) -> _Person:
    """A person of any dialect, in whatever unit it is written."""
    if not isinstance(person, Mapping):
        raise PoseError(f"A person in pose keypoints is a dict of flat lists; got a {type(person).__name__}.")
    triples = np.zeros((POINTS, 3))
    body = _triples(person, BODY_KEY, sorted(BODIES))
    if len(body):
        order = BODIES[3 * len(body)]
        ours = [place for place, point in enumerate(order) if point != _MID_HIP]
        triples[[order[place] for place in ours]] = body[ours]
    face = _triples(person, FACE_KEY, [3 * 68, 3 * 70])
    if len(face):
        triples[FACE] = face[:68]
    for key, part in ((FEET_KEY, FEET), *((HAND_KEYS[side], hand) for side, hand in HANDS.items())):
        values = _triples(person, key, [3 * (part.stop - part.start)])
        if len(values):
            triples[part] = values
    known = usable(triples[:, :2]) & possible(triples[:, 2])
    triples = np.where(known[:, None], triples, 0.0)
    return _Person(triples[:, :2], triples[:, 2].astype(np.float32), np.zeros(POINTS, np.uint8))


def _triples(person: Mapping[str, Any], key: str, lengths: list[int]) -> np.ndarray:
    """[n, 3] of x, y, c from a flat or nested list; [0, 3] where the part is absent, None or empty."""
    values = person.get(key)
    if values is None:
        return np.zeros((0, 3))
    try:
        flat = _numbers(values).ravel()
    except DAMAGE as error:
        reason = cut(str(error), LONGEST_REASON)
        raise PoseError(f"{key} must be a list of numbers x, y, c, x, y, c, ...: {reason}.") from error
    if flat.size and flat.size not in lengths:
        wanted = " or ".join(str(length) for length in lengths)
        raise PoseError(f"{key} has {flat.size} numbers; expected {wanted} (x, y, c for every point).")
    return flat.reshape(-1, 3)


def _numbers(values: Any) -> np.ndarray:
    """float64 of nested lists of numbers or an array; ValueError for anything else, text that reads 1 too."""
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "fiub":
        raise ValueError("there are values among the numbers that are none, or too large")
    return array.astype(np.float64, copy=False)


def _in_pixels(
    crowd: list[list[_Person]], canvases: list[tuple[int, int]], notes: list[str]
) -> list[list[_Person]]:
    """Foreign coordinates from 0-1 to pixels, where the whole clip has none that a pixel could be."""
    foreign = [person for people in crowd for person in people if not person.own]
    largest = max((np.abs(person.points).max() for person in foreign), default=0.0)
    if not 0 < largest <= NORMALISED_UP_TO:
        return crowd
    notes.append("The coordinates are fractions of the canvas; they were multiplied by its width and height.")
    return [
        [person if person.own else person.scaled(size) for person in people]
        for people, size in zip(crowd, canvases, strict=True)
    ]


def _on_one_canvas(
    crowd: list[list[_Person]], canvases: list[tuple[int, int]], notes: list[str]
) -> list[list[_Person]]:
    """Every frame on the canvas of the first, the only one that core's drawing looks at."""
    width, height = canvases[0]
    if len(set(canvases)) == 1:
        return crowd
    notes.append(
        f"The frames have canvases of different sizes; all were brought to the first, {width}x{height}."
    )
    return [
        [person.scaled((width / w, height / h)) if (w, h) != (width, height) else person for person in people]
        for people, (w, h) in zip(crowd, canvases, strict=True)
    ]


def _choose(crowd: list[list[_Person]], choose: Choice, canvas: tuple[int, int]) -> list[_Person]:
    """One person in every frame, followed through time; nobody where that person is not in the frame."""
    if not any(person.own or (person.scores > VISIBLE).any() for people in crowd for person in people):
        raise PoseError("These pose keypoints show nobody in any frame.")
    numbered = isinstance(choose, int) and choose > 0
    if max(map(len, crowd)) <= 1 and not numbered:
        return [people[0] if people else _nobody() for people in crowd]
    followed = track([[_detection(person) for person in people] for people in crowd], canvas, choose=choose)
    places = [_place_of(points, people) for points, people in zip(followed.points, crowd, strict=True)]
    if len({len(people) for people in crowd}) == 1 and all(p.own for people in crowd for p in people):
        # Our own lists hold the same person at the same place in every frame, seen or not.
        places = [max(set(places) - {None}, key=places.count)] * len(crowd)
    return [_nobody() if at is None else people[at] for at, people in zip(places, crowd, strict=True)]


def _detection(person: _Person) -> Detection:
    seen = person.points[person.scores > VISIBLE]
    box = np.concatenate([seen.min(0), seen.max(0)]) if len(seen) else np.zeros(4)
    return Detection(person.points, person.scores, box, 1.0)


def _place_of(points: np.ndarray, people: list[_Person]) -> int | None:
    return next((i for i, person in enumerate(people) if np.array_equal(person.points, points)), None)


def _note_missing_feet(chosen: list[_Person], notes: list[str]) -> None:
    foreign = [person for person in chosen if not person.own]
    if foreign and not any((person.scores[FEET] > VISIBLE).any() for person in foreign):
        notes.append(
            "These pose keypoints have no feet (comfyui_controlnet_aux leaves them out), "
            "so the figure is drawn without feet."
        )


def _hands_to_their_wrists(chosen: list[_Person], notes: list[str]) -> list[_Person]:
    """Exchange left and right hand where they lie nearer to each other's wrist.

    Decided once for the whole clip: a producer that names them the other way does so in every frame, and
    hands that cross for a moment must not flicker.
    """
    foreign = [person for person in chosen if not person.own]
    distances = np.array([_wrist_distances(person) for person in foreign]).reshape(-1, 2)
    kept, exchanged = distances.sum(0)
    if exchanged >= kept:
        return chosen
    nearer = int((distances[:, 1] < distances[:, 0]).sum())
    notes.append(
        f"Left and right hand were exchanged: in {nearer} of {len(foreign)} frames "
        "they lay nearer to the other wrist."
    )
    return [person if person.own else person.with_hands_exchanged() for person in chosen]


def _wrist_distances(person: _Person) -> tuple[float, float]:
    """Summed pixels from the seen hands to the wrists of their name, and to the other wrists."""
    wrists, roots = list(WRISTS.values()), [HANDS[side].start for side in WRISTS]
    seen = person.scores > VISIBLE
    if not seen[wrists].all():
        return 0.0, 0.0
    distances = np.linalg.norm(person.points[roots][:, None] - person.points[wrists][None], axis=-1)
    distances = distances * seen[roots][:, None]
    return float(distances.trace()), float(distances[::-1].trace())


def _write(path: Path, content: bytes) -> None:
    """All or nothing: a disk that fills up does not leave half a file in the place of a good one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        # write names no file, and is where a disk is found to be full; others name one that nobody asked for.
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        # A disk that takes nothing any more lets nothing be deleted; what is wrong with it is being said.
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Delete what killed processes left of earlier attempts to write this file."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        # OSError: another process was quicker.
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFT_AFTER:
                left.unlink()


def _content(path: Path, limit: int) -> bytes:
    """The file's bytes, ``limit`` of them at most.

    PoseError where it is larger or no regular file (a pipe would be waited for for ever), OSError with its name.
    """
    try:
        if path.exists() and not path.is_file():
            raise PoseError(f"{path} is no file that can be read; choose a pose file.")
        if path.exists():
            _check_size(path, path.stat().st_size, limit)
        return path.read_bytes()
    except OSError as error:
        # read names no file, and is where a disk is found to be broken.
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    except ValueError as error:
        if isinstance(error, PoseError):
            raise
        # A zero in the name.
        raise PoseError(f"{str(path)!r} cannot be opened: {error}.") from error


def _check_size(path: Path, size: int, limit: int) -> None:
    """Raise PoseError for a file or folder of more bytes than ``limit``."""
    if size > limit:
        raise PoseError(
            f"{path} has {size >> 20} MB; poses have {limit >> 20} MB at most, which hold more than 10,000 frames "
            "with hands and face: cut the clip in parts, or keep it as .npz."
        )


def _json_in(path: Path) -> Any:
    try:
        # With the mark that editors on Windows put in front, or without.
        return json.loads(_content(path, TEXT_LIMIT).decode("utf-8-sig"))
    except PoseError:
        raise
    except (ValueError, RecursionError) as error:
        reason = cut(str(error), LONGEST_REASON)
        raise PoseError(f"{path} is not a pose file: it cannot be read as JSON ({reason}).") from error


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with its contents."""
    try:
        yield
    except PoseError as error:
        raise PoseError(f"{path}: {error}") from error


def _as_frames(path: Path, content: Any) -> list[Frame]:
    if isinstance(content, dict) and ("people" in content or "animals" in content):
        return [content]
    if isinstance(content, list):
        return content
    raise PoseError(
        f"{path} holds no poses: expected a pose file of ours, or OpenPose JSON with 'people' in every frame."
    )


def _npz_fields(path: Path) -> dict[str, Any]:
    content = io.BytesIO(_content(path, FILE_LIMIT))
    if not zipfile.is_zipfile(content):
        raise PoseError(f"{path} is not a pose file, or its end is missing: it is no .npz archive.")
    try:
        with zipfile.ZipFile(content) as archive:
            entries = archive.infolist()
        for limit, names in ((DETAILS_LIMIT, ("details", "details.npy")), (UNPACKED_LIMIT, None)):
            unpacked = sum(entry.file_size for entry in entries if names is None or entry.filename in names)
            if unpacked > limit:
                raise ValueError(f"its {'details' if names else 'arrays'} claim to hold {unpacked} bytes")
        with np.load(content, allow_pickle=False) as file:
            return {**json.loads(str(file["details"])), **{name: file[name] for name in NPZ_ARRAYS}}
    # zipfile, zlib and numpy report damage with many types: BadZipFile, zlib.error, TokenError, ...
    except Exception as error:
        reason = cut(" ".join(str(error).split()), LONGEST_REASON)
        raise PoseError(f"{path} is not a pose file, or is damaged ({reason}).") from error


def _from_fields(path: Path, fields: dict[str, Any]) -> PoseSequence:
    if fields.get("format") != FILE_FORMAT or fields.get("version") != VERSION:
        found = ", version ".join(shown(fields.get(key)) for key in ("format", "version"))
        raise PoseError(
            f"{path} is a pose file of format {found}; this program reads {FILE_FORMAT!r}, version {VERSION}."
        )
    try:
        frames = len(fields["scores"])
        poses = PoseSequence(
            np.reshape(_numbers(fields["points"]), (frames, POINTS, 2)),
            np.reshape(_numbers(fields["scores"]), (frames, POINTS)),
            tuple(fields["canvas"]),
            fields["fps"],
            int(fields["person_id"]),
            np.reshape(_numbers(fields["origins"]), (frames, POINTS)),
        )
    except DAMAGE as error:
        reason = cut(str(error), LONGEST_REASON)
        raise PoseError(f"{path} is damaged: its poses cannot be read ({reason}).") from error
    if not len(poses):
        raise PoseError(f"{path} holds no frames of poses; choose a file with at least one.")
    return poses


def _logged(path: Path, imported: Imported) -> PoseSequence:
    for note in imported.notes:
        logger.warning("%s: %s", path, note)
    return imported.poses
