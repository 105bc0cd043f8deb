"""The numbers of an evaluation: what each means, thresholds, and how they are written down."""

from __future__ import annotations

import csv
import io
import json
import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..video_core.asides import written_aside
from .outputs import save_picture

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class Measure:
    """One number: its unit, which direction is better ("" neither by itself), and what it says."""

    unit: str
    better: Better
    says: str


MEASURES: dict[str, Measure] = {
    # with the true video
    "psnr": Measure("dB", "higher", "closeness to the true frames"),
    "ssim": Measure("", "higher", "structural similarity to the true frames"),
    "lpips": Measure("", "lower", "perceptual distance to the true frames"),
    "flicker_ratio": Measure("", "", "flicker against the truth's"),
    "background_ratio": Measure("", "", "amount of background motion against the truth's"),
    "background_agreement": Measure("", "higher", "background moves as in the truth"),
    "frechet": Measure("", "lower", "Frechet distance to the true frames, by the given network"),
    # against the driving poses
    "pose_error": Measure("% height", "lower", "mean distance of the joints that were found"),
    "joints_5": Measure("%", "higher", "wanted joints found within 5 % of the body height"),
    "joints_10": Measure("%", "higher", "wanted joints found within 10 %"),
    "face_agreement": Measure("", "higher", "cosine between both faces' changes of shape"),
    "face_found": Measure("%", "higher", "frames with a driving face in which one was found"),
    "mouth_correlation": Measure("", "higher", "mouths open together"),
    "eyes_correlation": Measure("", "higher", "eyes close together"),
    "turn_correlation": Measure("", "higher", "heads turn together"),
    "nod_correlation": Measure("", "higher", "heads nod together"),
    "tilt_correlation": Measure("", "higher", "heads tilt together"),
    # against the reference picture
    "reference_similarity": Measure("", "higher", "colours of the body against the reference's"),
    "embedding_similarity": Measure("", "higher", "CLIP embedding against the reference's"),
    "clothing_error": Measure("levels", "lower", "difference of the clothes' colours"),
    # of the result alone
    "flicker": Measure("levels", "lower", "change between frames that motion does not explain"),
    "background_energy": Measure("(% height)^2", "", "motion outside the person"),
    "seam_score": Measure("", "lower", "flicker at window borders against elsewhere"),
    "psnr_drop": Measure("dB", "lower", "PSNR lost from the first to the last quarter"),
    "similarity_drop": Measure("", "lower", "reference similarity lost from the first to the last quarter"),
}

RELATIONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass
class Scores:
    """frames: of the clip. series: measure -> [F], NaN where a frame has none. clip: single numbers.

    A measure in both is summed up by the clip's number, where the mean of the frames' would weigh them wrongly.
    borders: steps at which windows meet. notes: a sentence for everything that was not measured as asked.
    flows: ``motion.flow_products`` [3] of the background in every step where it is known, for a number of several
    clips together; they are not written.
    """

    frames: int
    series: dict[str, np.ndarray] = field(default_factory=dict)
    clip: dict[str, float] = field(default_factory=dict)
    borders: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    flows: list[np.ndarray] = field(default_factory=list)

    @property
    def summary(self) -> dict[str, float]:
        """Every number that was measured, a series without one as its mean, in the order of ``MEASURES``."""
        means = {n: float(np.nanmean(s)) for n, s in self.series.items() if np.isfinite(s).any()}
        found = {**means, **{name: value for name, value in self.clip.items() if math.isfinite(value)}}
        return {name: found[name] for name in MEASURES if name in found}

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold; null where a frame has no value."""
        series = {
            name: [round(float(v), 6) if np.isfinite(v) else None for v in values]
            for name, values in self.series.items()
        }
        summary = {name: round(value, 6) for name, value in self.summary.items()}
        return {
            "frames": self.frames,
            "summary": summary,
            "series": series,
            "borders": self.borders,
            "notes": self.notes,
        }

    def text(self) -> str:
        """A line per number, then the notes."""
        lines = [
            f"{name:<21}{value:9.3f} {MEASURES[name].unit:<13}{MEASURES[name].says}"
            + (f" ({MEASURES[name].better} is better)" if MEASURES[name].better else "")
            for name, value in self.summary.items()
        ]
        return "\n".join([*lines, *self.notes])


# ---- thresholds ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Threshold:
    """A condition on a number, such as ``psnr>=23``."""

    name: str
    relation: str
    value: float

    @staticmethod
    def parse(text: str) -> Threshold:
        """From ``name>=number``; ValueError with a sentence where it is none."""
        match = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", text)
        try:
            name, relation, value = match.groups() if match else ("", "", "")
            threshold = Threshold(name, relation, float(value))
        except ValueError:
            raise ValueError(
                f"A threshold is a measure, a relation and a number, like psnr>=23; got {text!r}."
            ) from None
        if name not in MEASURES:
            raise ValueError(f"There is no measure {name!r}; there are {', '.join(MEASURES)}.")
        return threshold

    def failure(self, summary: Mapping[str, float]) -> str:
        """Why the condition does not hold, empty where it does; what was not measured does not hold."""
        wanted = f"{self.name}{self.relation}{self.value:g}"
        if self.name not in summary:
            return f"{wanted} cannot be told: {self.name} was not measured."
        if RELATIONS[self.relation](summary[self.name], self.value):
            return ""
        return f"{wanted} does not hold: {self.name} is {summary[self.name]:.4g}."


# ---- files -----------------------------------------------------------------------------------------------


def write(
    scores: Scores, folder: Path, extra: Mapping[str, Any] | None = None, name: str = "quality"
) -> dict[str, Path]:
    """``quality.csv`` (a row per frame), ``quality.json`` (with ``extra`` fields), ``quality.png``."""
    files = {kind: folder / f"{name}.{kind}" for kind in ("csv", "json", "png")}
    content = {**scores.as_dict(), **(extra or {})}
    for kind, text in ("csv", as_csv(scores)), ("json", json.dumps(content, indent=1) + "\n"):
        with written_aside(files[kind]) as file:
            file.write(text.encode())
    save_picture(plot(scores), files["png"], overwrite=True)
    return files


def as_csv(scores: Scores) -> str:
    """A header with frame and measures, then a row per frame; empty where it has no value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [name for name in MEASURES if name in scores.series]
    writer.writerow(["frame", *names])
    for i in range(scores.frames):
        values = (scores.series[name][i] for name in names)
        writer.writerow([i, *(f"{value:.6g}" if np.isfinite(value) else "" for value in values)])
    return out.getvalue()


