"""A build of a model, opened: ONNX Runtime's graph or TensorRT's plan, of the precision that suits."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from camera import EndOfStream, open_source
from edge_mnv2.errors import PlanRefusedError, RequestError, RunError
from edge_mnv2.parity import compare_engines
from edge_mnv2.zoo.accuracy_record import choose_gpu_precision
from edge_mnv2.zoo.cache import plans_dir
from edge_mnv2.zoo.graph_store import Precision, graph_file
from edge_mnv2.zoo.model import Model
from engines import BuildCancelledError, Engine, ModelFileError, OnnxRuntimeEngine
from engines.tensorrt.build_process import BuildProgress
from engines.tensorrt.plan_key import PlanRequest
from engines.tensorrt.plan_sidecar import PlanCheck, PlanFile
from engines.tensorrt.plans import open_built_plan, open_plan, wants_typed_graph
from engines.tensorrt.probe import Probe

# Frames that the first load of a plan is checked on.
_CHECKED = "test://?fps=0&frames=4"
# CUDA C++ programming guide, table of arithmetic throughput: float16 comes with 5.3; 6.1 is slow in it.
_FIRST_FP16 = (5, 3)
_SLOW_FP16 = ((6, 1),)
_LOG_INTERVAL_S = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine on a model's build.

    Attributes:
        engine: Open.
        precision: Of its arithmetic.
        plan: The file, where TensorRT runs it.
    """

    engine: Engine
    precision: Precision
    plan: PlanFile | None = None


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How a TensorRT plan is had.

    Attributes:
        precision: One of `PRECISIONS`.
        force: Whether to run a build that failed its check.
        dla_core: DLA core that takes the layers it can; None for the GPU alone.
        rebuild: Whether to build it even if it is there.
        may_build: Whether to build it where it is not there.
        retry_failed: Whether to build it even if that failed less than a day ago.
        on_progress: Called while it is built.
        cancel: Set by whoever no longer wants it.
    """

    precision: str = "auto"
    force: bool = False
    dla_core: int | None = None
    rebuild: bool = False
    may_build: bool = True
    retry_failed: bool = True
    on_progress: Callable[[BuildProgress], None] = lambda _: None
    cancel: threading.Event = field(default_factory=threading.Event)


def open_onnx(model: Model, precision: Precision, threads: int | None = None) -> OnnxRuntimeEngine:
    """Open a model's graph in ONNX Runtime, built on first use, and again where it is damaged.

    Raises:
        BackendUnavailableError: ONNX Runtime is not installed.
        RunError: The graph fails even when it is built anew.
    """
    try:
        with graph_file(model, precision) as path:
            return OnnxRuntimeEngine(path, threads)
    except ModelFileError as error:
        _log.warning("building the graph again: %s", error)
    try:
        with graph_file(model, precision, rebuild=True) as path:
            return OnnxRuntimeEngine(path, threads)
    except ModelFileError as error:
        raise RunError(f"The graph of {model.name} was built anew and still fails: {error}") from error


def open_tensorrt(model: Model, found: Probe, options: PlanOptions) -> Opened:
    """Open a model's TensorRT plan, built on first use; a plan is checked on its first load.

    Args:
        model: The model.
        found: What the probe of TensorRT found.
        options: How.

    Raises:
        RequestError, WeightsError: As `choose_gpu_precision`.
        BackendUnavailableError: TensorRT cannot run, or has no such DLA core.
        PlanRefusedError: What the plan computes is not what ONNX Runtime computes, also in float32.
        PlanMissingError: It would have to be built, and may not.
        EngineError: It cannot be built, or does not run; `BuildCancelledError` where it is no longer wanted,
            `BuildError` also where it failed before and is not to be tried again.
    """
    precision = _precision(model, found, options)
    try:
        return _open_checked(model, precision, found, options)
    except PlanRefusedError as error:
        # A DLA core has no float32.
        if options.precision != "auto" or precision == "fp32" or options.dla_core is not None:
            raise
        said = f"{first_line(error)} Float32 is taken instead."
    if options.may_build:  # which takes its time
        _log.warning("%s", said)
        return _open_checked(model, "fp32", found, options)
    opened = _open_checked(model, "fp32", found, options)
    _log.warning("%s", said)  # not where it is missing: whoever has it built says so
    return opened


def _precision(model: Model, found: Probe, options: PlanOptions) -> Precision:
    if options.dla_core is not None:
        # It knows no Q/DQ (they would leave every layer to the GPU), and no float32.
        if options.precision not in ("auto", "fp16"):
            raise RequestError(f"A DLA core computes in fp16, not in {options.precision}: leave --dla out.")
        return "fp16"
    capability = found.device.compute_capability if found.device else (0, 0)
    is_fast = capability >= _FIRST_FP16 and capability not in _SLOW_FP16
    return choose_gpu_precision(model, options.precision, has_fast_fp16=is_fast, force=options.force)


@contextmanager
def _request(model: Model, precision: Precision, options: PlanOptions) -> Iterator[PlanRequest]:
    """Yield what is asked of TensorRT, for as long as its graph is needed."""
    is_typed = precision == "fp16" and wants_typed_graph()
    graph: Precision = "fp32" if precision == "fp16" and not is_typed else precision
    height, width = model.spec.size
    stride = getattr(model.spec, "output_stride", None)
    shapes = f"{width}x{height}" + ("" if stride is None else f", output stride {stride}")
    with graph_file(model, graph, "symmetric") as path:
        yield PlanRequest(
            model.name,
            path,
            precision,
            shapes,
            dla_core=options.dla_core,
            weights=str(model.path.resolve()),
            command=build_command(model, precision, options.dla_core),
        )


def build_command(model: Model, precision: str, dla_core: int | None) -> str:
    """Return the command that builds a plan ahead, `auto` for the precision that suits the device."""
    words = f"edge-mnv2 models build {model.command_words} --engine tensorrt"
    if precision != "auto":
        words += f" --precision {precision}"
    return words + _dla_words(dla_core)


def _dla_words(dla_core: int | None) -> str:
    """Return what asks for a DLA core on the command line."""
    return "" if dla_core is None else f" --dla {dla_core}"


def _open_checked(model: Model, precision: Precision, found: Probe, options: PlanOptions) -> Opened:
    def compare(engine: Engine) -> PlanCheck:
        if options.cancel.is_set():
            raise BuildCancelledError("Interrupted before the TensorRT plan was checked.")
        return _check(model, engine, precision)

    with _request(model, precision, options) as request:
        if options.may_build:
            engine, plan = open_plan(
                request,
                plans_dir(),
                found,
                options.on_progress,
                options.cancel,
                rebuild=options.rebuild,
                retry_failed=options.retry_failed,
                compare=compare,
            )
        else:
            engine, plan = open_built_plan(
                request, plans_dir(), found, retry_failed=options.retry_failed, compare=compare
            )
    try:
        if options.cancel.is_set():
            raise BuildCancelledError("Interrupted before the TensorRT plan was used.")
        if plan.check and plan.check.failures:
            _judge(model, precision, plan.check, options)
    except BaseException:
        engine.close()
        raise
    return Opened(engine, precision, plan)


def _check(model: Model, engine: Engine, precision: Precision) -> PlanCheck:
    """Compare a plan with ONNX Runtime on a few synthetic frames."""
    with closing(open_onnx(model, "fp32")) as reference:
        parity = compare_engines(model, reference, engine, precision, synthetic_frames())
    # JSON, in which the sidecar is written, has no infinity; where there is one, a failure says so.
    errors = {
        f"error of {name}": error.relative
        for name, error in parity.outputs.items()
        if math.isfinite(error.relative)
    }
    return PlanCheck({**errors, **parity.figures}, parity.failures)


def _judge(model: Model, precision: Precision, check: PlanCheck, options: PlanOptions) -> None:
    """Refuse a plan that disagrees.

    Raises:
        PlanRefusedError: It does, and is not forced.
    """
    said = f"The TensorRT plan of {model.name} in {precision} disagrees with ONNX Runtime:"
    said = " ".join([said, *check.failures])
    if not options.force:
        raise PlanRefusedError(
            f"{said}\nTo see by how much: edge-mnv2 models compare {model.command_words} "
            f"--backends onnxruntime,tensorrt:{precision}{_dla_words(options.dla_core)} --images DIR"
        )
    _log.warning("%s It runs because it is forced.", said)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message: what happened, without what to do."""
    return str(error).partition("\n")[0]


def log_progress() -> Callable[[BuildProgress], None]:
    """Return a function that logs a build's progress from time to time."""
    logged_s = 0.0

    def log(progress: BuildProgress) -> None:
        nonlocal logged_s
        logged_s = min(logged_s, progress.elapsed_s)  # a second attempt starts at 0
        if progress.elapsed_s - logged_s >= _LOG_INTERVAL_S:
            logged_s = progress.elapsed_s
            steps = f", step {progress.step} of {progress.steps}" if progress.steps else ""
            _log.info("building the TensorRT plan: %s%s, %.0f s", progress.phase, steps, progress.elapsed_s)

    return log


def synthetic_frames() -> Iterator[NDArray[np.uint8]]:
    """Yield frames of the synthetic camera, which has things to find."""
    with closing(open_source(_CHECKED)) as source:
        source.open()
        while True:
            try:
                frame = source.read()
            except EndOfStream:
                return
            with frame:
                yield frame.image
