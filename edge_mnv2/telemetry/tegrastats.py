"""Power of a Jetson by NVIDIA's `tegrastats`, for systems on which its sensors cannot be read directly."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from contextlib import suppress

from edge_mnv2.readings import PowerReading, Rail, Reading
from edge_mnv2.telemetry.ina3221 import jetson_reading
from edge_mnv2.threads import Worker

# `POM_5V_IN 933/933` (JetPack 4), `VDD_IN 4761mW/4778mW`, and with a third field on newer ones: now first.
# Fields with another unit, such as `RAM 1024/3964MB`, are no rails.
_RAIL = re.compile(r"(?<!\S)([A-Za-z]\w*) (?:(\d+)mW(?:/\d+mW)+|(\d+)(?:/\d+)+)(?!\S)")

_INTERVAL_MS = 1000
_MAX_AGE_NS = 5_000_000_000
_END_S = 2.0


class Tegrastats:
    """Runs `tegrastats` until it is closed, and keeps its last line.

    Args:
        command: The tool's path.

    Raises:
        OSError: It cannot be run.
    """

    def __init__(self, command: str) -> None:
        self._process = subprocess.Popen(
            [command, "--interval", str(_INTERVAL_MS)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        self._last: tuple[int, tuple[Rail, ...]] | None = None
        self._has_answered = threading.Event()
        self._worker = Worker(self._follow, "tegrastats")

    def wait(self, timeout_s: float) -> bool:
        """Wait for the first line; return whether it came in time, and tells of rails."""
        self._has_answered.wait(timeout_s)
        return self._last is not None and bool(self._last[1])

    def read(self) -> PowerReading:
        """Return the newest line's total and rails; unavailable where there was none for some seconds."""
        last = self._last
        if last is None or not last[1] or time.monotonic_ns() - last[0] > _MAX_AGE_NS:
            return PowerReading(Reading(sensor="tegrastats"), "board")
        return jetson_reading(last[1], "tegrastats")

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END_S)
        self._worker.join(_END_S)
        if self._process.stdout is not None:
            with suppress(OSError):
                self._process.stdout.close()

    def _follow(self) -> None:
        try:
            for line in self._process.stdout or ():
                self._last = (time.monotonic_ns(), parse_tegrastats(line))
                self._has_answered.set()
        finally:
            self._has_answered.set()


def parse_tegrastats(line: str) -> tuple[Rail, ...]:
    """Return the rails in a line of `tegrastats`: the present power of each, not its average."""
    return tuple(
        Rail(name, int(with_unit or without) / 1000)
        for name, with_unit, without in _RAIL.findall(line)
        if name != "NC"
    )
