"""SSD's default boxes, as TensorFlow's object detection models lay them out.

Per cell and map: SSD (arXiv 1512.02325, section 2.2) with scales linear from 0.2 to 0.95, three anchors on
the first map and six on the others. SSDLite keeps them (arXiv 1801.04381, section 6.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MIN_SCALE = 0.2
MAX_SCALE = 0.95
FIRST_MAP_ANCHORS = ((0.1, 1.0), (MIN_SCALE, 2.0), (MIN_SCALE, 0.5))
ASPECT_RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)


def anchors_per_cell(map_index: int) -> int:
    """Return how many anchors each cell of this feature map has."""
    return len(FIRST_MAP_ANCHORS) if map_index == 0 else len(ASPECT_RATIOS) + 1


def anchor_shapes(map_index: int, map_count: int) -> list[tuple[float, float]]:
    """Return (scale, aspect ratio) of a cell's anchors, in the order of the predictions."""
    if map_index == 0:
        return list(FIRST_MAP_ANCHORS)
    step = (MAX_SCALE - MIN_SCALE) / (map_count - 1)
    scale = MIN_SCALE + step * map_index
    following = MIN_SCALE + step * (map_index + 1) if map_index + 1 < map_count else 1.0
    return [(scale, ratio) for ratio in ASPECT_RATIOS] + [(math.sqrt(scale * following), 1.0)]


def ssd_anchors(feature_maps: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Return every anchor of a detector.

    Args:
        feature_maps: (height, width) of each map, finest first.

    Returns:
        (n, 4) float32: centre y, centre x, height, width as shares of the input; map by map, row by row,
        cell by cell, anchor by anchor.
    """
    blocks = []
    for index, (rows, columns) in enumerate(feature_maps):
        shapes = anchor_shapes(index, len(feature_maps))
        block = np.empty((rows, columns, len(shapes), 4), np.float64)
        block[..., 0] = ((np.arange(rows) + 0.5) / rows)[:, None, None]
        block[..., 1] = ((np.arange(columns) + 0.5) / columns)[None, :, None]
        block[..., 2] = [scale / math.sqrt(ratio) for scale, ratio in shapes]
        block[..., 3] = [scale * math.sqrt(ratio) for scale, ratio in shapes]
        blocks.append(block.reshape(-1, 4))
    return np.concatenate(blocks).astype(np.float32)
