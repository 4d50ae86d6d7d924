"""Tensors in, tensors out: inference backends behind one small protocol.

This package knows nothing of cameras, labels or thresholds. It imports only the standard library and
numpy; each backend imports its vendor library where it opens a model.
"""

from engines.base import Engine, TensorSpec, allocate_inputs
from engines.errors import (
    BackendUnavailableError,
    EngineError,
    ModelFileError,
    TensorMismatchError,
)
from engines.factory import BACKENDS, open_engine
from engines.fake import FakeEngine
from engines.onnx_runtime import OnnxRuntimeEngine

__all__ = [
    "BACKENDS",
    "BackendUnavailableError",
    "Engine",
    "EngineError",
    "FakeEngine",
    "ModelFileError",
    "OnnxRuntimeEngine",
    "TensorMismatchError",
    "TensorSpec",
    "allocate_inputs",
    "open_engine",
]
