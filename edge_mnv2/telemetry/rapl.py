"""Power of a PC's processor, by its counters of energy (RAPL: Intel, and AMD by the same names)."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from edge_mnv2.readings import PowerReading, Rail
from edge_mnv2.telemetry.energy import Clock, EnergyCounter
from edge_mnv2.telemetry.rails import Channel, Rails, in_order, measured, total_w, without_still_ones
from edge_mnv2.telemetry.sysfs import SysFile, read_int, read_text

# `intel-rapl:0` is a package, `intel-rapl:0:0` a part of it. `intel-rapl-mmio:0` is the same package again.
_DOMAIN = re.compile(r"intel-rapl:(\d+)(:\d+)?")
_PACKAGE = re.compile(r"package-\d+(-die-\d+)?")
_PLATFORM = "psys"
# Of `psys`, until it is taken for one that does not count; a slow one may miss a short interval.
_STILL_READINGS = 3


class Rapl:
    """Reads the counters of all domains; power is the mean since the last reading.

    The total is that of `psys`, the whole platform, where the processor has it and it counts. Otherwise it is
    the sum of the packages: cores and graphics are parts of them. Memory (`dram`) lies beside them and is
    shown as a rail, but not added, for client processors count it nowhere.

    A processor that reads its counters takes power: a package or `psys` that stands still does not count, as
    in some virtual machines, and is unavailable.

    Source: kernel documentation, `power/powercap/powercap.rst`.

    Args:
        sys: Where the kernel's device tree is mounted.
        clock: Tells the time in nanoseconds.
    """

    def __init__(self, sys: Path, clock: Clock = time.monotonic_ns) -> None:
        self._rails = Rails(lambda: _channels(sys, clock))
        names = self._rails.names
        self._packages = tuple(name for name in names if _PACKAGE.fullmatch(name))
        self._has_platform = _PLATFORM in names
        self._still = 0

    @property
    def has_total(self) -> bool:
        """Whether a counter of the whole can be read."""
        return self._has_platform or bool(self._packages)

    def read(self) -> PowerReading:
        """Return mean power since the last reading, which should be at least 10 ms ago."""
        rails = without_still_ones(self._rails.read(), (*self._packages, _PLATFORM))
        if self._has_platform:
            self._watch_platform(rails)
        total, scope, sensor = self._packages, "cpu package", "RAPL package"
        if self._has_platform:
            total, scope, sensor = (_PLATFORM,), "platform", "RAPL psys"
        return PowerReading(measured(total_w(rails, total), sensor), scope, rails)

    def _watch_platform(self, rails: Sequence[Rail]) -> None:
        """Do without `psys` for good where it stands still while the packages count."""
        if total_w(rails, (_PLATFORM,)) is not None:
            self._still = 0
        elif total_w(rails, self._packages) is not None:
            self._still += 1
        self._has_platform = self._still < _STILL_READINGS

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
