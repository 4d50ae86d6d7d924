"""Why the device is slower than it could be: under-voltage, heat, over-current."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from edge_mnv2.readings import Throttling
from edge_mnv2.telemetry.sysfs import SysFile, read_int, read_text
from edge_mnv2.telemetry.vcgencmd import Vcgencmd, run_vcgencmd

# Bits of `get_throttled`; those of "since boot" are 16 higher (Raspberry Pi documentation, `vcgencmd`).
_BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
_SINCE_BOOT_SHIFT = 16
# A process each time, some milliseconds of one core: every five seconds where nothing else tells what holds
# now, and once a minute for what else held since boot.
_ASK_INTERVAL_NS, _ASK_RARELY_NS = 5_000_000_000, 60_000_000_000
# NVIDIA's Jetson Linux guide, Orin series, over-current event status.
_OVER_CURRENT = {1: "under-voltage", 2: "average over-current", 3: "instantaneous over-current"}


class ThrottlingSensor:
    """Who tells of throttling on this device: a Raspberry Pi's firmware, counters of an Orin or an Intel CPU.

    Args:
        sys: Where the kernel's device tree is mounted.
        vcgencmd: Asks a Raspberry Pi's firmware.
        clock_ns: Of the monotonic clock.
    """

    def __init__(
        self,
        sys: Path,
        vcgencmd: Vcgencmd = run_vcgencmd,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        counters, self._counters_name = _orin_counters(sys), "soctherm_oc"
        if not counters:
            counters, self._counters_name = _intel_counters(sys), "thermal_throttle"
        self._counters = counters
        self._pi = None if counters else _RaspberryPi(sys, vcgencmd, clock_ns)

    def read(self) -> Throttling | None:
        """Return what holds and held; None where the device tells nothing of it."""
        if self._pi is not None:
            return self._pi.read()
        counts = {}
        for name, files in self._counters.items():
            values = [value for value in (file.read_int() for file in files) if value is not None]
            if values:
                counts[name] = max(values)
        if not counts:
            return None
        happened = frozenset(name for name, count in counts.items() if count > 0)
        return Throttling(since_boot=happened, counts=counts, sensor=self._counters_name)

    def close(self) -> None:
        """Close the files."""
        for files in self._counters.values():
            for file in files:
                file.close()
        if self._pi is not None:
            self._pi.close()


class _RaspberryPi:
    """What the firmware says, by the kernel's file, the tool, or the kernel's alarm alone.

    The kernel's driver of the alarm asks the firmware every two seconds, and clears the bits of "since boot"
    (`drivers/hwmon/raspberrypi-hwmon.c`), so those in the kernel's file are true of the last seconds alone:
    what was seen once is remembered here, and the tool tells what was before.
    """

    def __init__(self, sys: Path, vcgencmd: Vcgencmd, clock_ns: Callable[[], int]) -> None:
        # `soc/soc:firmware`, on a Raspberry Pi 5 `soc@107c000000/soc@107c000000:firmware`.
        places = sorted((sys / "devices/platform").glob("soc*/soc*:firmware/get_throttled"))
        self._bits = SysFile(places[0]) if places else None
        alarms = (chip / "in0_lcrit_alarm" for chip in _chips(sys, "rpi_volt"))
        self._alarm = next((SysFile(path) for path in alarms), None)
        self._vcgencmd = vcgencmd
        self._clock_ns = clock_ns
        self._asked_ns: int | None = None
        self._asked: int | None = None
        self._since_boot: frozenset[str] = frozenset()

    def read(self) -> Throttling | None:
        bits, sensor = self._read_file(), "get_throttled"
        asked = self._ask(rarely=bits is not None)
        if bits is None:
            bits, sensor = asked, "vcgencmd get_throttled"
        if bits is not None:
            now, before = _names(bits), _names((bits | (asked or 0)) >> _SINCE_BOOT_SHIFT)
        else:
            alarm, sensor = None if self._alarm is None else self._alarm.read_int(), "rpi_volt"
            if alarm is None:
                return None
            now, before = frozenset({_BITS[0]} if alarm else ()), frozenset[str]()
        self._since_boot |= now | before
        return Throttling(now, self._since_boot, sensor=sensor)

    def close(self) -> None:
        for file in (self._bits, self._alarm):
            if file is not None:
                file.close()

    def _read_file(self) -> int | None:
        return _hexadecimal(None if self._bits is None else self._bits.read())

    def _ask(self, *, rarely: bool) -> int | None:
        now_ns = self._clock_ns()
        # Where it had no answer, it will hardly have one soon.
        interval_ns = _ASK_RARELY_NS if rarely or self._asked is None else _ASK_INTERVAL_NS
        if self._asked_ns is None or now_ns - self._asked_ns >= interval_ns:
            self._asked_ns = now_ns
            self._asked = _hexadecimal((self._vcgencmd("get_throttled") or "").rpartition("throttled=")[2])
        return self._asked


def _names(bits: int) -> frozenset[str]:
    return frozenset(name for number, name in enumerate(_BITS) if bits >> number & 1)


def _hexadecimal(text: str | None) -> int | None:
    """Return the number in `50005` or `0x50005`."""
    return int(text, 16) if text and re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", text) else None


def _chips(sys: Path, name: str) -> list[Path]:
    return [chip for chip in sorted((sys / "class/hwmon").glob("hwmon*")) if read_text(chip / "name") == name]


def _orin_counters(sys: Path) -> dict[str, list[SysFile]]:
    """Return the counters of events that slow the chip down; those that are switched off are left out."""
    found = {}
    for chip in _chips(sys, "soctherm_oc"):
        for path in sorted(chip.glob("oc*_event_cnt")):
            number = path.name.removeprefix("oc").removesuffix("_event_cnt")
            if number.isdecimal() and read_int(chip / f"oc{number}_throt_en") != 0:
                found[_OVER_CURRENT.get(int(number), f"over-current {number}")] = [SysFile(path)]
    return found


def _intel_counters(sys: Path) -> dict[str, list[SysFile]]:
    """Return how often each core was too hot; siblings count together, so the largest stands for all.

    Source: Linux, `arch/x86/kernel/cpu/mce/therm_throt.c`.
    """
    places = sorted((sys / "devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
    return {"thermal throttling": [SysFile(path) for path in places]} if places else {}
