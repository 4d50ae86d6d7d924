"""How busy processor and GPU are."""

from __future__ import annotations

from pathlib import Path

from edge_mnv2.telemetry.clocks import find_gpu
from edge_mnv2.telemetry.sysfs import SysFile


class CpuLoad:
    """Busy share of all cores together, between two readings.

    Source: kernel documentation, `filesystems/proc.rst`, `/proc/stat`: ticks since boot of user, nice,
    system, idle, iowait, irq, softirq, steal; what guests used is in user already.

    Args:
        proc: Where the kernel's process information is mounted.
    """

    def __init__(self, proc: Path) -> None:
        self._file = SysFile(proc / "stat")
        self._before: tuple[int, int] | None = None

    def read_share(self) -> float | None:
        """Return the share, 0 to 1; None before there are two readings, and where it cannot be read."""
        before, self._before = self._before, self._ticks()
        if before is None or self._before is None:
            return None
        total, idle = (now - then for now, then in zip(self._before, before, strict=True))
        if total <= 0:
            return None
        return min(max(1 - idle / total, 0.0), 1.0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _ticks(self) -> tuple[int, int] | None:
        """Return all ticks, and those in which there was nothing to do."""
        words = (self._file.read() or "").partition("\n")[0].split()
        if len(words) < 6 or words[0] != "cpu" or not all(word.isdecimal() for word in words[1:]):
            return None
        ticks = [int(word) for word in words[1:9]]
        return sum(ticks), ticks[3] + ticks[4]


class GpuLoad:
    """Busy share of a Jetson's GPU.

    Source: NVIDIA's kernel driver offers `load`, in thousandths, beside the GPU's clock and by a link that
    has changed its place between releases.

    Args:
        sys: Where the kernel's device tree is mounted.
    """

    def __init__(self, sys: Path) -> None:
        gpu = find_gpu(sys)
        beside = [] if gpu is None else [gpu / "device/load"]
        places = [*beside, sys / "devices/gpu.0/load", sys / "devices/platform/gpu.0/load"]
        self._file = next((SysFile(path) for path in places if path.exists()), None)

    def read_share(self) -> float | None:
        """Return the share, 0 to 1; None where the device does not tell."""
        load = None if self._file is None else self._file.read_int()
        return load / 1000 if load is not None and 0 <= load <= 1000 else None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
