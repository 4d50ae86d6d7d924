"""Choosing the activation ranges of a model's int8 build: watch float32 run, try each method, keep the best.

Half of the pictures are watched; the others judge the methods, by agreement with float32, so that no method
is judged on what it was fitted to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from camera.pictures import read_picture
from edge_mnv2.agreement import compare
from edge_mnv2.comparisons import comparison_decoder
from edge_mnv2.errors import RunError
from edge_mnv2.networks.activation_statistics import ActivationStatistics, tensors_to_watch
from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.networks.equalise import equalise, tensors_to_equalise
from edge_mnv2.networks.graph import Graph
from edge_mnv2.networks.onnx_writer import to_onnx
from edge_mnv2.networks.quantise import quantise
from edge_mnv2.networks.range_methods import METHODS, Histogram, Range, min_max
from edge_mnv2.networks.weight_sources import weights_from
from edge_mnv2.predictor import Predictor
from edge_mnv2.zoo.architectures import build_network
from edge_mnv2.zoo.model import Model, make_network
from edge_mnv2.zoo.ranges_file import ActivationRanges, MethodResult
from engines import Engine, OnnxRuntimeEngine, allocate_inputs

# One picture in so many judges instead of being watched.
_JUDGING = 2
_BINS = 2048

Progress = Callable[[int, int | None], None]


@dataclass(slots=True)
class _Watched:
    """What is known of one tensor so far."""

    low: float = np.inf
    high: float = -np.inf
    total: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    positions: int = 0
    peak: NDArray[np.float32] = field(default_factory=lambda: np.zeros(1, np.float32))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))


def calibrate(model: Model, pictures: Sequence[Path], on_step: Progress | None = None) -> ActivationRanges:
    """Find the activation ranges of a model.

    Args:
        model: The model.
        pictures: At least one; a hundred like those of its later use are good.
        on_step: Called with how many steps are done and how many there are: a picture is seen three times by
            float32 (peaks, limits, histograms), or once by each method.

    Raises:
        BadFrameError: A picture is damaged.
        EngineError: A graph cannot be run.
        WeightsError: The weights do not fit the network.
    """
    judges = list(pictures[::_JUDGING])
    shown = [path for path in pictures if path not in judges] or judges
    steps = count(1)
    total = 3 * (len(shown) + len(pictures)) + len(METHODS) * len(judges)

    def progress(_: int, __: int | None) -> None:
        if on_step is not None:
            on_step(next(steps), total)

    graph = build_network(model.spec, weights_from(model.weights.arrays()))
    with TemporaryDirectory(prefix="edge-mnv2-") as folder:
        bench = _Bench(model, Path(folder), progress)
        results = _judge(bench, graph, _by_method(bench, graph, shown), judges)
        best = results[0].method
        # The winner then learns from all pictures.
        statistics = _by_method(bench, graph, pictures)[best]
    return ActivationRanges(model.weights.digest, best, len(pictures), statistics, tuple(results))


@dataclass(frozen=True, slots=True)
class _Bench:
    """What every step of a calibration needs.

    Attributes:
        model: The model.
        scratch: Folder for graphs.
        progress: Called after each picture.
    """

    model: Model
    scratch: Path
    progress: Progress


def _by_method(
    bench: _Bench, graph: Graph, pictures: Sequence[Path]
) -> dict[str, dict[str, ActivationStatistics]]:
    """Watch float32 on pictures; return the statistics by each method."""
    peaks = _peaks(_watch(bench, graph, pictures, (_note_peaks,)), graph)
    watched = _watch(bench, equalise(graph, peaks), pictures, (_note_limits, _note_counts))
    predictions = {node.output for node in graph.nodes} - _read_by_layers(graph)
    return {name: _statistics(watched, peaks, method, predictions) for name, method in METHODS.items()}


def _judge(
    bench: _Bench,
    graph: Graph,
    candidates: Mapping[str, Mapping[str, ActivationStatistics]],
    pictures: Sequence[Path],
) -> list[MethodResult]:
    """Compare the int8 build of each method with float32; return the best first."""
    results = []
    with closing(_predictor(bench, graph)) as reference:
        for name, statistics in candidates.items():
            with closing(_predictor(bench, quantise(graph, statistics))) as candidate:
                found = compare(reference, candidate, pictures, bench.progress)
            results.append(MethodResult(name, round(found.overall, 5)))
    return sorted(results, key=lambda result: -result.agreement)


def _watch(
    bench: _Bench,
    graph: Graph,
    pictures: Sequence[Path],
    notes: Sequence[Callable[[_Watched, NDArray[np.float32]], None]],
) -> dict[str, _Watched]:
    """Run a float graph over the pictures, once for each function that notes what its tensors hold."""
    tensors = tensors_to_watch(graph)
    engine = _open(replace(graph, outputs=tensors), bench.scratch)
    network, feeds = make_network(bench.model), allocate_inputs(engine.inputs)
    watched = {tensor.name: _Watched() for tensor in tensors}
    try:
        for note in notes:
            for path in pictures:
                network.prepare(read_picture(path), feeds[INPUT_NAME])
                outputs = engine.run(feeds)
                for name, found in watched.items():
                    note(found, outputs[name])
                bench.progress(0, None)
    finally:
        engine.close()
    return watched


def _note_peaks(watched: _Watched, values: NDArray[np.float32]) -> None:
    watched.peak = np.maximum(watched.peak, values.max(axis=(0, *range(2, values.ndim))))


def _peaks(watched: Mapping[str, _Watched], graph: Graph) -> dict[str, NDArray[np.float32]]:
    return {name: watched[name].peak for name in tensors_to_equalise(graph)}


def _note_limits(watched: _Watched, values: NDArray[np.float32]) -> None:
    watched.low = min(watched.low, float(values.min()))
    watched.high = max(watched.high, float(values.max()))
    axes = (0, *range(2, values.ndim))
    watched.total = watched.total + values.sum(axis=axes, dtype=np.float64)
    watched.positions += values.size // values.shape[1]


def _note_counts(watched: _Watched, values: NDArray[np.float32]) -> None:
    scale = (_BINS - 1e-3) / max(watched.high - watched.low, 1e-9)
    bins = ((values.ravel() - np.float32(watched.low)) * np.float32(scale)).astype(np.int32)
    watched.counts = watched.counts + np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)


def _read_by_layers(graph: Graph) -> set[str]:
    """Return the tensors that some layer computes with; the others are predictions."""
    read: set[str] = set()
    for node in reversed(graph.nodes):
        # What is only moved or joined is read if the result is.
        is_moved = node.op in ("Transpose", "Reshape", "Expand", "Concat", "Identity")
        if not is_moved or node.output in read:
            read.update(node.inputs)
    return read


def _statistics(
    watched: Mapping[str, _Watched],
    peaks: Mapping[str, NDArray[np.float32]],
    method: Callable[[Histogram], Range],
    predictions: set[str],
) -> dict[str, ActivationStatistics]:
    """Return the statistics with ranges by one method.

    Predictions keep all their values: the rare large ones are what the network has found.
    """
    statistics = {}
    for name, found in watched.items():
        choose = min_max if name in predictions else method
        low, high = choose(Histogram(found.low, found.high, found.counts))
        mean = (found.total / found.positions).astype(np.float32)
        statistics[name] = ActivationStatistics(low, high, mean, peaks.get(name))
    return statistics


def _predictor(bench: _Bench, graph: Graph) -> Predictor:
    model = bench.model
    network = make_network(model, comparison_decoder(model.task, model.spec.classes))
    return Predictor(model.name, model.task, model.labels, network, _open(graph, bench.scratch))


def _open(graph: Graph, scratch: Path) -> Engine:
    path = scratch / "graph.onnx"
    try:
        path.write_bytes(to_onnx(graph, "calibration", ""))
    except OSError as error:
        raise RunError(f"The graph cannot be written to {scratch}: {error}.") from error
    return OnnxRuntimeEngine(path)
