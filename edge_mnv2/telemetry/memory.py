"""Memory of this process and of the system, and since when it runs."""

from __future__ import annotations

import os
import resource
from datetime import datetime, timezone
from pathlib import Path

from edge_mnv2.telemetry.sysfs import SysFile


def peak_memory_mib() -> float:
    """Return the largest resident size so far, in MiB (`getrusage(2)`, `ru_maxrss` in KiB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mib() -> float:
    """Return the resident size of now, in MiB."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**20


def available_mib() -> float:
    """Return what the system can give without swapping, in MiB (`MemAvailable` in `/proc/meminfo`)."""
    import psutil

    return float(psutil.virtual_memory().available) / 2**20


class ResidentSize:
    """The resident size of this process, for whoever asks all the time: the file stays open.

    Source: kernel documentation, `filesystems/proc.rst`, `/proc/self/statm`: the second number, in pages.

    Args:
        proc: Where the kernel's process information is mounted.
    """

    def __init__(self, proc: Path) -> None:
        self._file = SysFile(proc / "self/statm")
        self._page_mib = os.sysconf("SC_PAGE_SIZE") / 2**20

    def read_mib(self) -> float | None:
        """Return the size in MiB; None where it cannot be read."""
        words = (self._file.read() or "").split()
        return int(words[1]) * self._page_mib if len(words) > 1 and words[1].isdecimal() else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def process_start() -> datetime:
    """Return when this process began."""
    import psutil

    return datetime.fromtimestamp(psutil.Process().create_time(), timezone.utc)
