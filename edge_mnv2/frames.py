"""Frames for the loop: the newest of a live source, every one of a file."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator

from camera import (
    BadFrameError,
    CameraError,
    EndOfStream,
    Frame,
    FrameSource,
    LatestSlot,
    SlotClosedError,
    SourceInfo,
)
from edge_mnv2.threads import Worker

# How long a stop request may go unnoticed while no frame comes.
_POLL_S = 0.1
# How long a reader gets to finish its frame before its source is closed under it, and afterwards.
_FINISH_S, _WAKE_S = 1.0, 5.0

_log = logging.getLogger(__name__)


def open_unless_stopped(source: FrameSource, stop: threading.Event) -> SourceInfo | None:
    """Open a source in a thread of its own; return None where a stop is asked for before it is open.

    A camera that does not answer must not keep the program from ending.

    Raises:
        CameraError: It cannot be opened.
    """
    found: list[SourceInfo] = []
    worker = Worker(lambda: found.append(source.open()), "open the source")
    while not worker.join(_POLL_S):
        if stop.is_set():
            source.close()
            if not worker.join(_WAKE_S):
                _log.error("the source does not stop: its driver hangs")
            return None
    worker.check()
    return found[0]


class FrameFeed:
    """The frames of an open source.

    Args:
        source: It is closed when a live feed ends.
        info: What it said when it was opened.
        stop: Set by whoever wants the feed to end.
        on_read: Called with the milliseconds that a lossless read took.
        prefix: What begins a message about this source.

    Attributes:
        bad_frames: Frames that could not be decoded. Those of files are logged one by one; of those of a
            camera, which may be many, the first, the tenth, the hundredth, and so on.
    """

    def __init__(
        self,
        source: FrameSource,
        info: SourceInfo,
        stop: threading.Event,
        on_read: Callable[[float], None],
        prefix: str = "",
    ) -> None:
        self.bad_frames = 0
        self._source = source
        self._info = info
        self._stop = stop
        self._on_read = on_read
        self._prefix = prefix
        self._ended = threading.Event()
        self._slot: LatestSlot[Frame] = LatestSlot()

    @property
    def dropped(self) -> int:
        """Live frames that a newer one displaced, here or in what the source does by itself."""
        return self._slot.dropped + int(getattr(self._source, "dropped", 0))

    @property
    def lost(self) -> int:
        """Live frames that the source or its driver lost or passed over."""
        return int(getattr(self._source, "lost", 0))

    def frames(self) -> Generator[Frame | None, None, None]:
        """Yield frames until the source ends or a stop is asked for; the caller releases them.

        A live source yields None where no frame came for a moment: the caller can see to other things.

        Raises:
            CameraError: The source failed.
        """
        return self._newest() if self._info.live else self._every()

    def _every(self) -> Generator[Frame, None, None]:
        while not self._stop.is_set():
            start_ns = time.perf_counter_ns()
            try:
                frame = self._source.read()
            except BadFrameError as error:
                self._note_bad(error)
                continue
            except EndOfStream:
                return
            self._on_read((time.perf_counter_ns() - start_ns) / 1e6)
            yield frame

    def _newest(self) -> Generator[Frame | None, None, None]:
        worker = Worker(self._capture, f"capture {self._info.name}")
        try:
            while not self._stop.is_set():
                try:
                    frame = self._slot.get(_POLL_S)
                except SlotClosedError as closed:
                    worker.join(_WAKE_S)
                    worker.check()
                    if closed.__cause__ is not None:
                        raise closed.__cause__ from None
                    return
                yield frame
        finally:
            self._end(worker)

    def _end(self, worker: Worker) -> None:
        """End the capture thread and release the frame that nobody took."""
        self._ended.set()
        self._slot.close()
        self._slot.drop()
        if not worker.join(_FINISH_S):
            self._source.close()
            if not worker.join(_WAKE_S):
                _log.error("%s%s does not stop: its driver hangs", self._prefix, self._info.name)

    def _capture(self) -> None:
        """Put frame after frame into the slot; runs in its own thread."""
        cause: CameraError | None = None
        try:
            while not self._ended.is_set():
                try:
                    self._slot.put(self._source.read())
                except BadFrameError as error:
                    self._note_bad(error)
        except EndOfStream:
            pass
        except CameraError as error:
            cause = error
        finally:
            self._slot.close(cause)

    def _note_bad(self, error: BadFrameError) -> None:
        self.bad_frames += 1
        count = self.bad_frames
        if not self._info.live:
            _log.error("%s%s", self._prefix, error)
        elif count == 1:
            _log.warning("%s%s", self._prefix, error)
        elif str(count).rstrip("0") == "1":
            _log.warning("%s%s (%d damaged frames by now)", self._prefix, error, count)
