"""What must be known of a network's activations before they are stored in int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError
from edge_mnv2.networks.graph import Graph, Tensor

ARITHMETIC = ("Add", "GlobalAveragePool")
ACTIVATIONS = ("Clip", "Relu")


@dataclass(frozen=True, slots=True, eq=False)
class ActivationStatistics:
    """What a tensor's values are like on real pictures.

    Attributes:
        low: Smallest value that its stored form keeps.
        high: Largest value that its stored form keeps.
        mean: (channels,) mean of each channel, None where it is not known.
        peak: (channels,) largest value of each channel before the graph was equalised, None where it was not.
    """

    low: float
    high: float
    mean: NDArray[np.float32] | None = None
    peak: NDArray[np.float32] | None = None


def tensors_to_watch(graph: Graph) -> list[Tensor]:
    """Return the tensors whose statistics a quantised graph needs.

    They are what arithmetic gives, activations included, what several tensors are joined to before a
    convolution, and the picture less its mean.
    """
    inside = activated(graph)
    joined = {node.inputs[0] for node in graph.nodes if node.op == "Conv"}
    return [
        graph.tensors[inside.get(node.output, node.output)]
        for node in graph.nodes
        if node.op in ("Sub", "Conv", *ARITHMETIC) or (node.op == "Concat" and node.output in joined)
    ]


def check_statistics(graph: Graph, statistics: Mapping[str, ActivationStatistics]) -> None:
    """Make sure that statistics are there for every tensor in `tensors_to_watch`, and fit.

    Raises:
        WeightsError: Naming the first tensor whose statistics are missing, misshapen, or no range.
    """
    pictures = {node.output for node in graph.nodes if node.op == "Sub"}
    for tensor in tensors_to_watch(graph):
        found = statistics.get(tensor.name)
        if found is None:
            if tensor.name in pictures:  # its range is that of its bytes
                continue
            raise WeightsError(f"There is no activation range of {tensor.name}: calibrate the model again.")
        for column in (found.mean, found.peak):
            if column is not None and column.shape != tensor.shape[1:2]:
                raise WeightsError(
                    f"The activation statistics of {tensor.name} have the shape {column.shape}, the network "
                    f"needs {tensor.shape[1:2]}: calibrate the model again."
                )
            if column is not None and not np.isfinite(column).all():
                raise WeightsError(
                    f"The activation statistics of {tensor.name} hold NaN or infinity: calibrate it again."
                )
        if not (np.isfinite([found.low, found.high]).all() and found.low <= found.high):
            raise WeightsError(
                f"The activation range of {tensor.name} is {found.low:g} to {found.high:g}: calibrate the "
                "model again."
            )


def activated(graph: Graph) -> dict[str, str]:
    """Return the activation's output by the name of what it is applied to."""
    return {node.inputs[0]: node.output for node in graph.nodes if node.op in ACTIVATIONS}
