"""The best sensor of power at any time: looked for at once, and again now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edge_mnv2.readings import PowerReading
from edge_mnv2.telemetry.power import RankedSensor, better_power_sensor
from edge_mnv2.telemetry.vcgencmd import Vcgencmd

# Drivers are bound one after the other while the system starts.
_SEARCH_INTERVAL_NS = 60_000_000_000
_START_NS = 600_000_000_000
_LATER_SEARCH_INTERVAL_NS = 600_000_000_000


class PowerWatch:
    """Reads the sensor that stands for the most, and takes a better one as soon as there is one.

    A search costs some milliseconds. There is one every minute in the first ten minutes, and while power is
    unavailable; every ten minutes later on. A sensor that is gone is waited for: a lesser one does not take
    its place, for its watts mean something else.

    Args:
        sys: Where the kernel's device tree is mounted.
        vcgencmd: Asks a Raspberry Pi's firmware.
        tegrastats: Command of a Jetson's tool; None to do without.
        clock_ns: Of the monotonic clock.
    """

    def __init__(
        self,
        sys: Path,
        vcgencmd: Vcgencmd | None,
        tegrastats: str | None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._better: Callable[[RankedSensor | None], RankedSensor | None] = lambda known: (
            better_power_sensor(known, sys, vcgencmd, tegrastats)
        )
        self._clock_ns = clock_ns
        self._known: RankedSensor | None = None
        self._begun_ns: int | None = None
        self._searched_ns = 0

    def read(self) -> PowerReading:
        """Return the power of now."""
        reading = PowerReading() if self._known is None else self._known.sensor.read()
        if self._is_due(reading) and self._search() and self._known is not None:
            return self._known.sensor.read()
        return reading

    def close(self) -> None:
        """Close the sensor."""
        if self._known is not None:
            self._known.sensor.close()

    def _is_due(self, reading: PowerReading) -> bool:
        now_ns = self._clock_ns()
        if self._begun_ns is None:
            self._begun_ns = self._searched_ns = now_ns
            return True
        often = reading.total_w.value is None or now_ns - self._begun_ns <= _START_NS
        if now_ns - self._searched_ns < (_SEARCH_INTERVAL_NS if often else _LATER_SEARCH_INTERVAL_NS):
            return False
        self._searched_ns = now_ns
        return True

    def _search(self) -> bool:
        """Look for a better sensor; return whether there is one now."""
        found = self._better(self._known)
        if found is None:
            return False
        if self._known is not None:
            self._known.sensor.close()
        self._known = found
        return True
