"""How much slower the loop is while ten viewers watch, in one run on this machine.

A loop computes for some milliseconds per frame and hands its canvas to the live view: by turns alone, and
with ten viewers who read the stream in a process of their own. Once at 30 frames per second, as a camera has,
and once as fast as it can; that shows all that they cost, but needs a processor for them.
Usage: OPENBLAS_NUM_THREADS=1 python benchmarks/web_viewers.py [SECONDS_PER_ROUND]
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import datetime, timezone

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mnv2.results import Detections, FrameResult
from edge_mnv2.sinks.queued_outlet import QueuedOutlet
from edge_mnv2.web import WebAddress, WebServer
from edge_mnv2.zoo.model import DecoderOptions

VIEWERS, ROUNDS = 10, 3
INFERENCE_MS = 10.0

# Reads as a browser does, without looking at what it reads.
CLIENTS = """
import asyncio, sys, aiohttp
async def one(session):
    async with session.get(sys.argv[1]) as stream:
        print("there", flush=True)
        async for _ in stream.content.iter_any():
            pass
async def main():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(one(session) for _ in range(int(sys.argv[2]))))
asyncio.run(main())
"""


class FixedDecoder:
    """A decoder that nobody changes."""

    task = "detect"
    labels = {1: "person"}  # noqa: RUF012 - as the protocol has it
    decoder = DecoderOptions()

    def change_decoder(self, options: DecoderOptions) -> None:
        """Do nothing."""


def pictures(size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Return some pictures with as much in them as a room has: smooth areas, edges, a little noise."""
    width, height = size
    random = np.random.default_rng(1)
    made = []
    for number in range(8):
        small = random.integers(0, 255, (height // 40, width // 40, 3), np.uint8)
        large = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
        noise = random.integers(0, 12, large.shape, np.uint8)
        picture = cv2.add(large, noise)
        cv2.rectangle(picture, (40 * number, 60), (40 * number + 90, 300), (200, 80, 20), 4)
        made.append(np.ascontiguousarray(picture, np.uint8))
    return made


def run_loop(
    outlet: QueuedOutlet, frames: list[NDArray[np.uint8]], seconds: float, interval_s: float, work: int
) -> float:
    """Run the loop; return its rate in Hz."""
    found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.ones(1, np.int64))
    weights = np.ones((96, 96), np.float32)
    canvas = np.empty_like(frames[0])
    height, width = canvas.shape[:2]
    start_s = due_s = time.perf_counter()
    count = 0
    while (now_s := time.perf_counter()) < start_s + seconds:
        if interval_s and now_s < due_s:
            time.sleep(due_s - now_s)
        due_s = max(due_s + interval_s, time.perf_counter() - interval_s)
        frame = frames[count % len(frames)]
        captured_ns = time.monotonic_ns()
        for _ in range(work):
            weights @ weights  # it only costs time, without holding the interpreter, as an engine does
        is_wanted = outlet.wants_canvas
        if is_wanted:
            np.copyto(canvas, frame)
        outlet.write(
            FrameResult(
                origin="camera",
                seq=count,
                captured_ns=captured_ns,
                captured_at=datetime.now(timezone.utc),
                age_ms=(time.monotonic_ns() - captured_ns) / 1e6,
                width=width,
                height=height,
                model="none",
                task="detect",
                labels=FixedDecoder.labels,
                found=found,
                stages_ms={"infer": INFERENCE_MS},
                canvas=canvas if is_wanted else None,
            )
        )
        count += 1
    return count / (time.perf_counter() - start_s)


def with_viewers(url: str, count: int) -> subprocess.Popen[str]:
    """Start viewers; return their process once all are there."""
    viewers = subprocess.Popen(
        [sys.executable, "-c", CLIENTS, url, str(count)], stdout=subprocess.PIPE, text=True
    )
    assert viewers.stdout is not None  # noqa: S101 - a pipe was asked for
    for _ in range(count):
        viewers.stdout.readline()
    return viewers


def calibrate() -> int:
    """Return how many products take as long as the inference."""
    weights = np.ones((96, 96), np.float32)
    start_s = time.perf_counter()
    for _ in range(2000):
        weights @ weights
    return max(1, round(INFERENCE_MS / 1e3 * 2000 / (time.perf_counter() - start_s)))


def main() -> None:
    """Print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    cv2.setNumThreads(1)
    work = calibrate()
    server = WebServer.start(WebAddress(port=0))
    spec = server.add_camera("camera", FixedDecoder())
    print(f"{'canvas':>10} {'loop':>10} {'alone, Hz':>10} {f'{VIEWERS} viewers':>11} {'lower by':>9}")
    for size in ((640, 480), (1280, 720)):
        frames = pictures(size)
        for name, interval_s in (("30 Hz", 1 / 30), ("free", 0.0)):
            outlet = QueuedOutlet(spec)
            rates: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(ROUNDS):  # by turns, so that what else the machine does meets both
                rates[False].append(run_loop(outlet, frames, seconds, interval_s, work))
                viewers = with_viewers(f"{server.address.url}stream.mjpg", VIEWERS)
                rates[True].append(run_loop(outlet, frames, seconds, interval_s, work))
                viewers.terminate()
                viewers.communicate()
            outlet.close()
            alone, watched = (float(np.median(rates[key])) for key in (False, True))
            lower = f"{100 * (1 - watched / alone):.1f} %"
            print(f"{f'{size[0]}x{size[1]}':>10} {name:>10} {alone:10.2f} {watched:11.2f} {lower:>9}")
    server.close()
    if threading.active_count() > 1:
        print("threads are left:", threading.enumerate())


if __name__ == "__main__":
    main()
