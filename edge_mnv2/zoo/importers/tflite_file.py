"""What lies in a TensorFlow Lite file: operators, constants, ranges. Its schema is known only in here."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import RequestError, WeightsError

# What flatbuffers and numpy raise over a damaged file, depending on which offset it is: flatbuffers' Python
# reader checks nothing and finds no field, or one outside of the file.
DAMAGE = (struct.error, LookupError, TypeError, ValueError, AttributeError, OverflowError)

_IDENTIFIER = b"TFL3"
_DTYPES = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "UINT8": "u1",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
}
_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
}
_BOUNDS = {"RELU": (0.0, np.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}


def import_tflite() -> Any:  # noqa: ANN401 - the vendor module has no types
    """Import the package that knows the schema of TensorFlow Lite files.

    Raises:
        RequestError: It is not installed.
    """
    try:
        import tflite
    except ImportError as error:
        raise RequestError(
            f"Reading TensorFlow Lite files needs the package tflite: {sys.executable} -m pip install tflite"
        ) from error
    return tflite


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator: its name in the schema, its tensors by index, and the bounds of its fused activation."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    bounds: tuple[float, float]


class TfliteFile:
    """The first graph of a TensorFlow Lite file; tensors are named by their index, -1 for one left out.

    Args:
        schema: What `import_tflite` returned.
        content: The whole file.

    Attributes:
        operators: In the order of execution.

    Raises (the constructor and every method):
        WeightsError: This is no such file, or something in it is of a kind that is not supported.
        One of `DAMAGE`: The file is damaged.
    """

    def __init__(self, schema: Any, content: bytes) -> None:  # noqa: ANN401 - the module has no types
        if content[4:8] != _IDENTIFIER:
            raise WeightsError("It does not begin as a TensorFlow Lite file does.")
        self._schema = schema
        self._model = self._schema.Model.GetRootAs(content, 0)
        self._graph = self._model.Subgraphs(0)
        kinds = _names(self._schema.BuiltinOperator)
        self.operators = tuple(self._operator(index, kinds) for index in range(self._graph.OperatorsLength()))
        # Weights stored as float16 or int8 for a float network pass through an operator of their own.
        self._sources = {
            operator.outputs[0]: operator.inputs[0]
            for operator in self.operators
            if operator.kind == "DEQUANTIZE"
        }

    def name(self, index: int) -> str:
        """Return the tensor's name; converters join the names of all that they merged with a semicolon."""
        name: bytes = self._tensor(index).Name()
        return name.decode()

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the tensor's shape."""
        tensor = self._tensor(index)
        return tuple(int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength()))

    def is_constant(self, index: int) -> bool:
        """Tell whether the tensor's values lie in the file."""
        source = self._sources.get(index, index)
        return bool(self._model.Buffers(self._tensor(source).Buffer()).DataLength())

    def constant(self, index: int) -> NDArray[np.float32]:
        """Return a constant's real values."""
        source = self._sources.get(index, index)
        if not self.is_constant(source):
            raise WeightsError(
                f"{self.name(source)} holds no numbers: it is computed while the network runs."
            )
        tensor = self._tensor(source)
        data = self._model.Buffers(tensor.Buffer()).DataAsNumpy()
        stored = np.frombuffer(data.tobytes(), self._dtype(source)).reshape(self.shape(source))
        if stored.dtype.kind == "f":
            return stored.astype(np.float32)
        scale, zero_point = self._quantisation(source)
        if not scale.size:
            raise WeightsError(f"{self.name(source)} is quantised, but the file gives no scale for it.")
        if scale.size > 1:
            along = [1] * stored.ndim
            along[tensor.Quantization().QuantizedDimension()] = -1
            scale, zero_point = scale.reshape(along), zero_point.reshape(along)
        with np.errstate(over="ignore"):
            return ((stored.astype(np.float64) - zero_point) * scale).astype(np.float32)

    def range(self, index: int) -> tuple[float, float] | None:
        """Return the smallest and largest value that a quantised tensor can hold, None for a float one."""
        dtype = self._dtype(index)
        if dtype.kind == "f":
            return None
        scale, zero_point = self._quantisation(index)
        if scale.size != 1:
            raise WeightsError(f"{self.name(index)} is quantised with {scale.size} scales, not one.")
        limits = np.iinfo(dtype)
        return (
            float((limits.min - zero_point[0]) * scale[0]),
            float((limits.max - zero_point[0]) * scale[0]),
        )

    def _tensor(self, index: int) -> Any:  # noqa: ANN401 - the schema's classes have no types
        # flatbuffers itself would read whatever lies before the first tensor.
        if not 0 <= index < self._graph.TensorsLength():
            raise IndexError(f"there is no tensor {index}")
        return self._graph.Tensors(index)

    def _dtype(self, index: int) -> np.dtype[Any]:
        number = self._tensor(index).Type()
        kind = _names(self._schema.TensorType).get(number, f"number {number}")
        if kind not in _DTYPES:
            raise WeightsError(f"{self.name(index)} has the unsupported type {kind}.")
        return np.dtype(_DTYPES[kind])

    def _quantisation(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        found = self._tensor(index).Quantization()
        if found is None:
            return np.empty(0), np.empty(0, np.int64)
        scale = np.array([found.Scale(i) for i in range(found.ScaleLength())], np.float64)
        if not np.isfinite(scale).all() or (scale < 0).any():
            raise WeightsError(f"{self.name(index)} is quantised with a scale that is negative or no number.")
        # Left out where it is 0 for every channel.
        zero_point = [found.ZeroPoint(i) for i in range(found.ZeroPointLength())] or [0] * scale.size
        return scale, np.array(zero_point, np.int64)

    def _operator(self, index: int, kinds: dict[int, str]) -> Operator:
        operator = self._graph.Operators(index)
        code = self._model.OperatorCodes(operator.OpcodeIndex())
        # The first 127 kinds are stored in a field of their own in files of older converters.
        kind = kinds.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "UNKNOWN")
        bounds = (-np.inf, np.inf)
        table = operator.BuiltinOptions()
        if kind in _OPTIONS and table is not None:
            options = getattr(self._schema, _OPTIONS[kind])()
            options.Init(table.Bytes, table.Pos)
            activation = _names(self._schema.ActivationFunctionType)[options.FusedActivationFunction()]
            bounds = _BOUNDS.get(activation, bounds)
        return Operator(
            kind,
            tuple(int(operator.Inputs(i)) for i in range(operator.InputsLength())),
            tuple(int(operator.Outputs(i)) for i in range(operator.OutputsLength())),
            bounds,
        )


def _names(enumeration: type) -> dict[int, str]:
    """Return the schema's names by number."""
    return {number: name for name, number in vars(enumeration).items() if not name.startswith("_")}
