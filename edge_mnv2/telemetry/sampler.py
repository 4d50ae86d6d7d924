"""One thread that reads the device's sensors once a second, for all who want to know."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from edge_mnv2.readings import DeviceEvent, DeviceReading
from edge_mnv2.telemetry.device import DeviceSensors
from edge_mnv2.telemetry.energy import EnergyMeter
from edge_mnv2.telemetry.events import EventWatch
from edge_mnv2.telemetry.idle_power import idle_power_path, recall_idle
from edge_mnv2.threads import Worker

T = TypeVar("T")

# Over a longer gap than this, or three intervals, energy is not guessed.
_MAX_GAP_S = 10.0
# A reading older than this, or five intervals, is not the present any more: a sensor hangs.
_STALE_S = 5.0
# Idle power may be measured by another process meanwhile.
_RECALL_INTERVAL_NS = 60_000_000_000
_CLOSE_S = 3.0
_MOST_TOLD = 20

_log = logging.getLogger(__name__)


class Sensors(Protocol):
    """What the sampler reads: `device.DeviceSensors`, or a stand-in."""

    def read(self) -> DeviceReading:
        """Return what every sensor says now."""

    def close(self) -> None:
        """Close all files."""


class DeviceSampler:
    """Reads the sensors in a thread of its own from now on, integrates energy, and tells of events.

    A sensor that fails or hangs neither ends it nor holds anybody else up.

    Args:
        open_sensors: Looks for the sensors; called in the sampler's thread, and again where it fails.
        interval_s: Between two readings.
        on_event: Called with each event in the sampler's thread; events go to the log, too.
        idle_path: Where idle power is remembered; None for the default.
    """

    def __init__(
        self,
        open_sensors: Callable[[], Sensors] = DeviceSensors,
        interval_s: float = 1.0,
        on_event: Callable[[DeviceEvent], None] | None = None,
        idle_path: Path | None = None,
    ) -> None:
        self._open_sensors = open_sensors
        self._interval_s = interval_s
        self._on_event = on_event
        self._idle = _IdleMemory(idle_path)
        self._max_gap_s = max(_MAX_GAP_S, 3 * interval_s)
        self._meter = EnergyMeter(self._max_gap_s)
        self._metered = ""
        self._watch = EventWatch()
        self._told: set[str] = set()
        self._latest = DeviceReading()
        self._stop = threading.Event()
        self._has_read = threading.Event()
        self._worker = Worker(self._run, "device sampler")

    def latest(self) -> DeviceReading:
        """Return the newest reading, at once and from any thread.

        Nothing is known before the first one. Where a sensor hangs, what was read before is not the present:
        everything but the energy is unavailable then, and `at_ns` tells since when.
        """
        latest = self._latest
        age_s = (time.monotonic_ns() - latest.at_ns) / 1e9
        if latest.at_ns and age_s > max(_STALE_S, 5 * self._interval_s):
            return DeviceReading(energy=latest.energy, at_ns=latest.at_ns)
        return latest

    def wait(self, timeout_s: float) -> bool:
        """Wait for the first reading; return whether it came in time."""
        return self._has_read.wait(timeout_s)

    def close(self, timeout_s: float = _CLOSE_S) -> None:
        """End the thread; a sensor that hangs is not waited for any longer. Again, it does nothing."""
        self._stop.set()
        if not self._worker.join(timeout_s):
            _log.warning("a sensor of the device does not answer: its thread is left behind")

    def _run(self) -> None:
        sensors: Sensors | None = None
        due_s = time.monotonic()
        try:
            while not self._stop.is_set():
                if sensors is None:
                    sensors = self._try("looking for sensors", self._open_sensors)
                reading = None if sensors is None else self._try("reading sensors", sensors.read)
                self._take(DeviceReading(at_ns=time.monotonic_ns()) if reading is None else reading)
                # What took too long is left out, not made up for.
                due_s = max(due_s + self._interval_s, time.monotonic())
                self._stop.wait(due_s - time.monotonic())
        finally:
            if sensors is not None:
                sensors.close()

    def _take(self, reading: DeviceReading) -> None:
        power = reading.power_w
        if power.sensor and power.sensor != self._metered:
            # Joules of a battery and of a board are no sum.
            self._meter, self._metered = EnergyMeter(self._max_gap_s), power.sensor
        self._meter.add(reading.at_ns, power.value)
        recall = partial(self._idle.recall, power.sensor, reading.at_ns)
        energy = self._meter.energy(self._try("recalling idle power", recall))
        self._latest = reading = replace(reading, energy=energy)
        self._has_read.set()
        for event in self._watch.compare(reading, datetime.now(timezone.utc)):
            is_bad = event.is_active and event.name != "power mode"
            _log.log(logging.WARNING if is_bad else logging.INFO, "%s", event.text)
            if self._on_event is not None:
                self._try("telling of an event", partial(self._on_event, event))

    def _try(self, what: str, act: Callable[[], T]) -> T | None:
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - telemetry goes on, whatever a sensor or a listener comes up with
            message = f"{what}: {type(error).__name__}: {error}"
            if message not in self._told and len(self._told) < _MOST_TOLD:
                self._told.add(message)
                _log.warning("%s", message)
            return None


class _IdleMemory:
    """The remembered idle power of the present sensor; the file is read when it has changed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._due_ns: int | None = None
        self._read: tuple[str, int] | None = None
        self._idle_w: float | None = None

    def recall(self, sensor: str, at_ns: int) -> float | None:
        """Return it in watts, None where it was never measured."""
        if not sensor:
            return None
        if self._read is None or self._read[0] != sensor or self._due_ns is None or at_ns >= self._due_ns:
            self._due_ns = at_ns + _RECALL_INTERVAL_NS
            path = self._path or idle_power_path()
            try:
                stamp = path.stat().st_mtime_ns
            except OSError:
                stamp = 0
            if self._read != (sensor, stamp):
                self._read = sensor, stamp
                idle = recall_idle(sensor, path) if stamp else None
                self._idle_w = None if idle is None else idle.power_w
        return self._idle_w
