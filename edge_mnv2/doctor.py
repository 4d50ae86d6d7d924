"""What this device has, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from camera import CameraError, open_source
from edge_mnv2 import __version__
from edge_mnv2.detector import DetectorOptions, open_detector
from edge_mnv2.errors import EdgeMnv2Error
from edge_mnv2.zoo.cache import cache_dir
from edge_mnv2.zoo.catalogue import CATALOGUE
from edge_mnv2.zoo.model import weights_path
from engines import EngineError
from engines.onnx_runtime import auto_threads, import_onnxruntime

State = Literal["ok", "missing", "optional"]

_MIN_PYTHON = (3, 10)
_SYNTHETIC_OBJECTS = {"clock", "stop sign"}


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
        _module("numpy", "numpy", "pip install numpy"),
        _module("cv2", "opencv-python", "sudo apt install libgl1 libglib2.0-0 && pip install opencv-python"),
        _onnxruntime(),
        _module("onnx", "onnx", "pip install onnx"),
        _module("yaml", "PyYAML", "pip install pyyaml"),
        _module("pydantic", "pydantic", "pip install pydantic"),
        _module("pycocotools", "pycocotools", "pip install 'edge-mnv2[eval]'", "optional"),
        _cache(),
        *_models(),
        _cameras(),
        _inference(),
    ]


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
    cores = len(os.sched_getaffinity(0))
    board = _board()
    described = ", ".join(part for part in (names[-1] if names else "", board) if part) or "unknown"
    return Finding(
        "processor",
        "ok",
        f"{described}; {platform.machine()}, {cores} cores, {auto_threads()} used by default",
    )


def _board() -> str:
    try:
        return Path("/proc/device-tree/model").read_text(encoding="utf-8").strip("\0 \n")
    except OSError:
        return ""


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    free_mib = memory.available // 2**20
    detail = f"{memory.total // 2**20} MiB, {free_mib} MiB available"
    if free_mib < 256:
        return Finding("memory", "missing", detail, "stop other programs: 256 MiB are needed")
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
        ort = import_onnxruntime()
    except EngineError as error:
        return Finding("ONNX Runtime", "missing", str(error), "pip install onnxruntime")
    return Finding("ONNX Runtime", "ok", f"{ort.__version__}, {', '.join(ort.get_available_providers())}")


def _cache() -> Finding:
    folder = cache_dir()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Finding(
            "cache",
            "optional",
            f"{folder} cannot be written: graphs are built at every start",
            f"sudo chown $USER {existing}",
        )
    return Finding("cache", "ok", str(folder))


def _models() -> list[Finding]:
    return [
        Finding(card.name, "ok", "embedded" if card.embedded else "cached")
        if weights_path(card)
        else Finding(card.name, "optional", "not fetched", f"edge-mnv2 models fetch {card.name}")
        for card in CATALOGUE
    ]


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
        found, frame_ms = _detect_synthetic()
    except (EdgeMnv2Error, CameraError, EngineError, ImportError) as error:
        return Finding("inference", "missing", str(error), "mend what is missing above")
    detail = f"{CATALOGUE[0].name} finds {', '.join(sorted(found)) or 'nothing'}, {frame_ms:.1f} ms a frame"
    if found != _SYNTHETIC_OBJECTS:
        return Finding("inference", "missing", detail, "reinstall edge-mnv2 and onnxruntime")
    return Finding("inference", "ok", detail)


def _detect_synthetic(frames: int = 10) -> tuple[set[str], float]:
    """Return the labels found in every frame, and the median duration of one."""
    detector = open_detector(CATALOGUE[0].name, DetectorOptions())
    source = open_source(f"test://?fps=0&frames={frames}")
    labels, durations_ms = [], []
    try:
        source.open()
        for _ in range(frames):
            with source.read() as frame:
                found, stages_ms = detector.detect(frame.image)
            labels.append({detector.labels[class_id] for class_id in found.class_id.tolist()})
            durations_ms.append(sum(stages_ms.values()))
    finally:
        source.close()
        detector.close()
    return set.intersection(*labels), sorted(durations_ms)[frames // 2]
