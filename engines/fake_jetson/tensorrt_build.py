"""The fake TensorRT's builder: networks become plans, in phases, or fail as asked for."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from engines.fake_jetson.plans import Plan, TimingCache, pack_plan
from engines.fake_jetson.spec import LARGE_WORKSPACE_BYTES
from engines.fake_jetson.tensorrt_base import IHostMemory, ILogger, Library, report
from engines.fake_jetson.tensorrt_config import IBuilderConfig, IProgressMonitor
from engines.fake_jetson.tensorrt_names import Severity
from engines.fake_jetson.tensorrt_parse import INetworkDefinition

_HANG_STEP_S = 0.01
_ENDLESS_STEPS = 1 << 20


class BuildFailedError(Exception):
    """Why there is no plan, in TensorRT's manner of speaking."""


class Builder:
    """Makes plans."""

    __slots__ = ("_logger",)
    _library: ClassVar[Library]

    def __init__(self, logger: ILogger) -> None:
        self._library.require(logger, "ILogger")
        self._library.cuda.enter_runtime("tensorrt.Builder")
        self._logger = logger

    @property
    def num_DLA_cores(self) -> int:  # noqa: N802 - TensorRT calls it so
        """Number of deep learning accelerators."""
        return self._library.spec.dla_cores

    @property
    def platform_has_fast_fp16(self) -> bool:
        """Whether float16 is faster than float32 here."""
        return True

    platform_has_fast_int8 = platform_has_fast_fp16

    def create_network(self, flags: int = 0) -> INetworkDefinition | None:
        """Return an empty network; None for flags that this version does not have."""
        kinds = self._library.module.NetworkDefinitionCreationFlag
        names = frozenset(kind.name for kind in kinds if int(flags) >> int(kind) & 1)
        if int(flags) >> len(kinds):
            report(self._logger, Severity.ERROR, "IBuilder::createNetworkV2: Error Code 3: API Usage Error")
            return None
        network: INetworkDefinition = self._library.module.INetworkDefinition(names)
        return network

    def create_builder_config(self) -> IBuilderConfig:
        """Return a configuration with TensorRT's defaults."""
        config: IBuilderConfig = self._library.module.IBuilderConfig(self._logger)
        return config

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        """Return a plan; None where there is none, and the logger knows why."""
        self._library.require(network, "INetworkDefinition")
        self._library.require(config, "IBuilderConfig")
        self._library.cuda.record.count("build_serialized_network")
        try:
            _check(self._library, network, config)
            _go_through_phases(self._library, network, config)
        except BuildFailedError as error:
            report(self._logger, Severity.ERROR, f"IBuilder::buildSerializedNetwork: {error}")
            return None
        spec = self._library.spec
        uses_dla = config.default_device_type.name == "DLA"
        plan = Plan(
            spec.tensorrt_version,
            spec.device_name,
            spec.compute_capability,
            tuple(sorted(config._flags)),
            config.DLA_core if uses_dla else None,
            network._model,
        )
        return IHostMemory(pack_plan(plan))


def _check(library: Library, network: INetworkDefinition, config: IBuilderConfig) -> None:
    """Refuse what TensorRT refuses before it starts."""
    graph = network._graph
    if graph is None or not graph.outputs:
        raise BuildFailedError("Error Code 4: API Usage Error (Network must have at least one output)")
    if any(-1 in info.shape for info in graph.inputs):
        raise BuildFailedError(
            "Error Code 4: API Usage Error (Network has dynamic or shape inputs, "
            "but no optimization profile has been defined.)"
        )
    reduced = config._flags & {"FP16", "INT8"}
    has_flags = library.spec.version < (11,)
    if "STRONGLY_TYPED" in network._flags and reduced:
        raise BuildFailedError(
            f"Error Code 3: API Usage Error (strongly typed network with {sorted(reduced)})"
        )
    is_quantised = any(node.operator == "DequantizeLinear" for node in graph.nodes)
    if is_quantised and has_flags and not {"INT8", "STRONGLY_TYPED"} & (config._flags | network._flags):
        raise BuildFailedError("Error Code 4: Internal Error (int8 tensors, but the INT8 flag is not set)")
    if config.default_device_type.name == "DLA":
        if config.DLA_core < 0:
            raise BuildFailedError("Error Code 3: API Usage Error (DLA core is not set or not there)")
        if has_flags and not reduced:
            raise BuildFailedError("Error Code 3: API Usage Error (DLA needs FP16 or INT8)")
        if "GPU_FALLBACK" not in config._flags:
            raise BuildFailedError(
                "Error Code 4: Internal Error (a layer cannot run on DLA; no GPU_FALLBACK)"
            )


