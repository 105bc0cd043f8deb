"""The skeleton as tables: joints, groups, limbs, colours, mirrors and parents.

Two numberings appear. The 134 points of ``pose.PoseSequence`` (UniAnimate spec 9.3) and the 20 points of the
"body" that UniAnimate aligns and draws: the first 18 of the 134, then the middle of each foot's toes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Joint(IntEnum):
    """The 18 body joints and 6 foot points by name; R and L are the person's own right and left."""

    NOSE = 0
    NECK = 1
    R_SHOULDER = 2
    R_ELBOW = 3
    R_WRIST = 4
    L_SHOULDER = 5
    L_ELBOW = 6
    L_WRIST = 7
    R_HIP = 8
    R_KNEE = 9
    R_ANKLE = 10
    L_HIP = 11
    L_KNEE = 12
    L_ANKLE = 13
    R_EYE = 14
    L_EYE = 15
    R_EAR = 16
    L_EAR = 17
    L_BIG_TOE = 18
    L_SMALL_TOE = 19
    L_HEEL = 20
    R_BIG_TOE = 21
    R_SMALL_TOE = 22
    R_HEEL = 23


J = Joint

BODY = slice(0, 18)
FEET = slice(18, 24)
FACE = slice(24, 92)
LEFT_HAND = slice(92, 113)
RIGHT_HAND = slice(113, 134)
HANDS = {"left": LEFT_HAND, "right": RIGHT_HAND}
WRISTS = {"left": J.L_WRIST, "right": J.R_WRIST}

# The two points of the 20-point body that are no points of the 134: the middle of the big and the small toe.
L_TOES, R_TOES = 18, 19
BODY20_POINTS = 20
BODY20 = (*range(18), 134, 135)  # their places when the toes' middles are appended to the 134
FOOT = {L_TOES: (J.L_BIG_TOE, J.L_SMALL_TOE, J.L_HEEL), R_TOES: (J.R_BIG_TOE, J.R_SMALL_TOE, J.R_HEEL)}
TOES = {toes: foot[:2] for toes, foot in FOOT.items()}

# COCO-WholeBody's 133 points with the neck inserted as number 17 -> ours: ours[i] = theirs[FROM_COCO[i]].
COCO_NECK = 17
COCO_SHOULDERS = (5, 6)
FROM_COCO = (0, 17, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3, *range(18, 134))


@dataclass(frozen=True)
class Limb:
    """One row of the alignment walk (UniAnimate spec 10.2), in numbers of the 20-point body.

    ``pivot`` stays, ``joint`` is brought to the reference length, ``followers`` and the ``hand`` move along.
    """

    name: str
    pivot: int
    joint: int
    followers: tuple[int, ...]
    hand: str | None = None

    @property
    def moved(self) -> list[int]:
        """Everything that moves along, in numbers of the 134 with the toes' middles appended (``BODY20``)."""
        points = [BODY20[point] for point in self.followers]
        for toes, foot in FOOT.items():
            points += foot if toes in self.followers else ()
        return points + (list(range(HANDS[self.hand].start, HANDS[self.hand].stop)) if self.hand else [])

    @property
    def mirror(self) -> str | None:
        """The name of the same limb on the other side."""
        side, _, kind = self.name.partition(" ")
        other = {"left": "right", "right": "left"}.get(side)
        return other and f"{other} {kind}"

    @property
    def parent(self) -> str | None:
        """The limb above, from which a ratio may be borrowed; None for neck, shoulders and thighs."""
        side, _, kind = self.name.partition(" ")
        above = PARENT_KIND.get(kind)
        return above and (f"{side} {above}" if above != "neck" else above)


PARENT_KIND = {"upper arm": "shoulder", "forearm": "upper arm", "eye": "neck", "ear": "eye", "shin": "thigh"}

# The order is the walk's order: a limb is measured after the limbs above it have been applied.
LIMBS = (
    Limb("neck", J.NECK, J.NOSE, (J.NOSE, J.R_EYE, J.L_EYE, J.R_EAR, J.L_EAR)),
    Limb("right shoulder", J.NECK, J.R_SHOULDER, (J.R_SHOULDER, J.R_ELBOW, J.R_WRIST), "right"),
    Limb("left shoulder", J.NECK, J.L_SHOULDER, (J.L_SHOULDER, J.L_ELBOW, J.L_WRIST), "left"),
    Limb("right upper arm", J.R_SHOULDER, J.R_ELBOW, (J.R_ELBOW, J.R_WRIST), "right"),
    Limb("right forearm", J.R_ELBOW, J.R_WRIST, (J.R_WRIST,), "right"),
    Limb("left upper arm", J.L_SHOULDER, J.L_ELBOW, (J.L_ELBOW, J.L_WRIST), "left"),
    Limb("left forearm", J.L_ELBOW, J.L_WRIST, (J.L_WRIST,), "left"),
    Limb("right eye", J.NOSE, J.R_EYE, (J.R_EYE, J.R_EAR)),
    Limb("left eye", J.NOSE, J.L_EYE, (J.L_EYE, J.L_EAR)),
    Limb("right ear", J.R_EYE, J.R_EAR, (J.R_EAR,)),
    Limb("left ear", J.L_EYE, J.L_EAR, (J.L_EAR,)),
    Limb("right thigh", J.R_HIP, J.R_KNEE, (J.R_KNEE, J.R_ANKLE, R_TOES)),
    Limb("right shin", J.R_KNEE, J.R_ANKLE, (J.R_ANKLE, R_TOES)),
    Limb("left thigh", J.L_HIP, J.L_KNEE, (J.L_KNEE, J.L_ANKLE, L_TOES)),
    Limb("left shin", J.L_KNEE, J.L_ANKLE, (J.L_ANKLE, L_TOES)),
)

