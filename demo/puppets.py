"""Drawn people that move: pictures with exact joints, face points and hands, for demo inputs and training.

A puppet is a set of proportions and colours, a motion a set of angles over time, a scene a background with
motion of its own. Everything follows from integer seeds; the same seeds give the same pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

POINTS = 134
SUPERSAMPLING = 2
RIGHT, LEFT = -1.0, 1.0
"""Picture side of the puppet's own right and left: it faces the viewer."""

SKIN = ((255, 219, 190), (236, 188, 150), (198, 142, 102), (141, 94, 62), (92, 60, 40))
CLOTHES = (
    (214, 40, 57), (242, 143, 30), (250, 210, 50), (60, 160, 70), (30, 140, 160),
    (40, 80, 200), (120, 60, 170), (230, 90, 160), (245, 245, 240), (40, 40, 55),
)  # fmt: skip
HAIR = ((35, 25, 20), (90, 55, 30), (160, 105, 50), (225, 190, 110), (170, 60, 30), (120, 120, 130))
EYES = ((60, 90, 40), (60, 110, 170), (80, 50, 30))

MOTION_RANGES = {
    # angle: (resting value, largest swing), radians unless said otherwise
    "sway": (0.0, 0.05),  # of the figure's height, sideways
    "bounce": (0.0, 0.02),  # of the figure's height
    "lean": (0.0, 0.10),
    "head": (0.0, 0.16),
    "turn": (0.0, 0.35),  # of the head's half width: the face slides
    "shoulder_right": (0.55, 0.85),
    "shoulder_left": (0.55, 0.85),
    "elbow_right": (0.60, 0.75),
    "elbow_left": (0.60, 0.75),
    "hip_right": (0.14, 0.20),
    "hip_left": (0.14, 0.20),
    "knee_right": (-0.12, 0.22),
    "knee_left": (-0.12, 0.22),
    "mouth": (0.45, 0.45),  # openness, 0 closed, 1 wide
    "blink": (0.0, 0.0),
    "fingers": (0.75, 0.25),  # spread, 0 closed, 1 wide
}
ANGLES = tuple(MOTION_RANGES)


@dataclass(frozen=True)
class Puppet:
    """Proportions in fractions of the figure's height, and colours (RGB, 0-255)."""

    height: float
    head: float
    shoulders: float
    hips: float
    torso: float
    upper_arm: float
    forearm: float
    thigh: float
    shin: float
    girth: float
    skin: tuple[int, int, int]
    shirt: tuple[int, int, int]
    trousers: tuple[int, int, int]
    shoes: tuple[int, int, int]
    hair: tuple[int, int, int]
    eyes: tuple[int, int, int]
    long_sleeves: bool
    long_hair: bool
    skirt: bool
    striped: bool

    @staticmethod
    def from_seed(seed: int) -> Puppet:
        rng = np.random.default_rng([seed, 1])
        pick = lambda table: table[int(rng.integers(len(table)))]  # noqa: E731
        shirt, trousers = (CLOTHES[i] for i in rng.choice(len(CLOTHES), 2, replace=False))
        scale = lambda centre, spread=0.12: float(centre * rng.uniform(1 - spread, 1 + spread))  # noqa: E731
        return Puppet(
            height=float(rng.uniform(0.70, 0.80)), head=scale(0.200), shoulders=scale(0.230),
            hips=scale(0.145), torso=scale(0.285, 0.08), upper_arm=scale(0.150),
            forearm=scale(0.135), thigh=scale(0.235, 0.08),
            shin=scale(0.215, 0.08), girth=scale(1.15, 0.2), skin=pick(SKIN), shirt=shirt, trousers=trousers,
            shoes=pick(CLOTHES), hair=pick(HAIR), eyes=pick(EYES), long_sleeves=bool(rng.integers(2)),
            long_hair=bool(rng.integers(2)), skirt=bool(rng.integers(3) == 0),
            striped=bool(rng.integers(3) == 0),
        )  # fmt: skip


