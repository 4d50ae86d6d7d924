"""The fake pycuda and the fake libcuda: as unforgiving as the real ones, and telling."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.fake_jetson.jetson import FakeCuda, FakeJetson, fake_jetson
from engines.fake_jetson.libcuda import FakeLibcuda
from engines.fake_jetson.memory import FRESH, STALE

FRESH_WORD = int.from_bytes(bytes([FRESH]) * 4, "little")
GLOBAL, THREAD_LOCAL, RELAXED = range(3)


@dataclass
class Played:
    """A fake device with one context object, not yet current.

    Attributes:
        cuda: What happens on it.
        drv: The fake `pycuda.driver`.
        context: Retained in the test's thread.
        lib: The fake libcuda.
    """

    cuda: FakeCuda
    drv: Any
    context: Any
    lib: Any


@pytest.fixture
def spec() -> FakeJetson:
    """The device that `played` plays; tests parametrise it."""
    return FakeJetson()


@pytest.fixture
def played(spec: FakeJetson) -> Iterator[Played]:
    with fake_jetson(spec) as cuda:
        import pycuda.driver as drv

        drv.init()
        yield Played(cuda, drv, drv.Device(0).retain_primary_context(), FakeLibcuda(cuda))


@pytest.fixture
def current(played: Played) -> Iterator[Played]:
    """The same with its context current."""
    played.context.push()
    yield played
    played.drv.Context.pop()


def in_thread(work: Callable[[], object], name: str = "worker") -> object:
    """Run something in another thread; returns its result or what it raised."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join()
    return results[0]


def numbers(count: int = 4) -> np.ndarray[Any, Any]:
    return np.arange(1, count + 1, dtype=np.uint32)


def locked(drv: types.ModuleType, count: int = 4, **options: object) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = drv.pagelocked_empty(count, np.uint32, **options)
    return array


# --- names


def test_the_fake_has_no_name_that_pycuda_has_not(played: Played) -> None:
    real = json.loads((Path(__file__).parent / "pycuda_api.json").read_text(encoding="utf-8"))
    assert public(played.drv) <= set(real["modules"]["pycuda.driver"])
    for name in ("Context", "Device", "DeviceAllocation", "PagelockedHostAllocation", "Stream"):
        inherited = {"get_device_pointer"}  # of HostPointer
        assert public(getattr(played.drv, name)) - inherited <= set(real["classes"][name]), name
    for error in ("MemoryError", "LogicError", "LaunchError", "RuntimeError"):
        assert getattr(played.drv, error).__bases__ == (played.drv.Error,)


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


# --- initialisation and devices


def test_nothing_works_before_init() -> None:
    with fake_jetson(FakeJetson()) as cuda:
        import pycuda.driver as drv

        for call in (drv.Device.count, lambda: drv.Device(0), lambda: drv.mem_alloc(16)):
            with pytest.raises(drv.LogicError, match="failed: initialization error"):
                call()
        assert drv.get_driver_version() == 12060
        drv.init()
        drv.init()
        assert drv.Device.count() == 1
        assert cuda.calls["cuInit"] == 2


@pytest.mark.parametrize("spec", [FakeJetson(faults=frozenset({"no_device"})), FakeJetson(device_count=0)])
def test_without_a_device_init_fails(spec: FakeJetson) -> None:
    with fake_jetson(spec) as cuda:
        import pycuda.driver as drv

        with pytest.raises(drv.RuntimeError, match="cuInit failed: no CUDA-capable device is detected"):
            drv.init()
        assert FakeLibcuda(cuda).cuInit(0) == 100  # type: ignore[attr-defined] # made at run time


