"""How good a result is, in numbers: with the true video, and without one.

Frames are read as streams and let go; what is kept is a row of numbers and the pose per frame.
docs/evaluation.md says what every number means.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..pose_align.pose import PoseError, PoseSequence
from ..pose_align.skeleton import FACE
from .metrics import appearance, face, fidelity, motion, pose, seams
from .metrics.appearance import Figure
from .scores import Scores

if TYPE_CHECKING:
    from ..pose_align.detector import PoseDetector
    from ..video_core.windows import Windows
    from .metrics.learned import FeatureNetwork, Statistics

Frames = Callable[[], Iterator[np.ndarray]]
"""A clip that can be read again and again: uint8 RGB frames [H, W, 3] of one size."""
Row = dict[str, float]
"""Measure -> number of a frame, NaN where it was asked for and cannot be told."""

BACKGROUND_MARGIN = 0.06
"""Body heights around the body that are not background."""
SKIMAGE = "SSIM was not measured: it needs the package scikit-image (pip install scikit-image)."
SMALL_FOR_SSIM = f"SSIM was not measured: it needs pictures of at least {fidelity.SSIM_SIDE} pixels a side."
SMALL_FOR_FLOW = (
    "Neither motion nor seams were measured: they need pictures of at least "
    f"{motion.LEAST_SIDE} pixels on the longer side."
)
ONE_FRAME = "Neither motion nor seams were measured: the clip has a single frame."
NO_TRUTH = "{} was not measured: it compares with a true video, and none was given."
NO_REFERENCE = (
    "embedding_similarity was not measured: it compares with a reference picture, and none was given."
)
DEMO_DETECTOR = (
    "The poses in the result are not to be trusted: the demo's detector knows the drawn inputs by sight, and gives "
    "the joints of the drawn frame that a picture resembles, not those that it shows. Take another detector, or the "
    "command benchmark for drawn figures."
)


@dataclass(frozen=True)
class Inputs:
    """A result, and what there is to compare it with.

    truth: the video that the result should equal. reference: the picture that was animated, with its pose.
    wanted: the poses that the result was made from; found: those in the result, looked for if None. Both
    may be of any canvas that was stretched to the result's.
    windows: of frames, in which the result was made, see ``made_in``. truth_cut: of true frames of another shape,
    the part is compared that X-Dyna cuts out of such a reference; else they are stretched to the result's.
    """

    result: Frames
    truth: Frames | None = None
    reference: np.ndarray | None = None
    reference_pose: PoseSequence | None = None
    wanted: PoseSequence | None = None
    found: PoseSequence | None = None
    windows: Windows | None = None
    truth_cut: bool = False


def made_in(
    frames: int, windows: tuple[int, int] | None = None, segments: int | None = None
) -> Windows | None:
    """The frames that were made together, of a clip of so many; None where nothing is said, or of one piece.

    windows: size and overlap of context windows. segments: most frames of a segment of UniAnimate's continuation.
    Raises ValueError where both are given, or for sizes that cannot be.
    """
    from ..unianimate_core.sample import segments as segments_of
    from ..video_core.windows import anchored_windows

    if windows is not None and segments is not None:
        raise ValueError(
            "A result was made in windows or in segments; give the size of one of them, and no other."
        )
    if windows is not None:
        return anchored_windows(frames, *windows)
    if segments is not None:
        # A segment begins with the last frame of the one before, which made it.
        return [list(part)[part[0] > 0 :] for part in segments_of(frames, segments)]
    return None


@dataclass(frozen=True)
class Tools:
    """Networks, all of them optional.

    embed: picture -> vector. lpips: (picture, truth) -> distance. features: for a Frechet distance.
    person: whom the detector follows, as ``pose_align.track`` has it.
    """

    detector: PoseDetector | None = None
    embed: Callable[[np.ndarray], np.ndarray] | None = None
    lpips: Callable[[np.ndarray, np.ndarray], float] | None = None
    features: FeatureNetwork | None = None
    person: str | int = "largest"


def evaluate(
    inputs: Inputs, tools: Tools | None = None, on_frame: Callable[[int], None] | None = None
) -> Scores:
    """Everything that can be measured with these inputs and tools; notes say what cannot, and why.

    on_frame(frames done) may raise to stop. Raises ValueError where the result has no frames.
    """
    from .faces import on_canvas

    tools, notes = tools or Tools(), []
    first = next(iter(inputs.result()), None)
    if first is None:
        raise ValueError("The result has no frames; give a clip with at least one.")
    canvas = (first.shape[1], first.shape[0])
    wanted = inputs.wanted and on_canvas(inputs.wanted, canvas)
    found = inputs.found or _find(inputs.result, tools, notes)
    found = found and on_canvas(found, canvas)
    look = _Look.of(inputs, tools, wanted or found, notes)
    if max(canvas) < motion.LEAST_SIDE:
        notes.append(SMALL_FOR_FLOW)
    measured = _measure_frames(inputs, tools, look, notes, on_frame)
    scores, untold = Scores(len(measured.rows), _series(measured.rows), notes=notes), _Untold()
    if wanted is not None and found is not None:
        _add_poses(scores, untold, wanted, found, look.height)
    _add_clip_numbers(scores, untold, measured, inputs.windows)
    notes += untold.notes()
    return scores


def _find(result: Frames, tools: Tools, notes: list[str]) -> PoseSequence | None:
    """The poses in the result, gaps left open: a joint that is not there counts."""
    from ..demo.detector import DemoDetector
    from .poses import PoseSettings, find

    if tools.detector is None:
        notes.append("No pose was looked for in the result, so nothing says whether it follows the poses.")
        return None
    try:
        found = find(result(), tools.detector, PoseSettings(tools.person, max_gap=0))
    except (PoseError, FileNotFoundError, ImportError) as error:
        notes.append(f"No pose was found in the result: {error}")
        return None
    if tools.detector.name == DemoDetector.name:
        notes.append(DEMO_DETECTOR)
    return found


# ---- frame by frame --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """Where the body is in every frame, and what it should look like.

    clothes: colours of the reference's pieces; body: the reference and its body's mask; embedding: of it.
    """

    poses: PoseSequence | None
    height: float = 0.0
    clothes: np.ndarray | None = None
    body: tuple[np.ndarray, np.ndarray] | None = None
    embedding: np.ndarray | None = None

    @staticmethod
    def of(inputs: Inputs, tools: Tools, poses: PoseSequence | None, notes: list[str]) -> _Look:
        """poses: of the result's frames, in its pixels."""
        from .faces import on_canvas

        picture, own = inputs.reference, inputs.reference_pose
        embedding = tools.embed(picture) if tools.embed is not None and picture is not None else None
        if tools.embed is not None and picture is None:
            notes.append(NO_REFERENCE)
        if poses is None:
            notes.append("Without poses, nothing tells the person from the background or its clothes.")
            return _Look(None, embedding=embedding)
        try:
            look = _Look(poses, pose.body_height(poses), embedding=embedding)
        except ValueError as error:
            notes.append(str(error))
            return _Look(None, embedding=embedding)
        if picture is None:
            return look
        if own is None:
            notes.append("The reference's pose is not known, so no colours were compared with it.")
            return look
        size = (picture.shape[1], picture.shape[0])
        own = on_canvas(own, size)
        try:
            figure = _figure(own, 0, pose.body_height(own))
        except ValueError as error:
            notes.append(f"No colours were compared with the reference's, whose body is not known. {error}")
            return look
        body = picture, appearance.body_mask(figure, size)
        return replace(look, clothes=appearance.clothes_colours(picture, figure), body=body)

    def figure(self, frame: int) -> Figure | None:
        """The person in a frame; None where the poses do not tell, as where nobody was found."""
        if self.poses is None or frame >= len(self.poses):
            return None
        figure = _figure(self.poses, frame, self.height)
        return figure if figure.seen.any() else None


