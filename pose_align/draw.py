"""Poses to pictures, in the style that each network was trained on, from the tables of ``skeleton``.

UniAnimate (UniAnimate spec 11): 512 x 768 whatever the picture's size; body, feet and hands; red and blue
exchanged. X-Dyna: no eyes and ears, no feet; plain RGB; the video's own size. Its publication has no drawing
code, so these numbers were measured from the published pose video (571 frames, 512 x 896, H.264):

=================  ==========  ========================================================================
                   drawn with  measured
=================  ==========  ========================================================================
stroke             9 px        9.00 px at half height, 8.75-9.25 in 80 % of 1256 strokes (all 13 limbs)
dimming            0.6         0.59-0.60 of the point's colour (0.99 of what 0.6 gives, medians by limb)
joint radius       4 px        area inside the coded edge 34.9 px; ours after the same coding 35.2 (radius
                               3: 18.5, radius 5: 63.3)
hand point radius  4 px        34 px; ours 32 (radius 3: 16, radius 5: 60), 777 free-standing points
hand edge          2 px        2.8-3.5 px of light after coding; ours 3.0 (1 px: 1.4, 3 px: 5.3)
colours            table       points within 1 grey level, strokes within 3 (medians), not reversed
hand edges         table       hues i / 20 where they can be told apart
=================  ==========  ========================================================================

Drawn again from the joints read off 29 of its frames, the body differs from that video by 5.1 grey levels of
luma inside and around the strokes, which is coding and the half pixel of the joints; with strokes or radii
one pixel off it is 6.4 to 10.5.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .pose import NormalisedPoses, PoseError, PoseSequence, normalise
from .skeleton import BODY20_POINTS, COLOURS, HAND_EDGES, HEAD, L_TOES, LIMBS, R_TOES, STROKES, Joint

if TYPE_CHECKING:
    from .align import AlignmentReport, Ratio

HAND_COLOURS = tuple(
    tuple(255 * value for value in colorsys.hsv_to_rgb(i / len(HAND_EDGES), 1, 1))
    for i in range(len(HAND_EDGES))
)
"""Floats: cv2 rounds them itself, truncating first would change pixels (UniAnimate spec 11)."""
HAND_POINT_COLOUR = (0, 0, 255)
FACE_COLOUR = (255, 255, 255)

NEAREST_DRAWN = 1
"""K: a hand or face point needs both integer coordinates from 1 on; row and column 0 count as missing."""
MAX_OUTSIDE = 8.0
"""Points further outside than this many canvases are pulled in, or cv2's integers would overflow."""
LARGEST = 1 << 27
"""Pixels of a canvas to draw on (16k x 8k): poses from a file may claim any canvas."""


@dataclass(frozen=True)
class Style:
    """How a pose is drawn. Sizes are pixels of a canvas of ``drawn_for``.

    canvas:           (width, height) unless the caller gives one; None: the canvas of the poses.
    reverse_channels: the network saw red and blue exchanged against the colour tables.
    head:             eyes and ears; the nose belongs to the neck's stroke and stays.
    jpeg_quality:     send every picture through JPEG as files of the original were; None: do not.
    """

    name: str
    canvas: tuple[int, int] | None
    reverse_channels: bool
    head: bool = True
    hands: bool = True
    feet: bool = True
    face: bool = False
    half_width: int = 4
    joint_radius: int = 4
    dimming: float = 0.6
    hand_line: int = 2
    hand_radius: int = 4
    face_radius: int = 3
    jpeg_quality: int | None = None
    drawn_for: tuple[int, int] = (512, 768)

    def replace(self, **changes: object) -> Style:
        """The style with some fields changed, e.g. ``UNIANIMATE.replace(head=False)``."""
        return replace(self, **changes)

    def scaled(self, size: tuple[int, int]) -> Style:
        """The style with strokes and radii in proportion to a canvas (width, height), at least 1 pixel."""
        factor = np.sqrt(size[0] * size[1] / (self.drawn_for[0] * self.drawn_for[1]))
        sizes = ("half_width", "joint_radius", "hand_line", "hand_radius", "face_radius")
        return replace(self, **{name: max(1, round(getattr(self, name) * factor)) for name in sizes})

    def hidden(self) -> list[int]:
        """Points of the 20-point body that the style leaves out, together with the strokes that end there."""
        return [*(() if self.head else HEAD), *(() if self.feet else (L_TOES, R_TOES))]


UNIANIMATE = Style("unianimate", canvas=(512, 768), reverse_channels=True)
XDYNA = Style("xdyna", canvas=None, reverse_channels=False, head=False, feet=False, drawn_for=(512, 896))
STYLES = {style.name: style for style in (UNIANIMATE, XDYNA)}

