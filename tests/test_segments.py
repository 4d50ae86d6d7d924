from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edge_mnv2.errors import RequestError
from edge_mnv2.segments import coco_rle, import_coco_masks, segments_of
from tests.samples import segmentation


@settings(deadline=None)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 255)),
    st.integers(1, 4000),
    st.integers(1, 4000),
)
def test_segments_equal_a_loop_over_the_pixels(class_id: NDArray[np.uint8], width: int, height: int) -> None:
    rows, columns = class_id.shape
    found = segments_of(segmentation(class_id), width, height)
    assert {segment.class_id for segment in found} == set(class_id.ravel().tolist()) - {0}
    assert [segment.share for segment in found] == sorted((s.share for s in found), reverse=True)
    for segment in found:
        pixels = [(x, y) for y in range(rows) for x in range(columns) if class_id[y, x] == segment.class_id]
        assert segment.share == pytest.approx(len(pixels) / (rows * columns))
        box = (
            min(x for x, _ in pixels) / columns * width,
            min(y for _, y in pixels) / rows * height,
            max(x + 1 for x, _ in pixels) / columns * width,
            max(y + 1 for _, y in pixels) / rows * height,
        )
        assert segment.box == pytest.approx(box)


def test_a_frame_full_of_one_class_is_covered_whole() -> None:
    (segment,) = segments_of(segmentation(np.full((3, 5), 9)), 640, 480)
    assert (segment.class_id, segment.share, segment.box) == (9, 1.0, (0.0, 0.0, 640.0, 480.0))


def test_masks_without_pycocotools_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    for action in (import_coco_masks, lambda: coco_rle(np.ones((2, 2), np.bool_))):
        with pytest.raises(
            RequestError, match=r"Masks need pycocotools: .*python\S* -m pip install pycocotools"
        ):
            action()
