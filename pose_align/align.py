"""Bringing a driving clip to the proportions of the reference person (UniAnimate spec 10).

Measure, then walk: two ratios for the whole figure, one for every limb of ``skeleton.LIMBS``, and one shift
of the neck. ``fidelity="original"`` reads everything off frame 0 with the literals (-1, -1) of missing points
taking part, as published. The default, "robust", gives the same numbers when frame 0 shows what is needed and
else finds them elsewhere. An ``AlignmentReport`` says for each number where it came from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from .pose import POINTS, VISIBLE, NormalisedPoses, Origin, PoseError, PoseSequence, normalise
from .skeleton import BODY, FACE, LIMBS, Joint, Limb

FIDELITIES = ("robust", "original")

BORROWED = (0.5, 2.0)
"""Limits of a limb's ratio that was not measured on the limb itself."""

# F: what follows keeps the robust walk from making monsters where the original would; none of it binds on the
# ratios of two people who face the camera (the golden cases have limbs at 0.9-1.5, the whole figure at
# 1.0-2.3).
LIMB_RANGE = (0.1, 10.0)
"""A limb's measured ratio outside this: the limb points at the camera, or was detected wrongly."""
AXIS_RANGE = (0.02, 50.0)
"""The same for the two ratios of the whole figure, whose sizes in the two pictures may differ more."""
MAX_STRETCH = 4.0
"""More than this between the axes, in pixels: shoulders seen from the side spoilt the horizontal ratio."""
MAX_OUTSIDE = 3.0
"""Points end at most this many canvases outside the canvas."""

TORSO = ((Joint.R_HIP, Joint.L_HIP), (Joint.R_SHOULDER, Joint.L_SHOULDER))
ANCHORS: tuple[tuple[Joint, ...], ...] = (
    (Joint.NECK,),
    TORSO[1],
    TORSO[0],
    *((joint,) for joint in list(Joint)[BODY]),
)
"""What is laid onto the reference: the neck as published, else the first of these that both show."""


class Source(str, Enum):
    """Where a ratio came from."""

    MEASURED = "measured"
    MIRROR = "mirror"
    PARENT = "parent"
    OTHER_AXIS = "other axis"
    DEFAULT = "default"


@dataclass(frozen=True)
class Ratio:
    """One number of the alignment: reference length / driving length, in fractions of the two canvases.

    frame: the driving frame it was measured in; None for a median over frames and for what was not measured.
    clamped: it was borrowed and lay outside ``BORROWED``.
    """

    name: str
    value: float
    source: Source = Source.MEASURED
    frame: int | None = None
    clamped: bool = False

    @property
    def origin(self) -> str:
        """Source and frame in words."""
        if self.source is Source.MEASURED:
            return "measured, median of frames" if self.frame is None else f"measured in frame {self.frame}"
        return self.source.value + (", clamped" if self.clamped else "")

    def __str__(self) -> str:
        return f"{self.name:<16} {self.value:7.3f}  {self.origin}"


@dataclass(frozen=True)
class Shift:
    """Where the driving person was laid onto the reference: (x, y) in fractions of the reference's canvas.

    anchor: names of the joints laid on each other, empty where nothing could be; frame: in which driving
            frame.
    """

    x: float
    y: float
    anchor: tuple[str, ...]
    frame: int

    def __str__(self) -> str:
        anchor = " and ".join(self.anchor) or "nothing that both show"
        return f"shift ({self.x:+.3f}, {self.y:+.3f}) by {anchor} of frame {self.frame}"


@dataclass(frozen=True)
class AlignmentReport:
    """What the alignment did, number by number.

    reference, driving, aligned hold one frame each for the picture: that in which the person was laid on the
    reference.
    """

    fidelity: str
    x: Ratio
    y: Ratio
    limbs: tuple[Ratio, ...]
    shift: Shift
    reference: PoseSequence = field(repr=False, compare=False)
    driving: PoseSequence = field(repr=False, compare=False)
    aligned: PoseSequence = field(repr=False, compare=False)

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """All numbers in the order in which they were found: x, y, then the limbs of the walk."""
        return (self.x, self.y, *self.limbs)

    def text(self) -> str:
        """One line for every number."""
        return "\n".join([f"alignment: {self.fidelity}", *map(str, (*self.ratios, self.shift))])

    def as_dict(self) -> dict:
        """The same for a script: plain numbers and strings that ``json`` takes."""
        ratios = [{**vars(ratio), "source": ratio.source.value} for ratio in self.ratios]
        return {"fidelity": self.fidelity, "ratios": ratios, "shift": vars(self.shift)}

    def json(self) -> str:
        """``as_dict`` as JSON text."""
        return json.dumps(self.as_dict(), indent=1)

    def picture(self, height: int = 640) -> np.ndarray:
        """uint8 RGB [height, W, 3]: the driving pose, the aligned pose over the reference, the numbers."""
        from .draw import draw_report

        return draw_report(self, height)


