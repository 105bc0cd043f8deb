"""Where a known puppet's joints are in a picture: the pose detector that the demo's quality is measured with.

No network, and nothing of the true pose: the finder knows the puppet (proportions and colours, as the
renderer does) and searches the angles at which the picture shows the colours of its parts inside their
outlines and something else beside them; the face, whose features are pixels wide, is drawn and compared.
Coarse to fine, trunk first, then limb by limb, every frame afresh. How well it finds joints is measured on
true frames, whose joints are known (``app/benchmark.py`` states it beside every result).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from einops import rearrange, repeat

from ..pose_align.detector import Detection, check_frame
from ..pose_align.pose import POINTS
from ..pose_align.skeleton import BODY, FACE, Joint
from .puppets import ANGLES, LEFT, MOTION_RANGES, RIGHT, Puppet, joints, render

J = Joint

WORST = 90.0
"""Length of a difference of RGB values from which on two colours are simply different."""
HOPELESS = 1.17
"""Misfit at which a part scores 0. Noise and empty scenes are at 0.83 and more, so they stay below 0.3."""
BESIDE_WEIGHT = 0.4
"""Weight of what lies beside a part against what lies on it."""


# ---- the parts and where they are looked at --------------------------------------------------------------


@dataclass(frozen=True)
class Limb:
    """A tapered part from one joint to the next: radii at both in units of girth, colour by its name."""

    start: Joint
    end: Joint
    radii: tuple[float, float]
    colour: str


LIMBS = {
    "upper arm right": Limb(J.R_SHOULDER, J.R_ELBOW, (0.036, 0.028), "shirt"),
    "forearm right": Limb(J.R_ELBOW, J.R_WRIST, (0.024, 0.018), "sleeve"),
    "upper arm left": Limb(J.L_SHOULDER, J.L_ELBOW, (0.036, 0.028), "shirt"),
    "forearm left": Limb(J.L_ELBOW, J.L_WRIST, (0.024, 0.018), "sleeve"),
    "thigh right": Limb(J.R_HIP, J.R_KNEE, (0.045, 0.033), "leg"),
    "shin right": Limb(J.R_KNEE, J.R_ANKLE, (0.032, 0.022), "leg"),
    "thigh left": Limb(J.L_HIP, J.L_KNEE, (0.045, 0.033), "leg"),
    "shin left": Limb(J.L_KNEE, J.L_ANKLE, (0.032, 0.022), "leg"),
}
PARTS = ("torso", "head", *LIMBS)

ALONG = np.linspace(0.1, 0.95, 7)
ACROSS, TONES = np.array([(0.0, 1.18), (0.6, 1.0), (-0.6, 1.0), (0.9, 0.72), (-0.9, 0.72)]).T
"""Places across a limb, in radii from its middle line, and the tones that the renderer paints there."""
BESIDE = np.array([-1.5, 1.5])
"""Places beside a limb, in radii, where its colour should not be."""

TORSO_ACROSS, TORSO_DOWN = np.linspace(-0.8, 0.8, 5), np.linspace(0.08, 0.8, 6)
"""Places on the torso: across in half widths, down in shares of the way from the shoulders to the hips."""
TORSO_BESIDE, HIPS_DOWN = np.array([-1.9, 1.9]), np.array([1.0])

ON_SKIN = np.array(
    [(0, 0.85), (-0.5, 0.72), (0.5, 0.72), (-0.82, 0.3), (0.82, 0.3), (0, 0.36), (-0.45, 0.3), (0.45, 0.3)]
)
ON_HAIR = np.array([(0.0, -0.93), (-0.45, -0.85), (0.45, -0.85), (-0.75, -0.68), (0.75, -0.68)])
OVER_HEAD = np.array([(0.0, -1.35), (-0.95, -0.95), (0.95, -0.95)])
"""Places in half axes of the head, x towards its left ear and y towards its chin."""


# ---- the search, as tables -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Angles that are searched together, the parts whose fit decides, and values tried of each angle."""

    angles: tuple[str, ...]
    parts: tuple[str, ...]
    counts: tuple[int, ...]

    def candidates(self, angles: np.ndarray, level: int = 0) -> np.ndarray:
        """[n, len(ANGLES)]: over the whole range, or around given angles at a step halved ``level`` times."""
        values = []
        for name, count in zip(self.angles, self.counts, strict=True):
            middle, swing = MOTION_RANGES[name]
            whole = np.linspace(middle - swing, middle + swing, count)
            near = angles[ANGLES.index(name)] + np.array([-1, 0, 1]) * (whole[1] - whole[0]) / 2**level
            values.append(near if level else whole)
        return _combined(angles, self.angles, values)


