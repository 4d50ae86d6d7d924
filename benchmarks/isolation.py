"""Time what it costs to read a camera in a process or a thread of its own, beside reading it directly.

The source gives the same picture again and again, at a camera's rate, so that nothing else is measured.
Usage, from the repository's root: python -m benchmarks.isolation [WIDTHxHEIGHT] [FRAMES]
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import closing

import numpy as np

from camera import Frame, FrameSource, SourceInfo, Transform
from camera.isolation.process_reader import SLOTS, ProcessReader
from camera.isolation.shared_frames import FrameRing, create_memory
from camera.thread_reader import ThreadReader

FPS = 30
_TIMEOUT_S = 30.0


class Still:
    """A camera that shows one picture, taken in the moment in which it is handed out."""

    def __init__(self, width: int, height: int) -> None:
        rng = np.random.default_rng(0)
        self.image = rng.integers(0, 256, (height, width, 3), np.uint8)
        self.seq = 0
        self.start_s = 0.0

    def open(self) -> SourceInfo:
        """Start the clock."""
        self.start_s = time.monotonic()
        height, width = self.image.shape[:2]
        return SourceInfo("still", live=True, fps=FPS, frames=None, size=(width, height))

    def read(self) -> Frame:
        """Wait until the next frame is due."""
        self.seq += 1
        time.sleep(max(0.0, self.start_s + self.seq / FPS - time.monotonic()))
        return Frame(self.image, self.seq - 1, time.monotonic_ns(), "still")

    def close(self) -> None:
        """Do nothing."""


def still(size: str) -> FrameSource:
    """Return such a camera, given `WIDTHxHEIGHT`."""
    width, height = map(int, size.split("x"))
    return Still(width, height)


def spread(times_ms: list[float]) -> str:
    """Return median and 99th percentile in milliseconds."""
    return f"{np.percentile(times_ms, 50):7.3f} {np.percentile(times_ms, 99):7.3f}"


def times_of(work: Callable[[int], object], runs: int) -> list[float]:
    """Return how long each call took, in milliseconds, at a camera's distance: caches have cooled down."""
    times_ms = []
    for run in range(runs):
        time.sleep(1 / FPS)
        start_ns = time.perf_counter_ns()
        work(run)
        times_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    return times_ms[SLOTS:]


def ages_of(read: Callable[[], Frame | None], runs: int) -> list[float]:
    """Return how old each frame was when it was here, in milliseconds."""
    ages_ms: list[float] = []
    while len(ages_ms) < runs:
        frame = read()
        if frame is not None:
            with frame:
                ages_ms.append((time.monotonic_ns() - frame.captured_ns) / 1e6)
    return ages_ms[SLOTS:]


def main() -> None:
    """Print the table."""
    size = next((text for text in sys.argv[1:] if re.fullmatch(r"\d+x\d+", text)), "1280x720")
    runs = next((int(text) for text in sys.argv[1:] if text.isdecimal()), 200)
    source = still(size)
    info = source.open()
    assert info.size is not None  # noqa: S101 - for the type checker
    width, height = info.size
    image = source.read().image
    memory = create_memory(SLOTS, image.nbytes)
    ring = FrameRing(memory, SLOTS, image.nbytes)
    os.close(memory)
    plain = [np.empty_like(image) for _ in range(SLOTS)]

    print(f"{size} at {FPS} fps, {runs} frames; milliseconds     p50     p99")
    ours_ms = times_of(lambda run: np.copyto(ring.picture(run % SLOTS, height, width), image), runs)
    plain_ms = times_of(lambda run: np.copyto(plain[run % SLOTS], image), runs)
    print(f"{'copy into shared memory':44} {spread(ours_ms)}")
    print(f"{'copy into ordinary memory':44} {spread(plain_ms)}")
    print(f"{'ratio of the medians':44} {np.median(ours_ms) / np.median(plain_ms):7.2f}")

    source = still(size)
    with closing(source):
        source.open()
        print(f"{'from capture to read: directly':44} {spread(ages_of(source.read, runs))}")
    thread = ThreadReader(lambda: still(size), "still", [])
    with closing(thread):
        thread.open(_TIMEOUT_S)
        print(
            f"{'from capture to read: isolation thread':44} {spread(ages_of(lambda: thread.read(1), runs))}"
        )
    start_ns = time.perf_counter_ns()
    process = ProcessReader(size, Transform(), "benchmarks.isolation:still")
    with closing(process):
        process.open(_TIMEOUT_S)
        started_ms = (time.perf_counter_ns() - start_ns) / 1e6
        print(
            f"{'from capture to read: isolation process':44} {spread(ages_of(lambda: process.read(1), runs))}"
        )
    print(f"{'to start and open the process':44} {started_ms:7.0f}")


if __name__ == "__main__":
    main()
