"""Memory of this process."""

from __future__ import annotations

import resource


def peak_memory_mib() -> float:
    """Return the largest resident size so far, in MiB (`getrusage(2)`, `ru_maxrss` in KiB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mib() -> float:
    """Return the resident size of now, in MiB."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**20
