"""The fake TensorRT's networks and its ONNX parser, which refuses what the real one refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from engines.fake_jetson.onnx_reader import INT8, INT32, UINT8, GraphInfo, NotOnnxError, read_graph
from engines.fake_jetson.tensorrt_base import ILogger, Library, report
from engines.fake_jetson.tensorrt_names import Severity


class INetworkDefinition:
    """What a parser fills and a builder builds.

    Attributes:
        model: The ONNX model; empty before one was parsed.
        graph: What is in it.
        flags: Names of NetworkDefinitionCreationFlag.
    """

    __slots__ = ("_flags", "_graph", "_model", "name")
    _library: ClassVar[Library]

    def __init__(self, flags: frozenset[str]) -> None:
        self._flags = flags
        self._graph: GraphInfo | None = None
        self._model = b""
        self.name = ""

    @property
    def num_inputs(self) -> int:
        """Number of inputs."""
        return len(self._graph.inputs) if self._graph else 0

    @property
    def num_outputs(self) -> int:
        """Number of outputs."""
        return len(self._graph.outputs) if self._graph else 0

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return len(self._graph.nodes) if self._graph else 0


class ParserError:
    """One reason why a model was refused."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        """Return it in words."""
        return self._text


class OnnxParser:
    """Reads an ONNX model into a network."""

    __slots__ = ("_errors", "_logger", "_network")
    _library: ClassVar[Library]

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._library.require(network, "INetworkDefinition")
        self._library.require(logger, "ILogger")
        self._network = network
        self._logger = logger
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        """Number of reasons why the last model was refused."""
        return len(self._errors)

    def get_error(self, index: int) -> ParserError | None:
        """Return one of them."""
        return self._errors[index] if 0 <= index < len(self._errors) else None

    def clear_errors(self) -> None:
        """Forget them."""
        self._errors.clear()

    def parse(self, model: Any, path: str | None = None) -> bool:  # noqa: ANN401 - anything with a buffer
        """Read a serialised model; False where it is refused.

        Args:
            model: Its bytes.
            path: Where it came from, for weights beside it; there are none here.
        """
        del path
        data = bytes(memoryview(model))
        self._errors = []
        try:
            graph = read_graph(data)
        except NotOnnxError as error:
            return self._refuse(f"Failed to parse the ONNX model: {error}")
        found = next(self._objections(graph), None)
        if found is not None:
            return self._refuse(found)
        self._network._model, self._network._graph = data, graph
        return True

    def _objections(self, graph: GraphInfo) -> Iterator[str]:
        library = self._library
        if library.strikes("parse_fails"):
            yield "Assertion failed: a fault was asked for"
        if library.spec.version < (10,) and "EXPLICIT_BATCH" not in self._network._flags:
            yield "Assertion failed: the parser needs a network with an explicit batch dimension"
        for info in (*graph.inputs, *graph.outputs):
            if library.bound_type(info.element_type) is None:
                yield f"Unsupported ONNX data type {info.element_type} of {info.name}"
        pictures = {info.name for info in graph.inputs if info.element_type == UINT8}
        for node in graph.nodes:
            where = f"Invalid Node - {node.name}: "
            if node.operator != "Cast" and pictures & set(node.inputs):
                yield f"{where}first input has type UInt8 but must have type Float, Half, Int8 or Int32"
            if node.operator in {"QuantizeLinear", "DequantizeLinear"}:
                kind, _ = graph.constants.get(node.inputs[0], (INT8, False))
                if kind in {INT32, UINT8}:
                    yield f"{where}only int8 can be dequantised"
                zero_point = node.inputs[2] if len(node.inputs) > 2 else ""
                zero_type, is_set = graph.constants.get(zero_point, (INT8, False))
                if is_set or zero_type != INT8:
                    yield f"{where}Assertion failed: only symmetric int8 with zero point 0 is supported"

    def _refuse(self, text: str) -> bool:
        self._errors.append(ParserError(text))
        report(self._logger, Severity.ERROR, f"ModelImporter: ERROR: {text}")
        return False
