"""A camera's changes of state on their way from its thread to the loop."""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import datetime, timedelta, timezone

from camera import CameraState, StateChange
from edge_mnv2.results import CameraStatus

# A camera that comes and goes all the time must not fill the memory.
_MOST_WAITING = 64


class StateBox:
    """Takes changes from any thread; the loop takes them out."""

    def __init__(self) -> None:
        self._changes: deque[StateChange] = deque(maxlen=_MOST_WAITING)
        self._lock = threading.Lock()

    def put(self, change: StateChange) -> None:
        """Add a change; the oldest goes where nobody takes them."""
        with self._lock:
            self._changes.append(change)

    def take(self) -> list[StateChange]:
        """Return what came since the last call."""
        with self._lock:
            changes = list(self._changes)
            self._changes.clear()
        return changes


def to_status(origin: str, change: StateChange, *, is_change: bool = True, camera: str = "") -> CameraStatus:
    """Return a change as sinks take it, with wall times; see `CameraStatus`."""
    now, now_ns = datetime.now(timezone.utc), time.monotonic_ns()

    def wall_time(at_ns: int) -> datetime:
        return now - timedelta(microseconds=(now_ns - at_ns) // 1000)

    return CameraStatus(
        origin=origin,
        state=change.state.value,
        reason=change.reason,
        at=wall_time(change.at_ns),
        lost_since=None if change.lost_since_ns is None else wall_time(change.lost_since_ns),
        attempt=change.attempt,
        is_change=is_change,
        shown_ns=now_ns,
        camera=camera,
    )


def is_away(change: StateChange) -> bool:
    """Return whether there is no picture now although there was one."""
    return change.lost_since_ns is not None and change.state is not CameraState.LIVE
