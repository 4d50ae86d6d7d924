from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_mnv2.networks.nms import nms, pairwise_iou

LIMITS = {"iou_threshold": 0.5, "max_per_class": 100, "max_total": 100}


def slow_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    width = max(0.0, float(min(a[2], b[2]) - max(a[0], b[0])))
    height = max(0.0, float(min(a[3], b[3]) - max(a[1], b[1])))
    union = float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])) - width * height
    return width * height / union if union > 0 else 0.0


def slow_nms(
    xyxy: NDArray[np.float32],
    score: NDArray[np.float32],
    class_id: NDArray[np.int64],
    iou_threshold: float,
    max_per_class: int,
    max_total: int,
) -> list[int]:
    """The textbook's loop."""
    kept: list[int] = []
    for candidate in sorted(range(len(score)), key=lambda index: (-score[index], index)):
        rivals = [index for index in kept if class_id[index] == class_id[candidate]]
        is_free = all(slow_iou(xyxy[index], xyxy[candidate]) <= iou_threshold for index in rivals)
        if is_free and len(rivals) < max_per_class:
            kept.append(candidate)
    return kept[:max_total]


@st.composite
def boxes(draw: st.DrawFn, most: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    count = draw(st.integers(0, most))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    # Integer corners on a small grid: many overlaps, ties of score, and overlaps exactly at the threshold.
    corner = generator.integers(0, 12, (count, 2))
    size = generator.integers(0, 8, (count, 2))
    xyxy = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    score = (generator.integers(1, 12, count) / 12).astype(np.float32)
    return xyxy, score, generator.integers(1, 4, count)


@settings(deadline=None)
@given(boxes(40), st.sampled_from([0.0, 0.3, 0.5, 0.6]), st.integers(1, 6), st.integers(1, 12))
def test_equals_the_textbook(
    candidates: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]],
    iou_threshold: float,
    max_per_class: int,
    max_total: int,
) -> None:
    found = nms(*candidates, iou_threshold=iou_threshold, max_per_class=max_per_class, max_total=max_total)
    assert found.tolist() == slow_nms(*candidates, iou_threshold, max_per_class, max_total)


@pytest.mark.parametrize("seed", range(5))
def test_many_candidates_take_the_other_branch_with_the_same_result(seed: int) -> None:
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 100, (700, 2))
    xyxy = np.concatenate([corner, corner + generator.uniform(5, 40, (700, 2))], axis=1).astype(np.float32)
    score = generator.choice(np.linspace(0.1, 1, 50), 700).astype(np.float32)
    class_id = generator.integers(1, 5, 700)
    found = nms(xyxy, score, class_id, iou_threshold=0.5, max_per_class=30, max_total=60)
    assert found.tolist() == slow_nms(xyxy, score, class_id, 0.5, 30, 60)


def test_a_chain_keeps_every_other_box() -> None:
    """Each box overlaps its neighbours only: greedy keeps 0, 2, 4 ..., not the first alone."""
    left = np.arange(9, dtype=np.float32) * 3
    xyxy = np.stack([left, left * 0, left + 10, left * 0 + 10], axis=1)
    score = np.linspace(0.9, 0.1, 9).astype(np.float32)
    found = nms(xyxy, score, np.ones(9, np.int64), iou_threshold=0.5, max_per_class=9, max_total=9)
    assert found.tolist() == [0, 2, 4, 6, 8]


def test_no_candidates() -> None:
    empty = np.empty((0, 4), np.float32)
    assert len(nms(empty, np.empty(0, np.float32), np.empty(0, np.int64), **LIMITS)) == 0


@settings(deadline=None)
@given(boxes(20), boxes(20))
def test_iou_of_every_pair_equals_the_definition(
    candidates: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]],
    others: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]],
) -> None:
    first, second = candidates[0], others[0]
    iou = pairwise_iou(first, second)
    expected = [[slow_iou(one, other) for other in second] for one in first]
    np.testing.assert_allclose(iou, np.reshape(expected, (len(first), len(second))), atol=1e-6)
    np.testing.assert_array_equal(iou, pairwise_iou(second, first).T)
    assert ((iou >= 0) & (iou <= 1)).all()
