"""The child process that builds a plan; `build_process` starts it.

Standard input: one line of JSON, the job; then it stays open for as long as the plan is wanted. Standard
output: one line of JSON per message, see `build_process`. Exit code 0: the last message says how it went.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from engines.errors import (
    BackendUnavailableError,
    BuildError,
    BuildMemoryError,
    DeviceMemoryError,
    EngineError,
    ModelFileError,
)
from engines.tensorrt.cuda import PrimaryContext
from engines.tensorrt.network_builder import MIB, BuildJob, build_plan
from engines.tensorrt.probe import import_tensorrt

# Who waits for the plan already serves on the processor: it comes first.
_NICE = 10
# When memory runs out, the kernel shall take this process, not the one that serves.
_OOM_SCORE = 800
# A thousandth of the steps is enough to see.
_REPORT_INTERVAL_S = 0.2


def main() -> int:
    """Build what standard input says."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(_NICE)
    with suppress(OSError):  # then the kernel decides as it would
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")
    try:
        _say(**_build(job))
    except BackendUnavailableError as error:
        _say(error=str(error), kind="unavailable")
    except ModelFileError as error:
        _say(error=str(error), kind="graph")
    except (BuildMemoryError, DeviceMemoryError) as error:
        _say(error=str(error), kind="memory")
    except EngineError as error:
        _say(error=str(error), kind="build")
    except OSError as error:
        _say(error=str(error), kind="disk")
    return 0


def _build(job: dict[str, Any]) -> dict[str, Any]:
    trt = import_tensorrt()
    onnx = _read_graph(Path(job["onnx"]))
    timing_cache = Path(job["timing_cache"])
    start_s = time.monotonic()
    context = PrimaryContext()
    try:
        with context.current():
            free_bytes = min(context.free_bytes(), _available_bytes())
            workspace_bytes = min(int(job["workspace_mib"]) * MIB, free_bytes // 4) // int(job["share"])
            _say(workspace_mib=workspace_bytes / MIB, free_mib=free_bytes / MIB)
            built = build_plan(
                trt,
                BuildJob(
                    onnx,
                    job["precision"],
                    workspace_bytes,
                    job["dla_core"],
                    _read_or_empty(timing_cache),
                ),
                _Reporter().step,
            )
        # Before anything else can fail: it took minutes.
        Path(job["plan"]).write_bytes(built.plan)
        _keep(timing_cache, built.timing_cache)
    finally:
        with suppress(EngineError):  # the driver takes the context back when this process ends
            context.close()
    return {
        "done": True,
        "seconds": round(time.monotonic() - start_s, 1),
        "workspace_mib": round(workspace_bytes / MIB, 1),
    }


class _Reporter:
    """Tells the parent about steps, each phase's first and last and some between."""

    def __init__(self) -> None:
        self._told_s = 0.0

    def step(self, phase: str, done: int, total: int) -> bool:
        now_s = time.monotonic()
        if done in (0, total) or now_s - self._told_s >= _REPORT_INTERVAL_S:
            self._told_s = now_s
            _say(phase=phase, step=done, of=total)
        return True


def _available_bytes() -> int:
    """Return what the system could give without swapping (proc(5)); an integrated GPU has no other memory."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise BuildError("/proc/meminfo does not tell how much memory is available.")


def _read_graph(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"The graph cannot be read: {error}.") from error


def _read_or_empty(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _keep(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with suppress(OSError):  # the next build measures again
        try:
            partial.write_bytes(content)
            os.replace(partial, path)  # noqa: PTH105 - the atomic call, by its own name
        finally:
            partial.unlink(missing_ok=True)


def _say(**message: object) -> None:
    # One write, so that lines of TensorRT's threads do not mix; a new line, whatever a library left unended.
    os.write(sys.stdout.fileno(), f"\n{json.dumps(message)}\n".encode())


def _end_with_parent() -> None:
    # Not by sys.stdin, whose lock this thread would still hold when the process ends.
    while os.read(sys.stdin.fileno(), 1024):
        pass  # nothing more comes until the parent closes it, or dies
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