def test_init_does_not_survive_a_fork(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(played.drv.LogicError, match="initialization error"):
        played.drv.Device.count()


def test_a_device_tells_what_the_specification_says() -> None:
    spec = FakeJetson(
        "8.6.1", device_name="Nano", compute_capability=(8, 6), sm_count=4, integrated=False, memory_bytes=123
    )
    with fake_jetson(spec):
        import pycuda.driver as drv

        drv.init()
        device = drv.Device(0)
        assert (device.name(), device.compute_capability(), device.total_memory()) == ("Nano", (8, 6), 123)
        names = ("MULTIPROCESSOR_COUNT", "INTEGRATED", "CAN_MAP_HOST_MEMORY")
        found = [device.get_attribute(getattr(drv.device_attribute, name)) for name in names]
        assert found == [4, 0, 1]
        with pytest.raises(drv.LogicError, match="cuDeviceGet failed: invalid device ordinal"):
            drv.Device(1)


# --- contexts


def test_a_retained_context_is_not_current(played: Played) -> None:
    drv = played.drv
    calls = {
        lambda: drv.mem_alloc(16): "cuMemAlloc failed: invalid device context$",
        lambda: drv.pagelocked_empty(4, np.uint8): "cuMemHostAlloc failed: invalid device context$",
        drv.Stream: "explicit_context_dependent failed: .* - no currently active context",
        drv.mem_get_info: "cuMemGetInfo failed: invalid device context$",
        drv.Context.synchronize: "cuCtxSynchronize failed: invalid device context$",
        drv.Context.pop: "context::pop failed: .* - cannot pop non-current context",
        lambda: drv.memcpy_htod(0x1000, numbers()): "cuMemcpyHtoD failed: invalid device context$",
    }
    assert drv.Context.get_current() is None
    for call, message in calls.items():
        with pytest.raises(drv.LogicError, match=message):
            call()


def test_a_context_is_current_in_the_thread_that_pushed_it_only(current: Played) -> None:
    drv = current.drv
    buffer, stream = drv.mem_alloc(16), drv.Stream()
    calls = (drv.mem_get_info, stream.synchronize, lambda: drv.memcpy_htod_async(buffer, numbers(), stream))
    for call in calls:
        assert isinstance(in_thread(call), drv.LogicError)
    assert current.cuda.pushed_contexts == {"MainThread": 1}

    def pushed() -> object:
        current.context.push()
        try:
            return current.cuda.pushed_contexts, drv.mem_get_info()
        finally:
            drv.Context.pop()

    counts, info = in_thread(pushed)  # type: ignore[misc] # it did not raise
    assert counts == {"MainThread": 1, "worker": 1}
    assert info == ((8 << 30) - 16, 8 << 30)


def test_pushes_and_pops_come_in_pairs(played: Played) -> None:
    for _ in range(2):
        played.context.push()
    assert played.cuda.pushed_contexts == {"MainThread": 2}
    played.drv.Context.pop()
    assert played.drv.Context.get_current() == played.context
    played.drv.mem_get_info()
    played.drv.Context.pop()
    assert played.cuda.pushed_contexts == {}


def test_every_retain_is_a_reference_of_its_own(played: Played) -> None:
    other = played.drv.Device(0).retain_primary_context()
    assert other == played.context
    assert other is not played.context
    assert played.cuda.retained_contexts == 2
    del other
    gc.collect()
    assert played.cuda.retained_contexts == 1


def test_a_thread_that_ends_with_a_context_pushed_is_a_violation(played: Played) -> None:
    in_thread(played.context.push, "careless")
    gc.collect()
    assert played.cuda.violations == [
        "a thread ended with 1 contexts pushed; pycuda aborts the process (thread careless)"
    ]


def test_detaching_leaves_the_context_current_for_cuda(played: Played) -> None:
    played.context.push()
    played.context.detach()
    assert played.drv.Context.get_current() is None
    assert played.cuda.leaks() == ["1 contexts pushed in MainThread"]
    assert played.lib.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p())) == 0
    assert played.cuda.leaks() == []
    assert played.lib.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p())) == 201
    with pytest.raises(played.drv.LogicError, match="cannot detach from invalid context"):
        played.context.detach()


def test_detaching_what_is_not_current_makes_it_current_for_cuda(played: Played) -> None:
    played.context.detach()
    assert played.cuda.leaks() == ["1 contexts pushed in MainThread"]


def test_detaching_elsewhere_gives_nothing_back(played: Played) -> None:
    assert in_thread(played.context.detach) is None
    assert played.cuda.retained_contexts == 1


def test_a_detached_context_must_not_be_pushed(played: Played) -> None:
    played.context.push()
    played.context.detach()
    played.lib.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    played.context.push()
    assert played.drv.Context.get_current() is None
    assert any("detached context was pushed" in text for text in played.cuda.violations)


