"""Int8: a float graph and the ranges of its activations become a graph of stored bytes (QDQ).

Two flavours from the same ranges:

- `asymmetric`, for ONNX Runtime: uint8 activations with zero points, int8 weights with a scale per output
  channel (weights that were trained on a grid of 8 bits keep it), int32 biases. ReLU and ReLU6 disappear:
  what is stored as 0 to 6 cannot leave that range. Reordering happens on the stored bytes, and the picture
  enters the first convolution as the uint8 that it is. Float remains where results leave the graph: the
  joining of heads that have different scales.
- `symmetric`, for TensorRT: int8 with zero points 0, biases in float, QDQ only before convolutions, sums and
  means, so that predictions leave in float. Weights are float on the stored form's grid, and quantised in the
  graph.

Scheme: q = round(x / scale) + zero point (Jacob et al., arXiv 1712.05877); weights use -127 to 127.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.networks.activation_statistics import (
    ACTIVATIONS,
    ARITHMETIC,
    ActivationStatistics,
    activated,
    check_statistics,
)
from edge_mnv2.networks.equalise import equalise
from edge_mnv2.networks.graph import Graph, Node, Tensor
from edge_mnv2.networks.stored_weights import StoredWeights, store_weights

Flavour = Literal["asymmetric", "symmetric"]

# A tensor of zeros still needs a scale.
_MIN_SCALE = 1e-9
_MOVES = ("Transpose", "Reshape", "Expand")


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor in its stored form: real value = (q - zero_point) * scale."""

    tensor: Tensor
    scale: np.float32
    zero_point: np.integer[Any]


def quantise(
    graph: Graph, statistics: Mapping[str, ActivationStatistics], flavour: Flavour = "asymmetric"
) -> Graph:
    """Return a quantised graph with the same inputs and outputs.

    Args:
        graph: A float graph; it is equalised first (`networks.equalise`) where the statistics have peaks.
        statistics: Of every tensor in `tensors_to_watch`, by name.
        flavour: See the module.

    Raises:
        WeightsError: Statistics of a tensor are missing, or do not fit it.
    """
    check_statistics(graph, statistics)
    peaks = {name: found.peak for name, found in statistics.items() if found.peak is not None}
    return _Quantiser(equalise(graph, peaks), statistics, flavour).run()


