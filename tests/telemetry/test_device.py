from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from edge_mnv2.readings import DeviceReading, Energy, PowerReading, Reading, Throttling
from edge_mnv2.telemetry.device import DeviceSensors, read_device
from tests.telemetry.heat_trees import BOARDS, Machine, bare_vm, machine, nano, pi_5, zones
from tests.telemetry.trees import write_tree

PMIC = "Raspberry Pi 5 PMIC, calibrated"

# Temperature, clocks, GPU load, power mode, power in watts at the second reading.
EXPECTED: dict[str, tuple[Any, ...]] = {
    "Nano": (31.0, "CPU-therm", {"cpu": 1479.0, "gpu": 921.6}, 0.453, "MAXN", 2.17),
    "Xavier NX": (42.5, "CPU-therm", {"cpu": 1420.8, "gpu": 1109.25}, 0.998, "10W 2CORE", 4.763),
    "Orin Nano": (51.5, "tj-thermal", {"cpu": 1510.4, "gpu": 624.75}, 0.0, "15W", 9.25),
    "AGX Orin": (47.1, "tj-thermal", {"cpu": 2201.6, "gpu": 1300.5}, 0.713, "MAXN", 10.301),
    "Pi 4": (48.3, "cpu-thermal", {"cpu": 1500.0}, None, None, None),
    "Pi 5": (53.5, "cpu-thermal", {"cpu": 2400.0}, None, None, 2.764),
    "laptop": (61.0, "x86_pkg_temp", {"cpu": 3187.0}, None, None, None),
    "bare VM": (None, "", {}, None, None, None),
}

THROTTLING: dict[str, Throttling | None] = {
    "Nano": None,
    "Xavier NX": None,
    "Orin Nano": Throttling(
        since_boot=frozenset({"average over-current", "instantaneous over-current"}),
        counts={"under-voltage": 0, "average over-current": 15, "instantaneous over-current": 37},
        sensor="soctherm_oc",
    ),
    "AGX Orin": Throttling(
        counts={"average over-current": 0, "instantaneous over-current": 0}, sensor="soctherm_oc"
    ),
    "Pi 4": Throttling(sensor="get_throttled"),
    "Pi 5": Throttling(
        now=frozenset({"under-voltage", "throttled"}),
        since_boot=frozenset({"under-voltage", "throttled", "soft temperature limit"}),
        sensor="get_throttled",
    ),
    "laptop": Throttling(
        since_boot=frozenset({"thermal throttling"}),
        counts={"thermal throttling": 9},
        sensor="thermal_throttle",
    ),
    "bare VM": None,
}


@pytest.mark.parametrize("board", BOARDS)
def test_what_each_board_tells(board: str, tmp_path: Path) -> None:
    found = BOARDS[board](tmp_path)
    sensors = found.open()
    sensors.read()
    found.spend(busy=250, idle=750)
    found.clock.forward(1)
    reading = sensors.read()
    sensors.close()
    value_c, sensor, clocks_mhz, gpu_share, mode, power_w = EXPECTED[board]
    assert reading.temperature_c == Reading(value_c, "measured" if sensor else "unavailable", sensor)
    assert reading.clocks_mhz == clocks_mhz
    assert reading.gpu_share == gpu_share
    assert reading.power_mode == mode
    assert reading.throttling == THROTTLING[board]
    assert reading.cpu_share == 0.25
    assert reading.resident_mib is not None
    assert reading.power_w == reading.power.total_w
    if power_w is not None:
        assert reading.power_w.value == pytest.approx(power_w, abs=0.001)
        assert reading.power_w.kind == ("estimated" if board == "Pi 5" else "measured")
    assert reading.at_ns == found.clock.now_ns


def test_temperatures_are_of_all_zones_but_constants_sleeping_ones_and_mirrors(tmp_path: Path) -> None:
    def names(board: str) -> set[str]:
        return set(BOARDS[board](tmp_path / board).open().read().temperatures_c)

    assert names("Nano") == {"AO-therm", "CPU-therm", "GPU-therm", "PLL-therm", "thermal-fan-est"}
    assert names("Orin Nano") == {"cpu-thermal", "gpu-thermal", "soc0-thermal", "tj-thermal"}
    assert names("Pi 4") == {"cpu-thermal"}
    assert names("laptop") == {"acpitz", "INT3400 Thermal", "x86_pkg_temp", "coretemp"}


def test_nothing_is_unavailable_never_zero(tmp_path: Path) -> None:
    found = bare_vm(tmp_path)
    assert found.open().read() == DeviceReading(resident_mib=200.0, at_ns=found.clock.now_ns)
    (tmp_path / "nowhere").mkdir()
    empty = Machine(tmp_path / "nowhere").open().read()
    assert empty == DeviceReading(at_ns=found.clock.now_ns)
    assert (empty.power_w, empty.power, empty.energy) == (Reading(), PowerReading(), Energy())


def test_once_read_is_as_the_first_reading_and_closes_everything(tmp_path: Path) -> None:
    found = nano(tmp_path)
    before = descriptors()
    reading = read_device(found.sys, found.proc, found.root, found.firmware)
    assert reading.temperature_c == Reading(31.0, "measured", "CPU-therm")
    assert reading.power_w.value == 2.17
    assert reading.cpu_share is None
    assert descriptors() == before


