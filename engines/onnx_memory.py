"""How much memory one inference takes in ONNX Runtime beyond weights and code, in a process of its own.

The arena and its memory plan are off, and the C library gives freed blocks back at once, so that the growth
of the resident size is what the tensors of the moment need (`VmHWM`, proc(5)).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from engines.errors import EngineError

_TIMEOUT_S = 120
# glibc, mallopt(3): blocks from 64 KiB on come from the system one by one and go back when they are freed.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def measure_inference_bytes(model_path: Path) -> int | None:
    """Return by how many bytes the resident size grows during one inference at one thread.

    Returns:
        None where the kernel does not tell (`/proc/self/clear_refs` is missing or closed).

    Raises:
        EngineError: The model cannot be run.
    """
    done = subprocess.run(
        [sys.executable, "-m", "engines.onnx_memory", str(model_path.resolve())],
        cwd=Path(__file__).parents[1],
        env={**os.environ, **_MALLOC},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise EngineError(f"The memory of {model_path} cannot be measured: {reason}")
    return int(done.stdout) if done.stdout.strip() else None


def _growth(model_path: str) -> int | None:
    from engines.onnx_runtime import import_onnxruntime

    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    session = ort.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])
    feeds = {arg.name: np.zeros(arg.shape, np.uint8) for arg in session.get_inputs()}
    session.run(None, feeds)  # the first one allocates what stays
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    except OSError:
        return None
    before = _status_bytes("VmRSS")
    session.run(None, feeds)
    return _status_bytes("VmHWM") - before


def _status_bytes(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise EngineError(f"/proc/self/status does not tell {key}.")
    return int(found[1]) * 1024


if __name__ == "__main__":
    grown = _growth(sys.argv[1])
    sys.stdout.write("" if grown is None else str(grown))