TRUNK = Group(("sway", "bounce", "lean", "head"), ("torso", "head"), (11, 3, 5, 3))
ENDS = (
    Group(("hip_right", "knee_right"), ("thigh right", "shin right"), (13, 9)),
    Group(("hip_left", "knee_left"), ("thigh left", "shin left"), (13, 9)),
    Group(("shoulder_right", "elbow_right"), ("upper arm right", "forearm right"), (21, 17)),
    Group(("shoulder_left", "elbow_left"), ("upper arm left", "forearm left"), (21, 17)),
)
TRUNKS = 6
"""Places of the trunk that the limbs choose among."""
REFINEMENTS = 5
"""Passes over all groups that follow, with three values of every angle."""

RESTING = np.array([MOTION_RANGES[name][0] for name in ANGLES])

FACE_OFFSETS = {
    # angle: what is tried around the body's
    "sway": np.linspace(-0.02, 0.02, 9),
    "bounce": np.linspace(-0.02, 0.02, 9),
    "head": np.linspace(-0.15, 0.15, 9),
    "turn": np.linspace(-0.35, 0.35, 15),
    "mouth": np.linspace(-0.45, 0.45, 13),
    "blink": np.array([0.0, 1.0]),
}
FACE_PLACE = ("sway", "bounce", "head")
"""Of these, the ones that move the head, which the body has placed already."""
UNLIKELY = 3.0
"""Grey levels by which a face must fit better to be at the far end of them: a blurred one tells little."""
FACE_ROUNDS = 2
FACE_SOFTNESS = 0.07
"""Both faces are blurred by this share of the head before they are compared: generated ones are soft."""
HEAD = [J.NOSE, J.R_EYE, J.L_EYE, J.R_EAR, J.L_EAR, *range(FACE.start, FACE.stop)]


class PuppetFinder:
    """A ``PoseDetector`` for pictures of one puppet; hands are not searched for."""

    name = "puppet finder"
    provider = "colour search"

    def __init__(self, puppet: Puppet) -> None:
        self.puppet = puppet

    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[list[Detection]]:
        """See ``PoseDetector.stream``; a part that does not look like the puppet's scores towards 0."""
        for frame in frames:
            yield [self.find(check_frame(frame))]

    def detect(self, frames: Iterable[np.ndarray]) -> list[list[Detection]]:
        """See ``PoseDetector.detect``."""
        return list(self.stream(frames))

    def find(self, frame: np.ndarray) -> Detection:
        """The puppet in one frame uint8 RGB [H, W, 3]."""
        picture = _Picture(frame, self.puppet)
        body = _search_body(picture)
        points = picture.points(body)
        points[HEAD] = picture.points(_search_face(picture, body))[HEAD]
        scores = _scores(picture.misfit(body[None]))
        box = np.concatenate([points.min(0), points.max(0)])
        return Detection(points, scores, box, float(scores[BODY].mean()))


