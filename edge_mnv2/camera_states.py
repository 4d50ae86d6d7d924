"""A camera's changes of state on their way from its thread to the loop."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

from camera import CameraState, StateChange
from edge_mnv2.results import CameraStatus


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
