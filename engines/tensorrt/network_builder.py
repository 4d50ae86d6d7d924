"""From an ONNX graph to a plan, in this process; `build_process` runs it in a child.

Versions differ in what they offer (docs/jetson.md); whatever is not in all of them is looked for first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engines.errors import BackendUnavailableError, BuildError, BuildMemoryError, ModelFileError
from engines.tensorrt.logger import logger_of
from engines.tensorrt.plan_key import PlanPrecision

MIB = 2**20


@dataclass(frozen=True, slots=True)
class BuildJob:
    """What is built.

    Attributes:
        onnx: The graph, serialised.
        precision: Of its arithmetic.
        workspace_bytes: Most memory that a layer may use while it runs.
        dla_core: DLA core that takes the layers it can; None for the GPU alone.
        timing_cache: What earlier builds measured on this device with this version; may be empty.
    """

    onnx: bytes
    precision: PlanPrecision
    workspace_bytes: int
    dla_core: int | None
    timing_cache: bytes


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """What came out: the plan, and what was measured on the way, for the next build."""

    plan: bytes
    timing_cache: bytes


# Called with the phase, how many of its steps are done, and how many there are (0 where nobody knows);
# returns whether to go on.
OnStep = Callable[[str, int, int], bool]


def needs_typed_graph(trt: Any) -> bool:  # noqa: ANN401 - tensorrt has no types
    """Return whether precision is said by the graph's types alone: the flags are gone since TensorRT 11."""
    return not hasattr(trt.BuilderFlag, "FP16")


def build_plan(trt: Any, job: BuildJob, on_step: OnStep) -> BuiltPlan:  # noqa: ANN401 - tensorrt has no types
    """Build a plan for the first GPU.

    Args:
        trt: The module tensorrt; the driver was initialised.
        job: What to build.
        on_step: See `OnStep`. It is called from TensorRT's threads.

    Raises:
        ModelFileError: TensorRT cannot read the graph; the message is its own reason, as below.
        BuildError: It cannot build it; `BuildMemoryError` where memory ran out.
        BackendUnavailableError: A DLA core is wanted that is not there.
    """
    logger = logger_of(trt)
    logger.take_reason()  # of a failure before
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # what its bindings make of a null pointer
        raise _failure("TensorRT cannot start", logger) from error
    network = builder.create_network(_network_flags(trt))
    on_step("reading the graph", 0, 0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(job.onnx):
        errors = " / ".join(
            " ".join(parser.get_error(number).desc().split()) for number in range(parser.num_errors)
        )
        raise ModelFileError(
            f"TensorRT {trt.__version__} cannot read the graph: {errors or logger.take_reason()}"
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace_bytes)
    _set_precision(trt, config, job.precision)
    if job.dla_core is not None:
        _set_dla(trt, builder, config, job.dla_core)
    cache = config.create_timing_cache(job.timing_cache)
    # Another version's or device's measurements must not be taken for this one's, nor damaged ones.
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _make_monitor(trt, on_step)
    on_step("choosing kernels", 0, 0)
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise _failure(f"TensorRT {trt.__version__} cannot build the plan", logger)
    return BuiltPlan(bytes(serialised), bytes(config.get_timing_cache().serialize()))


def _failure(what: str, logger: Any) -> BuildError:  # noqa: ANN401 - the logger has no types
    reason = logger.take_reason()
    # "OutOfMemory", "out of memory", "insufficient memory"
    kind = BuildMemoryError if "memory" in reason.lower() else BuildError
    return kind(f"{what}: {reason}")


def _network_flags(trt: Any) -> int:  # noqa: ANN401 - tensorrt has no types
    # Needed by 8.6, ignored by 10, gone in 11.
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0


def _set_precision(trt: Any, config: Any, precision: PlanPrecision) -> None:  # noqa: ANN401 - no types
    flag = trt.BuilderFlag
    # Float32 means it: TF32 keeps ten bits of the mantissa, as float16 does.
    if precision == "fp32":
        config.clear_flag(flag.TF32)
    # The quantised layers of an int8 graph are told by its Q/DQ nodes; the others are best in float16.
    if precision in ("fp16", "int8") and hasattr(flag, "FP16"):
        config.set_flag(flag.FP16)
    if precision == "int8" and hasattr(flag, "INT8"):
        config.set_flag(flag.INT8)


def _set_dla(trt: Any, builder: Any, config: Any, core: int) -> None:  # noqa: ANN401 - no types
    if core >= builder.num_DLA_cores:
        raise no_dla_core(core, builder.num_DLA_cores)
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def no_dla_core(core: int, cores: int) -> BackendUnavailableError:
    """Return the error for a DLA core that a device with so many does not have."""
    return BackendUnavailableError(f"There is no DLA core {core}: this device has {cores}. Leave --dla out.")


def _make_monitor(trt: Any, on_step: OnStep) -> Any:  # noqa: ANN401 - tensorrt has no types
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc] # its base is known at run time only
        """Hands the builder's progress on; phases lie within each other."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Take the start of a phase; it cannot cancel."""
            del parent_phase
            self._steps[phase_name] = num_steps
            on_step(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Take one step; return whether to go on."""
            return on_step(phase_name, step, self._steps.get(phase_name, 0))

        def phase_finish(self, phase_name: str) -> None:
            """Take the end of a phase."""
            steps = self._steps.pop(phase_name, 0)
            on_step(phase_name, steps, steps)

    return Monitor()
