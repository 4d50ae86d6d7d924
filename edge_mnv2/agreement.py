"""How well one build of a model agrees with another on pictures without labels.

The first build (float32) is the reference. What is compared depends on the task: matched boxes, masks, or the
best class. Each task has figures with limits; a build that passes them all is as good as the reference for
every practical purpose, and one that does not is refused by `run` unless it is forced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from camera.pictures import read_picture
from edge_mnv2.comparisons import comparison_decoder, comparison_for
from edge_mnv2.limits import failed_limits
from edge_mnv2.predictor import Predictor, open_build
from edge_mnv2.zoo.accuracy_record import AccuracyRecord, record_key
from edge_mnv2.zoo.model import Model
from edge_mnv2.zoo.ranges_file import no_ranges

# Blank pictures agree perfectly: a good verdict takes so many boxes or pictures at least.
MIN_EVIDENCE = 8


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a comparison found.

    Attributes:
        images: On how many pictures.
        figures: By name; see `comparisons`.
        overall: One number to rank builds by, 0 to 1.
        failures: Limits that are not kept, one sentence each.
    """

    images: int
    figures: dict[str, float]
    overall: float
    failures: tuple[str, ...]


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
    comparison = comparison_for(reference.task)
    for done, path in enumerate(pictures, 1):
        image = read_picture(path)
        expected, _ = reference.predict(image)
        found, _ = candidate.predict(image)
        comparison.add(expected, found)
        if on_picture is not None:
            on_picture(done, len(pictures))
    figures = comparison.figures()
    failures = failed_limits(reference.task, figures)
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


def evidence(task: str, record: AccuracyRecord) -> int:
    """Return how much there was to compare: boxes, pictures with objects (segmentation), or pictures."""
    match task:
        case "detect":
            return int(record.figures["boxes"])
        case "segment":
            return int(record.figures["pictures_with_objects"])
    return record.images
