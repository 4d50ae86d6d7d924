"""Making channels equally large before they share one scale in int8.

A tensor behind ReLU6 is stored with one scale for all channels, 0 to 6, although many channels never come
near 6 and then use a few of the 256 levels. Multiplying what makes a channel by a factor, and dividing what
reads it by the same factor, changes nothing in float as long as the channel stays below the bound; and every
channel uses most of its levels (cross-layer equalisation: Nagel et al., arXiv 1906.04721, section 4.1, here
with the bound of ReLU6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.networks.graph import Graph, Node

_BOUND = 6.0
# A channel that was nearly silent on the pictures seen may speak on others: it is not enlarged at will.
_MOST = 8.0
_MIN_PEAK = 1e-3


def tensors_to_equalise(graph: Graph) -> list[str]:
    """Return the tensors behind ReLU6 that only convolutions read."""
    readers = _readers(graph)
    return [
        node.output
        for node in graph.nodes
        if node.op == "Clip" and all(reader.op == "Conv" for reader in readers[node.output])
    ]


def equalise(graph: Graph, peaks: Mapping[str, NDArray[np.float32]]) -> Graph:
    """Return a graph that computes the same from equally large channels.

    Args:
        graph: A float graph.
        peaks: By tensor, the largest value of each channel; tensors that are not in it stay as they are.
    """
    readers, producer = _readers(graph), {node.output: node for node in graph.nodes}
    constants = dict(graph.constants)
    for name in tensors_to_equalise(graph):
        if name not in peaks:
            continue
        factors = np.clip(_BOUND / np.maximum(peaks[name], _MIN_PEAK), 1, _MOST)
        if any(reader.attributes["group"] == 1 for reader in readers[name]):
            # A full convolution stores its kernel with one scale for all inputs: what one side gains here,
            # the other loses, and the square root shares it between them.
            factors = np.sqrt(factors)
        factors = factors.astype(np.float32)
        maker = producer[producer[name].inputs[0]]
        constants[maker.inputs[1]] = constants[maker.inputs[1]] * factors[:, None, None, None]
        constants[maker.inputs[2]] = constants[maker.inputs[2]] * factors
        for reader in readers[name]:
            # Of a depthwise kernel the first axis is the channel, of a full one the second.
            shape = (-1, 1, 1, 1) if reader.attributes["group"] > 1 else (1, -1, 1, 1)
            constants[reader.inputs[1]] = constants[reader.inputs[1]] / factors.reshape(shape)
    return replace(graph, constants=constants)


def _readers(graph: Graph) -> dict[str, list[Node]]:
    readers: dict[str, list[Node]] = {name: [] for name in graph.tensors}
    for node in graph.nodes:
        for name in node.inputs:
            if name in readers:
                readers[name].append(node)
    return readers
