from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from edge_mnv2.readings import DeviceEvent, DeviceReading, Reading, Throttling
from edge_mnv2.telemetry.events import EventWatch, duration

NOON = datetime(2026, 5, 4, 12, 3, 11, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Watched:
    """A watch that is given readings second by second."""

    def __init__(self) -> None:
        self.watch = EventWatch()
        self.seconds = 0

    def say(self, reading: DeviceReading, seconds: int = 1) -> list[DeviceEvent]:
        """Give the same reading for some seconds; return what was told."""
        events = []
        for _ in range(seconds):
            one = DeviceReading(
                temperature_c=reading.temperature_c,
                power_w=reading.power_w,
                throttling=reading.throttling,
                power_mode=reading.power_mode,
                at_ns=5_000_000_000 + self.seconds * 1_000_000_000,
            )
            events += self.watch.compare(one, NOON + timedelta(seconds=self.seconds))
            self.seconds += 1
        return events


def pi(*now: str, before: tuple[str, ...] = ()) -> DeviceReading:
    return DeviceReading(
        throttling=Throttling(frozenset(now), frozenset({*now, *before}), sensor="get_throttled")
    )


def orin(count: int) -> DeviceReading:
    return DeviceReading(
        throttling=Throttling(
            since_boot=frozenset({"over-current"} if count else ()),
            counts={"over-current": count},
            sensor="soctherm_oc",
        )
    )


def texts(events: list[DeviceEvent]) -> list[str]:
    return [event.text for event in events]


def test_nothing_happens_where_nothing_changes() -> None:
    watched = Watched()
    for reading in (DeviceReading(), pi(), orin(0)):
        assert not watched.say(reading, 30)


def test_a_condition_begins_and_ends() -> None:
    watched = Watched()
    assert not watched.say(pi())
    assert watched.say(pi("under-voltage")) == [
        DeviceEvent("under-voltage", True, NOON + timedelta(seconds=1), "under-voltage since 12:03:12")
    ]
    assert not watched.say(pi("under-voltage"), 42)
    ended = watched.say(pi(before=("under-voltage",)), 30)
    assert ended == [
        DeviceEvent("under-voltage", False, NOON + timedelta(seconds=53), "under-voltage ended after 42 s")
    ]


def test_conditions_are_told_one_by_one() -> None:
    watched = Watched()
    watched.say(pi())
    assert texts(watched.say(pi("throttled", "under-voltage"))) == [
        "throttled since 12:03:12",
        "under-voltage since 12:03:12",
    ]
    assert texts(watched.say(pi("throttled", before=("under-voltage",)), 20)) == [
        "under-voltage ended after less than 1 s"
    ]


def test_what_held_before_is_told_once_at_the_start() -> None:
    watched = Watched()
    reading = pi("throttled", before=("soft temperature limit",))
    assert [(event.text, event.is_active) for event in watched.say(reading)] == [
        ("throttled since 12:03:11 or before", True),
        ("soft temperature limit at some time since boot", False),
    ]
    assert not watched.say(reading, 100)


def test_a_moment_between_two_readings_is_told() -> None:
    watched = Watched()
    watched.say(pi(), 5)
    events = watched.say(pi(before=("under-voltage",)), 50)
    assert [(event.text, event.is_active) for event in events] == [
        ("under-voltage for a moment before 12:03:16", False)
    ]


def test_a_condition_that_flaps_is_told_once_until_it_rests() -> None:
    watched = Watched()
    watched.say(pi())
    events = []
    for _ in range(300):
        events += watched.say(pi("under-voltage"))
        events += watched.say(pi(), 3)
    assert texts(events) == ["under-voltage since 12:03:12"]
    assert texts(watched.say(pi(), 30)) == ["under-voltage ended after 19 min 56 s"]


def test_a_condition_that_comes_and_goes_slowly_is_told_ever_more_rarely() -> None:
    watched = Watched()
    watched.say(pi())
    events = []
    for _ in range(24 * 60):
        events += watched.say(pi("under-voltage"), 15)
        events += watched.say(pi(), 45)
    assert 2 <= len(events) <= 12
    # After an hour of rest, it is told as it was in the beginning.
    watched.say(pi(), 3 * 3600)
    assert len(watched.say(pi("under-voltage"), 5)) == 1
    assert texts(watched.say(pi(), 11)) == ["under-voltage ended after 4 s"]


def test_counts_are_told_at_once_then_once_a_minute_then_more_rarely() -> None:
    watched = Watched()
    assert texts(watched.say(orin(15))) == ["over-current: 15 times since boot"]
    assert not watched.say(orin(15), 9)
    assert texts(watched.say(orin(16))) == ["over-current: 1 more time until 12:03:21, 16 since boot"]
    events = [event for count in range(17, 77) for event in watched.say(orin(count))]
    assert texts(events) == ["over-current: 60 more times until 12:04:21, 76 since boot"]
    assert events[0].is_active
    events = [event for count in range(100, 100 + 8 * 3600) for event in watched.say(orin(count))]
    assert len(events) <= 15


def test_what_is_counted_in_a_pause_is_told_after_it() -> None:
    watched = Watched()
    watched.say(orin(0))
    assert len(watched.say(orin(1))) == 1
    assert not watched.say(orin(4), 59)
    assert texts(watched.say(orin(4), 10)) == ["over-current: 3 more times until 12:04:12, 4 since boot"]
    watched.say(orin(4), 3600)
    assert len(watched.say(orin(5))) == 1
    assert not watched.say(orin(6), 59)
    assert len(watched.say(orin(6))) == 1


def test_a_counter_that_begins_anew_is_no_event() -> None:
    watched = Watched()
    watched.say(orin(20))
    assert not watched.say(orin(0), 5)
    assert texts(watched.say(orin(2))) == ["over-current: 2 more times until 12:03:17, 2 since boot"]


def test_a_change_of_the_power_mode() -> None:
    watched = Watched()
    assert not watched.say(DeviceReading(power_mode="15W"), 3)
    assert not watched.say(DeviceReading(power_mode=None), 3)
    assert texts(watched.say(DeviceReading(power_mode="MAXN"), 3)) == [
        "power mode MAXN since 12:03:17, before 15W"
    ]


@pytest.mark.parametrize("kind", ["power", "temperature"])
def test_a_sensor_that_is_lost_and_comes_back(kind: str) -> None:
    def reading(value: float | None) -> DeviceReading:
        one = Reading() if value is None else Reading(value, "measured", "INA3221 VDD_IN")
        return DeviceReading(power_w=one) if kind == "power" else DeviceReading(temperature_c=one)

    watched = Watched()
    assert not watched.say(reading(None), 60)
    assert not watched.say(reading(5.0), 60)
    assert not watched.say(reading(None), 9), "some seconds are no news"
    assert not watched.say(reading(5.0))
    assert watched.say(reading(None), 100) == [
        DeviceEvent(
            f"{kind} sensor lost",
            True,
            NOON + timedelta(seconds=139),
            f"{kind} sensor INA3221 VDD_IN gives nothing since 12:05:20",
        )
    ]
    back = watched.say(reading(6.0), 10)
    assert [(event.name, event.is_active, event.text) for event in back] == [
        (f"{kind} sensor lost", False, f"{kind} sensor INA3221 VDD_IN is back after 1 min 41 s")
    ]


def test_a_condition_is_not_ended_by_a_sensor_that_is_lost() -> None:
    watched = Watched()
    watched.say(pi())
    watched.say(pi("throttled"))
    assert texts(watched.say(DeviceReading(), 60)) == [
        "throttling sensor get_throttled gives nothing since 12:03:12"
    ]
    assert texts(watched.say(pi("throttled"))) == ["throttling sensor get_throttled is back after 1 min 1 s"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "less than 1 s"),
        (1.2, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3600, "1 h 0 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text
