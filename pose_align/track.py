"""One person through time: who is who from frame to frame, short gaps filled, jitter smoothed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .detector import Detection
from .pose import POINTS, VISIBLE, Origin, PoseError, PoseSequence, possible, usable
from .shown import shown
from .skeleton import BODY

logger = logging.getLogger(__name__)

Choice = Literal["largest", "leftmost", "rightmost", "centre", "first"] | int

REACH = 0.5
"""How far a person may be, per frame, from where it was expected, in units of its own size."""
MAX_GROWTH, MAX_GROWTH_LOST = 2.5, 1.6
"""How much larger or smaller a person may be in the next frame, and when it comes back after being lost."""
MIN_COMMON_POINTS = 3
LONGEST_GLIDE = 5
"""Frames for which a lost person is believed to move on as before."""
FORBIDDEN = 1e6
SMALLEST = 1e-6
"""Pixels; a box that is narrower or lower has no size to measure distances by."""


@dataclass
class Track:
    """The same person in ``frames`` (rising numbers); ``people`` holds one detection for each of them."""

    frames: list[int]
    people: list[Detection]

    @property
    def centre(self) -> np.ndarray:
        """Median centre [2] of its boxes, in pixels."""
        return np.median([_centre(person.box) for person in self.people], axis=0)

    @property
    def area(self) -> float:
        """Sum of its boxes' areas over time: large where the person is large, or long in the picture."""
        return float(sum(_size(person.box) ** 2 for person in self.people))

    def expected_shift(self, frame: int) -> np.ndarray:
        """Pixels [2] by which the person should have moved since it was last seen, at constant velocity."""
        if len(self.frames) < 2:
            return np.zeros(2)
        before, last = self.people[-2:]
        common = _common(before, last)
        if common.sum() < MIN_COMMON_POINTS:
            moved = _centre(last.box) - _centre(before.box)
        else:
            moved = np.median(last.points[BODY][common] - before.points[BODY][common], axis=0)
        velocity = moved / (self.frames[-1] - self.frames[-2])
        return velocity * min(frame - self.frames[-1], LONGEST_GLIDE)


def track(
    detections: Iterable[Sequence[Detection]],
    canvas: tuple[int, int],
    fps: float | None = None,
    choose: Choice = "largest",
) -> PoseSequence:
    """The chosen person in every frame; score 0 where it was not found.

    detections: people per frame, as a ``PoseDetector`` gives them; NaN and infinite points count as missing. Of a
                stream, what the detector gave is not kept.
    canvas:     (width, height) of the frames in pixels.
    choose:     "largest" (largest boxes, summed over time); "leftmost", "rightmost", "centre" (of the
                picture) or a number from 0, counted from the left, among those who are there for at least
                half as long as the one who stays longest; "first": whoever the detector lists first in each
                frame, without following anybody (K: UniAnimate spec 9.4).
    Raises PoseError where nobody was found at all, or nobody of that number.
    """
    cleaned = [[person for one in people if (person := _clean(one))] for people in detections]
    if not cleaned:
        raise PoseError("There are no frames, so nobody can be found in them.")
    if not any(cleaned):
        raise PoseError(
            f"Nobody was found in any of the {len(cleaned)} frame(s). Take a picture or video that shows a "
            "person clearly, head and body, or try the other pose detector."
        )
    if choose == "first":
        frames = [number for number, people in enumerate(cleaned) if people]
        person_id, chosen = 0, Track(frames, [cleaned[number][0] for number in frames])
    else:
        tracks = follow(cleaned)
        chosen = _choose(tracks, canvas, choose)
        person_id = next(number for number, other in enumerate(tracks) if other is chosen)
        logger.info("Following person %d of %d (%s).", person_id, len(tracks), choose)
    if len(chosen.frames) < len(cleaned):
        logger.warning("The person was found in %d of %d frames.", len(chosen.frames), len(cleaned))
    points, scores = np.zeros((len(cleaned), POINTS, 2)), np.zeros((len(cleaned), POINTS), np.float32)
    for number, person in zip(chosen.frames, chosen.people, strict=True):
        points[number], scores[number] = person.points, person.scores
    return PoseSequence(points, scores, canvas, fps, person_id)


