"""A model on an engine: a picture goes in, what it shows comes out, and how long each stage took."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import RunError
from edge_mnv2.networks.base import INPUT_NAME, Network
from edge_mnv2.results import Result
from edge_mnv2.zoo.accuracy_record import choose_precision
from edge_mnv2.zoo.graph_store import Precision, graph_file
from edge_mnv2.zoo.model import DecoderOptions, Model, Variant, load_model, make_network
from engines import Engine, ModelFileError, allocate_inputs, open_engine

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PredictorOptions:
    """How to run a model.

    Attributes:
        engine: Backend, one of `engines.BACKENDS`.
        precision: `fp32`, `int8`, or `auto`: int8 where its accuracy was checked and is good.
        force: Whether to run an int8 build that failed its accuracy check.
        threads: CPU threads; None lets the engine choose.
        variant: Another input size or output stride than the network was trained with.
        decoder: What is reported.
    """

    engine: str = "auto"
    precision: str = "auto"
    force: bool = False
    threads: int | None = None
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
    """

    def __init__(
        self,
        name: str,
        task: str,
        labels: dict[int, str],
        network: Network[Any],
        engine: Engine,
        precision: str = "fp32",
    ) -> None:
        self.name = name
        self.task = task
        self.labels = labels
        self.backend = engine.backend
        self.precision = precision
        self._network = network
        self._engine = engine
        self._feeds = allocate_inputs(engine.inputs)

    def predict(self, image: NDArray[np.uint8]) -> tuple[Result, dict[str, float]]:
        """Say what a picture shows.

        Args:
            image: (H, W, 3) uint8 BGR; it is only read.

        Returns:
            Detections, a segmentation map or a classification, by the model's task; and the duration in ms of
            `prepare`, `infer` and `decode`.

        Raises:
            EngineError: The backend failed.
        """
        start_ns = time.perf_counter_ns()
        geometry = self._network.prepare(image, self._feeds[INPUT_NAME])
        prepared_ns = time.perf_counter_ns()
        outputs = self._engine.run(self._feeds)
        inferred_ns = time.perf_counter_ns()
        found: Result = self._network.decode(outputs, geometry)
        decoded_ns = time.perf_counter_ns()
        return found, {
            "prepare": (prepared_ns - start_ns) / 1e6,
            "infer": (inferred_ns - prepared_ns) / 1e6,
            "decode": (decoded_ns - inferred_ns) / 1e6,
        }

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


def open_predictor(model_name: str, options: PredictorOptions | None = None) -> Predictor:
    """Load a model, build its graph on first use, and open it on an engine.

    Args:
        model_name: Catalogue name, or the path of a weights file.
        options: How to run it; None for the defaults.

    Raises:
        RequestError: The model, a class, the precision or the threshold is wrong; or its int8 build failed
            the accuracy check and is not forced.
        EngineError: The backend is unknown, or cannot load the graph.
        RunError: The weights are damaged.
    """
    options = options or PredictorOptions()
    model = load_model(model_name, options.variant)
    network = make_network(model, options.decoder)  # what is wrong with the request is said first
    precision = choose_precision(model, options.precision, force=options.force)
    engine = _open_engine(model, precision, options)
    return Predictor(model.name, model.task, model.labels, network, engine, precision)


def open_build(model: Model, precision: Precision, decoder: DecoderOptions) -> Predictor:
    """Open one build of a loaded model, whatever its accuracy, on the engine that suits it."""
    options = PredictorOptions(decoder=decoder)
    network = make_network(model, decoder)
    engine = _open_engine(model, precision, options)
    return Predictor(model.name, model.task, model.labels, network, engine, precision)


def _open_engine(model: Model, precision: Precision, options: PredictorOptions) -> Engine:
    try:
        with graph_file(model, precision) as path:
            return open_engine(path, options.engine, options.threads)
    except ModelFileError as error:
        _log.warning("building the graph again: %s", error)
    try:
        with graph_file(model, precision, rebuild=True) as path:
            return open_engine(path, options.engine, options.threads)
    except ModelFileError as error:
        raise RunError(f"The graph of {model.name} was built anew and still fails: {error}") from error