class _Quantiser:
    """Walks a float graph once and appends to the quantised one."""

    def __init__(
        self, graph: Graph, statistics: Mapping[str, ActivationStatistics], flavour: Flavour
    ) -> None:
        self._float = graph
        self._statistics = statistics
        self._is_symmetric = flavour == "symmetric"
        self._activated = activated(graph)
        self._producer = {node.output: node for node in graph.nodes}
        self._stored: dict[str, _Stored] = {}
        # What a stored input leaves out of each channel; the first convolution's bias makes up for it.
        self._left_out: dict[str, NDArray[np.float32]] = {}
        self._out = Graph(
            inputs=list(graph.inputs),
            outputs=list(graph.outputs),
            tensors={tensor.name: tensor for tensor in graph.inputs},
            weight_shapes=graph.weight_shapes,
            multiply_adds=graph.multiply_adds,
        )

    def run(self) -> Graph:
        for node in self._float.nodes:
            if node.op == "Conv":
                self._convolution(node)
            elif node.op in ARITHMETIC or self._is_stored_concat(node):
                self._result(node, [self._arithmetic_input(name, node) for name in node.inputs])
            elif node.op in _MOVES and node.inputs[0] in self._stored:
                self._move(node)
            elif node.op in ACTIVATIONS and node.output in self._stored:
                continue  # the stored range does it
            elif node.op == "Sub" and not self._is_symmetric:
                self._centre(node)
            else:
                self._copy(node)
        self._drop_unused()
        return self._out

    def _is_stored_concat(self, node: Node) -> bool:
        """Return whether tensors are joined as bytes: what a convolution reads, not predictions."""
        return node.op == "Concat" and node.output in self._statistics and not self._is_symmetric

    def _convolution(self, node: Node) -> None:
        kernel = self._float.constants[node.inputs[1]]
        biases = self._float.constants[node.inputs[2]] if len(node.inputs) > 2 else None
        left_out = self._left_out.get(node.inputs[0])
        if left_out is not None:
            extra = (kernel * left_out[:, None, None]).sum(axis=(1, 2, 3))
            biases = extra if biases is None else biases + extra
        source = self._arithmetic_input(node.inputs[0], node)
        source_scale = self._stored[node.inputs[0]].scale
        weights = store_weights(kernel, biases, source_scale, allow_grid=not self._is_symmetric)
        biases = self._corrected(node, biases, kernel - weights.real())
        inputs = [source, self._stored_constant(f"{node.output}/weights", weights)]
        if biases is not None:
            inputs.append(self._biases(f"{node.output}/biases", biases, weights.scale * source_scale))
        self._result(node, inputs)

    def _biases(self, name: str, biases: NDArray[np.float32], scale: NDArray[np.float32]) -> str:
        if self._is_symmetric:
            return self._out.constant(name, biases)
        stored = np.rint(biases.astype(np.float64) / scale).astype(np.int32)
        return self._stored_constant(name, StoredWeights(stored, scale, np.zeros(scale.shape, np.int32)))

    def _corrected(
        self, node: Node, biases: NDArray[np.float32] | None, rounded_off: NDArray[np.float32]
    ) -> NDArray[np.float32] | None:
        """Add to the bias what rounding the weights takes from the mean of each output channel.

        Rounding shifts a channel by (weights lost) x (mean input); over the layers these shifts add up to
        most of the error that int8 weights make (Nagel et al., arXiv 1906.04721, section 4.2).
        """
        mean = self._statistics[node.inputs[0]].mean if node.inputs[0] in self._statistics else None
        if mean is None:
            return biases
        lost = rounded_off.sum(axis=(2, 3))
        shift = lost[:, 0] * mean if node.attributes["group"] > 1 else lost @ mean
        corrected: NDArray[np.float32] = (shift if biases is None else biases + shift).astype(np.float32)
        return corrected

    def _result(self, node: Node, inputs: list[str]) -> None:
        """Append an operator of arithmetic and quantise what it gives, its activation included."""
        linear = self._out.append(node.op, inputs, self._float.tensors[node.output], **node.attributes)
        if not self._is_symmetric:
            target = self._activated.get(node.output, node.output)
            self._stored[target] = self._quantise(linear.name, target)

    def _move(self, node: Node) -> None:
        """Reorder or reshape the stored bytes."""
        source = self._stored[node.inputs[0]]
        after = self._float.tensors[node.output]
        constants = [self._out.constant(name, self._float.constants[name]) for name in node.inputs[1:]]
        moved = Tensor(f"{after.name}/stored", after.shape, source.tensor.dtype)
        self._out.append(node.op, [source.tensor.name, *constants], moved, **node.attributes)
        self._stored[after.name] = replace(source, tensor=moved)

    def _centre(self, node: Node) -> None:
        """Take the picture's bytes as stored: scale 1, zero point near the mean.

        The rest of the mean, half a grey level, goes into the bias; at the padding it is missing, and small.
        """
        picture = self._float.inputs[0]
        to_planes = self._producer[node.inputs[0]]
        shape = self._float.tensors[node.output].shape
        stored = Tensor(f"{picture.name}/stored", shape, picture.dtype)
        planes = self._out.append("Transpose", [picture.name], stored, **to_planes.attributes)
        means = np.broadcast_to(self._float.constants[node.inputs[1]].reshape(-1), (planes.shape[1],))
        zero_point = np.uint8(np.rint(means.mean()))
        self._left_out[node.output] = (np.float32(zero_point) - means).astype(np.float32)
        self._stored[node.output] = _Stored(planes, np.float32(1), zero_point)

    def _copy(self, node: Node) -> None:
        inputs = []
        for name in node.inputs:
            if name in self._float.constants:
                inputs.append(self._out.constant(name, self._float.constants[name]))
            else:
                in_float = name in self._out.tensors
                inputs.append(name if in_float else self._dequantise(self._stored[name], node))
        self._out.append(node.op, inputs, self._float.tensors[node.output], **node.attributes)

    def _arithmetic_input(self, name: str, reader: Node) -> str:
        if name not in self._stored:
            self._stored[name] = self._quantise(name, name)
        return self._dequantise(self._stored[name], reader)

    def _quantise(self, source: str, name: str) -> _Stored:
        low, high = self._range(name)
        if self._is_symmetric:
            scale = max(-low, high) / 127
            zero_point: np.integer[Any] = np.int8(0)
        else:
            scale = (high - low) / 255
            zero_point = np.uint8(np.rint(-low / max(scale, _MIN_SCALE)))
        kept = np.float32(max(scale, _MIN_SCALE))
        tensor = Tensor(f"{name}/stored", self._float.tensors[name].shape, zero_point.dtype.name)
        constants = self._parameters(name, kept, zero_point)
        self._out.append("QuantizeLinear", [source, *constants], tensor)
        return _Stored(tensor, kept, zero_point)

    def _range(self, name: str) -> tuple[float, float]:
        """Return what a tensor's stored form must hold; zero, the padding, always is in it."""
        producer = self._producer[name]
        if producer.op == "Sub":  # the picture: 0 to 255 less the means
            means = self._float.constants[producer.inputs[1]]
            return -float(means.max()), 255 - float(means.min())
        found = self._statistics[name]
        low, high = min(found.low, 0.0), max(found.high, 0.0)
        # The range stands in for the activation, so it may not be wider.
        match producer.op:
            case "Clip":
                return 0.0, min(high, float(self._float.constants[producer.inputs[2]]))
            case "Relu":
                return 0.0, high
        return low, high

    def _dequantise(self, stored: _Stored, reader: Node) -> str:
        """Append a DequantizeLinear for one reader: backends fuse pairs that nobody shares."""
        name = f"{reader.output}/from/{stored.tensor.name}"
        constants = self._parameters(stored.tensor.name, stored.scale, stored.zero_point)
        return self._out.append(
            "DequantizeLinear", [stored.tensor.name, *constants], Tensor(name, stored.tensor.shape)
        ).name

    def _stored_constant(self, name: str, weights: StoredWeights) -> str:
        axis = {"axis": 0} if weights.scale.ndim else {}
        constants = [
            self._out.constant(f"{name}/scale", weights.scale),
            self._out.constant(f"{name}/zero_point", weights.zero_point),
        ]
        if self._is_symmetric:
            # TensorRT 8 takes no stored weights, every version float ones that are quantised in the graph.
            real = self._out.constant(f"{name}/real", weights.real())
            levels = Tensor(f"{name}/stored", weights.levels.shape, weights.levels.dtype.name)
            stored = self._out.append("QuantizeLinear", [real, *constants], levels, **axis).name
        else:
            stored = self._out.constant(f"{name}/stored", weights.levels)
        tensor = Tensor(name, weights.levels.shape)
        return self._out.append("DequantizeLinear", [stored, *constants], tensor, **axis).name

    def _parameters(self, name: str, scale: np.float32, zero_point: np.integer[Any]) -> list[str]:
        return [
            self._out.constant(f"{name}/scale", scale),
            self._out.constant(f"{name}/zero_point", zero_point),
        ]

    def _drop_unused(self) -> None:
        """Leave out what nobody reads: the float picture, where its bytes are taken."""
        needed = {tensor.name for tensor in self._out.outputs}
        kept: list[Node] = []
        for node in reversed(self._out.nodes):
            if node.output in needed:
                kept.append(node)
                needed.update(node.inputs)
        self._out.nodes = kept[::-1]
        self._out.constants = {
            name: self._out.constants[name] for name in self._out.constants if name in needed
        }
