"""Annotated video through OpenCV's FFmpeg."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import OutputPathError, RequestError, SinkError
from edge_mnv2.results import CameraStatus, FrameResult

if TYPE_CHECKING:
    import cv2

# Codecs that every build of OpenCV writes without a plug-in, by file name.
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
DEFAULT_FPS = 25.0

# MPEG-4 part 2 ends at 8191 pixels; players give up earlier.
_MAX_SIDE = 4096
# A live camera that was away for longer leaves a cut, not minutes of a still picture.
_MAX_GAP_S = 2.0
# The index of an MP4 is written at the end: this much stays free for it, so that a full disk leaves a
# video that plays up to its last frame.
_RESERVE_BYTES = 256 * 1024
_INDEX_BYTES_PER_FRAME = 64


class VideoSink:
    """Writes the overlay as a video of constant rate and size.

    Args:
        path: The file; its suffix chooses container and codec (`CODECS`).
        fps: Frame rate.
        by_time: True for a live source: frames are repeated or left out so that the video runs at the pace of
            the camera. False writes every frame once.
        attempt: Later attempts write beside the first file (`name-2.mp4`).

    Raises:
        RequestError: The suffix is unknown.
        OutputPathError: It cannot be written there.
    """

    def __init__(self, path: Path, fps: float | None, *, by_time: bool, attempt: int = 0) -> None:
        check_video_path(path)
        self._path = _of_attempt(path, attempt)
        self._fps = fps or DEFAULT_FPS
        self._by_time = by_time
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._is_away = False
        self._written = 0
        self._first_ns = 0
        self._reserve_bytes = 0
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("wb"):
                pass
        except OSError as error:
            raise OutputPathError(
                f"{self._path} cannot be written: {error.strerror}. Choose another path."
            ) from error

    def write(self, result: FrameResult) -> None:
        """Encode the frame's canvas."""
        canvas = result.canvas
        if canvas is None:
            raise SinkError(f"{self._path}: a result without a canvas cannot become video.")
        self._is_away = False
        self._append(canvas, result.captured_ns)

    def show(self, status: CameraStatus) -> None:
        """Let the video say that the camera was lost; of its absence only the beginning is kept."""
        if status.canvas is not None and status.is_change and not self._is_away:
            self._is_away = True
            self._append(status.canvas, status.shown_ns)

    def _append(self, canvas: NDArray[np.uint8], captured_ns: int) -> None:
        if self._writer is None:
            self._start(canvas, captured_ns)
        self._check_room()
        picture = _fitted(canvas, self._size)
        assert self._writer is not None  # noqa: S101 - _start sets it or raises
        for _ in range(self._copies(captured_ns)):
            self._writer.write(picture)
            self._written += 1

    def close(self) -> None:
        """Finish the file and make sure that it can be opened."""
        writer, self._writer = self._writer, None
        if writer is None:
            self._remove_empty()
            return
        import cv2

        writer.release()
        check = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        readable, _ = check.read()
        check.release()
        if not readable:
            raise SinkError(
                f"{self._path} cannot be read back: the disk may be full. Make room and run it again."
            )

    def _remove_empty(self) -> None:
        """Leave no empty file behind where no frame came."""
        with contextlib.suppress(OSError):
            if self._written == 0 and self._path.stat().st_size == 0:
                self._path.unlink()

    def _start(self, canvas: NDArray[np.uint8], captured_ns: int) -> None:
        import cv2

        self._size = _video_size(canvas.shape[1], canvas.shape[0])
        self._first_ns = captured_ns
        self._reserve_bytes = _RESERVE_BYTES + self._size[0] * self._size[1] // 2
        self._check_room()
        fourcc = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._path), cv2.CAP_FFMPEG, fourcc, self._fps, self._size)
        if not writer.isOpened():
            raise SinkError(
                f"{self._path}: OpenCV cannot encode {self._size[0]}x{self._size[1]} at {self._fps:g} FPS. "
                "Choose .avi, or reinstall opencv-python."
            )
        self._writer = writer

    def _check_room(self) -> None:
        needed = self._reserve_bytes + self._written * _INDEX_BYTES_PER_FRAME
        try:
            status = os.statvfs(self._path.parent)
        except OSError as error:
            raise SinkError(f"{self._path}: its folder is gone ({error.strerror}).") from error
        if status.f_bavail * status.f_frsize < needed:
            raise SinkError(
                f"{self._path}: the disk is full after {self._written} frames, and these can be played. "
                "Make room or choose another disk."
            )

    def _copies(self, captured_ns: int) -> int:
        """Return how often a frame is written: once, or as often as its instant says."""
        if not self._by_time:
            return 1
        due = math.floor((captured_ns - self._first_ns) / 1e9 * self._fps) + 1 - self._written
        if due > _MAX_GAP_S * self._fps:
            self._first_ns = captured_ns - int(self._written / self._fps * 1e9)
            return 1
        return max(0, due)


def first_free(path: Path) -> int:
    """Return the first attempt whose file, of `VideoSink`, is not there yet, or is empty."""
    attempt = 0
    while (there := _of_attempt(path, attempt)).exists() and there.stat().st_size:
        attempt += 1
    return attempt


def _of_attempt(path: Path, attempt: int) -> Path:
    return path if attempt == 0 else path.with_stem(f"{path.stem}-{attempt + 1}")


def check_video_path(path: Path) -> None:
    """Refuse a file name whose container we cannot write.

    Raises:
        RequestError: Naming those that we can.
    """
    if path.suffix.lower() not in CODECS:
        raise RequestError(f"{path}: a video must end in {', '.join(CODECS)}.")


def _video_size(width: int, height: int) -> tuple[int, int]:
    """Return the size that encoders take: even, within their limits, same shape as near as that allows."""
    scale = min(1.0, _MAX_SIDE / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _fitted(canvas: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a picture of the video's size: the canvas itself if it has it, else scaled onto black."""
    import cv2

    width, height = size
    if canvas.shape[:2] == (height, width):
        return canvas
    scale = min(width / canvas.shape[1], height / canvas.shape[0])
    inner = max(1, round(canvas.shape[1] * scale)), max(1, round(canvas.shape[0] * scale))
    picture = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    picture[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        canvas, inner, interpolation=cv2.INTER_AREA
    )
    return picture
