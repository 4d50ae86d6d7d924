"""Whether two backends say the same of the same pictures: tensor by tensor, and in what they report.

`models compare` shows it all for a folder of pictures. The first load of a TensorRT plan runs a small version
on synthetic frames, and a plan that fails is not used: kernels that overflow in float16 give NaN or
nonsense, and no error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.comparisons import comparison_decoder, comparison_for
from edge_mnv2.limits import failed_limits
from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.zoo.graph_store import Precision
from edge_mnv2.zoo.model import Model, make_network
from engines import Engine
from engines.base import Tensors

# Largest relative error of an output by the precision of what is compared with float32: the root mean square
# of the difference over that of the expected values. Fp16 and int8: twice the largest that was measured with
# every tensor rounded to them, on real pictures and on synthetic frames.
MAX_OUTPUT_ERROR: dict[Precision, float] = {"fp32": 1e-3, "fp16": 0.045, "int8": 0.42}


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far one output is off.

    Attributes:
        relative: Root mean square of the difference over that of the expected values; infinite where a
            value is not finite.
        largest: Largest difference of one value; infinite likewise.
    """

    relative: float
    largest: float


@dataclass(frozen=True, slots=True)
class Parity:
    """What comparing two engines found.

    Attributes:
        images: On how many pictures.
        outputs: By name of the output.
        figures: Of what is reported, by name; see `comparisons`. Pictures with values that are not finite are
            left out of them; there are none where that is all pictures.
        reference_ms: Duration of each run of the reference.
        candidate_ms: The same of the other.
        failures: Outputs that are off too far, one sentence each.
        disagreements: Limits of the figures that are not kept; on a handful of pictures they mean little.
    """

    images: int
    outputs: dict[str, OutputError]
    figures: dict[str, float]
    reference_ms: tuple[float, ...]
    candidate_ms: tuple[float, ...]
    failures: tuple[str, ...]
    disagreements: tuple[str, ...]


@dataclass(slots=True)
class _Sums:
    """Of one output, over all pictures."""

    squared_error: float = 0.0
    squared: float = 0.0
    largest: float = 0.0

    def add(self, expected: NDArray[Any], given: NDArray[Any]) -> None:
        with np.errstate(invalid="ignore"):  # infinite on both sides
            difference = given.astype(np.float64) - expected
        self.squared_error += float(np.square(difference).sum())
        self.squared += float(np.square(expected.astype(np.float64)).sum())
        self.largest = max(self.largest, float(np.abs(difference).max(initial=0.0)), key=_nan_last)

    def error(self) -> OutputError:
        ratio = math.sqrt(self.squared_error / self.squared) if self.squared else self.squared_error
        return OutputError(
            ratio if math.isfinite(ratio) else math.inf,
            self.largest if math.isfinite(self.largest) else math.inf,
        )


@dataclass(slots=True)
class _Times:
    reference: list[float] = field(default_factory=list)
    candidate: list[float] = field(default_factory=list)


def compare_engines(
    model: Model,
    reference: Engine,
    candidate: Engine,
    precision: Precision,
    images: Iterable[NDArray[np.uint8]],
    on_image: Callable[[int], None] = lambda _: None,
) -> Parity:
    """Run two engines side by side.

    Args:
        model: What both of them run.
        reference: In float32.
        candidate: Compared with it.
        precision: The coarser of theirs; it decides how far an output may be off.
        images: At least one picture, (H, W, 3) uint8 BGR.
        on_image: Called with how many are done.

    Raises:
        EngineError: One of them failed.
    """
    network = make_network(model, comparison_decoder(model.task, model.spec.classes))
    comparison = comparison_for(model.task)
    sums: dict[str, _Sums] = {spec.name: _Sums() for spec in reference.outputs}
    times = _Times()
    done = decoded = 0
    for done, image in enumerate(images, 1):
        geometry = network.prepare(image, reference.input_buffers[INPUT_NAME])
        np.copyto(candidate.input_buffers[INPUT_NAME], reference.input_buffers[INPUT_NAME])
        expected = _timed(reference, times.reference)
        given = _timed(candidate, times.candidate)
        for name, total in sums.items():
            total.add(expected[name], given[name])
        # What is not finite cannot be decoded, and has failed already.
        if all(np.isfinite(array).all() for array in (*expected.values(), *given.values())):
            comparison.add(network.decode(expected, geometry), network.decode(given, geometry))
            decoded += 1
        on_image(done)
    outputs = {name: total.error() for name, total in sums.items()}
    figures = comparison.figures() if decoded else {}
    return Parity(
        done,
        outputs,
        figures,
        tuple(times.reference),
        tuple(times.candidate),
        _output_failures(outputs, precision),
        failed_limits(model.task, figures) if decoded else (),
    )


def _timed(engine: Engine, durations_ms: list[float]) -> Tensors:
    start_ns = time.perf_counter_ns()
    outputs = engine.run(engine.input_buffers)
    durations_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    return outputs


def _output_failures(outputs: dict[str, OutputError], precision: Precision) -> tuple[str, ...]:
    limit = MAX_OUTPUT_ERROR[precision]
    return tuple(
        f"{name} is off by {error.relative:.2%} of its values, and must be by at most {limit:.2%} in "
        f"{precision}."
        if math.isfinite(error.relative)
        else f"{name} has values that are not finite."
        for name, error in outputs.items()
        if not error.relative <= limit
    )


def _nan_last(value: float) -> float:
    """Return a sort key that puts NaN above all."""
    return math.inf if math.isnan(value) else value
