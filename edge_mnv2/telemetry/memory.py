"""Memory of this process."""

from __future__ import annotations

import resource


def peak_memory_mib() -> float:
    """Return the largest resident size so far, in MiB (`getrusage(2)`, `ru_maxrss` in KiB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
