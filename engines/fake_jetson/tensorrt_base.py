"""What all parts of the fake TensorRT share: its logger, its buffers, and how it refuses arguments."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.fake_jetson import tensorrt_names
from engines.fake_jetson.device import FakeCuda
from engines.fake_jetson.onnx_reader import BOOL, FLOAT, FLOAT16, INT8, INT32, INT64, UINT8
from engines.fake_jetson.spec import FakeJetson

FIRST_WITH_INT64 = (10,)
_TYPES: dict[int, tuple[str, type[np.generic]]] = {
    FLOAT: ("FLOAT", np.float32),
    FLOAT16: ("HALF", np.float16),
    UINT8: ("UINT8", np.uint8),
    INT8: ("INT8", np.int8),
    INT32: ("INT32", np.int32),
    INT64: ("INT64", np.int64),
    BOOL: ("BOOL", np.bool_),
}


@dataclass(frozen=True, slots=True)
class Library:
    """The fake module and the device that it works on.

    Attributes:
        cuda: The device.
        module: Holds classes and enumerations of one version.
    """

    cuda: FakeCuda
    module: types.ModuleType

    @property
    def spec(self) -> FakeJetson:
        """Which device and which version."""
        return self.cuda.spec

    def strikes(self, fault: str) -> bool:
        """Return whether a fault is asked for."""
        return fault in self.spec.faults

    def member(self, enumeration: str, name: str) -> Any:  # noqa: ANN401 - an enumeration of the version
        """Return a member of one of the module's enumerations."""
        return getattr(self.module, enumeration)[name]

    def bound_type(self, element_type: int) -> tuple[str, np.dtype[Any]] | None:
        """Return name and dtype that an ONNX element type has outside, None if there is none.

        Before TensorRT had 64-bit integers it took them for 32-bit ones.
        """
        if element_type == INT64 and self.spec.version < FIRST_WITH_INT64:
            element_type = INT32
        if element_type not in _TYPES:
            return None
        name, dtype = _TYPES[element_type]
        return name, np.dtype(dtype)

    def require(self, value: object, class_name: str) -> None:
        """Refuse an argument of another type, and an object whose own constructor forgot its base's.

        Raises:
            TypeError: As the bindings raise it.
        """
        if not isinstance(value, getattr(self.module, class_name)):
            raise TypeError(
                f"incompatible function arguments: {class_name} expected, invoked with: {value!r}"
            )
        if not getattr(value, "_is_ready", True):
            raise TypeError(f"tensorrt.{class_name}.__init__() must be called when overriding __init__")


class ILogger:
    """Takes TensorRT's messages, once it is subclassed."""

    Severity = tensorrt_names.Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = tensorrt_names.Severity
    _is_ready = False

    def __init__(self) -> None:
        self._is_ready = True

    def log(self, severity: tensorrt_names.Severity, msg: str) -> None:
        """Take one message."""
        raise NotImplementedError('Tried to call pure virtual function "nvinfer1::ILogger::log"')


class Logger(ILogger):
    """Prints to standard error what is at least as bad as asked for."""

    def __init__(self, min_severity: tensorrt_names.Severity = tensorrt_names.Severity.WARNING) -> None:
        super().__init__()
        self.min_severity = min_severity

    def log(self, severity: tensorrt_names.Severity, msg: str) -> None:
        """Print one message."""
        if severity <= self.min_severity:
            sys.stderr.write(f"[TRT] [{severity.name[0]}] {msg}\n")


def report(logger: ILogger, severity: tensorrt_names.Severity, text: str) -> None:
    """Hand a message to the application's logger; as in TensorRT, what it raises is printed and forgotten."""
    try:
        logger.log(severity, text)
    except Exception as error:  # noqa: BLE001 - the bindings catch all of them
        sys.stderr.write(f"[ERROR] Exception caught in log(): {type(error).__name__}: {error}\n")


class IHostMemory(bytes):
    """What TensorRT serialises into: a buffer, but no sequence."""

    __slots__ = ()

    @property
    def nbytes(self) -> int:
        """Its size."""
        return memoryview(self).nbytes

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        raise TypeError("object of type 'tensorrt.IHostMemory' has no len()")

    def __getitem__(self, key: object) -> Any:  # noqa: ANN401 - never returns
        raise TypeError("'tensorrt.IHostMemory' object is not subscriptable")

    def __iter__(self) -> Iterator[int]:
        raise TypeError("'tensorrt.IHostMemory' object is not iterable")


class Dims:
    """A shape: a sequence that equals a tuple and is none."""

    __slots__ = ("_sides",)
    __hash__ = None  # type: ignore[assignment] # as in the bindings

    def __init__(self, shape: Iterable[int] = ()) -> None:
        self._sides = tuple(shape)

    def __len__(self) -> int:
        return len(self._sides)

    def __getitem__(self, key: int | slice) -> Any:  # noqa: ANN401 - a number or a tuple
        return self._sides[key]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (Dims, tuple, list)) and self._sides == tuple(other[:])

    def __repr__(self) -> str:
        return repr(self._sides)