def _figure(poses: PoseSequence, frame: int, height: float) -> Figure:
    return Figure(poses.points[frame], poses.visible()[frame], height)


@dataclass
class _Measured:
    """rows: numbers of every frame. truth: flicker and background energy of the true frames.

    flows: ``motion.flow_products`` of the background [3] of every step in which it is known.
    """

    rows: list[Row] = field(default_factory=list)
    truth: list[Row] = field(default_factory=list)
    flows: list[np.ndarray] = field(default_factory=list)
    samples: tuple[_Samples, _Samples] | None = None


def _measure_frames(
    inputs: Inputs, tools: Tools, look: _Look, notes: list[str], on_frame: Callable[[int], None] | None
) -> _Measured:
    measured = _Measured()
    if tools.features is not None and inputs.truth is not None:
        measured.samples = _Samples(tools.features), _Samples(tools.features)
    steps, true_steps = _Steps(look), _Steps(look)
    with_ssim = importlib.util.find_spec("skimage") is not None
    if inputs.truth is not None and not with_ssim:
        notes.append(SKIMAGE)
    if inputs.truth is None:
        learned = {"lpips": tools.lpips, "frechet": tools.features}
        notes += [NO_TRUTH.format(name) for name, network in learned.items() if network is not None]
    for frame, truth in _beside(inputs, notes):
        if truth is not None and with_ssim and min(frame.shape[:2]) < fidelity.SSIM_SIDE:
            with_ssim = False
            notes.append(SMALL_FOR_SSIM)
        number = len(measured.rows)
        row = _against_reference(frame, look, number, tools) | steps.next(frame)
        if truth is not None:
            row |= _against_truth(frame, truth, tools, with_ssim)
            measured.truth.append(true_steps.next(truth))
            if steps.flow is not None:
                measured.flows.append(motion.flow_products(steps.flow, true_steps.flow))
                row["background_agreement"] = motion.agreement(measured.flows[-1:])
            for samples, picture in zip(measured.samples or (), (frame, truth), strict=False):
                samples.add(picture)
        measured.rows.append(row)
        if on_frame is not None:
            on_frame(number + 1)
    return measured


