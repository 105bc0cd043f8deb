"""MediaPipe Holistic: the tables by themselves, then the real thing on a real video."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from xdyna_unianimate.pose_align import mediapipe
from xdyna_unianimate.pose_align.detector import Detection, PoseDetector
from xdyna_unianimate.pose_align.skeleton import BODY, FACE, LEFT_HAND, MIRROR, RIGHT_HAND, Joint

MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media" / "driving"
FRAMES = 30


# ---- tables ------------------------------------------------------------------------------------------------

BLAZEPOSE = {
    "NOSE": 0, "L_EYE": 2, "R_EYE": 5, "L_EAR": 7, "R_EAR": 8, "L_SHOULDER": 11, "R_SHOULDER": 12,
    "L_ELBOW": 13, "R_ELBOW": 14, "L_WRIST": 15, "R_WRIST": 16, "L_HIP": 23, "R_HIP": 24, "L_KNEE": 25,
    "R_KNEE": 26, "L_ANKLE": 27, "R_ANKLE": 28, "L_HEEL": 29, "R_HEEL": 30, "L_BIG_TOE": 31, "R_BIG_TOE": 32,
    "L_SMALL_TOE": 31, "R_SMALL_TOE": 32,
}  # fmt: skip


def part(count: int, offset: float, score: float = 0.9) -> mediapipe.Landmarks:
    """Landmark i at (offset + i / 1000, i / 1000)."""
    along = np.arange(count) / 1000
    return mediapipe.Landmarks(np.stack([offset + along, along], 1), np.full(count, score, np.float32), score)


def test_body_and_hands_go_to_their_names() -> None:
    parts = {"body": part(33, 0.0), "left hand": part(21, 0.2), "right hand": part(21, 0.4)}
    person = mediapipe.to_person(parts, width=1000, height=2000)
    for name, number in BLAZEPOSE.items():
        assert person.points[Joint[name]] == pytest.approx([number, 2 * number]), name
    assert person.points[Joint.NECK] == pytest.approx([11.5, 23])
    assert person.points[LEFT_HAND, 0] == pytest.approx(200 + np.arange(21))
    assert person.points[RIGHT_HAND, 0] == pytest.approx(400 + np.arange(21))
    assert (person.scores[FACE] == 0).all(), "a face that was not found has score 0"
    assert person.box == pytest.approx([0, 0, 420, 64])


def test_scores_are_visibility_and_presence() -> None:
    scores = np.full(33, 0.9, np.float32)
    scores[15] = 0.1
    body = mediapipe.Landmarks(part(33, 0).points, scores, 0.99)
    person = mediapipe.to_person({"body": body, "face": part(468, 0.1, score=0.7)}, 100, 100)
    assert person.scores[Joint.L_WRIST] == pytest.approx(0.1)
    assert person.scores[Joint.R_WRIST] == pytest.approx(0.9)
    assert person.scores[FACE] == pytest.approx(0.7)
    assert person.box_score == pytest.approx(0.99)


def test_no_body_or_none_in_sight_is_nobody() -> None:
    assert mediapipe.to_person({"face": part(468, 0)}, 10, 10) is None
    assert mediapipe.to_person({"body": part(33, 0, score=0.2)}, 10, 10) is None


def test_the_table_mirrors_as_the_face_does() -> None:
    """The mesh counts the middle and the picture's left up to 247, the picture's right from 248."""
    partner = MIRROR[FACE] - FACE.start
    middle = [mediapipe.FACE[i] for i in range(68) if partner[i] == i]
    assert middle == [152, 168, 197, 5, 4, 2, 0, 17, 13, 14]
    for i in range(68):
        if partner[i] != i:
            assert (mediapipe.FACE[i] < 248) != (mediapipe.FACE[partner[i]] < 248), i


# ---- the real thing ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    people: list[list[Detection]]
    seconds: float


def frames(count: int) -> Iterator[np.ndarray]:
    av = pytest.importorskip("av", reason="reading the video needs av")
    with av.open(str(sorted(MEDIA.glob("*.mp4"))[0])) as container:
        for _, frame in zip(range(count), container.decode(video=0), strict=False):
            yield frame.to_ndarray(format="rgb24")


@pytest.fixture(scope="module")
def detector() -> mediapipe.MediaPipe:
    if reason := mediapipe.why_unusable():
        pytest.skip(reason)
    if not sorted(MEDIA.glob("*.mp4")):
        pytest.skip("there is no ../shared/media/driving/*.mp4")
    return mediapipe.MediaPipe()


@pytest.fixture(scope="module")
def run(detector: mediapipe.MediaPipe) -> Run:
    start = time.perf_counter()
    people = detector.detect(frames(FRAMES))
    return Run(people, time.perf_counter() - start)


def seen(run: Run, points: slice) -> int:
    return sum(bool(people) and people[0].scores[points].max() > 0.3 for people in run.people)


def test_it_finds_the_dancer(run: Run, detector: mediapipe.MediaPipe) -> None:
    assert isinstance(detector, PoseDetector)
    assert [len(people) for people in run.people] == [1] * FRAMES
    assert seen(run, BODY) == seen(run, FACE) == FRAMES
    assert seen(run, LEFT_HAND) >= 0.8 * FRAMES
    assert seen(run, RIGHT_HAND) >= 0.3 * FRAMES
    assert run.seconds < 10, f"{FRAMES / run.seconds:.1f} frames per second"


def test_every_point_is_finite_and_every_score_a_probability(run: Run) -> None:
    for people in run.people:
        assert np.isfinite(people[0].points).all()
        assert (people[0].scores >= 0).all() and (people[0].scores <= 1).all()


def test_hands_belong_to_their_own_wrists(run: Run) -> None:
    """Left is the person's own left, which a person facing the camera has on the picture's right."""
    for person in (people[0] for people in run.people):
        assert person.points[Joint.L_SHOULDER, 0] > person.points[Joint.R_SHOULDER, 0]
        for hand, own, other in (
            (LEFT_HAND, Joint.L_WRIST, Joint.R_WRIST),
            (RIGHT_HAND, Joint.R_WRIST, Joint.L_WRIST),
        ):
            if person.scores[hand.start] > 0.3:
                root = person.points[hand.start]
                away = [np.linalg.norm(root - person.points[wrist]) for wrist in (own, other)]
                assert away[0] < away[1]


def test_the_68_face_points_stand_where_ibug_has_them(run: Run) -> None:
    for person in (people[0] for people in run.people):
        face = upright(person.points[FACE])
        x, y = face.T
        jaw, brows, bridge, base = slice(0, 17), slice(17, 27), slice(27, 31), slice(31, 36)
        assert (np.diff(x[:17]) > 0)[2:-2].all() and y[jaw].argmax() in (7, 8, 9)
        assert (np.diff(x[brows]) > 0).all() and (np.diff(x[base]) > 0).all()
        assert (np.diff(y[bridge]) > 0).all() and y[base].min() > y[29]
        for eye, brow in (((36, 42), (17, 22)), ((42, 48), (22, 27))):
            assert y[slice(*brow)].max() < y[slice(*eye)].min()
            assert x[eye[0]] == x[slice(*eye)].min() and x[eye[0] + 3] == x[slice(*eye)].max()
            assert y[eye[0] + 1 : eye[0] + 3].mean() < y[eye[0] + 4 : eye[0] + 6].mean()
        assert x[48] == x[48:68].min() and x[54] == x[48:68].max()
        assert y[50:53].max() < y[61:64].min() < y[56:59].min() and y[33] < y[50:53].min()


def upright(face: np.ndarray) -> np.ndarray:
    """The face [68, 2] turned so that the line between the eyes' outer corners is level."""
    x, y = face[45] - face[36]
    turn = np.array([[x, -y], [y, x]]) / np.hypot(x, y)
    return (face - face[30]) @ turn


