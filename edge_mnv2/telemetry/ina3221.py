"""Power of a Jetson, by the INA3221 monitors that its modules carry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edge_mnv2.readings import PowerReading, Rail, Reading
from edge_mnv2.telemetry.rails import Channel, Product, Rails, in_order, measured, total_w
from edge_mnv2.telemetry.sysfs import SysFile, is_there, read_int, read_text

# The input of the whole module; all other rails hang below it.
_INPUTS = ("VDD_IN", "POM_5V_IN")
# Rails side by side, for modules without such an input: AGX Xavier, AGX Orin.
_PARALLEL = frozenset(
    {
        *("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
        *("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"),
    }
)
# The chip has three channels; hwmon's in4 to in6 are voltages of the shunts, in7 their sum (kernel
# documentation, `hwmon/ina3221.rst`).
_CHANNELS = 3
_NOT_CONNECTED = "NC"


class Ina3221:
    """Reads all rails of all chips.

    Sources: NVIDIA Jetson Linux Developer Guide, "Software-Based Power Consumption Modeling" (rails of each
    module), and kernel documentation, `hwmon/ina3221.rst`.

    Args:
        sys: Where the kernel's device tree is mounted.
    """

    def __init__(self, sys: Path) -> None:
        self._rails = Rails(lambda: _channels(sys))

    def read(self) -> PowerReading:
        """Return the board's total, and its rails."""
        return jetson_reading(self._rails.read(), "INA3221")

    def close(self) -> None:
        """Close all files."""
        self._rails.close()


def jetson_reading(rails: Sequence[Rail], sensor: str) -> PowerReading:
    """Return the rails of a Jetson with their total, in which nothing is counted twice.

    Where the input of the module is measured, it is the total. Otherwise the rails are added up; that is an
    estimate where one is unknown, for it might supply another one.

    Args:
        rails: Not connected ones left out. What follows a blank in a name tells equal ones apart.
        sensor: What the name of the total begins with.
    """
    labels = {rail.name: rail.name.partition(" ")[0] for rail in rails}
    whole = next((label for label in _INPUTS if label in labels.values()), None)
    if whole is not None:
        inputs = [name for name, label in labels.items() if label == whole]
        value, name, is_sure = total_w(rails, inputs), f"{sensor} {whole}", True
    else:
        value, is_sure = total_w(rails, list(labels)), _PARALLEL.issuperset(labels.values())
        name = f"{sensor}, sum of rails"
    total = measured(value, name) if is_sure or value is None else Reading(value, "estimated", name)
    return PowerReading(total, "board", tuple(rails))


def _channels(sys: Path) -> list[Channel]:
    """Return the connected channels of all chips, in the order of their addresses; no two of one name."""
    found = _by_chip(sys / "bus" / "i2c" / "drivers")
    labels = Counter(channel.name for _, channel in found)
    told: Counter[str] = Counter()
    for chip, channel in found:
        if labels[channel.name] > 1:
            place = f"{channel.name} ({chip})"
            told[place] += 1
            channel.name = place if told[place] == 1 else f"{place} {told[place]}"
    return [channel for _, channel in found]


def _by_chip(drivers: Path) -> list[tuple[str, Channel]]:
    """Return address and channel of all chips, in order."""
    channels: list[tuple[str, Channel]] = []
    for device in in_order(drivers.glob("ina3221*/*/hwmon/hwmon*")):
        chip = device.parent.parent.name
        of_chip = [one for number in range(1, _CHANNELS + 1) for one in _of_hwmon(device, chip, number)]
        channels += [(chip, one) for one in of_chip]
    for device in in_order(drivers.glob("ina3221*/*/iio:device*")):
        chip = device.parent.name
        of_chip = [one for number in range(_CHANNELS) for one in _of_iio(device, chip, number)]
        channels += [(chip, one) for one in of_chip]
    return channels


def _of_hwmon(device: Path, chip: str, number: int) -> list[Product]:
    """Return channel 1 to 3 of the mainline driver, which has no power: millivolts times milliamperes."""
    name = read_text(device / f"in{number}_label") or f"{chip} channel {number}"
    voltage, current = device / f"in{number}_input", device / f"curr{number}_input"
    is_off = read_int(device / f"in{number}_enable") == 0
    if name == _NOT_CONNECTED or is_off or not (is_there(voltage) and is_there(current)):
        return []
    return [Product(name, (SysFile(voltage), SysFile(current)), 1e-6)]


def _of_iio(device: Path, chip: str, number: int) -> list[Product]:
    """Return channel 0 to 2 of NVIDIA's own driver (JetPack 4): milliwatts."""
    name = read_text(device / f"rail_name_{number}") or f"{chip} channel {number + 1}"
    power = device / f"in_power{number}_input"
    if name == _NOT_CONNECTED or not is_there(power):
        return []
    return [Product(name, (SysFile(power),), 1e-3)]