@dataclass(frozen=True)
class Motion:
    """Every angle as a sum of sinusoids with periods of 14 to 40 frames."""

    amplitudes: np.ndarray
    periods: np.ndarray
    phases: np.ndarray

    @staticmethod
    def from_seed(seed: int, harmonics: int = 3) -> Motion:
        rng = np.random.default_rng([seed, 2])
        shape = (len(ANGLES), harmonics)
        weights = rng.dirichlet(np.ones(harmonics), len(ANGLES))
        swing = np.array([MOTION_RANGES[a][1] for a in ANGLES])[:, None]
        return Motion(weights * swing, rng.uniform(14, 40, shape), rng.uniform(0, 2 * np.pi, shape))

    def angles(self, frame: float) -> dict[str, float]:
        """The angles at a frame number (fractions allowed)."""
        swing = (self.amplitudes * np.sin(2 * np.pi * frame / self.periods + self.phases)).sum(1)
        values = {a: MOTION_RANGES[a][0] + float(s) for a, s in zip(ANGLES, swing, strict=True)}
        # Eyes close for three frames every 37: a blink is an event, not a wave.
        values["blink"] = float((frame + 10 * self.phases[0, 0]) % 37 < 3)
        return values


STILL = Motion(np.zeros((len(ANGLES), 1)), np.ones((len(ANGLES), 1)), np.full((len(ANGLES), 1), 0.5))
"""A motion that does not move: the resting pose, at frame 0 between two blinks."""


def _direction(angle: float) -> np.ndarray:
    """Unit vector at an angle from straight down, positive to the picture's right."""
    return np.array([np.sin(angle), np.cos(angle)])


def joints(puppet: Puppet, angles: dict[str, float], canvas: tuple[int, int]) -> np.ndarray:
    """float64 [134, 2]: every point of the figure in pixels of the canvas (width, height).

    Order: 18 body, 6 feet, 68 face, 21 left hand, 21 right hand (UniAnimate spec 9.3).
    """
    width, height = canvas
    unit = puppet.height * height
    points = np.zeros((POINTS, 2))
    lean = angles["lean"]
    up, across = -_direction(lean), np.array([np.cos(lean), -np.sin(lean)])
    leg = (puppet.thigh + puppet.shin) * unit
    pelvis = np.array(
        [width / 2 + angles["sway"] * unit, 0.95 * height - leg - (0.03 + angles["bounce"]) * unit]
    )
    neck = pelvis + up * puppet.torso * unit
    points[1] = neck
    for side, arm, limb_leg, name in ((RIGHT, 2, 8, "right"), (LEFT, 5, 11, "left")):
        shoulder = neck + across * side * puppet.shoulders * unit / 2
        raise_ = side * angles[f"shoulder_{name}"] + lean
        bend = raise_ + side * angles[f"elbow_{name}"]
        elbow = shoulder + _direction(raise_) * puppet.upper_arm * unit
        points[arm : arm + 3] = shoulder, elbow, elbow + _direction(bend) * puppet.forearm * unit
        hip = pelvis + across * side * puppet.hips * unit / 2
        spread = side * angles[f"hip_{name}"]
        knee = hip + _direction(spread) * puppet.thigh * unit
        ankle = knee + _direction(spread + side * angles[f"knee_{name}"]) * puppet.shin * unit
        points[limb_leg : limb_leg + 3] = hip, knee, ankle
        _foot(points, 21 if side == RIGHT else 18, ankle, side, 0.055 * unit)
        _hand(
            points, 113 if side == RIGHT else 92, points[arm + 2], bend, side, angles["fingers"], 0.075 * unit
        )
    _face(points, puppet, angles, neck, unit)
    return points


def _foot(points: np.ndarray, at: int, ankle: np.ndarray, side: float, length: float) -> None:
    offsets = np.array([[0.75 * side, 0.55], [1.0 * side, 0.35], [-0.35 * side, 0.45]])
    points[at : at + 3] = ankle + offsets * length


