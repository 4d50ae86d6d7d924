"""The real pycuda over a stand-in for the driver: what the TensorRT engine relies on, and what it must avoid.

`scripts/rehearse_pycuda.sh` builds both and runs these tests; elsewhere they are skipped.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.engines.cuda_tools import Context, current, in_a_thread, let_go, pushed, run_python
from tests.shim import hooks

# pycuda's class; it has no type information.
Stream: TypeAlias = Any

INVALIDATED = 901
UNSUPPORTED = 900
WRONG_THREAD = 908
GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2


LIBRARY = hooks.load()
if LIBRARY is None:
    pytest.skip(
        "needs the stand-in for libcuda: scripts/rehearse_pycuda.sh runs this", allow_module_level=True
    )


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return LIBRARY


@pytest.fixture(scope="module")
def driver(library: ctypes.CDLL) -> ModuleType:
    import pycuda.driver

    pycuda.driver.init()
    return pycuda.driver


@pytest.fixture
def context(driver: ModuleType, library: ctypes.CDLL) -> Iterator[Context]:
    """The primary context, not pushed; afterwards nothing may be left in it or current."""
    context = driver.Device(0).retain_primary_context()
    yield context
    left = {what: hooks.count(library, what) for what in ("blocks", "streams", "graphs", "faults")}
    let_go(context, library)
    assert left == dict.fromkeys(left, 0)
    assert hooks.count(library, "context references") == 0
    assert current(library) is None


def run_pycuda(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_python(f"import threading, pycuda.driver as driver\n{code}", **environment)


# --- Contexts ---


@pytest.mark.parametrize(
    "call",
    [
        lambda driver: driver.mem_alloc(16),
        lambda driver: driver.pagelocked_empty(16, np.uint8),
        lambda driver: driver.Stream(),
        lambda driver: driver.mem_get_info(),
        lambda driver: driver.Context.synchronize(),
        lambda driver: driver.Context.pop(),
    ],
    ids=["device memory", "page-locked memory", "stream", "free memory", "synchronise", "pop"],
)
def test_a_retained_context_is_not_current(
    driver: ModuleType, context: Context, call: Callable[[ModuleType], object]
) -> None:
    assert driver.Context.get_current() is None
    with pytest.raises(driver.LogicError, match="invalid device context"):
        call(driver)


def test_pushes_nest(driver: ModuleType, context: Context) -> None:
    with pushed(driver, context):
        with pushed(driver, context):
            driver.mem_get_info()
        driver.mem_get_info()
    assert driver.Context.get_current() is None


def test_a_push_concerns_its_thread_alone(driver: ModuleType, context: Context, library: ctypes.CDLL) -> None:
    with pushed(driver, context):

        def elsewhere() -> None:
            assert driver.Context.get_current() is None
            assert current(library) is None
            with pushed(driver, context):
                driver.mem_get_info()

        in_a_thread(elsewhere)
        driver.mem_get_info()


@pytest.mark.parametrize(
    "code",
    ["context.push()", "thread = threading.Thread(target=context.push); thread.start(); thread.join()"],
    ids=["at exit", "at a thread's end"],
)
def test_a_context_left_pushed_aborts_the_process(library: ctypes.CDLL, code: str) -> None:
    done = run_pycuda(f"driver.init()\ncontext = driver.Device(0).retain_primary_context()\n{code}\n")
    assert done.returncode == -signal.SIGABRT
    assert "context stack was not empty" in done.stderr


def test_a_context_object_is_detached_before_it_goes(library: ctypes.CDLL) -> None:
    """Its destructor calls a function that is not for primary contexts, and releases nothing."""
    left_alone = run_pycuda(
        "driver.init()\ncontext = driver.Device(0).retain_primary_context()\ndel context\n"
    )
    assert (left_alone.returncode, left_alone.stdout) == (0, "")
    assert "cuCtxDetach failed: invalid device context" in left_alone.stderr
    detached = run_pycuda(
        "driver.init()\ncontext = driver.Device(0).retain_primary_context()\ncontext.push()\n"
        "kept = driver.mem_alloc(16), driver.pagelocked_empty(4, 'u1'), driver.Stream()\n"
        "context.detach()\n"
    )
    assert (detached.returncode, detached.stdout, detached.stderr) == (0, "", "")


@pytest.mark.parametrize("pushed_first", [True, False])
def test_detach_leaves_the_context_current_in_the_driver(
    driver: ModuleType, library: ctypes.CDLL, pushed_first: bool
) -> None:
    context = driver.Device(0).retain_primary_context()
    if pushed_first:
        context.push()
    context.detach()
    assert driver.Context.get_current() is None
    assert current(library) is not None
    assert library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p())) == 0


def test_detach_in_another_thread_releases_only_if_pushed(driver: ModuleType, library: ctypes.CDLL) -> None:
    first, second = (driver.Device(0).retain_primary_context() for _ in range(2))
    in_a_thread(first.detach)
    assert hooks.count(library, "context references") == 2
    in_a_thread(lambda: let_go(second, library))
    assert hooks.count(library, "context references") == 1
    assert library.cuDevicePrimaryCtxRelease_v2(0) == 0


def test_without_a_device_init_fails(library: ctypes.CDLL) -> None:
    done = run_pycuda(
        "try:\n    driver.init()\nexcept driver.RuntimeError as error:\n    print(error)\n",
        SHIM_CUDA_DEVICES="0",
    )
    assert done.stdout == "cuInit failed: no CUDA-capable device is detected\n"


# --- Memory ---


def test_buffers_are_freed_in_any_thread_that_pushed_their_context(
    driver: ModuleType, context: Context
) -> None:
    with pushed(driver, context):
        device = driver.mem_alloc(16)
        host = driver.pagelocked_empty((2, 3), np.float32)

    def free() -> None:
        with pushed(driver, context):
            device.free()
            host.base.free()

    in_a_thread(free)


def test_a_second_object_of_the_same_context_does_not_do(
    driver: ModuleType, context: Context, library: ctypes.CDLL
) -> None:
    with pushed(driver, context):
        device = driver.mem_alloc(16)
    address = int(device)
    second = driver.Device(0).retain_primary_context()
    assert second == context

    def free() -> None:
        with pushed(driver, second), pytest.warns(UserWarning, match="could not be cleaned up"):
            device.free()

    in_a_thread(free)
    assert hooks.count(library, "blocks") == 1
    let_go(second, library)
    with pushed(driver, context):
        assert library.cuMemFree_v2(ctypes.c_uint64(address)) == 0


def test_buffers_are_shaped_and_freed_once(driver: ModuleType, context: Context) -> None:
    with pushed(driver, context):
        device = driver.mem_alloc(16)
        host = driver.pagelocked_empty((2, 3), np.float32)
        assert (host.shape, host.dtype, host.flags.c_contiguous) == ((2, 3), np.float32, True)
        assert host.ctypes.data % 256 == 0
        for buffer in (device, host.base):
            buffer.free()
            with pytest.raises(driver.LogicError, match="free failed"):
                buffer.free()


def test_mapped_memory_has_an_address_on_the_device(
    driver: ModuleType, context: Context, library: ctypes.CDLL
) -> None:
    with pushed(driver, context):
        mapped = driver.pagelocked_empty((2, 3), np.uint8, mem_flags=driver.host_alloc_flags.DEVICEMAP)
        address = mapped.base.get_device_pointer()
        mapped[...] = 7
        assert bytes(hooks.device_bytes(library, address, mapped.nbytes)) == b"\7" * 6
        mapped.base.free()
        plain = driver.pagelocked_empty((2, 3), np.uint8)
        with pytest.raises(driver.LogicError, match="invalid argument"):
            plain.base.get_device_pointer()
        plain.base.free()


def test_a_host_address_is_none_of_the_device(
    driver: ModuleType, context: Context, library: ctypes.CDLL
) -> None:
    with pushed(driver, context):
        host = driver.pagelocked_empty(4, np.uint8)
        with pytest.raises(ValueError, match="not the device's"):
            hooks.device_bytes(library, host.ctypes.data, host.nbytes)
        host.base.free()
    assert "not (or no longer) the device's" in hooks.take_fault(library)


def test_out_of_memory_is_an_error_of_its_own(
    driver: ModuleType, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIM_CUDA_MEMORY_MIB", "1")
    with pushed(driver, context):
        assert driver.mem_get_info() == (1 << 20, 1 << 20)
        kept = driver.mem_alloc(1 << 20)
        with pytest.raises(driver.MemoryError, match="out of memory"):
            driver.mem_alloc(1)
        with pytest.raises(driver.MemoryError, match="out of memory"):
            driver.pagelocked_empty(1, np.uint8)
        kept.free()
    assert issubclass(driver.MemoryError, driver.Error)
    assert not issubclass(driver.MemoryError, MemoryError)


# --- Streams ---


def test_copies_wait_for_synchronise(driver: ModuleType, context: Context) -> None:
    with pushed(driver, context):
        source, target = (driver.pagelocked_empty((2, 3), np.uint8) for _ in range(2))
        device, stream = driver.mem_alloc(6), driver.Stream(1)
        source[...] = 5
        target[...] = 0
        driver.memcpy_htod_async(device, source, stream)
        driver.memcpy_dtoh_async(target, device, stream)
        assert not stream.is_done()
        assert not target.any()
        stream.synchronize()
        assert stream.is_done()
        assert (target == 5).all()
        for buffer in (device, source.base, target.base):
            buffer.free()
        del stream


def test_copies_of_ordinary_memory_are_done_at_once(driver: ModuleType, context: Context) -> None:
    with pushed(driver, context):
        device, stream, target = driver.mem_alloc(6), driver.Stream(1), np.zeros(6, np.uint8)
        driver.memcpy_htod_async(device, np.full(6, 5, np.uint8), stream)
        driver.memcpy_dtoh_async(target, device, stream)
        assert (target == 5).all()
        device.free()
        del stream


def test_other_threads_run_during_synchronise(
    driver: ModuleType, context: Context, library: ctypes.CDLL
) -> None:
    libc = ctypes.CDLL(None)
    semaphore = ctypes.create_string_buffer(64)
    assert libc.sem_init(semaphore, 0, 0) == 0
    inside = threading.Event()
    with pushed(driver, context):
        stream = driver.Stream(1)
        kept = hooks.queue_function(library, stream.handle, inside.set)
        waits = ctypes.cast(libc.sem_wait, ctypes.c_void_p)
        assert library.cuLaunchHostFunc(stream.handle, waits, semaphore) == 0

    def synchronise(stream: Stream) -> None:
        with pushed(driver, context):
            stream.synchronize()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(synchronise, stream)
        assert inside.wait(60)
        assert libc.sem_post(semaphore) == 0
        done.result(60)
    with pushed(driver, context):
        del stream
    assert kept


def test_queued_work_on_a_freed_buffer_is_an_error(
    driver: ModuleType, context: Context, library: ctypes.CDLL
) -> None:
    with pushed(driver, context):
        host = driver.pagelocked_empty(6, np.uint8)
        device, stream = driver.mem_alloc(6), driver.Stream(1)
        driver.memcpy_htod_async(device, host, stream)
        device.free()
        with pytest.raises(driver.LogicError, match="illegal memory access"):
            stream.synchronize()
        host.base.free()
        del stream
    assert hooks.take_fault(library) == "a queued copy touched memory that had been freed"


def test_a_stream_dropped_with_work_in_it_is_a_fault(
    driver: ModuleType, context: Context, library: ctypes.CDLL
) -> None:
    with pushed(driver, context):
        host = driver.pagelocked_empty(6, np.uint8)
        device, stream = driver.mem_alloc(6), driver.Stream(1)
        driver.memcpy_htod_async(device, host, stream)
        del stream
        device.free()
        host.base.free()
    assert hooks.take_fault(library) == "a stream was destroyed with work in it"


def test_a_context_released_before_its_memory_is_a_fault(driver: ModuleType, library: ctypes.CDLL) -> None:
    context = driver.Device(0).retain_primary_context()
    with pushed(driver, context):
        device = driver.mem_alloc(6)
    let_go(context, library)
    assert "released while memory" in hooks.take_fault(library)
    device.free()  # says nothing: pycuda knows that the context is gone


# --- Stream capture ---


@contextmanager
def doubling(
    driver: ModuleType, library: ctypes.CDLL, context: Context
) -> Iterator[tuple[Stream, NDArray[np.uint8], Callable[[], None]]]:
    """Yield a stream, a mapped buffer, and what queues work on the device that doubles the buffer."""
    kept: list[object] = []
    with pushed(driver, context):
        stream = driver.Stream(1)
        mapped = driver.pagelocked_empty(4, np.uint8, mem_flags=driver.host_alloc_flags.DEVICEMAP)
        address = mapped.base.get_device_pointer()
        mapped[...] = 1

        def double() -> None:
            memory = np.frombuffer(hooks.device_bytes(library, address, 4), np.uint8)
            np.multiply(memory, 2, out=memory)

        handle = stream.handle
        yield stream, mapped, lambda: kept.append(hooks.queue_function(library, handle, double))
        mapped.base.free()


def handle_of(stream: Stream) -> ctypes.c_void_p:
    return ctypes.c_void_p(stream.handle)


def end_capture(library: ctypes.CDLL, stream: Stream) -> tuple[int, ctypes.c_void_p]:
    graph = ctypes.c_void_p()
    return library.cuStreamEndCapture(handle_of(stream), ctypes.byref(graph)), graph


def test_a_captured_run_is_launched_again(driver: ModuleType, context: Context, library: ctypes.CDLL) -> None:
    with doubling(driver, library, context) as (stream, mapped, queue_doubling):
        status = ctypes.c_int()
        assert library.cuStreamBeginCapture_v2(handle_of(stream), THREAD_LOCAL) == 0
        queue_doubling()
        assert library.cuStreamIsCapturing(handle_of(stream), ctypes.byref(status)) == 0
        assert status.value == 1
        result, graph = end_capture(library, stream)
        assert result == 0
        executable = ctypes.c_void_p()
        assert library.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_uint64(0)) == 0
        assert library.cuGraphDestroy(graph) == 0
        stream.synchronize()
        assert (mapped == 1).all()  # captured, not run
        for expected in (2, 4):
            assert library.cuGraphLaunch(executable, handle_of(stream)) == 0
            stream.synchronize()
            assert (mapped == expected).all()
        assert library.cuGraphExecDestroy(executable) == 0


@pytest.mark.parametrize("mode", [GLOBAL, THREAD_LOCAL])
def test_allocating_breaks_a_capture(
    driver: ModuleType, context: Context, library: ctypes.CDLL, mode: int
) -> None:
    with doubling(driver, library, context) as (stream, mapped, queue_doubling):
        assert library.cuStreamBeginCapture_v2(handle_of(stream), mode) == 0
        with pytest.raises(driver.LogicError, match="not permitted when stream is capturing"):
            driver.mem_alloc(16)
        assert end_capture(library, stream)[0] == INVALIDATED
        queue_doubling()  # the stream works again
        stream.synchronize()
        assert (mapped == 2).all()


@pytest.mark.parametrize(("mode", "result"), [(GLOBAL, INVALIDATED), (THREAD_LOCAL, 0), (RELAXED, 0)])
def test_only_a_global_capture_is_broken_by_another_thread(
    driver: ModuleType, context: Context, library: ctypes.CDLL, mode: int, result: int
) -> None:
    def allocate() -> None:
        with pushed(driver, context):
            driver.mem_alloc(16).free()

    with doubling(driver, library, context) as (stream, _mapped, queue_doubling):
        assert library.cuStreamBeginCapture_v2(handle_of(stream), mode) == 0
        queue_doubling()
        if result:
            with pytest.raises(driver.LogicError, match="not permitted when stream is capturing"):
                in_a_thread(allocate)
        else:
            in_a_thread(allocate)
        ended, graph = end_capture(library, stream)
        assert ended == result
        assert library.cuGraphDestroy(graph) == (1 if result else 0)


def test_synchronise_breaks_a_capture(driver: ModuleType, context: Context, library: ctypes.CDLL) -> None:
    with doubling(driver, library, context) as (stream, _mapped, queue_doubling):
        assert library.cuStreamBeginCapture_v2(handle_of(stream), RELAXED) == 0
        queue_doubling()
        with pytest.raises(driver.LogicError, match="not permitted when stream is capturing"):
            stream.synchronize()
        assert end_capture(library, stream)[0] == INVALIDATED


def test_a_capture_ends_in_its_own_thread(driver: ModuleType, context: Context, library: ctypes.CDLL) -> None:
    with doubling(driver, library, context) as (stream, _mapped, _queue):
        assert library.cuStreamBeginCapture_v2(handle_of(stream), THREAD_LOCAL) == 0

        def end() -> int:
            with pushed(driver, context):
                return end_capture(library, stream)[0]

        assert in_a_thread(end) == WRONG_THREAD
        result, graph = end_capture(library, stream)
        assert result == 0
        assert library.cuGraphDestroy(graph) == 0


def test_the_default_stream_is_not_captured(
    driver: ModuleType, context: Context, library: ctypes.CDLL
) -> None:
    with pushed(driver, context):
        assert library.cuStreamBeginCapture_v2(None, RELAXED) == UNSUPPORTED