PANEL = (640, 96)
"""Width and height of a measure's plot."""
LEFT, TOP = 70, 22
LINE, WHOLE, GRID, INK, BORDER = (40, 90, 170), (200, 120, 40), (225, 225, 225), (40, 40, 40), (235, 205, 205)


def plot(scores: Scores) -> np.ndarray:
    """uint8 RGB: a panel for every series over the frames; steps at window borders are marked."""
    names = [name for name in MEASURES if name in scores.series and np.isfinite(scores.series[name]).any()]
    panels = [_panel(name, scores.series[name], scores.summary[name], scores.borders) for name in names]
    return np.concatenate(panels or [np.full((PANEL[1], PANEL[0], 3), 255, np.uint8)])


def _panel(name: str, values: np.ndarray, whole: float, borders: Sequence[int]) -> np.ndarray:
    """whole: the clip's number, beside those of its frames [F]."""
    import cv2

    width, height = PANEL
    panel = np.full((height, width, 3), 255, np.uint8)
    low, high = min(float(np.nanmin(values)), whole), max(float(np.nanmax(values)), whole)
    span = high - low or 1.0
    x = LEFT + np.arange(len(values)) / max(len(values) - 1, 1) * (width - LEFT - 8)
    y = lambda value: TOP + (high - value) / span * (height - TOP - 8)  # noqa: E731
    for step in borders:
        at = int(round((x[step] + x[min(step + 1, len(x) - 1)]) / 2))
        cv2.line(panel, (at, TOP), (at, height - 8), BORDER, 3)
    for value in (low, high):
        cv2.line(panel, (LEFT, int(y(value))), (width - 8, int(y(value))), GRID, 1)
        _write(panel, f"{value:.3g}", (4, int(y(value)) + 4))
    cv2.line(panel, (LEFT, int(y(whole))), (width - 8, int(y(whole))), WHOLE, 1)
    for run in np.split(np.arange(len(values)), np.flatnonzero(~np.isfinite(values))):
        run = run[np.isfinite(values[run])]
        points = np.stack([x[run], y(values[run])], -1).round().astype(np.int32)
        cv2.polylines(panel, [points], False, LINE, 1, cv2.LINE_AA)
    measure = MEASURES[name]
    _write(panel, f"{name}: {whole:.3f} {measure.unit}  ({measure.says})", (LEFT, 14))
    return panel


def _write(panel: np.ndarray, text: str, at: tuple[int, int]) -> None:
    import cv2

    cv2.putText(panel, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)