def _hand(
    points: np.ndarray, at: int, wrist: np.ndarray, angle: float, side: float, spread: float, size: float
) -> None:
    points[at] = wrist
    for finger in range(5):
        # The thumb is finger 0; it lies on the body's side of a hand that hangs down.
        turn = angle - side * (2 - finger) * (0.10 + 0.28 * spread) * (1.35 if finger == 0 else 1.0)
        reach = size * (0.75, 0.95, 1.0, 0.95, 0.8)[finger]
        for joint, share in enumerate((0.40, 0.65, 0.85, 1.0)):
            points[at + 1 + 4 * finger + joint] = wrist + _direction(turn) * reach * share


def _face(
    points: np.ndarray, puppet: Puppet, angles: dict[str, float], neck: np.ndarray, unit: float
) -> None:
    half = puppet.head * unit / 2 * np.array([0.86, 1.12])
    tilt = angles["head"] + angles["lean"]
    rotation = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    centre = neck - rotation @ np.array([0.0, half[1] * 1.35])
    slide = np.array([angles["turn"], 0.0])
    place = lambda local: centre + (np.asarray(local) * half) @ rotation.T  # noqa: E731
    face = np.concatenate([_jaw(), _features(angles) + slide])
    points[24:92] = place(face)
    points[0] = points[24 + 30]
    points[14], points[15] = points[24 + 36 : 24 + 42].mean(0), points[24 + 42 : 24 + 48].mean(0)
    points[16], points[17] = place([-1.0, 0.0]), place([1.0, 0.0])


def _jaw() -> np.ndarray:
    """Points 0-16 of the 68: the head's outline from the picture's left ear over the chin to the right."""
    angle = np.linspace(0.0, np.pi, 17)
    return np.stack([-np.cos(angle), np.sin(angle)], -1)


def _features(angles: dict[str, float]) -> np.ndarray:
    """Points 17-67 in units of the head's half axes: brows, nose, eyes, mouth."""
    arc = np.linspace(-1, 1, 5)
    brow = np.stack([0.19 * arc, -0.36 - 0.06 * (1 - arc**2)], -1)
    bridge = np.stack([np.zeros(4), np.linspace(-0.12, 0.18, 4)], -1)
    nostrils = np.stack([0.11 * arc, 0.27 + 0.03 * (1 - arc**2)], -1)
    openness = 1.0 - 0.85 * angles["blink"]
    eye = np.array([[-1, 0], [-0.4, -1], [0.4, -1], [1, 0], [0.4, 1], [-0.4, 1]]) * [0.19, 0.13 * openness]
    mouth_open = 0.02 + 0.19 * max(0.0, angles["mouth"])
    outer_angle, inner_angle = np.linspace(np.pi, 3 * np.pi, 13)[:-1], np.linspace(np.pi, 3 * np.pi, 9)[:-1]
    lips = lambda a, w, h: np.stack([w * np.cos(a), 0.56 + h * np.sin(a)], -1)  # noqa: E731
    return np.concatenate(
        [
            brow - [0.40, 0], brow + [0.40, 0], bridge, nostrils, eye + [-0.40, -0.12], eye + [0.40, -0.12],
            lips(outer_angle, 0.34, mouth_open + 0.07), lips(inner_angle, 0.25, mouth_open),
        ]
    )  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A background of one kind that moves by itself; ``kind`` names one of ``KINDS``."""

    kind: str
    top: tuple[int, int, int]
    bottom: tuple[int, int, int]
    seed: int

    KINDS = ("plain", "water", "smoke", "particles", "plants")

    @staticmethod
    def from_seed(seed: int) -> Scene:
        rng = np.random.default_rng([seed, 3])
        top, bottom = (tuple(int(c) for c in rng.integers(90, 226, 3)) for _ in range(2))
        return Scene(Scene.KINDS[int(rng.integers(len(Scene.KINDS)))], top, bottom, seed)

    def render(self, frame: float, canvas: tuple[int, int]) -> np.ndarray:
        """uint8 RGB [H, W, 3] at a frame number."""
        width, height = canvas
        y = np.linspace(0, 1, height)[:, None, None]
        picture = np.broadcast_to(
            (1 - y) * np.array(self.top) + y * np.array(self.bottom), (height, width, 3)
        )
        painter = {"water": _water, "smoke": _smoke, "particles": _particles, "plants": _plants}.get(
            self.kind
        )
        if painter is None:
            return picture.astype(np.uint8)
        rng = np.random.default_rng([self.seed, 4])
        return painter(picture.copy(), frame, rng).clip(0, 255).astype(np.uint8)


def _grid(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y in units of the picture's width, [H, W] each."""
    height, width = picture.shape[:2]
    return np.meshgrid(np.arange(width) / width, np.arange(height) / width)


