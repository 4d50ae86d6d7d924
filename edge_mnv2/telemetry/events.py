"""Changes that somebody should hear of: what begins, what ends, what happens again. Never a flood of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from edge_mnv2.readings import DeviceEvent, DeviceReading, Throttling

# What is away for less than this has not ended.
_FIRST_HOLD_S = 10.0
# What comes and goes is told less and less often.
_MOST_HOLD_S = 600.0
_FIRST_PAUSE_S, _MOST_PAUSE_S = 60.0, 3600.0


@dataclass(slots=True)
class _Condition:
    """Something that holds or not, and what was told of it.

    Attributes:
        is_told: Whether its beginning was told, and its end was not.
        began_ns: When it began.
        seen_ns: When it held last.
        ended_ns: When the last one ended.
        hold_s: For how long it must be away until its end is told.
    """

    is_told: bool = False
    began_ns: int = 0
    seen_ns: int = 0
    ended_ns: int | None = None
    hold_s: float = _FIRST_HOLD_S

    def begins(self, at_ns: int) -> bool:
        """Note that it holds now; return whether that is news."""
        self.seen_ns = at_ns
        if self.is_told:
            return False
        if self.ended_ns is not None:
            is_back = at_ns - self.ended_ns < 10 * self.hold_s * 1e9
            self.hold_s = min(2 * self.hold_s, _MOST_HOLD_S) if is_back else _FIRST_HOLD_S
        self.is_told, self.began_ns = True, at_ns
        return True

    def ends(self, at_ns: int) -> float | None:
        """Note that it does not hold now; return for how many seconds it held, if its end is news."""
        if not self.is_told or at_ns - self.seen_ns < self.hold_s * 1e9:
            return None
        self.is_told, self.ended_ns = False, at_ns
        return (self.seen_ns - self.began_ns) / 1e9


@dataclass(slots=True)
class _Count:
    """A counter: its value when it was told last, when it may be told again, and the last pause."""

    told: int
    due_ns: int
    pause_s: float = _FIRST_PAUSE_S / 2


@dataclass(slots=True)
class _Sensor:
    """A sensor by its name, and the condition that it gives something."""

    name: str = ""
    gives: _Condition = field(default_factory=_Condition)


class EventWatch:
    """Compares each reading with those before. One thread uses it.

    The beginning of a condition is told at once; its end when it is away for ten seconds, and for longer
    where it comes and goes. Counters are told at once, then at most once a minute, and ever more rarely while
    they go on, down to once an hour. What happened before the first reading is told once, then.
    """

    def __init__(self) -> None:
        self._conditions: dict[str, _Condition] = {}
        self._counts: dict[str, _Count] = {}
        self._since_boot: frozenset[str] | None = None
        self._mode: str | None = None
        self._sensors: dict[str, _Sensor] = {}

    def compare(self, reading: DeviceReading, at: datetime) -> list[DeviceEvent]:
        """Return what changed.

        Args:
            reading: The newest one; durations are counted by its `at_ns`.
            at: The same moment as wall time, with a time zone; texts give it as local time.
        """
        now, at_ns = reading.throttling, reading.at_ns
        power, heat = reading.power_w, reading.temperature_c
        events = []
        if now is not None:
            events += self._conditions_of(now, at_ns, at)
            for name, value in now.counts.items():
                events += self._count(name, value, at_ns, at)
        events += self._mode_of(reading.power_mode, at)
        told = None if now is None else now.sensor
        events += self._sensor("throttling sensor", told, at_ns, at)
        events += self._sensor("power sensor", None if power.value is None else power.sensor, at_ns, at)
        events += self._sensor("temperature sensor", None if heat.value is None else heat.sensor, at_ns, at)
        return events

    def _conditions_of(self, now: Throttling, at_ns: int, at: datetime) -> list[DeviceEvent]:
        events = []
        is_first, before = self._since_boot is None, self._since_boot or frozenset()
        for name in sorted(now.now | self._conditions.keys()):
            condition = self._conditions.setdefault(name, _Condition())
            if name in now.now:
                if condition.begins(at_ns):
                    when = f"{_clock(at)} or before" if is_first else _clock(at)
                    events.append(DeviceEvent(name, True, at, f"{name} since {when}"))
            elif (held_s := condition.ends(at_ns)) is not None:
                events.append(DeviceEvent(name, False, at, f"{name} ended after {duration(held_s)}"))
        # What is counted is told by its count.
        for name in sorted(now.since_boot - before - now.now - now.counts.keys()):
            when = "at some time since boot" if is_first else f"for a moment before {_clock(at)}"
            events.append(DeviceEvent(name, False, at, f"{name} {when}"))
        self._since_boot = before | now.since_boot | now.now
        return events

    def _count(self, name: str, value: int, at_ns: int, at: datetime) -> list[DeviceEvent]:
        count = self._counts.get(name)
        if count is None or value < count.told:  # a driver that was loaded again counts from 0
            self._counts[name] = _Count(value, at_ns)
            if count is not None or not value:
                return []
            return [DeviceEvent(name, False, at, f"{name}: {value} {_times(value)} since boot")]
        if value == count.told or at_ns < count.due_ns:
            return []
        more, goes_on = value - count.told, at_ns - count.due_ns < count.pause_s * 1e9
        count.pause_s = min(2 * count.pause_s, _MOST_PAUSE_S) if goes_on else _FIRST_PAUSE_S
        count.told, count.due_ns = value, at_ns + int(count.pause_s * 1e9)
        text = f"{name}: {more} more {_times(more)} until {_clock(at)}, {value} since boot"
        return [DeviceEvent(name, True, at, text)]

    def _mode_of(self, mode: str | None, at: datetime) -> list[DeviceEvent]:
        before = self._mode
        self._mode = mode or before
        if mode is None or before in (None, mode):
            return []
        return [DeviceEvent("power mode", True, at, f"power mode {mode} since {_clock(at)}, before {before}")]

    def _sensor(self, kind: str, name: str | None, at_ns: int, at: datetime) -> list[DeviceEvent]:
        """Tell that a sensor that gave something gives nothing for a while, or gives something again."""
        sensor = self._sensors.setdefault(kind, _Sensor())
        silent_ns = at_ns - sensor.gives.seen_ns
        if name is not None:
            is_known, sensor.name = bool(sensor.name), name
            if not sensor.gives.begins(at_ns) or not is_known:
                return []
            text = f"{kind} {name} is back after {duration(silent_ns / 1e9)}"
            return [DeviceEvent(f"{kind} lost", False, at, text)]
        if sensor.gives.ends(at_ns) is None:
            return []
        since = at - timedelta(microseconds=silent_ns / 1e3)
        text = f"{kind} {sensor.name} gives nothing since {_clock(since)}"
        return [DeviceEvent(f"{kind} lost", True, at, text)]


def duration(span_s: float) -> str:
    """Return `less than 1 s`, `42 s`, `3 min 5 s`, `2 h 10 min`, or `3 d 4 h`."""
    seconds = round(span_s)
    if not seconds:
        return "less than 1 s"
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%H:%M:%S")


def _times(count: int) -> str:
    return "time" if count == 1 else "times"
