"""What the device says of itself, all of it together. What it does not say is unavailable, never 0."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edge_mnv2.readings import DeviceReading, PowerReading
from edge_mnv2.telemetry.clocks import Clocks
from edge_mnv2.telemetry.load import CpuLoad, GpuLoad
from edge_mnv2.telemetry.memory import ResidentSize
from edge_mnv2.telemetry.power_mode import PowerMode, run_nvpmodel
from edge_mnv2.telemetry.power_watch import PowerWatch
from edge_mnv2.telemetry.thermal import Thermometers, processor_temperature
from edge_mnv2.telemetry.throttling import ThrottlingSensor
from edge_mnv2.telemetry.vcgencmd import Vcgencmd, run_vcgencmd

T = TypeVar("T")

# A process costs some milliseconds of a core: five times as much as all files together.
_TOOL_INTERVAL_NS = 5_000_000_000
# A mistake that is told each time in other words must not fill the memory.
_MOST_TOLD = 20

_log = logging.getLogger(__name__)


class DeviceSensors:
    """All sensors of the device; their files stay open between readings. One thread uses it.

    Opening it looks for the sensors, and may take some seconds where a tool does not answer.

    Args:
        sys: Where the kernel's device tree is mounted.
        proc: Where the kernel's process information is mounted.
        root: The folder that holds `etc` and `var`.
        vcgencmd: Asks a Raspberry Pi's firmware; not more often than every five seconds.
        tegrastats: Command of a Jetson's tool, where its power cannot be read directly; None to do without.
        nvpmodel: Returns what a Jetson's tool says of its power mode, where no file does.
        clock_ns: Of the monotonic clock.
    """

    def __init__(
        self,
        sys: Path = Path("/sys"),
        proc: Path = Path("/proc"),
        root: Path = Path("/"),
        *,
        vcgencmd: Vcgencmd = run_vcgencmd,
        tegrastats: str | None = "tegrastats",
        nvpmodel: Callable[[], str | None] = run_nvpmodel,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clock_ns = clock_ns
        self._told: set[str] = set()
        self._thermometers = Thermometers(sys)
        self._throttling = ThrottlingSensor(sys, vcgencmd, clock_ns)
        self._clocks, self._cpu, self._gpu = Clocks(sys), CpuLoad(proc), GpuLoad(sys)
        self._mode = PowerMode(root, nvpmodel, clock_ns)
        self._memory = ResidentSize(proc)
        self._power = PowerWatch(sys, _spared(vcgencmd, clock_ns), tegrastats, clock_ns)

    def read(self) -> DeviceReading:
        """Return what every sensor says now; energy is left to whoever reads again and again."""
        power = self._try("power", self._power.read, PowerReading())
        nothing: dict[str, float] = {}
        temperatures_c = self._try("temperature", self._thermometers.read, nothing)
        return DeviceReading(
            temperature_c=processor_temperature(temperatures_c),
            power_w=power.total_w,
            temperatures_c=temperatures_c,
            power=power,
            throttling=self._try("throttling", self._throttling.read, None),
            clocks_mhz=self._try("clocks", self._clocks.read_mhz, {}),
            cpu_share=self._try("CPU load", self._cpu.read_share, None),
            gpu_share=self._try("GPU load", self._gpu.read_share, None),
            power_mode=self._try("power mode", self._mode.read, None),
            resident_mib=self._try("memory", self._memory.read_mib, None),
            at_ns=self._clock_ns(),
        )

    def close(self) -> None:
        """Close all files."""
        parts = (
            *(self._thermometers, self._throttling, self._clocks, self._cpu, self._gpu, self._mode),
            *(self._memory, self._power),
        )
        for part in parts:
            self._try("closing", part.close, None)

    def _try(self, what: str, ask: Callable[[], T], otherwise: T) -> T:
        try:
            return ask()
        except Exception as error:  # noqa: BLE001 - whatever one sensor's driver comes up with, the others are read
            message = f"{what}: {type(error).__name__}: {error}"
            if message not in self._told and len(self._told) < _MOST_TOLD:
                self._told.add(message)
                _log.warning("a sensor failed: %s", message)
            return otherwise


def read_device(
    sys: Path = Path("/sys"),
    proc: Path = Path("/proc"),
    root: Path = Path("/"),
    vcgencmd: Vcgencmd = run_vcgencmd,
) -> DeviceReading:
    """Read all sensors once; `sampler.DeviceSampler` is for whoever reads again and again.

    This looks for the sensors anew and takes some milliseconds, more where tools are asked. What needs two
    readings is unavailable: loads, and power out of counters of energy.

    Args:
        sys: Where the kernel's device tree is mounted.
        proc: Where the kernel's process information is mounted.
        root: The folder that holds `etc` and `var`.
        vcgencmd: Asks a Raspberry Pi's firmware.
    """
    sensors = DeviceSensors(sys, proc, root, vcgencmd=vcgencmd, tegrastats=None)
    try:
        return sensors.read()
    finally:
        sensors.close()


def _spared(vcgencmd: Vcgencmd, clock_ns: Callable[[], int]) -> Vcgencmd:
    """Return a way to ask that repeats its last answer to the same question for five seconds."""
    answers: dict[str, tuple[int, str | None]] = {}

    def ask(question: str) -> str | None:
        now_ns = clock_ns()
        asked_ns, answer = answers.get(question, (None, None))
        if asked_ns is None or now_ns - asked_ns >= _TOOL_INTERVAL_NS:
            answer = vcgencmd(question)
            answers[question] = now_ns, answer
        return answer

    return ask
