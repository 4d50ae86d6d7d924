"""What every network offers to the loop: prepare a picture, decode the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

R_co = TypeVar("R_co", covariant=True)

INPUT_NAME = "image"


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a frame was laid into the input tensor, so that results can be mapped back to its pixels.

    Attributes:
        frame_width: Width of the frame in pixels.
        frame_height: Height of the frame in pixels.
        content_width: Width in the input of what shows the frame; the rest, on the right, is padding.
        content_height: Height in the input of what shows the frame; the rest, below, is padding.
    """

    frame_width: int
    frame_height: int
    content_width: int
    content_height: int


class Network(Protocol[R_co]):
    """Prepares frames for one graph and decodes what the graph returns; the same code for every backend."""

    def prepare(self, image: NDArray[np.uint8], out: NDArray[np.uint8]) -> Geometry:
        """Fill the input tensor in place.

        Args:
            image: The frame, (H, W, 3) uint8 BGR.
            out: The tensor called `INPUT_NAME`, (1, height, width, 3) uint8 BGR.
        """
        ...

    def decode(self, outputs: Mapping[str, NDArray[Any]], geometry: Geometry) -> R_co:
        """Turn the graph's outputs into a result in pixels of the frame."""
        ...