def _search_body(picture: _Picture) -> np.ndarray:
    """[len(ANGLES)]: resting values, replaced group by group by those that fit best, coarse to fine."""
    guesses = _ranked(picture, TRUNK.candidates(RESTING), TRUNK.parts)[:TRUNKS]
    for end in ENDS:
        guesses = np.stack([_ranked(picture, end.candidates(guess), end.parts)[0] for guess in guesses])
    best = _ranked(picture, guesses)[0]
    for level in range(1, REFINEMENTS + 1):
        # The limbs hang on the trunk, so all parts say where it is.
        best = _ranked(picture, TRUNK.candidates(best, level))[0]
        for end in ENDS:
            best = _ranked(picture, end.candidates(best, level), end.parts)[0]
    return best


def _search_face(picture: _Picture, body: np.ndarray) -> np.ndarray:
    """The body's angles with those of head and face set, one after the other."""
    best, face = body, _FaceCrop(picture, body)
    for _ in range(FACE_ROUNDS):
        for name, offsets in FACE_OFFSETS.items():
            candidates = _combined(best, (name,), (body[ANGLES.index(name)] + offsets,))
            cost = np.array([face.misfit(angles) for angles in candidates])
            if name in FACE_PLACE:
                cost += UNLIKELY * (offsets / offsets.max()) ** 2
            best = candidates[cost.argmin()]
    return best


def _combined(angles: np.ndarray, names: Sequence[str], values: Sequence[np.ndarray]) -> np.ndarray:
    """[n, len(ANGLES)]: the angles with every combination of values for the named ones."""
    combinations = np.array(list(itertools.product(*values)))
    found = repeat(angles, "a -> n a", n=len(combinations)).copy()
    found[:, [ANGLES.index(name) for name in names]] = combinations
    return found


def _ranked(picture: _Picture, candidates: np.ndarray, parts: Sequence[str] = PARTS) -> np.ndarray:
    """The candidates [n, len(ANGLES)], those first whose parts fit best."""
    return candidates[sum(picture.misfit(candidates, parts).values()).argsort(kind="stable")]


def _scores(misfit: Mapping[str, np.ndarray]) -> np.ndarray:
    """float32 [134] in 0..1: how well the better of the parts that meet in a point fits."""
    fit = {part: float(np.clip(1 - value[0] / HOPELESS, 0, 1)) for part, value in misfit.items()}
    scores = np.zeros(POINTS, np.float32)
    scores[[J.NECK, J.R_SHOULDER, J.L_SHOULDER, J.R_HIP, J.L_HIP]] = fit["torso"]
    scores[HEAD] = fit["head"]
    for part, limb in LIMBS.items():
        for joint in (limb.start, limb.end):
            scores[joint] = max(scores[joint], fit[part])
    scores[J.L_BIG_TOE : J.L_HEEL + 1] = scores[J.L_ANKLE]
    scores[J.R_BIG_TOE : J.R_HEEL + 1] = scores[J.R_ANKLE]
    return scores


# ---- the puppet's geometry for many poses at once --------------------------------------------------------


@dataclass(frozen=True)
class Skeletons:
    """Many candidate poses: joints float64 [n, 18, 2] (1-13 are set), head centres [n, 2], tilts [n]."""

    joints: np.ndarray
    head: np.ndarray
    tilt: np.ndarray