def _beside(inputs: Inputs, notes: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Frames of the result with the true ones, at the result's size, while there are both."""
    if inputs.truth is None:
        yield from ((frame, None) for frame in inputs.result())
        return
    true, size, count = inputs.truth(), None, 0
    for frame in inputs.result():
        picture = next(true, None)
        if picture is None:
            notes.append(
                f"The true video ends after {count} frames; what follows in the result was not read."
            )
            return
        count, size = count + 1, (frame.shape[1], frame.shape[0])
        picture, said = _fitted(picture, size, inputs.truth_cut)
        if said and count == 1:
            notes.append(said)
        yield frame, picture
    if next(true, None) is not None:
        notes.append(f"The true video goes on after the {count} frames of the result.")


def _fitted(picture: np.ndarray, size: tuple[int, int], cut: bool) -> tuple[np.ndarray, str]:
    """A true frame at the result's (width, height), and a sentence that says how; empty where it had that size.

    cut: see ``Inputs.truth_cut``.
    """
    from ..video_core.images import resize
    from ..xdyna_core.frames import reference_crop

    given = (picture.shape[1], picture.shape[0])
    if given == size:
        return picture, ""
    left, top, width, height = reference_crop(given, size) if cut else (0, 0, *given)
    part = resize(picture[top : top + height, left : left + width], size, "lanczos")
    said = f"The true frames ({given[0]} x {given[1]}) were resized to the result's {size[0]} x {size[1]}"
    if (width, height) == given:
        return part, f"{said}."
    return part, f"{said}, less what X-Dyna cuts off: {width} x {height} of them are left."


def _against_truth(frame: np.ndarray, truth: np.ndarray, tools: Tools, with_ssim: bool) -> Row:
    row = {"psnr": fidelity.psnr(frame, truth)}
    if with_ssim:
        row["ssim"] = fidelity.ssim(frame, truth)
    if tools.lpips is not None:
        row["lpips"] = tools.lpips(frame, truth)
    return row


def _against_reference(frame: np.ndarray, look: _Look, number: int, tools: Tools) -> Row:
    row: Row = {}
    if look.embedding is not None:
        row["embedding_similarity"] = appearance.cosine(tools.embed(frame), look.embedding)
    figure = look.figure(number)
    if look.body is not None:
        row |= {"reference_similarity": math.nan, "clothing_error": math.nan}
    if look.body is not None and figure is not None:
        mask = appearance.body_mask(figure, (frame.shape[1], frame.shape[0]))
        row["reference_similarity"] = appearance.colour_similarity(frame, mask, *look.body)
        row["clothing_error"] = appearance.clothing_error(
            look.clothes, appearance.clothes_colours(frame, figure)
        )
    return row


class _Steps:
    """What happens from each frame of a clip to the next; holds one frame.

    flow: of the background in the last step, ``motion.flow_at``; None where the background is not known.
    """

    def __init__(self, look: _Look) -> None:
        self.flow: np.ndarray | None = None
        self._look, self._count = look, 0
        self._before: tuple[np.ndarray, np.ndarray | None] | None = None

    def next(self, frame: np.ndarray) -> Row:
        small = motion.flow_sized(frame)
        after, before = (small, self._background(small, frame)), self._before
        self._before, self._count, self.flow = after, self._count + 1, None
        if before is None or max(small.shape[:2]) < motion.LEAST_SIDE:
            return {}
        between = motion.Motion(before[0], small)
        row = {"flicker": motion.unexplained_change(between)}
        if self._look.poses is None:
            return row
        row["background_energy"] = math.nan
        if before[1] is not None and after[1] is not None and (both := before[1] & after[1]).any():
            row["background_energy"] = motion.flow_energy(between, both)
            self.flow = motion.flow_at(between, both)
        return row

    def _background(self, small: np.ndarray, frame: np.ndarray) -> np.ndarray | None:
        """bool [h, w] of the small frame."""
        import cv2

        figure = self._look.figure(self._count)
        if figure is None:
            return None
        mask = appearance.body_mask(figure, (frame.shape[1], frame.shape[0]), BACKGROUND_MARGIN)
        size = (small.shape[1], small.shape[0])
        return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) == 0