ORIGINAL_JPEG_QUALITY = 95
"""What the original's files are written with: cv2's default (UniAnimate spec 11)."""


def draw(
    poses: PoseSequence,
    style: Style = UNIANIMATE,
    size: tuple[int, int] | None = None,
    *,
    scale_strokes: bool = False,
) -> np.ndarray:
    """All frames as uint8 RGB [F, H, W, 3], as the network must see them; see ``draw_frames``."""
    size = _size(poses, style, size)
    frames = np.zeros((len(poses), size[1], size[0], 3), np.uint8)
    for canvas, frame in zip(
        frames, draw_frames(poses, style, size, scale_strokes=scale_strokes), strict=True
    ):
        canvas[:] = frame
    return frames


def draw_frames(
    poses: PoseSequence,
    style: Style = UNIANIMATE,
    size: tuple[int, int] | None = None,
    *,
    scale_strokes: bool = False,
) -> Iterator[np.ndarray]:
    """The frames one by one, uint8 RGB [H, W, 3], as the network must see them.

    size:          (width, height); None: the style's own canvas, else the canvas of the poses. The figure is
                   stretched with it, as the original stretches its pictures.
    scale_strokes: strokes and radii grow with the canvas; else they keep the original's pixels.
    """
    size = _size(poses, style, size)
    style = style.scaled(size) if scale_strokes else style
    normalised = normalise(poses)
    for frame in range(len(poses)):
        yield draw_normalised(normalised, frame, style, size)


def draw_normalised(poses: NormalisedPoses, frame: int, style: Style, size: tuple[int, int]) -> np.ndarray:
    """One frame of the original's pose dict, uint8 RGB [H, W, 3] (UniAnimate spec 11).

    The order is the original's: strokes, dimmed; body points; hands; face.
    """
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    body = _pixels(poses.body[frame], size)
    seen = (poses.subset[frame] >= 0) & ~np.isin(np.arange(BODY20_POINTS), style.hidden())
    for (first, second), colour in zip(STROKES, COLOURS, strict=False):
        if seen[first] and seen[second]:
            _draw_stroke(canvas, body[first], body[second], style.half_width, colour)
    canvas = (canvas * style.dimming).astype(np.uint8)
    for point in np.flatnonzero(seen):
        cv2.circle(canvas, _cell(body[point]), style.joint_radius, COLOURS[point], cv2.FILLED)
    if style.hands:
        for hand in poses.hands[frame]:
            _draw_hand(canvas, _pixels(hand, size), style)
    if style.face:
        _draw_points(canvas, _pixels(poses.faces[frame], size), style.face_radius, FACE_COLOUR)
    if style.jpeg_quality is not None:
        canvas = _through_jpeg(canvas, style.jpeg_quality)
    return np.ascontiguousarray(canvas[..., ::-1]) if style.reverse_channels else canvas


def _size(poses: PoseSequence, style: Style, size: tuple[int, int] | None) -> tuple[int, int]:
    width, height = size or style.canvas or poses.canvas
    if min(width, height) < 1 or width * height > LARGEST:
        raise PoseError(
            f"A canvas to draw on has a positive width and height; got {width} x {height}, "
            f"and no more than {LARGEST} pixels can be drawn. Give the size of the frames that are wanted."
        )
    return int(width), int(height)


def _pixels(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Fractions [n, 2] to float pixels, pulled in to where cv2 can still count."""
    return np.clip(np.nan_to_num(points, nan=-1.0), -MAX_OUTSIDE, 1 + MAX_OUTSIDE) * size


def _cell(point: np.ndarray) -> tuple[int, int]:
    """(column, row), truncated towards zero as the original does."""
    return int(point[0]), int(point[1])


def _draw_stroke(
    canvas: np.ndarray, first: np.ndarray, second: np.ndarray, half_width: int, colour: tuple[int, int, int]
) -> None:
    """A filled ellipse from point to point; truncation only where cv2 asks for integers."""
    across, down = first - second
    half_length, angle = int(np.hypot(across, down) / 2), int(np.degrees(np.arctan2(down, across)))
    outline = cv2.ellipse2Poly(_cell((first + second) / 2), (half_length, half_width), angle, 0, 360, 1)
    cv2.fillConvexPoly(canvas, outline, colour)


def _draw_hand(canvas: np.ndarray, points: np.ndarray, style: Style) -> None:
    """Edges, then points. K: drawn is what has positive coordinates, not a score (UniAnimate spec 11)."""
    cells = [_cell(point) for point in points]
    drawn = [min(cell) >= NEAREST_DRAWN for cell in cells]
    for (first, second), colour in zip(HAND_EDGES, HAND_COLOURS, strict=True):
        if drawn[first] and drawn[second]:
            cv2.line(canvas, cells[first], cells[second], colour, style.hand_line)
    _draw_points(canvas, points, style.hand_radius, HAND_POINT_COLOUR)


def _draw_points(canvas: np.ndarray, points: np.ndarray, radius: int, colour: tuple[int, int, int]) -> None:
    for cell in map(_cell, points):
        if min(cell) >= NEAREST_DRAWN:
            cv2.circle(canvas, cell, radius, colour, cv2.FILLED)


def _through_jpeg(canvas: np.ndarray, quality: int) -> np.ndarray:
    """There and back in the order in which the original's arrays go to the file, red and blue exchanged."""
    _, coded = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)


