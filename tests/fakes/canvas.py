"""Where the page draws what a workflow file says: boxes of nodes, their slots, the curves of links."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Node = Mapping[str, Any]

TITLE = 30
"""Of a node: a bar above its position, as high as this."""

GROUP_TITLE = 30
SLOT, WIDGET = 20, 24
REROUTE = "Reroute"


class Box(NamedTuple):
    """Edges in canvas units, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box, apart: float = 0) -> bool:
        """Whether less than ``apart`` lies between the two boxes."""
        across = self.left < other.right + apart and other.left < self.right + apart
        return across and self.top < other.bottom + apart and other.top < self.bottom + apart

    def holds(self, other: Box) -> bool:
        """Whether the other box lies inside."""
        beside = self.left <= other.left and other.right <= self.right
        return beside and self.top <= other.top and other.bottom <= self.bottom

    def hides(self, point: tuple[float, float], margin: float = 2) -> bool:
        """Whether the box, drawn over the links, covers a point of one."""
        x, y = point
        across = self.left - margin < x < self.right + margin
        return across and self.top - margin < y < self.bottom + margin


def box(node: Node) -> Box:
    """A node with its title, which newer pages leave room for on reroutes too (Nodes 2.0)."""
    (x, y), (width, height) = node["pos"], node["size"]
    return Box(x, y - TITLE, x + width, y + height)


def group_box(group: Mapping[str, Any], *, inside: bool = False) -> Box:
    """A group; or the part of it below its title."""
    x, y, width, height = group["bounding"]
    return Box(x, y + (GROUP_TITLE if inside else 0), x + width, y + height)


def output_at(node: Node, slot: int) -> tuple[float, float]:
    """The point where a link leaves."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x + width, y + (height / 2 if node["type"] == REROUTE else (slot + 0.7) * SLOT)


def input_at(node: Node, slot: int) -> tuple[float, float]:
    """The point where a link arrives: at a socket, or at the widget that it replaces."""
    x, y = node["pos"]
    wanted = node["inputs"][slot]
    if node["type"] == REROUTE:
        return x, y + node["size"][1] / 2
    sockets = [one["name"] for one in node["inputs"] if "widget" not in one]
    if "widget" not in wanted:
        return x, y + (sockets.index(wanted["name"]) + 0.7) * SLOT
    rows = max(len(sockets), len(node["outputs"]))
    row = [one["name"] for one in node["inputs"] if "widget" in one].index(wanted["name"])
    return x, y + rows * SLOT + (row + 0.7) * WIDGET


def curve(
    start: tuple[float, float], end: tuple[float, float], points: int = 64
) -> Iterator[tuple[float, float]]:
    """Points of the spline that the page draws for a link."""
    pull = 0.25 * math.dist(start, end)
    corners = (start, (start[0] + pull, start[1]), (end[0] - pull, end[1]), end)
    for step in range(points + 1):
        t = step / points
        weights = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
        x, y = (sum(w * corner[axis] for w, corner in zip(weights, corners, strict=True)) for axis in (0, 1))
        yield x, y
