"""A source that is read by a thread of this process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from camera.base import Frame, FrameSource, SourceInfo
from camera.bounded import finish_within
from camera.errors import BadFrameError, CameraError
from camera.handover import Handover, info_in_time
from camera.left_behind import check_left_behind

_END_S = 1.0

_log = logging.getLogger(__name__)


class ThreadReader:
    """Reads a source in a daemon thread; see `camera.timed.TimedSource`. It is opened once.

    A driver that hangs keeps that thread: it is left behind, and the next attempt gets a new source and a new
    thread.

    Args:
        make: Makes the source; called in the thread.
        name: Of the camera, without credentials.
        left_behind: Threads that hang, of this and earlier attempts: one list for all readers of a camera.
    """

    def __init__(
        self,
        make: Callable[[], FrameSource],
        name: str,
        left_behind: list[threading.Thread],
    ) -> None:
        self._make = make
        self._name = name
        self._left_behind = left_behind
        self._handover = Handover()
        self._closing = threading.Lock()
        self._is_closed = False
        self._source: FrameSource | None = None
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """Frames that were lost between the source and `read`."""
        return self._handover.dropped

    def open(self, timeout_s: float) -> SourceInfo:
        """Start the thread and wait until its source is open."""
        check_left_behind(
            self._left_behind,
            f"threads hang in the driver of {self._name}: start the program anew, and let a process of its "
            "own read this camera (isolation: process).",
        )
        with self._closing:
            if self._is_closed or self._thread is not None:
                raise CameraError(f"{self._name} was opened or closed before.")
            self._thread = threading.Thread(target=self._run, name=f"camera {self._name}", daemon=True)
            self._thread.start()
        return info_in_time(self._handover, self._name, timeout_s)

    def read(self, timeout_s: float) -> Frame | None:
        """Wait for the next frame."""
        return self._handover.take(timeout_s)

    def close(self) -> None:
        """Close the source, and leave the thread behind if it hangs."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            thread, source = self._thread, self._source
        self._handover.close()
        if thread is None:
            return
        if source is not None:
            finish_within(lambda: self._close(source))  # it may wake the thread
        thread.join(_END_S)
        if thread.is_alive():
            self._left_behind.append(thread)
            _log.warning(
                "%s hangs in its driver: thread number %d is left behind", self._name, len(self._left_behind)
            )

    def _run(self) -> None:
        try:
            self._read_on()
        except CameraError as error:
            self._handover.end(error)
        except Exception as error:  # noqa: BLE001 - whatever a vendor's library raises is a camera's failure
            _log.debug("%s failed", self._name, exc_info=True)
            self._handover.end(
                CameraError(f"The camera's driver failed with {type(error).__name__}: {error}")
            )
        finally:
            if self._source is not None:
                self._close(self._source)

    def _read_on(self) -> None:
        source = self._make()
        with self._closing:
            self._source = source
        self._handover.put_info(source.open())
        while not self._handover.has_ended:
            try:
                self._handover.put(source.read())
            except BadFrameError as error:
                self._handover.put_bad(error)

    def _close(self, source: FrameSource) -> None:
        try:
            source.close()
        except Exception:  # noqa: BLE001 - it is given up anyway
            _log.debug("%s cannot be closed", self._name, exc_info=True)
