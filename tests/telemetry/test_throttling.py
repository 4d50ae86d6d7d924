from __future__ import annotations

from pathlib import Path

import pytest

from edge_mnv2.readings import Throttling
from edge_mnv2.telemetry.throttling import ThrottlingSensor
from tests.telemetry.heat_trees import Clock, Firmware, over_current
from tests.telemetry.trees import hwmon, write_tree

PI_4 = "devices/platform/soc/soc:firmware/get_throttled"
PI_5 = "devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
ALL = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


def read(sys: Path, answer: str | None = None) -> Throttling | None:
    sensor = ThrottlingSensor(sys, Firmware({} if answer is None else {"get_throttled": answer}))
    found = sensor.read()
    sensor.close()
    return found


@pytest.mark.parametrize("bit", range(4))
@pytest.mark.parametrize("place", [PI_4, PI_5])
def test_each_bit_of_the_kernels_file_now_and_since_boot(bit: int, place: str, tmp_path: Path) -> None:
    one = frozenset({ALL[bit]})
    write_tree(tmp_path, {place: f"{1 << bit:x}"})
    assert read(tmp_path) == Throttling(now=one, since_boot=one, sensor="get_throttled")
    write_tree(tmp_path, {place: f"{1 << bit + 16:x}"})
    assert read(tmp_path) == Throttling(since_boot=one, sensor="get_throttled")


@pytest.mark.parametrize(
    ("answer", "now", "since_boot"),
    [
        ("throttled=0x0", set(), set()),
        ("throttled=0x50005", {ALL[0], ALL[2]}, {ALL[0], ALL[2]}),
        ("throttled=0xe0008", {ALL[3]}, {*ALL[1:]}),
        ("throttled=0xf000f", {*ALL}, {*ALL}),
    ],
)
def test_the_tool_answers_where_there_is_no_file(
    answer: str, now: set[str], since_boot: set[str], tmp_path: Path
) -> None:
    expected = Throttling(frozenset(now), frozenset(since_boot), sensor="vcgencmd get_throttled")
    assert read(tmp_path, answer) == expected


@pytest.mark.parametrize(
    "answer", [None, "", "VCHI initialization failed", "throttled=", "throttled=0xyz", "-1"]
)
def test_what_is_no_answer_is_unavailable(answer: str | None, tmp_path: Path) -> None:
    assert read(tmp_path, answer) is None
    write_tree(tmp_path, {PI_4: answer or ""})
    assert read(tmp_path, answer) is None


def test_the_kernels_alarm_is_the_last_resort(tmp_path: Path) -> None:
    folder = hwmon(tmp_path, 2, "platform/x", {"name": "rpi_volt", "in0_lcrit_alarm": "0"})
    sensor = ThrottlingSensor(tmp_path, Firmware())
    assert sensor.read() == Throttling(sensor="rpi_volt")
    write_tree(folder, {"in0_lcrit_alarm": "1"})
    low = frozenset({"under-voltage"})
    assert sensor.read() == Throttling(low, low, sensor="rpi_volt")
    write_tree(folder, {"in0_lcrit_alarm": "0"})
    assert sensor.read() == Throttling(since_boot=low, sensor="rpi_volt")
    (folder / "in0_lcrit_alarm").unlink()
    assert sensor.read() is None
    sensor.close()


def test_bits_that_the_kernels_driver_clears_are_remembered_and_the_tool_tells_those_before(
    tmp_path: Path,
) -> None:
    firmware, clock = Firmware({"get_throttled": "throttled=0x80000"}), Clock()
    write_tree(tmp_path, {PI_4: "10000"})
    sensor = ThrottlingSensor(tmp_path, firmware, clock)
    expected = Throttling(since_boot=frozenset({ALL[0], ALL[3]}), sensor="get_throttled")
    assert sensor.read() == expected
    write_tree(tmp_path, {PI_4: "0"})
    for _ in range(59):
        clock.forward(1)
        assert sensor.read() == expected
    assert len(firmware.asked) == 1
    clock.forward(1)
    firmware.answers["get_throttled"] = "throttled=0xc0000"
    assert sensor.read() == Throttling(since_boot=frozenset({ALL[0], ALL[2], ALL[3]}), sensor="get_throttled")
    sensor.close()


def test_the_tool_is_asked_every_five_seconds_and_where_it_is_not_there_once_a_minute(tmp_path: Path) -> None:
    firmware, clock = Firmware({"get_throttled": "throttled=0x0"}), Clock()
    sensor = ThrottlingSensor(tmp_path, firmware, clock)
    for _ in range(15):
        assert sensor.read() == Throttling(sensor="vcgencmd get_throttled")
        clock.forward(1)
    assert len(firmware.asked) == 3
    firmware.answers.clear()
    for _ in range(60):
        assert sensor.read() is None
        clock.forward(1)
    assert len(firmware.asked) == 4
    firmware.answers["get_throttled"] = "throttled=0x1"
    assert sensor.read() is not None


def test_a_file_that_vanishes_leaves_it_to_the_tool(tmp_path: Path) -> None:
    firmware, clock = Firmware({"get_throttled": "throttled=0x10001"}), Clock()
    write_tree(tmp_path, {PI_4: "0"})
    sensor = ThrottlingSensor(tmp_path, firmware, clock)
    found = sensor.read()
    assert found is not None
    assert not found.now
    (tmp_path / PI_4).unlink()
    clock.forward(5)
    low = frozenset({ALL[0]})
    assert sensor.read() == Throttling(low, low, sensor="vcgencmd get_throttled")
    sensor.close()


def test_an_orins_counters_but_those_that_are_switched_off(tmp_path: Path) -> None:
    folder = over_current(tmp_path, 4, (2, 0, 7), "101")
    sensor = ThrottlingSensor(tmp_path, Firmware({"get_throttled": "throttled=0xf000f"}))
    found = sensor.read()
    assert found == Throttling(
        since_boot=frozenset({"under-voltage", "instantaneous over-current"}),
        counts={"under-voltage": 2, "instantaneous over-current": 7},
        sensor="soctherm_oc",
    )
    (folder / "oc1_event_cnt").unlink()
    write_tree(folder, {"oc3_event_cnt": "8"})
    found = sensor.read()
    assert found is not None
    assert found.counts == {"instantaneous over-current": 8}
    (folder / "oc3_event_cnt").unlink()
    assert sensor.read() is None
    sensor.close()


def test_an_intel_processors_counter_is_that_of_the_core_that_was_hot_most_often(tmp_path: Path) -> None:
    for number, count in enumerate((3, 5, 5)):
        name = f"devices/system/cpu/cpu{number}/thermal_throttle/core_throttle_count"
        write_tree(tmp_path, {name: str(count)})
    assert read(tmp_path) == Throttling(
        since_boot=frozenset({"thermal throttling"}),
        counts={"thermal throttling": 5},
        sensor="thermal_throttle",
    )
