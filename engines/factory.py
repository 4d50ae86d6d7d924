"""Choosing a backend for a model file."""

from __future__ import annotations

import logging
from pathlib import Path

from engines.base import Engine
from engines.errors import BackendUnavailableError, ModelFileError
from engines.onnx_runtime import OnnxRuntimeEngine

BACKENDS = ("auto", "onnxruntime")

_log = logging.getLogger(__name__)


def open_engine(model_path: Path, backend: str = "auto", threads: int | None = None) -> Engine:
    """Open a model on the best backend of this device and say in one log line which and why.

    Args:
        model_path: An ONNX file. Its precision was chosen when it was built.
        backend: One of `BACKENDS`.
        threads: CPU threads; None lets the backend choose.

    Raises:
        BackendUnavailableError: The backend is unknown or not installed.
        ModelFileError: The file is missing or damaged.
    """
    if backend not in BACKENDS:
        raise BackendUnavailableError(
            f"There is no engine called {backend!r}: choose one of {', '.join(BACKENDS)}."
        )
    if not model_path.is_file():
        raise ModelFileError(f"There is no model file {model_path}.")
    engine = OnnxRuntimeEngine(model_path, threads)
    why = "the only backend of this version" if backend == "auto" else "as asked"
    _log.info("engine: %s (%s), %d threads", engine.backend, why, engine.threads)
    return engine
