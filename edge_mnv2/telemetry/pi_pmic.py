"""Power of a Raspberry Pi 5, by the converters of its power management chip."""

from __future__ import annotations

import re

from edge_mnv2.readings import PowerReading, Rail, Reading
from edge_mnv2.telemetry.rails import total_w
from edge_mnv2.telemetry.vcgencmd import Vcgencmd

# `  VDD_CORE_A current(7)=0.94657990A`: name, volts or amperes, index of the converter's channel, value.
_LINE = re.compile(r"^\s*(\S+)_([AV])\s+(?:current|volt)\(\d+\)=(-?\d+(?:\.\d+)?)\2\s*$", re.MULTILINE)

# A fit to a wall meter over loads from idle to full, published at github.com/jfikar/RPi5-power: what the
# converters lose and what hangs directly on 5 V (USB, HATs) are not among the rails.
_FACTOR = 1.1451
_OFFSET_W = 0.5879

# What the DA9091 of every Raspberry Pi 5, 500 and Compute Module 5 tells, and what the fit was made for.
_RAILS = (
    *("3V7_WL_SW", "3V3_SYS", "1V8_SYS", "DDR_VDD2", "DDR_VDDQ", "1V1_SYS"),
    *("0V8_SW", "VDD_CORE", "0V8_AON", "3V3_DAC", "3V3_ADC", "HDMI"),
)

_SENSOR = "Raspberry Pi 5 PMIC, calibrated"


class PiPmic:
    """Asks the firmware for all rails at each reading.

    The rails are measured; the total is their sum carried over to the wall, and therefore estimated. Without
    one of the chip's twelve rails there is no total; a rail beyond them is shown, but not added.

    Args:
        vcgencmd: Asks the firmware.
    """

    def __init__(self, vcgencmd: Vcgencmd) -> None:
        self._vcgencmd = vcgencmd

    def read(self) -> PowerReading:
        """Return the estimated total and the measured rails."""
        answer = self._vcgencmd("pmic_read_adc")
        rails = () if answer is None else parse_pmic(answer)
        # Without one that is missing the sum would be smaller, and nobody would see why.
        sum_w = total_w(rails, _RAILS)
        if sum_w is None:
            return PowerReading(Reading(sensor=_SENSOR), "board", rails)
        total = Reading(sum_w * _FACTOR + _OFFSET_W, "estimated", _SENSOR)
        return PowerReading(total, "board", rails)

    def close(self) -> None:
        """Do nothing: no file stays open."""


def parse_pmic(text: str) -> tuple[Rail, ...]:
    """Return the rails in the answer to `vcgencmd pmic_read_adc`.

    Only a rail with both a current and a voltage has a power: the 5 V input has no current, for example.

    Args:
        text: Right-aligned lines, all currents before all voltages; others are left out.
    """
    found: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    for name, unit, value in _LINE.findall(text):
        found[unit][name] = float(value)
    volts = found["V"]
    return tuple(Rail(name, amperes * volts[name]) for name, amperes in found["A"].items() if name in volts)


def rails_sum_w(rails: tuple[Rail, ...]) -> float | None:
    """Return the sum of rails that lie side by side, in watts; None without any, or where one is unknown."""
    powers = [rail.power_w for rail in rails if rail.power_w is not None]
    return sum(powers) if rails and len(powers) == len(rails) else None
