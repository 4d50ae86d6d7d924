"""A model on an engine: a picture goes in, what it shows comes out, and how long each stage took."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.backends import (
    Opened,
    PlanOptions,
    build_command,
    first_line,
    log_progress,
    open_onnx,
    open_tensorrt,
)
from edge_mnv2.engine_turns import EngineTurns
from edge_mnv2.errors import PlanRefusedError, RequestError, WeightsError
from edge_mnv2.networks.base import INPUT_NAME, Network
from edge_mnv2.results import Result
from edge_mnv2.successor import Successor
from edge_mnv2.zoo.accuracy_record import check_precision, choose_precision
from edge_mnv2.zoo.graph_store import Precision
from edge_mnv2.zoo.model import DecoderOptions, Model, Variant, load_model, make_network
from engines import BuildCancelledError, Engine, EngineError, PlanMissingError, choose_backend
from engines.tensorrt.build_process import BuildProgress
from engines.tensorrt.probe import Probe

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PredictorOptions:
    """How to run a model.

    Attributes:
        engine: Backend, one of `engines.BACKENDS`.
        precision: `fp32`, `fp16` (TensorRT), `int8`, or `auto`: fp16 on a GPU that is fast in it, int8 on a
            CPU where its accuracy was checked and is good.
        force: Whether to run a build that failed its accuracy check.
        threads: CPU threads; None lets the engine choose.
        dla_core: DLA core of a Jetson that takes the layers it can; None for the GPU alone.
        serve_while_building: Whether ONNX Runtime answers while TensorRT's plan is built; else that is waited
            for.
        on_progress: Called while a plan is built; None to log it.
        cancel: Set by whoever no longer waits for a plan; None where nobody will.
        variant: Another input size or output stride than the network was trained with.
        decoder: What is reported.
    """

    engine: str = "auto"
    precision: str = "auto"
    force: bool = False
    threads: int | None = None
    dla_core: int | None = None
    serve_while_building: bool = False
    on_progress: Callable[[BuildProgress], None] | None = None
    cancel: threading.Event | None = None
    variant: Variant = field(default_factory=Variant)
    decoder: DecoderOptions = field(default_factory=DecoderOptions)


class Predictor:
    """Prepares, infers and decodes, one picture at a time, without allocating the input tensor anew.

    Args:
        name: Of the model, for records.
        task: `detect`, `segment` or `classify`.
        labels: Label by class id.
        network: Preparation and decoding.
        engine: Opened on the network's graph; `close` closes it.
        precision: Of the graph, for records.
        successor: Of the engine, from when it is ready; None where there will be none.
        remake: Makes the network for other decoder options; None where they cannot be changed.
        decoder: Options of `network`.
    """

    def __init__(
        self,
        name: str,
        task: str,
        labels: dict[int, str],
        network: Network[Any],
        engine: Engine,
        precision: str = "fp32",
        *,
        successor: Successor | None = None,
        remake: Callable[[DecoderOptions], Network[Any]] | None = None,
        decoder: DecoderOptions | None = None,
    ) -> None:
        self.name = name
        self.task = task
        self.labels = labels
        self._decoded = _Decoded(decoder or DecoderOptions(), network)
        self._remake = remake
        self._turns = EngineTurns(engine, precision, successor)
        self._is_shared = False
        self._owns_engine = True

    @property
    def backend(self) -> str:
        """The engine that serves now."""
        return self._turns.backend

    @property
    def precision(self) -> str:
        """Of the engine that serves now."""
        return self._turns.precision

    @property
    def decoder(self) -> DecoderOptions:
        """What is reported now."""
        return self._decoded.options

    def change_decoder(self, options: DecoderOptions) -> None:
        """Report this from the next picture on; from any thread.

        Raises:
            RequestError: A class is unknown, an option is out of range, or nothing can be changed.
        """
        if self._remake is None:
            raise RequestError(f"What {self.name} reports cannot be changed.")
        self._decoded = _Decoded(options, self._remake(options))

    def for_camera(self, options: DecoderOptions) -> Predictor:
        """Return a predictor that takes turns with this one on the same engine, which this one closes.

        Raises:
            RequestError: As `change_decoder`.
        """
        self._is_shared = True
        other = copy(self)
        other._owns_engine = False
        other.change_decoder(options)
        return other

    def predict(self, image: NDArray[np.uint8]) -> tuple[Result, dict[str, float]]:
        """Say what a picture shows.

        Args:
            image: (H, W, 3) uint8 BGR; it is only read.

        Returns:
            Detections, a segmentation map or a classification, by the model's task; and the duration in ms of
            `prepare`, `infer` and `decode`, and of `wait` for the engine where cameras share it.

        Raises:
            EngineError: The backend failed.
            PlanRefusedError: The TensorRT plan that was required disagrees with ONNX Runtime.
        """
        network = self._decoded.network
        asked_ns = time.perf_counter_ns()
        with self._turns.turn() as engine:
            feeds = engine.input_buffers
            start_ns = time.perf_counter_ns()
            geometry = network.prepare(image, feeds[INPUT_NAME])
            prepared_ns = time.perf_counter_ns()
            outputs = engine.run(feeds)
            inferred_ns = time.perf_counter_ns()
            found: Result = network.decode(outputs, geometry)
            decoded_ns = time.perf_counter_ns()
        stages_ms = {
            "prepare": (prepared_ns - start_ns) / 1e6,
            "infer": (inferred_ns - prepared_ns) / 1e6,
            "decode": (decoded_ns - inferred_ns) / 1e6,
        }
        if self._is_shared:
            stages_ms = {"wait": (start_ns - asked_ns) / 1e6, **stages_ms}
        return found, stages_ms

    def close(self) -> None:
        """Close the engine, and give up one that is still being made; one of `for_camera` does nothing."""
        if self._owns_engine:
            self._turns.close()


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Options and the network made of them: changed together, so that a thread sees both or neither."""

    options: DecoderOptions
    network: Network[Any]