def test_releasing_a_context_that_has_work_is_a_violation(played: Played) -> None:
    drv = played.drv
    played.context.push()
    buffer, stream = drv.mem_alloc(16), drv.Stream()
    drv.memcpy_htod_async(buffer, numbers(), stream)
    played.context.detach()
    assert any("released while stream" in text for text in played.cuda.violations)
    assert played.cuda.live_allocations == played.cuda.live_streams == 0
    with pytest.raises(drv.LogicError, match="invalid device context"):
        drv.mem_get_info()
    buffer.free()  # silently nothing
    assert played.cuda.calls["cuMemFree"] == 0


@pytest.mark.parametrize("spec", [FakeJetson(device_count=2)])
def test_a_stream_of_another_context_is_refused(current: Played) -> None:
    drv = current.drv
    stream, buffer = drv.Stream(), drv.mem_alloc(16)
    other = drv.Device(1).retain_primary_context()
    other.push()
    with pytest.raises(drv.LogicError, match="cuMemcpyHtoDAsync failed: invalid resource handle"):
        drv.memcpy_htod_async(buffer, numbers(), stream)
    drv.Context.pop()
    drv.memcpy_htod_async(buffer, numbers(), stream)
    stream.synchronize()


# --- deferred work


@pytest.mark.parametrize("wait", ["stream", "context", "destruction"])
def test_nothing_happens_before_somebody_waits(current: Played, wait: str) -> None:
    drv = current.drv
    source, target, device = locked(drv), locked(drv), drv.mem_alloc(16)
    assert target.tolist() == [FRESH_WORD] * 4
    source[:] = numbers()
    stream = drv.Stream()
    assert stream.is_done()
    drv.memcpy_htod_async(device, source, stream)
    drv.memcpy_dtoh_async(target, int(device), stream=stream)
    assert not stream.is_done()
    assert target.tolist() == [FRESH_WORD] * 4
    if wait == "stream":
        stream.synchronize()
    elif wait == "context":
        drv.Context.synchronize()
    else:
        del stream
    assert target.tolist() == [1, 2, 3, 4]
    assert current.cuda.violations == []


def test_what_is_written_before_the_wait_is_what_is_copied(current: Played) -> None:
    drv = current.drv
    source, device, stream = locked(drv), drv.mem_alloc(16), drv.Stream()
    source[:] = 1
    drv.memcpy_htod_async(device, source, stream)
    source[:] = 2
    stream.synchronize()
    assert read(drv, device) == [2, 2, 2, 2]


def read(drv: types.ModuleType, device: object) -> list[int]:
    target = np.zeros(4, np.uint32)
    drv.memcpy_dtoh(target, device)
    return target.tolist()  # type: ignore[no-any-return]


def test_device_memory_is_fresh_and_copies_on_the_spot_wait_for_streams(current: Played) -> None:
    drv = current.drv
    device, stream = drv.mem_alloc(16), drv.Stream()
    assert read(drv, device) == [FRESH_WORD] * 4
    drv.memcpy_htod_async(device, numbers(), stream)
    assert read(drv, device) == [1, 2, 3, 4]
    drv.memcpy_htod(device, numbers() * 2)
    assert read(drv, device) == [2, 4, 6, 8]


def test_only_a_blocking_stream_waits_for_the_default_one(current: Played) -> None:
    drv = current.drv
    device, blocking, free = drv.mem_alloc(16), drv.Stream(), drv.Stream(1)
    target = locked(drv)
    drv.memcpy_htod_async(device, numbers())  # on the default stream, first
    drv.memcpy_dtoh_async(target, device, free)
    free.synchronize()
    assert target[0] == FRESH_WORD
    drv.memcpy_dtoh_async(target, device, blocking)
    blocking.synchronize()
    assert target.tolist() == [1, 2, 3, 4]


