"""A model on an engine: a picture goes in, detections come out, and how long each stage took."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import RunError
from edge_mnv2.networks.base import INPUT_NAME, Network
from edge_mnv2.results import Detections
from edge_mnv2.zoo.model import Model, graph_file, load_model, make_network
from engines import Engine, ModelFileError, allocate_inputs, open_engine

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """How to run a model.

    Attributes:
        engine: Backend, one of `engines.BACKENDS`.
        precision: One of `zoo.model.PRECISIONS`.
        threads: CPU threads; None lets the engine choose.
        threshold: Smallest score reported.
        classes: Labels or numbers of the classes to report; None for all.
    """

    engine: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    threshold: float = 0.5
    classes: Collection[str] | None = None


class Detector:
    """Prepares, infers and decodes, one picture at a time, without allocating the input tensor anew.

    Args:
        name: Of the model, for records.
        labels: Label by class id.
        network: Preparation and decoding.
        engine: Opened on the network's graph; `close` closes it.
    """

    def __init__(
        self, name: str, labels: dict[int, str], network: Network[Detections], engine: Engine
    ) -> None:
        self.name = name
        self.task = "detect"
        self.labels = labels
        self.backend = engine.backend
        self._network = network
        self._engine = engine
        self._feeds = allocate_inputs(engine.inputs)

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detections, dict[str, float]]:
        """Find objects in a picture.

        Args:
            image: (H, W, 3) uint8 BGR; it is only read.

        Returns:
            The detections in its pixels, and the duration in ms of `prepare`, `infer` and `decode`.

        Raises:
            EngineError: The backend failed.
        """
        start_ns = time.perf_counter_ns()
        geometry = self._network.prepare(image, self._feeds[INPUT_NAME])
        prepared_ns = time.perf_counter_ns()
        outputs = self._engine.run(self._feeds)
        inferred_ns = time.perf_counter_ns()
        detections = self._network.decode(outputs, geometry)
        decoded_ns = time.perf_counter_ns()
        return detections, {
            "prepare": (prepared_ns - start_ns) / 1e6,
            "infer": (inferred_ns - prepared_ns) / 1e6,
            "decode": (decoded_ns - inferred_ns) / 1e6,
        }

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


def open_detector(model_name: str, options: DetectorOptions) -> Detector:
    """Load a model, build its graph on first use, and open it on an engine.

    Args:
        model_name: Catalogue name, or the path of a weights file.
        options: How to run it.

    Raises:
        RequestError: The model, a class, the precision or the threshold is wrong.
        EngineError: The backend is unknown, or cannot load the graph.
        RunError: The weights are damaged.
    """
    model = load_model(model_name)
    network = make_network(model, options.threshold, options.classes)
    return Detector(model.name, model.labels, network, _open_engine(model, options))


def _open_engine(model: Model, options: DetectorOptions) -> Engine:
    try:
        with graph_file(model, options.precision) as path:
            return open_engine(path, options.engine, options.threads)
    except ModelFileError as error:
        _log.warning("building the graph again: %s", error)
    try:
        with graph_file(model, options.precision, rebuild=True) as path:
            return open_engine(path, options.engine, options.threads)
    except ModelFileError as error:
        raise RunError(f"The graph of {model.name} was built anew and still fails: {error}") from error
