"""TensorFlow frozen graphs (`.pb`): a serialised GraphDef whose Const nodes hold the weights.

Only the few fields needed are declared, from the field numbers of graph.proto, node_def.proto,
attr_value.proto, tensor.proto and tensor_shape.proto; protobuf skips the others. TensorFlow is not needed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError

# Field name: (field number, scalar type or message name, repeated).
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Dim": {"size": (1, "int64", False)},
    "TensorShape": {"dim": (2, "Dim", True)},
    "Tensor": {
        "dtype": (1, "int32", False),
        "tensor_shape": (2, "TensorShape", False),
        "tensor_content": (4, "bytes", False),
        "float_val": (5, "float", True),
    },
    "AttrValue": {"tensor": (8, "Tensor", False)},
    "AttrEntry": {"key": (1, "string", False), "value": (2, "AttrValue", False)},
    "Node": {
        "name": (1, "string", False),
        "op": (2, "string", False),
        "attr": (5, "AttrEntry", True),
    },
    "Graph": {"node": (1, "Node", True)},
}
_DT_FLOAT = 1


def read_frozen_graph(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read every float32 constant of a frozen graph, by node name.

    Raises:
        WeightsError: The file is not a GraphDef, or holds no float constants.
    """
    from google.protobuf.message import DecodeError

    graph = _graph_class()()
    try:
        graph.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise WeightsError(f"{path} is not a TensorFlow frozen graph: {error}.") from error
    tensors = {}
    for node in graph.node:
        if node.op != "Const":
            continue
        for entry in node.attr:
            if entry.key == "value" and entry.value.tensor.dtype == _DT_FLOAT:
                tensors[node.name] = _array(entry.value.tensor, node.name)
    if not tensors:
        raise WeightsError(f"{path} holds no float constants: it is not a frozen graph with weights.")
    return tensors


def _array(tensor: Any, name: str) -> NDArray[np.float32]:  # noqa: ANN401 - a message class made at run time
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    try:
        if tensor.tensor_content:
            return np.frombuffer(tensor.tensor_content, "<f4").reshape(shape)
        # One value stands for a tensor filled with it.
        return np.broadcast_to(np.array(tensor.float_val, np.float32), shape or (1,)).reshape(shape)
    except ValueError as error:
        raise WeightsError(f"The constant {name} does not hold {shape} numbers: {error}.") from error


@cache
def _graph_class() -> Any:  # noqa: ANN401 - a message class made at run time
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="edge_mnv2/frozen_graph.proto", package="edge_mnv2.frozen_graph", syntax="proto3"
    )
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for field_name, (number, kind, repeated) in fields.items():
            field = message.field.add(name=field_name, number=number)
            field.label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            if kind in _MESSAGES:
                field.type, field.type_name = field_type.TYPE_MESSAGE, f".{file.package}.{kind}"
            else:
                field.type = field_type.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.Graph"))