def skeletons(puppet: Puppet, angles: np.ndarray, canvas: tuple[int, int]) -> Skeletons:
    """What ``puppets.joints`` gives for the trunk and limbs, for angles [n, len(ANGLES)] at once."""
    width, height = canvas
    unit = puppet.height * height
    of = dict(zip(ANGLES, angles.T, strict=True))
    lean, points = of["lean"], np.zeros((len(angles), 18, 2))
    across = np.stack([np.cos(lean), -np.sin(lean)], -1)
    ground = 0.95 * height - (puppet.thigh + puppet.shin) * unit
    pelvis = np.stack([width / 2 + of["sway"] * unit, ground - (0.03 + of["bounce"]) * unit], -1)
    neck = points[:, J.NECK] = pelvis - _down(lean) * puppet.torso * unit
    for side, shoulder, hip, name in (
        (RIGHT, J.R_SHOULDER, J.R_HIP, "right"),
        (LEFT, J.L_SHOULDER, J.L_HIP, "left"),
    ):
        raised, spread = side * of[f"shoulder_{name}"] + lean, side * of[f"hip_{name}"]
        arm = (raised, raised + side * of[f"elbow_{name}"]), (puppet.upper_arm, puppet.forearm)
        leg = (spread, spread + side * of[f"knee_{name}"]), (puppet.thigh, puppet.shin)
        points[:, shoulder] = neck + across * side * puppet.shoulders * unit / 2
        points[:, hip] = pelvis + across * side * puppet.hips * unit / 2
        for root, (directions, lengths) in ((shoulder, arm), (hip, leg)):
            for joint, direction, length in zip((root, root + 1), directions, lengths, strict=True):
                points[:, joint + 1] = points[:, joint] + _down(direction) * length * unit
    tilt = of["head"] + lean
    return Skeletons(points, neck - _down(tilt) * head_axes(puppet, height)[1] * 1.35, tilt)


def _down(angle: np.ndarray) -> np.ndarray:
    """Unit vectors [n, 2] at angles [n] from straight down."""
    return np.stack([np.sin(angle), np.cos(angle)], -1)


def head_axes(puppet: Puppet, height: int) -> np.ndarray:
    """Half axes (x, y) of the head in pixels of a canvas of that height."""
    return puppet.head * puppet.height * height / 2 * np.array([0.86, 1.12])


# ---- how well candidates fit the picture -----------------------------------------------------------------