def open_predictor(model_name: str, options: PredictorOptions | None = None) -> Predictor:
    """Load a model, build what its backend runs on first use, and open it.

    Args:
        model_name: Catalogue name, or the path of a weights file.
        options: How to run it; None for the defaults.

    Raises:
        RequestError: The model, a class, the precision or the threshold is wrong; or its int8 build failed
            the accuracy check and is not forced.
        EngineError: The backend is unknown, cannot run here, or cannot load the graph.
        RunError: The weights are damaged; or the plan that was asked for disagrees with ONNX Runtime.
    """
    options = options or PredictorOptions()
    model = load_model(model_name, options.variant)
    network = make_network(model, options.decoder)  # what is wrong with the request is said first
    check_precision(options.precision)
    if options.dla_core is not None and options.engine == "onnxruntime":
        raise RequestError("--dla is TensorRT's: leave it out, or choose --engine tensorrt or auto.")
    choice = choose_backend(options.engine)
    opened, successor = None, None
    if choice.probe is not None and choice.backend == "tensorrt":
        opened, successor = _open_gpu(model, choice.probe, options)
    if opened is None:
        if successor is not None:
            why = "until TensorRT's plan is built"
        else:
            why = "TensorRT failed" if choice.backend == "tensorrt" else choice.why
        try:
            opened = _open_cpu(model, options, why, is_stand_in=choice.backend == "tensorrt")
        except BaseException:
            if successor is not None:
                successor.close()
            raise
    elif opened.plan is not None:
        _log.info("engine: tensorrt, %s (%s)", opened.precision, choice.why)
    return Predictor(
        model.name,
        model.task,
        model.labels,
        network,
        opened.engine,
        opened.precision,
        successor=successor,
        remake=partial(make_network, model),
        decoder=options.decoder,
    )


def open_build(model: Model, precision: Precision, decoder: DecoderOptions) -> Predictor:
    """Open one build of a loaded model, whatever its accuracy, in ONNX Runtime."""
    network = make_network(model, decoder)
    engine = open_onnx(model, precision)
    return Predictor(model.name, model.task, model.labels, network, engine, precision)


def _open_cpu(model: Model, options: PredictorOptions, why: str, *, is_stand_in: bool) -> Opened:
    # Float16 is TensorRT's: in its place, the processor does what is best for it.
    wanted = "auto" if is_stand_in and options.precision == "fp16" else options.precision
    if options.dla_core is not None and not is_stand_in:
        _log.warning("--dla is TensorRT's, and has no effect on ONNX Runtime")
    precision = choose_precision(model, wanted, force=options.force)
    engine = open_onnx(model, precision, options.threads)
    _log.info("engine: onnxruntime, %s, %d threads (%s)", precision, engine.threads, why)
    return Opened(engine, precision)


def _open_gpu(
    model: Model, found: Probe, options: PredictorOptions
) -> tuple[Opened | None, Successor | None]:
    """Return TensorRT's engine, or who makes it while another one serves; neither where it fails and may."""
    plan = PlanOptions(
        options.precision,
        options.force,
        options.dla_core,
        retry_failed=options.engine == "tensorrt",
        on_progress=options.on_progress or log_progress(),
        cancel=options.cancel or threading.Event(),
    )
    is_required = options.engine == "tensorrt"
    try:
        return open_tensorrt(model, found, replace(plan, may_build=not options.serve_while_building)), None
    except PlanMissingError:

        def make(cancel: threading.Event) -> Opened:
            return open_tensorrt(model, found, replace(plan, cancel=cancel))

        remedy = f"To build its plan ahead: {build_command(model, options.precision, options.dla_core)}"
        return None, Successor(make, is_required=is_required, remedy=remedy)
    except (EngineError, PlanRefusedError, WeightsError) as error:
        if is_required or isinstance(error, BuildCancelledError):
            raise
        _log.warning("ONNX Runtime takes the place of TensorRT: %s", first_line(error))
        return None, None
