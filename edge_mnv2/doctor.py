"""What this device has, what is missing, and the command that mends it.

Everything but the standard library is imported where it is looked at: what is missing must not keep the
doctor from saying so.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge_mnv2 import __version__
from edge_mnv2.errors import EdgeMnv2Error

if TYPE_CHECKING:
    from edge_mnv2.zoo.catalogue import ModelCard

State = Literal["ok", "missing", "optional"]

_MIN_PYTHON = (3, 10)
_NEEDED_MIB = 256
_SYNTHETIC_OBJECTS = {"clock", "stop sign"}
_L4T_FILE = Path("/etc/nv_tegra_release")  # on a Jetson
_PIP_INSTALL = f"{sys.executable} -m pip install"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What it is.
        state: `missing` makes the device unfit; `optional` only takes something away.
        detail: Version, size, or what is wrong.
        remedy: The command that mends it, empty where nothing needs mending.
    """

    subject: str
    state: State
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything that a run needs; nothing is changed but the cache, where a test graph is built."""
    return [
        _python(),
        Finding("edge-mnv2", "ok", f"{__version__} in {Path(__file__).parent}"),
        _processor(),
        _memory(),
        _module("numpy", "numpy", f"{_PIP_INSTALL} numpy"),
        _module(
            "cv2", "opencv-python", f"sudo apt install libgl1 libglib2.0-0 && {_PIP_INSTALL} opencv-python"
        ),
        _onnxruntime(),
        *_tensorrt(),
        _module("onnx", "onnx", f"{_PIP_INSTALL} onnx"),
        _module("yaml", "PyYAML", f"{_PIP_INSTALL} pyyaml"),
        _module("pydantic", "pydantic", f"{_PIP_INSTALL} pydantic"),
        _module("pycocotools", "pycocotools", f"{_PIP_INSTALL} pycocotools", "optional"),
        _cache(),
        *_models(),
        _cameras(),
        _inference(),
    ]


def device_facts() -> list[tuple[str, str]]:
    """Return what describes this device in a report, by name."""
    from engines.tensorrt.plan_key import l4t_release

    findings = [
        Finding("edge-mnv2", "ok", __version__),
        _python(),
        _processor(),
        _memory(),
        _module("numpy", "numpy", ""),
        _module("cv2", "opencv-python", ""),
        _onnxruntime(),
        *_tensorrt(),
    ]
    facts = [(finding.subject, finding.detail) for finding in findings]
    facts.append(("system", _system()))
    if l4t_release() is not None:
        facts += [("L4T", str(l4t_release())), ("power mode", _power_mode())]
    return facts


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _power_mode() -> str:
    """Return a Jetson's power mode, by which its clocks differ several times."""
    import shutil
    import subprocess

    program = shutil.which("nvpmodel")
    if program is None:
        return "unknown"
    try:
        done = subprocess.run([program, "-q"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return " ".join(done.stdout.split()) or "unknown"


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info < _MIN_PYTHON:
        return Finding("Python", "missing", f"{version} is too old", "install Python 3.10 or later")
    return Finding("Python", "ok", f"{version}, {sys.executable}")


def _processor() -> Finding:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    described = ", ".join(part for part in (names[-1] if names else "", _board()) if part) or "unknown"
    return Finding(
        "processor", "ok", f"{described}; {platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    )


def _board() -> str:
    try:
        return Path("/proc/device-tree/model").read_text(encoding="utf-8").strip("\0 \n")
    except OSError:
        return ""


def _memory() -> Finding:
    try:
        import psutil
    except ImportError as error:
        return Finding("memory", "missing", str(error), f"{_PIP_INSTALL} psutil")
    memory = psutil.virtual_memory()
    free_mib = memory.available // 2**20
    detail = f"{memory.total // 2**20} MiB, {free_mib} MiB available"
    if free_mib < _NEEDED_MIB:
        return Finding("memory", "optional", detail, f"stop other programs: {_NEEDED_MIB} MiB are needed")
    return Finding("memory", "ok", detail)


def _module(module: str, package: str, remedy: str, state: State = "missing") -> Finding:
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        return Finding(package, state, str(error), remedy)
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:  # the system's own, as on JetPack
        version = getattr(imported, "__version__", "of unknown version")
    return Finding(package, "ok", version)


def _onnxruntime() -> Finding:
    try:
        from engines.errors import BackendUnavailableError
        from engines.onnx_runtime import auto_threads, import_onnxruntime
    except ImportError as error:
        return Finding("ONNX Runtime", "missing", str(error), "mend what is missing above")
    try:
        ort = import_onnxruntime()
    except BackendUnavailableError as error:
        return Finding("ONNX Runtime", "missing", str(error), f"{_PIP_INSTALL} onnxruntime")
    providers = ", ".join(ort.get_available_providers())
    return Finding(
        "ONNX Runtime", "ok", f"{ort.__version__}, {providers}, {auto_threads()} threads by default"
    )


def _tensorrt() -> list[Finding]:
    """Tell the steps that TensorRT needs, up to the first that is missing; no device needs TensorRT."""
    try:
        from engines.tensorrt.probe import probe
    except ImportError as error:
        return [Finding("TensorRT", "missing", str(error), "mend what is missing above")]
    findings = []
    for step in probe().steps:
        if step.found is not None:
            findings.append(Finding(step.subject, "ok", step.found))
        else:
            # Where nothing is NVIDIA's, nothing is to be mended.
            is_foreign = step.subject == "NVIDIA driver" and not _L4T_FILE.exists()
            findings.append(Finding("TensorRT", "optional", step.problem, "" if is_foreign else step.remedy))
    return findings


def _cache() -> Finding:
    from edge_mnv2.zoo.cache import cache_dir, plans_dir

    for folder in (cache_dir(), plans_dir()):
        chain = (folder, *folder.parents)
        existing = next(path for path in chain if os.path.exists(path))  # noqa: PTH110 - never raises
        if not os.path.isdir(existing):  # noqa: PTH112 - never raises
            return Finding("cache", "optional", f"{existing} is in the place of a folder", f"rm {existing}")
        if not os.access(existing, os.W_OK):
            detail = f"{folder} cannot be written: graphs are built at every start, and TensorRT has no plans"
            return Finding("cache", "optional", detail, f"sudo chown -R $USER {existing}")
    return Finding("cache", "ok", str(cache_dir()))


def _models() -> list[Finding]:
    try:
        from edge_mnv2.zoo.catalogue import CATALOGUE
        from edge_mnv2.zoo.model import load_model, weights_path
    except ImportError as error:
        return [Finding("models", "missing", str(error), "mend what is missing above")]
    findings = []
    for card in CATALOGUE:
        if weights_path(card) is None:
            findings.append(Finding(card.name, "optional", "not fetched", _fetch_command(card)))
            continue
        try:
            load_model(card.name)
        except EdgeMnv2Error as error:
            remedy = "reinstall edge-mnv2" if card.embedded else _fetch_command(card)
            findings.append(Finding(card.name, "missing", str(error), remedy))
        else:
            findings.append(Finding(card.name, "ok", "embedded" if card.embedded else "cached"))
    return findings


def _fetch_command(card: ModelCard) -> str:
    mirror = "" if card.origin.registry else f" --mirror {card.origin.archive}"
    return f"edge-mnv2 models fetch {card.name}{mirror}"


def _cameras() -> Finding:
    devices = sorted(Path("/dev").glob("video*"))
    if not devices:
        return Finding("cameras", "optional", "no V4L2 device", "plug in a camera, or use test://")
    closed = [str(device) for device in devices if not os.access(device, os.R_OK | os.W_OK)]
    if closed:
        return Finding(
            "cameras",
            "optional",
            f"no permission for {', '.join(closed)}",
            "sudo usermod -aG video $USER, then log in again",
        )
    return Finding("cameras", "ok", ", ".join(map(str, devices)))


def _inference() -> Finding:
    """Run the embedded model on the synthetic camera: the whole path, with objects that it must find."""
    try:
        from camera.errors import CameraError
        from engines.errors import EngineError
    except ImportError as error:
        return Finding("inference", "missing", str(error), "mend what is missing above")
    try:
        found, frame_ms = _detect_synthetic()
    except (EdgeMnv2Error, CameraError, EngineError, ImportError) as error:
        return Finding("inference", "missing", str(error), "mend what is missing above")
    detail = f"the embedded model finds {', '.join(sorted(found)) or 'nothing'}, {frame_ms:.1f} ms a frame"
    if found != _SYNTHETIC_OBJECTS:
        return Finding("inference", "missing", detail, "reinstall edge-mnv2 and onnxruntime")
    return Finding("inference", "ok", detail)


def _detect_synthetic(frames: int = 10) -> tuple[set[str], float]:
    """Return the labels found in every frame, and the median duration of one."""
    from camera import open_source
    from edge_mnv2.predictor import PredictorOptions, open_predictor
    from edge_mnv2.zoo.catalogue import DEFAULT_MODEL

    # Not a backend that would first have to build a plan for minutes.
    predictor = open_predictor(DEFAULT_MODEL, PredictorOptions(engine="onnxruntime"))
    source = open_source(f"test://?fps=0&frames={frames}")
    labels, durations_ms = [], []
    try:
        source.open()
        for _ in range(frames):
            with source.read() as frame:
                found, stages_ms = predictor.predict(frame.image)
            class_ids = found.class_id.ravel().tolist()
            labels.append({predictor.labels[class_id] for class_id in class_ids})
            durations_ms.append(sum(stages_ms.values()))
    finally:
        source.close()
        predictor.close()
    return set.intersection(*labels), sorted(durations_ms)[frames // 2]