class _Picture:
    """A frame, asked how badly the parts of candidate poses fit it (0 perfectly, above 1 not at all)."""

    def __init__(self, frame: np.ndarray, puppet: Puppet) -> None:
        self.frame, self._pixels = frame, np.ascontiguousarray(frame, np.float32)
        self.puppet, self.canvas = puppet, (frame.shape[1], frame.shape[0])
        self._colours = {
            "shirt": np.array(puppet.shirt),
            "sleeve": np.array(puppet.shirt if puppet.long_sleeves else puppet.skin),
            "leg": np.array(puppet.skin if puppet.skirt else puppet.trousers),
        }

    def points(self, angles: np.ndarray) -> np.ndarray:
        """float64 [134, 2] of angles [len(ANGLES)], in pixels."""
        return joints(self.puppet, dict(zip(ANGLES, angles.tolist(), strict=True)), self.canvas)

    def misfit(self, angles: np.ndarray, parts: Sequence[str] = PARTS) -> dict[str, np.ndarray]:
        """Part -> [n] for angles [n, len(ANGLES)]."""
        found = skeletons(self.puppet, angles, self.canvas)
        of = {"torso": self._torso, "head": self._head}
        return {part: of[part](found) if part in of else self._limb(LIMBS[part], found) for part in parts}

    def _limb(self, limb: Limb, found: Skeletons) -> np.ndarray:
        start, end = (found.joints[:, None, None, joint] for joint in (limb.start, limb.end))
        along = (end - start) / np.linalg.norm(end - start, axis=-1, keepdims=True)
        normal = np.stack([-along[..., 1], along[..., 0]], -1)
        unit = self.puppet.girth * self.puppet.height * self.canvas[1]
        radius = (limb.radii[0] + (limb.radii[1] - limb.radii[0]) * ALONG)[:, None] * unit
        middle = start + (end - start) * ALONG[:, None, None]
        colour = self._colours[limb.colour]
        painted = np.clip(colour * TONES[:, None], 0, 255)
        inside = self._unlike(middle + normal * (radius * ACROSS)[..., None], painted).mean((1, 2))
        beside = self._unlike(middle + normal * (radius * BESIDE)[..., None], colour).mean((1, 2))
        return inside + BESIDE_WEIGHT * (1 - beside)

    def _torso(self, found: Skeletons) -> np.ndarray:
        shirt = self._colours["shirt"]
        on = self._unlike(_on_torso(found, TORSO_ACROSS, TORSO_DOWN), shirt).mean((1, 2))
        hips = self._unlike(_on_torso(found, TORSO_ACROSS, HIPS_DOWN), np.array(self.puppet.trousers))
        beside = self._unlike(_on_torso(found, TORSO_BESIDE, TORSO_DOWN), shirt).mean((1, 2))
        return 0.7 * on + 0.3 * hips.mean((1, 2)) + BESIDE_WEIGHT * (1 - beside)

    def _head(self, found: Skeletons) -> np.ndarray:
        axes = head_axes(self.puppet, self.canvas[1])
        skin, hair = np.array(self.puppet.skin), np.array(self.puppet.hair)
        on = [self._unlike(_on_head(found, ON_SKIN * axes), skin)]
        on += [self._unlike(_on_head(found, ON_HAIR * axes), hair)]
        over = _on_head(found, OVER_HEAD * axes)
        outside = np.minimum(self._unlike(over, hair), self._unlike(over, skin)).mean(1)
        return np.concatenate(on, axis=1).mean(1) + BESIDE_WEIGHT * (1 - outside)

    def _unlike(self, places: np.ndarray, colours: np.ndarray) -> np.ndarray:
        """[...] in 0..1: how far the picture at places [..., 2] is from colours like [..., 3]."""
        flat = rearrange(places.astype(np.float32), "n ... c -> n (...) c")
        x, y = flat[..., 0], flat[..., 1]
        seen = cv2.remap(self._pixels, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        apart = np.linalg.norm(seen.reshape(*places.shape[:-1], 3) - colours, axis=-1)
        return np.minimum(apart / WORST, 1.0)


def _on_torso(found: Skeletons, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Pixels [n, down, across, 2] of places between the shoulders and the hips."""

    def edge(shoulder: Joint, hip: Joint) -> np.ndarray:
        top, bottom = found.joints[:, None, shoulder], found.joints[:, None, hip]
        return (top + (bottom - top) * down[:, None])[:, :, None]

    right, left = edge(J.R_SHOULDER, J.R_HIP), edge(J.L_SHOULDER, J.L_HIP)
    return (right + left) / 2 + (left - right) / 2 * across[:, None]


def _on_head(found: Skeletons, places: np.ndarray) -> np.ndarray:
    """Pixels [n, p, 2] of places [p, 2] in pixels from the middle of an upright head."""
    cos, sin = np.cos(found.tilt)[:, None], np.sin(found.tilt)[:, None]
    x, y = places.T
    return found.head[:, None] + np.stack([cos * x + sin * y, -sin * x + cos * y], -1)


class _FaceCrop:
    """The face of a picture, asked how much it differs from candidates drawn by the renderer itself."""

    def __init__(self, picture: _Picture, body: np.ndarray) -> None:
        self._picture = picture
        found = skeletons(picture.puppet, body[None], picture.canvas)
        axes = head_axes(picture.puppet, picture.canvas[1])
        reach = int(np.ceil(axes.max())) + 1
        most = np.maximum(np.array(picture.canvas) - 2 * reach, 0)
        self._corner = np.clip(found.head[0] - reach, 0, most).astype(int)
        left, top = self._corner
        self._crop = picture.frame[top : top + 2 * reach, left : left + 2 * reach]
        self._softness = FACE_SOFTNESS * reach
        self._soft = self._softened(self._crop)
        pixels = np.stack(np.meshgrid(*map(np.arange, self._crop.shape[1::-1])), -1)
        self._on_face = np.linalg.norm((pixels + self._corner - found.head[0]) / axes, axis=-1) < 1

    def misfit(self, angles: np.ndarray) -> float:
        """Mean difference in grey levels inside the outline of the head."""
        drawn = render(self._picture.puppet, self._picture.points(angles) - self._corner, self._crop)
        return float(np.abs(self._softened(drawn) - self._soft)[self._on_face].mean())

    def _softened(self, picture: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(picture.astype(np.float32), (0, 0), self._softness)
