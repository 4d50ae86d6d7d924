"""Video files through OpenCV's FFmpeg: lossless, every frame once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from camera.base import Frame, SourceInfo
from camera.errors import CameraError, EndOfStream, SourceNotFoundError

if TYPE_CHECKING:
    import cv2

# Containers without an index only estimate how many frames they hold.
_COUNT_TOLERANCE = 0.02


class VideoFile:
    """A video file; rotation in its metadata is applied.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture: cv2.VideoCapture | None = None
        self._expected: int | None = None
        self._seq = 0

    def open(self) -> SourceInfo:
        """Open the file; see `camera.base.FrameSource`."""
        import cv2

        if not self._path.is_file():
            raise SourceNotFoundError(f"There is no video file {self._path}: check the path.")
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise CameraError(
                f"{self._path} cannot be opened as a video: it is damaged, cut off, or of an unknown format."
            )
        self._capture = capture
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        fps = capture.get(cv2.CAP_PROP_FPS)
        width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self._expected = count if count > 0 else None
        return SourceInfo(
            name=str(self._path),
            live=False,
            fps=fps if 0 < fps < 1000 else None,
            frames=self._expected,
            size=(width, height) if width > 0 and height > 0 else None,
        )

    def read(self) -> Frame:
        """Decode the next frame; see `camera.base.FrameSource`."""
        if self._capture is None:
            raise CameraError(f"{self._path} is not open.")
        ok, image = self._capture.read()
        if not ok:
            raise self._end()
        frame = Frame(_as_uint8(image), self._seq, time.monotonic_ns(), str(self._path))
        self._seq += 1
        return frame

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _end(self) -> CameraError:
        expected = self._expected or 0
        if self._seq + 1 + expected * _COUNT_TOLERANCE < expected:
            return CameraError(
                f"{self._path} ends after {self._seq} of {expected} frames: it is truncated or damaged. "
                "What came before was processed."
            )
        if self._seq == 0:
            return CameraError(f"{self._path} holds no frame that can be decoded.")
        return EndOfStream(f"{self._path} has no more frames.")


def _as_uint8(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    assert image.dtype == np.uint8  # noqa: S101 - OpenCV decodes video to 8 bits; tells the type checker
    return image.view(np.uint8)
