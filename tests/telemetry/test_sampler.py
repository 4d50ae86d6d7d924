from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edge_mnv2.readings import DeviceEvent, DeviceReading, PowerReading, Reading, Throttling
from edge_mnv2.telemetry.device import DeviceSensors
from edge_mnv2.telemetry.idle_power import IdlePower, remember_idle
from edge_mnv2.telemetry.sampler import DeviceSampler, Sensors
from tests.telemetry.heat_trees import BOARDS, Machine, agx_orin, orin_nano, pi_4

FAST_S = 0.01
PATIENCE_S = 30.0


class Script:
    """Sensors that say what a function says for each reading, counted from 0."""

    def __init__(self, say: Callable[[int], DeviceReading]) -> None:
        self.say = say
        self.readings = 0
        self.is_closed = False

    def read(self) -> DeviceReading:
        self.readings += 1
        return self.say(self.readings - 1)

    def close(self) -> None:
        self.is_closed = True


def until(happened: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.005)


def reading(power_w: float | None = None, *now: str) -> DeviceReading:
    total = Reading() if power_w is None else Reading(power_w, "measured", "meter")
    throttling = Throttling(frozenset(now), frozenset(now), sensor="test")
    return DeviceReading(
        power_w=total, power=PowerReading(total), throttling=throttling, at_ns=time.monotonic_ns()
    )


@contextmanager
def sampling(
    sensors: Sensors | Callable[[], Sensors],
    on_event: Callable[[DeviceEvent], None] | None = None,
    idle_path: Path | None = None,
    interval_s: float = FAST_S,
) -> Iterator[DeviceSampler]:
    sampler = DeviceSampler(
        sensors if callable(sensors) else lambda: sensors,
        interval_s,
        on_event,
        idle_path or Path("/nowhere/idle.json"),
    )
    try:
        yield sampler
    finally:
        sampler.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def real(found: Machine) -> Callable[[], DeviceSensors]:
    return lambda: DeviceSensors(
        found.sys, found.proc, found.root, vcgencmd=found.firmware, tegrastats=None, nvpmodel=lambda: None
    )


@pytest.mark.parametrize("board", BOARDS)
def test_each_board_is_sampled_and_everything_is_closed(board: str, tmp_path: Path) -> None:
    found = BOARDS[board](tmp_path)
    threads, open_files = threading.active_count(), descriptors()
    with sampling(real(found)) as sampler:
        assert sampler.wait(PATIENCE_S)
        first = sampler.latest()
        until(lambda: sampler.latest().at_ns > first.at_ns)

        def is_quarter() -> bool:
            found.spend(busy=10, idle=30)
            return sampler.latest().cpu_share == 0.25

        until(is_quarter)
        latest = sampler.latest()
        assert (latest.temperature_c.value is None) is (board == "bare VM")
        held = descriptors()
        until(lambda: sampler.latest().at_ns > latest.at_ns + 50_000_000)
        assert descriptors() == held
    assert threading.active_count() == threads
    assert descriptors() == open_files


def test_nothing_is_known_before_the_first_reading() -> None:
    allowed = threading.Event()

    def say(_: int) -> DeviceReading:
        allowed.wait(PATIENCE_S)
        return reading(3.0)

    with sampling(Script(say)) as sampler:
        assert sampler.latest() == DeviceReading()
        assert not sampler.wait(0.0)
        allowed.set()
        assert sampler.wait(PATIENCE_S)
        assert sampler.latest().power_w.value == 3.0


def test_energy_of_another_sensor_begins_anew() -> None:
    def say(number: int) -> DeviceReading:
        meter = Reading(10.0, "measured", "battery" if number < 3 else "board")
        return replace(reading(10.0), power_w=meter, at_ns=number * 1_000_000_000)

    script = Script(say)
    with sampling(script) as sampler:
        until(lambda: script.readings > 6)
    # Six seconds in all, of which the board's began at the fourth reading.
    span_s = script.readings - 4
    assert sampler._latest.energy.span_s == span_s
    assert sampler._latest.energy.total_j == pytest.approx(10.0 * span_s)


def test_energy_is_integrated_and_gaps_do_not_count() -> None:
    start_ns = time.monotonic_ns()
    powers = [2.0, 4.0, None, 6.0, 6.0, 6.0]

    def say(number: int) -> DeviceReading:
        one = reading(powers[min(number, 5)])
        return DeviceReading(power_w=one.power_w, at_ns=start_ns + min(number, 5) * 1_000_000_000)

    with sampling(script := Script(say)) as sampler:
        until(lambda: script.readings > 10)
        energy = sampler.latest().energy
    assert (energy.total_j, energy.span_s, energy.idle_w) == (pytest.approx(3.0 + 12.0), 3.0, None)


def test_idle_power_of_the_present_sensor_is_recalled(tmp_path: Path) -> None:
    path = tmp_path / "idle.json"
    remember_idle("meter", IdlePower(1.5, 60.0, 0.02, "2026-05-04T12:00:00+00:00"), path)
    remember_idle("other", IdlePower(9.0, 60.0, 0.02, "2026-05-04T12:00:00+00:00"), path)
    with sampling(Script(lambda _: reading(3.0)), idle_path=path) as sampler:
        assert sampler.wait(PATIENCE_S)
        assert sampler.latest().energy.idle_w == 1.5
        until(lambda: sampler.latest().energy.span_s > 0)
        assert sampler.latest().energy.above_idle_j == pytest.approx(1.5 * sampler.latest().energy.span_s)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", json.dumps({"meter": 3}), json.dumps({"meter": {"power_w": "x"}})]
)
def test_damaged_idle_power_does_not_end_it(content: str, tmp_path: Path) -> None:
    path = tmp_path / "idle.json"
    path.write_text(content)
    with sampling(script := Script(lambda _: reading(3.0)), idle_path=path) as sampler:
        until(lambda: script.readings > 3)
        assert sampler.latest().power_w.value == 3.0
        assert sampler.latest().energy.idle_w is None


