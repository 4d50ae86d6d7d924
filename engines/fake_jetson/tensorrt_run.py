"""The fake TensorRT's runtime: plans become engines, engines are executed on fake streams by ONNX Runtime."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from engines.fake_jetson.codes import ILLEGAL_ADDRESS, CudaError
from engines.fake_jetson.memory import Resource
from engines.fake_jetson.onnx_reader import read_graph
from engines.fake_jetson.plans import Plan, PlanRefusedError, read_plan
from engines.fake_jetson.record import Record
from engines.fake_jetson.streams import Operation
from engines.fake_jetson.tensorrt_base import Dims, ILogger, Library, report
from engines.fake_jetson.tensorrt_names import Severity
from engines.onnx_runtime import auto_threads, import_onnxruntime

ALIGNMENT_BYTES = 256
_NOISE_SEED = 7


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of an engine, as TensorRT has it."""

    name: str
    is_input: bool
    shape: tuple[int, ...]
    type_name: str
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize

    def at(self, address: int) -> NDArray[Any]:
        """Return the array at an address."""
        buffer = memoryview((ctypes.c_char * self.nbytes).from_address(address))
        return np.frombuffer(buffer, self.dtype).reshape(self.shape)


class Runtime:
    """Loads plans."""

    __slots__ = ("DLA_core", "_logger")
    _library: ClassVar[Library]

    def __init__(self, logger: ILogger) -> None:
        self._library.require(logger, "ILogger")
        self._library.cuda.enter_runtime("tensorrt.Runtime")
        self._logger = logger
        self.DLA_core = -1

    @property
    def num_DLA_cores(self) -> int:  # noqa: N802 - TensorRT calls it so
        """Number of deep learning accelerators."""
        return self._library.spec.dla_cores

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:  # noqa: ANN401
        """Return the engine in a plan; None where the plan is not for here, and the logger knows why."""
        library, cuda = self._library, self._library.cuda
        data = bytes(memoryview(serialized_engine))
        cuda.record.count("deserialize_cuda_engine")
        if library.strikes("deserialise_crashes"):
            os.kill(os.getpid(), signal.SIGSEGV)
        try:
            if library.strikes("deserialise_none_once") and "deserialise_none_once" not in cuda.spent:
                cuda.spent.add("deserialise_none_once")
                raise PlanRefusedError("Error Code 1: Serialization (Magic tag does not match)")
            plan = read_plan(data, library.spec)
            if plan.dla_core is not None and not library.spec.dla_cores:
                raise PlanRefusedError("Error Code 6: API Usage Error (This device has no DLA)")
            cuda.memory.reserve(len(data))
        except PlanRefusedError as error:
            report(self._logger, Severity.ERROR, f"IRuntime::deserializeCudaEngine: {error}")
            return None
        except CudaError as error:
            report(self._logger, Severity.ERROR, f"Error Code 2: OutOfMemory (weights: {error})")
            return None
        engine: ICudaEngine = library.module.ICudaEngine(plan, self._logger)
        cuda.engines.add(engine)
        weakref.finalize(engine, cuda.memory.reserve, -len(data)).atexit = False
        return engine


class ICudaEngine:
    """A plan that was loaded."""

    __slots__ = ("__weakref__", "_is_int64", "_logger", "_session", "_tensors", "num_layers")
    _library: ClassVar[Library]

    def __init__(self, plan: Plan, logger: ILogger) -> None:
        graph = read_graph(plan.model)
        self._logger = logger
        self._tensors: dict[str, Tensor] = {}
        for is_input, infos in ((True, graph.inputs), (False, graph.outputs)):
            for info in infos:
                bound = self._library.bound_type(info.element_type)
                assert bound is not None  # noqa: S101 - the parser saw to it
                self._tensors[info.name] = Tensor(info.name, is_input, info.shape, *bound)
        self.num_layers = len(graph.nodes)
        self._session = None if self._library.strikes("zero_cost") else _open_session(plan.model)

    @property
    def num_io_tensors(self) -> int:
        """Number of inputs and outputs together."""
        return len(self._tensors)

    @property
    def device_memory_size(self) -> int:
        """Bytes that an execution context takes."""
        return self._context_bytes()

    device_memory_size_v2 = device_memory_size

    def _context_bytes(self) -> int:
        return 4 * sum(tensor.nbytes for tensor in self._tensors.values())

    def get_tensor_name(self, index: int) -> str:
        """Return the name of an input or output."""
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:  # noqa: ANN401 - TensorIOMode
        """Return whether it is an input."""
        known = self._tensors.get(name)
        mode = "NONE" if known is None else "INPUT" if known.is_input else "OUTPUT"
        return self._library.member("TensorIOMode", mode)

    def get_tensor_shape(self, name: str) -> Dims:
        """Return its shape."""
        return Dims(self._tensors[name].shape)

    def get_tensor_dtype(self, name: str) -> Any:  # noqa: ANN401 - DataType
        """Return its type."""
        return self._library.member("DataType", self._tensors[name].type_name)

    def create_execution_context(self) -> IExecutionContext | None:
        """Return what executes the engine; None where memory is short, and the logger knows why."""
        cuda, size = self._library.cuda, self._context_bytes()
        try:
            cuda.memory.reserve(size)
        except CudaError:
            text = f"Error Code 2: OutOfMemory (Requested size was {size} bytes.)"
            report(self._logger, Severity.ERROR, f"ICudaEngine::createExecutionContext: {text}")
            return None
        context: IExecutionContext = self._library.module.IExecutionContext(self)
        cuda.engines.add(context)
        weakref.finalize(context, cuda.memory.reserve, -size).atexit = False
        return context


