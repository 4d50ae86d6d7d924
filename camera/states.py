"""What a supervised camera is doing, and why: opening, live, stalled, lost, reconnecting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class CameraState(str, Enum):
    """What a camera is doing."""

    OPENING = "opening"  # for the first time
    LIVE = "live"  # frames come
    STALLED = "stalled"  # open, but no frame for too long
    LOST = "lost"  # it failed, or stalled for too long, and was closed
    RECONNECTING = "reconnecting"  # it is being opened again


@dataclass(frozen=True, slots=True)
class StateChange:
    """One change of state.

    Attributes:
        state: From now on.
        reason: Why, as a sentence without credentials; empty where the state says it all.
        at_ns: When, in the domain of `time.monotonic_ns`.
        lost_since_ns: Since when there is no picture: time of the last frame; None while it is live or
            before the first frame.
        attempt: How often it was opened since it was live, 0 for the first.
    """

    state: CameraState
    reason: str
    at_ns: int
    lost_since_ns: int | None = None
    attempt: int = 0


OnState = Callable[[StateChange], None]
