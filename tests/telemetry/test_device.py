from __future__ import annotations

from pathlib import Path

import pytest

from edge_mnv2.readings import Reading
from edge_mnv2.telemetry.device import read_device


def zone(sys: Path, number: int, kind: str, value: str | None) -> None:
    folder = sys / "class" / "thermal" / f"thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "type").write_text(f"{kind}\n")
    if value is not None:
        (folder / "temp").write_text(value)


def test_a_raspberry_pi(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", "48312\n")
    assert read_device(tmp_path).temperature_c == Reading(48.3, "measured", "cpu-thermal")


def test_a_jetson_tells_its_junction_not_its_constant_or_sleeping_parts(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", "51000\n")
    zone(tmp_path, 1, "gpu-thermal", None)
    zone(tmp_path, 2, "PMIC-Die", "100000\n")
    zone(tmp_path, 8, "tj-thermal", "53531\n")
    assert read_device(tmp_path).temperature_c == Reading(53.5, "measured", "tj-thermal")


def test_a_pc_has_a_chip(tmp_path: Path) -> None:
    for number, (name, value) in enumerate([("nvme", "30000"), ("coretemp", "61000")]):
        folder = tmp_path / "class" / "hwmon" / f"hwmon{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(name)
        (folder / "temp1_input").write_text(value)
    assert read_device(tmp_path).temperature_c == Reading(61.0, "measured", "coretemp")


@pytest.mark.parametrize("value", ["", "hot", "-274000", "999000", None])
def test_what_is_no_temperature_is_unavailable(tmp_path: Path, value: str | None) -> None:
    zone(tmp_path, 0, "cpu-thermal", value)
    assert read_device(tmp_path).temperature_c == Reading(None, "unavailable", "")


def test_nothing_is_unavailable_never_zero(tmp_path: Path) -> None:
    found = read_device(tmp_path)
    assert found.temperature_c == found.power_w == Reading(None, "unavailable", "")
    assert read_device().power_w.value is None
