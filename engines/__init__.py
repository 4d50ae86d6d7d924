"""Tensors in, tensors out: inference backends behind one small protocol.

This package knows nothing of cameras, labels or thresholds. It imports only the standard library and
numpy; each backend imports its vendor library where it opens a model.
"""

from engines.base import Engine, TensorSpec, allocate_inputs
from engines.errors import (
    BackendUnavailableError,
    BuildCancelledError,
    BuildError,
    DeviceMemoryError,
    EngineError,
    ModelFileError,
    PlanError,
    PlanMissingError,
    TensorMismatchError,
)
from engines.factory import BACKENDS, BackendChoice, choose_backend
from engines.fake import FakeEngine
from engines.onnx_runtime import OnnxRuntimeEngine
from engines.tensorrt.engine import TensorrtEngine

__all__ = [
    "BACKENDS",
    "BackendChoice",
    "BackendUnavailableError",
    "BuildCancelledError",
    "BuildError",
    "DeviceMemoryError",
    "Engine",
    "EngineError",
    "FakeEngine",
    "ModelFileError",
    "OnnxRuntimeEngine",
    "PlanError",
    "PlanMissingError",
    "TensorMismatchError",
    "TensorSpec",
    "TensorrtEngine",
    "allocate_inputs",
    "choose_backend",
]
