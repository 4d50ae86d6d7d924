"""Accuracy of a segmentation on pictures with masks: the mean intersection over union (IoU) of Pascal VOC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import RequestError
from edge_mnv2.evaluation.mask_files import IGNORED, pair_masks, read_mask
from edge_mnv2.evaluation.pictures import OnImage, TimedPredictor, read_each, some_of
from edge_mnv2.predictor import Predictor
from edge_mnv2.results import SegmentationMap

_BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class SegmentationAccuracy:
    """Figures over all pixels of all pictures together, and what an image cost.

    Attributes:
        miou: Mean of `iou`, the background included. Pascal VOC averages all of its 21 classes; here those
            are left out that no mask and no prediction shows, so that a few pictures can be measured. A class
            that is only predicted counts, with 0.
        iou: Intersection over union by label; None for a class that no mask and no prediction shows.
        pixel_accuracy: Share of the pixels whose class is right.
        images: How many pictures.
        ms_per_image: Prepare, inference and decoding, on average.
    """

    miou: float
    iou: dict[str, float | None]
    pixel_accuracy: float
    images: int
    ms_per_image: float


def evaluate_segmentation(
    predictor: Predictor, class_count: int, images: Path, masks: Path, on_image: OnImage | None = None
) -> SegmentationAccuracy:
    """Compare a predictor's maps with masks, pixel by pixel. Pixels that a mask gives 255 are left out.

    Args:
        predictor: Opened with `DecoderOptions(masks=True)`: a map has the pixels of its picture.
        class_count: Of the model, the background (0) included.
        images: Folder of the pictures. Each has a mask.
        masks: Folder of PNG files of class numbers, named after the pictures.
        on_image: Called after each picture with how many are done and how many there are.

    Raises:
        RequestError: Pictures and masks do not go together, or a mask cannot be used. Only the sizes are
            compared during the evaluation; the rest is found before it.
        BadFrameError: A picture is damaged.
    """
    pairs = pair_masks(images, masks)
    _check_masks([mask for _, mask in pairs], class_count, predictor.name)
    timed = TimedPredictor(predictor)
    confusion = np.zeros((class_count, class_count), np.int64)
    pictures = [picture for picture, _ in pairs]
    for image, (picture, mask) in zip(read_each(pictures, on_image), pairs, strict=True):
        truth = read_mask(mask)
        if truth.shape != image.shape[:2]:
            raise RequestError(
                f"The mask {mask} has {_size(truth)} pixels, but its picture {picture} has {_size(image)}, "
                "turned as its EXIF orientation says: they must have the same size."
            )
        predicted = timed.predict(image, SegmentationMap).class_id
        if predicted.shape != truth.shape:
            raise ValueError(
                f"{predictor.name} returned a map of {_size(predicted)} for a picture of {_size(image)}: "
                "open it with DecoderOptions(masks=True)."
            )
        confusion += confusion_matrix(truth, predicted, class_count)
    iou = class_iou(confusion)
    names = _class_names(predictor.labels, class_count)
    return SegmentationAccuracy(
        miou=float(np.nanmean(iou)),
        iou={name: None if np.isnan(value) else float(value) for name, value in zip(names, iou, strict=True)},
        pixel_accuracy=float(confusion.trace() / confusion.sum()),
        images=len(pairs),
        ms_per_image=timed.ms_per_image,
    )


def confusion_matrix(
    truth: NDArray[np.uint8], predicted: NDArray[np.uint8], class_count: int
) -> NDArray[np.int64]:
    """Count pixels by their true class (rows) and their predicted one (columns), 255 in truth left out.

    Args:
        truth: (H, W), below `class_count` or 255.
        predicted: (H, W), below `class_count`.
        class_count: How many classes there are.

    Returns:
        (class_count, class_count).
    """
    counted = truth != IGNORED
    cells = truth[counted].astype(np.intp) * class_count + predicted[counted]
    counts = np.bincount(cells, minlength=class_count * class_count)
    return counts.reshape(class_count, class_count).astype(np.int64, copy=False)


def class_iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the intersection over union of each class: NaN for one that appears nowhere.

    Args:
        confusion: (classes, classes), pixels by true class (rows) and predicted class (columns).

    Returns:
        (classes,).
    """
    hits = confusion.diagonal()
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    iou = np.full(len(hits), np.nan)
    np.divide(hits, union, out=iou, where=union > 0)
    return iou


def _check_masks(masks: Sequence[Path], class_count: int, model: str) -> None:
    """Read every mask once, which costs little beside inference.

    Raises:
        RequestError: One cannot be read or holds classes that the model has not; or all pixels are ignored.
    """
    is_anything_known = False
    for path in masks:
        numbers = np.unique(read_mask(path))
        numbers = numbers[numbers != IGNORED]
        unknown = [str(number) for number in numbers[numbers >= class_count]]
        if unknown:
            raise RequestError(
                f"The mask {path} holds {some_of(unknown)}, but {model} has the classes 0 to "
                f"{class_count - 1}; {IGNORED} marks pixels to leave out."
            )
        is_anything_known |= bool(numbers.size)
    if not is_anything_known:
        raise RequestError(f"In all masks of {masks[0].parent} every pixel is {IGNORED}: nothing is left.")


def _class_names(labels: Mapping[int, str], class_count: int) -> list[str]:
    """Return one name for each class; where two share a label, the number tells them apart."""
    names = [labels.get(number, str(number) if number else _BACKGROUND) for number in range(class_count)]
    count = Counter(names)
    return [name if count[name] == 1 else f"{name} ({number})" for number, name in enumerate(names)]


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
