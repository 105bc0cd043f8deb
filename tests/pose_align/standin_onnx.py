"""Stand-ins for DWPose's two networks: the published inputs and outputs, a few operations, and no weights.

``python standin_onnx.py FOLDER`` writes both under their published names. They see white on black:

* the person detector puts a box round the white of the left and of the right half of its picture, once more a
  little less surely (for the suppression to drop), and a sure dog over the left half (to be ignored);
* the pose network puts joint j at the middle of the white plus ``OFFSETS[j]``, with the score ``PEAKS[j]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PERSON_SIZE, POSE_SIZE = (640, 640), (384, 288)
ANCHORS, CLASSES, DOG = 8400, 80, 16
JOINTS, SPLIT = 133, 2

OFFSETS = np.stack([np.linspace(-40, 40, JOINTS), np.linspace(60, -60, JOINTS)], axis=1).astype(np.float32)
"""float32 [133, 2]: x and y of each joint from the middle of the white, in pixels of the crop."""
PEAKS = np.linspace(0.95, 0.05, JOINTS).astype(np.float32)

# (anchor, half of the picture, objectness, class, stride and cell x of the anchor); all are in row y = 0.
ROWS = (
    (0, 0, 0.9, 0, 8, 0),
    (1, 1, 0.8, 0, 8, 1),
    (6400, 0, 0.7, 0, 16, 0),
    (6401, 1, 0.6, 0, 16, 1),
    (8002, 0, 0.95, DOG, 32, 2),
)


class Graph:
    """A graph under construction: ``graph("Add", a, b)`` adds a node and returns its output's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, operation: str, *inputs: str, **attributes: object) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [name], **attributes))
        return name

    def constant(self, value: np.ndarray | float | list[int]) -> str:
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array.astype(np.int64)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def save(self, path: Path, inputs: dict[str, list], outputs: dict[str, list]) -> None:
        for node, name in zip(self.nodes[-len(outputs) :], outputs, strict=True):
            node.output[0] = name
        described = [
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side.items()]
            for side in (inputs, outputs)
        ]
        graph = helper.make_graph(self.nodes, path.stem, *described, initializer=self.constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="stand-in"
        )
        model.ir_version = 8
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())


def white(graph: Graph, picture: str, black: float, full: float) -> str:
    """[n, 1, h, w] from 0 (mean of the channels up to ``black``) to 1 (from ``full``)."""
    mean = graph("ReduceMean", picture, axes=[1], keepdims=1)
    scaled = graph("Div", graph("Sub", mean, graph.constant(black)), graph.constant(full - black))
    return graph("Clip", scaled, graph.constant(0.0), graph.constant(1.0))


def total(graph: Graph, mask: str, weights: str | None = None) -> str:
    """[n, 1, 1, 1]: the mask summed over the picture, times the weights."""
    product = graph("Mul", mask, weights) if weights else mask
    return graph("ReduceSum", product, graph.constant([2, 3]), keepdims=1)


def axes(graph: Graph, size: tuple[int, int]) -> tuple[str, str]:
    """x [1, 1, 1, w] and y [1, 1, h, 1] in pixels."""
    x, y = np.arange(size[1], dtype=np.float32), np.arange(size[0], dtype=np.float32)
    return graph.constant(x[None, None, None]), graph.constant(y[None, None, :, None])


def mean_and_extent(graph: Graph, mask: str, mass: str, axis: str) -> tuple[str, str]:
    """Middle of the white along an axis and the side of the rectangle that would spread as far."""
    mean = graph("Div", total(graph, mask, axis), mass)
    away = graph("Sub", axis, mean)
    variance = graph("Div", total(graph, mask, graph("Mul", away, away)), mass)
    extent = graph("Mul", graph("Sqrt", variance), graph.constant(12**0.5))
    return mean, graph("Max", extent, graph.constant(1.0))


