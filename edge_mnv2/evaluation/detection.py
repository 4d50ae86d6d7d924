"""Accuracy of a detector on pictures with known objects: COCO's mAP."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_mnv2.errors import RequestError
from edge_mnv2.evaluation.pictures import OnImage, TimedPredictor, named_pictures, read_each
from edge_mnv2.predictor import Predictor
from edge_mnv2.results import Detections

# COCO's metric wants the tail of the precision-recall curve too; below this score it does not change.
SCORE_THRESHOLD = 0.01

# What pycocotools and our own check raise over a file that is something else.
_NOT_COCO = (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError)


@dataclass(frozen=True, slots=True)
class DetectionAccuracy:
    """COCO's figures, and what an image cost.

    Attributes:
        map: Mean average precision over IoU 0.50 to 0.95.
        ap50: At IoU 0.50.
        ap75: At IoU 0.75.
        images: How many pictures.
        ms_per_image: Prepare, inference and decoding, on average.
    """

    map: float
    ap50: float
    ap75: float
    images: int
    ms_per_image: float


def evaluate_detection(
    predictor: Predictor, images: Path, annotations: Path, on_image: OnImage | None = None
) -> DetectionAccuracy:
    """Compute COCO mAP.

    Args:
        predictor: Opened with `DecoderOptions(threshold=SCORE_THRESHOLD)`; its class ids must be the
            annotation file's category ids.
        images: Folder of the pictures.
        annotations: COCO instances file. Every picture that it names must be in the folder.
        on_image: Called after each picture with how many are done and how many there are.

    Raises:
        RequestError: The annotations cannot be read, pictures are missing, or pycocotools is.
        BadFrameError: A picture is damaged.
    """
    truth = _load_annotations(annotations)
    entries = [truth.imgs[image_id] for image_id in sorted(truth.imgs)]
    pictures = named_pictures(images, [entry["file_name"] for entry in entries], annotations)
    timed = TimedPredictor(predictor)
    rows: list[dict[str, Any]] = []
    for image, entry in zip(read_each(pictures, on_image), entries, strict=True):
        rows.extend(_coco_results(entry["id"], timed.predict(image, Detections)))
    mean, ap50, ap75 = _coco_metrics(truth, rows)
    return DetectionAccuracy(mean, ap50, ap75, len(pictures), timed.ms_per_image)


def _load_annotations(path: Path) -> Any:  # noqa: ANN401 - pycocotools has no types
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        command = f"{sys.executable} -m pip install pycocotools"
        raise RequestError(f"Evaluation needs pycocotools: {command}") from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(path))
        _check_annotations(truth.dataset)
    except _NOT_COCO as error:
        raise RequestError(f"{path} is not a COCO instances file: {error!r}.") from error
    return truth


def _check_annotations(dataset: dict[str, Any]) -> None:
    """Make sure that everything the metric reads is there.

    Raises:
        KeyError: A key is missing.
        ValueError: There are no objects, or a value has the wrong type.
    """
    if not dataset["annotations"] or not dataset["categories"]:
        raise ValueError("it holds no objects")
    for image in dataset["images"]:
        if not isinstance(image["file_name"], str) or not isinstance(image["id"], int):
            raise ValueError(f"the image {image} needs an id and a file_name")
    for annotation in dataset["annotations"]:
        for key in ("image_id", "category_id", "bbox", "area", "iscrowd"):
            annotation[key]


def _coco_results(image_id: int, found: Detections) -> list[dict[str, Any]]:
    columns = zip(found.class_id.tolist(), found.score.tolist(), found.xyxy.tolist(), strict=True)
    return [
        {
            "image_id": image_id,
            "category_id": class_id,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for class_id, score, (x1, y1, x2, y2) in columns
    ]


def _coco_metrics(truth: Any, rows: list[dict[str, Any]]) -> tuple[float, float, float]:  # noqa: ANN401 - pycocotools has no types
    from pycocotools.cocoeval import COCOeval

    if not rows:
        return 0.0, 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    mean, ap50, ap75 = (float(value) for value in evaluation.stats[:3])
    return mean, ap50, ap75