# Strokes of the drawing in their order, in numbers of the 20-point body (UniAnimate spec 11 counts from 1).
STROKES = (
    (J.NECK, J.R_SHOULDER),
    (J.NECK, J.L_SHOULDER),
    (J.R_SHOULDER, J.R_ELBOW),
    (J.R_ELBOW, J.R_WRIST),
    (J.L_SHOULDER, J.L_ELBOW),
    (J.L_ELBOW, J.L_WRIST),
    (J.NECK, J.R_HIP),
    (J.R_HIP, J.R_KNEE),
    (J.R_KNEE, J.R_ANKLE),
    (J.NECK, J.L_HIP),
    (J.L_HIP, J.L_KNEE),
    (J.L_KNEE, J.L_ANKLE),
    (J.NECK, J.NOSE),
    (J.NOSE, J.R_EYE),
    (J.R_EYE, J.R_EAR),
    (J.NOSE, J.L_EYE),
    (J.L_EYE, J.L_EAR),
    (J.L_ANKLE, L_TOES),
    (J.R_ANKLE, R_TOES),
)

# By stroke and by point alike, in the order of the table in UniAnimate spec 11.
COLOURS = (
    (255, 0, 0),
    (255, 85, 0),
    (255, 170, 0),
    (255, 255, 0),
    (170, 255, 0),
    (85, 255, 0),
    (0, 255, 0),
    (0, 255, 85),
    (0, 255, 170),
    (0, 255, 255),
    (0, 170, 255),
    (0, 85, 255),
    (0, 0, 255),
    (85, 0, 255),
    (170, 0, 255),
    (255, 0, 255),
    (255, 0, 170),
    (255, 0, 85),
    (170, 255, 255),
    (255, 255, 0),
)

# A hand: wrist 0, then four joints from root to tip of thumb, index, middle, ring, little finger.
FINGERS = tuple(tuple(range(first, first + 4)) for first in (1, 5, 9, 13, 17))
HAND_EDGES = tuple(edge for finger in FINGERS for edge in zip((0, *finger[:3]), finger, strict=True))

# Which of the 18 body points belong to the head; the nose is the neck stroke's end and not among them.
HEAD = (J.R_EYE, J.L_EYE, J.R_EAR, J.L_EAR)


def _mirror_table() -> np.ndarray:
    """int [134]: the point that stands at a point's place in a mirrored person."""
    pairs = [(J.R_SHOULDER, J.L_SHOULDER), (J.R_ELBOW, J.L_ELBOW), (J.R_WRIST, J.L_WRIST), (J.R_HIP, J.L_HIP)]
    pairs += [(J.R_KNEE, J.L_KNEE), (J.R_ANKLE, J.L_ANKLE), (J.R_EYE, J.L_EYE), (J.R_EAR, J.L_EAR)]
    pairs += [(J.L_BIG_TOE, J.R_BIG_TOE), (J.L_SMALL_TOE, J.R_SMALL_TOE), (J.L_HEEL, J.R_HEEL)]
    pairs += [(LEFT_HAND.start + i, RIGHT_HAND.start + i) for i in range(21)]
    # The 68 face points: runs (first, last) whose points mirror end to end.
    runs = [(0, 16), (17, 26), (31, 35), (48, 54), (55, 59), (60, 64), (65, 67)]
    face = [(a + i, b - i) for a, b in runs for i in range((b - a + 1) // 2)]
    face += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(FACE.start + a, FACE.start + b) for a, b in face]
    table = np.arange(134)
    for a, b in pairs:
        table[a], table[b] = b, a
    return table


def _parent_table() -> np.ndarray:
    """int [134]: the neighbour nearer to the neck; the neck, the root, is its own parent."""
    table = np.zeros(134, int)
    for parent, child in STROKES[:17]:
        table[child] = parent
    table[J.NECK] = J.NECK
    table[J.L_BIG_TOE : J.L_HEEL + 1] = J.L_ANKLE
    table[J.R_BIG_TOE : J.R_HEEL + 1] = J.R_ANKLE
    table[FACE] = J.NOSE
    for side, hand in HANDS.items():
        table[hand.start] = WRISTS[side]
        for a, b in HAND_EDGES:
            table[hand.start + b] = hand.start + a
    return table


MIRROR = _mirror_table()
PARENT = _parent_table()
for _table in (MIRROR, PARENT):
    _table.setflags(write=False)

_NAMES = [limb.name for limb in LIMBS]
_GROUPS = (BODY, FEET, FACE, LEFT_HAND, RIGHT_HAND)
assert sorted(FROM_COCO) == list(range(134)), "every point of the 134 comes from exactly one source point"
assert [*(g.start for g in _GROUPS), 134] == [0, *(g.stop for g in _GROUPS)], "the groups tile the 134"
assert len(set(_NAMES)) == len(LIMBS) == 15
assert all(limb.joint in limb.followers and limb.pivot not in limb.followers for limb in LIMBS)
assert all(_NAMES.index(limb.parent) < _NAMES.index(limb.name) for limb in LIMBS if limb.parent)
assert all(limb.mirror in _NAMES for limb in LIMBS if limb.mirror)
assert len(STROKES) == 19 and {p for stroke in STROKES for p in stroke} == set(range(BODY20_POINTS))
assert len(COLOURS) == BODY20_POINTS and len(HAND_EDGES) == 20
assert (MIRROR[MIRROR] == np.arange(134)).all(), "mirroring twice changes nothing"
assert (PARENT[MIRROR] == MIRROR[PARENT]).all(), "a mirrored point's parent is the parent's mirror"
