"""Video files through OpenCV's FFmpeg: lossless, every frame once."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from camera.base import Frame, SourceInfo
from camera.errors import BadFrameError, CameraError, EndOfStream, SourceNotFoundError

if TYPE_CHECKING:
    import cv2

# How these begin, and from which byte on: their index says how many frames they hold. Of others (Matroska,
# MPEG streams) FFmpeg multiplies duration and rate: wrong for a variable rate or a longer sound track.
_COUNTED = ((4, b"ftyp"), (4, b"moov"), (8, b"AVI "))
# Encoders may count frames that a decoder never shows.
_COUNT_TOLERANCE = 2
# So many frames in a row may be damaged before the rest is given up.
_MAX_DAMAGED = 100


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
        self._after_gap: Frame | None = None

    def open(self) -> SourceInfo:
        """Open the file; see `camera.base.FrameSource`."""
        import cv2

        if not self._path.is_file():
            raise SourceNotFoundError(f"There is no video file {self._path}: check the path.")
        if not os.access(self._path, os.R_OK):
            raise CameraError(f"No permission to read {self._path}.")
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
        self._expected = count if count > 0 and self._is_counted() else None
        return SourceInfo(
            name=str(self._path),
            live=False,
            fps=fps if 0 < fps < 1000 else None,
            frames=self._expected,
            size=(width, height) if width > 0 and height > 0 else None,
            paths=(self._path,),
        )

    def read(self) -> Frame:
        """Decode the next frame; see `camera.base.FrameSource`."""
        if self._capture is None:
            raise CameraError(f"{self._path} is not open.")
        if self._after_gap is not None:
            frame, self._after_gap = self._after_gap, None
            return frame
        ok, image = self._capture.read()
        if ok:
            return self._frame(image)
        damaged = self._skip_damaged()
        if damaged == 0:
            raise self._end()
        raise BadFrameError(f"{self._path}: {damaged} frames cannot be decoded before frame {self._seq - 1}.")

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _frame(self, image: NDArray[np.generic]) -> Frame:
        frame = Frame(image.astype(np.uint8, copy=False), self._seq, time.monotonic_ns(), str(self._path))
        self._seq += 1
        return frame

    def _skip_damaged(self) -> int:
        """Read on behind damaged frames; return how many there were, 0 where nothing follows."""
        assert self._capture is not None  # noqa: S101 - the caller read from it
        # Without a known count a failed read is the end.
        left = (self._expected or 0) - self._seq - 1
        for damaged in range(1, min(left, _MAX_DAMAGED) + 1):
            ok, image = self._capture.read()
            if ok:
                self._seq += damaged
                self._after_gap = self._frame(image)
                return damaged
        return 0

    def _is_counted(self) -> bool:
        with self._path.open("rb") as file:
            start = file.read(16)
        return any(start[offset:].startswith(mark) for offset, mark in _COUNTED)

    def _end(self) -> CameraError:
        expected = self._expected or 0
        if self._seq + _COUNT_TOLERANCE < expected:
            return CameraError(
                f"{self._path} ends after {self._seq} of {expected} frames: it is truncated or damaged. "
                "What came before was processed."
            )
        if self._seq == 0:
            return CameraError(f"{self._path} holds no frame that can be decoded.")
        return EndOfStream(f"{self._path} has no more frames.")
