"""How old frames are at the sinks when the engine is slower than the camera, by the whole way of a frame.

A camera of 30 frames a second, read by a process of its own, and an engine that takes 60 ms: the newest frame
must win, so that no frame is older than two intervals and one inference.

Usage, from the repository's root: python -m benchmarks.frame_age [SECONDS]
"""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from camera import CameraOptions, open_source
from edge_mnv2.networks.ssdlite import SsdLite, SsdLiteSpec
from edge_mnv2.pipeline import RunControl, run_pipeline
from edge_mnv2.predictor import Predictor
from edge_mnv2.results import FrameResult
from edge_mnv2.sinks.base import SinkSpec
from engines import FakeEngine, TensorSpec

FPS, INFERENCE_MS = 30, 60.0


class Ages:
    """A sink that notes how old each frame is when it comes."""

    def __init__(self) -> None:
        self.ages_ms: list[float] = []

    def write(self, result: FrameResult) -> None:
        """Note one."""
        self.ages_ms.append((time.monotonic_ns() - result.captured_ns) / 1e6)

    def close(self) -> None:
        """Do nothing."""


def slow_predictor(inference_ms: float) -> Predictor:
    """Return a predictor whose engine does nothing, slowly."""
    network = SsdLite(SsdLiteSpec(classes=3, size=(300, 300)), [1, 2])
    outputs = {
        "box_encodings": np.zeros((1, len(network.anchors), 4), np.float32),
        "class_logits": np.full((1, len(network.anchors), 3), -9, np.float32),
    }

    def compute(_: object) -> dict[str, np.ndarray]:
        time.sleep(inference_ms / 1000)
        return outputs

    specs = tuple(TensorSpec(name, array.shape, array.dtype) for name, array in outputs.items())
    image = TensorSpec("image", (1, 300, 300, 3), np.dtype(np.uint8))
    engine = FakeEngine((image,), compute=compute, output_specs=specs)
    return Predictor("fake", "detect", {1: "a", 2: "b"}, network, engine)


def ages_of(size: str, isolation: str | None, seconds: float) -> tuple[list[float], int]:
    """Return the ages at the sink of a run of so many seconds, and how many frames were dropped."""
    sink, stop = Ages(), threading.Event()
    options = CameraOptions(isolation=isolation)  # type: ignore[arg-type]
    source = open_source(f"test://?fps={FPS}&size={size}", options)
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    summary = run_pipeline(
        source,
        slow_predictor(INFERENCE_MS),
        lambda _: [SinkSpec("ages", lambda _: sink, False)],
        RunControl(stop),
    )
    timer.cancel()
    return sink.ages_ms, summary.drops["newer frame came"]


def main() -> None:
    """Measure and print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    limit_ms = 2 * 1000 / FPS + INFERENCE_MS
    table = Table("frames", "read by", "p50", "p99", "largest", "limit", "seen", "dropped")
    for size in ("640x480", "1280x720"):
        for isolation in ("process", "thread"):
            ages_ms, dropped = ages_of(size, isolation, seconds)
            p50_ms, p99_ms = np.percentile(ages_ms, (50, 99))
            table.add_row(
                size,
                isolation,
                *(f"{value:.1f} ms" for value in (p50_ms, p99_ms, max(ages_ms), limit_ms)),
                str(len(ages_ms)),
                str(dropped),
            )
    Console().print(table)


if __name__ == "__main__":
    main()