def person_row(graph: Graph, mask: str, row: tuple) -> str:
    """One anchor [1, 1, 85] as YOLOX gives it before decoding."""
    _, half, objectness, label, stride, cell = row
    inside = np.zeros((1, 1, 1, PERSON_SIZE[1]), np.float32)
    middle = PERSON_SIZE[1] // 2
    inside[..., half * middle : (half + 1) * middle] = 1
    mask = graph("Mul", mask, graph.constant(inside))
    area = total(graph, mask)
    mass = graph("Max", area, graph.constant(1.0))
    columns, extents = [], []
    for axis, grid in zip(axes(graph, PERSON_SIZE), (float(cell), 0.0), strict=True):
        mean, extent = mean_and_extent(graph, mask, mass, axis)
        columns.append(graph("Sub", graph("Div", mean, graph.constant(float(stride))), graph.constant(grid)))
        extents.append(graph("Log", graph("Div", extent, graph.constant(float(stride)))))
    share = graph("Div", area, graph.constant(100.0))
    present = graph("Clip", share, graph.constant(0.0), graph.constant(1.0))
    columns += [*extents, graph("Mul", present, graph.constant(objectness))]
    classes = np.zeros((1, 1, CLASSES), np.float32)
    classes[..., label] = 1
    flat = [graph("Reshape", column, graph.constant([1, 1, 1])) for column in columns]
    return graph("Concat", *flat, graph.constant(classes), axis=2)


def build_person_detector(path: Path) -> None:
    """images (1, 3, 640, 640), BGR 0-255 -> output (1, 8400, 85)."""
    graph, anchors, filled = Graph(), [], 0
    mask = white(graph, "images", 200.0, 255.0)
    for row in ROWS:
        anchors.append(graph.constant(np.zeros((1, row[0] - filled, 5 + CLASSES), np.float32)))
        anchors.append(person_row(graph, mask, row))
        filled = row[0] + 1
    anchors.append(graph.constant(np.zeros((1, ANCHORS - filled, 5 + CLASSES), np.float32)))
    graph("Concat", *anchors, axis=1)
    graph.save(path, {"images": [1, 3, *PERSON_SIZE]}, {"output": [1, ANCHORS, 5 + CLASSES]})


def build_pose_network(path: Path, batch: int | str = "batch") -> None:
    """input (batch, 3, 384, 288), normalised -> simcc_x (batch, 133, 576), simcc_y (batch, 133, 768)."""
    graph = Graph()
    mask = white(graph, "input", 1.5, 2.0)
    area = total(graph, mask)
    mass = graph("Max", area, graph.constant(1.0))
    present = graph("Clip", area, graph.constant(0.0), graph.constant(1.0))
    peaks = graph("Mul", present, graph.constant(PEAKS[None, None, :, None]))
    curves = []
    for number, axis in enumerate(axes(graph, POSE_SIZE)):
        mean, _ = mean_and_extent(graph, mask, mass, axis)
        joints = graph("Add", mean, graph.constant(OFFSETS[None, None, :, number : number + 1]))
        bins = np.arange(SPLIT * POSE_SIZE[1 - number], dtype=np.float32)[None, None, None]
        away = graph("Sub", graph.constant(bins), graph("Mul", joints, graph.constant(float(SPLIT))))
        curve = graph("Exp", graph("Mul", graph("Mul", away, away), graph.constant(-1 / 72)))
        curves.append(graph("Mul", peaks, curve))
    for curve in curves:
        graph("Squeeze", curve, graph.constant([1]))
    height, width = POSE_SIZE
    outputs = {"simcc_x": [batch, JOINTS, SPLIT * width], "simcc_y": [batch, JOINTS, SPLIT * height]}
    graph.save(path, {"input": [batch, 3, height, width]}, outputs)


def build(folder: Path, batch: int | str = "batch") -> None:
    """Write both files under their published names."""
    folder.mkdir(parents=True, exist_ok=True)
    build_person_detector(folder / "yolox_l.onnx")
    build_pose_network(folder / "dw-ll_ucoco_384.onnx", batch)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
