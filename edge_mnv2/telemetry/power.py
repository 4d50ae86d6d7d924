"""Which sensor tells the device's power, and what would help where none does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

from edge_mnv2.readings import PowerReading
from edge_mnv2.telemetry.battery import Battery
from edge_mnv2.telemetry.hwmon_power import HwmonPower, hwmon_devices
from edge_mnv2.telemetry.ina3221 import Ina3221
from edge_mnv2.telemetry.pi_pmic import PiPmic
from edge_mnv2.telemetry.rapl import Rapl, rapl_is_locked
from edge_mnv2.telemetry.sysfs import read_text
from edge_mnv2.telemetry.tegrastats import Tegrastats
from edge_mnv2.telemetry.vcgencmd import Vcgencmd, run_vcgencmd

# The tool's first line comes after one interval.
_TEGRASTATS_WAIT_S = 3.0


class PowerSensor(Protocol):
    """Something that tells power."""

    def read(self) -> PowerReading:
        """Return the power of now; what cannot be read is unavailable, and nothing is raised."""

    def close(self) -> None:
        """Close files, end processes."""


def find_power_sensor(
    sys: Path = Path("/sys"),
    vcgencmd: Vcgencmd | None = run_vcgencmd,
    tegrastats: str | None = "tegrastats",
) -> PowerSensor | None:
    """Return the sensor that stands for the most: the board before the processor before a battery.

    It is tried first, so that one that this user may not read does not hide another. Calling it again later
    may find one that was plugged in since.

    Args:
        sys: Where the kernel's device tree is mounted.
        vcgencmd: Asks a Raspberry Pi's firmware; None where there is none to ask.
        tegrastats: Command of a Jetson's tool, the fallback there; None to do without.

    Returns:
        None where no sensor can be read. Whoever has one closes it.
    """
    for make in _candidates(sys, vcgencmd, tegrastats):
        sensor = make()
        if sensor is not None:
            return sensor
    return None


def why_no_power(sys: Path = Path("/sys")) -> list[str]:
    """Return why power is unavailable on this device, and what would help: a line for each.

    Args:
        sys: Where the kernel's device tree is mounted.
    """
    model = read_text(sys / "firmware" / "devicetree" / "base" / "model") or ""
    lines: list[str] = []
    if "Raspberry Pi" in model:
        model = model.rstrip("\0")
        if any(name in model for name in ("Pi 5", "Pi 500", "Compute Module 5")):
            lines.append(
                f"{model}: its PMIC tells power by vcgencmd, which gives no answer. Install it, and let this "
                "user run it: sudo apt install raspi-utils && sudo usermod -aG video $USER"
            )
        else:
            lines.append(
                f"{model}: there is no sensor of current on this board. An INA219, INA226 or INA260 in its "
                "supply line, on I2C, is found once its driver is bound."
            )
    if any((sys / "bus" / "i2c" / "drivers").glob("ina3221*/*-*")):
        lines.append(
            "The INA3221 is there, but this user cannot read it. Who may: "
            "ls -lR /sys/bus/i2c/drivers/ina3221*/*-*/ | grep input"
        )
    if rapl_is_locked(sys):
        lines.append(
            "The processor counts its energy (RAPL), but only root may read it. Until the next start of the "
            "system: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
        )
    return lines or [
        "No sensor here tells power; most virtual machines have none. An INA219, INA226 or INA260 in the "
        "supply line, on I2C, is found once its driver is bound."
    ]


def _candidates(
    sys: Path, vcgencmd: Vcgencmd | None, tegrastats: str | None
) -> Iterator[Callable[[], PowerSensor | None]]:
    """Yield ways to a sensor, the best first; nothing is opened before they are called."""
    devices = hwmon_devices(sys)
    inputs = [device for device in devices if device.scope == "board"]
    supplies = [device for device in devices if device.scope == "supply line"]
    yield from (partial(_tells, HwmonPower, sys, device) for device in inputs)
    yield partial(_tells, Ina3221, sys)
    yield from (partial(_tells, HwmonPower, sys, device) for device in supplies)
    if vcgencmd is not None:
        yield partial(_tells, PiPmic, vcgencmd)
    tool = shutil.which(tegrastats) if tegrastats else None
    if tool is not None:
        yield partial(_runs, tool)
    yield partial(_counts, sys)
    # A counter has no power at its first reading, so these are not tried.
    yield from (partial(HwmonPower, sys, other) for other in devices if other not in (*inputs, *supplies))
    yield partial(_is_there, sys)


def _tells(make: Callable[..., PowerSensor], *arguments: object) -> PowerSensor | None:
    """Return a sensor if it has a total now."""
    sensor = make(*arguments)
    if sensor.read().total_w.value is not None:
        return sensor
    sensor.close()
    return None


def _counts(sys: Path) -> PowerSensor | None:
    """Return the processor's counters if they can be read."""
    sensor = Rapl(sys)
    if sensor.has_total:
        return sensor
    sensor.close()
    return None


def _is_there(sys: Path) -> PowerSensor | None:
    """Return the battery even while it is charged: it tells power as soon as the charger is unplugged."""
    sensor = Battery(sys)
    return sensor if sensor.exists else None


def _runs(tool: str) -> PowerSensor | None:
    """Return `tegrastats` if it tells of rails."""
    try:
        sensor = Tegrastats(tool)
    except OSError:
        return None
    if sensor.wait(_TEGRASTATS_WAIT_S):
        return sensor
    sensor.close()
    return None
