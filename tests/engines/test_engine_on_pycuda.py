"""`TensorrtEngine` on the real pycuda, over a stand-in for the driver and with a fake TensorRT.

What is pycuda's own is real here: which thread may free what, what stays when a context goes, what ends a
process. `scripts/rehearse_pycuda.sh` builds pycuda and the stand-in and runs these tests; elsewhere they are
skipped.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.zoo.graph_store import build_untrained
from engines import EngineError
from engines.errors import DeviceMemoryError, PlanError
from engines.fake_jetson.jetson import FakeJetson
from engines.tensorrt.cuda import PrimaryContext, import_pycuda
from engines.tensorrt.engine import TensorrtEngine
from engines.tensorrt.probe import probe
from tests.engines.cuda_tools import current, in_a_thread, let_go, pushed, run_python
from tests.engines.test_tensorrt_engine import (
    GRAPH,
    MAPPED,
    WAIT_S,
    check_outputs,
    expected,
    plan_of,
    small_feeds,
    small_graph,
)
from tests.shim import hooks
from tests.shim.tensorrt_on_shim import ShimDevice, fake_tensorrt

LIBRARY = hooks.load()
if LIBRARY is None:
    pytest.skip(
        "needs the stand-in for libcuda: scripts/rehearse_pycuda.sh runs this", allow_module_level=True
    )

RUNS = 3
IN_A_PROCESS = """
import sys
from pathlib import Path
from engines.tensorrt.engine import TensorrtEngine
from tests.shim import hooks
from tests.shim.tensorrt_on_shim import install

device = install(hooks.load())
engine = TensorrtEngine(Path(sys.argv[1]).read_bytes())
outputs = engine.run(engine.input_buffers)
"""


@pytest.fixture
def device() -> Iterator[ShimDevice]:
    """A device on which nothing may go wrong, and nothing may be left in the end."""
    with fake_tensorrt(LIBRARY) as device:
        yield device
        assert device.record.violations == []
        left = device.left()
        assert left == dict.fromkeys(left, 0)


def open_engine(**options: Any) -> TensorrtEngine:  # noqa: ANN401 - as the engine has them
    return TensorrtEngine(plan_of(small_graph()), **options)


def run_and_check(engine: TensorrtEngine, first: int = 0) -> None:
    """Run the small graph on several inputs; results must be those of ONNX Runtime."""
    for number in range(first, first + RUNS):
        feeds = small_feeds(number)
        check_outputs(engine.run(feeds), small_graph(), feeds)


# --- Results and threads ---


@GRAPH
@MAPPED
@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "11.4.0.106"])
def test_outputs_are_those_of_onnx_runtime(version: str, mapped: bool, cuda_graph: bool) -> None:
    with fake_tensorrt(LIBRARY, FakeJetson(version)) as device:
        engine = open_engine(mapped=mapped, cuda_graph=cuda_graph)
        assert (engine.mapped, engine.uses_graph) == (mapped, cuda_graph)
        with engine._context.current():
            assert engine._stream.is_done()
        made = hooks.count(LIBRARY, "allocations made")
        run_and_check(engine)
        assert hooks.count(LIBRARY, "allocations made") == made
        assert device.record.calls["execute_async_v3"] == (2 if cuda_graph else 1 + RUNS)
        engine.close()
        assert set(device.left().values()) == {0}


def test_a_network_runs_on_its_input_buffer(device: ShimDevice) -> None:
    graph = build_untrained(ClassifierSpec(10, (64, 64), 0.35))
    engine = TensorrtEngine(plan_of(graph))
    for number in range(RUNS):
        image = np.random.default_rng(number).integers(0, 256, (1, 64, 64, 3), np.uint8)
        engine.input_buffers["image"][:] = image
        check_outputs(engine.run(engine.input_buffers), graph, {"image": image})
    engine.close()


@pytest.mark.parametrize(("integrated", "capability", "mapped"), [(1, 87, 1), (1, 53, 0), (0, 89, 0)])
def test_buffers_suit_the_device(
    device: ShimDevice, monkeypatch: pytest.MonkeyPatch, integrated: int, capability: int, mapped: int
) -> None:
    monkeypatch.setenv("SHIM_CUDA_INTEGRATED", str(integrated))
    monkeypatch.setenv("SHIM_CUDA_CAPABILITY", str(capability))
    engine = open_engine()
    assert engine.mapped is bool(mapped)
    run_and_check(engine)
    engine.close()


@GRAPH
@MAPPED
def test_each_step_of_its_life_in_a_thread_that_ends(
    device: ShimDevice, mapped: bool, cuda_graph: bool
) -> None:
    engine = in_a_thread(lambda: open_engine(mapped=mapped, cuda_graph=cuda_graph))
    for number in range(RUNS):
        in_a_thread(lambda number=number: run_and_check(engine, number))
    in_a_thread(engine.close)


@GRAPH
@MAPPED
def test_many_threads_use_one_engine(device: ShimDevice, mapped: bool, cuda_graph: bool) -> None:
    """The outputs are everybody's, so whoever reads them keeps the others out."""
    engine = open_engine(mapped=mapped, cuda_graph=cuda_graph)
    turn, busy, is_closed = threading.Lock(), threading.Semaphore(0), threading.Event()

    def work(first: int) -> None:
        for number in range(first, first + 10_000):
            with turn:
                if is_closed.is_set():
                    return
                check_outputs(engine.run(small_feeds(number)), small_graph(), small_feeds(number))
            if number == first + RUNS:
                busy.release()
        raise AssertionError("the engine was never closed")

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, 10_000 * number) for number in range(4)]
        is_busy = [busy.acquire(timeout=WAIT_S) for _ in working]
        with turn:
            engine.close()
            is_closed.set()
        for each in working:
            each.result(WAIT_S)
    assert all(is_busy)


