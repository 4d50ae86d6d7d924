"""Which sensor tells the device's power, and what would help where none does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class RankedSensor:
    """A sensor, and where it stands among the others.

    Attributes:
        rank: The smallest stands for the most; equal ones are the same source. It ends with the name of the
            source where there are several of a kind.
        sensor: Whoever has it closes it.
    """

    rank: tuple[int, int, str]
    sensor: PowerSensor


def find_power_sensor(
    sys: Path = Path("/sys"),
    vcgencmd: Vcgencmd | None = run_vcgencmd,
    tegrastats: str | None = "tegrastats",
) -> PowerSensor | None:
    """Return the sensor that stands for the most: the board before the processor before a battery.

    It is tried first, so that one that this user may not read does not hide another. `power_watch` finds what
    is plugged in later.

    Args:
        sys: Where the kernel's device tree is mounted.
        vcgencmd: Asks a Raspberry Pi's firmware; None where there is none to ask.
        tegrastats: Command of a Jetson's tool, the fallback there; None to do without.

    Returns:
        None where no sensor can be read. Whoever has one closes it.
    """
    found = better_power_sensor(None, sys, vcgencmd, tegrastats)
    return None if found is None else found.sensor


def better_power_sensor(
    known: RankedSensor | None, sys: Path, vcgencmd: Vcgencmd | None, tegrastats: str | None
) -> RankedSensor | None:
    """Return a sensor that stands for more than a known one, or the same source with more rails.

    Args:
        known: What there is; it stays open. None for nothing.
        sys: Where the kernel's device tree is mounted.
        vcgencmd: Asks a Raspberry Pi's firmware; None where there is none to ask.
        tegrastats: Command of a Jetson's tool; None to do without.

    Returns:
        None where there is none.
    """
    for rank, make in _candidates(sys, vcgencmd, tegrastats):
        is_known = known is not None and rank == known.rank
        # What is worse is not even opened, and no tool is started twice.
        if known is not None and (rank > known.rank or (is_known and isinstance(known.sensor, Tegrastats))):
            return None
        sensor = make()
        if sensor is None:
            continue
        if known is None or not is_known or _has_more_rails(sensor, known.sensor):
            return RankedSensor(rank, sensor)
        sensor.close()
        return None
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


def _has_more_rails(sensor: PowerSensor, other: PowerSensor) -> bool:
    """Return whether a sensor knows more rails: one chip may be bound later than another."""
    return len(sensor.read().rails) > len(other.read().rails)


def _candidates(
    sys: Path, vcgencmd: Vcgencmd | None, tegrastats: str | None
) -> Iterator[tuple[tuple[int, int, str], Callable[[], PowerSensor | None]]]:
    """Yield ranks and ways to a sensor, the best first; nothing is opened before they are called."""
    devices = hwmon_devices(sys)
    inputs = [device for device in devices if device.scope == "board"]
    supplies = [device for device in devices if device.scope == "supply line"]
    for device in inputs:
        yield (0, 0, device.sensor), partial(_tells, HwmonPower, sys, device)
    yield (1, 0, ""), partial(_tells, Ina3221, sys)
    for device in supplies:
        yield (2, 0, device.sensor), partial(_tells, HwmonPower, sys, device)
    if vcgencmd is not None:
        yield (3, 0, ""), partial(_tells, PiPmic, vcgencmd)
    tool = shutil.which(tegrastats) if tegrastats else None
    if tool is not None:
        yield (4, 0, ""), partial(_runs, tool)
    yield (5, 0, ""), partial(_counts, sys)
    # A counter has no power at its first reading, so these are not tried.
    for device in devices:
        if device not in (*inputs, *supplies):
            yield (6, device.order, device.sensor), partial(HwmonPower, sys, device)
    yield (7, 0, ""), partial(_is_there, sys)


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
