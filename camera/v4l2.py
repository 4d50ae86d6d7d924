"""V4L2 devices (`/dev/videoN`) through OpenCV: USB cameras, capture cards."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from camera.base import Frame, SourceInfo
from camera.errors import CameraError, SourceNotFoundError

if TYPE_CHECKING:
    import cv2

# A driver timestamp older than this, or from the future, is from another clock.
_PLAUSIBLE_AGE_NS = 10_000_000_000
_CLOSE_TIMEOUT_S = 5.0


class V4l2Camera:
    """A V4L2 device with its default format and rate.

    Args:
        device: `/dev/videoN`.
    """

    def __init__(self, device: Path) -> None:
        self._device = device
        self._capture: cv2.VideoCapture | None = None
        self._seq = 0
        # Releasing a capture in which another thread reads would free memory that is still written to.
        self._in_use = threading.Lock()

    def open(self) -> SourceInfo:
        """Open the device; see `camera.base.FrameSource`."""
        import cv2

        if not self._device.exists():
            present = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*")))
            raise SourceNotFoundError(
                f"There is no camera {self._device}. "
                + (f"Present: {present}." if present else "No V4L2 device is present: plug one in.")
            )
        if not os.access(self._device, os.R_OK | os.W_OK):
            raise CameraError(
                f"No permission to use {self._device}: sudo usermod -aG video $USER, then log in again."
            )
        capture = cv2.VideoCapture(str(self._device), cv2.CAP_V4L2)
        if not capture.isOpened():
            raise CameraError(
                f"{self._device} cannot be opened: another program uses it, or it is not a capture device."
            )
        # One buffer in the driver: a frame waiting there is already old.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._capture = capture
        fps = capture.get(cv2.CAP_PROP_FPS)
        size = (
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        return SourceInfo(str(self._device), live=True, fps=fps or None, frames=None, size=size)

    def read(self) -> Frame:
        """Wait for the next frame; see `camera.base.FrameSource`."""
        import cv2

        if self._capture is None:
            raise CameraError(f"{self._device} is not open.")
        with self._in_use:
            ok, image = self._capture.read()
            now_ns = time.monotonic_ns()
            # OpenCV reports the driver's timestamp here; drivers take it from the monotonic clock.
            driver_ns = int(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if not ok:
            raise CameraError(f"{self._device} gives no more frames: check its cable and power.")
        captured_ns = driver_ns if 0 <= now_ns - driver_ns < _PLAUSIBLE_AGE_NS else now_ns
        frame = Frame(image.astype(np.uint8, copy=False), self._seq, captured_ns, str(self._device))
        self._seq += 1
        return frame

    def close(self) -> None:
        """Close the device; a driver that hangs in a read keeps it."""
        if self._capture is None or not self._in_use.acquire(timeout=_CLOSE_TIMEOUT_S):
            return
        try:
            self._capture.release()
        finally:
            self._in_use.release()
