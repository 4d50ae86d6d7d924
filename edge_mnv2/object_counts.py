"""How many of what a result shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from edge_mnv2.results import Classification, Detections, Result
from edge_mnv2.segments import BACKGROUND


def count_objects(found: Result, labels: Mapping[int, str]) -> dict[str, int]:
    """Return objects by label: boxes; 1 for each class on a segmentation map, or for the best class.

    Args:
        found: Of one frame.
        labels: Label by class id; a class without one is told by its number.
    """
    match found:
        case Detections():
            numbers = found.class_id.tolist()
        case Classification():
            numbers = found.class_id[:1].tolist()
        case segmentation:
            present = np.flatnonzero(np.bincount(segmentation.class_id.ravel())).tolist()
            numbers = [number for number in present if number != BACKGROUND]
    return dict(Counter(labels.get(number, str(number)) for number in numbers))