def _water(picture: np.ndarray, frame: float, rng: np.random.Generator) -> np.ndarray:
    x, y = _grid(picture)
    surface = 0.55 * y.max()
    phase = rng.uniform(0, 2 * np.pi, 2)
    waves = np.sin(2 * np.pi * (5 * x + 14 * y - frame / 16) + phase[0]) + np.sin(
        2 * np.pi * (-3 * x + 22 * y - frame / 24) + phase[1]
    )
    picture[y > surface] = picture[y > surface] * 0.55 + np.array([30, 90, 140]) * 0.45
    return picture + np.where(y > surface, 18 * waves, 0)[..., None]


def _smoke(picture: np.ndarray, frame: float, rng: np.random.Generator) -> np.ndarray:
    x, y = _grid(picture)
    bottom = y.max()
    for _ in range(7):
        column, phase, size = rng.uniform(0, 1), rng.uniform(), rng.uniform(0.10, 0.2)
        risen = (frame / 60 + phase) % 1.0
        centre_x, centre_y = column + 0.06 * np.sin(2 * np.pi * (risen + phase)), bottom * (1.1 - 1.2 * risen)
        puff = np.exp(-(((x - centre_x) ** 2 + (y - centre_y) ** 2) / (size * (0.4 + risen)) ** 2))
        picture += (45 * np.sin(np.pi * risen) * puff)[..., None]
    return picture


