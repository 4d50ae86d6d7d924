"""Rewrites of a quantised graph that change no result, only how fast ONNX Runtime computes it.

Measured on x86-64 (`benchmarks/int8.py`): pairing the columns of the first layer takes 8 to 12 % off the
whole network. ONNX Runtime's fast kernels want channels in multiples of four, which a picture does not have;
and its kernels for Arm have none for so shallow a layer, where the additional multiply-adds would only cost.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.networks.graph import Graph, Node, Tensor

# Two neighbouring outputs of a 3x3 convolution with stride 2 read five columns of the picture: two groups of
# four hold them.
_GROUP = 4
_PIXEL = 3


def pair_columns(graph: Graph) -> Graph:
    """Let the first convolution compute two columns at once, on a picture seen as groups of four pixels.

    (1, H, W, 3) is read as (1, H, W / 4, 12), for which the 3x3 kernel with stride 2 becomes a 3x2 kernel
    with stride (2, 1) and twice the outputs; these are then read as (1, H / 2, W / 2, outputs). The same
    numbers are added up; only more of them are multiplied by zero.

    Args:
        graph: An asymmetric graph of `networks.quantise`.
    """
    picture = graph.tensors[INPUT_NAME]
    convolution = next(node for node in graph.nodes if node.op == "Conv")
    top, left, bottom, _ = convolution.attributes["pads"]
    outputs, rows, columns = graph.tensors[convolution.output].shape[1:]
    groups = -(-picture.shape[2] // _GROUP)
    paired = replace(graph, nodes=[], tensors=dict(graph.tensors), constants=dict(graph.constants))
    for node in graph.nodes:
        if node.inputs[0] == INPUT_NAME:
            _append_groups(paired, node, groups, _zero_point(graph, node.output))
        elif node is convolution:
            attributes = {
                **node.attributes,
                "kernel_shape": [3, 2],
                "strides": [2, 1],
                "pads": [top, left, bottom, 1 - left],
            }
            wide = Tensor(node.output, (1, 2 * outputs, rows, groups))
            paired.append("Conv", node.inputs, wide, **attributes)
        elif node.inputs[0] == convolution.output:
            _append_split(paired, node, (outputs, rows, columns, groups))
        else:
            if node.output in convolution.inputs[1:]:
                _double(paired, node, left)
            paired.append(node.op, node.inputs, paired.tensors[node.output], **node.attributes)
    return paired


def join_bytes(graph: Graph) -> Graph:
    """Join predictions as bytes and dequantise them once, with a scale for each position.

    Args:
        graph: An asymmetric graph of `networks.quantise`.
    """
    producer = {node.output: node for node in graph.nodes}
    stored_again = {node.inputs[0] for node in graph.nodes if node.op == "QuantizeLinear"}
    joins = [
        node
        for node in graph.nodes
        if node.op == "Concat"
        and node.output not in stored_again
        and all(producer[name].op == "DequantizeLinear" for name in node.inputs)
    ]
    replaced = {name for node in joins for name in node.inputs}
    joined = replace(graph, nodes=[], tensors=dict(graph.tensors), constants=dict(graph.constants))
    for node in graph.nodes:
        if node in joins:
            _append_join(joined, node, [producer[name] for name in node.inputs])
        elif node.output not in replaced:
            joined.append(node.op, node.inputs, joined.tensors[node.output], **node.attributes)
    return joined


def _append_groups(graph: Graph, transpose: Node, groups: int, zero_point: NDArray[np.uint8]) -> None:
    """Append the picture as planes of four pixels each, filled up with grey on the right."""
    height, width = graph.tensors[INPUT_NAME].shape[1:3]
    name, missing = INPUT_NAME, groups * _GROUP - width
    if missing:
        pads = graph.constant("first/pads", np.array([0, 0, 0, 0, 0, 0, missing, 0], np.int64))
        filling = graph.constant("first/filling", zero_point)
        filled = Tensor("first/filled", (1, height, width + missing, _PIXEL), "uint8")
        name = graph.append("Pad", [name, pads, filling], filled).name
    shape = (1, height, groups, _GROUP * _PIXEL)
    grouped = _reshape(graph, name, "first/groups", shape)
    planes = Tensor(transpose.output, (1, shape[3], height, groups), "uint8")
    graph.append("Transpose", [grouped.name], planes, **transpose.attributes)


def _append_split(graph: Graph, quantise: Node, sizes: tuple[int, int, int, int]) -> None:
    """Append the quantised outputs, two columns of `outputs` channels out of one of twice as many."""
    outputs, rows, columns, groups = sizes
    wide = Tensor("first/pairs", (1, 2 * outputs, rows, groups), "uint8")
    graph.append("QuantizeLinear", quantise.inputs, wide)
    last = Tensor("first/channels_last", (1, rows, groups, 2 * outputs), "uint8")
    graph.append("Transpose", [wide.name], last, perm=[0, 2, 3, 1])
    split = _reshape(graph, last.name, "first/columns", (1, rows, 2 * groups, outputs))
    if 2 * groups != columns:
        bounds = [
            graph.constant(f"first/{name}", np.array([value], np.int64))
            for name, value in (("start", 0), ("end", columns), ("axis", 2))
        ]
        cut = Tensor("first/cut", (1, rows, columns, outputs), "uint8")
        split = graph.append("Slice", [split.name, *bounds], cut)
    result = Tensor(quantise.output, (1, outputs, rows, columns), "uint8")
    graph.append("Transpose", [split.name], result, perm=[0, 3, 1, 2])


def _append_join(graph: Graph, concat: Node, parts: list[Node]) -> None:
    lengths = [graph.tensors[part.inputs[0]].shape[1] for part in parts]
    stored = Tensor(f"{concat.output}/stored", graph.tensors[concat.output].shape, "uint8")
    graph.append("Concat", [part.inputs[0] for part in parts], stored, axis=1)
    constants = [
        graph.constant(
            f"{stored.name}/{kind}",
            np.repeat(np.stack([graph.constants[part.inputs[position]] for part in parts]), lengths),
        )
        for position, kind in ((1, "scale"), (2, "zero_point"))
    ]
    graph.append("DequantizeLinear", [stored.name, *constants], graph.tensors[concat.output], axis=1)


def _double(graph: Graph, dequantise: Node, left: int) -> None:
    """Replace the constants of a kernel or bias by those for two columns."""
    stored, *parameters = dequantise.inputs
    levels = graph.constants[stored]
    if levels.ndim == 4:
        outputs = len(levels)
        # A pixel outside the kernel is multiplied by the level of zero.
        zero = graph.constants[parameters[1]].reshape(-1)[0]
        wide = np.full((2 * outputs, _GROUP * _PIXEL, 3, 2), zero, levels.dtype)
        for output in range(2):
            for tap in range(3):
                group, pixel = divmod(2 * output - left + tap, _GROUP)
                channels = slice(_PIXEL * pixel, _PIXEL * (pixel + 1))
                rows = slice(output * outputs, (output + 1) * outputs)
                wide[rows, channels, :, group + left] = levels[:, :, :, tap]
        graph.constant(stored, wide)
        graph.tensors[dequantise.output] = Tensor(dequantise.output, wide.shape)
    else:
        graph.constant(stored, np.tile(levels, 2))
        graph.tensors[dequantise.output] = Tensor(dequantise.output, (2 * len(levels),))
    for name in parameters:
        if graph.constants[name].ndim:
            graph.constant(name, np.tile(graph.constants[name], 2))


def _zero_point(graph: Graph, planes: str) -> NDArray[np.uint8]:
    """Return the level that the picture's padding has."""
    reader = next(node for node in graph.nodes if node.inputs[0] == planes)
    zero_point: NDArray[np.uint8] = graph.constants[reader.inputs[2]]
    return zero_point


def _reshape(graph: Graph, source: str, name: str, shape: tuple[int, ...]) -> Tensor:
    constant = graph.constant(f"{name}/shape", np.array(shape, np.int64))
    return graph.append("Reshape", [source, constant], Tensor(name, shape, "uint8"))
