"""Energy from power, and power from counters of energy."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mnv2.telemetry.energy import EnergyCounter, EnergyMeter
from edge_mnv2.telemetry.sysfs import SysFile

WATTS = st.floats(0, 100)
STEPS_NS = st.integers(1, 5_000_000_000)
S = 1_000_000_000


@given(st.lists(st.tuples(STEPS_NS, WATTS), min_size=1, max_size=50))
def test_it_is_the_trapezoid_rule(steps: list[tuple[int, float]]) -> None:
    at_ns = np.cumsum([step for step, _ in steps])
    powers = np.array([power_w for _, power_w in steps])
    meter = EnergyMeter(max_gap_s=5)
    for at, power_w in zip(at_ns.tolist(), powers.tolist(), strict=True):
        meter.add(at, power_w)
    times_s = (at_ns - at_ns[0]) / 1e9
    expected_j = float(np.sum((powers[1:] + powers[:-1]) / 2 * np.diff(times_s)))
    found = meter.energy()
    assert found.total_j == pytest.approx(expected_j, rel=1e-9, abs=1e-9)
    assert found.span_s == pytest.approx(float(times_s[-1]))


@given(st.lists(st.tuples(st.integers(1, 20_000_000_000), st.none() | WATTS), max_size=50))
def test_gaps_count_neither_as_energy_nor_as_time(steps: list[tuple[int, float | None]]) -> None:
    at_ns, meter = 0, EnergyMeter(max_gap_s=5)
    readings: list[tuple[int, float | None]] = []
    for step, power_w in steps:
        at_ns += step
        readings.append((at_ns, power_w))
        meter.add(at_ns, power_w)
    expected_j = span_ns = 0.0
    for (last_ns, last_w), (now_ns, now_w) in pairwise(readings):
        if last_w is not None and now_w is not None and now_ns - last_ns <= 5 * S:
            expected_j += float(np.mean([last_w, now_w])) * (now_ns - last_ns) / 1e9
            span_ns += now_ns - last_ns
    found = meter.energy()
    assert found.span_s == pytest.approx(span_ns / 1e9)
    if all(power_w is None for _, power_w in readings):
        assert found.total_j is None
    else:
        assert found.total_j == pytest.approx(expected_j, rel=1e-9, abs=1e-9)


def test_energy_is_unavailable_before_it_is_zero_and_stays_when_the_sensor_goes() -> None:
    meter = EnergyMeter()
    assert meter.energy().total_j is None
    meter.add(0, None)
    assert meter.energy().total_j is None
    meter.add(S, 4.0)
    assert meter.energy().total_j == 0.0
    meter.add(2 * S, 6.0)
    meter.add(3 * S, None)
    assert (meter.energy().total_j, meter.energy().span_s) == (5.0, 1.0)


def test_a_clock_that_stands_still_or_goes_back_adds_nothing() -> None:
    meter = EnergyMeter()
    for at_ns, power_w in ((2 * S, 4.0), (2 * S, 100.0), (1 * S, 100.0), (3 * S, 4.0)):
        meter.add(at_ns, power_w)
    assert (meter.energy().total_j, meter.energy().span_s) == (4.0, 1.0)


def test_what_is_beyond_idle() -> None:
    meter = EnergyMeter()
    for second in range(11):
        meter.add(second * S, 9.25)
    assert meter.energy(idle_w=4.0).above_idle_j == pytest.approx(52.5)
    assert meter.energy().above_idle_j is None


class Counter:
    """A counter of energy and its clock, both set by the test."""

    def __init__(self, path: Path, range_uj: int | None) -> None:
        self.path = path
        self.now_ns = 0
        self.set(0, 0)
        self.meter = EnergyCounter("package-0", SysFile(path), range_uj, lambda: self.now_ns)

    def set(self, at_s: float, energy_uj: int) -> None:
        self.now_ns = round(at_s * 1e9)
        self.path.write_text(f"{energy_uj}\n")

    def read(self, at_s: float, energy_uj: int) -> float | None:
        self.set(at_s, energy_uj)
        return self.meter.read()


@pytest.fixture
def counter(tmp_path: Path) -> Counter:
    return Counter(tmp_path / "energy_uj", range_uj=262_143_328_850)


def test_power_is_the_difference_over_time(counter: Counter) -> None:
    assert counter.read(1, 15_000_000) == 15.0
    assert counter.read(3, 45_000_000) == 15.0
    assert counter.read(4, 45_000_000) == 0.0
    counter.meter.close()


def test_a_counter_that_wraps(counter: Counter) -> None:
    counter.read(1, 262_143_328_850 - 4_000_000)
    assert counter.read(2, 6_000_000) == pytest.approx(10.0)
    counter.meter.close()


def test_a_counter_that_wraps_at_an_unknown_value_costs_one_reading(tmp_path: Path) -> None:
    counter = Counter(tmp_path / "energy1_input", range_uj=None)
    assert counter.read(1, 5_000_000) == 5.0
    assert counter.read(2, 1_000_000) is None
    assert counter.read(3, 8_000_000) == 7.0
    counter.meter.close()


def test_a_counter_that_was_reset_is_no_wrap(counter: Counter) -> None:
    """After a sleep it may begin at 0: taken for a wrap, that would be some 200 kW."""
    assert counter.read(1, 50_000_000) == 50.0
    assert counter.read(2, 0) is None
    assert counter.read(3, 7_000_000) == 7.0
    counter.meter.close()


def test_readings_too_close_or_too_far_apart(counter: Counter) -> None:
    assert counter.read(0.001, 900_000) is None
    assert counter.read(1, 8_000_000) == 8.0
    assert counter.read(1.001, 8_900_000) == 8.0  # the last one, not 900 W
    assert counter.read(2, 17_000_000) == 9.0
    assert counter.read(1000, 18_000_000) is None  # it may have wrapped meanwhile
    assert counter.read(1001, 28_000_000) == 10.0
    counter.meter.close()


def test_a_counter_that_vanishes_and_comes_back(counter: Counter) -> None:
    assert counter.read(1, 8_000_000) == 8.0
    counter.path.unlink()
    counter.now_ns = 2 * S
    assert counter.meter.read() is None
    assert counter.read(3, 16_000_000) is None  # there is nothing to compare with
    assert counter.read(4, 25_000_000) == 9.0
    counter.meter.close()