def test_events_are_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    events: list[DeviceEvent] = []
    caplog.set_level(logging.INFO)
    with sampling(Script(lambda number: reading(3.0, *(["throttled"] if number else []))), events.append):
        until(lambda: events)
    assert [event.name for event in events] == ["throttled"]
    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", events[0].text)]


def test_a_listener_that_raises_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: DeviceEvent) -> None:
        raise RuntimeError("no broker")

    with sampling(script := Script(lambda number: reading(3.0, *(["a", "b"] if number else []))), fail):
        until(lambda: script.readings > 5)
    failures = [record.message for record in caplog.records if "no broker" in record.message]
    assert failures == ["telling of an event: RuntimeError: no broker"]


def test_sensors_that_raise_are_unavailable_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def say(number: int) -> DeviceReading:
        if number < 20:
            raise ValueError("bus error")
        return reading(3.0)

    with sampling(script := Script(say)) as sampler:
        until(lambda: script.readings > 5)
        assert sampler.latest().power_w == Reading()
        until(lambda: sampler.latest().power_w.value == 3.0)
    assert [record.message for record in caplog.records] == ["reading sensors: ValueError: bus error"]
    assert script.is_closed


def test_sensors_that_cannot_be_opened_are_looked_for_again() -> None:
    attempts = []

    def open_sensors() -> Sensors:
        attempts.append(1)
        if len(attempts) < 4:
            raise OSError("not yet")
        return Script(lambda _: reading(3.0))

    with sampling(open_sensors) as sampler:
        until(lambda: sampler.latest().power_w.value == 3.0)
    assert len(attempts) == 4


def test_a_sensor_that_hangs_holds_nobody_up_and_old_values_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge_mnv2.telemetry.sampler._STALE_S", 0.2)
    monkeypatch.setattr("edge_mnv2.telemetry.sampler._CLOSE_S", 0.2)
    hanging = threading.Event()

    def say(number: int) -> DeviceReading:
        if number == 3:
            hanging.wait(PATIENCE_S)
        return reading(3.0)

    script = Script(say)
    with ExitStack() as stack:
        sampler = stack.enter_context(sampling(script))
        stack.callback(hanging.set)
        until(lambda: script.readings == 4)
        until(lambda: sampler.latest().power_w == Reading())
        latest = sampler.latest()
        assert latest.throttling is None
        assert latest.at_ns > 0
        assert latest.energy.total_j is not None
        started_s = time.monotonic()
        sampler.close()
        assert time.monotonic() - started_s < 10
        assert "left behind" in caplog.text
        hanging.set()
        until(lambda: script.is_closed)


def test_closing_again_does_nothing_and_waits_for_no_interval() -> None:
    with sampling(script := Script(lambda _: reading()), interval_s=3600.0) as sampler:
        assert sampler.wait(PATIENCE_S)
        sampler.close()
        sampler.close()
        assert script.is_closed


def test_a_real_sequence_on_a_pi(tmp_path: Path) -> None:
    found = pi_4(tmp_path)
    file = found.sys / "devices/platform/soc/soc:firmware/get_throttled"
    events: list[DeviceEvent] = []
    with sampling(real(found), events.append) as sampler:
        assert sampler.wait(PATIENCE_S)
        assert not events
        file.write_text("50005\n")
        until(lambda: len(events) == 2)
        assert sampler.latest().throttling == Throttling(
            frozenset({"under-voltage", "throttled"}),
            frozenset({"under-voltage", "throttled"}),
            sensor="get_throttled",
        )
    assert {event.name for event in events} == {"under-voltage", "throttled"}
    assert all(event.is_active and " since " in event.text for event in events)


def test_a_real_sequence_on_an_orin(tmp_path: Path) -> None:
    found = orin_nano(tmp_path)
    events: list[DeviceEvent] = []
    with sampling(real(found), events.append):
        until(lambda: len(events) == 2)
        (found.sys / "class/hwmon/hwmon3/oc3_event_cnt").write_text("39\n")
        until(lambda: len(events) == 3)
        (found.root / "var/lib/nvpmodel/status").write_text("pmode:0000\n")
        until(lambda: len(events) == 4)
    assert "2 more times" in events[2].text
    assert events[3].text.startswith("power mode MAXN since ")


def test_a_power_sensor_that_vanishes_is_unavailable_and_counts_no_energy(tmp_path: Path) -> None:
    found = agx_orin(tmp_path)
    with sampling(real(found)) as sampler:
        until(lambda: sampler.latest().energy.span_s > 0)
        (found.sys / "class/hwmon/hwmon3/curr1_input").unlink()
        until(lambda: sampler.latest().power_w.value is None)
        energy, at_ns = sampler.latest().energy, sampler.latest().at_ns
        until(lambda: sampler.latest().at_ns > at_ns + 100_000_000)
        assert sampler.latest().energy == energy
        found.write({"class/hwmon/hwmon3/curr1_input": "200"})
        until(lambda: sampler.latest().power_w.value == pytest.approx(10.301, abs=0.001))
        until(lambda: sampler.latest().energy.span_s > energy.span_s)
