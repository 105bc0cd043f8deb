"""pose_align against the original: pose dict, alignment, canvases (UniAnimate spec 9.4, 10, 11)."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
import torch
from xdyna_unianimate.pose_align.align import LIMBS, Source, align, align_normalised
from xdyna_unianimate.pose_align.detector import add_neck
from xdyna_unianimate.pose_align.draw import UNIANIMATE, draw, draw_normalised
from xdyna_unianimate.pose_align.pose import NormalisedPoses, PoseSequence, normalise

from . import golden

SYSTEM, FILES = "unianimate", "pose_align*"
ATOL = {"atol": 1e-12}
PARTS = ("body", "subset", "faces", "hands")
CASES = golden.cases(SYSTEM, FILES)


class Case:
    """One golden case: inputs as our types, and the original's pose dicts and canvases."""

    def __init__(self, file: str, name: str) -> None:
        self.golden, self.name = golden.Golden(SYSTEM, file), name
        self.meta = self.golden.meta["cases"][name]
        self.frames = [f"f{i}" for i in range(self.meta["frames"])]
        self.reference = self.poses(["ref"], self.meta["ref_wh"])
        self.driving = self.poses(self.frames, self.meta["drv_wh"])
        self.finite = not any(self.meta["has_nan_or_inf"].values()) and not self.meta["draw_error"]

    def poses(self, frames: list[str], canvas: list[int]) -> PoseSequence:
        # Person 0 only, as the original (spec 9.4).
        keypoints = np.stack([self.golden[f"{self.name}.{f}.kp133"][0].numpy() for f in frames])
        scores = np.stack([self.golden[f"{self.name}.{f}.score"][0].numpy() for f in frames])
        return PoseSequence(*add_neck(keypoints, scores), tuple(canvas))

    def check(self, frames: list[str], stage: str, ours: NormalisedPoses) -> None:
        for i, frame in enumerate(frames):
            found = (ours.body[i], ours.subset[i][None], ours.faces[i][None], ours.hands[i])
            for part, value in zip(PARTS, found, strict=True):
                tensor = f"{self.name}.{frame}.{stage}.{part}"
                self.golden.check(tensor, torch.from_numpy(value), rule=ATOL)

    def canvases(self, frames: list[str], face: bool) -> list[tuple[str, np.ndarray]]:
        """(frame, stored canvas) pairs: tensors ``canvas<height>``, or ``canvas<height>face``."""
        kind = re.compile(r"canvas\d+" + ("face" if face else ""))
        return [
            (frame, tensor.numpy())
            for frame in frames
            for name, tensor in self.golden.under(f"{self.name}.{frame}.").items()
            if kind.fullmatch(name)
        ]


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*request.param)


def each(*, finite: bool | None = None) -> pytest.MarkDecorator:
    """Parametrise over the cases, or over those whose original result is finite (or is not)."""
    chosen = [c for c in CASES if finite is None or Case(*c).finite is finite]
    return pytest.mark.parametrize("case", chosen, ids=["-".join(c) for c in chosen], indirect=True)


def same_pixels(ours: np.ndarray, expected: np.ndarray) -> None:
    """Equal on cv2 4.11; elsewhere at most 4 pixels differ, all of them at the border (spec 11)."""
    assert ours.shape == expected.shape and ours.dtype == np.uint8
    differing = np.argwhere((ours != expected).any(-1))
    limit = 0 if cv2.__version__.startswith("4.11.") else 4
    assert len(differing) <= limit, (
        f"{len(differing)} pixels differ, first at (row, column) {differing[:5].tolist()}"
    )
    height, width = ours.shape[:2]
    for row, column in differing:
        assert min(row, column, height - 1 - row, width - 1 - column) <= UNIANIMATE.hand_line


@each()
def test_pose_dict(case: Case) -> None:
    case.check(["ref"], "pre", normalise(case.reference))
    case.check(case.frames, "pre", normalise(case.driving))


@each(finite=True)
def test_original_alignment(case: Case) -> None:
    aligned, ratios, _ = align_normalised(normalise(case.driving), normalise(case.reference))
    case.check(case.frames, "ali", aligned)
    case.check(["ref"], "ali", normalise(case.reference))
    assert all(np.isfinite(ratio.value) for ratio in ratios)


def hangs_on_something_missing(seen: np.ndarray) -> np.ndarray:
    """bool [F, 136]: points that the original moves by the literal of a missing joint."""
    moved = np.zeros_like(seen)
    for limb in LIMBS:
        broken = ~seen[:, [limb.pivot, limb.joint]].all(1)
        moved[:, limb.moved] |= broken[:, None]
    return moved


