"""What every importer does in the end: fold batch norm away, and refuse weights that are no numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError


def scale_and_bias(
    gamma: NDArray[Any] | None,
    beta: NDArray[Any],
    mean: NDArray[Any],
    variance: NDArray[Any],
    epsilon: float,
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the factor per output channel, and the bias, that equal batch norm after a convolution.

    Args:
        gamma: None for networks trained without it.
        beta: The norm's offset.
        mean: Moving mean.
        variance: Moving variance.
        epsilon: Added to the variance, as in training.
    """
    # A negative variance becomes NaN, which `check_finite` reports under the convolution's name.
    with np.errstate(invalid="ignore", divide="ignore"):
        scale: NDArray[np.float64] = 1 / np.sqrt(np.asarray(variance, np.float64) + epsilon)
    if gamma is not None:
        scale = scale * gamma
    with np.errstate(invalid="ignore"):
        return scale, np.asarray(beta - mean * scale, np.float32)


def check_finite(weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Make sure that all weights are numbers.

    Raises:
        WeightsError: One holds NaN or infinity.
    """
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise WeightsError(f"{name} holds NaN or infinity: training diverged, or the file is damaged.")
