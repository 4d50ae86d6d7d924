"""Decides whether the daemon works: frames flow, or somebody visibly sees to a camera that is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_mnv2.readings import CameraFigures

# A camera that is away is opened again after pauses of some seconds, and each attempt ends after some seconds
# more: a supervisor that has not even tried for so long hangs.
DEFAULT_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class _Sign:
    """What a camera showed when it last moved, and when that was seen."""

    frames: int
    attempts: int
    state: str
    seen_ns: int


class Health:
    """Watches the figures of all cameras for movement. One thread uses it.

    Args:
        limit_s: So long each camera may show no movement: no new result, no change of state, no new attempt
            to open it.
        now_ns: A clock, `time.monotonic_ns` domain.
    """

    def __init__(
        self, limit_s: float = DEFAULT_LIMIT_S, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._limit_ns = int(limit_s * 1e9)
        self._now_ns = now_ns
        self._signs: dict[str, _Sign] = {}

    def stuck(self, cameras: Mapping[str, CameraFigures]) -> list[str]:
        """Return the names of cameras that show no movement, after a look at all of them.

        A camera that has ended by itself cannot be stuck.
        """
        now_ns = self._now_ns()
        for name in self._signs.keys() - cameras.keys():
            del self._signs[name]
        found = []
        for name, camera in cameras.items():
            sign = self._signs.get(name)
            moved = sign is None or (camera.frames, camera.attempts, camera.state) != (
                sign.frames,
                sign.attempts,
                sign.state,
            )
            if moved or sign is None:
                self._signs[name] = _Sign(camera.frames, camera.attempts, camera.state, now_ns)
            elif camera.state != "ended" and now_ns - sign.seen_ns > self._limit_ns:
                found.append(name)
        return found
