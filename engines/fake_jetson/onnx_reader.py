"""Just enough of ONNX to know what a graph takes, gives, and must not contain; no library is needed.

Field numbers are those of onnx.proto, wire types those of Protocol Buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16 = 1, 2, 3, 6, 7, 9, 10
"""Element types, TensorProto.DataType."""

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_Field = tuple[int, "int | memoryview"]


class NotOnnxError(Exception):
    """The bytes are not an ONNX model."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of a graph; a side of unknown length is -1."""

    name: str
    element_type: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node: its operator and the names of what it reads and writes."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GraphInfo:
    """What is known of a graph.

    Attributes:
        inputs: Without those that have a constant as their value.
        outputs: In the model's order.
        nodes: In the model's order.
        constants: By name: the element type, and whether any element is other than 0.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    nodes: tuple[NodeInfo, ...]
    constants: dict[str, tuple[int, bool]]


def read_graph(model: bytes) -> GraphInfo:
    """Read a serialised ModelProto.

    Raises:
        NotOnnxError: It is something else, or cut off.
    """
    try:
        graphs = [value for number, value in _fields(memoryview(model)) if number == 7]
        if not graphs:
            raise NotOnnxError("there is no graph")
        return _graph(_bytes(graphs[0]))
    except (IndexError, ValueError, struct.error) as error:
        raise NotOnnxError(str(error)) from error


def _graph(data: memoryview) -> GraphInfo:
    inputs, outputs, nodes = [], [], []
    constants: dict[str, tuple[int, bool]] = {}
    for number, value in _fields(data):
        if number == 1:
            node, constant = _node(_bytes(value))
            nodes.append(node)
            if constant is not None:
                constants[node.outputs[0]] = constant
        elif number == 5:
            name, constant = _tensor(_bytes(value))
            constants[name] = constant
        elif number == 11:
            inputs.append(_value_info(_bytes(value)))
        elif number == 12:
            outputs.append(_value_info(_bytes(value)))
    fed = tuple(info for info in inputs if info.name not in constants)
    return GraphInfo(fed, tuple(outputs), tuple(nodes), constants)


def _node(data: memoryview) -> tuple[NodeInfo, tuple[int, bool] | None]:
    inputs, outputs, name, operator = [], [], "", ""
    constant = None
    for number, value in _fields(data):
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 3:
            name = _text(value)
        elif number == 4:
            operator = _text(value)
        elif number == 5:
            for inner, tensor in _fields(_bytes(value)):
                if inner == 5:  # AttributeProto.t
                    constant = _tensor(_bytes(tensor))[1]
    node = NodeInfo(name, operator, tuple(inputs), tuple(outputs))
    return node, constant if operator == "Constant" else None


def _tensor(data: memoryview) -> tuple[str, tuple[int, bool]]:
    name, element_type, any_set = "", 0, False
    for number, value in _fields(data):
        if number == 2:
            element_type = _integer(value)
        elif number == 8:
            name = _text(value)
        elif number in {4, 5, 7, 9, 10, 11}:  # the data fields, packed or one by one
            any_set |= bool(value) if isinstance(value, int) else bool(np.frombuffer(value, np.uint8).any())
    return name, (element_type, any_set)


def _value_info(data: memoryview) -> TensorInfo:
    name, element_type, shape = "", 0, []
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for inner, tensor_type in _fields(_bytes(value)):
                if inner != 1:
                    raise NotOnnxError(f"{name} is no tensor")
                for field, content in _fields(_bytes(tensor_type)):
                    if field == 1:
                        element_type = _integer(content)
                    elif field == 2:
                        shape = [_side(_bytes(side)) for key, side in _fields(_bytes(content)) if key == 1]
    return TensorInfo(name, element_type, tuple(shape))


def _side(data: memoryview) -> int:
    return next((_integer(value) for number, value in _fields(data) if number == 1), -1)


def _fields(data: memoryview) -> Iterator[_Field]:
    """Yield number and value of each field of a message."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if not number:
            raise NotOnnxError("field number 0")
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == _LENGTH:
            length, position = _varint(data, position)
        elif wire in {_EIGHT_BYTES, _FOUR_BYTES}:
            length = 8 if wire == _EIGHT_BYTES else 4
        else:
            raise NotOnnxError(f"wire type {wire}")
        if position + length > len(data):
            raise NotOnnxError("cut off")
        yield number, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise NotOnnxError("a number that does not end")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise NotOnnxError("a number where a message belongs")
    return value


def _integer(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise NotOnnxError("a message where a number belongs")
    return value


def _text(value: int | memoryview) -> str:
    return str(_bytes(value), "utf-8")
