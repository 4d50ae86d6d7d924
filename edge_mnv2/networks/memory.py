"""Peak activation memory of a graph, by the lifetimes of its tensors (paper, section 5.1).

A tensor takes memory from the operator that makes it to the last one that reads it; weights are not counted.
What backends do in place counts once: activations, reshapes, sums into an input that nobody needs any more,
and the pairs of quantising and dequantising that they fuse into the operator between them.
"""

from __future__ import annotations

import math

import numpy as np

from edge_mnv2.networks.graph import Graph, Node

_SAME_BUFFER = ("Clip", "Relu", "Identity", "Reshape", "QuantizeLinear", "DequantizeLinear")
_MAY_REUSE = ("Add", "Sub")


def peak_activation_bytes(graph: Graph) -> int:
    """Return the largest sum of tensors that are needed at the same time, graph inputs included."""
    owner = _owners(graph)
    size = _sizes(graph, owner)
    last_read: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        for name in (*node.inputs, node.output):
            if name in owner:
                last_read[owner[name]] = index
    for output in graph.outputs:
        last_read[owner[output.name]] = len(graph.nodes)
    alive = {owner[tensor.name] for tensor in graph.inputs}
    peak = sum(size[name] for name in alive)
    for index, node in enumerate(graph.nodes):
        if node.output not in owner:
            continue
        target = owner[node.output]
        dying = {name for name in alive if last_read[name] <= index and name != target}
        is_new = target not in alive
        reused = _reused(node, owner, dying, size, size[target]) if is_new else 0
        alive.add(target)
        peak = max(peak, sum(size[name] for name in alive) - reused)
        alive -= dying
    return peak


def _owners(graph: Graph) -> dict[str, str]:
    """Return by tensor the tensor whose buffer it shares; constants and what is made of them have none."""
    owner = {tensor.name: tensor.name for tensor in graph.inputs}
    for node in graph.nodes:
        sources = [name for name in node.inputs if name in owner]
        if sources:
            owner[node.output] = owner[sources[0]] if node.op in _SAME_BUFFER else node.output
    return owner


def _sizes(graph: Graph, owner: dict[str, str]) -> dict[str, int]:
    """Return the bytes of each buffer: those of the smallest form that its tensors have."""
    size: dict[str, int] = {}
    for name, buffer in owner.items():
        tensor = graph.tensors[name]
        own = math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
        size[buffer] = min(own, size.get(buffer, own))
    return size


def _reused(node: Node, owner: dict[str, str], dying: set[str], size: dict[str, int], needed: int) -> int:
    """Return the bytes that an element-wise operator takes over from an input that it is the last to read."""
    if node.op not in _MAY_REUSE:
        return 0
    inputs = {owner[name] for name in node.inputs if name in owner}
    return needed if any(name in dying and size[name] == needed for name in inputs) else 0
