"""Energy: power integrated over time, and power out of counters of energy."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_mnv2.readings import Energy
from edge_mnv2.telemetry.sysfs import SysFile

Clock = Callable[[], int]

# Counters move about once in a millisecond: a difference over less than this is mostly its own granularity.
_MIN_SPAN_NS = 10_000_000
# Over more, a 32-bit counter may have wrapped more than once (65 kJ at 200 W: 5 minutes).
_MAX_SPAN_NS = 120_000_000_000
# No processor takes more: the counter was reset, such as while the device slept.
_MAX_POWER_W = 5000.0


class EnergyMeter:
    """Integrates readings of power by the trapezoid rule.

    A gap does not count, neither its energy nor its time: a reading without a value, or more than `max_gap_s`
    between two readings. Whoever reads at an interval gives a multiple of it.

    Args:
        max_gap_s: The longest time between two readings that is integrated over.
    """

    def __init__(self, max_gap_s: float = 10.0) -> None:
        self._max_gap_ns = round(max_gap_s * 1e9)
        self._last: tuple[int, float] | None = None
        self._total_j: float | None = None
        self._span_ns = 0

    def add(self, at_ns: int, power_w: float | None) -> None:
        """Take a reading.

        Args:
            at_ns: When it was read, `time.monotonic_ns` domain; one that is not after the last is left out.
            power_w: None where it was unavailable.
        """
        if power_w is None:
            self._last = None
            return
        if self._total_j is None:
            self._total_j = 0.0
        if self._last is not None:
            last_ns, last_w = self._last
            if at_ns <= last_ns:
                return
            if at_ns - last_ns <= self._max_gap_ns:
                self._total_j += (last_w + power_w) / 2 * (at_ns - last_ns) / 1e9
                self._span_ns += at_ns - last_ns
        self._last = (at_ns, power_w)

    def energy(self, idle_w: float | None = None) -> Energy:
        """Return the energy so far; its total is None until power was known for the first time.

        Args:
            idle_w: Remembered idle power of this sensor, to be subtracted by whoever wants to.
        """
        return Energy(self._total_j, self._span_ns / 1e9, idle_w)


class EnergyCounter:
    """Mean power between two readings of a counter that only grows, and wraps.

    The first reading is taken here, so that power is known from the next one on.

    Args:
        name: Of the rail.
        file: The counter, in microjoules.
        range_uj: What it counts up to before it starts again at 0; None if nobody knows.
        clock: Tells the time in nanoseconds; read at once after the counter.
    """

    def __init__(
        self, name: str, file: SysFile, range_uj: int | None = None, clock: Clock = time.monotonic_ns
    ) -> None:
        self.name = name
        self._file = file
        self._range_uj = range_uj
        self._clock = clock
        self._power_w: float | None = None
        self._last = self._count()

    @property
    def is_readable(self) -> bool:
        """Whether the last reading of the counter worked."""
        return self._last is not None

    def read(self) -> float | None:
        """Return the mean power since the last reading, in watts; None where it cannot be told."""
        now, last = self._count(), self._last
        if now is not None and last is not None and 0 <= now[0] - last[0] < _MIN_SPAN_NS:
            return self._power_w
        self._last = now
        self._power_w = None if now is None or last is None else self._mean(last, now)
        return self._power_w

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _count(self) -> tuple[int, int] | None:
        """Return the time in nanoseconds, and the counter's value in microjoules."""
        value = self._file.read_int()
        return None if value is None else (self._clock(), value)

    def _mean(self, last: tuple[int, int], now: tuple[int, int]) -> float | None:
        span_ns, energy_uj = now[0] - last[0], now[1] - last[1]
        if energy_uj < 0 and self._range_uj is not None:
            energy_uj += self._range_uj
        if energy_uj < 0 or not 0 < span_ns <= _MAX_SPAN_NS:
            return None
        power_w = energy_uj * 1e3 / span_ns  # microjoules per nanosecond are kilowatts
        return power_w if power_w <= _MAX_POWER_W else None
