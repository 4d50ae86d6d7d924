"""ONNX Runtime on the CPU: the backend for a Raspberry Pi, a desk, and every machine without a GPU."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from engines.base import Tensors, TensorSpec, allocate_inputs, check_feeds
from engines.errors import BackendUnavailableError, EngineError, ModelFileError

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
_MAX_AUTO_THREADS = 4


def auto_threads() -> int:
    """Return the thread count used for `threads="auto"`.

    The processors this process may use, four at the most: MobileNetV2's layers are too small to gain from
    more, and a Raspberry Pi has four.
    """
    return min(len(os.sched_getaffinity(0)), _MAX_AUTO_THREADS)


def import_onnxruntime() -> Any:  # noqa: ANN401 - the vendor module has no types
    """Import onnxruntime with its telemetry switched off.

    The Linux wheels report usage to their vendor by default since 1.29; the switch is read while the module
    is imported, so it must be set before. A value that the user has set stays.

    Raises:
        BackendUnavailableError: It is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendUnavailableError(
            f"ONNX Runtime cannot be imported ({error}): {sys.executable} -m pip install onnxruntime"
        ) from error
    return onnxruntime


class OnnxRuntimeEngine:
    """One ONNX model in an ONNX Runtime session on the CPU.

    Args:
        model_path: An ONNX file with static shapes.
        threads: Threads inside one operator; None for `auto_threads()`.
        spinning: Whether idle threads wait in a busy loop. It wins microseconds and burns whole cores
            between two frames: heat and watts.

    Raises:
        BackendUnavailableError: onnxruntime is not installed.
        ModelFileError: The file is missing, damaged, or has dynamic shapes.
    """

    backend = "onnxruntime"

    def __init__(self, model_path: Path, threads: int | None = None, *, spinning: bool = False) -> None:
        if not model_path.is_file():
            raise ModelFileError(f"There is no model file {model_path}.")
        ort = import_onnxruntime()
        self._errors = _exception_types()
        self.threads = threads or auto_threads()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only: the console belongs to the application
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        try:
            self._session: Any = ort.InferenceSession(
                str(model_path), options, providers=["CPUExecutionProvider"]
            )
        except self._errors as error:
            raise ModelFileError(
                f"ONNX Runtime cannot load {model_path}: {error}. Delete the file to have it built again."
            ) from error
        self.inputs = tuple(_spec(arg, model_path) for arg in self._session.get_inputs())
        self.outputs = tuple(_spec(arg, model_path) for arg in self._session.get_outputs())
        self.input_buffers = allocate_inputs(self.inputs)
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, feeds: Tensors) -> Tensors:
        """Run the model once; see `engines.base.Engine.run`."""
        if self._session is None:
            raise EngineError("The engine is closed: open it again before running it.")
        check_feeds(self.inputs, feeds)
        try:
            arrays = self._session.run(self._output_names, dict(feeds))
        except self._errors as error:
            raise EngineError(f"ONNX Runtime failed while running the model: {error}") from error
        return dict(zip(self._output_names, arrays, strict=True))

    def close(self) -> None:
        """Drop the session; its memory is freed with it."""
        self._session = None


def _exception_types() -> tuple[type[Exception], ...]:
    """Return ONNX Runtime's exceptions: a dozen classes (Fail, InvalidGraph, ...) without a common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    found = [member for member in vars(native).values() if isinstance(member, type)]
    return (RuntimeError, *(kind for kind in found if issubclass(kind, Exception)))


def _spec(arg: Any, model_path: Path) -> TensorSpec:  # noqa: ANN401 - onnxruntime.NodeArg has no types
    if not all(isinstance(size, int) for size in arg.shape):
        raise ModelFileError(
            f"{model_path}: tensor {arg.name} has the dynamic shape {arg.shape}; build it with fixed sizes."
        )
    if arg.type not in _DTYPES:
        raise ModelFileError(f"{model_path}: tensor {arg.name} has the unsupported type {arg.type}.")
    return TensorSpec(arg.name, tuple(arg.shape), np.dtype(_DTYPES[arg.type]))
