"""Crop, rotation and flip of frames, and how a crop is written."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from camera.base import Frame, FrameSource, SourceInfo
from camera.errors import UnsupportedSourceError
from camera.options import Transform


def transform_image(image: NDArray[np.uint8], transform: Transform) -> NDArray[np.uint8]:
    """Return a picture cropped, then rotated, then flipped.

    Args:
        image: (H, W, 3) uint8; it is not changed.
        transform: What is to be done.

    Returns:
        (H', W', 3) uint8, C-contiguous; `image` itself where nothing is to be done, else one copy.

    Raises:
        UnsupportedSourceError: The crop does not lie inside the picture.
    """
    if transform == Transform():
        return image
    height, width = image.shape[:2]
    check_crop(transform, (width, height))
    view = image
    if transform.crop is not None:
        x, y, crop_width, crop_height = transform.crop
        view = view[y : y + crop_height, x : x + crop_width]
    # Clockwise; numpy counts the other way. These are views: pixels move once, below.
    view = np.rot90(view, -transform.rotate // 90)
    if transform.flip in ("horizontal", "both"):
        view = view[:, ::-1]
    if transform.flip in ("vertical", "both"):
        view = view[::-1]
    return np.ascontiguousarray(view)


def transformed_size(size: tuple[int, int], transform: Transform) -> tuple[int, int]:
    """Return the (width, height) that pictures of a size have afterwards.

    Raises:
        UnsupportedSourceError: The crop does not lie inside the picture.
    """
    check_crop(transform, size)
    width, height = size if transform.crop is None else transform.crop[2:]
    return (height, width) if transform.rotate in (90, 270) else (width, height)


def check_crop(transform: Transform, size: tuple[int, int]) -> None:
    """Refuse a crop that does not lie inside pictures of (width, height).

    Raises:
        UnsupportedSourceError: Naming the crop and the size.
    """
    if transform.crop is None:
        return
    x, y, width, height = transform.crop
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > size[0] or y + height > size[1]:
        raise UnsupportedSourceError(
            f"The crop {x},{y},{width}x{height} reaches beyond the camera's frame of {size[0]}x{size[1]}: "
            "give X,Y,WIDTHxHEIGHT inside it."
        )


class Transformed:
    """A source whose frames are cropped, rotated and flipped.

    Args:
        source: Where they come from.
        transform: What is done to each.
    """

    def __init__(self, source: FrameSource, transform: Transform) -> None:
        self._source = source
        self._transform = transform

    def open(self) -> SourceInfo:
        """Open the source; see `camera.base.FrameSource`."""
        info = self._source.open()
        if info.size is None:
            return info
        try:
            return replace(info, size=transformed_size(info.size, self._transform))
        except UnsupportedSourceError:
            self._source.close()
            raise

    def read(self) -> Frame:
        """Wait for the next frame; see `camera.base.FrameSource`."""
        frame = self._source.read()
        try:
            image = transform_image(frame.image, self._transform)
        except UnsupportedSourceError:
            frame.release()
            raise
        if image is frame.image:
            return frame
        with frame:
            return Frame(image, frame.seq, frame.captured_ns, frame.origin)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def parse_crop(text: str) -> tuple[int, int, int, int]:
    """Return `X,Y,WIDTHxHEIGHT` as (x, y, width, height) in pixels.

    Raises:
        UnsupportedSourceError: It is no crop.
    """
    found = re.fullmatch(r" *([0-9]{1,5}) *, *([0-9]{1,5}) *, *([0-9]{1,5}) *x *([0-9]{1,5}) *", text)
    if found is None or 0 in (int(found[3]), int(found[4])):
        raise UnsupportedSourceError(
            f"The crop {text} is wrong: give X,Y,WIDTHxHEIGHT, such as 160,0,960x720."
        )
    return int(found[1]), int(found[2]), int(found[3]), int(found[4])
