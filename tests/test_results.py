from __future__ import annotations

import numpy as np
import pytest

from edge_mnv2.results import Classification, Detections, SegmentationMap
from tests.samples import classification, detections, frame_result, segmentation


def test_columns_are_checked_and_read_only() -> None:
    found = detections((0, 0, 1, 1, 0.5, 1), (1, 1, 2, 2, 0.4, 2))
    assert len(found) == 2
    with pytest.raises(ValueError, match="read-only"):
        found.score[0] = 1
    with pytest.raises(ValueError, match=r"xyxy must be float32 \(2, 4\), received float64 \(2, 4\)"):
        Detections(found.xyxy.astype(np.float64), found.score, found.class_id)
    with pytest.raises(ValueError, match="class_id"):
        Detections(found.xyxy, found.score, found.class_id[:1])


def test_a_segmentation_is_checked_and_read_only() -> None:
    found = segmentation([[0, 1], [2, 0]])
    with pytest.raises(ValueError, match="read-only"):
        found.class_id[0, 0] = 1
    with pytest.raises(ValueError, match=r"class_id must be uint8 \(2, 2\), received int64 \(2, 2\)"):
        SegmentationMap(np.zeros((2, 2), np.int64))  # type: ignore[arg-type]
    for shape in ((), (4,), (1, 2, 2), (0, 4), (4, 0)):
        with pytest.raises(ValueError, match="a map of at least one pixel"):
            SegmentationMap(np.zeros(shape, np.uint8))


def test_a_classification_is_checked_and_read_only() -> None:
    found = classification((7, 0.5), (3, 0.25))
    assert len(found) == 2
    for column in (found.score, found.class_id):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1
    with pytest.raises(ValueError, match=r"score must be float32 \(2,\), received float64 \(2,\)"):
        Classification(found.class_id, found.score.astype(np.float64))
    with pytest.raises(ValueError, match=r"class_id must be int64 \(2,\), received int64 \(1,\)"):
        Classification(found.class_id[:1], found.score)


def test_an_own_canvas_is_a_copy_and_none_stays_none() -> None:
    result = frame_result(3)
    own = result.with_own_canvas()
    assert result.canvas is not None
    result.canvas[:] = 0
    assert own.canvas is not None
    assert (own.canvas == 3).all()
    bare = frame_result(canvas=None)
    assert bare.with_own_canvas() is bare


def test_a_class_without_label_is_called_by_its_number() -> None:
    assert frame_result().label(1) == "person"
    assert frame_result().label(77) == "77"
