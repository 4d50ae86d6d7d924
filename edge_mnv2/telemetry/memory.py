"""Memory of this process and of the system."""

from __future__ import annotations

import resource


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