def test_two_threads_use_two_streams(played: Played) -> None:
    drv = played.drv
    ready = threading.Barrier(2)
    found: dict[int, list[int]] = {}

    def work(number: int) -> None:
        played.context.push()
        try:
            device, stream, array = drv.mem_alloc(16), drv.Stream(), locked(drv)
            array[:] = number
            ready.wait(10)
            for _ in range(50):
                drv.memcpy_htod_async(device, array, stream)
                drv.memcpy_dtoh_async(array, device, stream)
                stream.synchronize()
            found[number] = array.tolist()
            del array, device, stream
        finally:
            drv.Context.pop()

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {1: [1] * 4, 2: [2] * 4}
    assert played.cuda.leaks() == ["1 retained contexts"]
    assert played.cuda.violations == []


# --- memory


def test_memory_is_counted_and_freed(current: Played) -> None:
    drv = current.drv
    device, host = drv.mem_alloc(100), drv.pagelocked_empty((2, 3), np.float32)
    assert (current.cuda.live_allocations, current.cuda.allocated_bytes) == (2, 124)
    assert int(device) % 256 == 0
    assert host.shape == (2, 3)
    assert host.dtype == np.float32
    assert host.flags.writeable
    assert not host.flags.owndata
    device.free()
    view = host[:1]
    del host
    assert current.cuda.live_allocations == 1
    del view  # the last one
    assert current.cuda.live_allocations == 0
    assert current.cuda.calls["cuMemFree"] == current.cuda.calls["cuMemFreeHost"] == 1
    assert current.cuda.violations == []
    assert drv.pagelocked_empty((2, 3), np.uint8, order="F").flags.f_contiguous
    assert drv.pagelocked_empty([5], np.uint8).shape == (5,)


def test_freeing_twice_is_refused(current: Played) -> None:
    device, host = current.drv.mem_alloc(4), locked(current.drv)
    for allocation, name in ((device, "device_allocation"), (host.base, "pagelocked_host_allocation")):
        allocation.free()
        with pytest.raises(current.drv.LogicError, match=f"{name}::free failed: invalid resource handle"):
            allocation.free()
    assert host.tolist() == [int.from_bytes(bytes([STALE]) * 4, "little")] * 4


def test_freeing_while_queued_work_uses_it_is_a_violation(current: Played) -> None:
    drv = current.drv
    device, stream, host = drv.mem_alloc(16), drv.Stream(), locked(drv)
    drv.memcpy_htod_async(device, numbers(), stream)
    drv.memcpy_dtoh_async(host, device, stream)
    device.free()
    assert len(current.cuda.violations) == 1
    assert "was freed while queued work used it" in current.cuda.violations[0]
    with pytest.raises(drv.LogicError, match="cuStreamSynchronize failed: an illegal memory access"):
        stream.synchronize()
    assert "used 16 bytes of device memory" in current.cuda.violations[1]
    stream.synchronize()  # the rest was dropped
    assert host[0] == FRESH_WORD


def test_memory_that_was_freed_is_not_copied(current: Played) -> None:
    drv = current.drv
    device, host = drv.mem_alloc(16), locked(drv)
    host.base.free()
    with pytest.raises(drv.LogicError, match="invalid argument"):
        drv.memcpy_htod_async(device, host)
    assert "was copied after it was freed" in current.cuda.violations[0]


def test_freeing_without_a_current_context_is_a_violation(played: Played) -> None:
    played.context.push()
    device = played.drv.mem_alloc(4)
    played.drv.Context.pop()
    device.free()  # it works in the thread that retained the context, and nowhere else
    assert "freed where no context is current" in played.cuda.violations[0]
    assert played.cuda.live_allocations == 0


def test_what_is_freed_in_another_thread_leaks(played: Played) -> None:
    played.context.push()
    device, host, stream = played.drv.mem_alloc(4), locked(played.drv), played.drv.Stream()
    played.drv.Context.pop()

    def free() -> None:
        with pytest.warns(UserWarning, match="device_allocation in out-of-thread context could not be"):
            device.free()

    assert in_thread(free) is None
    held: list[Any] = [host, stream]
    del host, stream
    assert in_thread(held.clear) is None
    assert played.cuda.live_allocations == 2
    assert played.cuda.live_streams == 1
    assert sum("out-of-thread" in text for text in played.cuda.violations) == 3


