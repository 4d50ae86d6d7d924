"""The power mode of a Jetson (nvpmodel)."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from edge_mnv2.telemetry.sysfs import SysFile

_TIMEOUT_S = 2.0
# Where there is no file: most devices have no such modes, and where they have, a process tells.
_ASK_INTERVAL_NS = 60_000_000_000
_STATUS = re.compile(r"pmode:(\d+)")
_MODEL = re.compile(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=([^\s>]+)", re.MULTILINE)
_ANSWER = re.compile(r"^NV Power Mode:\s*(\S+)", re.MULTILINE)

_log = logging.getLogger(__name__)


def run_nvpmodel() -> str | None:
    """Return what `nvpmodel -q` prints, waiting for at most two seconds; None where it has no answer."""
    tool = shutil.which("nvpmodel")
    if tool is None:
        return None
    try:
        done = subprocess.run(
            [tool, "-q"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        _log.debug("nvpmodel -q: %s", error)
        return None
    return done.stdout.decode("utf-8", "replace")


class PowerMode:
    """Name of the mode that is set.

    Source: NVIDIA's Jetson Linux guide, power management: `nvpmodel` keeps the number of its mode in
    `/var/lib/nvpmodel/status` (`pmode:0002`), and `/etc/nvpmodel.conf` names them. Where the number cannot be
    read, the tool itself is asked; both are tried once a minute then.

    Args:
        root: The folder that holds `etc` and `var`.
        ask: Returns what `nvpmodel -q` prints.
        clock_ns: Of the monotonic clock.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        ask: Callable[[], str | None] = run_nvpmodel,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._status = SysFile(root / "var/lib/nvpmodel/status")
        self._names = root / "etc/nvpmodel.conf"
        self._ask = ask
        self._clock_ns = clock_ns
        self._due_ns: int | None = None
        self._asked: str | None = None
        self._known: tuple[int, str] | None = None

    def read(self) -> str | None:
        """Return the name, such as `15W`; None where there is none."""
        now_ns = self._clock_ns()
        if self._due_ns is not None and now_ns < self._due_ns:
            return self._asked
        match = _STATUS.search(self._status.read() or "")
        if match is not None:
            self._due_ns = None
            return self._name(int(match[1]))
        self._due_ns = now_ns + _ASK_INTERVAL_NS
        answer = _ANSWER.search(self._ask() or "")
        self._asked = None if answer is None else _readable(answer[1])
        return self._asked

    def close(self) -> None:
        """Close the file."""
        self._status.close()

    def _name(self, number: int) -> str:
        if self._known is None or self._known[0] != number:
            try:
                text = self._names.read_text(encoding="utf-8", errors="replace")
            except OSError:
                text = ""
            names = {int(found): name for found, name in _MODEL.findall(text)}
            self._known = number, _readable(names[number]) if number in names else f"mode {number}"
        return self._known[1]


def _readable(name: str) -> str:
    """Return `15W 6CORE` for `MODE_15W_6CORE`."""
    return name.removeprefix("MODE_").replace("_", " ")
