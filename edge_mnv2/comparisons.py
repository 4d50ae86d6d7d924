"""What two builds of a model have in common, picture by picture: boxes, masks, or classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edge_mnv2.networks.nms import pairwise_iou
from edge_mnv2.results import Classification, Detections, Result, SegmentationMap
from edge_mnv2.zoo.model import DecoderOptions

# A box counts from this score on. Its partner may score less by the slack: a score of 0.501 beside one of
# 0.499 is no difference.
SCORE = 0.5
SLACK = 0.15
# Boxes below `SCORE` tell builds apart, too: they count with their score when builds are ranked.
SMALLEST_SCORE = 0.1
MATCH_IOU = 0.5
# Share of all pixels from which on a class counts.
_SPECK = 1e-3


class Comparison(Protocol):
    """Takes the results of two builds for one picture after the other."""

    def add(self, reference: Result, candidate: Result) -> None:
        """Compare the results for one picture.

        Raises:
            TypeError: They are another task's.
        """
        ...

    def figures(self) -> dict[str, float]:
        """Return the figures by name; what each means is said by the class of its task."""
        ...

    def overall(self) -> float:
        """Return one number to rank builds by: 1 for equal results."""
        ...


def comparison_for(task: str) -> Comparison:
    """Return an empty comparison for a task."""
    match task:
        case "detect":
            return Boxes()
        case "segment":
            return Masks()
        case _:
            return Classes()


def comparison_decoder(task: str, classes: int) -> DecoderOptions:
    """Return the decoder options that both builds must be opened with."""
    match task:
        case "detect":
            return DecoderOptions(threshold=SMALLEST_SCORE)
        case "classify":
            return DecoderOptions(top_k=classes)
    return DecoderOptions()


@dataclass(slots=True)
class Boxes:
    """`missed` and `extra` as shares of the reference's boxes; IoU and score difference of matched ones.

    Where none matches, there are no `matched_iou` and `score_drift`.
    """

    expected: int = 0
    missed: int = 0
    extra: int = 0
    common: float = 0.0
    total: float = 0.0
    ious: list[float] = field(default_factory=list)
    drifts: list[float] = field(default_factory=list)

    def add(self, reference: Result, candidate: Result) -> None:
        """Compare the results for one picture; see `Comparison`."""
        if not isinstance(reference, Detections) or not isinstance(candidate, Detections):
            raise TypeError("Boxes are compared with boxes.")
        ious = pairwise_iou(reference.xyxy, candidate.xyxy)
        ious[reference.class_id[:, None] != candidate.class_id] = 0
        partner = np.full(len(reference), -1)
        # The best pairs first; a box has one partner.
        for flat in np.argsort(-ious, axis=None, kind="stable"):
            row, column = divmod(int(flat), len(candidate))
            if ious[row, column] < MATCH_IOU:
                break
            if partner[row] < 0 and column not in partner:
                partner[row] = column
        rows = np.flatnonzero(partner >= 0)
        columns = partner[rows]
        iou = ious[rows, columns]
        expected, given = reference.score[rows], candidate.score[columns]
        self.common += float((iou * np.minimum(expected, given)).sum())
        self.total += float(np.maximum(expected, given).sum())
        self.total += float(
            np.delete(reference.score, rows).sum() + np.delete(candidate.score, columns).sum()
        )
        # What counts on one side needs a partner that nearly counts on the other.
        is_found = (expected >= SCORE) & (given >= SCORE - SLACK)
        is_confirmed = (given >= SCORE) & (expected >= SCORE - SLACK)
        self.expected += int((reference.score >= SCORE).sum())
        self.missed += int((reference.score >= SCORE).sum() - is_found.sum())
        self.extra += int((candidate.score >= SCORE).sum() - is_confirmed.sum())
        self.ious += iou[is_found].tolist()
        self.drifts += np.abs(expected - given)[is_found].tolist()

    def figures(self) -> dict[str, float]:
        """Return the figures; see the class."""
        expected = max(self.expected, 1)
        counted = {
            "boxes": float(self.expected),
            "missed": self.missed / expected,
            "extra": self.extra / expected,
        }
        if not self.ious:
            return counted
        return {
            **counted,
            "matched_iou": float(np.mean(self.ious)),
            "score_drift": float(np.mean(self.drifts)),
        }

    def overall(self) -> float:
        """Return what both have in common of all boxes, by score and overlap: a weighted Jaccard index."""
        return self.common / self.total if self.total else 1.0


@dataclass(slots=True)
class Masks:
    """`pixel_agreement`; `mask_iou`, the mean IoU over the classes; how many pictures show any object."""

    confusion: np.ndarray = field(default_factory=lambda: np.zeros((256, 256), np.int64))
    shown: int = 0

    def add(self, reference: Result, candidate: Result) -> None:
        """Compare the results for one picture; see `Comparison`."""
        if not isinstance(reference, SegmentationMap) or not isinstance(candidate, SegmentationMap):
            raise TypeError("Maps are compared with maps.")
        pairs = reference.class_id.astype(np.int64) * 256 + candidate.class_id
        self.shown += bool(reference.class_id.any())
        self.confusion += np.bincount(pairs.ravel(), minlength=256 * 256).reshape(256, 256)

    def figures(self) -> dict[str, float]:
        """Return the figures; see the class."""
        same = np.diagonal(self.confusion)
        union = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - same
        # Weighted by nothing: a small class counts as much as the background. Specks do not.
        is_there = self.confusion.sum(axis=1) > _SPECK * self.confusion.sum()
        return {
            "pixel_agreement": float(same.sum() / max(self.confusion.sum(), 1)),
            "mask_iou": float(np.mean(same[is_there] / union[is_there])) if is_there.any() else 1.0,
            "pictures_with_objects": float(self.shown),
        }

    def overall(self) -> float:
        """Return one number to rank builds by."""
        return self.figures()["mask_iou"]


@dataclass(slots=True)
class Classes:
    """`top1_agreement`, and the mean difference in score of the reference's best class."""

    same: list[bool] = field(default_factory=list)
    drifts: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)

    def add(self, reference: Result, candidate: Result) -> None:
        """Compare the results for one picture; see `Comparison`."""
        if not isinstance(reference, Classification) or not isinstance(candidate, Classification):
            raise TypeError("Classes are compared with classes.")
        self.same.append(int(reference.class_id[0]) == int(candidate.class_id[0]))
        # Both report all classes, each in its own order.
        expected = reference.score[np.argsort(reference.class_id)]
        given = candidate.score[np.argsort(candidate.class_id)]
        difference = np.abs(expected - given)
        self.drifts.append(float(difference[expected.argmax()]))
        self.distances.append(float(difference.sum()) / 2)

    def figures(self) -> dict[str, float]:
        """Return the figures; see the class."""
        return {
            "top1_agreement": float(np.mean(self.same)) if self.same else 1.0,
            "score_drift": float(np.mean(self.drifts)) if self.drifts else 0.0,
        }

    def overall(self) -> float:
        """Return what the two distributions over the classes have in common, on average."""
        return 1 - float(np.mean(self.distances)) if self.distances else 1.0
