"""Feature networks for tests, whose answers are obvious."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def mean_network(path: Path, shape: list) -> Path:
    """An ONNX file that gives the mean of every colour over all that follows it."""
    axes = list(range(2, len(shape)))
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=0)
    graph = helper.make_graph(
        [node], "mean", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path
