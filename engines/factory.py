"""Choosing a backend: the one that was asked for, or the best of this device, and why."""

from __future__ import annotations

from dataclasses import dataclass

from engines.errors import BackendUnavailableError
from engines.tensorrt.probe import Probe, probe, require

BACKENDS = ("auto", "onnxruntime", "tensorrt")


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """Which backend runs, and why.

    Attributes:
        backend: `onnxruntime` or `tensorrt`.
        why: Half a sentence for the log.
        probe: What was found out about TensorRT; None where nobody asked.
    """

    backend: str
    why: str
    probe: Probe | None = None


def choose_backend(wanted: str = "auto") -> BackendChoice:
    """Return the backend to run on.

    Args:
        wanted: One of `BACKENDS`; `auto` is TensorRT where it can run, else ONNX Runtime.

    Raises:
        BackendUnavailableError: The backend is unknown, or TensorRT is wanted and cannot run.
    """
    if wanted not in BACKENDS:
        raise BackendUnavailableError(
            f"There is no engine called {wanted!r}: choose one of {', '.join(BACKENDS)}."
        )
    if wanted == "onnxruntime":
        return BackendChoice("onnxruntime", "as asked")
    found = probe()
    if wanted == "tensorrt":
        require(found)
        return BackendChoice("tensorrt", "as asked", found)
    if found.missing is not None:
        return BackendChoice("onnxruntime", f"TensorRT cannot run: {found.missing.problem}", found)
    return BackendChoice("tensorrt", "the fastest here", found)