def test_freeing_under_another_object_of_the_same_context_leaks(played: Played) -> None:
    drv = played.drv
    played.context.push()
    device = drv.mem_alloc(4)
    drv.Context.pop()

    def free() -> None:
        other = drv.Device(0).retain_primary_context()
        other.push()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            device.free()
        drv.Context.pop()

    assert in_thread(free) is None
    assert played.cuda.live_allocations == 1


@pytest.mark.parametrize("spec", [FakeJetson(memory_bytes=1000)])
def test_memory_runs_out(current: Played) -> None:
    drv = current.drv
    first = drv.mem_alloc(600)
    with pytest.raises(drv.MemoryError, match="cuMemAlloc failed: out of memory"):
        drv.mem_alloc(500)
    with pytest.raises(drv.MemoryError, match="cuMemHostAlloc failed: out of memory"):
        drv.pagelocked_empty(500, np.uint8)
    assert drv.mem_get_info() == (400, 1000)
    first.free()
    drv.mem_alloc(500)
    with pytest.raises(drv.LogicError, match="cuMemAlloc failed: invalid argument"):
        drv.mem_alloc(0)


@pytest.mark.parametrize("spec", [FakeJetson(memory_bytes=1000)])
def test_memory_in_garbage_is_found_when_it_is_needed(current: Played) -> None:
    cycle: list[Any] = [current.drv.mem_alloc(600)]
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        assert current.cuda.live_allocations == 1
        current.drv.mem_alloc(600)
    finally:
        gc.enable()


@pytest.mark.parametrize("spec", [FakeJetson(memory_bytes=1000, integrated=False)])
def test_page_locked_memory_is_the_hosts_where_the_gpu_has_its_own(current: Played) -> None:
    host = current.drv.pagelocked_empty(5000, np.uint8)
    assert current.drv.mem_get_info() == (1000, 1000)
    assert current.cuda.allocated_bytes == host.nbytes


def test_only_mapped_memory_has_an_address_for_the_device(current: Played) -> None:
    drv = current.drv
    mapped, plain = locked(drv, mem_flags=drv.host_alloc_flags.DEVICEMAP), locked(drv)
    assert mapped.base.get_device_pointer() == mapped.ctypes.data
    with pytest.raises(drv.LogicError, match="cuMemHostGetDevicePointer failed: invalid argument"):
        plain.base.get_device_pointer()
    stream = drv.Stream()
    drv.memcpy_htod_async(mapped.base.get_device_pointer(), numbers(), stream)
    with pytest.raises(drv.LogicError, match="cuMemcpyHtoDAsync failed: invalid argument"):
        drv.memcpy_htod_async(plain.ctypes.data, numbers(), stream)


def test_copies_stay_inside_their_allocation(current: Played) -> None:
    drv = current.drv
    device = drv.mem_alloc(16)
    drv.memcpy_htod_async(int(device) + 8, numbers(2))
    with pytest.raises(drv.LogicError, match="invalid argument"):
        drv.memcpy_htod_async(int(device) + 8, numbers(3))
    with pytest.raises(drv.LogicError, match="invalid argument"):
        drv.memcpy_htod_async(device, numbers(5))
    drv.Context.synchronize()
    assert read(drv, device) == [FRESH_WORD, FRESH_WORD, 1, 2]


def test_copies_that_are_not_page_locked_are_counted(current: Played) -> None:
    drv = current.drv
    device, host = drv.mem_alloc(16), locked(drv)
    drv.memcpy_htod_async(device, host)
    drv.memcpy_htod_async(device, host[1:3])
    assert current.cuda.calls["pageable copy"] == 0
    drv.memcpy_htod_async(device, numbers())
    assert current.cuda.calls["pageable copy"] == 1


def test_host_arrays_must_be_contiguous_and_writable(current: Played) -> None:
    drv = current.drv
    device, frozen = drv.mem_alloc(16), numbers()
    with pytest.raises(ValueError, match="ndarray is not contiguous"):
        drv.memcpy_htod_async(device, numbers(8)[::2])
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        drv.memcpy_dtoh_async(frozen, device)
    drv.memcpy_htod(device, bytes(numbers()))
    assert read(drv, device) == [1, 2, 3, 4]


# --- graphs, through libcuda


