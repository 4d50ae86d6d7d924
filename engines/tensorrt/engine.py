"""A TensorRT plan that runs: buffers that stay, one stream, and a CUDA graph where it can be recorded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.base import Tensors, TensorSpec, check_feeds
from engines.errors import EngineError, PlanError
from engines.tensorrt import driver
from engines.tensorrt.cuda import Buffer, PrimaryContext, too_little_memory
from engines.tensorrt.graph_capture import CudaGraph
from engines.tensorrt.logger import logger_of
from engines.tensorrt.probe import import_tensorrt

_log = logging.getLogger(__name__)


class TensorrtEngine:
    """Runs a plan on the first GPU. Any thread may call any method; runs wait for each other.

    It must be closed: pycuda cannot free it from wherever Python happens to drop it.

    Args:
        plan: What TensorRT built on this device, by this version.
        dla_core: DLA core that the plan was built for; None for the GPU.
        mapped: Whether buffers are mapped into the device's memory instead of copied there; None for what
            suits the device.
        cuda_graph: Whether to record a run and launch it as a whole, where that works.

    Raises:
        BackendUnavailableError: TensorRT cannot run here.
        PlanError: The plan is damaged, or made for another device or version.
        DeviceMemoryError: The GPU has too little free memory.
        EngineError: The device failed.

    Attributes:
        mapped: Whether buffers are mapped.
        uses_graph: Whether runs launch a recorded CUDA graph.
    """

    backend = "tensorrt"

    def __init__(
        self,
        plan: bytes,
        *,
        dla_core: int | None = None,
        mapped: bool | None = None,
        cuda_graph: bool = True,
    ) -> None:
        trt = import_tensorrt()
        self._lock = threading.Lock()
        self._buffers: dict[str, Buffer] = {}
        self._in: list[Buffer] = []
        self._out: list[Buffer] = []
        self._input_views: dict[str, NDArray[Any]] = {}
        self._output_views: dict[str, NDArray[Any]] = {}
        self._graph: CudaGraph | None = None
        # TensorRT's and pycuda's own objects, which have no types.
        self._runtime: Any = None
        self._engine: Any = None
        self._execution: Any = None
        self._stream: Any = None
        self._is_open = True
        self._context = PrimaryContext()
        try:
            with self._context.current():
                self.mapped = self._context.prefers_mapped() if mapped is None else mapped
                self._load(trt, plan, dla_core)
                self._allocate(trt)
                self.uses_graph = self._warm_up(cuda_graph=cuda_graph)
        except BaseException:
            with suppress(EngineError):  # a broken device fails again: what happened first is what counts
                self.close()
            raise

    def run(self, feeds: Tensors) -> Tensors:
        """Run the model once; see `engines.base.Engine.run`.

        The outputs are views of the engine's own buffers: the next run overwrites them. Nothing is allocated.
        """
        with self._lock:
            if not self._is_open:
                raise EngineError("The engine is closed: open it again before running it.")
            if feeds is not self.input_buffers:
                check_feeds(self.inputs, feeds)
                self._copy_in(feeds)
            with self._context.current():
                self._launch()
                self._stream.synchronize()
            return self._output_views

    def close(self) -> None:
        """Wait for the device, then free what the engine holds. Calling it again does nothing.

        Input buffers and outputs are gone with it.
        """
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            try:
                with self._context.current():
                    self._free()
            finally:
                self._context.close()

    def _load(self, trt: Any, plan: bytes, dla_core: int | None) -> None:  # noqa: ANN401 - no types
        self._logger = logger_of(trt)
        self._runtime = make_runtime(trt)
        if dla_core is not None:
            self._runtime.DLA_core = dla_core
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._refusal(PlanError, "TensorRT cannot load the plan")
        self._execution = self._engine.create_execution_context()
        if self._execution is None:
            raise self._refusal(EngineError, "TensorRT cannot prepare the plan to run")

    def _refusal(self, kind: type[EngineError], what: str) -> EngineError:
        return _refusal(self._logger, kind, what)

    def _allocate(self, trt: Any) -> None:  # noqa: ANN401 - tensorrt has no types
        engine = self._engine
        inputs: list[TensorSpec] = []
        outputs: list[TensorSpec] = []
        for number in range(engine.num_io_tensors):
            name = engine.get_tensor_name(number)
            shape = tuple(int(side) for side in engine.get_tensor_shape(name))
            spec = TensorSpec(name, shape, _dtype(engine.get_tensor_dtype(name).name, name))
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (inputs if is_input else outputs).append(spec)
            self._buffers[name] = self._context.allocate(spec, mapped=self.mapped)
            if not self._execution.set_tensor_address(name, self._buffers[name].address):
                raise EngineError(f"TensorRT refuses the memory for {spec}: {self._logger.take_reason()}")
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._in = [self._buffers[spec.name] for spec in inputs]
        self._out = [self._buffers[spec.name] for spec in outputs]
        self._input_views = {buffer.spec.name: buffer.host for buffer in self._in}
        self._output_views = {buffer.spec.name: buffer.host for buffer in self._out}

    @property
    def input_buffers(self) -> Mapping[str, NDArray[Any]]:
        """Page-locked arrays: what is written here is where the device reads."""
        return self._input_views

    def _warm_up(self, *, cuda_graph: bool) -> bool:
        """Run once, which sets up what TensorRT makes lazily, then record a run; return whether it worked."""
        self._stream = self._context.make_stream()
        self._enqueue()
        self._stream.synchronize()
        if not cuda_graph:
            return False
        try:
            with self._context.current():  # once more, for pycuda's errors to become ours here
                self._graph = CudaGraph(driver.open_driver(), int(self._stream.handle), self._enqueue)
                self._graph.launch()
                self._stream.synchronize()
        except EngineError as error:
            _log.info("no CUDA graph, every run is enqueued piece by piece: %s", error)
            if self._graph is not None:
                self._graph.close()
                self._graph = None
            return False
        return True

    def _copy_in(self, feeds: Tensors) -> None:
        for name, own in self._input_views.items():
            if feeds[name] is not own:
                np.copyto(own, feeds[name])

    def _launch(self) -> None:
        if self._graph is not None:
            self._graph.launch()
        else:
            self._enqueue()

    def _enqueue(self) -> None:
        for buffer in self._in:
            self._context.upload(buffer, self._stream)
        if not self._execution.execute_async_v3(self._stream.handle):
            raise self._refusal(EngineError, "TensorRT failed while running the model")
        for buffer in self._out:
            self._context.download(buffer, self._stream)

    def _free(self) -> None:
        """Free in the order of dependence, also on a device that fails; the context is current."""
        with ExitStack() as then:
            then.callback(self._drop)
            if self._graph is not None:
                then.callback(self._graph.close)
            if self._stream is not None:
                self._stream.synchronize()

    def _drop(self) -> None:
        # TensorRT: contexts before their engine, engines before their runtime.
        self._execution = None
        self._engine = None
        self._runtime = None
        # Freed with the last reference: a view that somebody still holds keeps its memory, and can be read.
        for views in (self._buffers, self._input_views, self._output_views):
            views.clear()
        self._in.clear()
        self._out.clear()
        self._stream = None


def make_runtime(trt: Any) -> Any:  # noqa: ANN401 - tensorrt has no types
    """Return TensorRT's runtime; the context must be current, and stay as long as it lives.

    Raises:
        DeviceMemoryError: The GPU has too little free memory.
        EngineError: TensorRT cannot start.
    """
    logger = logger_of(trt)
    logger.take_reason()  # of a failure before
    try:
        return trt.Runtime(logger)
    except TypeError as error:  # what its bindings make of a null pointer
        raise _refusal(logger, EngineError, "TensorRT cannot start") from error


def _refusal(logger: Any, kind: type[EngineError], what: str) -> EngineError:  # noqa: ANN401 - no types
    reason = logger.take_reason()
    if "outofmemory" in reason.replace(" ", "").lower():  # nothing is wrong with the plan then
        return too_little_memory(reason)
    return kind(f"{what}: {reason}")


def _dtype(tensorrt_name: str, tensor: str) -> np.dtype[Any]:
    names = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32", "INT8": "int8"}
    names |= {"UINT8": "uint8", "BOOL": "bool"}
    if tensorrt_name not in names:
        raise PlanError(f"The plan's tensor {tensor} has the unsupported type {tensorrt_name}.")
    return np.dtype(names[tensorrt_name])
