"""What a model is measured against and how it is opened for that, by its task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_mnv2.errors import RequestError
from edge_mnv2.evaluation.classification import TOP_K, ClassificationAccuracy, evaluate_classification
from edge_mnv2.evaluation.detection import SCORE_THRESHOLD, DetectionAccuracy, evaluate_detection
from edge_mnv2.evaluation.pictures import OnImage
from edge_mnv2.evaluation.segmentation import SegmentationAccuracy, evaluate_segmentation
from edge_mnv2.predictor import Predictor
from edge_mnv2.zoo.architectures import Task
from edge_mnv2.zoo.model import DecoderOptions, Model

Accuracy = DetectionAccuracy | SegmentationAccuracy | ClassificationAccuracy


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of the pictures; a model needs the one that belongs to its task.

    Attributes:
        annotations: COCO instances file, for a detection.
        masks: Folder of masks, for a segmentation; see `mask_files`.
        labels: File of class numbers, for a classification; see `classification.read_truth`.
    """

    annotations: Path | None = None
    masks: Path | None = None
    labels: Path | None = None


# What a model does, and what it is measured with.
_NEEDED: dict[Task, tuple[str, str]] = {
    "detect": ("detects objects", "--annotations, a COCO instances file"),
    "segment": ("segments", "--masks, a folder of PNG files of class numbers"),
    "classify": ("classifies", "--labels, a file of lines `picture number`"),
}


def choose_truth(model: Model, truth: Truth) -> Path:
    """Return what belongs to the model's task.

    Raises:
        RequestError: It is missing, or something of another task was given.
    """
    given: dict[Task, Path | None] = {
        "detect": truth.annotations,
        "segment": truth.masks,
        "classify": truth.labels,
    }
    path = given.pop(model.task)
    does, needed = _NEEDED[model.task]
    if path is None:
        raise RequestError(f"{model.name} {does}: it must be given {needed}.")
    if any(other is not None for other in given.values()):
        raise RequestError(f"{model.name} {does}: it is measured with {needed}, and with nothing else.")
    return path


def decoder_options(task: Task) -> DecoderOptions:
    """Return what a predictor must report to be measured."""
    match task:
        case "detect":
            return DecoderOptions(threshold=SCORE_THRESHOLD)
        case "segment":
            return DecoderOptions(masks=True)
        case "classify":
            return DecoderOptions(top_k=TOP_K)


def evaluate(
    predictor: Predictor, model: Model, images: Path, truth: Path, on_image: OnImage | None = None
) -> Accuracy:
    """Measure a predictor on pictures with known content.

    Args:
        predictor: The model, opened with the task's `decoder_options`.
        model: The model.
        images: Folder of the pictures.
        truth: What `choose_truth` returned.
        on_image: Called after each picture with how many are done and how many there are.

    Raises:
        RequestError: Pictures are missing, or what is known of them cannot be used.
        BadFrameError: A picture is damaged.
    """
    match model.task:
        case "detect":
            return evaluate_detection(predictor, images, truth, on_image)
        case "segment":
            return evaluate_segmentation(predictor, model.spec.classes, images, truth, on_image)
        case "classify":
            return evaluate_classification(predictor, model.spec.classes, images, truth, on_image)
