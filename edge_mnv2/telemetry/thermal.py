"""Temperatures: the kernel's thermal zones, and sensors of the mainboard where it has none."""

from __future__ import annotations

from pathlib import Path

from edge_mnv2.readings import Reading
from edge_mnv2.telemetry.rails import in_order
from edge_mnv2.telemetry.sysfs import SysFile, read_text

# Names that stand for the processor, the most telling first: Jetson's junction, Raspberry Pi, Jetson's CPU by
# its old and new name, Intel, other boards; then chips on PC mainboards; last a zone that may be anywhere.
_PROCESSOR = (
    *("tj-thermal", "cpu-thermal", "cpu_thermal", "CPU-therm", "x86_pkg_temp", "soc-thermal", "soc_thermal"),
    *("coretemp", "k10temp", "zenpower"),
    "acpitz",
)
_CHIPS = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal"})
# A constant on Jetsons, no measurement.
_NO_SENSORS = frozenset({"PMIC-Die"})
# Beyond these, it is a sensor that is not there: a Jetson's sleeping zone says -256.
_MIN_C, _MAX_C = -40.0, 150.0
# A zone that cannot be read is left alone for 1, 2, 4, ... readings, at most for so many.
_MOST_PASSED_OVER = 64


class Thermometers:
    """All temperatures that the kernel offers; their files stay open between readings.

    Sources: kernel documentation, `driver-api/thermal/sysfs-api.rst` (`type`, `temp` in thousandths of a
    degree) and `hwmon/sysfs-interface.rst` (`name`, `temp1_input` in the same unit).

    Args:
        sys: Where the kernel's device tree is mounted.
    """

    def __init__(self, sys: Path) -> None:
        self._sensors: dict[str, _Sensor] = {}
        for zone in in_order((sys / "class/thermal").glob("thermal_zone*")):
            name = read_text(zone / "type")
            if name and name not in _NO_SENSORS:
                self._sensors[self._free(name)] = _Sensor(zone / "temp")
        for chip in in_order((sys / "class/hwmon").glob("hwmon*")):
            name = read_text(chip / "name")
            # The kernel offers zones here once more, with other dashes.
            known = {other.replace("-", "_") for other in self._sensors}
            if name in _CHIPS and name not in known:
                self._sensors[name] = _Sensor(chip / "temp1_input")

    def read(self) -> dict[str, float]:
        """Return the temperatures by name, in degrees Celsius; what cannot be read now is left out."""
        found = {name: sensor.read_c() for name, sensor in self._sensors.items()}
        return {name: value_c for name, value_c in found.items() if value_c is not None}

    def close(self) -> None:
        """Close the files."""
        for sensor in self._sensors.values():
            sensor.file.close()

    def _free(self, name: str) -> str:
        """Return a name that no other zone has: `acpitz`, `acpitz 2`."""
        number, free = 1, name
        while free in self._sensors:
            number += 1
            free = f"{name} {number}"
        return free


def processor_temperature(temperatures_c: dict[str, float]) -> Reading:
    """Return the temperature that stands for the processor, or that there is none."""
    for name in _PROCESSOR:
        if name in temperatures_c:
            return Reading(round(temperatures_c[name], 1), "measured", name)
    return Reading()


class _Sensor:
    def __init__(self, path: Path) -> None:
        self.file = SysFile(path)
        self._failures = self._passed_over = 0

    def read_c(self) -> float | None:
        if self._passed_over:
            self._passed_over -= 1
            return None
        value = self.file.read_int()
        if value is not None and _MIN_C <= value / 1000 <= _MAX_C:
            self._failures = 0
            return value / 1000
        # A zone can be there and not be readable while its part of the chip sleeps.
        self._failures += 1
        self._passed_over = min(2 ** (self._failures - 1), _MOST_PASSED_OVER)
        return None
