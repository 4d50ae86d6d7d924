from __future__ import annotations

import numpy as np
import pytest

from edge_mnv2.readings import Percentiles
from edge_mnv2.telemetry.stages import RateMeter, SlidingTimes, StageTimes, percentiles_of

SECOND_NS = 1_000_000_000


def test_a_run_keeps_the_newest_twenty_thousand_of_each_stage() -> None:
    times = StageTimes()
    for _ in range(10_000):
        times.add("infer", 1000.0)
    for number in range(20_000):
        times.add("infer", float(number))
    times.add("sinks", 2.0)
    found = times.percentiles()
    assert list(found) == ["infer", "sinks"]
    assert found["infer"].p50_ms == pytest.approx(9999.5)
    assert found["sinks"] == Percentiles(2.0, 2.0, 2.0)
    times.clear()
    assert times.percentiles() == {}


def test_the_window_holds_the_same_as_a_list_would_at_changing_rates() -> None:
    window_s, random = 60.0, np.random.default_rng(3)
    times, frames, now_ns = SlidingTimes(window_s), [], 0
    for count, hz in ((900, 15), (9000, 150), (600, 10), (2000, 400), (300, 1)):
        for duration_ms in random.random(count):
            now_ns += int(SECOND_NS / hz)
            times.add(now_ns, {"infer": duration_ms})
            frames.append((now_ns, duration_ms))
        since_ns = now_ns - int(window_s * SECOND_NS)
        expected = [value for at_ns, value in frames if at_ns >= since_ns]
        assert np.sort(times.durations_ms(since_ns)["infer"]) == pytest.approx(np.sort(expected), rel=1e-6)
        assert len(times.times_ns(since_ns)) == len(expected)
        one, other = (
            percentiles_of(times.durations_ms(since_ns))["infer"],
            np.percentile(expected, (50, 95, 99)),
        )
        assert (one.p50_ms, one.p95_ms, one.p99_ms) == pytest.approx(tuple(other), rel=1e-5)
    assert times.capacity == 16_384


def test_beyond_the_most_the_newest_count() -> None:
    times = SlidingTimes(60.0)
    for number in range(100_000):
        times.add(number, {"infer": float(number)})
    assert times.capacity == 65_536
    assert times.durations_ms(0)["infer"].min() == 100_000 - 65_536


def test_forgotten_durations_leave_the_times() -> None:
    times = SlidingTimes(60.0)
    times.add(SECOND_NS, {"infer": 1.0})
    times.forget_durations()
    times.add(2 * SECOND_NS, {"run": 2.0})
    assert times.durations_ms(0) == {"run": np.float32(2.0)}
    assert sorted(times.times_ns(0)) == [SECOND_NS, 2 * SECOND_NS]


def test_the_rate_of_the_last_results() -> None:
    rate = RateMeter(window=3)
    assert rate.tick(0) is None
    assert rate.tick(SECOND_NS // 10) == pytest.approx(10.0)
    for number in range(3):
        found = rate.tick(SECOND_NS * (number + 1))
    assert found == pytest.approx(1.0)
