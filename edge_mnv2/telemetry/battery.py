"""Power that a battery gives, which is the device's only while nothing else feeds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_mnv2.readings import PowerReading, Rail
from edge_mnv2.telemetry.rails import in_order, measured
from edge_mnv2.telemetry.sysfs import SysFile, is_there, read_text

_SENSOR = "battery"


class Battery:
    """Reads all batteries of the device.

    While one is charged, or a charger is plugged in, the battery's current is not what the device takes: the
    total is unavailable then.

    Source: kernel documentation, `ABI/testing/sysfs-class-power` (microwatts, microvolts, microamperes).

    Args:
        sys: Where the kernel's device tree is mounted.
    """

    def __init__(self, sys: Path) -> None:
        self._supplies = sys / "class" / "power_supply"
        self._batteries: list[_Cell] = []
        self._chargers: list[SysFile] = []
        self._find()

    @property
    def exists(self) -> bool:
        """Whether there is a battery."""
        return bool(self._batteries)

    def read(self) -> PowerReading:
        """Return the power that the batteries give; each is a rail, without a value while it gives none."""
        states = [battery.status.read() for battery in self._batteries]
        if None in states or not states:  # pulled out: its successor may have another name
            self._find()
            states = [battery.status.read() for battery in self._batteries]
        rails = tuple(
            Rail(battery.name, battery.power_w() if state == "Discharging" else None)
            for battery, state in zip(self._batteries, states, strict=True)
        )
        powers = [rail.power_w for rail, state in zip(rails, states, strict=True) if state == "Discharging"]
        known = [power_w for power_w in powers if power_w is not None]
        is_fed = "Charging" in states or any(charger.read_int() for charger in self._chargers)
        is_whole = bool(known) and len(known) == len(powers) and not is_fed
        return PowerReading(measured(sum(known) if is_whole else None, _SENSOR), "battery", rails)

    def close(self) -> None:
        """Close all files."""
        for battery in self._batteries:
            battery.close()
        for charger in self._chargers:
            charger.close()
        self._batteries, self._chargers = [], []

    def _find(self) -> None:
        self.close()
        for supply in in_order(self._supplies.glob("*")):
            kind = read_text(supply / "type")
            if kind == "Battery":
                # `Device`: a battery in a mouse.
                if read_text(supply / "scope") != "Device":
                    self._batteries.append(_cell(supply))
            elif kind is not None and is_there(supply / "online"):
                self._chargers.append(SysFile(supply / "online"))


@dataclass(frozen=True, slots=True)
class _Cell:
    name: str
    status: SysFile
    power: SysFile
    voltage: SysFile
    current: SysFile

    def power_w(self) -> float | None:
        """Return the power now, in watts: firmware tells it, or voltage and current, with either sign."""
        power_uw = self.power.read_int()
        if power_uw is not None:
            return abs(power_uw) * 1e-6
        voltage_uv, current_ua = self.voltage.read_int(), self.current.read_int()
        return None if voltage_uv is None or current_ua is None else abs(voltage_uv * current_ua) * 1e-12

    def close(self) -> None:
        for file in (self.status, self.power, self.voltage, self.current):
            file.close()


def _cell(supply: Path) -> _Cell:
    names = ("status", "power_now", "voltage_now", "current_now")
    return _Cell(supply.name, *(SysFile(supply / name) for name in names))
