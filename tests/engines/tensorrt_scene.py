"""What tests of `TensorrtEngine` are made of: a small network, a fake Jetson, threads that meet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from engines.fake_jetson.jetson import FakeCuda, FakeJetson, fake_jetson
from engines.onnx_runtime import auto_threads, import_onnxruntime
from engines.tensorrt.network_builder import BuildJob, build_plan
from engines.tensorrt.plan_key import PlanPrecision
from engines.tensorrt.probe import import_tensorrt

WAIT_S = 30.0
"""Longer than any thread here needs, shorter than the patience of who runs the tests."""

Arrays = Mapping[str, NDArray[Any]]
Result = TypeVar("Result")


@cache
def small_graph(side: int = 8) -> bytes:
    """Return a graph of two inputs and two outputs, one of them integers: `levels = mean(image) * gain`."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("Mul", ["means", "gain"], ["levels"]),
        helper.make_node("ArgMax", ["levels"], ["best"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info("image", TensorProto.UINT8, [1, side, side, 3]),
            helper.make_tensor_value_info("gain", TensorProto.FLOAT, [1, 3]),
        ],
        [
            helper.make_tensor_value_info("levels", TensorProto.FLOAT, [1, 3]),
            helper.make_tensor_value_info("best", TensorProto.INT64, [1, 1]),
        ],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    return bytes(model.SerializeToString())


def small_feeds(number: int, side: int = 8) -> dict[str, NDArray[Any]]:
    """Return inputs of the small graph, others for each number."""
    random = np.random.default_rng(number)
    return {
        "image": random.integers(0, 256, (1, side, side, 3), np.uint8),
        "gain": random.uniform(-1, 1, (1, 3)).astype(np.float32),
    }


def plan_of(graph: bytes, precision: PlanPrecision = "fp32", dla_core: int | None = None) -> bytes:
    """Build a plan on the fake that is played."""
    job = BuildJob(graph, precision, 64 << 20, dla_core, b"")
    return build_plan(import_tensorrt(), job, lambda *step: True).plan


@cache
def _session(graph: bytes) -> Any:  # noqa: ANN401 - onnxruntime has no types
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = auto_threads()
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def expected(graph: bytes, feeds: Arrays) -> dict[str, NDArray[Any]]:
    """Return what ONNX Runtime makes of it."""
    names = [output.name for output in _session(graph).get_outputs()]
    return dict(zip(names, _session(graph).run(names, dict(feeds)), strict=True))


def check_outputs(outputs: Arrays, graph: bytes, feeds: Arrays) -> None:
    """Compare outputs with ONNX Runtime's; the fake runs plans in it, so there is nothing to tolerate."""
    wanted = expected(graph, feeds)
    assert list(outputs) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(outputs[name], array, err_msg=name)


def check_sound(cuda: FakeCuda) -> None:
    """Assert that nothing is left on a device, and that nothing forbidden happened."""
    assert cuda.violations == []
    assert cuda.leaks() == []
    assert cuda.pushed_contexts == {}
    assert cuda.calls["cuDevicePrimaryCtxRetain"] == cuda.calls["cuDevicePrimaryCtxRelease"]


@contextmanager
def jetson(spec: FakeJetson | None = None) -> Iterator[FakeCuda]:
    """Play a Jetson on which nothing may go wrong, and nothing may be left in the end."""
    with fake_jetson(spec or FakeJetson()) as cuda:
        yield cuda
        check_sound(cuda)


def in_thread(work: Callable[[], Result], name: str = "worker") -> Result:
    """Return the result of something that another thread does, or raise what it raises."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive(), f"{name} hangs"
    if errors:
        raise errors[0]
    return results[0]


def before_synchronise(action: Callable[[], None]) -> None:
    """Do something each time before a stream of the fake that is played is waited for: a run is under way."""
    import pycuda.driver as drv

    original = drv.Stream.synchronize

    def synchronize(stream: object) -> None:
        action()
        original(stream)

    drv.Stream.synchronize = synchronize  # the class is this fake's own


def while_capturing(action: Callable[[], None]) -> None:
    """Do something before work is captured into a graph; not again while it is being done."""
    import pycuda.driver as drv
    import tensorrt

    streams = drv.Stream._cuda.streams.streams
    original = tensorrt.IExecutionContext.execute_async_v3
    busy: list[bool] = []

    def execute(context: object, stream_handle: int) -> bool:
        if streams[stream_handle].capture is not None and not busy:
            busy.append(True)
            action()
            busy.clear()
        return bool(original(context, stream_handle))

    tensorrt.IExecutionContext.execute_async_v3 = execute  # as above


def once(action: Callable[[], None]) -> Callable[[], None]:
    """Return what does it the first time that it is called, and nothing later."""
    left = [action]

    def act() -> None:
        if left:
            left.pop()()

    return act


def interrupt() -> None:
    raise KeyboardInterrupt


def fail() -> None:
    """Fail as pycuda does where the device found something wrong, which ends its work."""
    import pycuda.driver as drv

    drv.Stream._cuda.streams.synchronise_all(0)
    raise drv.LogicError("cuStreamSynchronize failed: an illegal memory access was encountered")


class WatchedLock:
    """A lock that tells when a thread of a certain name comes to it.

    Args:
        lock: The lock itself.
        name: Of the thread.
        arrived: Set when it comes.
    """

    def __init__(self, lock: threading.Lock, name: str, arrived: threading.Event) -> None:
        self._lock, self._name, self._arrived = lock, name, arrived

    def __enter__(self) -> None:
        if threading.current_thread().name == self._name:
            self._arrived.set()
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def meet(engine: Any, other: Callable[[], object]) -> list[str]:  # noqa: ANN401 - also a changed one
    """Run an engine in a thread, and let a second thread do something before that run is over.

    The first goes on when the second is done, or waits for the engine's lock.

    Returns:
        What happens, in order: `first waits for the device`, `first goes on`, `second is done`, ...
    """
    events: list[str] = []
    arrived = threading.Event()

    def second() -> None:
        try:
            other()
            events.append("second is done")
        except Exception as error:  # noqa: BLE001 - the test looks at it
            events.append(f"second fails: {error!r}")
        finally:
            arrived.set()

    thread = threading.Thread(target=second, name="second")

    def under_way() -> None:
        name = threading.current_thread().name
        events.append(f"{name} waits for the device")
        if name == "first" and thread.ident is None:
            thread.start()
            assert arrived.wait(WAIT_S)
            events.append("first goes on")

    before_synchronise(under_way)
    engine._lock = WatchedLock(engine._lock, "second", arrived)
    try:
        in_thread(lambda: engine.run(small_feeds(1)), "first")
    finally:
        thread.join(WAIT_S)
    return events


IN_TURN = ["first waits for the device", "first goes on", "second waits for the device", "second is done"]
"""What `meet` returns where the second thread waits for the first."""
