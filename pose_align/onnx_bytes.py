"""What a few bytes of an ONNX file would become, found without onnxruntime.

Two things make a gigabyte of a hundred bytes while a file is only opened. Sparse tensors, which onnxruntime
writes out in full; here they are found by walking over the file's protobuf messages. And constants that are
computed from constants, which the caller leaves to the run (see ``dwpose.open_session``).
"""

from __future__ import annotations

from collections.abc import Iterator

SPARSE = "sparse tensor"

PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 15: SPARSE},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {6: "graph", 11: "graph", 22: SPARSE, 23: SPARSE},
}
"""Message -> the numbers of those fields in which a sparse tensor may lie (onnx.proto of ONNX 1.17)."""

VARINT, EIGHT_BYTES, SIZED, FOUR_BYTES = 0, 1, 2, 5
"""Protobuf's wire types; groups (3, 4) are in no ONNX file."""
LONGEST_VARINT = 10


def holds_sparse_tensors(model: bytes) -> bool:
    """Whether a graph, a function or an attribute of the model holds one; ValueError for damaged bytes."""
    left = [("model", memoryview(model))]
    while left:
        kind, message = left.pop()
        for number, content in _fields(message):
            inner = PARTS[kind].get(number)
            if inner == SPARSE:
                return True
            if inner is not None:
                left.append((inner, content))
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, content) of a message's fields that have a size of their own; others are passed over."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == VARINT:
            _, at = _varint(message, at)
        elif wire in (EIGHT_BYTES, FOUR_BYTES):
            at += 8 if wire == EIGHT_BYTES else 4
        elif wire == SIZED:
            size, at = _varint(message, at)
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            raise ValueError(f"its bytes at {at} are no field of a protobuf message")
    if at > len(message):
        raise ValueError("it ends in the middle of a field")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """(value, where the next one begins)."""
    value = 0
    for place, byte in enumerate(message[at : at + LONGEST_VARINT]):
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, at + place + 1
    raise ValueError("it ends in the middle of a number")
