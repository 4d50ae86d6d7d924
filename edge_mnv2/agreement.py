"""How well one build of a model agrees with another on pictures without labels.

The first build (float32) is the reference. What is compared depends on the task: matched boxes, masks, or the
best class. Each task has figures with limits; a build that passes them all is as good as the reference for
every practical purpose, and one that does not is refused by `run` unless it is forced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from camera.pictures import read_picture
from edge_mnv2.networks.nms import pairwise_iou
from edge_mnv2.predictor import Predictor, open_build
from edge_mnv2.results import Classification, Detections, Result, SegmentationMap
from edge_mnv2.zoo.accuracy_record import AccuracyRecord, record_key
from edge_mnv2.zoo.model import DecoderOptions, Model
from edge_mnv2.zoo.ranges_file import no_ranges

# A box counts from this score on. Its partner may score less by the slack: a score of 0.501 beside one of
# 0.499 is no difference.
SCORE = 0.5
SLACK = 0.15
# Boxes below `SCORE` tell builds apart, too: they count with their score when builds are ranked.
SMALLEST_SCORE = 0.1
MATCH_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure must keep to.

    Attributes:
        figure: Its name.
        bound: The value.
        is_smallest: Whether the figure must be at least `bound`, else at most.
    """

    figure: str
    bound: float
    is_smallest: bool

    def in_words(self) -> str:
        """Return the limit as a sentence has it: `at most 0.06`."""
        return f"{'at least' if self.is_smallest else 'at most'} {self.bound:g}"


LIMITS = {
    "detect": (
        Limit("missed", 0.06, is_smallest=False),
        Limit("extra", 0.06, is_smallest=False),
        Limit("matched_iou", 0.9, is_smallest=True),
        Limit("score_drift", 0.06, is_smallest=False),
    ),
    "segment": (
        Limit("pixel_agreement", 0.97, is_smallest=True),
        Limit("mask_iou", 0.85, is_smallest=True),
    ),
    "classify": (
        # On pictures of whole scenes the first two classes are often close: more changes than matters.
        Limit("top1_agreement", 0.85, is_smallest=True),
        Limit("score_drift", 0.1, is_smallest=False),
    ),
}


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a comparison found.

    Attributes:
        images: On how many pictures.
        figures: By name; see the class of each task in this module.
        overall: One number to rank builds by, 0 to 1.
        failures: Limits that are not kept, one sentence each.
    """

    images: int
    figures: dict[str, float]
    overall: float
    failures: tuple[str, ...]


class _Comparison(Protocol):
    def add(self, reference: Result, candidate: Result) -> None: ...
    def figures(self) -> dict[str, float]: ...
    def overall(self) -> float: ...


def compare(
    reference: Predictor,
    candidate: Predictor,
    pictures: Sequence[Path],
    on_picture: Callable[[int, int | None], None] | None = None,
) -> Agreement:
    """Compare two builds of one model, both opened with `comparison_decoder`.

    Raises:
        BadFrameError: A picture is damaged.
    """
    comparison = _comparison(reference.task)
    for done, path in enumerate(pictures, 1):
        image = read_picture(path)
        expected, _ = reference.predict(image)
        found, _ = candidate.predict(image)
        comparison.add(expected, found)
        if on_picture is not None:
            on_picture(done, len(pictures))
    figures = comparison.figures()
    failures = tuple(
        _sentence(limit, figures[limit.figure]) for limit in LIMITS[reference.task] if _fails(limit, figures)
    )
    return Agreement(len(pictures), figures, comparison.overall(), failures)


def check_int8(
    model: Model, pictures: Sequence[Path], on_picture: Callable[[int, int | None], None] | None = None
) -> AccuracyRecord:
    """Compare a model's int8 build with its float32 build.

    Raises:
        RequestError: The model has no activation ranges, or those of another model.
        BadFrameError: A picture is damaged.
    """
    key = record_key(model)
    if key is None:
        raise no_ranges(model)
    decoder = comparison_decoder(model.task, model.spec.classes)
    with (
        closing(open_build(model, "fp32", decoder)) as reference,
        closing(open_build(model, "int8", decoder)) as candidate,
    ):
        found = compare(reference, candidate, pictures, on_picture)
    return AccuracyRecord(key, found.images, found.figures, found.failures)


def comparison_decoder(task: str, classes: int) -> DecoderOptions:
    """Return the decoder options that both builds must be opened with."""
    match task:
        case "detect":
            return DecoderOptions(threshold=SMALLEST_SCORE)
        case "classify":
            return DecoderOptions(top_k=classes)
    return DecoderOptions()


def _fails(limit: Limit, figures: dict[str, float]) -> bool:
    value = figures[limit.figure]
    return not (value >= limit.bound if limit.is_smallest else value <= limit.bound)


def _sentence(limit: Limit, value: float) -> str:
    return f"{limit.figure} is {value:.3f}, and must be {limit.in_words()}."


def _comparison(task: str) -> _Comparison:
    match task:
        case "detect":
            return _Boxes()
        case "segment":
            return _Masks()
        case _:
            return _Classes()


@dataclass(slots=True)
class _Boxes:
    """`missed` and `extra` as shares of the reference's boxes; IoU and score difference of matched ones."""

    expected: int = 0
    missed: int = 0
    extra: int = 0
    common: float = 0.0
    total: float = 0.0
    ious: list[float] = field(default_factory=list)
    drifts: list[float] = field(default_factory=list)

    def add(self, reference: Result, candidate: Result) -> None:
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
        expected = max(self.expected, 1)
        return {
            "boxes": float(self.expected),
            "missed": self.missed / expected,
            "extra": self.extra / expected,
            "matched_iou": float(np.mean(self.ious)) if self.ious else 1.0,
            "score_drift": float(np.mean(self.drifts)) if self.drifts else 0.0,
        }

    def overall(self) -> float:
        """Return what both have in common of all boxes, by score and overlap: a weighted Jaccard index."""
        return self.common / self.total if self.total else 1.0


