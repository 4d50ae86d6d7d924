"""Durations of the stages of a frame, and their percentiles: over a run, and over the last moments."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.readings import Percentiles

# Bounded, so that a run of months costs no more memory than a run of minutes.
_WINDOW = 20_000
# A minute of a thousand frames a second; two megabytes.
_FIRST_ROWS, _MOST_ROWS = 256, 65_536
_NEVER = np.iinfo(np.int64).min


class StageTimes:
    """Collects durations by stage; the newest 20,000 of each count, in memory that never grows."""

    def __init__(self) -> None:
        self._durations_ms: dict[str, NDArray[np.float64]] = {}
        self._counts: dict[str, int] = {}

    def add(self, stage: str, duration_ms: float) -> None:
        """Record one duration."""
        count = self._counts.get(stage, 0)
        if count == 0:
            # Written to at once, so that the kernel gives all of it now, and not page by page for an hour.
            self._durations_ms[stage] = np.full(_WINDOW, np.nan)
        self._durations_ms[stage][count % _WINDOW] = duration_ms
        self._counts[stage] = count + 1

    def clear(self) -> None:
        """Forget all durations."""
        self._durations_ms.clear()
        self._counts.clear()

    def percentiles(self) -> dict[str, Percentiles]:
        """Return the percentiles of each stage, in the order in which stages first came."""
        return {
            stage: _percentiles(durations_ms[: self._counts[stage]])
            for stage, durations_ms in self._durations_ms.items()
        }


class SlidingTimes:
    """Collects what each frame took, with the time; what is older than the window goes.

    It grows with the rate of frames up to 65,536 of them; beyond, the newest count. One thread at a time
    uses it.

    Args:
        window_s: How far back it must remember.
    """

    def __init__(self, window_s: float) -> None:
        self._window_ns = int(window_s * 1e9)
        self._at_ns = np.full(_FIRST_ROWS, _NEVER, np.int64)
        self._columns: dict[str, NDArray[np.float32]] = {}
        self._next = 0

    @property
    def capacity(self) -> int:
        """How many frames fit without growing."""
        return len(self._at_ns)

    def add(self, at_ns: int, durations_ms: Mapping[str, float]) -> None:
        """Record one frame.

        Args:
            at_ns: When, never before the last one.
            durations_ms: By stage.
        """
        row = self._next
        oldest_ns = self._at_ns[row]
        if oldest_ns != _NEVER and at_ns - int(oldest_ns) <= self._window_ns and self.capacity < _MOST_ROWS:
            row = self._grow()
        self._at_ns[row] = at_ns
        for stage, column in self._columns.items():
            column[row] = durations_ms.get(stage, np.nan)
        for stage in durations_ms:
            if stage not in self._columns:
                self._columns[stage] = np.full(self.capacity, np.nan, np.float32)
                self._columns[stage][row] = durations_ms[stage]
        self._next = (row + 1) % self.capacity

    def forget_durations(self) -> None:
        """Forget what frames took, but not when they came."""
        self._columns.clear()

    def times_ns(self, since_ns: int) -> NDArray[np.int64]:
        """Return when frames came since then, in no order."""
        return self._at_ns[self._at_ns >= since_ns]

    def durations_ms(self, since_ns: int) -> dict[str, NDArray[np.float32]]:
        """Return copies of the durations since then by stage, in no order; none is empty."""
        recent = self._at_ns >= since_ns
        found = {stage: column[recent] for stage, column in self._columns.items()}
        known = {stage: values[~np.isnan(values)] for stage, values in found.items()}
        return {stage: values for stage, values in known.items() if values.size}

    def _grow(self) -> int:
        """Double the room, the oldest first; return the first free row."""
        rows, oldest = self.capacity, self._next
        self._at_ns = np.concatenate([np.roll(self._at_ns, -oldest), np.full(rows, _NEVER, np.int64)])
        for stage, column in self._columns.items():
            free = np.full(rows, np.nan, np.float32)
            self._columns[stage] = np.concatenate([np.roll(column, -oldest), free])
        return rows


def percentiles_of(durations_ms: Mapping[str, NDArray[np.float32]]) -> dict[str, Percentiles]:
    """Return the percentiles of each stage; none may be empty."""
    return {stage: _percentiles(values) for stage, values in durations_ms.items()}


class RateMeter:
    """Results per second over the last ones, as the HUD shows it."""

    def __init__(self, window: int = 30) -> None:
        self._times_ns: deque[int] = deque(maxlen=window)

    def tick(self, now_ns: int) -> float | None:
        """Record a result; return the rate in Hz, None before there are two."""
        self._times_ns.append(now_ns)
        elapsed_ns = now_ns - self._times_ns[0]
        return (len(self._times_ns) - 1) * 1e9 / elapsed_ns if elapsed_ns > 0 else None


def _percentiles(values_ms: NDArray[np.floating]) -> Percentiles:
    p50_ms, p95_ms, p99_ms = np.percentile(values_ms.astype(np.float64, copy=False), (50, 95, 99))
    return Percentiles(float(p50_ms), float(p95_ms), float(p99_ms))