class _Samples:
    """Frames to feature statistics, in groups of as many as the network takes."""

    def __init__(self, network: FeatureNetwork) -> None:
        from .metrics.learned import Statistics

        self.network, self.statistics = network, Statistics()
        self._group: list[np.ndarray] = []

    def add(self, frame: np.ndarray) -> None:
        self._group.append(frame)
        if len(self._group) == self.network.frames:
            self.statistics.add(self.network(self._group))
            self._group = []


# ---- from rows to scores ---------------------------------------------------------------------------------

NO_BACKGROUND = "no two neighbouring frames show the person, who tells what is background"
NEVER_SEEN = {
    # measure of frames: why no frame has a number, as half a sentence
    "background_energy": NO_BACKGROUND,
    "reference_similarity": "neither the reference nor a frame shows a body inside the picture",
    "clothing_error": "no piece of clothing can be seen both in the reference and in a frame",
    "embedding_similarity": "the network gave embeddings of length 0",
}
NO_QUARTERS = "it takes at least 4 frames, with numbers in the first and in the last quarter"
TRUTH_STILL = f"the truth's background moves by less than {motion.STILL} pixels, so nothing can agree with it"


def _series(rows: list[Row]) -> dict[str, np.ndarray]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}


@dataclass
class _Untold:
    """Measures that were asked for and have no number: why, as half a sentence -> which."""

    reasons: dict[str, list[str]] = field(default_factory=dict)

    def check(self, name: str, values: np.ndarray | float, reason: str) -> None:
        """Remember a measure whose values, of a clip or of its frames, are none."""
        if not np.isfinite(values).any():
            self.reasons.setdefault(reason, []).append(name)

    def notes(self) -> list[str]:
        """A sentence for every reason."""
        return [
            f"{', '.join(names)} {'were' if len(names) > 1 else 'was'} not measured: {reason}."
            for reason, names in self.reasons.items()
        ]


def _add_poses(
    scores: Scores, untold: _Untold, wanted: PoseSequence, found: PoseSequence, height: float
) -> None:
    """What the poses in the result say; both are on one canvas, the body's height in its pixels.

    Of a height of 0, which is not known, faces alone.
    """
    frames = min(len(wanted), len(found), scores.frames)
    if len(wanted) != scores.frames:
        scores.notes.append(
            f"There are {len(wanted)} poses for {scores.frames} frames; the first {frames} were compared."
        )
    wanted, found = wanted[:frames], found[:frames]
    series = {}
    if height:
        errors = pose.joint_errors(wanted, found, height)
        series["pose_error"] = 100 * pose.mean_error(errors)
        series["joints_5"] = 100 * pose.share_within(errors, 0.05)
        series["joints_10"] = 100 * pose.share_within(errors, 0.10)
        wants = not np.isnan(errors).all()
        lost = "no joint of the driving poses was found in the result"
        for name, values in series.items():
            untold.check(name, values, lost if wants else "the driving poses show no joint")
    series |= _add_faces(scores, untold, _landmarks(wanted), _landmarks(found))
    for name, values in series.items():
        scores.series[name] = np.pad(values, (0, scores.frames - frames), constant_values=np.nan)


