"""Power of a PC's processor, by its counters of energy (RAPL: Intel, and AMD by the same names)."""

from __future__ import annotations

import re
import time
from pathlib import Path

from edge_mnv2.readings import PowerReading
from edge_mnv2.telemetry.energy import Clock, EnergyCounter
from edge_mnv2.telemetry.rails import Channel, Rails, in_order, measured, total_w
from edge_mnv2.telemetry.sysfs import SysFile, read_int, read_text

# `intel-rapl:0` is a package, `intel-rapl:0:0` a part of it. `intel-rapl-mmio:0` is the same package again.
_DOMAIN = re.compile(r"intel-rapl:(\d+)(:\d+)?")
_PACKAGE = re.compile(r"package-\d+(-die-\d+)?")
_PLATFORM = "psys"


class Rapl:
    """Reads the counters of all domains; power is the mean since the last reading.

    The total is that of `psys`, the whole platform, where the processor has it and it counts. Otherwise it is
    the sum of the packages: cores and graphics are parts of them. Memory (`dram`) lies beside them and is
    shown as a rail, but not added, for client processors count it nowhere.

    Source: kernel documentation, `power/powercap/powercap.rst`.

    Args:
        sys: Where the kernel's device tree is mounted.
        clock: Tells the time in nanoseconds.
    """

    def __init__(self, sys: Path, clock: Clock = time.monotonic_ns) -> None:
        self._rails = Rails(lambda: _channels(sys, clock))
        names = self._rails.names
        self._total = tuple(name for name in names if _PACKAGE.fullmatch(name))
        self._scope, self._sensor = "cpu package", "RAPL package"
        if _PLATFORM in names:
            self._total, self._scope, self._sensor = (_PLATFORM,), "platform", "RAPL psys"

    @property
    def has_total(self) -> bool:
        """Whether a counter of the whole can be read."""
        return bool(self._total)

    def read(self) -> PowerReading:
        """Return mean power since the last reading, which should be at least 10 ms ago."""
        rails = self._rails.read()
        return PowerReading(measured(total_w(rails, self._total), self._sensor), self._scope, rails)

    def close(self) -> None:
        """Close all files."""
        self._rails.close()


def rapl_is_locked(sys: Path) -> bool:
    """Return whether there are counters that this user may not read."""
    counters = list((sys / "class" / "powercap").glob("intel-rapl:*/energy_uj"))
    return bool(counters) and all(read_int(counter) is None for counter in counters)


def _channels(sys: Path, clock: Clock) -> list[Channel]:
    """Return the counters that can be read, each with its first reading taken."""
    found: list[Channel] = []
    packages: dict[str, str] = {}
    for zone in in_order((sys / "class" / "powercap").glob("intel-rapl:*")):
        match = _DOMAIN.fullmatch(zone.name)
        name = read_text(zone / "name")
        if match is None or not name:
            continue
        number, part = match.groups()
        if part is None:
            packages[number] = name
        else:
            name = f"{packages.get(number, f'package-{number}')} {name}"
        # Some processors list `psys` and never count there.
        if name == _PLATFORM and not read_int(zone / "energy_uj"):
            continue
        counter = EnergyCounter(
            name, SysFile(zone / "energy_uj"), read_int(zone / "max_energy_range_uj"), clock
        )
        if counter.is_readable:
            found.append(counter)
        else:
            counter.close()
    return found
