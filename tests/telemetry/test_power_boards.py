"""Which sensor is taken on which board, and what it says: fixture trees with captured values."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mnv2.readings import Kind, PowerReading, Rail, Reading
from edge_mnv2.telemetry.pi_pmic import PiPmic, parse_pmic, rails_sum_w
from edge_mnv2.telemetry.power import PowerSensor, find_power_sensor, why_no_power
from edge_mnv2.telemetry.rapl import Rapl
from edge_mnv2.telemetry.tegrastats import Tegrastats, parse_tegrastats
from tests.telemetry import trees


def find(sys: Path, answer: Callable[[str], str | None] | None = None) -> PowerSensor:
    sensor = find_power_sensor(sys, answer, tegrastats=None)
    assert sensor is not None
    return sensor


def read(sys: Path, answer: Callable[[str], str | None] | None = None) -> PowerReading:
    sensor = find(sys, answer)
    try:
        return sensor.read()
    finally:
        sensor.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def about(value: float, sensor: str, kind: Kind = "measured") -> Reading:
    """Return a reading that is equal to one with nearly this value."""
    return Reading(pytest.approx(value, rel=1e-5), kind, sensor)  # type: ignore[arg-type]


def pi5(arguments: str) -> str | None:
    return trees.PMIC_CAPTURE if arguments == "pmic_read_adc" else None


@pytest.mark.parametrize(
    ("board", "power_w", "sensor", "rails"),
    [
        (trees.jetson_nano, 2.170, "INA3221 POM_5V_IN", ["POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"]),
        (trees.xavier_nx_jp4, 4.761, "INA3221 VDD_IN", ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]),
        (trees.xavier_nx_jp5, 4.7628, "INA3221 VDD_IN", ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]),
        (trees.orin_nano, 9.250304, "INA3221 VDD_IN", ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]),
        (
            trees.agx_orin,
            10.300714,
            "INA3221, sum of rails",
            ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"],
        ),
    ],
)
def test_jetsons(
    tmp_path: Path, board: Callable[[Path], Path], power_w: float, sensor: str, rails: list[str]
) -> None:
    found = read(board(tmp_path))
    assert found.total_w == about(power_w, sensor)
    assert found.scope == "board"
    assert [rail.name for rail in found.rails] == rails
    assert all(rail.power_w is not None for rail in found.rails)


def test_channels_of_jetpack_4_that_are_not_connected(tmp_path: Path) -> None:
    trees.ina3221_iio(
        tmp_path, "1-0040", [("GPU", 19000, 10, 190), ("NC", 19000, 10, 190), ("CPU", 1, 1, 10)]
    )
    found = read(tmp_path)
    assert [rail.name for rail in found.rails] == ["GPU", "CPU"]
    assert found.total_w == about(0.2, "INA3221, sum of rails")


def test_a_chip_with_unknown_rails_is_an_estimate_and_one_with_dead_rails_none(tmp_path: Path) -> None:
    trees.ina3221_hwmon(tmp_path, "1-0040", 0, [("VDD_NEW", 5000, 1000), ("VDD_OTHER", 5000, 200), None])
    found = read(tmp_path)
    assert found.total_w == about(6.0, "INA3221, sum of rails", "estimated")
    (tmp_path / "class/hwmon/hwmon0/curr1_input").unlink()
    (tmp_path / "class/hwmon/hwmon0/curr2_input").unlink()
    assert find_power_sensor(tmp_path, None, None) is None


def test_a_raspberry_pi_5(tmp_path: Path) -> None:
    found = read(trees.raspberry_pi(tmp_path, "Raspberry Pi 5 Model B Rev 1.0"), pi5)
    assert rails_sum_w(found.rails) == pytest.approx(1.9005, abs=5e-5)
    assert found.total_w.value == pytest.approx(2.764, abs=5e-4)
    assert found.total_w.value == pytest.approx((rails_sum_w(found.rails) or 0) * 1.1451 + 0.5879)
    assert (found.total_w.kind, found.scope) == ("estimated", "board")
    assert len(found.rails) == 12
    assert found.rails[7] == Rail("VDD_CORE", pytest.approx(0.94657990 * 0.72097620))  # type: ignore[arg-type]


def test_a_raspberry_pi_5_whose_firmware_leaves_out_a_rail_or_does_not_answer(tmp_path: Path) -> None:
    answers = [trees.PMIC_CAPTURE] * 2 + [trees.PMIC_CAPTURE.replace("VDD_CORE_A", "VDD_BORE_A"), None]
    answers.append(trees.PMIC_CAPTURE)
    sensor = find(trees.raspberry_pi(tmp_path, "Raspberry Pi 5"), lambda _: answers.pop(0))
    kinds = [sensor.read().total_w.kind for _ in range(4)]
    assert kinds == ["estimated", "unavailable", "unavailable", "estimated"]


def test_a_short_answer_of_a_raspberry_pi_5_is_no_small_total_and_a_full_one_after_it_counts(
    tmp_path: Path,
) -> None:
    short = trees.PMIC_CAPTURE.replace("VDD_CORE_V", "VDD_BORE_V")
    sensor = PiPmic(lambda _: answers.pop(0))
    answers = [short, trees.PMIC_CAPTURE, short]
    readings = [sensor.read() for _ in range(3)]
    assert [reading.total_w.kind for reading in readings] == ["unavailable", "estimated", "unavailable"]
    assert len(readings[0].rails) == 11
    assert find_power_sensor(tmp_path, lambda _: short, None) is None


def test_a_rail_that_the_fit_does_not_know_is_shown_and_not_added() -> None:
    more = f"{trees.PMIC_CAPTURE}\n NEW_A current(30)=1.0A\n NEW_V volt(31)=5.0V"
    found = PiPmic(lambda _: more).read()
    assert found.total_w.value == pytest.approx(2.764, abs=5e-4)
    assert found.rails[-1] == Rail("NEW", 5.0)


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[0-9A-Z][0-9A-Z_]{0,10}", fullmatch=True), st.floats(0, 10), st.floats(0, 6)
        ),
        unique_by=lambda rail: rail[0],
        max_size=14,
    ),
    st.randoms(),
)
def test_the_pmic_parser_takes_any_rails_in_any_order(
    rails: list[tuple[str, float, float]], random: object
) -> None:
    lines = [f"   {name}_A current({at})={amperes:.8f}A" for at, (name, amperes, _) in enumerate(rails)]
    lines += [f" {name}_V volt({at})={volts:.8f}V" for at, (name, _, volts) in enumerate(rails)]
    random.shuffle(lines)  # type: ignore[attr-defined]
    found = {rail.name: rail.power_w for rail in parse_pmic("\n".join(lines))}
    assert found == {
        name: pytest.approx(float(f"{amperes:.8f}") * float(f"{volts:.8f}")) for name, amperes, volts in rails
    }


@given(st.text())
def test_the_pmic_parser_survives_anything(text: str) -> None:
    assert isinstance(parse_pmic(text), tuple)


def test_a_raspberry_pi_4_has_no_sensor_and_hears_what_would_help(tmp_path: Path) -> None:
    root = trees.raspberry_pi(tmp_path, "Raspberry Pi 4 Model B Rev 1.5")
    assert find_power_sensor(root, lambda _: None, None) is None
    (line,) = why_no_power(root)
    assert line.startswith(
        "Raspberry Pi 4 Model B Rev 1.5: there is no sensor of current on this board. An INA219"
    )


def test_an_ina219_in_the_supply_line(tmp_path: Path) -> None:
    root = trees.raspberry_pi(tmp_path, "Raspberry Pi 4 Model B Rev 1.5")
    trees.ina219(root)
    found = read(root)
    assert found.total_w == about(3.12, "ina219 1-0041")
    assert found.scope == "supply line"
    # Measured beats what the firmware estimates.
    assert read(root, pi5).total_w.sensor == "ina219 1-0041"


def test_two_supply_lines_are_not_added_up(tmp_path: Path) -> None:
    trees.ina219(tmp_path, 7, "1-0044", 500_000)
    trees.ina219(tmp_path, 8, "1-0041", 3_000_000)
    assert read(tmp_path).total_w == Reading(3.0, "measured", "ina219 1-0041")


@pytest.mark.parametrize(
    ("files", "power_w", "sensor", "scope"),
    [
        ({"name": "power_meter", "power1_average": "51000000"}, 51.0, "power_meter DEV", "board"),
        ({"name": "ina238", "power1_input": "44000000", "power1_label": "VIN"}, 44.0, "ina238 DEV", "board"),
        (
            {"name": "corsairpsu", "power1_input": "90000000", "power1_label": "power total"}
            | {"power2_input": "60000000", "power2_label": "power +12v"},
            *(90.0, "corsairpsu DEV", "board"),
        ),
        ({"name": "newchip", "power1_input": "1500000"}, 1.5, "newchip DEV", "newchip"),
    ],
)
def test_other_devices_say_what_they_are(
    tmp_path: Path, files: dict[str, str], power_w: float, sensor: str, scope: str
) -> None:
    trees.hwmon(tmp_path, 0, "platform/DEV", files)
    found = read(tmp_path)
    assert (found.total_w, found.scope) == (Reading(power_w, "measured", sensor), scope)


@pytest.mark.parametrize("name", ["amdgpu", "sfp_eth0", "BAT0", "i915"])
def test_what_is_no_supply_of_the_device_is_left_alone(tmp_path: Path, name: str) -> None:
    trees.hwmon(tmp_path, 0, "platform/x", {"name": name, "power1_input": "400", "energy1_input": "1"})
    assert find_power_sensor(tmp_path, None, None) is None


def test_several_channels_without_a_whole_are_no_total(tmp_path: Path) -> None:
    trees.hwmon(tmp_path, 0, "x", {"name": "pac1934", "power1_input": "100", "power2_input": "300"})
    assert find_power_sensor(tmp_path, None, None) is None


def test_sockets_that_do_not_count_are_unavailable(tmp_path: Path) -> None:
    files = {"name": "amd_energy", "energy1_label": "Esocket0", "energy1_input": "777"}
    trees.hwmon(tmp_path, 0, "platform/amd_energy.0", files)
    sensor = find(tmp_path)
    wait_for_counter()
    assert sensor.read() == PowerReading(
        Reading(None, "unavailable", "amd_energy amd_energy.0"), "cpu package", (Rail("Esocket0", None),)
    )
    sensor.close()


def test_counters_of_sockets_are_added_up_and_their_cores_are_not(tmp_path: Path) -> None:
    files = {"name": "amd_energy"}
    for channel, label in enumerate(["Ecore000", "Ecore001", "Esocket0", "Esocket1"], 1):
        files |= {f"energy{channel}_label": label, f"energy{channel}_input": "1000000"}
    folder = trees.hwmon(tmp_path, 0, "platform/amd_energy.0", files)
    sensor = find(tmp_path)
    for channel in range(1, 5):
        (folder / f"energy{channel}_input").write_text("9000000\n")
    wait_for_counter()
    found = sensor.read()
    sensor.close()
    powers = {rail.name: rail.power_w for rail in found.rails}
    assert None not in powers.values()
    assert found.total_w.value == pytest.approx((powers["Esocket0"] or 0) + (powers["Esocket1"] or 0))
    assert (found.total_w.sensor, found.scope) == ("amd_energy amd_energy.0", "cpu package")


def wait_for_counter() -> None:
    """Let as much time pass as a difference of counters needs."""
    begun_ns = time.monotonic_ns()
    while time.monotonic_ns() - begun_ns < 20_000_000:
        time.sleep(0.005)


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def test_a_laptop_takes_rapl_before_its_battery(tmp_path: Path) -> None:
    sensor = find(trees.laptop(tmp_path))
    first = sensor.read()
    assert (first.total_w.kind, first.total_w.sensor, first.scope) == (
        *("unavailable", "RAPL package"),
        "cpu package",
    )
    trees.write_tree(tmp_path, {"class/powercap/intel-rapl:0/energy_uj": "4000000"})
    wait_for_counter()
    assert sensor.read().total_w.kind == "measured"
    sensor.close()


def test_rapl_adds_packages_but_not_their_parts_nor_the_same_package_again(tmp_path: Path) -> None:
    zones: dict[str, tuple[str, int | None]] = {
        "intel-rapl:0": ("package-0", 0),
        "intel-rapl:0:0": ("core", 0),
        "intel-rapl:0:1": ("dram", 0),
        "intel-rapl:1": ("package-1", 0),
        "intel-rapl-mmio:0": ("package-0", 0),
    }
    clock = Clock()
    sensor = Rapl(trees.rapl(tmp_path, zones), clock)
    clock.now_ns = 2_000_000_000
    trees.rapl(
        tmp_path, {zone: (name, 20_000_000 + at) for at, (zone, (name, _)) in enumerate(zones.items())}
    )
    found = sensor.read()
    sensor.close()
    assert found.total_w == about(20.0, "RAPL package")
    assert [rail.name for rail in found.rails] == [
        *("package-0", "package-0 core", "package-0 dram"),
        "package-1",
    ]


def test_rapl_over_its_wrap(tmp_path: Path) -> None:
    zones: dict[str, tuple[str, int | None]] = {"intel-rapl:0": ("package-0", 65_532_000_000)}
    clock = Clock()
    sensor = Rapl(trees.rapl(tmp_path, zones, range_uj=65_532_610_987), clock)
    clock.now_ns = 1_000_000_000
    trees.rapl(tmp_path, {"intel-rapl:0": ("package-0", 9_389_013)}, range_uj=65_532_610_987)
    assert sensor.read().total_w.value == pytest.approx(10.0)
    sensor.close()


@pytest.mark.parametrize(("counter", "scope"), [(7_000_000, "platform"), (0, "cpu package")])
def test_the_whole_platform_where_the_processor_counts_it(tmp_path: Path, counter: int, scope: str) -> None:
    zones: dict[str, tuple[str, int | None]] = {
        "intel-rapl:0": ("package-0", 1_000_000),
        "intel-rapl:1": ("psys", counter),
    }
    assert read(trees.rapl(tmp_path, zones)).scope == scope


@pytest.mark.parametrize("constant", [0, 12_345])
def test_packages_that_do_not_count_are_unavailable_and_never_zero(tmp_path: Path, constant: int) -> None:
    """As in virtual machines."""
    clock = Clock()
    sensor = Rapl(trees.rapl(tmp_path, {"intel-rapl:0": ("package-0", constant)}), clock)
    for _ in range(5):
        clock.now_ns += 1_000_000_000
        found = sensor.read()
        assert found.total_w == Reading(None, "unavailable", "RAPL package")
        assert found.rails == (Rail("package-0", None),)
    trees.rapl(tmp_path, {"intel-rapl:0": ("package-0", constant + 5_000_000)})
    clock.now_ns += 1_000_000_000
    assert sensor.read().total_w == about(5.0, "RAPL package")
    sensor.close()


def test_one_package_that_does_not_count_is_not_left_out_of_the_sum(tmp_path: Path) -> None:
    clock = Clock()
    sensor = Rapl(
        trees.rapl(tmp_path, {"intel-rapl:0": ("package-0", 1), "intel-rapl:1": ("package-1", 1)}), clock
    )
    trees.rapl(tmp_path, {"intel-rapl:0": ("package-0", 5_000_001)})
    clock.now_ns = 1_000_000_000
    assert sensor.read().total_w.kind == "unavailable"
    sensor.close()


def test_a_platform_that_stands_still_does_not_hide_the_packages(tmp_path: Path) -> None:
    clock, energy_uj = Clock(), 1_000_000
    trees.rapl(tmp_path, {"intel-rapl:0": ("package-0", energy_uj), "intel-rapl:1": ("psys", 777)})
    sensor = Rapl(tmp_path, clock)
    readings: list[PowerReading] = []
    for _ in range(5):
        energy_uj += 15_000_000
        clock.now_ns += 1_000_000_000
        trees.rapl(tmp_path, {"intel-rapl:0": ("package-0", energy_uj)})
        readings.append(sensor.read())
    sensor.close()
    assert {reading.total_w for reading in readings[:2]} == {Reading(None, "unavailable", "RAPL psys")}
    assert [reading.total_w for reading in readings[2:]] == [about(15.0, "RAPL package")] * 3
    assert readings[-1].scope == "cpu package"


def test_a_platform_that_counts_more_rarely_than_it_is_read_stays(tmp_path: Path) -> None:
    clock, energy_uj = Clock(), 1_000_000
    sensor = Rapl(
        trees.rapl(tmp_path, {"intel-rapl:0": ("package-0", 1), "intel-rapl:1": ("psys", 1)}), clock
    )
    for second in range(1, 9):
        energy_uj += 15_000_000
        clock.now_ns += 1_000_000_000
        trees.rapl(tmp_path, {"intel-rapl:0": ("package-0", energy_uj)})
        if second % 2:
            trees.rapl(tmp_path, {"intel-rapl:1": ("psys", energy_uj)})
        found = sensor.read().total_w
        assert (found.sensor, found.value is None) == ("RAPL psys", second % 2 == 0)
    sensor.close()


def test_counters_for_root_alone_are_unavailable_and_the_battery_takes_their_place() -> None:
    with trees.open_folder() as root:
        trees.rapl(root, {"intel-rapl:0": ("package-0", 1)})
        (root / "class/powercap/intel-rapl:0/energy_uj").chmod(0)
        with trees.ordinary_user():
            assert find_power_sensor(root, None, None) is None
            (line,) = why_no_power(root)
            assert line.startswith("The processor counts its energy (RAPL), but only root may read it.")
        trees.battery(root, "Discharging", {"power_now": 8_400_000})
        with trees.ordinary_user():
            assert read(root).total_w.sensor == "battery"
        # Whoever has the right reads it.
        (root / "class/powercap/intel-rapl:0/energy_uj").chmod(0o444)
        with trees.ordinary_user():
            assert read(root).total_w.sensor == "RAPL package"


@pytest.mark.parametrize(
    ("status", "online", "values", "power_w"),
    [
        ("Discharging", 0, {"power_now": 8_400_000}, 8.4),
        ("Discharging", 0, {"voltage_now": 12_000_000, "current_now": 700_000}, 8.4),
        ("Discharging", 0, {"voltage_now": 12_000_000, "current_now": -700_000}, 8.4),
        ("Discharging", 1, {"power_now": 8_400_000}, None),
        ("Charging", 1, {"power_now": 30_000_000}, None),
        ("Full", 1, {"power_now": 0}, None),
        ("Not charging", 0, {"power_now": 8_400_000}, None),
        ("Unknown", 0, {"power_now": 8_400_000}, None),
        ("Discharging", 0, {"voltage_now": 12_000_000}, None),
    ],
)
def test_a_battery_tells_the_devices_power_only_while_nothing_else_feeds_it(
    tmp_path: Path, status: str, online: int, values: dict[str, int], power_w: float | None
) -> None:
    found = read(trees.battery(tmp_path, status, values, online=online))
    assert found.total_w.value == (None if power_w is None else pytest.approx(power_w))
    assert (found.total_w.sensor, found.scope) == ("battery", "battery")


def test_two_batteries_and_a_mouse(tmp_path: Path) -> None:
    trees.battery(tmp_path, "Discharging", {"power_now": 5_000_000}, name="BAT0")
    trees.battery(tmp_path, "Not charging", {"power_now": 0}, name="BAT1")
    trees.battery(tmp_path, "Discharging", {"power_now": 1}, name="hidpp_battery_0")
    trees.write_tree(tmp_path, {"class/power_supply/hidpp_battery_0/scope": "Device"})
    found = read(tmp_path)
    assert found.total_w.value == pytest.approx(5.0)
    assert found.rails == (Rail("BAT0", pytest.approx(5.0)), Rail("BAT1", None))  # type: ignore[arg-type]
    trees.battery(tmp_path, "Charging", {"power_now": 2_000_000}, name="BAT1")
    assert read(tmp_path).total_w.value is None
    trees.battery(tmp_path, "Discharging", {}, name="BAT1")
    (tmp_path / "class/power_supply/BAT1/power_now").unlink()
    assert read(tmp_path).total_w.value is None  # what one of them gives is unknown


def test_a_battery_that_is_swapped_for_another(tmp_path: Path) -> None:
    trees.battery(tmp_path, "Discharging", {"power_now": 5_000_000}, name="BAT0")
    sensor = find(tmp_path)
    shutil.rmtree(tmp_path / "class/power_supply/BAT0")
    assert sensor.read() == PowerReading(Reading(None, "unavailable", "battery"), "battery")
    trees.battery(tmp_path, "Discharging", {"power_now": 6_000_000}, name="BAT1")
    assert sensor.read().total_w == about(6.0, "battery")
    sensor.close()


@pytest.mark.parametrize("model", ["Raspberry Pi 5 Model B Rev 1.0", "Raspberry Pi Compute Module 5 Rev 1.0"])
def test_a_raspberry_pi_5_without_an_answer_hears_how_to_get_one(tmp_path: Path, model: str) -> None:
    root = trees.raspberry_pi(tmp_path, model)
    assert find_power_sensor(root, lambda _: None, None) is None
    (line,) = why_no_power(root)
    assert line.startswith(f"{model}: its PMIC tells power by vcgencmd, which gives no answer.")
    assert "usermod -aG video" in line


def test_a_jetson_whose_sensor_may_not_be_read() -> None:
    with trees.open_folder() as root:
        trees.orin_nano(root)
        for file in (root / "class/hwmon/hwmon1").resolve().glob("*_input"):
            file.chmod(0)
        with trees.ordinary_user():
            assert find_power_sensor(root, None, None) is None
            (line,) = why_no_power(root)
        assert line.startswith("The INA3221 is there, but this user cannot read it.")
        for file in (root / "class/hwmon/hwmon1").resolve().glob("*_input"):
            file.chmod(0o444)
        with trees.ordinary_user():
            assert read(root).total_w.kind == "measured"


def test_a_bare_vm_has_nothing(tmp_path: Path) -> None:
    assert find_power_sensor(trees.bare_vm(tmp_path), lambda _: None, None) is None
    assert why_no_power(tmp_path)[0].startswith(
        "No sensor here tells power; most virtual machines have none."
    )


def test_a_sensor_that_vanishes_and_comes_back_under_another_number(tmp_path: Path) -> None:
    trees.orin_nano(tmp_path, number=1)
    folder = tmp_path / "devices/platform/bus/i2c-1/1-0040/hwmon/hwmon1"
    sensor = find(tmp_path)
    assert sensor.read().total_w.kind == "measured"
    shutil.rmtree(folder)
    gone = sensor.read()
    assert gone.total_w == Reading(None, "unavailable", "INA3221 VDD_IN")
    assert [rail.power_w for rail in gone.rails] == [None] * 3
    (tmp_path / "class/hwmon/hwmon1").unlink()
    trees.orin_nano(tmp_path, number=5)
    assert sensor.read().total_w.value == pytest.approx(9.250304)
    sensor.close()


def test_an_ina219_that_is_plugged_in_again(tmp_path: Path) -> None:
    folder = trees.ina219(tmp_path, 2)
    sensor = find(tmp_path)
    shutil.rmtree(folder.parent)
    (tmp_path / "class/hwmon/hwmon2").unlink()
    assert sensor.read().total_w == Reading(None, "unavailable", "ina219 1-0041")
    trees.ina219(tmp_path, 9, microwatts=2_000_000)
    assert sensor.read().total_w.value == pytest.approx(2.0)
    sensor.close()


def test_half_of_a_sum_is_not_the_sum(tmp_path: Path) -> None:
    sensor = find(trees.agx_orin(tmp_path))
    shutil.rmtree(tmp_path / "devices/platform/bus/i2c-1/1-0041/hwmon/hwmon4")
    found = sensor.read()
    assert found.total_w.kind == "unavailable"
    assert found.rails[0].power_w is not None
    assert found.rails[3] == Rail("VDDQ_VDD2_1V8AO", None)
    sensor.close()


def test_equal_labels_of_two_chips_are_told_apart_and_both_counted(tmp_path: Path) -> None:
    trees.ina3221_hwmon(tmp_path, "1-0040", 3, [("GPU", 5000, 200), ("CPU", 5000, 100), None])
    trees.ina3221_hwmon(tmp_path, "1-0041", 4, [("CPU", 5000, 400), None, None])
    sensor = find(tmp_path)
    found = sensor.read()
    assert [rail.name for rail in found.rails] == ["GPU", "CPU (1-0040)", "CPU (1-0041)"]
    assert found.total_w == about(3.5, "INA3221, sum of rails")
    # While one is gone the other does not stand for both.
    shutil.rmtree(tmp_path / "devices/platform/bus/i2c-1/1-0040/hwmon/hwmon3")
    found = sensor.read()
    assert [rail.power_w for rail in found.rails] == [None, None, pytest.approx(2.0)]
    assert found.total_w.kind == "unavailable"
    sensor.close()


def test_equal_labels_of_one_chip_are_both_counted(tmp_path: Path) -> None:
    trees.ina3221_hwmon(tmp_path, "1-0040", 3, [("CPU", 5000, 200), ("CPU", 5000, 100), None])
    found = read(tmp_path)
    assert [rail.name for rail in found.rails] == ["CPU (1-0040)", "CPU (1-0040) 2"]
    assert found.total_w == about(1.5, "INA3221, sum of rails")


def test_two_inputs_of_modules_are_added_up(tmp_path: Path) -> None:
    for address, number in (("1-0040", 3), ("2-0040", 4)):
        trees.ina3221_hwmon(tmp_path, address, number, [("VDD_IN", 5000, 1000), ("VDD_SOC", 5000, 100), None])
    assert read(tmp_path).total_w == about(10.0, "INA3221 VDD_IN")


def test_reading_opens_nothing_new(tmp_path: Path) -> None:
    sensor = find(trees.agx_orin(tmp_path))
    sensor.read()
    before = open_files()
    for _ in range(20):
        sensor.read()
    assert open_files() == before
    sensor.close()
    assert open_files() == before - 8  # voltage and current of four rails


TEGRASTATS = {
    "RAM 1024/3964MB (lfb 2x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [0%@1479,off] "
    "EMC_FREQ 0% GR3D_FREQ 0% PLL@28C PMIC@100C thermal@32C POM_5V_IN 2170/2231 POM_5V_GPU 40/41 "
    "POM_5V_CPU 486/490": ({"POM_5V_IN": 2.170, "POM_5V_GPU": 0.040, "POM_5V_CPU": 0.486}, 2.170),
    "11-21-2025 08:49:48 RAM 13983/62780MB (lfb 424x4MB) CPU [90%@2201] GR3D_FREQ 14%@[407,407] APE 174 "
    "CV0@-256C tj@77.281C VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 14312mW/12415mW VIN_SYS_5V0 4968mW/5048mW "
    "NC 0mW/0mW VDDQ_VDD2_1V8AO 1091mW/1091mW NC 0mW/0mW": (
        {"VDD_GPU_SOC": 3.150, "VDD_CPU_CV": 14.312, "VIN_SYS_5V0": 4.968, "VDDQ_VDD2_1V8AO": 1.091},
        23.521,
    ),
    "RAM 2/7MB VDD_IN 4761mW/4778mW/4800mW VDD_SOC 957mW/957mW/960mW": (
        {"VDD_IN": 4.761, "VDD_SOC": 0.957},
        4.761,
    ),
}


@pytest.mark.parametrize("line", TEGRASTATS)
def test_lines_of_tegrastats(line: str) -> None:
    assert {rail.name: rail.power_w for rail in parse_tegrastats(line)} == TEGRASTATS[line][0]


def fake_tegrastats(folder: Path, line: str, then: str = "sleep 0.1") -> str:
    path = folder / "tegrastats"
    path.write_text(f'#!/bin/sh\necho $$ > "{folder}/pid"\nwhile :; do echo "{line}"; {then}; done\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("line", TEGRASTATS)
def test_tegrastats_is_the_fallback_and_ends_with_its_sensor(tmp_path: Path, line: str) -> None:
    (tmp_path / "sys").mkdir()
    sensor = find_power_sensor(tmp_path / "sys", None, fake_tegrastats(tmp_path, line))
    assert isinstance(sensor, Tegrastats)
    found = sensor.read()
    assert found.total_w.value == pytest.approx(TEGRASTATS[line][1])
    assert found.total_w.sensor.startswith("tegrastats")
    sensor.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_tegrastats_is_not_started_where_the_sensors_can_be_read(tmp_path: Path) -> None:
    tool = fake_tegrastats(tmp_path, "VDD_IN 1mW/1mW")
    sensor = find_power_sensor(trees.orin_nano(tmp_path / "sys"), None, tool)
    assert sensor is not None
    assert sensor.read().total_w.sensor == "INA3221 VDD_IN"
    sensor.close()
    assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize(("line", "then"), [("RAM 1/2MB", "sleep 0.1"), ("RAM 1/2MB", "exit 1")])
def test_tegrastats_that_tells_no_power_is_no_sensor(tmp_path: Path, line: str, then: str) -> None:
    assert find_power_sensor(tmp_path, None, fake_tegrastats(tmp_path, line, then)) is None
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_tegrastats_that_is_killed_is_closed_without_a_word(tmp_path: Path) -> None:
    sensor = Tegrastats(fake_tegrastats(tmp_path, "VDD_IN 4761mW/4778mW"))
    assert sensor.wait(30)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    sensor.close()