def _add_faces(
    scores: Scores, untold: _Untold, driving: np.ndarray, found: np.ndarray
) -> dict[str, np.ndarray]:
    """Whether the faces [F, 68, 2] move together: numbers of the clip, and the series [F] that is returned."""
    seen = [np.isfinite(points).all(-1).mean(-1) >= 0.5 for points in (driving, found)]
    scores.clip["face_found"] = 100 * face.found_share(*seen)
    nowhere = "" if seen[1].any() else "no face was found in the result"
    nowhere = nowhere if seen[0].any() else "the driving poses show no face"
    untold.check("face_found", scores.clip["face_found"], nowhere)
    agreement = face.motion_agreement(driving, found)
    apart = "no frame shows the same points of both faces, or one of them keeps its shape"
    untold.check("face_agreement", agreement, nowhere or apart)
    wanted, own = (face.face_motion(points) for points in (driving, found))
    for part in ("mouth", "eyes", "turn", "nod", "tilt"):
        name, pair = f"{part}_correlation", (getattr(wanted, part), getattr(own, part))
        scores.clip[name] = face.correlation(*pair)
        untold.check(name, scores.clip[name], nowhere or face.why_uncorrelated(*pair))
    return {"face_agreement": agreement}


def _landmarks(poses: PoseSequence) -> np.ndarray:
    """float64 [F, 68, 2], NaN where a point was not seen."""
    return np.where(poses.visible()[:, FACE, None], poses.points[:, FACE], np.nan)


def _add_clip_numbers(scores: Scores, untold: _Untold, measured: _Measured, windows: Windows | None) -> None:
    series, clip = scores.series, scores.clip
    if scores.frames == 1 and SMALL_FOR_FLOW not in scores.notes:
        scores.notes.append(ONE_FRAME)
    for name, reason in NEVER_SEEN.items():
        if name in series:
            untold.check(name, series[name], reason)
    if windows is not None and "flicker" in series:
        scores.borders = seams.borders(windows, scores.frames)
        clip["seam_score"] = seams.seam_score(series["flicker"][1:], scores.borders)
        if np.isnan(clip["seam_score"]):
            scores.notes.append(
                f"There is no seam score: {len(scores.borders)} of {scores.frames - 1} steps are window borders, "
                "and it compares some with others."
            )
    if "psnr" in series:
        clip["psnr_drop"] = seams.quarter_drop(series["psnr"])
        untold.check("psnr_drop", clip["psnr_drop"], NO_QUARTERS)
    look = series.get("embedding_similarity", series.get("reference_similarity"))
    if look is not None:
        clip["similarity_drop"] = seams.quarter_drop(look)
        untold.check("similarity_drop", clip["similarity_drop"], NO_QUARTERS)
    truth = _series(measured.truth)
    for name, ratio, still in (
        ("flicker", "flicker_ratio", "the true frames do not change"),
        ("background_energy", "background_ratio", "the truth's background does not move"),
    ):
        if name in truth and name in series:
            clip[ratio] = _ratio(series[name], truth[name])
            untold.check(ratio, clip[ratio], still if np.isfinite(series[name]).any() else NO_BACKGROUND)
    if "background_ratio" in clip:
        scores.flows = measured.flows
        clip["background_agreement"] = motion.agreement(measured.flows)
        known = TRUTH_STILL if measured.flows else NO_BACKGROUND
        untold.check("background_agreement", clip["background_agreement"], known)
        if np.isnan(clip["background_agreement"]):
            # What single steps of a clip that stands still seem to agree in is chance.
            series.pop("background_agreement", None)
    if measured.samples is not None:
        _add_frechet(scores, *(samples.statistics for samples in measured.samples))


def _ratio(series: np.ndarray, truth: np.ndarray) -> float:
    """Mean against the truth's mean; NaN where the truth's is 0."""
    both = np.isfinite(series) & np.isfinite(truth)
    total = truth[both].sum()
    return float(series[both].sum() / total) if total > 0 else float("nan")


def _add_frechet(scores: Scores, result: Statistics, truth: Statistics) -> None:
    from .metrics.learned import frechet_distance

    try:
        scores.clip["frechet"] = frechet_distance(result, truth)
    except ValueError as error:
        scores.notes.append(str(error))
        return
    if result.count <= result.width:
        scores.notes.append(
            f"The Frechet distance stands on {result.count} samples of {result.width} features; compare it "
            "only with distances of as many samples."
        )
