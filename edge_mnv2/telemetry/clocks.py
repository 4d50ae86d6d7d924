"""Clocks of processor and GPU, as the kernel has set them."""

from __future__ import annotations

from pathlib import Path

from edge_mnv2.telemetry.sysfs import SysFile

# What follows the address in the name of a Jetson's GPU: `57000000.gpu` (Nano), `17000000.gp10b` (TX2),
# `17000000.gv11b` (Xavier), `17000000.ga10b` or `17000000.gpu` (Orin).
_GPUS = ("gpu", "gp10b", "gv11b", "ga10b")


class Clocks:
    """Clocks by part; their files stay open between readings.

    Sources: kernel documentation, `admin-guide/pm/cpufreq.rst` (`scaling_cur_freq` in kHz) and
    `ABI/testing/sysfs-class-devfreq` (`cur_freq`, in Hz on Jetsons).

    Args:
        sys: Where the kernel's device tree is mounted.
    """

    def __init__(self, sys: Path) -> None:
        policies = sorted((sys / "devices/system/cpu/cpufreq").glob("policy*"))
        # Kernels that have no folder of policies have one per processor.
        folders = policies or sorted((sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
        self._cpus = [SysFile(folder / "scaling_cur_freq") for folder in folders]
        gpu = find_gpu(sys)
        self._gpu = None if gpu is None else SysFile(gpu / "cur_freq")

    def read_mhz(self) -> dict[str, float]:
        """Return `cpu` (the fastest core) and `gpu` in MHz; what cannot be read now is left out."""
        found = {}
        cpus_khz = [clock_khz for clock_khz in (file.read_int() for file in self._cpus) if clock_khz]
        if cpus_khz:
            found["cpu"] = max(cpus_khz) / 1e3
        gpu_hz = None if self._gpu is None else self._gpu.read_int()
        # A GPU that sleeps has no clock.
        if gpu_hz is not None and gpu_hz >= 0:
            found["gpu"] = gpu_hz / 1e6
        return found

    def close(self) -> None:
        """Close the files."""
        for file in (*self._cpus, *(() if self._gpu is None else (self._gpu,))):
            file.close()


def find_gpu(sys: Path) -> Path | None:
    """Return the folder by which the kernel scales the GPU's clock, None where there is none."""
    for folder in sorted((sys / "class/devfreq").glob("*")):
        if folder.name.startswith("gpu") or folder.name.rpartition(".")[2] in _GPUS:
            return folder
    return None