def test_two_engines_run_at_once(device: ShimDevice) -> None:
    plan, start = plan_of(small_graph()), threading.Barrier(2)

    def work(first: int) -> None:
        start.wait(WAIT_S)
        engine = TensorrtEngine(plan)
        for number in range(first, first + 5 * RUNS, RUNS):
            run_and_check(engine, number)
        engine.close()

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(work, first) for first in (0, 50)]:
            future.result(WAIT_S)


@MAPPED
def test_two_engines_take_turns(device: ShimDevice, mapped: bool) -> None:
    first, second = open_engine(mapped=mapped), open_engine(mapped=mapped)
    kept = first.run(small_feeds(1))
    run_and_check(second)
    check_outputs(kept, small_graph(), small_feeds(1))
    first.close()
    run_and_check(second)
    second.close()


def test_one_after_another(device: ShimDevice) -> None:
    for _ in range(RUNS):
        engine = open_engine()
        run_and_check(engine)
        engine.close()
        engine.close()
        left = device.left()
        assert left == dict.fromkeys(left, 0)


def test_what_the_caller_has_pushed_stays_current(device: ShimDevice) -> None:
    driver = import_pycuda()
    context = driver.Device(0).retain_primary_context()
    with pushed(driver, context):
        engine = open_engine()
        run_and_check(engine)
        engine.close()
        assert driver.Context.get_current() == context
        driver.mem_get_info()
    let_go(context, LIBRARY)


# --- Capture ---


@MAPPED
@pytest.mark.parametrize("is_told", [True, False], ids=["and says so", "and keeps quiet"])
def test_where_a_plan_spoils_the_capture_runs_are_plain(mapped: bool, is_told: bool) -> None:
    with fake_tensorrt(LIBRARY, FakeJetson(can_capture=False)) as device:
        if not is_told:
            execute = device.module.IExecutionContext.execute_async_v3
            device.module.IExecutionContext.execute_async_v3 = lambda *arguments: execute(*arguments) or True
        engine = open_engine(mapped=mapped)
        assert not engine.uses_graph
        assert hooks.count(LIBRARY, "graphs") == 0
        run_and_check(engine)
        engine.close()
        assert set(device.left().values()) == {0}


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_another_thread_may_allocate_while_a_run_is_recorded(device: ShimDevice, cuda_graph: bool) -> None:
    driver = import_pycuda()
    context = driver.Device(0).retain_primary_context()
    execution = device.module.IExecutionContext
    execute = execution.execute_async_v3

    def allocate() -> None:
        with pushed(driver, context):
            driver.mem_alloc(16).free()

    def execute_meanwhile(*arguments: Any) -> bool:  # noqa: ANN401 - as the fake has them
        in_a_thread(allocate)
        return bool(execute(*arguments))

    execution.execute_async_v3 = execute_meanwhile
    engine = open_engine(cuda_graph=cuda_graph)
    assert engine.uses_graph is cuda_graph
    run_and_check(engine)
    engine.close()
    let_go(context, LIBRARY)


# --- What fails ---


