"""What a segmentation map says in numbers: which classes are there, how much of them, and where."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import RequestError
from edge_mnv2.results import SegmentationMap

BACKGROUND = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """All that a frame shows of one class.

    Attributes:
        class_id: In the model's own numbering.
        share: Of the frame's pixels, 0 to 1.
        box: Left, top, right, bottom of everything of this class, in pixels of the frame.
    """

    class_id: int
    share: float
    box: tuple[float, float, float, float]


def segments_of(found: SegmentationMap, width: int, height: int) -> list[Segment]:
    """Return the classes of a map but the background, the largest first.

    Args:
        found: The map.
        width: Of the frame in pixels.
        height: Of the frame in pixels.
    """
    pixels = found.class_id
    across, down = width / pixels.shape[1], height / pixels.shape[0]
    counts = np.bincount(pixels.ravel())
    segments = []
    for class_id in np.flatnonzero(counts).tolist():
        if class_id == BACKGROUND:
            continue
        mask = pixels == class_id
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        box = (
            float(columns[0] * across),
            float(rows[0] * down),
            float((columns[-1] + 1) * across),
            float((rows[-1] + 1) * down),
        )
        segments.append(Segment(class_id, float(counts[class_id] / pixels.size), box))
    return sorted(segments, key=lambda segment: -segment.share)


def coco_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask as COCO's compressed run lengths: `size` (height, width) and `counts`.

    Raises:
        RequestError: pycocotools is not installed.
    """
    encoded = import_coco_masks().encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def import_coco_masks() -> Any:  # noqa: ANN401 - pycocotools has no types
    """Import pycocotools' mask module.

    Raises:
        RequestError: It is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise RequestError(f"Masks need pycocotools: {sys.executable} -m pip install pycocotools") from error
    return mask
