"""Durations of the stages of a frame, and their percentiles."""

from __future__ import annotations

from collections import deque

import numpy as np

from edge_mnv2.readings import Percentiles

# Bounded, so that a run of months costs no more memory than a run of minutes.
_WINDOW = 20_000


class StageTimes:
    """Collects durations by stage; the newest 20,000 of each count."""

    def __init__(self) -> None:
        self._durations_ms: dict[str, deque[float]] = {}

    def add(self, stage: str, duration_ms: float) -> None:
        """Record one duration."""
        self._durations_ms.setdefault(stage, deque(maxlen=_WINDOW)).append(duration_ms)

    def clear(self) -> None:
        """Forget all durations."""
        self._durations_ms.clear()

    def percentiles(self) -> dict[str, Percentiles]:
        """Return the percentiles of each stage, in the order in which stages first came."""
        found = {}
        for stage, durations_ms in self._durations_ms.items():
            p50_ms, p95_ms, p99_ms = np.percentile(np.fromiter(durations_ms, np.float64), (50, 95, 99))
            found[stage] = Percentiles(float(p50_ms), float(p95_ms), float(p99_ms))
        return found


class RateMeter:
    """Results per second over the last ones, as the HUD shows it."""

    def __init__(self, window: int = 30) -> None:
        self._times_ns: deque[int] = deque(maxlen=window)

    def tick(self, now_ns: int) -> float | None:
        """Record a result; return the rate in Hz, None before there are two."""
        self._times_ns.append(now_ns)
        elapsed_ns = now_ns - self._times_ns[0]
        return (len(self._times_ns) - 1) * 1e9 / elapsed_ns if elapsed_ns > 0 else None