def align(
    driving: PoseSequence, reference: PoseSequence, *, fidelity: str = "robust", median: bool = False
) -> tuple[PoseSequence, AlignmentReport]:
    """The driving clip with the reference's proportions, in the reference's canvas (UniAnimate spec 10).

    driving:   F frames in their own canvas; fps, person_id, scores and origins are handed on.
    reference: its first frame is used.
    fidelity:  "original" is the published frame-0 rule; where it divides by zero and its drawing crashes, the
               ratio becomes 1 (F). "robust" measures in the first frame that shows all that is needed, limb
               by limb if there is none; borrows what cannot be measured from the mirror limb, then the
               parent, within 0.5-2; else takes 1; and moves nothing by a joint that is missing.
    median:    robust only: every ratio is its median over all frames in which it can be measured.

    Every coordinate of the result is finite, and the robust result's at most ``MAX_OUTSIDE`` canvases
    outside. Raises PoseError where one of the two shows nobody at all.
    """
    _check(driving, reference, fidelity, median)
    theirs, ours = normalise(driving), normalise(reference[:1])
    if fidelity == "original":
        return _align_original(driving, reference, theirs, ours)
    # The literals would only be in the way: what is missing is known by its mask.
    theirs = replace(theirs, points=_with_toes(driving))
    measure = _Measure(theirs, ours, driving.canvas, reference.canvas, median)
    x, y = measure.axes()
    limbs = measure.limbs(np.array([x.value, y.value]))
    points = _walk(theirs.points * (x.value, y.value), theirs.seen, limbs)
    shift = _shift(points, theirs.seen, ours, measure.frame)
    points = np.clip(points + (shift.x, shift.y), -MAX_OUTSIDE, 1 + MAX_OUTSIDE)
    aligned = replace(driving, points=points[:, :POINTS] * reference.canvas, canvas=reference.canvas)
    return aligned, _report("robust", (x, y), limbs, shift, reference, driving, aligned)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def align_normalised(
    theirs: NormalisedPoses, ours: NormalisedPoses
) -> tuple[NormalisedPoses, tuple[Ratio, ...], Shift]:
    """The published alignment on the published pose dict: frame 0 rules, literals are points like any other.

    Returns the aligned dict, the ratios (x, y, then the limbs) and the shift.
    F: a ratio that is not finite becomes 1; the original goes on with it and crashes when it draws.
    """
    everything = np.ones_like(theirs.seen)
    first = theirs.points[:1]
    x, y = (
        _fixed(name, value[0]) for name, value in zip("xy", _axis_ratios(first, ours.points), strict=True)
    )
    scale = np.array([x.value, y.value])
    found = _limb_ratios(first * scale, ours.points)
    limbs = tuple(_fixed(limb.name, value[0]) for limb, value in zip(LIMBS, found, strict=True))
    points = _walk(theirs.points * scale, everything, limbs)
    neck = ours.points[0, Joint.NECK] - points[0, Joint.NECK]
    shift = Shift(float(neck[0]), float(neck[1]), ("neck",), 0)
    return replace(theirs, points=points + neck), (x, y, *limbs), shift


def _align_original(
    driving: PoseSequence, reference: PoseSequence, theirs: NormalisedPoses, ours: NormalisedPoses
) -> tuple[PoseSequence, AlignmentReport]:
    aligned, (x, y, *limbs), shift = align_normalised(theirs, ours)
    points = aligned.points[:, :POINTS]
    missing = driving.scores < VISIBLE
    # K: hands and faces are drawn wherever both coordinates are positive, so a missing point that the
    # alignment moved into the picture is drawn too (UniAnimate spec 11). It must survive as a point, or the
    # canvas would differ.
    drawn = missing & (points > 0).all(-1)
    drawn[:, : FACE.start] = False
    result = replace(
        driving,
        points=points * reference.canvas,
        scores=np.where(drawn, 1, np.where(missing, 0, driving.scores)),
        origins=np.where(drawn, Origin.LITERAL, driving.origins),
        canvas=reference.canvas,
    )
    return result, _report("original", (x, y), tuple(limbs), shift, reference, driving, result)


