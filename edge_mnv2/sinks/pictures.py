"""Annotated pictures: one JPEG per frame."""

from __future__ import annotations

import errno
from collections import Counter
from datetime import timezone
from pathlib import Path

from edge_mnv2.errors import OutputPathError, SinkError
from edge_mnv2.files import write_atomically
from edge_mnv2.results import FrameResult

_JPEG_QUALITY = 90
_JPEG_MAX_SIDE = 65500  # of libjpeg


class PicturesSink:
    """Writes `NAME.jpg` for the picture NAME, or `NAME-000123.jpg` for frame 123 of a video or camera.

    Args:
        folder: Where to; made if it is not there.
        numbered: Whether file names carry the frame's number.
        dated: Whether numbered ones carry the time of capture, too: numbers begin anew with each run.

    Raises:
        OutputPathError: The folder cannot be made.
    """

    def __init__(self, folder: Path, *, numbered: bool, dated: bool = False) -> None:
        self._folder = folder
        self._dated = dated
        self._numbered = numbered
        self._stems: dict[str, str] = {}
        self._taken: Counter[str] = Counter()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputPathError(
                f"The folder {folder} cannot be made: {error.strerror}. Choose another path."
            ) from error

    def write(self, result: FrameResult) -> None:
        """Encode and write the frame's canvas."""
        import cv2

        if result.canvas is None:
            raise SinkError(f"{self._folder}: a result without a canvas cannot become a picture.")
        path = self._folder / self._file_name(result)
        if max(result.canvas.shape[:2]) > _JPEG_MAX_SIDE:
            path = path.with_suffix(".png")
        ok, data = cv2.imencode(path.suffix, result.canvas, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if not ok:
            raise SinkError(f"{path} cannot be encoded.")
        try:
            write_atomically(path, data.tobytes())
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            advice = "Make room or choose another disk." if full else "Choose another path."
            raise SinkError(f"{path} cannot be written: {error.strerror}. {advice}") from error

    def close(self) -> None:
        """Do nothing: no file stays open between two pictures."""

    def _file_name(self, result: FrameResult) -> str:
        stem = self._stems.get(result.origin)
        if stem is None:
            stem = Path(result.origin).stem.strip(":/") or "frame"
            # Two inputs may share a name: a/1.jpg and b/1.png.
            self._taken[stem] += 1
            if self._taken[stem] > 1:
                stem = f"{stem}-{self._taken[stem]}"
            self._stems[result.origin] = stem
        if self._numbered and self._dated:
            stem = f"{stem}-{result.captured_at.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}"
        return f"{stem}-{result.seq:06d}.jpg" if self._numbered else f"{stem}.jpg"
