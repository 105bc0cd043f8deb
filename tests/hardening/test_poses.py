"""Random pose sequences through tracking, alignment, drawing, face maps and every export, each one twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from xdyna_unianimate.app import faces
from xdyna_unianimate.app.poses import at_a_glance
from xdyna_unianimate.pose_align import interchange
from xdyna_unianimate.pose_align.align import align
from xdyna_unianimate.pose_align.draw import MAX_OUTSIDE, STYLES, UNIANIMATE, XDYNA, draw
from xdyna_unianimate.pose_align.pose import PoseError, PoseSequence
from xdyna_unianimate.pose_align.skeleton import FACE
from xdyna_unianimate.pose_align.track import fill_gaps, smooth, track
from xdyna_unianimate.xdyna_core import face

from . import crowds
from .tally import Tally, not_a_sentence

FAMILY = "poses"

SMALL = (48, 64)
"""(width, height) on which most of the drawing is done; every canvas size is drawn in its own test."""

ALIGNMENTS = ({"fidelity": "robust"}, {"fidelity": "robust", "median": True}, {"fidelity": "original"})


class Digest:
    """What a journey produced, reduced to a hash: two runs of one input must agree."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def __call__(self, *values: object) -> None:
        for value in values:
            self._hash.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())

    def poses(self, poses: PoseSequence) -> None:
        """Poses, after a look that they are what they promise."""
        assert np.isfinite(poses.points).all() and np.isfinite(poses.scores).all()
        assert (poses.scores >= 0).all()
        self(poses.points, poses.scores, poses.origins, poses.canvas, poses.fps, poses.person_id)

    def frames(self, frames: np.ndarray, size: tuple[int, int]) -> None:
        """Pictures, after a look at their type and size."""
        assert frames.dtype == np.uint8 and frames.shape[1:] == (size[1], size[0], 3), frames.shape
        self(frames)

    def text(self) -> str:
        return self._hash.hexdigest()


def journey(case: crowds.Case, folder: Path) -> str:
    """A clip's whole way, with a look at every result; the digest of all of them.

    Raises PoseError where the input has nothing to be used.
    """
    digest = Digest()
    followed = track(case.driving, case.canvas, case.fps, choose=case.choose)
    poses = smooth(fill_gaps(followed, case.max_gap))
    for stage in (followed, poses):
        digest.poses(stage)
        assert len(stage) == len(case.driving)
    drawn(poses, digest)
    exported(poses, folder, digest)
    face_maps(poses, None, digest)
    reference = track(case.reference, case.reference_canvas)
    for options in ALIGNMENTS:
        aligned, report = align(poses, reference, **options)
        digest.poses(aligned)
        reported(report, digest)
        assert aligned.canvas == reference.canvas and len(aligned) == len(poses)
        if options["fidelity"] == "robust":
            fractions = aligned.points[aligned.scores > 0] / aligned.canvas
            assert (np.abs(fractions - 0.5) <= MAX_OUTSIDE + 0.5 + 1e-9).all()
        digest.frames(draw(aligned[:1], XDYNA, SMALL), SMALL)
    exported(aligned[:1], folder, digest)
    face_maps(poses, reference, digest)
    face_maps(poses, aligned, digest)
    return digest.text()


def drawn(poses: PoseSequence, digest: Digest) -> None:
    for style in STYLES.values():
        digest.frames(draw(poses, style, SMALL), SMALL)
    digest.frames(draw(poses[:1], UNIANIMATE.replace(face=True), SMALL, scale_strokes=True), SMALL)
    digest(at_a_glance(poses, height=16))


def reported(report, digest: Digest) -> None:
    assert all(np.isfinite(ratio.value) for ratio in report.ratios)
    digest(json.dumps(report.as_dict(), allow_nan=False), report.text(), report.picture(24))


