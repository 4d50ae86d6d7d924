"""Whether TensorRT can run here; if not, what is missing first, and the command that mends it on JetPack.

In this order, because each step may crash or mislead without the one before it: driver, pycuda, tensorrt (and
whether this virtual environment sees it), device, version. No context is made, and nothing of TensorRT.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

from engines.errors import BackendUnavailableError
from engines.tensorrt import driver
from engines.tensorrt.driver import CudaDevice, DriverError, first_device

OLDEST_VERSION = (8, 6)

_APT_TENSORRT = "sudo apt install python3-libnvinfer"
# What the driver opens first on a Jetson; there, groups decide who may.
_JETSON_NODES = ("nvmap", "nvhost-ctrl", "nvhost-ctrl-gpu")


@dataclass(frozen=True, slots=True)
class ProbeStep:
    """One thing that TensorRT needs.

    Attributes:
        subject: What it is.
        found: Version or name; None where it is missing.
        problem: What is wrong, empty where nothing is.
        remedy: The command that mends it on JetPack.
    """

    subject: str
    found: str | None
    problem: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found, in order.

    Attributes:
        steps: Up to the first that is missing, or all.
        device: The GPU; None where it or something before it is missing.
        version: Of TensorRT, in full; None where something is missing.
    """

    steps: tuple[ProbeStep, ...]
    device: CudaDevice | None = None
    version: str | None = None

    @property
    def missing(self) -> ProbeStep | None:
        """The step that is missing, None where TensorRT can run."""
        return next((step for step in self.steps if step.found is None), None)


def probe(system_root: Path = Path("/usr"), device_root: Path = Path("/dev")) -> Probe:
    """Look for all that TensorRT needs.

    Args:
        system_root: Where the system's own Python packages are looked for.
        device_root: Where device nodes are looked for.
    """
    steps: list[ProbeStep] = []
    device: CudaDevice | None = None
    try:
        library = driver.open_driver()
    except DriverError as error:
        return Probe((_no_driver(error),))
    steps.append(ProbeStep("NVIDIA driver", driver.LIBRARY))
    for module, look in (("pycuda", _pycuda), ("tensorrt", _tensorrt)):
        steps.append(look(module, system_root))
        if steps[-1].found is None:
            return Probe(tuple(steps))
    try:
        device = first_device(library)
    except DriverError as error:
        steps.append(_no_device(error, device_root))
        return Probe(tuple(steps))
    major, minor = device.compute_capability
    found = f"{device.name}, compute capability {major}.{minor}, CUDA {device.driver_version}"
    steps.append(ProbeStep("device", found))
    # Only now is it safe to load what belongs to the driver.
    for module in ("pycuda.driver", "tensorrt"):
        problem = _import_problem(module)
        if problem is not None:
            steps.append(problem)
            return Probe(tuple(steps))
    version = str(import_module("tensorrt").__version__)
    steps.append(_version_step(version))
    return Probe(tuple(steps), device, version if steps[-1].found else None)


def require(found: Probe) -> None:
    """Refuse to go on where something is missing.

    Raises:
        BackendUnavailableError: Three lines: what is missing, what mends it, what works without.
    """
    missing = found.missing
    if missing is not None:
        raise BackendUnavailableError(
            f"TensorRT cannot run here: {missing.problem}.\n"
            f"To mend it: {missing.remedy}\n"
            "Without it: --engine onnxruntime, or auto, which takes ONNX Runtime by itself."
        )


def _no_driver(error: DriverError) -> ProbeStep:
    return ProbeStep(
        "NVIDIA driver",
        None,
        f"there is no NVIDIA driver ({error})",
        "on a Jetson: sudo apt install nvidia-jetpack, then restart; on a PC: install NVIDIA's driver",
    )


def _no_device(error: DriverError, device_root: Path) -> ProbeStep:
    nodes = [device_root / name for name in _JETSON_NODES]
    closed = [node for node in nodes if node.exists() and not os.access(node, os.R_OK | os.W_OK)]
    if closed:
        return ProbeStep(
            "device",
            None,
            f"this user may not open {closed[0]} ({error})",
            "sudo usermod -aG video,render $USER, then log in again; "
            "for a service: SupplementaryGroups=video render in its unit",
        )
    return ProbeStep(
        "device",
        None,
        f"there is a driver, but no device that works: {error}",
        "on a Jetson: restart; in a container: start it with --runtime nvidia; else see what nvidia-smi says",
    )


def _pycuda(module: str, system_root: Path) -> ProbeStep:
    if _is_installed(module):
        return ProbeStep("pycuda", _distribution_version("pycuda"))
    return ProbeStep("pycuda", None, _absent(module, system_root), _pip_install("pycuda"))


def _pip_install(what: str) -> str:
    """Return the command; pycuda is compiled with the CUDA toolkit, which JetPack leaves out of PATH."""
    return f"PATH=$PATH:/usr/local/cuda/bin {sys.executable} -m pip install {what}"


def _tensorrt(module: str, system_root: Path) -> ProbeStep:
    if _is_installed(module):
        return ProbeStep("TensorRT", _distribution_version("tensorrt"))
    if _in_system(module, system_root):
        remedy = (
            "./install.sh makes an environment that sees it (in one of your own: "
            "python3 -m venv --system-site-packages)"
        )
    else:
        remedy = _APT_TENSORRT
    return ProbeStep("TensorRT", None, _absent(module, system_root), remedy)


def _is_installed(module: str) -> bool:
    """Return whether a module is there; a mere folder of its name, a checkout beside us, is none."""
    spec = util.find_spec(module)
    return spec is not None and spec.origin is not None


def _absent(module: str, system_root: Path) -> str:
    if _in_system(module, system_root):
        return f"the module {module} of the system is not visible from this virtual environment, {sys.prefix}"
    return f"the module {module} is not installed for {sys.executable}"


def _in_system(module: str, system_root: Path) -> bool:
    """Return whether JetPack or Debian has a module for this Python that its virtual environment hides."""
    this_python = "python{}.{}".format(*sys.version_info[:2])
    return sys.prefix != sys.base_prefix and any(
        (system_root / "lib" / python / "dist-packages" / module / "__init__.py").exists()
        for python in ("python3", this_python)
    )


def _distribution_version(name: str) -> str:
    """Return the version by the package's own record: importing it would be too early."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # the system's, as on some JetPacks
        return "of unknown version"


def _import_problem(module: str) -> ProbeStep | None:
    try:
        import_module(module)
    except (ImportError, OSError) as error:
        package, reason = module.partition(".")[0], " ".join(str(error).split())
        remedy = (
            _pip_install("--force-reinstall --no-cache-dir pycuda") if package == "pycuda" else _APT_TENSORRT
        )
        return ProbeStep(package, None, f"{package} is there, but does not load: {reason}", remedy)
    return None


def _version_step(version: str) -> ProbeStep:
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers >= OLDEST_VERSION:
        return ProbeStep("TensorRT version", version)
    oldest = ".".join(map(str, OLDEST_VERSION))
    return ProbeStep(
        "TensorRT version",
        None,
        f"TensorRT {version} is too old, {oldest} is the oldest that works",
        "upgrade to JetPack 6 or later",
    )


def import_tensorrt() -> Any:  # noqa: ANN401 - the vendor module has no types
    """Import tensorrt after the driver and its device were found to work.

    Raises:
        BackendUnavailableError: Something is missing, in three lines.
    """
    require(probe())
    import tensorrt

    return tensorrt
