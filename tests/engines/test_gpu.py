"""pycuda and TensorRT on an NVIDIA GPU: contexts, memory, streams, graphs, and whole engines.

What a driver, a GPU and TensorRT really do is seen here alone; without them these tests are skipped.
`scripts/rehearse_pycuda.sh` runs them over the stand-in for the driver, with a fake TensorRT: that shows that
the tests work, and nothing of a GPU.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_mnv2.backends import open_onnx, synthetic_frames
from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.parity import compare_engines
from edge_mnv2.zoo.catalogue import CATALOGUE
from edge_mnv2.zoo.graph_store import Precision, build_graph
from edge_mnv2.zoo.model import load_model
from engines import BackendUnavailableError, EngineError, TensorSpec
from engines.errors import DeviceMemoryError
from engines.tensorrt import driver
from engines.tensorrt.cuda import Buffer, PrimaryContext, import_pycuda
from engines.tensorrt.engine import TensorrtEngine
from engines.tensorrt.graph_capture import CudaGraph
from engines.tensorrt.network_builder import MIB, BuildJob, build_plan, needs_typed_graph
from engines.tensorrt.probe import import_tensorrt, probe
from tests.engines.cuda_tools import current, in_a_thread, run_python
from tests.shim import hooks
from tests.shim.tensorrt_on_shim import fake_tensorrt

# Versions of TensorRT differ in what they call deprecated.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

try:
    LIBRARY = driver.open_driver()
    DEVICE = driver.first_device(LIBRARY)
    import_pycuda()
except EngineError as missing:
    pytest.skip(f"needs an NVIDIA GPU, and pycuda: {missing}", allow_module_level=True)

STAND_IN = hooks.load()
WAIT_S = 60.0
PICTURE = TensorSpec("picture", (1, 300, 300, 3), np.dtype(np.uint8))
SCORES = TensorSpec("scores", (1, 1917, 91), np.dtype(np.float32))
MAPPED = pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "copied"])
GRAPH = pytest.mark.parametrize("cuda_graph", [True, False], ids=["graph", "plain"])
DETECTOR = "ssdlite-mnv2-coco"


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """What can be seen of leaks: on a GPU, that no context stays current."""
    yield
    assert current(LIBRARY) is None
    if STAND_IN is not None:
        kinds = ("blocks", "streams", "graphs", "faults", "context references")
        assert {kind: hooks.count(STAND_IN, kind) for kind in kinds} == dict.fromkeys(kinds, 0)


@pytest.fixture
def primary() -> Iterator[PrimaryContext]:
    """The primary context, current nowhere."""
    context = PrimaryContext()
    yield context
    context.close()


def values(spec: TensorSpec, seed: int) -> NDArray[Any]:
    """Return random values for a tensor."""
    random = np.random.default_rng(seed).integers(0, 256, spec.shape)
    return np.asarray(random.astype(spec.dtype))


# --- The device ---


def test_the_driver_and_pycuda_see_the_same_device(primary: PrimaryContext) -> None:
    pycuda = import_pycuda()
    device = pycuda.Device(0)
    assert device.name() == DEVICE.name
    assert device.compute_capability() == DEVICE.compute_capability
    assert device.get_attribute(pycuda.device_attribute.MULTIPROCESSOR_COUNT) == DEVICE.sm_count
    version = pycuda.get_driver_version()
    assert f"{version // 1000}.{version % 1000 // 10}" == DEVICE.driver_version
    is_integrated = bool(device.get_attribute(pycuda.device_attribute.INTEGRATED))
    assert primary.prefers_mapped() == (is_integrated and DEVICE.compute_capability >= (7, 2))
    with primary.current():
        assert 0 < primary.free_bytes() <= device.total_memory()


def test_the_probe_finds_it() -> None:
    """It names the device, or says that TensorRT is all that is missing."""
    found = probe()
    assert [step.subject for step in found.steps[:3]] == ["NVIDIA driver", "pycuda", "TensorRT"]
    if found.missing is None:
        assert found.device == DEVICE
        assert found.version == import_tensorrt().__version__
    else:
        assert found.missing.subject.lower().startswith("tensorrt")
        with pytest.raises(BackendUnavailableError, match="TensorRT cannot run here"):
            import_tensorrt()


# --- Contexts ---


def test_a_context_is_current_within_its_block_alone(primary: PrimaryContext) -> None:
    pycuda = import_pycuda()
    with primary.current():
        with primary.current():
            assert current(LIBRARY) is not None
            assert in_a_thread(lambda: current(LIBRARY)) is None
        assert current(LIBRARY) is not None
    assert current(LIBRARY) is None
    with pytest.raises(pycuda.LogicError, match="invalid device context"):
        pycuda.mem_get_info()


def test_threads_work_in_one_context_at_once(primary: PrimaryContext) -> None:
    start = threading.Barrier(4)

    def work(seed: int) -> None:
        start.wait(WAIT_S)
        for number in range(seed, seed + 20):
            with primary.current():
                send_and_fetch(primary, SCORES, number)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, 100 * number) for number in range(4)]:
            future.result(WAIT_S)


def test_a_thread_that_fails_leaves_nothing_current(primary: PrimaryContext) -> None:
    def fail() -> int | None:
        with pytest.raises(ZeroDivisionError), primary.current():
            raise ZeroDivisionError
        return current(LIBRARY)

    assert in_a_thread(fail) is None


def test_two_hold_the_context_and_one_lets_go() -> None:
    first, second = PrimaryContext(), PrimaryContext()
    with first.current():
        send_and_fetch(first, SCORES, 1)
        with second.current():
            send_and_fetch(second, SCORES, 2)
        send_and_fetch(first, SCORES, 3)
    first.close()
    first.close()
    with second.current():
        send_and_fetch(second, SCORES, 4)
    second.close()


def test_each_step_of_a_context_in_a_thread_that_ends() -> None:
    context = in_a_thread(PrimaryContext)

    def use(seed: int) -> None:
        with context.current():
            send_and_fetch(context, SCORES, seed)

    for seed in range(3):
        in_a_thread(lambda seed=seed: use(seed))

    def close() -> int | None:
        context.close()
        return current(LIBRARY)

    assert in_a_thread(close) is None


def test_a_process_that_used_a_context_ends_quietly() -> None:
    code = (
        "from engines.tensorrt.cuda import PrimaryContext\ncontext = PrimaryContext()\n"
        "with context.current():\n    print(context.free_bytes() > 0)\ncontext.close()\n"
    )
    done = run_python(code, PYTHONWARNINGS="error")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


# --- Memory and streams ---


def send_and_fetch(context: PrimaryContext, spec: TensorSpec, seed: int) -> None:
    """Copy values to the device and back; the context is current."""
    buffer = context.allocate(spec, mapped=False)
    assert not buffer.host.any()
    assert buffer.address % 256 == 0
    send_and_fetch_by(context, context.make_stream(), buffer, seed)


def send_and_fetch_by(context: PrimaryContext, stream: Any, buffer: Buffer, seed: int) -> None:  # noqa: ANN401
    """Copy values to a buffer on the device and back; the context is current."""
    buffer.host[...] = values(buffer.spec, seed)
    context.upload(buffer, stream)
    stream.synchronize()
    buffer.host.fill(0)
    context.download(buffer, stream)
    stream.synchronize()
    np.testing.assert_array_equal(buffer.host, values(buffer.spec, seed))


@pytest.mark.parametrize("spec", [PICTURE, SCORES], ids=str)
def test_copied_buffers_keep_what_is_sent(primary: PrimaryContext, spec: TensorSpec) -> None:
    with primary.current():
        for seed in range(3):
            send_and_fetch(primary, spec, seed)


@pytest.mark.parametrize("spec", [PICTURE, SCORES], ids=str)
def test_the_device_sees_mapped_buffers(primary: PrimaryContext, spec: TensorSpec) -> None:
    def use() -> None:
        pycuda, stream = import_pycuda(), primary.make_stream()
        mapped, copied = (primary.allocate(spec, mapped=mapped) for mapped in (True, False))
        assert mapped.twin is None
        assert mapped.address % 256 == 0
        mapped.host[...] = values(spec, 1)
        pycuda.memcpy_dtoh_async(copied.host, mapped.address, stream)
        stream.synchronize()
        np.testing.assert_array_equal(copied.host, values(spec, 1))
        copied.host[...] = values(spec, 2)
        pycuda.memcpy_htod_async(mapped.address, copied.host, stream)
        stream.synchronize()
        np.testing.assert_array_equal(mapped.host, values(spec, 2))

    with primary.current():
        use()


@MAPPED
def test_buffers_are_freed_in_another_thread(primary: PrimaryContext, mapped: bool) -> None:
    buffers = []
    with primary.current():
        buffers.append(primary.allocate(SCORES, mapped=mapped))

    def free() -> None:
        with primary.current():
            buffers.clear()

    in_a_thread(free)


def test_out_of_memory_is_an_error_of_its_own(primary: PrimaryContext) -> None:
    pycuda = import_pycuda()
    with pytest.raises(DeviceMemoryError, match="out of memory"), primary.current():
        pycuda.mem_alloc(2 * pycuda.Device(0).total_memory())
    with primary.current():  # and it does no harm
        send_and_fetch(primary, SCORES, 1)


# --- Graphs ---


def test_a_recorded_run_is_launched_again(primary: PrimaryContext) -> None:
    def use() -> None:
        pycuda, stream = import_pycuda(), primary.make_stream()
        sent, fetched = (primary.allocate(SCORES, mapped=False) for _ in range(2))

        def enqueue() -> None:
            primary.upload(sent, stream)
            pycuda.memcpy_dtoh_async(fetched.host, sent.twin, stream)

        enqueue()
        stream.synchronize()
        sent.host.fill(1)
        graph = CudaGraph(LIBRARY, int(stream.handle), enqueue)
        stream.synchronize()
        assert not fetched.host.any()  # recorded, not run
        for seed in range(3):
            sent.host[...] = values(SCORES, seed)
            graph.launch()
            stream.synchronize()
            np.testing.assert_array_equal(fetched.host, values(SCORES, seed))
        graph.close()
        graph.close()

    with primary.current():
        use()


def test_a_recorded_run_is_launched_in_any_thread(primary: PrimaryContext) -> None:
    kept: list[Any] = []

    def record() -> None:
        with primary.current():
            stream, buffer = primary.make_stream(), primary.allocate(SCORES, mapped=False)
            buffer.host[...] = values(SCORES, 1)
            primary.upload(buffer, stream)
            stream.synchronize()
            graph = CudaGraph(LIBRARY, int(stream.handle), lambda: primary.download(buffer, stream))
            buffer.host.fill(0)
            kept.extend([graph, buffer, stream])

    def launch() -> None:
        with primary.current():
            graph, buffer, stream = kept
            graph.launch()
            stream.synchronize()
            np.testing.assert_array_equal(buffer.host, values(SCORES, 1))
            graph.close()
            kept.clear()
            del graph, buffer, stream

    in_a_thread(record)
    in_a_thread(launch)


def test_another_thread_may_allocate_while_a_run_is_recorded(primary: PrimaryContext) -> None:
    def allocate() -> None:
        with primary.current():
            send_and_fetch(primary, SCORES, 2)

    def use() -> None:
        stream, buffer = primary.make_stream(), primary.allocate(SCORES, mapped=False)

        def enqueue() -> None:
            primary.upload(buffer, stream)
            in_a_thread(allocate)
            primary.download(buffer, stream)

        graph = CudaGraph(LIBRARY, int(stream.handle), enqueue)
        graph.launch()
        stream.synchronize()
        graph.close()

    with primary.current():
        use()


@pytest.mark.parametrize("failure", ["waiting", "an exception"])
def test_after_a_recording_that_fails_the_stream_works(primary: PrimaryContext, failure: str) -> None:
    def use() -> None:
        stream, buffer = primary.make_stream(), primary.allocate(SCORES, mapped=False)

        def enqueue() -> None:
            primary.upload(buffer, stream)
            if failure == "waiting":
                stream.synchronize()  # must not be done now
            raise ZeroDivisionError

        kinds = (import_pycuda().LogicError, ZeroDivisionError)
        with pytest.raises(kinds) as caught:
            CudaGraph(LIBRARY, int(stream.handle), enqueue)
        assert isinstance(caught.value, ZeroDivisionError) == (failure != "waiting")
        del caught
        send_and_fetch_by(primary, stream, buffer, 1)

    with primary.current():
        use()


# --- TensorRT ---


@pytest.fixture
def tensorrt() -> Iterator[Any]:
    """The module: TensorRT itself, or over the stand-in the fake."""
    if STAND_IN is not None:
        with fake_tensorrt(STAND_IN) as device:
            yield device.module
            assert device.record.violations == []
            assert not device.engines
        return
    try:
        found = import_tensorrt()
    except BackendUnavailableError as missing:
        pytest.skip(f"needs TensorRT: {str(missing).splitlines()[0]}")
    yield found


@cache
def plan_of(name: str, precision: Precision) -> bytes:
    """Build the plan of an embedded model, once; TensorRT was imported."""
    trt = sys.modules["tensorrt"]
    typed: Precision = "fp32" if precision == "fp16" and not needs_typed_graph(trt) else precision
    graph = build_graph(load_model(name), typed, flavour="symmetric")
    context = PrimaryContext()
    try:
        with context.current():  # TensorRT would leave it current otherwise
            return build_plan(trt, BuildJob(graph, precision, 256 * MIB, None, b""), lambda *_: True).plan
    finally:
        context.close()


def check_parity(name: str, precision: Precision, engine: TensorrtEngine) -> None:
    """Compare an engine with ONNX Runtime."""
    model = load_model(name)
    with closing(open_onnx(model, "fp32")) as reference:
        parity = compare_engines(model, reference, engine, precision, synthetic_frames())
    assert parity.images > 1
    assert parity.failures == ()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", [card.name for card in CATALOGUE if card.embedded])
def test_embedded_models_compute_what_onnx_runtime_computes(
    tensorrt: Any,  # noqa: ANN401 - it has no types
    name: str,
    precision: Precision,
) -> None:
    with closing(TensorrtEngine(plan_of(name, precision))) as engine:
        assert engine.uses_graph
        check_parity(name, precision, engine)


@GRAPH
@MAPPED
def test_buffers_and_graphs_change_no_result(tensorrt: Any, mapped: bool, cuda_graph: bool) -> None:  # noqa: ANN401
    engine = TensorrtEngine(plan_of(DETECTOR, "fp16"), mapped=mapped, cuda_graph=cuda_graph)
    with closing(engine):
        assert (engine.mapped, engine.uses_graph) == (mapped, cuda_graph)
        check_parity(DETECTOR, "fp16", engine)


def run_on(engine: TensorrtEngine, seed: int) -> dict[str, NDArray[Any]]:
    """Return copies of the outputs for a random picture."""
    engine.input_buffers[INPUT_NAME][...] = values(engine.inputs[0], seed)
    return {name: array.copy() for name, array in engine.run(engine.input_buffers).items()}


def check_same(given: dict[str, NDArray[Any]], wanted: dict[str, NDArray[Any]]) -> None:
    """Compare outputs of one plan for one picture, which a GPU computes in the same way each time."""
    for name, array in wanted.items():
        np.testing.assert_allclose(given[name], array, rtol=1e-3, atol=1e-3, err_msg=name)


@GRAPH
@MAPPED
def test_threads_share_an_engine(tensorrt: Any, mapped: bool, cuda_graph: bool) -> None:  # noqa: ANN401
    engine = in_a_thread(
        lambda: TensorrtEngine(plan_of(DETECTOR, "fp32"), mapped=mapped, cuda_graph=cuda_graph)
    )
    wanted, turn = [run_on(engine, seed) for seed in range(3)], threading.Lock()
    assert len({outputs[engine.outputs[0].name].tobytes() for outputs in wanted}) == 3

    def work(first: int) -> None:
        for number in range(first, first + 12):
            with turn:  # the buffers are everybody's
                given = run_on(engine, number % 3)
            check_same(given, wanted[number % 3])

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(work, number) for number in range(3)]:
            future.result(WAIT_S)
    in_a_thread(engine.close)


def test_two_engines_run_at_once(tensorrt: Any) -> None:  # noqa: ANN401
    plan, start = plan_of(DETECTOR, "fp32"), threading.Barrier(2)
    with closing(TensorrtEngine(plan)) as engine:
        wanted = [run_on(engine, seed) for seed in range(3)]

    def work() -> None:
        with closing(TensorrtEngine(plan)) as engine:
            start.wait(WAIT_S)
            for number in range(12):
                check_same(run_on(engine, number % 3), wanted[number % 3])

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(work) for _ in range(2)]:
            future.result(WAIT_S)


def run_a_plan(path: Path, code: str) -> tuple[int, str]:
    """Run code on an opened plan in a process of its own; return its exit code and what it printed."""
    fake = "" if STAND_IN is None else "from tests.shim import hooks, tensorrt_on_shim as fake\n"
    fake += "" if STAND_IN is None else "fake.install(hooks.load())\n"
    start = "import sys\nfrom pathlib import Path\nfrom engines.tensorrt.engine import TensorrtEngine\n"
    done = run_python(f"{fake}{start}plan = Path(sys.argv[1]).read_bytes()\n{code}", str(path))
    assert "PyCUDA" not in done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize("damage", [lambda plan: plan[: len(plan) // 2], lambda plan: b"no plan" + plan])
def test_a_damaged_plan_is_refused(
    tensorrt: Any,  # noqa: ANN401 - it has no types
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
) -> None:
    """In a process of its own, should it crash there."""
    path = tmp_path / "damaged.plan"
    path.write_bytes(damage(plan_of(DETECTOR, "fp32")))
    code = (
        "from engines.errors import PlanError\n"
        "try:\n    TensorrtEngine(plan)\nexcept PlanError as error:\n    print(str(error)[:29])\n"
    )
    assert run_a_plan(path, code) == (0, "TensorRT cannot load the plan\n")


def test_a_process_that_ran_a_plan_ends_quietly(tensorrt: Any, tmp_path: Path) -> None:  # noqa: ANN401
    path = tmp_path / "detector.plan"
    path.write_bytes(plan_of(DETECTOR, "fp32"))
    code = "engine = TensorrtEngine(plan)\nprint(len(engine.run(engine.input_buffers)))\nengine.close()\n"
    assert run_a_plan(path, code) == (0, "2\n")


def test_a_view_that_was_kept_can_be_read_after_closing(tensorrt: Any, tmp_path: Path) -> None:  # noqa: ANN401
    """The CUDA runtime inside TensorRT keeps the context, and with it the memory; else it would crash."""
    path = tmp_path / "detector.plan"
    path.write_bytes(plan_of(DETECTOR, "fp32"))
    code = (
        "engine = TensorrtEngine(plan)\nkept = next(iter(engine.run(engine.input_buffers).values()))\n"
        "before = kept.copy()\nengine.close()\nprint((kept == before).all())\n"
    )
    assert run_a_plan(path, code) == (0, "True\n")