def exported(poses: PoseSequence, folder: Path, digest: Digest) -> None:
    """Every format there and back: our own exactly, others as far as they hold it."""
    for name in ("poses.npz", "poses.json"):
        interchange.save_poses(poses, folder / name)
        back = interchange.load_poses(folder / name)
        assert same(back, poses) and back.fps == poses.fps and back.person_id == poses.person_id
    for dialect, real_scores in (("aux", False), ("core", True), ("openpose", False)):
        frames = interchange.to_openpose(poses, dialect=dialect, real_scores=real_scores)
        digest(json.dumps(frames, allow_nan=False))
    interchange.save_openpose(poses, folder / "openpose.json")
    if poses.visible().any():
        back = interchange.load_openpose(folder / "openpose.json").poses
        assert same(back, poses)
        foreign = [{k: v for k, v in frame.items() if k != interchange.EXTRA} for frame in frames]
        digest.poses(interchange.from_openpose(foreign).poses)


def same(a: PoseSequence, b: PoseSequence) -> bool:
    names = ("points", "scores", "origins")
    return a.canvas == b.canvas and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names)


def face_maps(poses: PoseSequence, target: PoseSequence | None, digest: Digest) -> None:
    """Maps where the face is, or laid over the target's; a clip without a face may be refused."""
    size = SMALL
    frames = np.full((len(poses), size[1], size[0], 3), 200, np.uint8)
    poses = faces.on_canvas(poses, size)
    if target is None:
        landmarks = face.visible_points(poses.points[:, FACE], poses.scores[:, FACE])
        tries: list[Callable] = [
            lambda: face.face_maps(frames, landmarks, fidelity="original"),
            lambda: face.face_maps(frames, landmarks),
            lambda: faces.maps_in_place(frames, poses, size),
        ]
    else:
        tries = [
            lambda: faces.maps_on_reference(frames, poses, target, size),
            lambda: digest.poses(faces.with_faces_of(poses, target[:1])),
        ]
    for index, attempt in enumerate(tries):
        try:
            maps = attempt()
        except ValueError as error:
            assert target is not None and not not_a_sentence(str(error)), error
            continue
        if maps is None:
            continue
        digest.frames(maps.local, size)
        digest.frames(maps.whole, size)
        digest(maps.found, maps.locations)
        if not (target is None and index == 0):
            boxes = np.array([location.box for location in maps.locations])
            assert (boxes >= 0).all() and (boxes <= [*size, *size]).all(), boxes


def run_twice(
    seed: int, folder: Path, tally: Tally, way: Callable[[crowds.Case, Path], str] = journey
) -> None:
    """A seed's journey, counted; whatever comes of it, a result or a refusal, comes again the second time."""

    def outcome() -> str | PoseError:
        try:
            with np.errstate(divide="raise", over="raise", invalid="raise"):
                return way(crowds.case(seed), folder)
        except PoseError as error:
            return error

    with tally.trying(f"seed {seed} (tests/hardening/crowds.py: case({seed}))", sentences=(PoseError,)):
        first, again = outcome(), outcome()
        assert str(first) == str(again), "the same input gave another output"
        if isinstance(first, PoseError):
            raise first


def test_random_sequences(tally: Tally, amount, tmp_path: Path) -> None:
    for seed in range(amount(60, 10_000)):
        run_twice(seed, tmp_path, tally)


def on_its_own_canvas(case: crowds.Case, folder: Path) -> str:
    """Drawn on the canvas of the poses, whatever its size, in both styles."""
    digest = Digest()
    poses = track(case.driving, case.canvas, case.fps, choose=case.choose)[:1]
    for style in STYLES.values():
        digest.frames(draw(poses, style.replace(canvas=None)), case.canvas)
    digest.frames(draw(poses, XDYNA, scale_strokes=True), case.canvas)
    digest(at_a_glance(poses))
    return digest.text()


def test_canvases_from_one_pixel_to_8k(tally: Tally, amount, tmp_path: Path) -> None:
    seeds = range(20_000, 20_000 + amount(10, 100))
    for seed in seeds:
        run_twice(seed, tmp_path, tally, on_its_own_canvas)
