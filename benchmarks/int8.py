"""Time a model in float32 and int8 beside LiteRT's int8 of the same network, in one run.

The candidates take turns, a few runs at a time, so that a busy machine slows all of them alike; ratios are
medians over these rounds. Only ratios travel to other machines. ONNX Runtime's time is from the picture's
bytes to float results, as the pipeline calls it. LiteRT is timed twice: so, and `invoke` alone, which leaves
out handing over the picture, fetching the results and turning them into float.
Usage: python benchmarks/int8.py MODEL [--tflite FILE] [--images DIR]; `litert_model.py` makes the FILE.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camera import open_source
from camera.pictures import list_pictures, read_picture
from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.networks.mobilenet_v2 import UNIT_SCALING
from edge_mnv2.zoo.graph_store import ensure_graph
from edge_mnv2.zoo.model import Model, load_model, make_network
from engines import OnnxRuntimeEngine

FLOAT32, INT8 = "ONNX Runtime float32", "ONNX Runtime int8"
WARM_UP_RUNS = 10

Outputs = dict[str, NDArray[Any]]
# What is timed, and what gives a picture's outputs in float.
Candidate = tuple[Callable[[], object], Callable[[NDArray[np.uint8]], Outputs]]


def onnx_runtime(graph: Path, threads: int, pixels: NDArray[np.uint8]) -> Candidate:
    """Return a graph in ONNX Runtime, as the pipeline runs it."""
    engine = OnnxRuntimeEngine(graph, threads)
    return lambda: engine.run({INPUT_NAME: pixels}), lambda other: dict(engine.run({INPUT_NAME: other}))


def litert(path: Path, model: Model, threads: int, *, xnnpack: bool, whole: bool = False) -> Candidate:
    """Return a file of `litert_model.py` in LiteRT: `invoke` alone, or the whole way to float results."""
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        sys.exit(f"LiteRT cannot be imported ({error}): python -m pip install ai-edge-litert")
    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), num_threads=threads, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    [source] = interpreter.get_input_details()
    results = interpreter.get_signature_runner().get_output_details()
    means = np.array(getattr(model.spec, "scaling", UNIT_SCALING).mean[::-1], np.float32)

    def invoked(stored: NDArray[np.int8]) -> Outputs:
        interpreter.set_tensor(source["index"], stored)
        interpreter.invoke()
        return {
            name: _in_float(interpreter.get_tensor(result["index"]), result)
            for name, result in results.items()
        }

    def outputs(pixels: NDArray[np.uint8]) -> Outputs:
        scale, zero_point = source["quantization"]
        exact = np.rint((pixels - means) / scale + zero_point)
        return invoked(np.clip(exact, -128, 127).astype(np.int8))

    picture = np.zeros(source["shape"], np.uint8)
    # The fastest way from bytes to signed bytes; what it does to the values does not matter for the time.
    from_picture = lambda: invoked((picture ^ 0x80).view(np.int8))  # noqa: E731 - beside the other callable
    return (from_picture if whole else interpreter.invoke), outputs


def _in_float(stored: NDArray[np.int8], details: dict[str, Any]) -> NDArray[np.float32]:
    scale, zero_point = details["quantization"]
    values = (stored.astype(np.float32) - zero_point) * np.float32(scale)
    return values.transpose(0, 3, 1, 2) if values.ndim == 4 else values


def inputs(model: Model, folder: Path | None, count: int = 8) -> Iterator[NDArray[np.uint8]]:
    """Yield the network's input for the first pictures of a folder; for a synthetic frame without one."""
    if folder is None:
        source = open_source("test://?fps=0")
        source.open()
        frames = [source.read().image]
    else:
        frames = [read_picture(path) for path in list_pictures(folder)[:count]]
    network = make_network(model)
    for frame in frames:
        pixels = np.empty((1, *model.spec.size, 3), np.uint8)
        network.prepare(frame, pixels)
        yield pixels


def interleaved_ms(functions: list[Callable[[], object]], rounds: int, runs: int) -> NDArray[np.float64]:
    """Return (rounds, functions) medians of a few calls each; the functions take turns."""
    for function in functions:
        for _ in range(WARM_UP_RUNS):
            function()
    return np.array([[_median_ms(function, runs) for function in functions] for _ in range(rounds)])


def _median_ms(function: Callable[[], object], runs: int) -> float:
    durations_ms = []
    function()  # the caches belong to whoever ran before
    for _ in range(runs):
        start_ns = time.perf_counter_ns()
        function()
        durations_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    return float(np.median(durations_ms))


def mean_difference(found: list[Outputs], expected: list[Outputs]) -> str:
    """Return how far each output is from float32 on average, in units of its standard deviation."""
    shares = []
    for name in expected[0]:
        mine, theirs = (np.array([outputs[name] for outputs in each]) for each in (found, expected))
        shares.append(f"{np.abs(mine - theirs).mean() / theirs.std():.3f}")
    return ", ".join(shares)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tflite", type=Path, help="the same network in LiteRT's int8")
    parser.add_argument("--images", type=Path, help="pictures to compare outputs on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runs", type=int, default=10, help="of each candidate in each round")
    arguments = parser.parse_args()

    model, threads = load_model(arguments.model), arguments.threads
    pictures = list(inputs(model, arguments.images))
    candidates = {
        FLOAT32: onnx_runtime(ensure_graph(model), threads, pictures[0]),
        INT8: onnx_runtime(ensure_graph(model, "int8"), threads, pictures[0]),
    }
    if arguments.tflite:
        candidates["LiteRT int8"] = litert(arguments.tflite, model, threads, xnnpack=True, whole=True)
        candidates["LiteRT int8, invoke"] = litert(arguments.tflite, model, threads, xnnpack=True)
        candidates["LiteRT int8, no XNNPACK"] = litert(arguments.tflite, model, threads, xnnpack=False)
    outputs = {name: [run(pixels) for pixels in pictures] for name, (_, run) in candidates.items()}
    times_ms = interleaved_ms([timed for timed, _ in candidates.values()], arguments.rounds, arguments.runs)

    print(f"{model.name}, threads: {threads}, rounds: {arguments.rounds} of {arguments.runs} runs each")
    names = ", ".join(outputs[FLOAT32][0])
    print(f"{'':24} {'median ms':>9} {'of float32':>10} {'int8 of it':>10}  difference: {names}")
    in_float, ours = times_ms[:, 0], times_ms[:, 1]
    for name, mine in zip(candidates, times_ms.T, strict=True):
        of_float, of_it = np.median(mine / in_float), np.median(ours / mine)
        difference = mean_difference(outputs[name], outputs[FLOAT32])
        print(f"{name:24} {np.median(mine):9.3f} {of_float:10.3f} {of_it:10.3f}  {difference}")


if __name__ == "__main__":
    main()
