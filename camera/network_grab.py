"""Takes frames out of FFmpeg's buffers: of a live stream the newest, and says how old it is."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from camera.network_clock import ArrivalClock, StreamClock

if TYPE_CHECKING:
    import cv2

# So long no picture is given out while older ones are passed over: a source may be faster than we are.
_MAX_PASSING_NS = 250_000_000
# What FFmpeg gathered while it looked at the stream lies there when it opens: about a second of pictures.
MAX_OPENING_S = 2.0
# Without the live edge for so long, it is looked for.
_EDGE_NS = 1_000_000_000
_MAX_LAG_NS = 100_000_000
# Whoever slept in a system call, and for that long, waited for the network.
_WAITED_NS = 1_000_000
# Where pictures are rare, the first one is worth more than the newest.
_LEAST_FPS = 2


@dataclass(frozen=True, slots=True)
class Grabbed:
    """A picture that lies ready to be decoded.

    Attributes:
        captured_ns: When it was taken, in the domain of `time.monotonic_ns`.
        passed: Older ones that were passed over.
    """

    captured_ns: int
    passed: int


class Grabber:
    """Grabs pictures of an open stream.

    Older ones are passed over, without converting their colours (a JPEG: without decoding it), where they lie
    in buffers for more than two intervals, and right after opening; of files, none.

    Whether a picture had to be waited for is told by how long the thread slept. It sleeps as well while other
    threads of this process hold Python's lock: where these are busy, pictures that lay in buffers may count
    as new, those without stamps above all. In a process of its own, a camera knows no such threads.

    Args:
        capture: An open stream.
        fps: Its rate, None where nobody knows.
        timeout_s: So long it may send nothing.
        live: Whether the newest picture wins.
        has_stamps: Whether the stream says when its pictures were taken.
    """

    def __init__(
        self, capture: cv2.VideoCapture, fps: float | None, timeout_s: float, *, live: bool, has_stamps: bool
    ) -> None:
        self._capture = capture
        self._timeout_s = timeout_s
        self._live = live
        self._max_lag_ns = int(2e9 / fps) if fps else _MAX_LAG_NS
        self._clock = StreamClock() if has_stamps else ArrivalClock()
        self._opening = live and has_stamps and fps is not None and fps >= _LEAST_FPS
        self._edge_ns: int | None = None
        self._is_first = True

    def grab(self) -> Grabbed:
        """Wait for a picture.

        Raises:
            EOFError: The stream ended.
            TimeoutError: Nothing came in time.
        """
        passed = 0
        began_ns: int | None = None
        limit_ns = int(MAX_OPENING_S * 1e9) if self._opening else _MAX_PASSING_NS
        is_behind = self._opening
        while True:
            arrived_ns, waited = self._grab_one()
            if not self._live:
                return Grabbed(arrived_ns, 0)
            captured_ns = self._clock.captured_ns(arrived_ns, self._stamp_ns(), waited=waited)
            if waited:
                self._edge_ns = arrived_ns
            began_ns = arrived_ns if began_ns is None else began_ns
            is_behind = is_behind or arrived_ns - captured_ns > self._max_lag_ns or self._is_lost(arrived_ns)
            # Once behind, on to the live edge.
            if waited or not is_behind or arrived_ns - began_ns >= limit_ns:
                self._opening = self._is_first = False
                return Grabbed(captured_ns, passed)
            passed += 1

    def _is_lost(self, now_ns: int) -> bool:
        """Return whether the live edge has to be looked for. The first picture is taken as it comes."""
        if self._edge_ns is None:
            return not self._is_first
        return now_ns - self._edge_ns > max(_EDGE_NS, self._max_lag_ns)

    def _grab_one(self) -> tuple[int, bool]:
        """Return when a picture arrived, and whether it had to be waited for."""
        # Voluntary switches alone: a picture that lies there is read without going to sleep, but others may
        # take the processor away at any time. Python's lock, however, is slept for as the network is.
        slept, cpu_ns = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw, time.thread_time_ns()
        began_ns = time.monotonic_ns()
        ok = self._capture.grab()
        arrived_ns = time.monotonic_ns()
        idle_ns = arrived_ns - began_ns - (time.thread_time_ns() - cpu_ns)
        slept = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - slept
        # After a time-out OpenCV first hands out the frames that its decoder still holds: these are old.
        if arrived_ns - began_ns >= self._timeout_s * 1e9:
            raise TimeoutError
        if not ok:
            raise EOFError
        return arrived_ns, slept > 0 and idle_ns >= _WAITED_NS

    def _stamp_ns(self) -> int | None:
        import cv2

        stamp_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        return int(stamp_ms * 1e6) if 0 < stamp_ms < 1e12 else None
