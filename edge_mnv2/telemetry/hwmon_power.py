"""Power by any device of the kernel's hwmon that tells it: an INA219 in the supply line, a power meter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_mnv2.readings import PowerReading
from edge_mnv2.telemetry.energy import EnergyCounter
from edge_mnv2.telemetry.rails import Channel, Product, Rails, in_order, measured, total_w, without_still_ones
from edge_mnv2.telemetry.sysfs import SysFile, is_there, read_text

# What devices measure, by name. The order is that of choice.
_SCOPES = (
    ("board", re.compile(r"power_meter|corsairpsu|macsmc\w*")),
    # Current monitors; what their reading stands for depends on where they are wired into.
    ("supply line", re.compile(r"ina[27]\d\d|isl28022|ltc294[57]|ltc4151|pac19\d\d|sy24655|sq52206")),
    ("cpu package", re.compile(r"amd_energy|fam15h_power|zenpower")),
)
# No supply of the device: graphics cards, batteries (they have a reader of their own), light in optical
# transceivers. The INA3221 tells no power of its own.
_OTHERS = re.compile(r"amdgpu|radeon|nouveau|i915|xe|sfp\w*|BAT\w*|ucsi\w*|ina3221")
# Labels of a channel that is the whole, where a device has several.
_WHOLE = re.compile(r"VIN|pin|power total|total( system)? power", re.IGNORECASE)
# Sockets of AMD's counters lie side by side; the cores are part of them.
_SOCKET = re.compile(r"Esocket\d+")


@dataclass(frozen=True, slots=True)
class HwmonDevice:
    """A device with a total.

    Attributes:
        sensor: Name and address, which stay when the number of the hwmon changes.
        scope: What its total covers.
        order: Of choice, the smallest first.
        total: Names of the rails that add up to the total.
        counts: Whether its channels are counters of energy.
    """

    sensor: str
    scope: str
    order: int
    total: tuple[str, ...]
    counts: bool = False


class HwmonPower:
    """Reads a device's power.

    Source: kernel documentation, `hwmon/sysfs-interface.rst` (`powerN_input`, `powerN_average` in microwatts,
    `energyN_input` in microjoules).

    Args:
        sys: Where the kernel's device tree is mounted.
        device: From `hwmon_devices`.
    """

    def __init__(self, sys: Path, device: HwmonDevice) -> None:
        self._device = device
        self._rails = Rails(lambda: _find_again(sys, device.sensor))

    def read(self) -> PowerReading:
        """Return the device's total, and its channels."""
        rails = self._rails.read()
        if self._device.counts:
            rails = without_still_ones(rails, self._device.total)
        value = total_w(rails, self._device.total)
        return PowerReading(measured(value, self._device.sensor), self._device.scope, rails)

    def close(self) -> None:
        """Close all files."""
        self._rails.close()


def hwmon_devices(sys: Path) -> list[HwmonDevice]:
    """Return the devices that tell a total, those that stand for the most first, then by address."""
    found: list[HwmonDevice] = []
    for folder in in_order((sys / "class" / "hwmon").glob("hwmon*")):
        name = read_text(folder / "name") or ""
        if not name or _OTHERS.fullmatch(name):
            continue
        channels = _channels(folder)
        total = _total([channel.name for channel in channels])
        counts = any(isinstance(channel, EnergyCounter) for channel in channels)
        for channel in channels:
            channel.close()
        if total:
            scopes = [scope for scope, pattern in _SCOPES if pattern.fullmatch(name)]
            # Nobody knows what another device measures: its name says at least who it is.
            scope = "board" if total == ("VIN",) else scopes[0] if scopes else name
            order = next((at for at, (known, _) in enumerate(_SCOPES) if known == scope), len(_SCOPES))
            found.append(HwmonDevice(_sensor(folder, name), scope, order, total, counts))
    return sorted(found, key=lambda device: (device.order, device.sensor))


def _total(names: Sequence[str]) -> tuple[str, ...]:
    """Return which channels add up to the whole: none where nobody can tell."""
    sockets = tuple(name for name in names if _SOCKET.fullmatch(name))
    whole = [name for name in names if _WHOLE.fullmatch(name)]
    if whole or len(names) == 1:
        return ((whole or list(names))[0],)
    return sockets


def _sensor(folder: Path, name: str) -> str:
    """Return name and address of a device: `ina219 1-0040`."""
    device = folder / "device"
    return f"{name} {device.resolve().name}" if is_there(device) else name


def _find_again(sys: Path, sensor: str) -> list[Channel]:
    """Return the channels of the device, whatever its number is now."""
    for folder in in_order((sys / "class" / "hwmon").glob("hwmon*")):
        if _sensor(folder, read_text(folder / "name") or "") == sensor:
            return _channels(folder)
    return []


def _channels(folder: Path) -> list[Channel]:
    """Return the channels that tell power; counters of energy only where there are none."""
    channels: list[Channel] = []
    for kind, suffix in (("power", "input"), ("power", "average")):
        channels += [
            Product(_label(file, suffix), (SysFile(file),), 1e-6)
            for file in in_order(folder.glob(f"{kind}*_{suffix}"))
        ]
        if channels:
            return channels
    counters = [
        EnergyCounter(_label(file, "input"), SysFile(file)) for file in in_order(folder.glob("energy*_input"))
    ]
    channels += [counter for counter in counters if counter.is_readable]
    for counter in counters:
        if not counter.is_readable:
            counter.close()
    return channels


def _label(file: Path, suffix: str) -> str:
    """Return the label of the channel that a file belongs to, its bare name without one."""
    channel = file.name[: -len(f"_{suffix}")]
    return read_text(file.with_name(f"{channel}_label")) or channel
