"""A camera that comes back: watched while it is read, opened again when it is lost."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from camera.base import Frame, SourceInfo
from camera.errors import (
    AccessDeniedError,
    BadFrameError,
    CameraError,
    EndOfStream,
    UnsupportedSourceError,
)
from camera.options import Supervision
from camera.pauses import Pauses
from camera.states import CameraState, OnState, StateChange
from camera.timed import TimedSource

# So many bad frames in a row, and the camera counts as lost.
_MAX_BAD = 30
# A slow camera may miss so many of its intervals before it counts as stalled.
_INTERVALS = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Time and chance, as tests replace them.

    Attributes:
        now_ns: The monotonic clock.
        chance: Uniform between 0 and 1.
        wait: Waits for an event so many seconds; returns whether it is set.
    """

    now_ns: Callable[[], int] = time.monotonic_ns
    chance: Callable[[], float] = random.random
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait


class Supervised:
    """A live source that outlives its device; see `camera.base.FrameSource`. It is opened once.

    `seq` goes on counting over a reconnection, without a gap: gaps are frames that were lost while the camera
    was there; how many it did not take while it was away, nobody knows.

    Args:
        make: Makes what is opened for each attempt.
        name: Of the camera, without credentials.
        supervision: When to give up and how to come back.
        on_state: Called with each change of state, in the thread that opens or reads.
        pace: For tests.
        has_user: Whether the camera is told a user: where it refuses, it is then asked seldom.

    Attributes:
        reconnects: How often the camera came back.
    """

    def __init__(
        self,
        make: Callable[[], TimedSource],
        name: str,
        supervision: Supervision,
        on_state: OnState | None = None,
        pace: Pace | None = None,
        *,
        has_user: bool = True,
    ) -> None:
        self.reconnects = 0
        self._make = make
        self._name = name
        self._supervision = supervision
        self._on_state = on_state
        self._pace = Pace() if pace is None else pace
        self._closed = threading.Event()
        self._swapping = threading.Lock()
        self._reader: TimedSource | None = None
        self._state = CameraState.OPENING
        self._reason = ""
        self._attempt = 0
        self._pauses = Pauses(supervision, has_user=has_user)
        # Of the last attempt. Not the error itself: its traceback holds the reader, with its shared memory.
        self._failure: type[CameraError] = CameraError
        self._away_since_ns = 0
        self._fps: float | None = None
        self._bad = 0
        self._bad_numbers = 0  # that are not yet seen as a gap
        self._waiting_since_ns = 0
        self._live_since_ns: int | None = None
        self._last_captured_ns: int | None = None
        self._last_seq = -1
        self._seq_offset = 0
        self._dropped = 0
        self._gaps = 0  # of the numbers in this life
        self._lost = 0

    @property
    def dropped(self) -> int:
        """Frames that the camera gave, and that were lost before `read`: newer ones came."""
        with self._swapping:
            return self._dropped + (self._reader.dropped if self._reader is not None else 0)

    @property
    def lost(self) -> int:
        """Frames that the source or its driver lost or passed over while the camera was there."""
        with self._swapping:
            return self._lost + self._lost_now(self._reader)

    def open(self) -> SourceInfo:
        """Open the camera for the first time.

        Raises:
            CameraError: It cannot be opened. With `retry_first`, only where the request is wrong:
            UnsupportedSourceError: The URI or its options are wrong.
            AccessDeniedError: It refuses user or password.
        """
        self._change(CameraState.OPENING)
        try:
            return self._open_reader()
        except CameraError as error:
            self._leave()
            is_request = isinstance(error, (UnsupportedSourceError, AccessDeniedError, EndOfStream))
            if is_request or not self._supervision.retry_first:
                raise
            self._lose(error)
            return SourceInfo(self._name, live=True, fps=None, frames=None, size=None)

    def read(self) -> Frame:
        """Wait for the next frame, however often the camera has to be opened again.

        Raises:
            BadFrameError: This one cannot be decoded.
            CameraError: The camera did not come back in `max_attempts`.
            EndOfStream: It ended regularly, or was closed.
        """
        while not self._closed.is_set():
            reader = self._reader
            if reader is None:
                self._try_open()
                continue
            frame = self._try_read(reader)
            if frame is not None:
                return frame
        raise EndOfStream(f"{self._name} was closed.")

    def close(self) -> None:
        """Close the camera, and wake whoever opens, waits or reads. Calling it again does nothing."""
        self._closed.set()
        self._leave()

    def _try_read(self, reader: TimedSource) -> Frame | None:
        """Return the next frame, None where the camera was lost instead."""
        try:
            frame = reader.read(self._patience_s())
        except BadFrameError as error:
            self._bad += 1
            self._bad_numbers += self._state is CameraState.LIVE
            if self._bad < _MAX_BAD:
                raise
            self._lose(CameraError(f"{self._bad} frames in a row could not be decoded. {error}"))
        except EndOfStream:
            self.close()
            raise
        except CameraError as error:
            self._lose(error)
        else:
            if frame is not None:
                self._note(frame)
                return frame
            silent_s = (self._pace.now_ns() - self._waiting_since_ns) / 1e9
            self._change(CameraState.STALLED, f"{self._name} gave no frame for {silent_s:.1f} s.")
            self._lose(CameraError(self._reason))
        return None

    def _try_open(self) -> None:
        """Make one attempt to open the camera again, after a pause."""
        supervision = self._supervision
        if supervision.max_attempts is not None and self._attempt >= supervision.max_attempts:
            raise CameraError(
                f"{self._name} did not come back in {self._attempt} attempts; it is given up. {self._reason}"
            )
        if self._pace.wait(self._closed, self._pause_s()):
            return
        self._attempt += 1
        self._change(CameraState.RECONNECTING, self._reason)
        try:
            self._open_reader()
        except CameraError as error:
            self._leave()
            self._failure, self._reason = type(error), str(error)

    def _pause_s(self) -> float:
        """Return how long to wait before the next attempt."""
        away_s = (self._pace.now_ns() - self._away_since_ns) / 1e9
        return self._pauses.next_s(self._failure, away_s, self._pace.chance())

    def _open_reader(self) -> SourceInfo:
        with self._swapping:
            if self._closed.is_set():
                raise EndOfStream(f"{self._name} was closed.")
            reader = self._reader = self._make()
        info = reader.open(self._supervision.open_timeout_s)
        self._fps = info.fps
        self._bad = self._bad_numbers = 0
        self._waiting_since_ns = self._pace.now_ns()
        return replace(info, live=True)

    def _patience_s(self) -> float:
        """Return how long the next frame is waited for."""
        stall_s = self._supervision.stall_s
        limit_s = max(stall_s, _INTERVALS / self._fps) if self._fps else stall_s
        if self._state is not CameraState.LIVE:
            # The first one: some cameras have to wake, others to reach a key frame.
            limit_s = max(limit_s, self._supervision.open_timeout_s)
        left_s = limit_s - (self._pace.now_ns() - self._waiting_since_ns) / 1e9
        # Whoever was away for longer, stopped by a signal perhaps, has to let the camera speak first.
        return max(left_s, stall_s / 4)

    def _note(self, frame: Frame) -> None:
        """Take a frame as a sign of life, and number it."""
        self._bad = 0
        self._waiting_since_ns = self._pace.now_ns()
        if self._state is CameraState.LIVE:
            gap = max(0, frame.seq + self._seq_offset - self._last_seq - 1)
            bad = min(gap, self._bad_numbers)  # these were told
            self._bad_numbers -= bad
            self._gaps += gap - bad
        else:
            if self._last_seq >= 0:
                self._seq_offset = self._last_seq + 1 - frame.seq
            self.reconnects += self._attempt > 0
            self._attempt = 0
            self._pauses.note_live()
            self._live_since_ns = self._waiting_since_ns
            self._change(CameraState.LIVE)
        # A driver may begin to count anew; a number must not come twice.
        self._seq_offset = max(self._seq_offset, self._last_seq + 1 - frame.seq)
        frame.seq += self._seq_offset
        self._last_seq = frame.seq
        self._last_captured_ns = frame.captured_ns

    def _lost_now(self, reader: TimedSource | None) -> int:
        """Return what was lost in this life: gaps in the numbers that are no drops of the reader."""
        return 0 if reader is None else max(0, self._gaps - reader.dropped)

    def _lose(self, error: CameraError) -> None:
        now_ns = self._pace.now_ns()
        self._failure, self._away_since_ns = type(error), now_ns
        since_ns, self._live_since_ns = self._live_since_ns, None
        self._pauses.note_lost(None if since_ns is None else (now_ns - since_ns) / 1e9)
        # Told first: to close a camera that hangs takes seconds.
        self._change(CameraState.LOST, str(error))
        self._leave()

    def _leave(self) -> None:
        """Close the reader, if there is one."""
        with self._swapping:
            reader, self._reader = self._reader, None
            if reader is not None:
                self._lost += self._lost_now(reader)
                self._gaps = 0
                self._dropped += reader.dropped
        if reader is not None:
            reader.close()

    def _change(self, state: CameraState, reason: str = "") -> None:
        if self._closed.is_set():
            return
        self._state, self._reason = state, reason
        since_ns = None if state is CameraState.LIVE else self._last_captured_ns
        change = StateChange(state, reason, self._pace.now_ns(), since_ns, self._attempt)
        if self._on_state is None:
            return
        try:
            self._on_state(change)
        except Exception:  # noqa: BLE001 - whoever watches must not stop the camera
            _log.exception("a watcher of %s failed", self._name)