@dataclass
class Recorded:
    """A captured copy from one array to another."""

    stream: Any
    source: np.ndarray[Any, Any]
    target: np.ndarray[Any, Any]
    device: Any
    graph: ctypes.c_void_p
    executable: ctypes.c_void_p


def record(current: Played, mode: int = THREAD_LOCAL) -> Recorded:
    drv, lib = current.drv, current.lib
    stream, source, target, device = drv.Stream(), locked(drv), locked(drv), drv.mem_alloc(16)
    graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
    assert lib.cuStreamBeginCapture_v2(ctypes.c_void_p(stream.handle), ctypes.c_int(mode)) == 0
    drv.memcpy_htod_async(device, source, stream)
    drv.memcpy_dtoh_async(target, device, stream)
    assert lib.cuStreamEndCapture(ctypes.c_void_p(stream.handle), ctypes.byref(graph)) == 0
    assert lib.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)) == 0
    return Recorded(stream, source, target, device, graph, executable)


def test_a_captured_graph_runs_when_it_is_launched_and_waited_for(current: Played) -> None:
    lib = current.lib
    made = record(current)
    assert lib.cuGraphDestroy(made.graph) == 0
    made.stream.synchronize()
    assert made.target[0] == FRESH_WORD  # what was captured was not done
    for number in (5, 6):
        made.source[:] = number
        assert lib.cuGraphLaunch(made.executable, made.stream.handle) == 0
        assert made.target[0] != number
        made.stream.synchronize()
        assert made.target.tolist() == [number] * 4
    assert current.cuda.graph_launches == 2
    assert current.cuda.live_graphs == 1
    assert lib.cuGraphExecDestroy(made.executable) == 0
    assert current.cuda.live_graphs == 0
    assert current.cuda.violations == []


def test_a_graph_whose_memory_was_freed_is_a_violation(current: Played) -> None:
    made = record(current)
    made.source[:] = 1
    made.device.free()
    assert current.lib.cuGraphLaunch(made.executable, made.stream.handle) == 0
    with pytest.raises(current.drv.LogicError, match="illegal memory access"):
        made.stream.synchronize()
    assert made.target[0] == FRESH_WORD
    assert "used 16 bytes of device memory" in current.cuda.violations[0]


def test_a_destroyed_graph_must_not_be_launched(current: Played) -> None:
    made = record(current)
    assert current.lib.cuGraphExecDestroy(made.executable) == 0
    assert current.lib.cuGraphLaunch(made.executable, made.stream.handle) != 0
    assert current.lib.cuGraphExecDestroy(made.executable) != 0
    assert len(current.cuda.violations) == 2


@pytest.mark.parametrize(
    ("mode", "here", "elsewhere"),
    [(GLOBAL, False, False), (THREAD_LOCAL, False, True), (RELAXED, True, True)],
)
def test_some_calls_spoil_a_capture(current: Played, mode: int, here: bool, elsewhere: bool) -> None:
    drv, lib = current.drv, current.lib

    def allocate() -> bool:
        current.context.push()
        try:
            drv.mem_alloc(4)
            return True
        except drv.LogicError as error:
            return "cuMemAlloc failed: operation not permitted when stream is capturing" not in str(error)
        finally:
            drv.Context.pop()

    for where, allowed in ((lambda call: call(), here), (in_thread, elsewhere)):
        stream, graph = drv.Stream(), ctypes.c_void_p()
        assert lib.cuStreamBeginCapture_v2(stream.handle, mode) == 0
        assert where(allocate) is allowed
        assert lib.cuStreamEndCapture(stream.handle, ctypes.byref(graph)) == (0 if allowed else 901)
        assert bool(graph.value) is allowed


@pytest.mark.parametrize("wait", ["stream", "context"])
def test_waiting_for_a_stream_that_is_captured_spoils_it(current: Played, wait: str) -> None:
    drv, lib = current.drv, current.lib
    stream, graph = drv.Stream(), ctypes.c_void_p(1)
    assert lib.cuStreamBeginCapture_v2(stream.handle, RELAXED) == 0
    with pytest.raises(drv.LogicError, match="not permitted when stream is capturing"):
        (stream if wait == "stream" else drv.Context).synchronize()
    with pytest.raises(drv.LogicError, match="due to a previous error during capture"):
        drv.memcpy_htod_async(drv.mem_alloc(16), numbers(), stream)
    assert lib.cuStreamEndCapture(stream.handle, ctypes.byref(graph)) == 901
    assert graph.value is None
    stream.synchronize()  # usable again


