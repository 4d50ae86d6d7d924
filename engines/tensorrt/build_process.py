"""A build in a child process: it reports its progress, can be cancelled, and may die without harm.

The kernel kills the largest process when memory runs out; on a small device that is the builder. It is then
tried once more with a quarter of the workspace, as it is when TensorRT itself finds too little memory.
"""

from __future__ import annotations

import json
import logging
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from engines.errors import (
    BackendUnavailableError,
    BuildCancelledError,
    BuildError,
    BuildMemoryError,
    ModelFileError,
)
from engines.tensorrt.plan_key import PlanKey, PlanRequest, timing_cache_name

# Parts of the usual workspace: the first try, and the one after a failure.
_SHARES = (1, 4)
_POLL_S = 0.2
_END_S = 10.0
_STDERR_LINES = 3

# The child imports this very package, wherever it lies, and everything else as this process does. Neither the
# user's folder, with a json.py perhaps, nor what lies beside the package, all of site-packages where it is
# installed, must come before the standard library.
_START = """
import sys
if sys.path[0] == "":
    del sys.path[0]
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
found = PathFinder.find_spec("engines", sys.argv[1:])
sys.modules["engines"] = module_from_spec(found)
found.loader.exec_module(sys.modules["engines"])
from engines.tensorrt.build_child import main
sys.exit(main())
"""
# How others end a process; systemd does it to all of a service at once.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# What the child calls its failures.
_KINDS = {
    "unavailable": BackendUnavailableError,
    "graph": ModelFileError,
    "build": BuildError,
    "memory": BuildMemoryError,
    "disk": OSError,
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        phase: In TensorRT's words.
        step: Steps of the phase that are done.
        steps: How many it has; 0 where nobody knows, as before TensorRT 10.
        elapsed_s: Since the build began.
    """

    phase: str
    step: int
    steps: int
    elapsed_s: float


OnProgress = Callable[[BuildProgress], None]


def run_build(
    request: PlanRequest,
    key: PlanKey,
    plan: Path,
    on_progress: OnProgress,
    cancel: threading.Event,
) -> dict[str, Any]:
    """Build a plan in a child process.

    Args:
        request: What is wanted.
        key: Of the plan.
        plan: Where the child writes it.
        on_progress: Called with each report, and at least every few tenths of a second.
        cancel: Set by whoever no longer wants the plan.

    Returns:
        How it was built, for the sidecar: `seconds`, `workspace_mib`, `built_at`, `attempts`.

    Raises:
        BuildCancelledError: `cancel` was set, or somebody ended the child.
        BackendUnavailableError: TensorRT cannot run, or has no such DLA core.
        ModelFileError: TensorRT cannot read the graph.
        BuildError: TensorRT failed; `BuildMemoryError` where memory ran out twice.
        OSError: The plan cannot be written.
    """
    timing_cache = plan.with_name(timing_cache_name(key.tensorrt, key.device, key.compute_capability))
    for attempt, share in enumerate(_SHARES, 1):
        job = {
            "onnx": str(request.onnx.resolve()),
            "plan": str(plan.resolve()),
            "timing_cache": str(timing_cache.resolve()),
            "precision": request.precision,
            "workspace_mib": request.workspace_mib,
            "dla_core": request.dla_core,
            "share": share,
        }
        try:
            facts = _run_child(job, on_progress, cancel)
        except BuildMemoryError as error:
            if attempt == len(_SHARES):
                raise
            _log.warning("%s; trying once more with a quarter of the workspace", str(error).rstrip("."))
        else:
            built_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            return {**facts, "built_at": built_at, "attempts": attempt}
    raise AssertionError("unreachable: the last attempt returns or raises")


def _run_child(job: dict[str, Any], on_progress: OnProgress, cancel: threading.Event) -> dict[str, Any]:
    try:
        child = subprocess.Popen(
            [sys.executable, "-c", _START, str(Path(__file__).parents[2])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",  # libraries print what they like
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
    except OSError as error:
        raise BuildError(f"The TensorRT builder cannot be started: {error}.") from error
    assert child.stdin is not None  # noqa: S101 - for the type checker: all three are pipes
    assert child.stdout is not None  # noqa: S101
    assert child.stderr is not None  # noqa: S101
    messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    stderr: list[str] = []
    readers = [
        threading.Thread(target=_read_messages, args=(child.stdout, messages), daemon=True),
        threading.Thread(target=_read_tail, args=(child.stderr, stderr), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        with suppress(BrokenPipeError):  # it died at once: its exit code and last words say why
            child.stdin.write(json.dumps(job) + "\n")
            child.stdin.flush()
        outcome = _follow(messages, on_progress, cancel)
        with suppress(subprocess.TimeoutExpired):  # what matters is written
            child.wait(_END_S)
    finally:
        if child.poll() is None:
            child.kill()  # what it writes is a temporary file
        child.wait()
        for reader in readers:
            reader.join(_END_S)
        for pipe in (child.stdin, child.stdout, child.stderr):
            with suppress(BrokenPipeError):  # the job that nobody read
                pipe.close()
    if outcome is None:
        raise _death(child.returncode, stderr)
    if "error" not in outcome:
        return {name: outcome[name] for name in ("seconds", "workspace_mib")}
    raise _KINDS[outcome["kind"]](outcome["error"])


def _follow(
    messages: queue.SimpleQueue[dict[str, Any] | None], on_progress: OnProgress, cancel: threading.Event
) -> dict[str, Any] | None:
    """Return the child's last message, None where it ended without one."""
    start_s = time.monotonic()
    progress = BuildProgress("starting", 0, 0, 0.0)
    while True:
        if cancel.is_set():
            raise BuildCancelledError("The build of the TensorRT plan was interrupted.")
        try:
            message = messages.get(timeout=_POLL_S)
        except queue.Empty:
            message = {}
        if message is None:
            return None
        if "done" in message or "error" in message:
            return message
        if "free_mib" in message:
            _log.info(
                "TensorRT builds with %.0f MiB of workspace, %.0f MiB are free",
                message["workspace_mib"],
                message["free_mib"],
            )
        elapsed_s = time.monotonic() - start_s
        progress = BuildProgress(
            message.get("phase", progress.phase),
            message.get("step", progress.step),
            message.get("of", progress.steps),
            elapsed_s,
        )
        on_progress(progress)


def _read_messages(stream: IO[str], messages: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    for line in stream:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            continue  # printed by a library
        if isinstance(message, dict):
            messages.put(message)
    messages.put(None)


def _read_tail(stream: IO[str], lines: list[str]) -> None:
    """Keep the last lines of a stream."""
    for line in stream:
        lines.append(line.strip())
        del lines[:-_STDERR_LINES]


def _death(code: int, stderr: list[str]) -> BuildError:
    """Return the error for a child that ended without a word."""
    words = " / ".join(line for line in stderr if line) or "it said nothing"
    if code == -signal.SIGKILL:
        return BuildMemoryError("The TensorRT builder was killed, most likely because memory ran out.")
    if -code in _ENDING:
        return BuildCancelledError(f"The TensorRT builder was ended ({signal.strsignal(-code)}).")
    if code < 0:
        return BuildError(f"The TensorRT builder crashed ({signal.strsignal(-code) or -code}): {words}.")
    return BuildError(f"The TensorRT builder ended with exit code {code}: {words}.")
