"""Where a graph gets its weights from: trained ones, none at all, or random ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError

WeightSource = Callable[[str, tuple[int, ...]], NDArray[np.float32]]


def weights_from(arrays: Mapping[str, NDArray[Any]]) -> WeightSource:
    """Return a source that reads `arrays` and checks names, shapes and values.

    Raises (the source, when called):
        WeightsError: A tensor is missing, has another shape than this network needs, or is not finite.
    """

    def source(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if name not in arrays:
            raise WeightsError(f"The weights have no tensor {name}: they belong to another network.")
        array = np.asarray(arrays[name], np.float32)
        if array.shape != shape:
            raise WeightsError(f"Weight {name} has the shape {array.shape}, the network needs {shape}.")
        if not np.isfinite(array).all():
            raise WeightsError(f"Weight {name} holds NaN or infinity: import the model again.")
        return array

    return source


def shapes_only(_: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Source that costs nothing: for counting, for shapes, for the names a network needs."""
    return np.broadcast_to(np.float32(0), shape)


def random_weights(seed: int) -> WeightSource:
    """Return a source of He-initialised weights (zero biases): any width and size can be built and timed."""
    generator = np.random.default_rng(seed)

    def source(_: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if len(shape) == 1:
            return np.zeros(shape, np.float32)
        scale = math.sqrt(2.0 / math.prod(shape[1:]))
        return (generator.standard_normal(shape) * scale).astype(np.float32)

    return source
