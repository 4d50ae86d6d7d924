"""Weights in 8 bits: with a scale per output channel, or exactly as they were trained.

Weights that were trained for 8 bits lie on a grid of at most 256 values. Such networks are fragile: on
another grid they lose more than the rounding seems to say. So the grid is found again, and kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 256

_WEIGHT_LIMIT = 127
_BIAS_LIMIT = 2**30
# A channel of zeros still needs a scale.
_MIN_SCALE = 1e-9
_SAMPLE = 4096
# Differences smaller than this share of the whole range are rounding; 256 levels lie farther apart.
_SAME = 1e-4
# How far from its grid point a weight may lie, in steps.
_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class WeightGrid:
    """A grid that all weights of a kernel lie on: weight = (level - zero_point) * step.

    Attributes:
        step: Distance of neighbouring values.
        zero_point: Level of zero, -128 to 127.
    """

    step: float
    zero_point: int

    def levels(self, kernel: NDArray[np.float32]) -> NDArray[np.int8]:
        """Return the level of each weight."""
        levels: NDArray[np.int8] = (np.rint(kernel / self.step) + self.zero_point).astype(np.int8)
        return levels


@dataclass(frozen=True, slots=True, eq=False)
class StoredWeights:
    """A constant in its stored form: real value = (level - zero_point) * scale.

    Attributes:
        levels: As stored.
        scale: One for all, or one for each first index.
        zero_point: Likewise.
    """

    levels: NDArray[Any]
    scale: NDArray[np.float32]
    zero_point: NDArray[Any]

    def real(self) -> NDArray[np.float32]:
        """Return the values that are left after storing."""
        shape = (-1, *[1] * (self.levels.ndim - 1)) if self.scale.ndim else ()
        zero_point, scale = self.zero_point.reshape(shape), self.scale.reshape(shape)
        real: NDArray[np.float32] = (self.levels.astype(np.float32) - zero_point) * scale
        return real


def store_weights(
    kernel: NDArray[np.float32],
    biases: NDArray[np.float32] | None,
    source_scale: np.float32,
    *,
    allow_grid: bool,
) -> StoredWeights:
    """Return a kernel in 8 bits: on the grid that it was trained on, else with a scale per output channel.

    Args:
        kernel: (O, I / groups, k, k).
        biases: Of the same convolution.
        source_scale: Of what the convolution reads.
        allow_grid: Whether a backend can have zero points in weights.
    """
    grid = find_grid(kernel) if allow_grid else None
    largest = 0.0 if biases is None else float(np.abs(biases).max())
    # As below: a bias must fit its int32, whatever the step.
    if grid is not None and largest <= source_scale * grid.step * _BIAS_LIMIT:
        return StoredWeights(
            grid.levels(kernel), np.asarray(grid.step, np.float32), np.asarray(grid.zero_point, np.int8)
        )
    scales = np.maximum(np.abs(kernel).max(axis=(1, 2, 3)) / _WEIGHT_LIMIT, _MIN_SCALE)
    if biases is not None:
        # A channel of tiny weights may not overflow its int32 bias.
        scales = np.maximum(scales, np.abs(biases) / (source_scale * _BIAS_LIMIT))
    scales = scales.astype(np.float32)
    levels = np.clip(np.rint(kernel / scales[:, None, None, None]), -_WEIGHT_LIMIT, _WEIGHT_LIMIT)
    return StoredWeights(levels.astype(np.int8), scales, np.zeros(len(scales), np.int8))


def find_grid(kernel: NDArray[np.float32]) -> WeightGrid | None:
    """Return the grid that a kernel lies on, None for one that was trained in float.

    The smallest distance between two different weights is the step, made exact by a fit over all weights.
    """
    values = kernel.ravel().astype(np.float64)
    if _distances(values[:_SAMPLE]).size >= LEVELS:
        return None
    distances = _distances(values)
    if not distances.size or distances.size >= LEVELS:
        return None
    step = float(distances.min())
    for _ in range(3):
        levels = np.rint(values / step)
        step = float(values @ levels / (levels @ levels))
    levels = np.rint(values / step)
    lowest, highest = min(int(levels.min()), 0), max(int(levels.max()), 0)  # zero, the padding, has a level
    if np.abs(values / step - levels).max() > _TOLERANCE or highest - lowest >= LEVELS:
        return None
    # Kernels are faster where zero is at zero; where it cannot be, all levels are moved together.
    fits = lowest >= -LEVELS // 2 and highest < LEVELS // 2
    return WeightGrid(step, 0 if fits else -LEVELS // 2 - lowest)


def _distances(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distances between neighbouring different values."""
    distances = np.diff(np.sort(values))
    return distances[distances > _SAME * max(float(np.ptp(values)), 1e-30)]