def _go_through_phases(library: Library, network: INetworkDefinition, config: IBuilderConfig) -> None:
    monitor = config._monitor
    with _phase(monitor, "Building engine", None, 2) as outer_step:
        with _phase(monitor, "Optimizing graph", "Building engine", network.num_layers) as step:
            for layer in range(network.num_layers):
                step(layer)
        outer_step(0)
        hangs = library.strikes("build_hangs")
        steps = _ENDLESS_STEPS if hangs else network.num_layers
        with _phase(monitor, "Timing graph nodes", "Building engine", steps) as step:
            for layer in range(network.num_layers // 2):
                step(layer)
            _strike(library, config)
            layer = network.num_layers // 2
            while layer < steps or hangs:
                if hangs:
                    time.sleep(_HANG_STEP_S)
                step(min(layer, steps - 1))
                layer += 1
        outer_step(1)
    _remember(library, network, config)


def _strike(library: Library, config: IBuilderConfig) -> None:
    """Do what the faults ask for."""
    workspace = config.get_memory_pool_limit(library.member("MemoryPoolType", "WORKSPACE"))
    is_large = workspace >= LARGE_WORKSPACE_BYTES
    if library.strikes("build_killed_always") or (library.strikes("build_killed") and is_large):
        os.kill(os.getpid(), signal.SIGKILL)
    if library.strikes("build_out_of_memory") and is_large:
        raise BuildFailedError(f"Error Code 2: OutOfMemory (Requested size was {workspace} bytes.)")
    if library.strikes("build_returns_none"):
        raise BuildFailedError("Error Code 10: Internal Error (Could not find any implementation for node)")


def _remember(library: Library, network: INetworkDefinition, config: IBuilderConfig) -> None:
    """Put what was measured into the timing cache."""
    if config._cache is None:
        return
    known = config._cache._content
    digest = hashlib.sha256(network._model).hexdigest()
    if digest in known.entries:
        library.cuda.record.count("timing cache hit")
    config._cache._content = TimingCache(known.version, known.device_name, known.entries | {digest})


@contextmanager
def _phase(
    monitor: IProgressMonitor | None, name: str, parent: str | None, steps: int
) -> Iterator[Callable[[int], None]]:
    """Go through a phase; yields what reports a step and raises where the build is cancelled."""

    def step(number: int) -> None:
        if monitor is not None and not _told(lambda: monitor.step_complete(name, number), "step_complete"):
            raise BuildFailedError("Error Code 7: BuildCanceled (Build canceled by user)")

    if monitor is not None:
        _told(lambda: monitor.phase_start(name, parent, steps), "phase_start")
    try:
        yield step
    finally:
        if monitor is not None:
            _told(lambda: monitor.phase_finish(name), "phase_finish")


def _told(callback: Callable[[], object], name: str) -> bool:
    """Call the application; as in TensorRT, what it raises is printed and counts as False."""
    try:
        return bool(callback())
    except Exception as error:  # noqa: BLE001 - the bindings catch all of them
        sys.stderr.write(f"[ERROR] Exception caught in {name}(): {type(error).__name__}: {error}\n")
        return False