@dataclass(slots=True)
class _Masks:
    """`pixel_agreement`, and `mask_iou`: the mean IoU over the classes, on all pictures together."""

    confusion: np.ndarray = field(default_factory=lambda: np.zeros((256, 256), np.int64))

    def add(self, reference: Result, candidate: Result) -> None:
        if not isinstance(reference, SegmentationMap) or not isinstance(candidate, SegmentationMap):
            raise TypeError("Maps are compared with maps.")
        pairs = reference.class_id.astype(np.int64) * 256 + candidate.class_id
        self.confusion += np.bincount(pairs.ravel(), minlength=256 * 256).reshape(256, 256)

    def figures(self) -> dict[str, float]:
        same = np.diagonal(self.confusion)
        union = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - same
        # Weighted by nothing: a small class counts as much as the background. Specks do not.
        is_there = self.confusion.sum(axis=1) > _SPECK * self.confusion.sum()
        return {
            "pixel_agreement": float(same.sum() / max(self.confusion.sum(), 1)),
            "mask_iou": float(np.mean(same[is_there] / union[is_there])) if is_there.any() else 1.0,
        }

    def overall(self) -> float:
        return self.figures()["mask_iou"]


# Share of all pixels from which on a class counts.
_SPECK = 1e-3


@dataclass(slots=True)
class _Classes:
    """`top1_agreement`, and the mean difference in score of the reference's best class."""

    same: list[bool] = field(default_factory=list)
    drifts: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)

    def add(self, reference: Result, candidate: Result) -> None:
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
        return {
            "top1_agreement": float(np.mean(self.same)) if self.same else 1.0,
            "score_drift": float(np.mean(self.drifts)) if self.drifts else 0.0,
        }

    def overall(self) -> float:
        """Return what the two distributions over the classes have in common, on average."""
        return 1 - float(np.mean(self.distances)) if self.distances else 1.0
