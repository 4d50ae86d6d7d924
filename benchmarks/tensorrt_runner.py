"""What the TensorRT runner itself costs per frame, beside ONNX Runtime running the same network, in one run.

The GPU is a fake whose work costs nothing: what is left is ours, and the fake's own bookkeeping. Of a real
GPU it says nothing. Usage: python benchmarks/tensorrt_runner.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from edge_mnv2.zoo.graph_store import ensure_graph
from edge_mnv2.zoo.model import load_model
from engines import OnnxRuntimeEngine
from engines.fake_jetson.jetson import FakeJetson, fake_jetson
from engines.tensorrt.engine import TensorrtEngine
from engines.tensorrt.network_builder import MIB, BuildJob, build_plan
from engines.tensorrt.probe import import_tensorrt

RUNS = 2000


def median_us(function: Callable[[], object], runs: int = RUNS) -> float:
    """Return the median duration of a call, after a tenth as many to warm up."""
    durations_ns = []
    for run in range(runs + runs // 10):
        start_ns = time.perf_counter_ns()
        function()
        if run >= runs // 10:
            durations_ns.append(time.perf_counter_ns() - start_ns)
    return float(np.median(durations_ns)) / 1e3


def main() -> None:
    """Print the table."""
    graph = ensure_graph(load_model("ssdlite-mnv2-coco"))
    rows = {}
    with fake_jetson(FakeJetson(faults=frozenset({"zero_cost"}))):
        job = BuildJob(graph.read_bytes(), "fp32", 256 * MIB, None, b"")
        plan = build_plan(import_tensorrt(), job, lambda *_: True).plan
        for mapped in (True, False):
            for cuda_graph in (True, False):
                engine = TensorrtEngine(plan, mapped=mapped, cuda_graph=cuda_graph)
                title = f"{'mapped' if mapped else 'copied'} buffers, {'graph' if cuda_graph else 'no graph'}"
                rows[title] = median_us(lambda engine=engine: engine.run(engine.input_buffers))
                engine.close()
    onnx = OnnxRuntimeEngine(graph, threads=1)
    reference = median_us(lambda: onnx.run(onnx.input_buffers), RUNS // 20)
    print(f"{'TensorRT runner, 300x300':36} {'median us':>10} {'of ONNX Runtime, 1 thread':>26}")
    for name, duration_us in rows.items():
        print(f"{name:36} {duration_us:10.1f} {duration_us / reference:26.4f}")


if __name__ == "__main__":
    main()