@each(finite=True)
@pytest.mark.parametrize("fidelity", ["original", "robust"])
def test_aligned_sequence(case: Case, fidelity: str) -> None:
    """What the nodes and the command line get: every seen point is where the original has it.

    In robust mode only where frame 0 shows every joint that the walk needs, in both pictures, and not in
    frames where a joint is missing on which the point hangs (F: the original moves it by the literal -1).
    """
    theirs, ours = normalise(case.driving), normalise(case.reference)
    needed = sorted({point for limb in LIMBS for point in (limb.pivot, limb.joint)})
    complete = theirs.seen[0, needed].all() and ours.seen[0, needed].all()
    aligned, report = align(case.driving, case.reference, fidelity=fidelity)
    assert aligned.canvas == case.reference.canvas and len(aligned) == len(case.driving)
    if fidelity == "robust" and not complete:
        # Then it must not follow the literals: every ratio stays inside what a person can have.
        assert all(0.1 <= abs(ratio.value) <= 10 for ratio in report.limbs)
        return
    assert {ratio.source for ratio in report.ratios} == {Source.MEASURED}
    assert {ratio.frame for ratio in report.ratios} == {report.shift.frame} == {0}
    compared = (
        theirs.seen if fidelity == "original" else theirs.seen & ~hangs_on_something_missing(theirs.seen)
    )
    assert compared.any()
    found = normalise(aligned)
    for i, frame in enumerate(case.frames):
        expected = {part: case.golden[f"{case.name}.{frame}.ali.{part}"].numpy() for part in PARTS}
        masks = NormalisedPoses(np.repeat(compared[..., None], 2, -1), compared)
        for part in ("body", "faces", "hands"):
            mask, value = getattr(masks, part)[i], getattr(found, part)[i]
            difference = np.abs(value - expected[part].reshape(value.shape))[mask]
            assert difference.max(initial=0) <= 1e-12, f"{part} of {frame} is off by {difference.max():.3g}"
    golden.count(case.golden)


@each(finite=False)
@pytest.mark.parametrize("fidelity", ["original", "robust"])
def test_crashes_of_the_original_are_finite_poses(case: Case, fidelity: str) -> None:
    """F (spec 10): a missing joint in frame 0 is no reason for infinite coordinates."""
    aligned, report = align(case.driving, case.reference, fidelity=fidelity)
    assert all(np.isfinite(ratio.value) for ratio in report.ratios)
    assert np.isfinite(aligned.points).all()
    seen, before = aligned.visible(), case.driving.visible()
    assert (seen[before]).all(), "no point that was seen is lost"
    if fidelity == "robust":
        assert draw(aligned, UNIANIMATE).any(axis=(1, 2, 3)).all()
        inside = aligned.points[seen] / aligned.canvas
        assert inside.min() > -1 and inside.max() < 2, "no monsters"
    golden.count(case.golden)


@each()
@pytest.mark.parametrize("face", [False, True])
def test_canvas_of_the_golden_dict(case: Case, face: bool) -> None:
    """The stored aligned arrays, drawn by us: the drawing alone. Stored in the order of the colour tables."""
    style = UNIANIMATE.replace(reverse_channels=False, face=face)
    for frame, expected in case.canvases(["ref", *case.frames], face):
        stored = [case.golden[f"{case.name}.{frame}.ali.{part}"].numpy() for part in PARTS]
        height, width = expected.shape[:2]
        same_pixels(draw_normalised(from_dict(*stored), 0, style, (width, height)), expected)
        golden.count(case.golden)


def from_dict(body: np.ndarray, subset: np.ndarray, faces: np.ndarray, hands: np.ndarray) -> NormalisedPoses:
    """The original's dict in our type; heels and single toes are not in it."""
    points, seen = np.full((1, 136, 2), -1.0), np.zeros((1, 136), bool)
    places = [*range(18), 134, 135]
    points[0, places], seen[0, places] = body, subset[0] >= 0
    points[0, 24:92], points[0, 92:113], points[0, 113:134] = faces[0], hands[0], hands[1]
    return NormalisedPoses(points, seen)


@each(finite=True)
def test_canvas_end_to_end(case: Case) -> None:
    """Keypoints in, network's picture out: converted, aligned, drawn, channels as the network sees them."""
    aligned, _ = align(case.driving, case.reference, fidelity="original")
    for poses, frames in ((case.reference, ["ref"]), (aligned, case.frames)):
        for frame, expected in case.canvases(frames, face=False):
            height, width = expected.shape[:2]
            at = frames.index(frame)
            ours = draw(poses[at : at + 1], UNIANIMATE, (width, height))[0]
            same_pixels(ours, expected[..., ::-1])
            golden.count(case.golden)


@each()
def test_files_as_the_original_writes_them(case: Case) -> None:
    """The 512x768 canvas, against pictures in the folder ``pose_png`` beside the tensors."""
    aligned, _ = align(case.driving, case.reference, fidelity="original")
    folder = golden.folder() / SYSTEM / "pose_png"
    for name in case.meta.get("png", []):
        frame = name.removeprefix(f"{case.name}_").split("_")[0]
        poses = case.reference if frame == "ref" else aligned[int(frame[1:]) : int(frame[1:]) + 1]
        expected = cv2.cvtColor(cv2.imread(str(folder / name)), cv2.COLOR_BGR2RGB)
        height, width = expected.shape[:2]
        same_pixels(draw(poses, UNIANIMATE, (width, height))[0], expected)
        golden.count(case.golden)
