"""From the thread that hears of a source to the one that reads: the newest frame, and what went wrong."""

from __future__ import annotations

import threading
from collections import deque
from copy import copy

from camera.base import Frame, SourceInfo
from camera.errors import BadFrameError, CameraError, EndOfStream

# So many bad frames are kept for a reader that is busy; older ones are forgotten.
_MAX_BAD = 100


class Handover:
    """What one source has to say; its thread puts, a reader takes.

    Attributes:
        dropped: Frames that a newer one displaced before they were taken.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._info: SourceInfo | None = None
        self._frame: Frame | None = None
        self._bad: deque[BadFrameError] = deque(maxlen=_MAX_BAD)
        self._end: CameraError | None = None
        self._closed = False
        self._changed = threading.Condition()

    @property
    def has_ended(self) -> bool:
        """Whether the source has said its last word, or nobody listens any more."""
        return self._closed or self._end is not None

    def put_info(self, info: SourceInfo) -> None:
        """Say that the source is open."""
        with self._changed:
            self._info = info
            self._changed.notify_all()

    def put(self, frame: Frame) -> None:
        """Offer a frame, which is released here where a newer one comes first."""
        with self._changed:
            displaced = frame if self._closed else self._frame
            if not self._closed:
                self._frame = frame
            self.dropped += displaced is not None
            self._changed.notify_all()
        if displaced is not None:
            displaced.release()

    def put_bad(self, error: BadFrameError) -> None:
        """Say that a frame could not be decoded."""
        with self._changed:
            self._bad.append(error)
            self._changed.notify_all()

    def end(self, error: CameraError) -> None:
        """Say the last word; only the first one counts. A frame that was put before can still be taken."""
        with self._changed:
            if self._end is None:
                self._end = error
            self._changed.notify_all()

    def wait_open(self, timeout_s: float) -> SourceInfo | None:
        """Wait for `put_info`; return what it said, None where it did not come in time.

        Raises:
            CameraError: The source ended before.
            EndOfStream: `close` was called.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._info is not None or self.has_ended, timeout_s)
            if self._info is None or self._closed:
                self._raise_end()
            return self._info

    def take(self, timeout_s: float) -> Frame | None:
        """Take the newest frame; the caller releases it. None where none came in time.

        Raises:
            BadFrameError: One could not be decoded.
            CameraError: The source ended, and its last frame was taken.
            EndOfStream: It ended regularly, or `close` was called.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._frame is not None or bool(self._bad) or self.has_ended, timeout_s
            )
            if self._bad and not self._closed:
                raise self._bad.popleft()
            frame, self._frame = self._frame, None
            if frame is None:
                self._raise_end()
            return frame

    def close(self) -> None:
        """Wake the reader, and release the frame that nobody took."""
        with self._changed:
            self._closed = True
            frame, self._frame = self._frame, None
            self._changed.notify_all()
        if frame is not None:
            frame.release()

    def _raise_end(self) -> None:
        if self._closed:
            raise EndOfStream("The camera was closed.")
        if self._end is not None:
            # The one that is kept must not get a traceback: that would hold this object, and with it all
            # shared memory, until a garbage collection that may never come.
            raise copy(self._end)


def info_in_time(handover: Handover, name: str, timeout_s: float) -> SourceInfo:
    """Return what an open source says of itself.

    Raises:
        CameraError: It ended before, or did not open in time.
        EndOfStream: `close` was called.
    """
    info = handover.wait_open(timeout_s)
    if info is None:
        raise CameraError(
            f"{name} did not open within {timeout_s:g} s: it does not answer, or its driver hangs."
        )
    return info
