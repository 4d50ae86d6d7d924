"""Class-aware greedy non-maximum suppression without a loop over boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Up to here one overlap matrix over all classes is cheaper than one per class.
_SINGLE_MATRIX = 256


def pairwise_iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (n, m) intersection over union of (n, 4) and (m, 4) boxes; 0 where a union is empty."""
    left, top, right, bottom = first.T
    others_left, others_top, others_right, others_bottom = second.T
    width = np.minimum.outer(right, others_right) - np.maximum.outer(left, others_left)
    height = np.minimum.outer(bottom, others_bottom) - np.maximum.outer(top, others_top)
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    area = (right - left) * (bottom - top)
    others_area = (others_right - others_left) * (others_bottom - others_top)
    union = np.add.outer(area, others_area) - intersection
    iou: NDArray[np.float32] = np.divide(
        intersection, union, out=np.zeros_like(intersection), where=union > 0
    )
    return iou


def nms(
    xyxy: NDArray[np.float32],
    score: NDArray[np.float32],
    class_id: NDArray[np.int64],
    *,
    iou_threshold: float,
    max_per_class: int,
    max_total: int,
) -> NDArray[np.int64]:
    """Keep the best box of each cluster, class by class.

    A box is dropped when a better kept box of its class overlaps it by more than `iou_threshold`.

    Args:
        xyxy: (n, 4) boxes.
        score: (n,) scores; of equal ones the earlier is better.
        class_id: (n,) classes; boxes of different classes never suppress each other.
        iou_threshold: Largest overlap that is still two objects.
        max_per_class: Most boxes kept of one class.
        max_total: Most boxes kept in all.

    Returns:
        Indices of the kept boxes, best first.
    """
    order = np.argsort(-score, kind="stable")
    if len(order) <= _SINGLE_MATRIX:
        sorted_class = class_id[order]
        same_class = np.equal.outer(sorted_class, sorted_class)
        kept = order[_greedy(xyxy[order], iou_threshold, same_class)]
        kept = kept[_rank_within_class(class_id[kept]) < max_per_class]
    else:
        by_class = order[np.argsort(class_id[order], kind="stable")]
        starts = np.flatnonzero(np.diff(class_id[by_class])) + 1
        groups = [
            group[_greedy(xyxy[group], iou_threshold)][:max_per_class] for group in np.split(by_class, starts)
        ]
        kept = np.concatenate(groups)
        # Ties keep the order of the candidates, as in the branch above.
        kept = kept[np.lexsort((kept, -score[kept]))]
    return kept[:max_total]


def _greedy(
    xyxy: NDArray[np.float32], iou_threshold: float, comparable: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return which of the boxes, sorted best first, greedy suppression keeps.

    "Kept" means: overlapped by no better kept box. Starting from all boxes, repeating that sentence settles
    at least one more box from the top each time, and in practice all of them after a few rounds: as many
    as the longest chain of boxes that suppress one another has links, not as many as there are boxes.
    """
    overlaps = pairwise_iou(xyxy, xyxy) > iou_threshold
    if comparable is not None:
        overlaps &= comparable
    suppresses = np.triu(overlaps, k=1)
    kept: NDArray[np.bool_] = np.ones(len(xyxy), np.bool_)
    for _ in xyxy:
        settled: NDArray[np.bool_] = ~np.any(suppresses[kept], axis=0)
        if np.array_equal(settled, kept):
            break
        kept = settled
    return kept


def _rank_within_class(class_id: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each element how many earlier elements have the same class."""
    order = np.argsort(class_id, kind="stable")
    sorted_class = class_id[order]
    starts = np.searchsorted(sorted_class, sorted_class, side="left")
    rank = np.empty(len(class_id), np.int64)
    rank[order] = np.arange(len(class_id)) - starts
    return rank