def follow(detections: Sequence[Sequence[Detection]]) -> list[Track]:
    """Everybody through time, in the order of their first appearance.

    In every frame the people are given to the tracks so that the sum of keypoint distance and 1 - IoU, both
    against where the track is expected, is least; tracks seen in the frame before come first, then those that
    are lost. A lost person is waited for to the end, within a reach that grows with every frame.
    """
    tracks: list[Track] = []
    for number, people in enumerate(detections):
        present = [one for one in tracks if one.frames[-1] == number - 1]
        lost = [one for one in tracks if one.frames[-1] < number - 1]
        left = _continue(lost, _continue(present, people, number), number)
        tracks += [Track([number], [person]) for person in left]
    return tracks


def _continue(tracks: Sequence[Track], people: Sequence[Detection], frame: int) -> list[Detection]:
    """Give the people of a frame to the tracks they belong to; returns those who belong to none."""
    cost = np.array([[_cost(one, person, frame) for person in people] for one in tracks])
    taken = set()
    for row, column in assign(cost.reshape(len(tracks), len(people))):
        if cost[row, column] < FORBIDDEN:
            tracks[row].frames.append(frame)
            tracks[row].people.append(people[column])
            taken.add(column)
    return [person for column, person in enumerate(people) if column not in taken]


def _cost(one: Track, person: Detection, frame: int) -> float:
    """Keypoint distance in body sizes plus 1 - IoU, or ``FORBIDDEN`` where this cannot be the same person."""
    last, shift = one.people[-1], one.expected_shift(frame)
    size, seen_size = _size(last.box), _size(person.box)
    common = _common(last, person)
    if common.sum() < MIN_COMMON_POINTS:
        distance = np.linalg.norm(_centre(last.box) + shift - _centre(person.box)) / size
    else:
        moved = last.points[BODY][common] + shift - person.points[BODY][common]
        distance = np.linalg.norm(moved, axis=-1).mean() / size
    elapsed = frame - one.frames[-1]
    growth = MAX_GROWTH if elapsed == 1 else MAX_GROWTH_LOST
    if distance > REACH * elapsed or not 1 / growth < seen_size / size < growth:
        return FORBIDDEN
    return float(distance + 1 - iou(last.box + np.tile(shift, 2), person.box))