@MAPPED
def test_out_of_memory_at_each_allocation(
    device: ShimDevice, monkeypatch: pytest.MonkeyPatch, mapped: bool
) -> None:
    plan = plan_of(small_graph())
    engine, allocations = None, -1
    while engine is None:
        allocations += 1
        made = hooks.count(LIBRARY, "allocations made")
        monkeypatch.setenv("SHIM_CUDA_ALLOCATIONS", str(made + allocations))
        try:
            engine = TensorrtEngine(plan, mapped=mapped)
        except DeviceMemoryError:
            # Nothing is left although the error, with all its frames, is still there.
            left = device.left()
            assert left == dict.fromkeys(left, 0), allocations
    assert allocations == 2 + (4 if mapped else 8)  # for TensorRT; per tensor
    monkeypatch.delenv("SHIM_CUDA_ALLOCATIONS")
    run_and_check(engine)
    engine.close()


def test_a_plan_that_does_not_load_leaves_nothing(device: ShimDevice) -> None:
    with pytest.raises(PlanError, match="Magic tag"):
        TensorrtEngine(b"no plan")


def spoil(engine: TensorrtEngine) -> None:
    """Queue work on an engine's stream that will access memory that is gone by then."""
    driver = import_pycuda()
    with engine._context.current():
        memory, host = driver.mem_alloc(16), driver.pagelocked_empty(16, np.uint8)
        driver.memcpy_htod_async(memory, host, engine._stream)
        memory.free()
        host.base.free()


@GRAPH
@MAPPED
def test_a_device_that_fails_in_a_run(device: ShimDevice, mapped: bool, cuda_graph: bool) -> None:
    engine = open_engine(mapped=mapped, cuda_graph=cuda_graph)
    spoil(engine)
    with pytest.raises(EngineError, match="illegal memory access"):
        engine.run(small_feeds(0))
    assert "freed" in hooks.take_fault(LIBRARY)
    assert current(LIBRARY) is None
    engine.close()


@GRAPH
@MAPPED
def test_a_device_that_fails_while_closing(device: ShimDevice, mapped: bool, cuda_graph: bool) -> None:
    engine = open_engine(mapped=mapped, cuda_graph=cuda_graph)
    spoil(engine)
    with pytest.raises(EngineError, match="illegal memory access"):
        in_a_thread(engine.close)
    assert "freed" in hooks.take_fault(LIBRARY)
    left = device.left()
    assert left == dict.fromkeys(left, 0)


# --- What stays, and the end of the process ---


@MAPPED
def test_a_view_that_was_kept_can_be_read_after_closing(device: ShimDevice, mapped: bool) -> None:
    engine = open_engine(mapped=mapped)
    kept = engine.run(small_feeds(1))["levels"][0]
    address = kept.ctypes.data
    engine.close()
    np.testing.assert_array_equal(kept, expected(small_graph(), small_feeds(1))["levels"][0])
    # Its memory is what is left, and pycuda frees nothing of a context that was given back.
    del kept
    left = device.left()
    assert left.pop("blocks") == 1
    assert set(left.values()) == {0}
    context = PrimaryContext()
    with context.current():
        assert LIBRARY.cuMemFreeHost(ctypes.c_void_p(address)) == 0
    context.close()


@pytest.mark.parametrize("end", ["engine.close()", "import threading; THREAD(engine.close)"])
def test_a_process_that_used_it_ends_quietly(device: ShimDevice, tmp_path: Path, end: str) -> None:
    plan = tmp_path / "small.plan"
    plan.write_bytes(plan_of(small_graph()))
    thread = "def THREAD(do):\n    thread = threading.Thread(target=do); thread.start(); thread.join()\n"
    done = run_python(
        f"{thread}{IN_A_PROCESS}{end}\nprint(set(device.left().values()))",
        str(plan),
        PYTHONWARNINGS="error",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{0}\n", "")


# --- The probe ---


def test_the_probe_names_the_device(device: ShimDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIM_CUDA_CAPABILITY", "72")
    found = probe()
    assert found.missing is None
    assert [step.subject for step in found.steps] == [
        "NVIDIA driver",
        "pycuda",
        "TensorRT",
        "device",
        "TensorRT version",
    ]
    assert found.device is not None
    assert (found.device.name, found.device.compute_capability) == ("Host memory stand-in", (7, 2))
    assert found.device.sm_count == import_pycuda().Device(0).multiprocessor_count
    assert found.version == "10.3.0"
    assert hooks.count(LIBRARY, "context references") == 0


def test_the_probe_explains_a_device_that_is_gone(
    device: ShimDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIM_CUDA_DEVICES", "0")
    missing = probe().missing
    assert missing is not None
    assert "no CUDA-capable device is detected (100)" in missing.problem
