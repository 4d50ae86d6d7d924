"""What an engine must bear on a device: threads, a second engine beside it, many runs, many openings."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.telemetry.memory import available_mib, resident_mib
from engines import Engine

_THREADS, _RUNS_PER_THREAD = 4, 10
_RUNS, _OPENINGS, _LOOKS = 300, 8, 3
_MAX_GROWTH_MIB = 8.0
# Memory of a GPU that shares the system's is in no process's resident size; other programs come and go in
# what the system has left.
_MAX_LOSS_MIB = 16.0 * _OPENINGS


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: What was tried.
        passed: Whether it held.
        detail: What was seen.
    """

    name: str
    passed: bool
    detail: str


def answer_of(engine: Engine) -> dict[str, NDArray[np.float32]]:
    """Return what an engine says of what is in its input buffers, as copies."""
    return {name: array.copy() for name, array in engine.run(engine.input_buffers).items()}


def check_threads(title: str, engine: Engine) -> Check:
    """Run one engine from several threads at once; nobody reads the answers: the next run overwrites them."""
    expected, begun = answer_of(engine), threading.Barrier(_THREADS)

    def runs() -> None:
        begun.wait()
        for _ in range(_RUNS_PER_THREAD):
            engine.run(engine.input_buffers)

    with ThreadPoolExecutor(_THREADS) as pool:
        for each in [pool.submit(runs) for _ in range(_THREADS)]:
            each.result()
    is_same = _same(expected, answer_of(engine))
    total = _THREADS * _RUNS_PER_THREAD
    detail = f"after {total} runs at once the answer is {'the same' if is_same else 'another one'}"
    return Check(f"{title} from {_THREADS} threads", is_same, detail)


def check_two(title: str, engine: Engine, second: Engine) -> Check:
    """Run two engines at the same time."""
    for name, array in engine.input_buffers.items():
        np.copyto(second.input_buffers[name], array)
    expected = answer_of(engine)

    def runs(each: Engine) -> int:
        return sum(_same(expected, answer_of(each)) for _ in range(_RUNS_PER_THREAD))

    with ThreadPoolExecutor(2) as pool:
        same = sum(pool.map(runs, (engine, second)))
    total = 2 * _RUNS_PER_THREAD
    return Check(f"{title}, two engines at once", same == total, f"{same} of {total} answers are the same")


def check_growth(title: str, engine: Engine) -> Check:
    """Run an engine many times: the process must not grow."""
    gc.collect()
    before_mib = resident_mib()
    for _ in range(_RUNS):
        engine.run(engine.input_buffers)
    gc.collect()
    growth_mib = resident_mib() - before_mib
    return Check(f"{title}, memory", growth_mib < _MAX_GROWTH_MIB, f"{growth_mib:+.1f} MiB in {_RUNS} runs")


def check_reopening(title: str, open_: Callable[[], Engine]) -> Check:
    """Open and close an engine many times: the system must have as much memory left as before.

    Other programs take memory from the system, too, but a leak leaks each time: what looks like one is looked
    at again.
    """
    loss_mib = math.inf
    for _ in range(_LOOKS):
        if loss_mib >= _MAX_LOSS_MIB:
            loss_mib = _loss_mib(open_)
    detail = f"{loss_mib:+.0f} MiB of the system's in {_OPENINGS} openings"
    return Check(f"{title}, opened again and again", loss_mib < _MAX_LOSS_MIB, detail)


def _loss_mib(open_: Callable[[], Engine]) -> float:
    """Return what the system has less after opening and closing an engine many times."""
    gc.collect()
    before_mib = available_mib()
    for _ in range(_OPENINGS):
        engine = open_()
        try:
            engine.run(engine.input_buffers)
        finally:
            engine.close()
        del engine
        gc.collect()
    return before_mib - available_mib()


def _same(first: dict[str, NDArray[np.float32]], second: dict[str, NDArray[np.float32]]) -> bool:
    return all(np.array_equal(array, second[name]) for name, array in first.items())