def assign(cost: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (row, column) of least total cost [rows, columns], as many as the shorter side has.

    Shortest augmenting paths (Jonker and Volgenant 1987), one row after another.
    """
    rows, columns = cost.shape
    if rows > columns:
        return sorted((row, column) for column, row in assign(cost.T))
    row_prices, column_prices = np.zeros(rows), np.zeros(columns)
    row_of, column_of = np.full(columns, -1), np.full(rows, -1)
    for start in range(rows):
        length, reached_from = np.full(columns, np.inf), np.full(columns, -1)
        visited = np.zeros(columns, bool)
        row, lowest = start, 0.0
        while row >= 0:
            candidate = lowest + cost[row] - row_prices[row] - column_prices
            shorter = ~visited & (candidate < length)
            length[shorter], reached_from[shorter] = candidate[shorter], row
            column = int(np.where(visited, np.inf, length).argmin())
            lowest, visited[column] = length[column], True
            row = row_of[column]
        slack = np.where(visited, lowest - length, 0.0)
        column_prices -= slack
        on_path = visited & (row_of >= 0)
        row_prices[row_of[on_path]] += slack[on_path]
        row_prices[start] += lowest
        while row != start:
            row = reached_from[column]
            row_of[column] = row
            column_of[row], column = column, column_of[row]
    return list(enumerate(column_of.tolist()))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = max(width, 0.0) * max(height, 0.0)
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    return float(shared / union)


def _choose(tracks: Sequence[Track], canvas: tuple[int, int], choose: Choice) -> Track:
    if choose == "largest":
        return max(tracks, key=lambda one: one.area)
    # A box that flashes up at the edge is not the leftmost person.
    longest = max(len(one.frames) for one in tracks)
    lasting = sorted((one for one in tracks if 2 * len(one.frames) >= longest), key=lambda one: one.centre[0])
    if isinstance(choose, int):
        if not 0 <= choose < len(lasting):
            raise PoseError(f"There is no person {choose}: from the left they are 0 to {len(lasting) - 1}.")
        return lasting[choose]
    middle = np.array(canvas) / 2
    keys: dict[str, Callable[[Track], float]] = {
        "leftmost": lambda one: one.centre[0],
        "rightmost": lambda one: -one.centre[0],
        "centre": lambda one: np.linalg.norm(one.centre - middle),
    }
    if choose not in keys:
        known = ", ".join(("largest", *keys, "first"))
        raise PoseError(f"Nobody can be chosen by {shown(choose)}; take {known} or a number.")
    return min(lasting, key=keys[choose])


def _clean(person: Detection) -> Detection | None:
    """The person without NaN: broken points get score 0, a broken box becomes that of the points, or None."""
    broken = ~(usable(person.points) & possible(person.scores))
    points = np.where(broken[:, None], 0.0, person.points)
    scores = np.where(broken, np.float32(0), person.scores)
    box = person.box
    if not usable(box.reshape(2, 2)).all() or (box[2:] - box[:2] < SMALLEST).any():
        seen = points[scores > VISIBLE]
        if len(seen) < 2 or (np.ptp(seen, axis=0) < SMALLEST).any():
            return None
        box = np.concatenate([seen.min(0), seen.max(0)])
    return replace(person, points=points, scores=scores, box=box)


def _common(a: Detection, b: Detection) -> np.ndarray:
    """bool [18]: body points seen in both."""
    return (a.scores[BODY] > VISIBLE) & (b.scores[BODY] > VISIBLE)


def _centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2


def _size(box: np.ndarray) -> float:
    """Side of the square of the same area."""
    return float(np.sqrt(np.prod(box[2:] - box[:2])))


def fill_gaps(poses: PoseSequence, max_gap: int = 5) -> PoseSequence:
    """Joints that are unseen for at most ``max_gap`` frames between two sightings, on a straight line.

    A filled joint has the lower of the two scores and ``Origin.FILLED``; longer gaps, and those at the ends
    of the clip, stay as they are.
    """
    if max_gap < 0:
        raise PoseError(f"The longest gap to fill is a number of frames from 0; got {max_gap}.")
    points, scores, origins = poses.points.copy(), poses.scores.copy(), poses.origins.copy()
    for joint, seen in enumerate(poses.visible().T):
        frames = np.flatnonzero(seen)
        for before, after in zip(frames, frames[1:], strict=False):
            gap = np.arange(before + 1, after)
            if not 0 < len(gap) <= max_gap:
                continue
            share = ((gap - before) / (after - before))[:, None]
            points[gap, joint] = (1 - share) * points[before, joint] + share * points[after, joint]
            scores[gap, joint] = min(scores[before, joint], scores[after, joint])
            origins[gap, joint] = Origin.FILLED
    return replace(poses, points=points, scores=scores, origins=origins)


def smooth(
    poses: PoseSequence, min_cutoff: float = 1.0, beta: float = 10.0, derivative_cutoff: float = 1.0
) -> PoseSequence:
    """One-Euro filter on every seen joint (Casiez et al. 2012): the slower it moves, the calmer it gets.

    min_cutoff: cut-off in Hz of a joint at rest; lower is calmer.
    beta:       Hz by which the cut-off rises per picture height a second; higher lags less.
    derivative_cutoff: cut-off in Hz of the speed's own estimate.
    A joint starts anew wherever it comes into sight. What the filter moved has ``Origin.SMOOTHED``, unless it
    was filled before: then it stays ``Origin.FILLED``. A sequence without fps counts as 30 frames a second.
    """
    if min(min_cutoff, derivative_cutoff) <= 0 or beta < 0:
        raise PoseError(
            f"One-Euro takes cut-offs above 0 and a beta from 0; "
            f"got {min_cutoff} and {derivative_cutoff} Hz and {beta}."
        )
    rate, height = poses.fps or 30.0, poses.canvas[1]
    points, seen = poses.points / height, poses.visible()[..., None]
    filtered = points.copy()
    speed = np.zeros(points.shape[1:])
    for now in range(1, len(points)):
        known = seen[now] & seen[now - 1]
        raw_speed = (points[now] - filtered[now - 1]) * rate
        speed = np.where(known, speed + _weight(derivative_cutoff, rate) * (raw_speed - speed), 0.0)
        weight = _weight(min_cutoff + beta * np.abs(speed), rate)
        calmed = filtered[now - 1] + weight * (points[now] - filtered[now - 1])
        filtered[now] = np.where(known, calmed, points[now])
    moved = np.zeros(poses.scores.shape, bool)
    moved[1:] = (seen[1:] & seen[:-1])[..., 0] & (poses.origins[1:] != Origin.FILLED)
    return replace(
        poses,
        points=np.where(seen, filtered * height, poses.points),
        origins=np.where(moved, np.uint8(Origin.SMOOTHED), poses.origins),
    )


def _weight(cutoff: np.ndarray | float, rate: float) -> np.ndarray | float:
    """How much of a new sample a low-pass filter of this cut-off (Hz) lets in."""
    return 1 / (1 + rate / (2 * np.pi * cutoff))
