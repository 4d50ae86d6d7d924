"""Accuracy on pictures with known objects: COCO's mAP, through the live path's own prepare and decode."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camera.pictures import read_picture
from edge_mnv2.detector import Detector
from edge_mnv2.errors import RequestError

# COCO's metric wants the tail of the precision-recall curve too; below this score it does not change.
SCORE_THRESHOLD = 0.01

# What pycocotools and our own check raise over a file that is something else.
_NOT_COCO = (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError)


@dataclass(frozen=True, slots=True)
class Accuracy:
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


def evaluate_detector(
    detector: Detector,
    images: Path,
    annotations: Path,
    on_image: Callable[[int, int | None], None] | None = None,
) -> Accuracy:
    """Compute COCO mAP of a detector opened with `SCORE_THRESHOLD`.

    Args:
        detector: The model; its class ids must be the annotation file's category ids.
        images: Folder of the pictures.
        annotations: COCO instances file. Every picture that it names must be in the folder.
        on_image: Called after each picture with how many are done and how many there are.

    Raises:
        RequestError: The annotations cannot be read, pictures are missing, or pycocotools is.
        BadFrameError: A picture is damaged.
    """
    truth = _load_annotations(annotations)
    entries = [truth.imgs[image_id] for image_id in sorted(truth.imgs)]
    missing = [entry["file_name"] for entry in entries if not (images / entry["file_name"]).is_file()]
    if missing or not entries:
        raise RequestError(
            f"{len(missing)} of {len(entries)} pictures named in {annotations} are not in {images}"
            + (f", for example {missing[0]}." if missing else ".")
        )
    rows: list[dict[str, Any]] = []
    elapsed_ns = 0
    for done, entry in enumerate(entries, 1):
        image = read_picture(images / entry["file_name"])
        start_ns = time.perf_counter_ns()
        found, _ = detector.detect(image)
        elapsed_ns += time.perf_counter_ns() - start_ns
        rows.extend(
            {
                "image_id": entry["id"],
                "category_id": class_id,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            for class_id, score, (x1, y1, x2, y2) in zip(
                found.class_id.tolist(), found.score.tolist(), found.xyxy.tolist(), strict=True
            )
        )
        if on_image is not None:
            on_image(done, len(entries))
    mean, ap50, ap75 = _coco_metrics(truth, rows)
    return Accuracy(mean, ap50, ap75, len(entries), elapsed_ns / 1e6 / len(entries))


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
