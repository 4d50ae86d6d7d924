"""Bilinear upsampling and argmax in one step, exact, at a fraction of the dense cost.

Bilinear weights are never negative and sum to one, so where one class leads another at all four corners of
a cell, it leads at every pixel inside. Only classes that no corner's winner beats at every corner can win a
pixel; where one is left, the whole cell is filled with it, and the few cells on class borders are
interpolated for the two or three classes that are left there. The result equals dense interpolation and
argmax bit for bit: the same float32 expression, in which rounding keeps the order, and a lead that rounding
could close up does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Where the pixels of one axis of a picture lie on an axis of a coarse grid, in ascending order.

    Attributes:
        cell: (n,) int64: index of the grid point before each pixel, at most the last but one.
        share: (n,) float32: how far the pixel is on the way to the next grid point, 0 to 1.
        cells: How many cells the axis has: grid points less one.
    """

    cell: NDArray[np.int64]
    share: NDArray[np.float32]
    cells: int


def samples_at(positions: NDArray[np.float64], points: int) -> Samples:
    """Return samples at positions (ascending, 0 to `points` - 1) of a grid axis with at least two points."""
    cell = np.minimum(positions.astype(np.int64), points - 2)
    return Samples(cell, (positions - cell).astype(np.float32), points - 1)


def upsampled_argmax(logits: NDArray[np.float32], rows: Samples, columns: Samples) -> NDArray[np.uint8]:
    """Return the class with the largest interpolated logit at every pixel; of equals, the first.

    The value of a class at a pixel is, in float32 and this order of operations, with the shares fy, fx:
    (1 - fy) * ((1 - fx) * a + fx * b) + fy * ((1 - fx) * c + fx * d), the corners a, b above c, d.

    Args:
        logits: (classes, grid rows, grid columns), at least 2 x 2 points.
        rows: Of the pixels.
        columns: Of the pixels.
    """
    corners = _corners(logits)
    winners = logits.argmax(axis=0).astype(np.uint8)
    quarters = _corners(winners[None])[:, 0]
    mixed = ~_is_uniform(logits, quarters)
    result: NDArray[np.uint8] = winners[rows.cell][:, columns.cell]
    row_start, row_count = _spans(rows)
    column_start, column_count = _spans(columns)
    mixed &= (row_count[:, None] > 0) & (column_count > 0)
    cell_row, cell_column = np.nonzero(mixed)
    if not len(cell_row):
        return result
    values = corners[:, :, cell_row, cell_column]
    candidates = _candidates(values, quarters[:, cell_row, cell_column])
    # Cells differ in size by a pixel where the scale is not whole: the last pixel is then computed twice.
    pixel_row = _pixels(row_start[cell_row], row_count[cell_row])
    pixel_column = _pixels(column_start[cell_column], column_count[cell_column])
    patches = _patches(values, candidates, rows.share[pixel_row], columns.share[pixel_column])
    result[pixel_row[:, :, None], pixel_column[:, None, :]] = patches
    return result


def _corners(grid: NDArray[Any]) -> NDArray[Any]:
    """Return (4, classes, cell rows, cell columns): the corners of each cell, upper ones first."""
    return np.stack([grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, :-1], grid[:, 1:, 1:]])


def _lead_that_counts(logits: NDArray[np.float32]) -> np.float32:
    """Return the lead above which rounding cannot make two interpolated values equal."""
    return np.float32(16 * np.finfo(np.float32).eps * max(float(np.abs(logits).max()), 1e-30))


def _is_uniform(logits: NDArray[np.float32], quarters: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which cells have the same clear winner at all corners."""
    if len(logits) == 1:
        return np.ones(quarters.shape[1:], np.bool_)
    top_two = np.partition(logits, len(logits) - 2, axis=0)[-2:]
    is_clear = top_two[1] - top_two[0] > _lead_that_counts(logits)
    same = (quarters[0] == quarters[1]) & (quarters[0] == quarters[2]) & (quarters[0] == quarters[3])
    clear: NDArray[np.bool_] = same & _corners(is_clear[None])[:, 0].all(axis=0)
    return clear


def _candidates(values: NDArray[np.float32], quarters: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return (classes, cells): classes that no corner's winner leads at all four corners."""
    cells = np.arange(values.shape[2])
    candidates = np.ones(values.shape[1:], np.bool_)
    lead = _lead_that_counts(values)
    for quarter in quarters:
        winner = values[:, quarter, cells]
        candidates &= ~((winner[:, None] - values) > lead).all(axis=0)
    return candidates


def _spans(samples: Samples) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first pixel of each cell and how many it has."""
    bounds = np.searchsorted(samples.cell, np.arange(samples.cells + 1))
    return bounds[:-1], np.diff(bounds)


def _pixels(start: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (cells, most pixels of a cell): the pixels of each cell, the last one repeated."""
    return start[:, None] + np.minimum(np.arange(count.max()), count[:, None] - 1)


def _patches(
    values: NDArray[np.float32],
    candidates: NDArray[np.bool_],
    down: NDArray[np.float32],
    right: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Return (cells, pixel rows, pixel columns): the winning class of each pixel of the mixed cells."""
    shape = (len(down), down.shape[1], right.shape[1])
    best = np.full(shape, -np.inf, np.float32)
    winner = np.zeros(shape, np.uint8)
    one = np.float32(1)
    for class_id in np.flatnonzero(candidates.any(axis=1)):
        cells = np.flatnonzero(candidates[class_id])
        a, b, c, d = values[:, class_id, cells, None]
        fx, fy = right[cells], down[cells][:, :, None]
        upper = ((one - fx) * a + fx * b)[:, None, :]
        lower = ((one - fx) * c + fx * d)[:, None, :]
        value = (one - fy) * upper + fy * lower
        so_far = best[cells]
        leads = value > so_far
        best[cells] = np.where(leads, value, so_far)
        winner[cells] = np.where(leads, np.uint8(class_id), winner[cells])
    return winner