REPORT_COLOURS = {
    "measured": (110, 220, 110),
    "mirror": (90, 170, 255),
    "parent": (240, 210, 80),
    "other axis": (240, 210, 80),
    "default": (170, 170, 170),
}
CLAMPED_COLOUR = (255, 110, 90)
REFERENCE_COLOUR = (95, 95, 105)
TITLE_COLOUR = (255, 255, 255)
_TEXT_WIDTH, _MARGIN = 430, 12


def draw_report(report: AlignmentReport, height: int = 640) -> np.ndarray:
    """The picture of an ``AlignmentReport``, uint8 RGB [height, W, 3].

    Left the driving pose, in the middle the aligned one over the reference (grey), every limb in the colour
    of its ratio's source; right the numbers.
    """
    colours = [_report_colour(ratio) for ratio in report.limbs]
    before, after = (_panel(poses.canvas, height) for poses in (report.driving, report.reference))
    grey = [REFERENCE_COLOUR] * len(LIMBS)
    _draw_figure(before, report.driving, colours, 2)
    _draw_figure(after, report.reference, grey, 7)
    _draw_figure(after, report.aligned, colours, 2)
    _write(before, "driving", 0, TITLE_COLOUR)
    _write(after, "aligned, on the reference", 0, TITLE_COLOUR)
    return np.concatenate([before, after, _table(report, height)], axis=1)


def _table(report: AlignmentReport, height: int) -> np.ndarray:
    """The numbers in columns, as ``AlignmentReport.text`` has them in lines."""
    table = np.zeros((height, _TEXT_WIDTH, 3), np.uint8)
    lines = [((f"alignment: {report.fidelity}",), TITLE_COLOUR)]
    lines += [
        ((ratio.name, f"{ratio.value:.3f}", ratio.origin), _report_colour(ratio)) for ratio in report.ratios
    ]
    lines += [((str(report.shift),), TITLE_COLOUR)]
    step = min(26.0, (height - 2 * _MARGIN) / len(lines))
    for number, (cells, colour) in enumerate(lines):
        for cell, left in zip(cells, (0, 140, 200), strict=False):
            _write(table, cell, number, colour, step, left)
    return table


def _report_colour(ratio: Ratio) -> tuple[int, int, int]:
    return CLAMPED_COLOUR if ratio.clamped else REPORT_COLOURS[ratio.source.value]


def _panel(canvas: tuple[int, int], height: int) -> np.ndarray:
    width = int(np.clip(round(height * canvas[0] / canvas[1]), height // 3, 2 * height))
    panel = np.full((height, width, 3), 24, np.uint8)
    cv2.rectangle(panel, (0, 0), (width - 1, height - 1), (70, 70, 70))
    return panel


def _draw_figure(
    panel: np.ndarray, poses: PoseSequence, colours: list[tuple[int, int, int]], thickness: int
) -> None:
    """The limbs of the walk, and the trunk, which no limb ratio changes, in the reference's grey."""
    normalised = normalise(poses)
    points, seen = _pixels(normalised.body[0], panel.shape[1::-1]), normalised.subset[0] >= 0
    trunk = [((Joint.NECK, hip), REFERENCE_COLOUR) for hip in (Joint.R_HIP, Joint.L_HIP)]
    limbs = [((limb.pivot, limb.joint), colour) for limb, colour in zip(LIMBS, colours, strict=True)]
    for (first, second), colour in (*trunk, *limbs):
        if seen[first] and seen[second]:
            cv2.line(panel, _cell(points[first]), _cell(points[second]), colour, thickness, cv2.LINE_AA)


def _write(
    panel: np.ndarray,
    text: str,
    line: int,
    colour: tuple[int, int, int],
    step: float = 26.0,
    left: int = 0,
) -> None:
    at = (_MARGIN + left, _MARGIN + int((line + 0.7) * step))
    cv2.putText(panel, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
