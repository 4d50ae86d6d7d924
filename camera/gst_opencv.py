"""A GStreamer pipeline through an OpenCV with GStreamer: the system's, not the one from PyPI."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from camera.base import Frame, SourceInfo
from camera.bounded import finish_within
from camera.errors import CameraError

if TYPE_CHECKING:
    import cv2

# Old OpenCVs wait for ever for a pipeline whose elements they cannot find.
_OPEN_TIMEOUT_S = 8.0


def opencv_has_gstreamer() -> bool:
    """Tell whether the OpenCV that would be imported can run pipelines."""
    try:
        import cv2
    except ImportError:
        return False
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None


class OpencvPipeline:
    """The frames that OpenCV gets from the appsink of a pipeline.

    OpenCV tells neither why a pipeline fails nor when a frame was taken: `captured_ns` is when it arrived.
    Where an element hangs, `read` hangs, too: older OpenCVs refuse time-outs for pipelines. Such a source
    belongs into a process of its own.

    Args:
        pipeline: As for `gst-launch-1.0`, with one appsink.
        origin: How records name it, without credentials.
    """

    def __init__(self, pipeline: str, origin: str) -> None:
        self._text = pipeline
        self._origin = origin
        self._capture: cv2.VideoCapture | None = None
        self._seq = 0
        # Releasing a capture in which another thread reads would free memory that is still written to.
        self._in_use = threading.Lock()

    def open(self) -> SourceInfo:
        """Start the pipeline; see `camera.base.FrameSource`."""
        import cv2

        captures: list[cv2.VideoCapture] = []
        finish_within(
            lambda: captures.append(cv2.VideoCapture(self._text, cv2.CAP_GSTREAMER)), _OPEN_TIMEOUT_S
        )
        capture = captures.pop() if captures else None
        if capture is None or not capture.isOpened():
            raise CameraError(
                f"{self._origin} cannot be started. gst-launch-1.0 with this pipeline says why, and "
                "gst-inspect-1.0 ELEMENT whether an element is installed."
            )
        self._capture = capture
        fps = capture.get(cv2.CAP_PROP_FPS)
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        return SourceInfo(
            self._origin,
            live=True,
            fps=fps if fps > 0 else None,
            frames=None,
            size=size if all(size) else None,
        )

    def read(self) -> Frame:
        """Wait for the next frame; see `camera.base.FrameSource`."""
        with self._in_use:
            if self._capture is None:
                raise CameraError(f"{self._origin} is not open.")
            ok, image = self._capture.read()
            now_ns = time.monotonic_ns()
        if not ok:
            raise CameraError(f"{self._origin} gives no more frames: it failed, stalled or ended.")
        if image.ndim != 3 or image.shape[2] != 3:
            raise CameraError(
                f"{self._origin}: the appsink gets no BGR: "
                "put 'videoconvert ! video/x-raw,format=BGR' before it."
            )
        frame = Frame(np.ascontiguousarray(image, np.uint8), self._seq, now_ns, self._origin)
        self._seq += 1
        return frame

    def close(self) -> None:
        """Stop the pipeline; one that hangs is left behind after a few seconds."""
        finish_within(self._release)

    def _release(self) -> None:
        with self._in_use:
            capture, self._capture = self._capture, None
            if capture is not None:
                capture.release()
