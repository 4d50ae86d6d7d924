from __future__ import annotations

from edge_mnv2.object_counts import count_objects
from tests.samples import LABELS, classification, detections, segmentation

BOX = (10, 10, 20, 20)


def test_every_task_has_objects() -> None:
    found = detections((*BOX, 0.9, 1), (*BOX, 0.8, 2), (*BOX, 0.7, 1), (*BOX, 0.6, 77))
    assert count_objects(found, LABELS) == {"person": 2, "bicycle": 1, "77": 1}
    assert count_objects(segmentation([[0, 1], [2, 2]]), LABELS) == {"person": 1, "bicycle": 1}
    assert count_objects(classification((2, 0.7), (1, 0.2)), LABELS) == {"bicycle": 1}
    assert count_objects(classification(), LABELS) == {}
    assert count_objects(detections(), LABELS) == {}