class IExecutionContext:
    """Executes an engine: one run at a time."""

    __slots__ = ("__weakref__", "_addresses", "_has_run", "_state", "engine")
    _library: ClassVar[Library]

    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine
        self._addresses: dict[str, int] = {}
        self._has_run = False
        self._state = Resource("an execution context")
        retire = weakref.finalize(self, _retire, self._state, self._library.cuda.record)
        retire.atexit = False

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """Say where an input or output lies for the device."""
        if isinstance(memory, (str, bytes, float)):
            raise TypeError("set_tensor_address(): incompatible function arguments")
        address = int(memory)
        if name not in self.engine._tensors:
            return self._refuse("setTensorAddress", f"Given invalid tensor name: {name}")
        if address % ALIGNMENT_BYTES:
            self._library.cuda.record.violation(f"{name} lies at {address:#x}, not at a multiple of 256")
        self._addresses[name] = address
        return True

    def get_tensor_address(self, name: str) -> int:
        """Return where an input or output lies for the device; 0 if nobody has said so."""
        return self._addresses.get(name, 0)

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Queue a run on a stream; False where that fails, and the logger knows why."""
        library, cuda = self._library, self._library.cuda
        cuda.record.count("execute_async_v3")
        tensors = self.engine._tensors.values()
        missing = [tensor.name for tensor in tensors if not self.get_tensor_address(tensor.name)]
        if missing:
            return self._refuse("enqueueV3", f"Address is not set for tensor {missing[0]}")
        if library.strikes("execute_fails"):
            return self._refuse("enqueueV3", "a fault was asked for")
        try:
            stream = cuda.streams.find(int(stream_handle), 0)
        except CudaError as error:
            return self._refuse("enqueueV3", str(error))
        if stream.capture is not None and not (self._has_run and library.spec.can_capture):
            stream.capture.spoiled = True
            why = (
                "this plan cannot be captured" if self._has_run else "what is set up lazily is not set up yet"
            )
            return self._refuse("enqueueV3", f"Cuda Runtime (operation not permitted: {why})")
        try:
            places = [cuda.device_memory(self._addresses[one.name], one.nbytes) for one in tensors]
            run = self._work()
        except CudaError:
            cuda.record.violation("an engine was given an address that the device cannot use")
            places, run = [], _illegal_access
        self._has_run = True
        try:
            cuda.streams.enqueue(stream, Operation(run, (self._state, *places)))
        except CudaError as error:
            return self._refuse("enqueueV3", str(error))
        return True

    def _work(self) -> Callable[[], None]:
        session = self.engine._session
        if session is None:
            return _do_nothing
        placed = [(tensor, self._addresses[tensor.name]) for tensor in self.engine._tensors.values()]
        return partial(_execute, session, placed, self._library.spec.faults)

    def _refuse(self, method: str, why: str) -> bool:
        text = f"IExecutionContext::{method}: Error Code 3: API Usage Error ({why})"
        report(self.engine._logger, Severity.ERROR, text)
        return False


def _open_session(model: bytes) -> Any:  # noqa: ANN401 - onnxruntime has no types
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = auto_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _execute(session: Any, placed: list[tuple[Tensor, int]], faults: frozenset[str]) -> None:  # noqa: ANN401
    wide = {arg.name for arg in session.get_inputs() if arg.type == "tensor(int64)"}
    feeds = {
        tensor.name: tensor.at(address).astype(np.int64) if tensor.name in wide else tensor.at(address)
        for tensor, address in placed
        if tensor.is_input
    }
    outputs = [(tensor, address) for tensor, address in placed if not tensor.is_input]
    results = session.run([tensor.name for tensor, _ in outputs], feeds)
    for (tensor, address), result in zip(outputs, results, strict=True):
        np.copyto(tensor.at(address), _spoiled(result, faults), casting="unsafe")


def _spoiled(result: NDArray[Any], faults: frozenset[str]) -> NDArray[Any]:
    """Return what a faulty device would have computed."""
    if "nan_outputs" in faults and result.dtype.kind == "f":
        return np.full_like(result, np.nan)
    if "wrong_outputs" in faults:
        random = np.random.default_rng(_NOISE_SEED)
        if result.dtype.kind != "f":
            return random.permutation(result.reshape(-1)).reshape(result.shape)
        noise = random.standard_normal(result.shape) * (1 + np.abs(result))
        noisy: NDArray[Any] = (result + noise).astype(result.dtype)
        return noisy
    return result


def _do_nothing() -> None:
    pass


def _illegal_access() -> None:
    raise CudaError(ILLEGAL_ADDRESS)


def _retire(state: Resource, record: Record) -> None:
    if state.pending:
        record.violation("an execution context was destroyed while queued work used it")
    state.released = True
