"""Float16: a float32 graph becomes one that computes in float16 from the picture to the results.

It is for backends that compute in the types that a graph declares, such as TensorRT from 11 on. Bytes enter
and float32 leaves as before, so neither who feeds the graph nor who decodes its results notices.

Nothing stays in float32 in between. Measured with trained weights and every tensor rounded to float16: to
keep the centred picture, the mean over all positions, or the sums of shortcuts in float32 changes the error
of the outputs by less than a twentieth. Pixels are exact, as all whole numbers up to 2048 are. Activations
stay far below the end at 65504, since ReLU6 bounds what they are made of: on pictures the largest is 123.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError
from edge_mnv2.networks.graph import Graph, Tensor

# As ONNX numbers them.
_FLOAT32, _FLOAT16 = 1, 10
_LARGEST = float(np.finfo(np.float16).max)


def to_half(graph: Graph) -> Graph:
    """Return a float16 graph with the same inputs and outputs.

    Args:
        graph: A float32 graph that is fed bytes.

    Raises:
        WeightsError: A weight is too large for float16.
        ValueError: It is another kind of graph.
    """
    _check_types(graph)
    half = Graph(
        inputs=list(graph.inputs),
        outputs=list(graph.outputs),
        tensors={tensor.name: tensor for tensor in graph.inputs},
        constants={name: _rounded(name, value) for name, value in graph.constants.items()},
        weight_shapes=graph.weight_shapes,
        multiply_adds=graph.multiply_adds,
    )
    results = {tensor.name for tensor in graph.outputs}
    half_names: dict[str, str] = {}
    for node in graph.nodes:
        name, shape = node.output, graph.tensors[node.output].shape
        half_names[name] = f"{name}/half" if name in results else name
        half.append(
            node.op,
            [half_names.get(source, source) for source in node.inputs],
            Tensor(half_names[name], shape, "float16"),
            **({**node.attributes, "to": _FLOAT16} if node.op == "Cast" else node.attributes),
        )
        if name in results:
            half.append("Cast", [half_names[name]], Tensor(name, shape), to=_FLOAT32)
    return half


def _check_types(graph: Graph) -> None:
    inputs = {tensor.name for tensor in graph.inputs}
    for tensor in graph.tensors.values():
        expected = "uint8" if tensor.name in inputs else "float32"
        if tensor.dtype != expected:
            raise ValueError(
                f"{tensor.name} is {tensor.dtype}, not {expected}: only a float32 graph can become float16."
            )


def _rounded(name: str, value: NDArray[Any]) -> NDArray[Any]:
    """Return a constant in float16; shapes stay integers.

    What is smaller than float16's normal numbers keeps fewer digits, or becomes 0. That is an error of at
    most 3e-8 in a weight, which a thousand of them behind ReLU6 cannot make more than 2e-4.
    """
    if value.dtype != np.float32:
        return value
    with np.errstate(over="ignore"):
        rounded = value.astype(np.float16)
    if not np.isfinite(rounded).all():
        # Saturating would be silent: a clipped weight makes another network.
        raise WeightsError(
            f"{name} holds {np.abs(value).max():g}, more than float16 can ({_LARGEST:g}): run this model in "
            "fp32 or int8."
        )
    return rounded
