"""Time the parts of the pipeline beside each other, on this machine, in one run.

Only the ratios travel to other machines; the absolute figures belong to this one.
Usage: python benchmarks/pipeline.py [PICTURE]; without a picture, a synthetic frame.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from camera import open_source
from camera.pictures import read_picture
from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.overlay import draw_overlay
from edge_mnv2.zoo.graph_store import ensure_graph
from edge_mnv2.zoo.model import DecoderOptions, load_model, make_network
from engines import OnnxRuntimeEngine, allocate_inputs

RUNS = 200


def median_ms(function: Callable[[], object], runs: int = RUNS) -> float:
    """Return the median duration of a call, after a tenth as many to warm up."""
    durations_ms = []
    for run in range(runs + runs // 10):
        start_ns = time.perf_counter_ns()
        function()
        if run >= runs // 10:
            durations_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    return float(np.median(durations_ms))


def startup_ms(*arguments: str) -> float:
    """Return the median duration of a Python process."""
    return median_ms(
        lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True), 10
    )


def main() -> None:
    """Print the table."""
    if len(sys.argv) > 1:
        image = read_picture(Path(sys.argv[1]))
    else:
        source = open_source("test://?fps=0")
        source.open()
        image = source.read().image
    cv2.setNumThreads(1)
    model = load_model("ssdlite-mnv2-coco")
    network, graph = make_network(model), ensure_graph(model)
    one, two = OnnxRuntimeEngine(graph, threads=1), OnnxRuntimeEngine(graph, threads=2)
    feeds = allocate_inputs(one.inputs)
    geometry = network.prepare(image, feeds[INPUT_NAME])
    outputs = one.run(feeds)
    found = network.decode(outputs, geometry)
    low = make_network(model, DecoderOptions(threshold=0.01))
    canvas = image.copy()
    plain = startup_ms("-c", "pass")
    rows = {
        "infer, 1 thread": median_ms(lambda: one.run(feeds)),
        "infer, 2 threads": median_ms(lambda: two.run(feeds)),
        "prepare": median_ms(lambda: network.prepare(image, feeds[INPUT_NAME])),
        f"decode at threshold 0.5 ({len(found)} boxes)": median_ms(lambda: network.decode(outputs, geometry)),
        "decode at threshold 0.01": median_ms(lambda: low.decode(outputs, geometry)),
        "overlay": median_ms(lambda: draw_overlay(canvas, found, model.labels)),
        "import edge_mnv2, beyond Python's own start": startup_ms("-c", "import edge_mnv2") - plain,
        "edge-mnv2 --help, the whole process": startup_ms("-m", "edge_mnv2", "--help"),
    }
    reference = rows["infer, 1 thread"]
    print(f"{'part':46} {'median ms':>10} {'of infer, 1 thread':>19}")
    for name, duration_ms in rows.items():
        print(f"{name:46} {duration_ms:10.3f} {duration_ms / reference:19.3f}")


if __name__ == "__main__":
    main()
