"""Pictures of known content, one after another, and what a predictor says of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from camera.pictures import read_picture
from edge_mnv2.errors import RequestError
from edge_mnv2.predictor import Predictor
from edge_mnv2.results import Classification, Detections, SegmentationMap

_MAX_NAMES = 5

# Called after each picture with how many are done and how many there are.
OnImage = Callable[[int, int | None], None]

FoundT = TypeVar("FoundT", Detections, SegmentationMap, Classification)


class TimedPredictor:
    """A predictor of which one kind of result is wanted, and what a picture costs it.

    Args:
        predictor: Left open.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._images = 0
        self._total_ms = 0.0

    @property
    def ms_per_image(self) -> float:
        """Prepare, inference and decoding, on average."""
        return self._total_ms / self._images

    def predict(self, image: NDArray[np.uint8], kind: type[FoundT]) -> FoundT:
        """Say what a picture shows.

        Args:
            image: (H, W, 3) uint8 BGR.
            kind: Type of the result.

        Raises:
            TypeError: The predictor has another task.
        """
        found, stages_ms = self._predictor.predict(image)
        if not isinstance(found, kind):
            raise TypeError(f"{self._predictor.name} returns {type(found).__name__}, not {kind.__name__}.")
        self._images += 1
        self._total_ms += sum(stages_ms.values())
        return found


def read_each(pictures: Sequence[Path], on_image: OnImage | None) -> Iterator[NDArray[np.uint8]]:
    """Yield each picture, (H, W, 3) uint8 BGR; report it as done when the next one is asked for.

    Raises:
        BadFrameError: A picture is damaged.
    """
    for done, path in enumerate(pictures, 1):
        yield read_picture(path)
        if on_image is not None:
            on_image(done, len(pictures))


def named_pictures(images: Path, names: Sequence[str], source: Path) -> list[Path]:
    """Return the paths of the pictures that a file names.

    Args:
        images: Folder of the pictures.
        names: Relative to it.
        source: The file, for messages.

    Raises:
        RequestError: It names none, or some are not there.
    """
    if not names:
        raise RequestError(f"{source} names no pictures.")
    # os.path.isfile: a name that no file can have is only missing; Path.is_file raises for some.
    missing = [name for name in names if not os.path.isfile(images / name)]  # noqa: PTH113
    if missing:
        raise RequestError(
            f"{len(missing)} of {len(names)} pictures named in {source} are not in {images}: "
            f"{some_of(missing)}."
        )
    return [images / name for name in names]


def some_of(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    shown = ", ".join(names[:_MAX_NAMES])
    return shown if len(names) <= _MAX_NAMES else f"{shown} and {len(names) - _MAX_NAMES} more"