def _particles(picture: np.ndarray, frame: float, rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    colour = rng.integers(170, 256, 3).tolist()
    layer = picture.astype(np.uint8).copy()
    for _ in range(60):
        column, phase, size = rng.uniform(0, 1), rng.uniform(), rng.uniform(0.006, 0.016)
        fallen = (frame / 60 + phase) % 1.0
        at = (
            np.array([column + 0.03 * np.sin(2 * np.pi * (2 * fallen + phase)), fallen * height / width])
            * width
        )
        cv2.circle(layer, _fixed(at), int(size * width * 16), colour, -1, cv2.LINE_AA, 4)
    return layer.astype(np.float64)


def _plants(picture: np.ndarray, frame: float, rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    layer = picture.astype(np.uint8).copy()
    for _ in range(26):
        root, tall, phase = rng.uniform(0, 1), rng.uniform(0.15, 0.45), rng.uniform(0, 2 * np.pi)
        green = (int(rng.integers(20, 90)), int(rng.integers(110, 190)), int(rng.integers(20, 90)))
        bend = 0.06 * np.sin(2 * np.pi * frame / 28 + phase)
        share = np.linspace(0, 1, 8)
        stem = np.stack([(root + bend * share**2) * width, height * (1 - tall * share)], -1)
        cv2.polylines(layer, [_fixed(stem)], False, green, max(1, width // 90), cv2.LINE_AA, 4)
    return layer.astype(np.float64)


def _fixed(points: np.ndarray) -> np.ndarray | tuple[int, ...]:
    """Pixels as OpenCV's fixed-point integers with 4 fractional bits."""
    fixed = np.round(np.asarray(points) * 16).astype(np.int32)
    return tuple(int(v) for v in fixed) if fixed.ndim == 1 else fixed


def _shade(colour: tuple[int, int, int], factor: float) -> list[int]:
    return np.clip(np.array(colour) * factor, 0, 255).astype(int).tolist()


def _capsule(picture: np.ndarray, a: np.ndarray, b: np.ndarray, ra: float, rb: float, colour) -> None:
    """A tapered limb from a to b in three tones: dark rim, body, light stripe."""
    for shrink, tone in ((1.0, 0.72), (0.82, 1.0), (0.35, 1.18)):
        along = (b - a) / max(np.linalg.norm(b - a), 1e-6)
        normal = np.array([-along[1], along[0]])
        quad = np.array(
            [
                a + normal * ra * shrink,
                b + normal * rb * shrink,
                b - normal * rb * shrink,
                a - normal * ra * shrink,
            ]
        )
        cv2.fillConvexPoly(picture, _fixed(quad), _shade(colour, tone), cv2.LINE_AA, 4)
        for centre, radius in ((a, ra), (b, rb)):
            cv2.circle(
                picture, _fixed(centre), int(radius * shrink * 16), _shade(colour, tone), -1, cv2.LINE_AA, 4
            )


def render(puppet: Puppet, points: np.ndarray, background: np.ndarray) -> np.ndarray:
    """uint8 RGB [H, W, 3]: the figure with these ``joints`` in front of a background of the same size."""
    height, width = background.shape[:2]
    s = SUPERSAMPLING
    picture = cv2.resize(background, (width * s, height * s), interpolation=cv2.INTER_LINEAR)
    p, unit = points * s, puppet.height * height * s
    if puppet.long_hair:
        _long_hair(picture, puppet, p, unit)
    for hip, foot in ((8, 21), (11, 18)):
        _leg(picture, puppet, p, hip, foot, unit)
    _torso(picture, puppet, p, unit)
    _capsule(picture, p[1], p[1] - (p[1] - p[24 + 8]) * 0.8, 0.026 * unit, 0.026 * unit, puppet.skin)
    _head(picture, puppet, p, unit)
    for shoulder, hand in ((2, 113), (5, 92)):
        _arm(picture, puppet, p, shoulder, hand, unit)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _long_hair(picture: np.ndarray, puppet: Puppet, p: np.ndarray, unit: float) -> None:
    top = (p[16] + p[17]) / 2
    _capsule(
        picture,
        top,
        top + (p[1] - top) * 1.25,
        0.55 * puppet.head * unit,
        0.5 * puppet.head * unit,
        puppet.hair,
    )


def _leg(picture: np.ndarray, puppet: Puppet, p: np.ndarray, hip: int, foot: int, unit: float) -> None:
    g = puppet.girth * unit
    lower = puppet.skin if puppet.skirt else puppet.trousers
    _capsule(picture, p[hip + 1], p[hip + 2], 0.032 * g, 0.022 * g, lower)
    _capsule(picture, p[hip], p[hip + 1], 0.045 * g, 0.033 * g, lower)
    _capsule(picture, p[foot + 2], (p[foot] + p[foot + 1]) / 2, 0.020 * g, 0.022 * g, puppet.shoes)


def _torso(picture: np.ndarray, puppet: Puppet, p: np.ndarray, unit: float) -> None:
    waist = (p[8] + p[11]) / 2 + (p[1] - (p[8] + p[11]) / 2) * 0.3
    side = (p[5] - p[2]) * 0.36 * puppet.girth
    chest = np.array([p[2], p[5], waist + side, p[11], p[8], waist - side])
    cv2.fillPoly(picture, [_fixed(chest)], _shade(puppet.shirt, 1.0), cv2.LINE_AA, 4)
    _capsule(picture, p[2], p[5], 0.036 * unit, 0.036 * unit, puppet.shirt)
    if puppet.striped:
        for share in (0.25, 0.5, 0.75):
            a, b = (p[i] + (p[j] - p[i]) * share for i, j in ((2, 8), (5, 11)))
            cv2.line(
                picture,
                _fixed(a),
                _fixed(b),
                _shade(puppet.shirt, 0.55),
                max(1, int(0.014 * unit)),
                cv2.LINE_AA,
                4,
            )
    if puppet.skirt:
        hem = [p[i] + (p[i + 1] - p[i]) * 0.75 + (p[i] - p[j]) * 0.45 for i, j in ((8, 11), (11, 8))]
        cv2.fillPoly(
            picture,
            [_fixed(np.array([p[8], p[11], hem[1], hem[0]]))],
            _shade(puppet.trousers, 1.0),
            cv2.LINE_AA,
            4,
        )
    _capsule(picture, p[8], p[11], 0.045 * unit * puppet.girth, 0.045 * unit * puppet.girth, puppet.trousers)


def _head(picture: np.ndarray, puppet: Puppet, p: np.ndarray, unit: float) -> None:
    face, across = p[24:92], p[17] - p[16]
    centre, angle = (p[16] + p[17]) / 2, float(np.degrees(np.arctan2(across[1], across[0])))
    half = np.array([np.linalg.norm(across) / 2, np.linalg.norm(p[24 + 8] - centre)])
    ellipse = lambda scale, colour, start=0, end=360: cv2.ellipse(  # noqa: E731
        picture, _fixed(centre), _fixed(half * scale), angle, start, end, colour, -1, cv2.LINE_AA, 4
    )
    ellipse(1.10, _shade(puppet.hair, 1.0))
    ellipse(1.00, _shade(puppet.skin, 1.0))
    ellipse(1.06, _shade(puppet.hair, 1.0), 205, 335)
    for at in (36, 42):
        eye = face[at : at + 6]
        cv2.fillPoly(picture, [_fixed(eye)], (250, 250, 250), cv2.LINE_AA, 4)
        open_ = np.linalg.norm(eye[1] - eye[5]) / 2
        cv2.circle(picture, _fixed(eye.mean(0)), int(open_ * 0.95 * 16), puppet.eyes, -1, cv2.LINE_AA, 4)
    thin = max(1, int(0.006 * unit))
    for line in (face[17:22], face[22:27]):
        cv2.polylines(picture, [_fixed(line)], False, _shade(puppet.hair, 0.9), thin, cv2.LINE_AA, 4)
    cv2.polylines(picture, [_fixed(face[31:36])], False, _shade(puppet.skin, 0.7), thin, cv2.LINE_AA, 4)
    cv2.fillPoly(picture, [_fixed(face[48:60])], (190, 60, 70), cv2.LINE_AA, 4)
    cv2.fillPoly(picture, [_fixed(face[60:68])], (70, 15, 25), cv2.LINE_AA, 4)


def _arm(picture: np.ndarray, puppet: Puppet, p: np.ndarray, shoulder: int, hand: int, unit: float) -> None:
    g = puppet.girth * unit
    for finger in range(5):
        line = p[[hand, *range(hand + 1 + 4 * finger, hand + 5 + 4 * finger)]]
        cv2.polylines(
            picture,
            [_fixed(line)],
            False,
            _shade(puppet.skin, 0.9),
            max(1, int(0.013 * unit)),
            cv2.LINE_AA,
            4,
        )
    cv2.circle(
        picture, _fixed(p[hand + 9]), int(0.020 * unit * 16), _shade(puppet.skin, 1.0), -1, cv2.LINE_AA, 4
    )
    _capsule(
        picture,
        p[shoulder + 1],
        p[shoulder + 2],
        0.024 * g,
        0.018 * g,
        puppet.shirt if puppet.long_sleeves else puppet.skin,
    )
    _capsule(picture, p[shoulder], p[shoulder + 1], 0.036 * g, 0.028 * g, puppet.shirt)


def clip(
    puppet: Puppet, motion: Motion, scene: Scene, frames: int, canvas: tuple[int, int], start: float = 0.0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (uint8 RGB [H, W, 3], float64 points [134, 2] in pixels) for each of the frames."""
    for i in range(frames):
        points = joints(puppet, motion.angles(start + i), canvas)
        yield render(puppet, points, scene.render(start + i, canvas)), points
