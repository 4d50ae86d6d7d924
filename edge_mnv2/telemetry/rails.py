"""Supply rails that the kernel tells by files, found again when they come back at another place."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_mnv2.readings import Rail, Reading
from edge_mnv2.telemetry.sysfs import SysFile


class Channel(Protocol):
    """One rail that can be read: `Product` or `energy.EnergyCounter`."""

    name: str

    def read(self) -> float | None:
        """Return the power in watts, None where it cannot be read now."""

    def close(self) -> None:
        """Close the files."""


@dataclass(slots=True)
class Product:
    """Power of a rail as the product of its files: voltage and current, or power alone.

    Attributes:
        name: Of the rail.
        files: Each holds a whole number.
        unit_w: What a product of 1 stands for, in watts.
    """

    name: str
    files: tuple[SysFile, ...]
    unit_w: float

    def read(self) -> float | None:
        """Return the power in watts, None where one of the files cannot be read now."""
        values: list[int] = []
        for file in self.files:
            value = file.read_int()
            if value is None:
                return None
            values.append(value)
        return math.prod(values) * self.unit_w

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            file.close()


class Rails:
    """The rails of a sensor, by name.

    The kernel numbers hwmon devices as they come: one that was unbound and bound again has other paths. So a
    rail that cannot be read is looked for again. A rail that was there and is gone stays in the list without
    a value, so that nobody takes the sum of the others for the whole.

    Args:
        find: Looks for the channels, at once and whenever one cannot be read.
    """

    def __init__(self, find: Callable[[], Sequence[Channel]]) -> None:
        self._find = find
        self._channels: dict[str, Channel] = {}
        self._adopt(find(), replace=())

    @property
    def names(self) -> tuple[str, ...]:
        """Of all rails, in the sensor's order."""
        return tuple(self._channels)

    def read(self) -> tuple[Rail, ...]:
        """Return every rail; the power of those that cannot be read now is None."""
        powers = {name: channel.read() for name, channel in self._channels.items()}
        lost = [name for name, power_w in powers.items() if power_w is None]
        if lost:
            self._adopt(self._find(), replace=lost)
            powers.update({name: self._channels[name].read() for name in lost})
        return tuple(Rail(name, power_w) for name, power_w in powers.items())

    def close(self) -> None:
        """Close all files."""
        for channel in self._channels.values():
            channel.close()

    def _adopt(self, found: Iterable[Channel], replace: Sequence[str]) -> None:
        """Take channels of unknown names, and those in place of lost ones; close the others."""
        is_first = not self._channels
        for channel in found:
            known = self._channels.get(channel.name)
            if (known is None and is_first) or channel.name in replace:
                if known is not None:
                    known.close()
                self._channels[channel.name] = channel
            else:
                channel.close()


def total_w(rails: Sequence[Rail], names: Sequence[str]) -> float | None:
    """Return the sum of the rails with these names, None where one of them has no value or is missing."""
    powers = {rail.name: rail.power_w for rail in rails}
    total = 0.0
    for name in names:
        power_w = powers.get(name)
        if power_w is None:
            return None
        total += power_w
    return total if names else None


def without_still_ones(rails: Sequence[Rail], names: Sequence[str]) -> tuple[Rail, ...]:
    """Return rails, those with these names without a value where their counters of energy stood still.

    Args:
        rails: Their power is exactly 0 where the counter did not move.
        names: Of what cannot take nothing.
    """
    return tuple(
        Rail(rail.name, None) if rail.power_w == 0 and rail.name in names else rail for rail in rails
    )


def measured(value: float | None, sensor: str) -> Reading:
    """Return a measured value, or that it is unavailable from this sensor."""
    return Reading(value, "unavailable" if value is None else "measured", sensor)


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Return paths sorted with their numbers as numbers: `hwmon2` before `hwmon10`."""
    return sorted(
        paths,
        key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))],
    )