def _check(driving: PoseSequence, reference: PoseSequence, fidelity: str, median: bool) -> None:
    if fidelity not in FIDELITIES:
        raise PoseError(f"Alignment fidelity is one of {', '.join(FIDELITIES)}; got {fidelity!r}.")
    if median and fidelity == "original":
        raise PoseError(
            "The original alignment reads frame 0 only; take fidelity 'robust' for a median over frames."
        )
    for poses, what in ((reference[:1], "reference picture"), (driving, "driving clip")):
        if not len(poses):
            raise PoseError(f"The {what} has no frames, so there is no pose to align.")
        if not poses.visible()[:, BODY].any():
            raise PoseError(
                f"No person was found in the {what}, so there is nothing to align; "
                "choose one that shows a person clearly, or try the other pose detector."
            )


def _with_toes(poses: PoseSequence) -> np.ndarray:
    """float64 [F, 136, 2]: all coordinates as they are, also of points that count as missing."""
    every = replace(poses, scores=np.where(poses.scores > 0, 1, 0))
    return normalise(every).points


def _axis_ratios(theirs: np.ndarray, ours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y ratio in every frame, [F] each, perhaps infinite: shoulders, torso (UniAnimate spec 10.1)."""
    hips, shoulders = (list(pair) for pair in TORSO)

    def width(points: np.ndarray) -> np.ndarray:
        return points[:, Joint.L_SHOULDER, 0] - points[:, Joint.R_SHOULDER, 0]

    def height(points: np.ndarray) -> np.ndarray:
        return points[:, hips, 1].mean(1) - points[:, shoulders, 1].mean(1)

    with np.errstate(divide="ignore", invalid="ignore"):
        return width(ours) / width(theirs), height(ours) / height(theirs)


def _limb_ratios(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """[limbs, F]: every limb's ratio in every frame (UniAnimate spec 10.2).

    ``theirs`` is scaled by x and y already. The walk moves both ends of a limb further down alike, so a
    length can be read before the walk as well.
    """

    def lengths(points: np.ndarray) -> np.ndarray:
        ends = points[:, [limb.joint for limb in LIMBS]] - points[:, [limb.pivot for limb in LIMBS]]
        return np.linalg.norm(ends, axis=-1).T

    with np.errstate(divide="ignore", invalid="ignore"):
        return lengths(ours) / lengths(theirs)


def _fixed(name: str, value: float) -> Ratio:
    """The original's ratio of frame 0, where it has one."""
    value = float(value)
    return Ratio(name, value, Source.MEASURED, 0) if np.isfinite(value) else Ratio(name, 1.0, Source.DEFAULT)


def _walk(points: np.ndarray, seen: np.ndarray, ratios: Sequence[Ratio]) -> np.ndarray:
    """[F, 136, 2] with every limb at its new length, what hangs on it moved along (UniAnimate spec 10.2)."""
    points = points.copy()
    for limb, ratio in zip(LIMBS, ratios, strict=True):
        offset = _limb_vector(points, seen, limb) * (1 - ratio.value)
        points[:, limb.moved] += offset[:, None]
    return points


def _limb_vector(points: np.ndarray, seen: np.ndarray, limb: Limb) -> np.ndarray:
    """[F, 2] from joint to pivot; where the pivot is missing from the nearest joint above it, else zero."""
    pivot, known = points[:, limb.pivot], seen[:, limb.pivot]
    for above in _above(limb):
        pivot = np.where((~known & seen[:, above])[:, None], points[:, above], pivot)
        known = known | seen[:, above]
    return np.where((known & seen[:, limb.joint])[:, None], pivot - points[:, limb.joint], 0.0)


def _above(limb: Limb) -> list[int]:
    """The joints between a limb's pivot and the neck, nearest first."""
    pivot_of = {row.joint: row.pivot for row in LIMBS}
    chain, joint = [], limb.pivot
    while joint in pivot_of:
        joint = pivot_of[joint]
        chain.append(joint)
    return chain


class _Measure:
    """The robust rules: in which frame each ratio is read, and from whom it is borrowed."""

    def __init__(
        self,
        theirs: NormalisedPoses,
        ours: NormalisedPoses,
        canvas: tuple[int, int],
        reference_canvas: tuple[int, int],
        median: bool,
    ) -> None:
        self.theirs, self.ours, self.median = theirs, ours, median
        # How much wider than high a canvas is drawn after the change of canvas: x ratio / y ratio in pixels.
        self.stretch = (reference_canvas[0] * canvas[1]) / (reference_canvas[1] * canvas[0])
        self.contain = (
            np.minimum(*(np.array(reference_canvas) / canvas)) * np.array(canvas) / reference_canvas
        )
        torso = [joint for pair in TORSO for joint in pair]
        needs = [list(TORSO[1]), torso, *([limb.pivot, limb.joint] for limb in LIMBS)]
        shown = [(need, ours.seen[0, need].all()) for need in needs]
        self.seen = np.stack([theirs.seen[:, need].all(1) & here for need, here in shown])
        # The first frame that shows everything that can be measured at all; 0 where there is none.
        self.frame = int(self.seen[self.seen.any(1)].all(0).argmax())

    def axes(self) -> tuple[Ratio, Ratio]:
        """Ratios of the whole figure."""
        values = _axis_ratios(self.theirs.points, self.ours.points)
        x, y = (
            self._read(name, value, seen, AXIS_RANGE)
            for name, value, seen in zip("xy", values, self.seen[:2], strict=True)
        )
        if x and y and not 1 / MAX_STRETCH <= abs(x.value / y.value) * self.stretch <= MAX_STRETCH:
            x = None
        if x is None and y is None:
            x, y = (
                Ratio(name, float(value), Source.DEFAULT)
                for name, value in zip("xy", self.contain, strict=True)
            )
        # Borrowed so that the figure keeps its proportions in pixels.
        x = x or Ratio("x", abs(y.value) / self.stretch, Source.OTHER_AXIS)
        y = y or Ratio("y", abs(x.value) * self.stretch, Source.OTHER_AXIS)
        return x, y

    def limbs(self, scale: np.ndarray) -> tuple[Ratio, ...]:
        """Ratios of the limbs, the figure being scaled by (x, y)."""
        values = _limb_ratios(self.theirs.points * scale, self.ours.points)
        measured = {
            limb.name: self._read(limb.name, value, seen, LIMB_RANGE)
            for limb, value, seen in zip(LIMBS, values, self.seen[2:], strict=True)
        }
        found: dict[str, Ratio] = {}
        for limb in LIMBS:
            found[limb.name] = measured[limb.name] or _borrow(limb, measured, found)
        return tuple(found.values())

    def _read(
        self, name: str, values: np.ndarray, seen: np.ndarray, limits: tuple[float, float]
    ) -> Ratio | None:
        """A ratio from its values in all frames [F]; None where no frame gives a credible one."""
        size = np.abs(values)
        usable = seen & (size >= limits[0]) & (size <= limits[1])
        if not usable.any():
            return None
        if self.median:
            # Of who turns round, half of the ratios are negative, and the middle of both halves is nobody's size.
            side = 1.0 if (values[usable] > 0).mean() >= 0.5 else -1.0
            return Ratio(name, side * float(np.median(size[usable])))
        frame = self.frame if usable[self.frame] else int(usable.argmax())
        return Ratio(name, float(values[frame]), Source.MEASURED, frame)


def _borrow(limb: Limb, measured: dict[str, Ratio | None], found: dict[str, Ratio]) -> Ratio:
    """The mirror limb's measured ratio, else the parent's however found, else 1; within ``BORROWED``."""
    mirror = measured.get(limb.mirror or "")
    parent = found.get(limb.parent or "")
    if mirror is not None:
        lender, source = mirror, Source.MIRROR
    elif parent is not None and parent.source is not Source.DEFAULT:
        lender, source = parent, Source.PARENT
    else:
        return Ratio(limb.name, 1.0, Source.DEFAULT)
    value = float(np.clip(lender.value, *BORROWED))
    return Ratio(limb.name, value, source, None, clamped=value != lender.value)


def _shift(points: np.ndarray, seen: np.ndarray, ours: NormalisedPoses, frame: int) -> Shift:
    """What lays the driving person's anchor onto the reference's (UniAnimate spec 10.3: always the neck)."""
    for anchor in ANCHORS:
        joints = list(anchor)
        frames = seen[:, joints].all(1)
        if not ours.seen[0, joints].all() or not frames.any():
            continue
        at = frame if frames[frame] else int(frames.argmax())
        x, y = ours.points[0, joints].mean(0) - points[at, joints].mean(0)
        return Shift(float(x), float(y), tuple(joint.name.lower().replace("_", " ") for joint in anchor), at)
    return Shift(0.0, 0.0, (), frame)


def _report(
    fidelity: str,
    axes: tuple[Ratio, Ratio],
    limbs: tuple[Ratio, ...],
    shift: Shift,
    reference: PoseSequence,
    driving: PoseSequence,
    aligned: PoseSequence,
) -> AlignmentReport:
    one = slice(shift.frame, shift.frame + 1)
    return AlignmentReport(fidelity, *axes, limbs, shift, reference[:1], driving[one], aligned[one])