def test_captures_that_cannot_be(current: Played) -> None:
    lib, stream = current.lib, current.drv.Stream()
    graph = ctypes.c_void_p()
    assert lib.cuStreamBeginCapture_v2(0, THREAD_LOCAL) == 900  # the default stream
    assert lib.cuStreamEndCapture(stream.handle, ctypes.byref(graph)) == 1  # nothing was begun
    assert lib.cuStreamBeginCapture_v2(stream.handle, 7) == 1
    assert lib.cuStreamBeginCapture_v2(stream.handle, THREAD_LOCAL) == 0
    assert lib.cuStreamBeginCapture_v2(stream.handle, THREAD_LOCAL) == 1

    def end() -> object:
        current.context.push()
        try:
            return lib.cuStreamEndCapture(stream.handle, ctypes.byref(graph))
        finally:
            current.drv.Context.pop()

    assert in_thread(end) == 908
    assert lib.cuStreamEndCapture(stream.handle, ctypes.byref(graph)) == 0


def test_a_stream_that_was_destroyed_must_not_be_used(current: Played) -> None:
    stream = current.drv.Stream()
    handle = stream.handle
    del stream
    assert current.lib.cuStreamBeginCapture_v2(handle, THREAD_LOCAL) == 400
    assert "was destroyed or never existed" in current.cuda.violations[0]


@pytest.mark.parametrize("spec", [FakeJetson(faults=frozenset({"no_capture"}))])
def test_capture_can_be_made_to_fail(current: Played) -> None:
    stream = current.drv.Stream()
    assert current.lib.cuStreamBeginCapture_v2(stream.handle, THREAD_LOCAL) == 900
    stream.synchronize()


def test_graphs_need_a_current_context(current: Played) -> None:
    made = record(current)
    calls = (
        lambda: current.lib.cuStreamBeginCapture_v2(made.stream.handle, 1),
        lambda: current.lib.cuGraphLaunch(made.executable, made.stream.handle),
        lambda: current.lib.cuGraphExecDestroy(made.executable),
    )
    assert [in_thread(call) for call in calls] == [201, 201, 201]


# --- libcuda itself


def test_libcuda_answers_as_through_ctypes() -> None:
    with fake_jetson(FakeJetson(device_name="Orin")) as cuda:
        lib: Any = FakeLibcuda(cuda)
        number, name, text = ctypes.c_int(), ctypes.create_string_buffer(16), ctypes.c_char_p()
        lib.cuInit.argtypes = [ctypes.c_uint]
        lib.cuInit.restype = ctypes.c_int
        assert lib.cuDeviceGetCount(ctypes.byref(number)) == 3
        assert lib.cuInit(0) == 0
        assert lib.cuDeviceGetCount(ctypes.byref(number)) == 0
        assert number.value == 1
        assert lib.cuDeviceGet(ctypes.pointer(number), 0) == 0
        assert lib.cuDeviceGet(ctypes.byref(number), 1) == 101
        assert lib.cuDeviceGetName(name, 16, ctypes.c_int(0)) == 0
        assert name.value == b"Orin"
        assert lib.cuDeviceGetName(name, 3, 0) == 0
        assert name.value == b"Or"
        assert lib.cuDeviceGetAttribute(ctypes.byref(number), 75, 0) == 0
        assert number.value == 8
        assert lib.cuDeviceGetAttribute(ctypes.byref(number), 999, 0) == 1
        assert lib.cuDriverGetVersion(ctypes.byref(number)) == 0
        assert number.value == 12060
        assert lib.cuGetErrorString(100, ctypes.byref(text)) == 0
        assert text.value == b"no CUDA-capable device is detected"
        assert lib.cuGetErrorString(12345, ctypes.byref(text)) == 1
        assert text.value is None
        with pytest.raises(AttributeError, match="undefined symbol: cuMissing"):
            lib.cuMissing(1)
        assert cuda.calls["cuDeviceGet"] == 2
