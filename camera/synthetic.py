"""`test://`: a synthetic camera with moving shapes, of any size and rate. No device, no file, no network."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camera.base import Frame, SourceInfo
from camera.errors import CameraError, EndOfStream

_NAME = "test://"
_SHAPES = 6


@dataclass(frozen=True, slots=True)
class SyntheticOptions:
    """What `test://?size=640x480&fps=30&frames=100` can say.

    Attributes:
        width: Of the frames, in pixels.
        height: Of the frames, in pixels.
        fps: Rate of a live camera; 0 for frames as fast as they are asked for, none lost.
        frames: How many frames there are; 0 for no end.
    """

    width: int = 640
    height: int = 480
    fps: float = 30.0
    frames: int = 0


class SyntheticCamera:
    """Shapes that move on a gradient; every frame depends on its number alone.

    Args:
        options: Size, rate, length.
    """

    def __init__(self, options: SyntheticOptions) -> None:
        self._options = options
        self._background = _gradient(options.width, options.height)
        self._closed = threading.Event()
        self._start_ns: int | None = None
        self._seq = 0

    def open(self) -> SourceInfo:
        """Start the clock; see `camera.base.FrameSource`."""
        options = self._options
        self._start_ns = time.monotonic_ns()
        self._seq = 0
        self._closed.clear()
        return SourceInfo(
            name=_NAME,
            live=options.fps > 0,
            fps=options.fps or None,
            frames=options.frames or None,
            size=(options.width, options.height),
        )

    def read(self) -> Frame:
        """Wait until the next frame is due and draw it; see `camera.base.FrameSource`."""
        if self._start_ns is None:
            raise CameraError("The synthetic camera is not open.")
        options, seq = self._options, self._seq
        if options.frames and seq >= options.frames:
            raise EndOfStream(f"{_NAME} has shown its {options.frames} frames.")
        captured_ns = time.monotonic_ns()
        if options.fps > 0:
            due_ns = self._start_ns + int(seq * 1e9 / options.fps)
            self._closed.wait(max(0, due_ns - captured_ns) / 1e9)
            # A reader that came late gets the frame of now: a camera does not wait for anybody.
            captured_ns = max(due_ns, time.monotonic_ns())
        if self._closed.is_set():
            raise EndOfStream(f"{_NAME} was closed.")
        self._seq += 1
        return Frame(draw_shapes(self._background, seq), seq, captured_ns, _NAME)

    def close(self) -> None:
        """Wake a reader that waits for its frame."""
        self._closed.set()


def draw_shapes(background: NDArray[np.uint8], seq: int) -> NDArray[np.uint8]:
    """Return a copy of the background with frame `seq`'s circles and squares on it."""
    import cv2

    image = background.copy()
    height, width = image.shape[:2]
    radius = max(2, min(width, height) // 10)
    for index in range(_SHAPES):
        angle = seq * (0.02 + 0.01 * index) + index
        centre_x = int(width * (0.5 + 0.4 * math.cos(angle)))
        centre_y = int(height * (0.5 + 0.4 * math.sin(angle * 1.3)))
        colour = (40 * index, 255 - 35 * index, 128 + 20 * index)
        if index % 2:
            cv2.circle(image, (centre_x, centre_y), radius, colour, -1, cv2.LINE_AA)
        else:
            corner = (centre_x - radius, centre_y - radius)
            opposite = (centre_x + radius, centre_y + radius)
            cv2.rectangle(image, corner, opposite, colour, -1)
    return image


def _gradient(width: int, height: int) -> NDArray[np.uint8]:
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(60, 160, width, dtype=np.uint8)
    image[..., 1] = np.linspace(160, 60, height, dtype=np.uint8)[:, None]
    image[..., 2] = 90
    return image