def test_files_are_opened_once(tmp_path: Path, opened: list[str]) -> None:
    found = nano(tmp_path)
    sensors = found.open()
    sensors.read()
    opened.clear()
    held = descriptors()
    for _ in range(20):
        found.clock.forward(1)
        assert sensors.read().temperature_c.value == 31.0
    assert not opened
    assert descriptors() == held
    sensors.close()


def test_a_zone_that_cannot_be_read_is_tried_ever_more_rarely(tmp_path: Path, opened: list[str]) -> None:
    found = machine(tmp_path)
    zones(found.sys, {"cpu-thermal": "40000", "gpu-thermal": None})
    sensors = found.open()
    opened.clear()
    for _ in range(200):
        assert sensors.read().temperatures_c == {"cpu-thermal": 40.0}
    # Of 200 readings those after pauses of 1, 2, 4, ..., 64, 64.
    assert len([path for path in opened if path.endswith("thermal_zone1/temp")]) == 9
    (found.sys / "class/thermal/thermal_zone1/temp").rmdir()
    found.write({"class/thermal/thermal_zone1/temp": "45000"})
    readings = [sensors.read().temperatures_c for _ in range(65)]
    assert readings[-1] == {"cpu-thermal": 40.0, "gpu-thermal": 45.0}
    sensors.close()


def test_a_sensor_that_vanishes_is_unavailable_until_it_is_back(tmp_path: Path) -> None:
    found = machine(tmp_path)
    zones(found.sys, {"cpu-thermal": "40000"})
    sensors = found.open()
    assert sensors.read().temperature_c.value == 40.0
    value = found.sys / "devices/virtual/thermal/thermal_zone0/temp"
    value.unlink()
    assert sensors.read().temperature_c == Reading()
    write_tree(found.sys, {"devices/virtual/thermal/thermal_zone0/temp": "41000"})
    readings = [sensors.read().temperature_c.value for _ in range(2)]
    assert readings[-1] == 41.0
    sensors.close()


@pytest.mark.parametrize("value", ["", "hot", "-274000", "-256000", "999000", "4.5e4", "\udcff"])
def test_what_is_no_temperature_is_unavailable(tmp_path: Path, value: str) -> None:
    found = machine(tmp_path)
    zones(found.sys, {"cpu-thermal": "1"})
    file = found.sys / "class/thermal/thermal_zone0/temp"
    file.write_bytes(value.encode("utf-8", "surrogateescape"))
    assert found.open().read().temperature_c == Reading()


def test_a_pc_without_a_zone_has_a_chip_and_zones_of_one_name_are_all_told(tmp_path: Path) -> None:
    found = machine(tmp_path)
    zones(found.sys, {"acpitz": "30000"})
    found.write({"class/thermal/thermal_zone1/type": "acpitz", "class/thermal/thermal_zone1/temp": "31000"})
    for number, (name, value) in enumerate([("nvme", "32000"), ("k10temp", "61375")]):
        found.write(
            {
                f"class/hwmon/hwmon{number}/{key}": text
                for key, text in [("name", name), ("temp1_input", value)]
            }
        )
    reading = found.open().read()
    assert reading.temperature_c == Reading(61.4, "measured", "k10temp")
    assert reading.temperatures_c == {"acpitz": 30.0, "acpitz 2": 31.0, "k10temp": 61.375}


def test_the_firmware_is_asked_for_power_every_five_seconds_at_most(tmp_path: Path) -> None:
    found = pi_5(tmp_path)
    sensors = found.open()
    for _ in range(20):
        assert sensors.read().power_w == Reading(pytest.approx(2.764, abs=0.001), "estimated", PMIC)
        found.clock.forward(1)
    assert found.firmware.asked.count("pmic_read_adc") == 4
    assert found.firmware.asked.count("get_throttled") == 1
    sensors.close()


def test_power_is_looked_for_again_once_a_minute(tmp_path: Path) -> None:
    found = pi_5(tmp_path)
    answer = found.firmware.answers.pop("pmic_read_adc")
    sensors = found.open()
    assert sensors.read().power_w == Reading()
    found.firmware.answers["pmic_read_adc"] = answer
    found.clock.forward(59)
    assert sensors.read().power_w == Reading()
    found.clock.forward(1)
    assert sensors.read().power_w.value == pytest.approx(2.764, abs=0.001)
    sensors.close()


def test_a_sensor_that_raises_is_told_once_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = nano(tmp_path)

    def broken(question: str) -> str | None:
        raise RuntimeError(f"{question}: no firmware")

    sensors = DeviceSensors(found.sys, found.proc, found.root, vcgencmd=broken, tegrastats=None)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            reading = sensors.read()
    assert reading.throttling is None
    assert reading.temperature_c.value == 31.0
    assert reading.power_w.value == 2.17
    assert [record.message for record in caplog.records] == [
        "a sensor failed: throttling: RuntimeError: get_throttled: no firmware"
    ]
    sensors.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