def test_feet_are_below_ankles(run: Run) -> None:
    for person in (people[0] for people in run.people):
        for ankle, toe in ((Joint.L_ANKLE, Joint.L_BIG_TOE), (Joint.R_ANKLE, Joint.R_BIG_TOE)):
            assert person.points[toe, 1] > person.points[ankle, 1]


def test_every_clip_starts_anew_and_may_be_left_early(detector: mediapipe.MediaPipe, run: Run) -> None:
    stream = detector.stream(frames(5))
    first = next(stream)[0]
    stream.close()
    assert np.array_equal(first.points, run.people[0][0].points)
    again = detector.detect(frames(3))
    for ours, theirs in zip(again, run.people, strict=False):
        assert np.allclose(ours[0].points, theirs[0].points, atol=1e-3)


def test_an_empty_picture_holds_nobody(detector: mediapipe.MediaPipe) -> None:
    pictures = [np.zeros((64, 48, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)]
    assert mediapipe.MediaPipe(video=False).detect(pictures) == [[], []]
    assert detector.detect([]) == []


def test_a_mediapipe_without_the_graph_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mediapipe, "GRAPH", "modules/no_such_graph.binarypb")
    if "not installed" in (reason := mediapipe.why_unusable()):
        pytest.skip(reason)
    with pytest.raises(ImportError, match="0.10.21 does: pip install --no-deps"):
        mediapipe.MediaPipe()
