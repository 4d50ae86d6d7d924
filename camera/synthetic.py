"""`test://`: a synthetic camera with moving shapes, of any size and rate; no device, no file."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camera import uri_options
from camera.base import Frame, SourceInfo
from camera.errors import CameraError, EndOfStream, UnsupportedSourceError
from camera.uri import Uri

_BALLS = 4
_MAX_FPS = 1000


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
    """A stop sign, a clock and some balls that move; every frame depends on its number alone.

    Args:
        options: Size, rate, length.
        name: As records name it.
    """

    def __init__(self, options: SyntheticOptions, name: str = "test://") -> None:
        self._options = options
        self._name = name
        self._background = _scenery(options.width, options.height)
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
            name=self._name,
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
            raise EndOfStream(f"{self._name} has shown its {options.frames} frames.")
        captured_ns = time.monotonic_ns()
        if options.fps > 0:
            due_ns = self._start_ns + int(seq * 1e9 / options.fps)
            self._closed.wait(max(0, due_ns - captured_ns) / 1e9)
            # A reader that came late gets the frame of now: a camera does not wait for anybody.
            captured_ns = max(due_ns, time.monotonic_ns())
        if self._closed.is_set():
            raise EndOfStream(f"{self._name} was closed.")
        self._seq += 1
        return Frame(draw_shapes(self._background, seq), seq, captured_ns, self._name)

    def close(self) -> None:
        """Wake a reader that waits for its frame."""
        self._closed.set()


def from_uri(uri: Uri) -> SyntheticCamera:
    """Return the camera that `test://?size=640x480&fps=30&frames=100` means.

    Raises:
        UnsupportedSourceError: An option is unknown or wrong.
    """
    if uri.address not in ("", "/"):
        raise UnsupportedSourceError(
            f"{uri.shown}: after test:// comes nothing, or ?size=640x480&fps=30&frames=100."
        )
    uri_options.no_more(uri, ("size", "fps", "frames"))
    default = SyntheticOptions()
    width, height = uri_options.size(uri) or (default.width, default.height)
    fps = uri_options.number(uri, "fps", 0, _MAX_FPS)
    frames = uri_options.integer(uri, "frames")
    return SyntheticCamera(
        SyntheticOptions(width, height, default.fps if fps is None else fps, frames or default.frames),
        uri.shown,
    )


def draw_shapes(background: NDArray[np.uint8], seq: int) -> NDArray[np.uint8]:
    """Return a copy of the background with frame `seq`'s stop sign, clock and balls on it.

    Sign and clock are drawn so that a detector knows them: a device without a camera can show that it sees.
    """
    import cv2

    image = background.copy()
    height, width = image.shape[:2]
    side = min(width, height)
    for index in range(_BALLS):
        angle = seq * (0.02 + 0.01 * index) + index
        centre = (int(width * (0.5 + 0.45 * math.cos(angle))), int(height * (0.9 + 0.05 * math.sin(angle))))
        cv2.circle(image, centre, max(1, side // 30), (60 * index, 200, 230 - 50 * index), -1, cv2.LINE_AA)
    sway = math.sin(seq * 0.05)
    _draw_stop_sign(image, (width * (0.26 + 0.05 * sway), height * 0.36), side * 0.22)
    _draw_clock(image, (width * (0.72 - 0.05 * sway), height * (0.4 + 0.04 * sway)), side * 0.22, seq)
    return image


def _draw_stop_sign(image: NDArray[np.uint8], centre: tuple[float, float], radius: float) -> None:
    import cv2

    x, y = int(centre[0]), int(centre[1])
    pole = max(1, int(radius * 0.06))
    cv2.rectangle(image, (x - pole, y), (x + pole, int(y + radius * 2)), (120, 120, 125), -1)
    corners = np.array([[math.cos(angle), math.sin(angle)] for angle in np.pi * (np.arange(8) / 4 + 1 / 8)])
    for size, colour in ((radius, (245, 245, 245)), (radius * 0.93, (35, 30, 190))):
        outline = np.rint(corners * size + centre).astype(np.int32)
        cv2.fillPoly(image, [outline], colour, cv2.LINE_AA)
    scale, thickness = radius / 52, max(1, round(radius / 11))
    (text_width, text_height), _ = cv2.getTextSize("STOP", cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    corner = (x - text_width // 2, y + text_height // 2)
    cv2.putText(
        image, "STOP", corner, cv2.FONT_HERSHEY_SIMPLEX, scale, (250, 250, 250), thickness, cv2.LINE_AA
    )


def _draw_clock(image: NDArray[np.uint8], centre: tuple[float, float], radius: float, seq: int) -> None:
    import cv2

    middle = (int(centre[0]), int(centre[1]))

    def on_dial(turn: float, share: float) -> tuple[int, int]:
        angle = 2 * math.pi * turn
        return (
            int(centre[0] + radius * share * math.sin(angle)),
            int(centre[1] - radius * share * math.cos(angle)),
        )

    cv2.circle(image, middle, int(radius), (45, 40, 40), -1, cv2.LINE_AA)
    cv2.circle(image, middle, int(radius * 0.9), (245, 245, 245), -1, cv2.LINE_AA)
    for hour in range(12):
        thickness = max(1, round(radius * (0.04 if hour % 3 == 0 else 0.02)))
        cv2.line(
            image, on_dial(hour / 12, 0.72), on_dial(hour / 12, 0.84), (20, 20, 20), thickness, cv2.LINE_AA
        )
    minute = 10 / 60 + seq / 3600
    for turn, share, weight in ((10 / 12 + minute / 12, 0.45, 0.06), (minute, 0.65, 0.04)):
        thickness = max(1, round(radius * weight))
        cv2.line(image, middle, on_dial(turn, share), (20, 20, 20), thickness, cv2.LINE_AA)


def _scenery(width: int, height: int) -> NDArray[np.uint8]:
    """Return sky above ground."""
    image = np.empty((height, width, 3), np.uint8)
    share = np.linspace(0, 1, height)[:, None, None]
    image[:] = (235, 190, 140) * (1 - share) + (225, 225, 215) * share
    image[int(height * 0.8) :] = (90, 95, 95)
    return image
