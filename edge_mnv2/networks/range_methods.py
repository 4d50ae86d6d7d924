"""Which part of a tensor's values int8 should keep: four ways to choose a range from a histogram.

A narrow range cuts off rare large values, a wide one makes every step coarse. Which is better depends on the
tensor and on the network, so `models calibrate` tries them all and keeps the one whose results are best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]

LEVELS = 255
PERCENTILE = 0.9999
# Ranges that are tried: from this share of the largest value up, in so many steps.
_SMALLEST_SHARE = 0.3
_STEPS = 36
# A last bin with more than this share of all values, and more than four times its neighbours', is a pile.
_PILE_SHARE = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often a tensor's values fall into equal bins.

    Attributes:
        low: Smallest value, the left edge of the first bin.
        high: Largest value, the right edge of the last bin.
        counts: (bins,) int64.
    """

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def edges(self) -> NDArray[np.float64]:
        """(bins + 1,) borders of the bins."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)


def min_max(histogram: Histogram) -> Range:
    """Keep every value."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram) -> Range:
    """Keep all but one value in ten thousand on each side; a side that ends at zero is kept whole."""
    shares = np.cumsum(histogram.counts) / max(histogram.counts.sum(), 1)
    edges = histogram.edges
    low, high = histogram.low, float(edges[np.searchsorted(shares, PERCENTILE) + 1])
    if histogram.low < 0:
        low = float(edges[np.searchsorted(shares, 1 - PERCENTILE, side="right")])
    return low, high


def least_squares(histogram: Histogram) -> Range:
    """Minimise the mean squared error of storing the values."""
    edges = histogram.edges
    centres = (edges[1:] + edges[:-1]) / 2

    def error(low: float, high: float) -> float:
        step = (high - low) / LEVELS
        stored = np.clip(np.rint((centres - low) / step), 0, LEVELS) * step + low
        return float(histogram.counts @ np.square(centres - stored))

    return _best(histogram, error)


def entropy(histogram: Histogram) -> Range:
    """Minimise the information lost by storing the values: the Kullback-Leibler divergence.

    Each level spreads the values that fall to it evenly over the bins that it stands for; values cut off are
    counted at the ends of the range. Where values pile up at the upper end, that is an activation's bound
    (ReLU6) and no tail: it is kept, for the divergence would not see the pile move. The zeros behind a ReLU
    are stored exactly and say nothing about the range.
    """
    edges = histogram.edges
    centres = (edges[1:] + edges[:-1]) / 2
    counts = histogram.counts.copy()
    if histogram.low >= 0:
        counts[0] = 0
    total = max(counts.sum(), 1)
    if counts[-1] > max(_PILE_SHARE * total, 4 * counts[-9:-1].mean()):
        return min_max(histogram)

    def divergence(low: float, high: float) -> float:
        inside = (centres >= low) & (centres <= high)
        if not inside.any():
            return np.inf
        wanted = counts[inside].astype(np.float64)
        wanted[0] += counts[centres < low].sum()
        wanted[-1] += counts[centres > high].sum()
        level = np.rint((centres[inside] - low) / (high - low) * LEVELS).astype(np.int64)
        is_used = counts[inside] > 0
        kept = np.bincount(level, counts[inside], LEVELS + 1)
        bins = np.maximum(np.bincount(level, is_used, LEVELS + 1), 1)
        given = np.where(is_used, (kept / bins)[level], 0)
        # A count for values cut off where nothing else lies must not make the divergence infinite.
        p, q = wanted / total, (given + 1e-3) / (given + 1e-3).sum()
        positive = p > 0
        return float(np.sum(p[positive] * np.log(p[positive] / q[positive])))

    return _best(histogram, divergence)


METHODS: dict[str, Callable[[Histogram], Range]] = {
    "min-max": min_max,
    "percentile": percentile,
    "entropy": entropy,
    "least-squares": least_squares,
}


def _best(histogram: Histogram, loss: Callable[[float, float], float]) -> Range:
    """Return the range with the smallest loss: first both sides shrunk alike, then each by itself."""
    if histogram.high - histogram.low < 1e-9:
        return histogram.low, histogram.high
    shares = np.linspace(_SMALLEST_SHARE, 1, _STEPS)

    def loss_at(low_share: float, high_share: float) -> float:
        return loss(histogram.low * low_share, histogram.high * high_share)

    if histogram.low >= 0 or histogram.high <= 0:
        best = min(shares, key=lambda share: loss_at(share, share))
        return histogram.low * best, histogram.high * best
    low_share = high_share = min(shares, key=lambda share: loss_at(share, share))
    for _ in range(2):
        low_share = min(shares, key=lambda share: loss_at(share, high_share))
        high_share = min(shares, key=lambda share: loss_at(low_share, share))
    return float(histogram.low * low_share), float(histogram.high * high_share)
