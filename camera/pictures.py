"""Pictures: one, a folder, or a glob. Lossless; a bad picture is reported and the next one follows."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camera.base import Frame, SourceInfo
from camera.errors import BadFrameError, EndOfStream, SourceNotFoundError

PICTURE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".jpe", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)

_JPEG_START = b"\xff\xd8"
_SCAN, _END = 0xDA, 0xD9
# Inside a scan 0xFF is followed by a zero or is a restart marker; anything else is the next segment.
_NEXT_SEGMENT = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")


def is_picture(path: Path) -> bool:
    """Return whether the file's name is that of a picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures directly inside a folder, by name.

    Raises:
        SourceNotFoundError: There are none.
    """
    found = sorted(path for path in folder.iterdir() if is_picture(path) and path.is_file())
    if not found:
        raise SourceNotFoundError(
            f"The folder {folder} holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))})."
        )
    return found


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Decode a picture to (H, W, 3) uint8 BGR, turned as its EXIF orientation says; alpha is dropped.

    Raises:
        BadFrameError: The file is missing, empty, truncated, or not a picture.
    """
    import cv2

    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadFrameError(f"{path} cannot be read: {error.strerror}.") from error
    if not data:
        raise BadFrameError(f"{path} is empty (0 bytes).")
    # libjpeg fills what is missing with grey and only mutters: a truncated picture would pass for a good one.
    if data.startswith(_JPEG_START) and is_truncated_jpeg(data):
        raise BadFrameError(f"{path} is truncated: copy it again.")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:  # more pixels than OpenCV accepts
        raise BadFrameError(f"{path} cannot be decoded: {error.err}.") from error
    # The stubs promise an array; the function returns None for what it cannot decode.
    if not isinstance(image, np.ndarray):
        raise BadFrameError(f"{path} is not a picture, or is damaged.")
    return image.astype(np.uint8, copy=False)


def is_truncated_jpeg(data: bytes) -> bool:
    """Return whether a JPEG ends before its end marker (ITU-T T.81, annex B).

    Segment after segment is walked through, so neither a thumbnail's end inside nor a film appended behind
    counts. What is not a segment where one must be is left to the decoder to judge.
    """
    position = len(_JPEG_START)
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == _END:
            return False
        if marker == 0xFF:  # padding
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _SCAN:
            following = _NEXT_SEGMENT.search(data, position)
            if following is None:
                return True
            position = following.end() - 2
    return not (position + 4 <= len(data) or data[position : position + 2] == bytes((0xFF, _END)))


class Pictures:
    """Some pictures, one after another.

    Args:
        paths: The files, in order.
        name: What messages call them.
    """

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self.paths = paths
        self.name = name
        self._seq = 0

    def open(self) -> SourceInfo:
        """Do nothing: each picture is opened in its turn; see `camera.base.FrameSource`."""
        return SourceInfo(self.name, False, None, len(self.paths), None, tuple(self.paths))

    def read(self) -> Frame:
        """Decode the next picture; see `camera.base.FrameSource`."""
        if self._seq >= len(self.paths):
            raise EndOfStream(f"{self.name} has no more pictures.")
        path, seq = self.paths[self._seq], self._seq
        self._seq += 1
        image = read_picture(path)
        return Frame(image, seq, time.monotonic_ns(), str(path))

    def close(self) -> None:
        """Do nothing: no file stays open between two pictures."""
