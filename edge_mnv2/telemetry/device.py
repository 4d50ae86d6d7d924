"""What the device says of itself: temperature and power. What it does not say is unavailable, never 0."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edge_mnv2.readings import DeviceReading, Reading

# Zones of the kernel's thermal framework that stand for the processor, the most telling first:
# Jetson's junction, Raspberry Pi, Jetson's CPU by its old and new name, Intel, other boards.
_ZONES = (
    *("tj-thermal", "cpu-thermal", "cpu_thermal", "CPU-therm", "x86_pkg_temp"),
    *("soc-thermal", "soc_thermal", "k10temp", "acpitz"),
)
# Sensors on PC mainboards, where the kernel has no zone.
_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
# Beyond these, it is a sensor that is not there.
_MIN_C, _MAX_C = -40.0, 150.0


def read_device(sys: Path = Path("/sys")) -> DeviceReading:
    """Read the sensors; this may take some milliseconds where they hang on a slow bus.

    Args:
        sys: Where the kernel's device tree is mounted.
    """
    return DeviceReading(_temperature(sys), Reading())


def _temperature(sys: Path) -> Reading:
    """Return the processor's temperature.

    Sources: kernel documentation, `driver-api/thermal/sysfs-api.rst` (`type`, `temp` in thousandths of a
    degree) and `hwmon/sysfs-interface.rst` (`name`, `temp1_input` in the same unit).
    """
    found: dict[str, float] = {}
    places = [(zone / "type", zone / "temp") for zone in sorted(sys.glob("class/thermal/thermal_zone*"))]
    places += [(chip / "name", chip / "temp1_input") for chip in sorted(sys.glob("class/hwmon/hwmon*"))]
    for name_file, value_file in places:
        # A zone can be there and not be readable while its part of the chip sleeps.
        with suppress(OSError, ValueError):
            name = name_file.read_text(encoding="utf-8").strip()
            value_c = int(value_file.read_text(encoding="utf-8")) / 1000
            if _MIN_C <= value_c <= _MAX_C:
                found.setdefault(name, value_c)
    for name in (*_ZONES, *_CHIPS):
        if name in found:
            return Reading(round(found[name], 1), "measured", name)
    return Reading()
