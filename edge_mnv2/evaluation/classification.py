"""Accuracy of a classifier on pictures with one known class each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edge_mnv2.errors import RequestError
from edge_mnv2.evaluation.pictures import OnImage, TimedPredictor, named_pictures, read_each
from edge_mnv2.predictor import Predictor
from edge_mnv2.results import Classification

TOP_K = 5

# A file name, which may hold blanks, a blank, a number.
_LINE = re.compile(r"(.*\S)\s+([0-9]{1,9})")
_FORM = "a line is `file number`: the picture's name in the folder of pictures and its class"


@dataclass(frozen=True, slots=True)
class ClassificationAccuracy:
    """Shares of pictures, and what an image cost.

    Attributes:
        top1: Where the best class is the right one.
        top5: Where the right class is among the five best.
        images: How many pictures.
        ms_per_image: Prepare, inference and decoding, on average.
    """

    top1: float
    top5: float
    images: int
    ms_per_image: float


def evaluate_classification(
    predictor: Predictor, class_count: int, images: Path, labels: Path, on_image: OnImage | None = None
) -> ClassificationAccuracy:
    """Compare a predictor's best classes with those of a file.

    Args:
        predictor: Opened with `DecoderOptions(top_k=TOP_K)` and no threshold.
        class_count: Of the model.
        images: Folder of the pictures. Those that the file does not name are left out.
        labels: Lines `file number`; see `read_truth`.
        on_image: Called after each picture with how many are done and how many there are.

    Raises:
        RequestError: The file cannot be read, a line is wrong, or pictures are missing; nothing was run then.
        BadFrameError: A picture is damaged.
    """
    truth = read_truth(labels, class_count)
    pictures = named_pictures(images, list(truth), labels)
    timed = TimedPredictor(predictor)
    top1 = top5 = 0
    for image, class_id in zip(read_each(pictures, on_image), truth.values(), strict=True):
        best = timed.predict(image, Classification).class_id[:TOP_K].tolist()
        top1 += best[:1] == [class_id]
        top5 += class_id in best
    return ClassificationAccuracy(
        top1=top1 / len(pictures),
        top5=top5 / len(pictures),
        images=len(pictures),
        ms_per_image=timed.ms_per_image,
    )


def read_truth(path: Path, class_count: int) -> dict[str, int]:
    """Read the class number of each picture.

    The number is what stands behind the last blank. Empty lines, and lines that begin with #, are skipped.

    Args:
        path: The file, UTF-8.
        class_count: Of the model, whose own numbers these are.

    Returns:
        Class by file name, in the order of the file.

    Raises:
        RequestError: It cannot be read or is empty, or a line is wrong; the line's number is named.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"The labels {path} cannot be read: {error}.") from error
    truth: dict[str, int] = {}
    line_of: dict[Path, int] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        matched = _LINE.fullmatch(line)
        if matched is None:
            raise RequestError(f"{path}, line {number}: {_FORM}, not {line[:80]!r}.")
        name, class_id = matched[1], int(matched[2])
        if class_id >= class_count:
            raise RequestError(
                f"{path}, line {number}: the model has the classes 0 to {class_count - 1}, not {class_id}."
            )
        earlier = line_of.setdefault(Path(name), number)
        if earlier != number:
            raise RequestError(f"{path}, line {number}: {name} was named in line {earlier} already.")
        truth[name] = class_id
    if not truth:
        raise RequestError(f"The labels {path} are empty: {_FORM}.")
    return truth
