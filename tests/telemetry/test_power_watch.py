"""Sensors that appear, or become whole, after the first look."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_mnv2.readings import Reading
from edge_mnv2.telemetry.power_watch import PowerWatch
from tests.telemetry import trees


class Watched:
    """A watch over a tree of sensors; time passes by asking alone."""

    def __init__(self, sys: Path) -> None:
        self.now_ns = 0
        self.watch = PowerWatch(sys, None, None, lambda: self.now_ns)

    def after(self, seconds: float) -> Reading:
        self.now_ns += round(seconds * 1e9)
        return self.watch.read().total_w


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    found = Watched(tmp_path)
    yield found
    found.watch.close()


def one_chip(root: Path) -> None:
    trees.ina3221_hwmon(root, "1-0040", 3, [("VDD_GPU_SOC", 19000, 200), ("VDD_CPU_CV", 19000, 100), None])


def other_chip(root: Path, label: str = "VDDQ_VDD2_1V8AO") -> None:
    trees.ina3221_hwmon(root, "1-0041", 4, [(label, 5000, 100), None, None])


def test_a_chip_that_is_bound_later_is_counted(tmp_path: Path, watched: Watched) -> None:
    one_chip(tmp_path)
    assert watched.after(0).value == pytest.approx(5.7)
    other_chip(tmp_path)
    assert watched.after(59).value == pytest.approx(5.7)
    found = watched.after(1)
    assert (found.value, found.kind) == (pytest.approx(6.2), "measured")


def test_a_chip_with_an_equal_label_that_is_bound_later_is_counted(tmp_path: Path, watched: Watched) -> None:
    one_chip(tmp_path)
    watched.after(0)
    other_chip(tmp_path, "VDD_CPU_CV")
    assert watched.after(60).value == pytest.approx(6.2)
    assert [rail.name for rail in watched.watch.read().rails] == [
        *("VDD_GPU_SOC", "VDD_CPU_CV (1-0040)", "VDD_CPU_CV (1-0041)")
    ]


def test_later_on_it_is_looked_for_every_ten_minutes(tmp_path: Path, watched: Watched) -> None:
    one_chip(tmp_path)
    for _ in range(11):
        watched.after(60)
    other_chip(tmp_path)
    assert watched.after(539).value == pytest.approx(5.7)
    assert watched.after(61).value == pytest.approx(6.2)


def test_a_better_sensor_takes_the_place_of_a_battery(tmp_path: Path, watched: Watched) -> None:
    trees.battery(tmp_path, "Discharging", {"power_now": 8_400_000})
    assert watched.after(0) == Reading(pytest.approx(8.4), "measured", "battery")  # type: ignore[arg-type]
    trees.ina219(tmp_path)
    assert watched.after(60) == Reading(pytest.approx(3.12), "measured", "ina219 1-0041")  # type: ignore[arg-type]


def test_a_sensor_without_a_value_is_not_waited_for_longer_than_a_minute(
    tmp_path: Path, watched: Watched
) -> None:
    trees.battery(tmp_path, "Full", {"power_now": 0}, online=1)
    for _ in range(64):
        assert watched.after(60) == Reading(None, "unavailable", "battery")
    trees.ina219(tmp_path)
    assert watched.after(60).sensor == "ina219 1-0041"


def test_a_lesser_sensor_does_not_take_the_place_of_one_that_is_gone(
    tmp_path: Path, watched: Watched
) -> None:
    trees.ina219(tmp_path)
    trees.battery(tmp_path, "Discharging", {"power_now": 8_400_000})
    assert watched.after(0).value == pytest.approx(3.12)
    shutil.rmtree(tmp_path / "devices")
    (tmp_path / "class/hwmon/hwmon2").unlink()
    for _ in range(20):
        assert watched.after(60) == Reading(None, "unavailable", "ina219 1-0041")
    trees.ina219(tmp_path, 7)
    assert watched.after(1).value == pytest.approx(3.12)


def test_half_of_a_sum_does_not_take_the_place_of_the_whole(tmp_path: Path, watched: Watched) -> None:
    one_chip(tmp_path)
    other_chip(tmp_path)
    assert watched.after(0).value == pytest.approx(6.2)
    shutil.rmtree(tmp_path / "devices/platform/bus/i2c-1/1-0041/hwmon/hwmon4")
    for _ in range(20):
        assert watched.after(60).value is None


def test_counters_are_not_begun_again(tmp_path: Path, watched: Watched) -> None:
    folder = trees.ina219(tmp_path)
    watched.after(0)
    sensor = watched.watch._known
    for _ in range(20):
        watched.after(60)
    assert watched.watch._known is sensor
    assert folder.exists()


def test_it_holds_the_files_of_one_sensor_alone(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    watched = Watched(tmp_path)
    one_chip(tmp_path)
    watched.after(0)
    other_chip(tmp_path)
    for _ in range(5):
        watched.after(60)
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 6
    watched.watch.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_tool_is_started_once(tmp_path: Path) -> None:
    tool = tmp_path / "tegrastats"
    tool.write_text(
        f'#!/bin/sh\necho x >> "{tmp_path}/starts"\nwhile :; do echo VDD_IN 5mW/5mW; sleep 0.1; done\n'
    )
    tool.chmod(0o755)
    now_ns = [0]
    watch = PowerWatch(tmp_path / "sys", None, str(tool), lambda: now_ns[0])
    for _ in range(5):
        assert watch.read().total_w.value is not None
        now_ns[0] += 60_000_000_000
    watch.close()
    assert (tmp_path / "starts").read_text() == "x\n"
