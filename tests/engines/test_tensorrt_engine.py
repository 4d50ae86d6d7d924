"""`TensorrtEngine` on a fake Jetson: its results, its threads, its memory, and how it fails.

On the fake device nothing happens before somebody waits, fresh memory is garbage, and what real libraries
answer with a crash or a leak is written down. So a forgotten synchronise or push shows here every time;
`test_tensorrt_mutations.py` proves it. What a real GPU computes, and how fast, cannot show here.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.zoo.graph_store import build_graph, build_untrained
from edge_mnv2.zoo.model import load_model
from engines import BackendUnavailableError, EngineError, TensorMismatchError, TensorSpec
from engines.errors import DeviceMemoryError, PlanError
from engines.fake_jetson.jetson import FakeCuda, FakeJetson, fake_jetson
from engines.tensorrt import driver
from engines.tensorrt.engine import TensorrtEngine
from engines.tensorrt.probe import import_tensorrt
from tests.engines.tensorrt_scene import (
    IN_TURN,
    WAIT_S,
    before_synchronise,
    check_outputs,
    check_sound,
    expected,
    fail,
    in_thread,
    interrupt,
    jetson,
    meet,
    once,
    plan_of,
    small_feeds,
    small_graph,
    while_capturing,
)

VERSIONS = {"8.6.1": "fp32", "10.3.0": "fp32", "10.13.3.9": "fp32", "11.4.0.106": "fp16"}
"""Versions of TensorRT, and the precision that a network is tried in."""

MAPPED = pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "pinned"])
GRAPH = pytest.mark.parametrize("cuda_graph", [True, False], ids=["graph", "plain"])


# --- results


@GRAPH
@MAPPED
@pytest.mark.parametrize("version", VERSIONS)
def test_outputs_are_those_of_onnx_runtime(version: str, mapped: bool, cuda_graph: bool) -> None:
    precision: Any = VERSIONS[version]
    graph = build_untrained(ClassifierSpec(10, (64, 64), 0.35), precision=precision)
    random = np.random.default_rng(0)
    with jetson(FakeJetson(version)):
        engine = TensorrtEngine(plan_of(graph, precision), mapped=mapped, cuda_graph=cuda_graph)
        assert (engine.mapped, engine.uses_graph) == (mapped, cuda_graph)
        assert engine.inputs == (TensorSpec("image", (1, 64, 64, 3), np.dtype(np.uint8)),)
        assert [(spec.shape, spec.dtype) for spec in engine.outputs] == [((1, 10), np.float32)]
        seen = set()
        for _ in range(3):
            image = random.integers(0, 256, (1, 64, 64, 3), np.uint8)
            engine.input_buffers["image"][:] = image
            outputs = engine.run(engine.input_buffers)
            check_outputs(outputs, graph, {"image": image})
            seen.add(outputs[engine.outputs[0].name].tobytes())
        assert len(seen) == 3
        engine.close()


@pytest.mark.parametrize("name", ["mobilenet-v2-imagenet", "ssdlite-mnv2-coco"])
def test_trained_networks_run_in_int8(name: str) -> None:
    graph = build_graph(load_model(name), "int8", flavour="symmetric")
    with jetson():
        engine = TensorrtEngine(plan_of(graph, "int8"))
        image = np.random.default_rng(0).integers(0, 256, engine.inputs[0].shape, np.uint8)
        check_outputs(engine.run({"image": image}), graph, {"image": image})
        engine.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_integers_are_of_32_bits_before_tensorrt_10(version: str) -> None:
    with jetson(FakeJetson(version)):
        engine = TensorrtEngine(plan_of(small_graph()))
        wanted = np.int32 if version.startswith("8") else np.int64
        assert [spec.dtype for spec in engine.outputs] == [np.float32, wanted]
        best = set()
        for number in range(8):
            outputs = engine.run(small_feeds(number))
            assert outputs["best"].dtype == wanted
            check_outputs(outputs, small_graph(), small_feeds(number))
            best.add(int(outputs["best"][0, 0]))
        assert best == {0, 1, 2}
        engine.close()


@pytest.mark.parametrize(
    ("integrated", "capability", "mapped"),
    [
        (True, (8, 7), True),
        (True, (7, 2), True),
        (True, (6, 2), False),
        (True, (5, 3), False),
        (False, (7, 5), False),
        (False, (8, 9), False),
    ],
)
def test_buffers_suit_the_device(integrated: bool, capability: tuple[int, int], mapped: bool) -> None:
    with jetson(FakeJetson(compute_capability=capability, integrated=integrated)) as cuda:
        engine = TensorrtEngine(plan_of(small_graph()))
        assert engine.mapped is mapped
        assert cuda.calls["cuMemHostAlloc"] == 4
        assert cuda.calls["cuMemAlloc"] == (0 if mapped else 4)
        check_outputs(engine.run(small_feeds(1)), small_graph(), small_feeds(1))
        engine.close()


def test_a_dla_core_is_told_to_the_runtime() -> None:
    with jetson(FakeJetson(dla_cores=2)):
        trt, cores = import_tensorrt(), []
        original = trt.Runtime.deserialize_cuda_engine

        def deserialise(runtime: Any, plan: bytes) -> object:  # noqa: ANN401 - the fake's
            cores.append(runtime.DLA_core)
            return original(runtime, plan)

        trt.Runtime.deserialize_cuda_engine = deserialise
        for core in (1, None):
            engine = TensorrtEngine(plan_of(small_graph(), "fp16", core), dla_core=core)
            check_outputs(engine.run(small_feeds(1)), small_graph(), small_feeds(1))
            engine.close()
        assert cores == [1, -1]


# --- inputs and outputs


@GRAPH
@MAPPED
def test_the_device_reads_what_is_written_into_the_input_buffers(mapped: bool, cuda_graph: bool) -> None:
    with jetson() as cuda:
        engine = TensorrtEngine(plan_of(small_graph()), mapped=mapped, cuda_graph=cuda_graph)
        assert not any(buffer.any() for buffer in engine.input_buffers.values())

        def write_late() -> None:  # the run has been asked for, and a copy made by then would be too early
            for name, array in small_feeds(2).items():
                engine.input_buffers[name][:] = array

        before_synchronise(once(write_late))
        check_outputs(engine.run(engine.input_buffers), small_graph(), small_feeds(2))
        again = {name: engine.input_buffers[name] for name in ("gain", "image")}
        check_outputs(engine.run(again), small_graph(), small_feeds(2))
        again.clear()
        assert cuda.calls["pageable copy"] == 0
        engine.close()


@GRAPH
@MAPPED
def test_a_run_makes_no_more_calls_than_it_must(mapped: bool, cuda_graph: bool) -> None:
    with jetson() as cuda:
        engine = TensorrtEngine(plan_of(small_graph()), mapped=mapped, cuda_graph=cuda_graph)
        before = cuda.calls.copy()
        engine.run(engine.input_buffers)
        counted = {name: number for name, number in (cuda.calls - before).items() if number}
        always = {"cuCtxPushCurrent": 1, "cuCtxPopCurrent": 1, "cuStreamSynchronize": 1}
        copies = {} if mapped else {"cuMemcpyHtoDAsync": 2, "cuMemcpyDtoHAsync": 2}
        work = {"cuGraphLaunch": 1} if cuda_graph else {"execute_async_v3": 1, **copies}
        assert counted == {**always, **work}
        engine.close()


def test_what_is_in_its_place_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    with jetson(FakeJetson(faults=frozenset({"zero_cost"}))):  # the fake would copy its results
        engine = TensorrtEngine(plan_of(small_graph()))
        copied: list[tuple[int, ...]] = []
        monkeypatch.setattr(np, "copyto", lambda target, source: copied.append(target.shape))
        engine.run(engine.input_buffers)
        engine.run(dict(engine.input_buffers))
        assert copied == []
        engine.run({**engine.input_buffers, "gain": small_feeds(1)["gain"]})
        assert copied == [(1, 3)]
        engine.close()


@MAPPED
def test_foreign_arrays_are_copied(mapped: bool) -> None:
    with jetson():
        engine = TensorrtEngine(plan_of(small_graph()), mapped=mapped)
        own, feeds = engine.input_buffers, small_feeds(3)
        check_outputs(engine.run(feeds), small_graph(), feeds)
        mixed = {"image": own["image"], "gain": small_feeds(4)["gain"]}
        check_outputs(engine.run(mixed), small_graph(), {**feeds, "gain": mixed["gain"]})
        feeds["image"][:] = 0
        assert own["image"].any()
        mixed.clear()
        engine.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": None}, ["['gain', 'image']", "['gain']"]),
        ({"more": np.zeros(1)}, ["['gain', 'image']", "['gain', 'image', 'more']"]),
        ({"image": np.zeros((1, 4, 4, 3), np.uint8)}, ["uint8 (1, 8, 8, 3)", "uint8 (1, 4, 4, 3)"]),
        ({"gain": np.zeros((1, 3))}, ["gain float32 (1, 3)", "gain float64 (1, 3)"]),
        ({"image": np.zeros((1, 8, 8, 3), np.uint8).transpose(0, 2, 1, 3)}, ["image", "C-contiguous"]),
    ],
)
def test_wrong_feeds_name_expected_and_received(change: dict[str, Any], words: list[str]) -> None:
    feeds = {name: array for name, array in {**small_feeds(1), **change}.items() if array is not None}
    with jetson() as cuda:
        engine = TensorrtEngine(plan_of(small_graph()))
        before = cuda.calls.copy()
        with pytest.raises(TensorMismatchError) as caught:
            engine.run(feeds)
        assert all(word in str(caught.value) for word in words), caught.value
        assert cuda.calls == before
        check_outputs(engine.run(small_feeds(1)), small_graph(), small_feeds(1))
        engine.close()


@GRAPH
@MAPPED
def test_outputs_are_views_that_the_next_run_overwrites(mapped: bool, cuda_graph: bool) -> None:
    with jetson():
        engine = TensorrtEngine(plan_of(small_graph()), mapped=mapped, cuda_graph=cuda_graph)
        first = dict(engine.run(small_feeds(1)))
        check_outputs(first, small_graph(), small_feeds(1))
        second = engine.run(small_feeds(2))
        assert {name: array.ctypes.data for name, array in second.items()} == {
            name: array.ctypes.data for name, array in first.items()
        }
        check_outputs(first, small_graph(), small_feeds(2))
        first.clear()
        engine.close()


@GRAPH
@MAPPED
def test_nothing_is_allocated_per_frame(mapped: bool, cuda_graph: bool) -> None:
    side = 200
    spec = FakeJetson(faults=frozenset({"zero_cost"}))
    with jetson(spec) as cuda:
        engine = TensorrtEngine(plan_of(small_graph(side)), mapped=mapped, cuda_graph=cuda_graph)
        foreign = small_feeds(1, side)
        allocating = ("cuMemAlloc", "cuMemHostAlloc", "cuStreamCreate", "cuGraphInstantiateWithFlags")
        before = ({name: cuda.calls[name] for name in allocating}, cuda.live_allocations)
        for feeds in (engine.input_buffers, foreign):
            for _ in range(10):
                engine.run(feeds)
            tracemalloc.start()
            try:
                for _ in range(200):
                    engine.run(feeds)
                kept, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            # One picture is 117 KiB; what is left are Python's own small objects, a few at a time.
            assert peak < 16 * 1024
            assert kept < 2 * 1024
        assert ({name: cuda.calls[name] for name in allocating}, cuda.live_allocations) == before
        engine.close()


# --- threads


@GRAPH
@MAPPED
def test_opened_run_and_closed_in_different_threads(mapped: bool, cuda_graph: bool) -> None:
    with jetson():
        plan = plan_of(small_graph())
        engine = in_thread(lambda: TensorrtEngine(plan, mapped=mapped, cuda_graph=cuda_graph), "opens")
        for number in range(3):
            outputs = in_thread(lambda number=number: dict(engine.run(small_feeds(number))), "runs")
            check_outputs(outputs, small_graph(), small_feeds(number))
            check_outputs(engine.run(small_feeds(number + 9)), small_graph(), small_feeds(number + 9))
        del outputs
        in_thread(engine.close, "closes")


@GRAPH
@MAPPED
def test_several_threads_use_one_engine(mapped: bool, cuda_graph: bool) -> None:
    with jetson():
        engine = TensorrtEngine(plan_of(small_graph()), mapped=mapped, cuda_graph=cuda_graph)
        start, reading = threading.Barrier(4), threading.Lock()
        done: list[int] = []

        def work(first: int) -> None:
            start.wait(WAIT_S)
            for number in range(first, first + 20):
                with reading:  # outputs are valid until the next run, of whichever thread
                    check_outputs(engine.run(small_feeds(number)), small_graph(), small_feeds(number))
            start.wait(WAIT_S)
            for number in range(first, first + 20):
                engine.run(small_feeds(number))
            done.append(first)

        threads = [threading.Thread(target=work, args=(number * 100,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert sorted(done) == [0, 100, 200, 300]
        engine.close()


@MAPPED
def test_runs_wait_for_each_other(mapped: bool) -> None:
    with jetson():
        engine = TensorrtEngine(plan_of(small_graph()), mapped=mapped)
        assert meet(engine, lambda: engine.run(small_feeds(2))) == IN_TURN
        engine.close()


@MAPPED
def test_closing_waits_for_a_run(mapped: bool) -> None:
    with jetson():
        engine = TensorrtEngine(plan_of(small_graph()), mapped=mapped)
        assert meet(engine, engine.close) == IN_TURN
        with pytest.raises(EngineError, match="closed"):
            in_thread(lambda: engine.run(small_feeds(1)))


# --- more than one engine


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_can_be_opened_again_and_again(version: str) -> None:
    with jetson(FakeJetson(version)) as cuda:
        plan = plan_of(small_graph())
        for number in range(3):
            engine = TensorrtEngine(plan)
            check_outputs(engine.run(small_feeds(number)), small_graph(), small_feeds(number))
            engine.close()
            assert cuda.leaks() == []


@GRAPH
@MAPPED
def test_two_engines_take_turns(mapped: bool, cuda_graph: bool) -> None:
    graphs = (small_graph(8), small_graph(16))
    with jetson() as cuda:
        first, second = (
            TensorrtEngine(plan_of(graph), mapped=mapped, cuda_graph=cuda_graph) for graph in graphs
        )
        assert cuda.retained_contexts == 2
        for number in range(3):
            outputs = [first.run(small_feeds(number, 8)), second.run(small_feeds(-number - 1 + 50, 16))]
            check_outputs(outputs[0], graphs[0], small_feeds(number, 8))
            check_outputs(outputs[1], graphs[1], small_feeds(-number - 1 + 50, 16))
        first.close()
        check_outputs(second.run(small_feeds(7, 16)), graphs[1], small_feeds(7, 16))
        second.close()


@MAPPED
def test_an_engine_is_opened_while_another_is_captured(mapped: bool) -> None:
    """What another thread allocates must not spoil a capture."""
    opened: list[TensorrtEngine] = []
    with jetson():
        plan = plan_of(small_graph())

        def open_another() -> None:
            opened.append(in_thread(lambda: TensorrtEngine(plan, mapped=mapped)))

        while_capturing(open_another)
        opened.append(TensorrtEngine(plan, mapped=mapped))
        assert [engine.uses_graph for engine in opened] == [True, True]
        for engine in opened:
            check_outputs(engine.run(small_feeds(1)), small_graph(), small_feeds(1))
            engine.close()


def test_two_engines_run_at_once() -> None:
    with jetson():
        plan, start = plan_of(small_graph()), threading.Barrier(2)

        def work(first: int) -> int:
            start.wait(WAIT_S)
            engine = TensorrtEngine(plan)
            for number in range(first, first + 25):
                check_outputs(engine.run(small_feeds(number)), small_graph(), small_feeds(number))
            engine.close()
            return first

        done: list[int] = []
        threads = [
            threading.Thread(target=lambda number=number: done.append(work(number))) for number in (0, 100)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert sorted(done) == [0, 100]


# --- closing


@GRAPH
@MAPPED
def test_a_closed_engine_holds_nothing_and_runs_no_more(mapped: bool, cuda_graph: bool) -> None:
    with jetson() as cuda:
        engine = TensorrtEngine(plan_of(small_graph()), mapped=mapped, cuda_graph=cuda_graph)
        buffers, outputs = engine.input_buffers, engine.run(engine.input_buffers)
        engine.close()
        assert cuda.leaks() == []
        assert not buffers
        assert not outputs
        assert not engine.input_buffers
        calls = cuda.calls.copy()
        engine.close()
        for feeds in (engine.input_buffers, small_feeds(1)):
            with pytest.raises(EngineError, match="closed"):
                engine.run(feeds)
        assert cuda.calls == calls


@MAPPED
def test_a_view_that_was_kept_can_be_read_after_closing(mapped: bool) -> None:
    with fake_jetson(FakeJetson()) as cuda:
        engine = TensorrtEngine(plan_of(small_graph()), mapped=mapped)
        kept = engine.run(small_feeds(1))["levels"][0]
        engine.close()
        np.testing.assert_array_equal(kept, expected(small_graph(), small_feeds(1))["levels"][0])
        # It is what is left, and stays: pycuda frees nothing of a context that was given back.
        assert [text.partition(" at ")[0] for text in cuda.leaks()] == ["12 bytes of page-locked memory"]
        del kept
        assert len(cuda.leaks()) == 1
        assert cuda.violations == []


@GRAPH
@MAPPED
def test_closing_waits_for_what_an_interrupted_run_left(mapped: bool, cuda_graph: bool) -> None:
    with jetson():
        engine = TensorrtEngine(plan_of(small_graph()), mapped=mapped, cuda_graph=cuda_graph)
        before_synchronise(once(interrupt))
        with pytest.raises(KeyboardInterrupt):
            engine.run(small_feeds(1))
        engine.close()


def test_a_device_that_fails_while_closing_keeps_nothing() -> None:
    with jetson():
        engine = TensorrtEngine(plan_of(small_graph()), mapped=False)
        before_synchronise(once(fail))
        with pytest.raises(EngineError, match="illegal memory access"):
            engine.close()
        engine.close()


# --- CUDA graphs


def _spoil_copies() -> None:
    """Let copies fail while a stream is captured, as after work that must not be captured."""
    import pycuda.driver as drv

    original = drv.memcpy_dtoh_async
    streams = drv.Stream._cuda.streams.streams

    def copy(dest: object, src: object, stream: Any) -> None:  # noqa: ANN401 - the fake's
        capture = streams[stream.handle].capture
        if capture is not None:
            capture.spoiled = True
            raise drv.LogicError("cuMemcpyDtoHAsync failed: operation failed due to a previous error")
        original(dest, src, stream)

    drv.memcpy_dtoh_async = copy


def _spoil_instantiation() -> None:
    library: Any = driver.open_driver()
    library.cuGraphInstantiateWithFlags = lambda *arguments: 900


@pytest.mark.parametrize(
    ("spec", "spoil", "mapped"),
    [
        (FakeJetson(can_capture=False), None, True),
        (FakeJetson(can_capture=False), None, False),
        (FakeJetson(faults=frozenset({"no_capture"})), None, True),
        (FakeJetson(), _spoil_copies, False),
        (FakeJetson(), _spoil_instantiation, True),
    ],
    ids=[
        "work cannot be captured",
        "work with copies cannot be captured",
        "no capture begins",
        "copies spoil it",
        "no graph of it",
    ],
)
def test_where_capture_fails_runs_are_plain(
    spec: FakeJetson, spoil: Callable[[], None] | None, mapped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with jetson(spec) as cuda:
        plan = plan_of(small_graph())
        if spoil is not None:
            spoil()
        engine = TensorrtEngine(plan, mapped=mapped)
        assert not engine.uses_graph
        assert cuda.live_graphs == 0
        before = cuda.launches
        for number in range(3):
            check_outputs(engine.run(small_feeds(number)), small_graph(), small_feeds(number))
        assert cuda.launches - before == 3
        engine.close()
    told = [record for record in caplog.records if record.name == "engines.tensorrt.engine"]
    assert [(record.levelname, "no CUDA graph" in record.message) for record in told] == [("INFO", True)]


def test_no_graph_is_made_where_none_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with jetson() as cuda:
        engine = TensorrtEngine(plan_of(small_graph()), cuda_graph=False)
        assert not engine.uses_graph
        assert cuda.calls["cuStreamBeginCapture"] == 0
        engine.close()
    assert not caplog.records


def test_a_context_that_was_given_back_may_stay_on_cuda_s_stack(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run was good, and its outputs are right; only the fake's own books tell."""
    caplog.set_level(logging.DEBUG)
    with fake_jetson(FakeJetson()) as cuda:
        engine = TensorrtEngine(plan_of(small_graph()))
        check_outputs(engine.run(small_feeds(1)), small_graph(), small_feeds(1))
        with monkeypatch.context() as patch:
            patch.setattr(driver.open_driver(), "cuCtxPopCurrent_v2", lambda _: 999)
            engine.close()
        engine.close()
        assert cuda.retained_contexts == 0
        assert cuda.pushed_contexts == {threading.current_thread().name: 1}
    (record,) = (record for record in caplog.records if record.name == "engines.tensorrt.cuda")
    assert record.levelno == logging.DEBUG
    assert "cuCtxPopCurrent_v2 failed" in record.getMessage()


# --- opening that fails


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (FakeJetson(faults=frozenset({"no_driver"})), "no NVIDIA driver"),
        (FakeJetson(faults=frozenset({"no_pycuda"})), "pycuda is not installed"),
        (FakeJetson(faults=frozenset({"no_tensorrt"})), "tensorrt is not installed"),
        (FakeJetson(faults=frozenset({"no_device"})), "no device that works"),
        (FakeJetson(device_count=0), "no device that works"),
        (FakeJetson("8.5.2"), "too old"),
    ],
)
def test_where_something_is_missing_nothing_is_begun(spec: FakeJetson, words: str) -> None:
    with jetson(spec) as cuda:
        with pytest.raises(BackendUnavailableError, match=words):
            TensorrtEngine(b"a plan")
        assert not cuda.calls["cuDevicePrimaryCtxRetain"]


def _other(spec: FakeJetson) -> bytes:
    with fake_jetson(spec):
        return plan_of(small_graph())


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (lambda good: b"", "Magic tag does not match"),
        (lambda good: b"\x7fELF" + good, "Magic tag does not match"),
        (lambda good: good[:40], "Magic tag does not match"),
        (lambda good: good[:-1], "Size specified in header does not match"),
        (
            lambda good: _other(FakeJetson("8.6.1")),
            r"Current Version: 10\.3\.0, Serialized Engine Version: 8\.6\.1",
        ),
        (
            lambda good: _other(FakeJetson(device_name="Xavier", compute_capability=(7, 2))),
            "not compatible with this device: built for Xavier",
        ),
    ],
    ids=["empty", "foreign", "cut in its header", "cut off", "other version", "other device"],
)
def test_a_plan_that_does_not_load_is_told_with_tensorrts_reason(
    plan: Callable[[bytes], bytes], reason: str
) -> None:
    with jetson() as cuda:
        good = plan_of(small_graph())
        bad = plan(good)
        with pytest.raises(PlanError, match=f"cannot load the plan: .*{reason}"):
            TensorrtEngine(bad)
        check_sound(cuda)
        engine = TensorrtEngine(good)  # the next one is not bothered
        engine.close()


def _break(owner: str, method: str, result: object) -> Callable[[], None]:
    def act() -> None:
        setattr(getattr(import_tensorrt(), owner), method, lambda *arguments: result)

    return act


def _unsupported_type() -> None:
    trt = import_tensorrt()
    trt.ICudaEngine.get_tensor_dtype = lambda engine, name: trt.DataType.FP8


def _execution_fails() -> None:
    import pycuda.driver as drv

    cuda = drv.Stream._cuda
    cuda.spec = dataclasses.replace(cuda.spec, faults=frozenset({"execute_fails"}))


def _device_breaks() -> None:
    _execution_fails()
    before_synchronise(fail)


@MAPPED
@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (_execution_fails, EngineError, "failed while running the model: .*a fault was asked for"),
        (_device_breaks, EngineError, "failed while running the model: .*a fault was asked for"),
        (_unsupported_type, PlanError, "tensor image has the unsupported type FP8"),
        (
            _break("IExecutionContext", "set_tensor_address", False),
            EngineError,
            "refuses the memory for image",
        ),
        (_break("ICudaEngine", "create_execution_context", None), EngineError, "cannot prepare the plan"),
    ],
    ids=["run", "run and clean-up", "type", "address", "execution context"],
)
def test_opening_that_fails_midway_frees_everything(
    fault: Callable[[], None], kind: type[EngineError], words: str, mapped: bool
) -> None:
    with jetson() as cuda:
        plan = plan_of(small_graph())
        fault()
        with pytest.raises(EngineError, match=words) as caught:
            TensorrtEngine(plan, mapped=mapped)
        assert type(caught.value) is kind
        check_sound(cuda)  # although its traceback is still there


@MAPPED
def test_too_little_memory_is_told_whatever_wants_it(mapped: bool) -> None:
    """At each allocation in turn, the engine's and TensorRT's own."""
    levels: set[int] = set()
    with jetson() as cuda:
        plan = plan_of(small_graph())
        for name in ("allocate", "reserve"):
            setattr(cuda.memory, name, _noting(getattr(cuda.memory, name), cuda, levels))
        TensorrtEngine(plan, mapped=mapped).close()
    assert len(levels) >= (6 if mapped else 10)
    for level in levels:
        with jetson(FakeJetson(memory_bytes=level - 1)) as cuda:
            with pytest.raises(DeviceMemoryError, match=r"free memory \(.*(out of memory|OutOfMemory)"):
                TensorrtEngine(plan, mapped=mapped)
            check_sound(cuda)
    with jetson(FakeJetson(memory_bytes=max(levels))):
        TensorrtEngine(plan, mapped=mapped).close()


def _noting(function: Callable[..., object], cuda: FakeCuda, levels: set[int]) -> Callable[..., object]:
    """Return a function that also notes how much memory is taken then."""

    def noting(*arguments: object, **options: object) -> object:
        result = function(*arguments, **options)
        levels.add(cuda.memory.used_bytes())
        return result

    return noting


@MAPPED
def test_opening_can_be_interrupted_anywhere(mapped: bool) -> None:
    """At each call of a library in turn, apart from those that clean up."""
    spared = ("Push", "Pop", "EndCapture", "Destroy", "Free", "Release", "Init")
    position, is_open = 0, False
    while not is_open:
        with jetson() as cuda:
            plan = plan_of(small_graph())
            left = [position]
            original = cuda.record.count

            def count(name: str, left: list[int] = left, original: Callable[[str], None] = original) -> None:
                if not any(word in name for word in spared):
                    left[0] -= 1
                    if left[0] == -1:
                        raise KeyboardInterrupt(name)
                original(name)

            cuda.record.count = count  # type: ignore[method-assign] # in turn
            try:
                engine = TensorrtEngine(plan, mapped=mapped)
            except KeyboardInterrupt:
                check_sound(cuda)
            else:
                is_open = True
                cuda.record.count = original  # type: ignore[method-assign] # as before
                engine.close()
        position += 1
    assert position > 20


# --- runs that fail


def _launch_fails() -> None:
    library: Any = driver.open_driver()
    library.cuGraphLaunch = lambda *arguments: 700


def _copy_fails() -> None:
    import pycuda.driver as drv

    def copy(*arguments: object) -> None:
        raise drv.LogicError("cuMemcpyHtoDAsync failed: an illegal memory access was encountered")

    drv.memcpy_htod_async = copy


def _wait_fails() -> None:
    before_synchronise(once(fail))


@pytest.mark.parametrize("feeds", [small_feeds(1), None], ids=["foreign", "own"])
@pytest.mark.parametrize(
    ("fault", "mapped", "cuda_graph", "words"),
    [
        (_execution_fails, True, False, "TensorRT failed while running the model: .*a fault was asked for"),
        (_execution_fails, False, False, "TensorRT failed while running the model: .*a fault was asked for"),
        (
            _launch_fails,
            True,
            True,
            r"cuGraphLaunch failed: an illegal memory access was encountered \(700\)",
        ),
        (_copy_fails, False, False, "CUDA failed: cuMemcpyHtoDAsync failed"),
        (_wait_fails, True, True, "CUDA failed: cuStreamSynchronize failed"),
        (_wait_fails, False, False, "CUDA failed: cuStreamSynchronize failed"),
        (_wait_fails, False, True, "CUDA failed: cuStreamSynchronize failed"),
    ],
)
def test_a_run_that_fails_leaves_no_context_current(
    fault: Callable[[], None],
    mapped: bool,
    cuda_graph: bool,
    words: str,
    feeds: dict[str, NDArray[Any]] | None,
) -> None:
    with jetson() as cuda:
        engine = TensorrtEngine(plan_of(small_graph()), mapped=mapped, cuda_graph=cuda_graph)
        fault()
        with pytest.raises(EngineError, match=words) as caught:
            in_thread(lambda: engine.run(engine.input_buffers if feeds is None else feeds))
        assert cuda.pushed_contexts == {}
        assert cuda.violations == []
        engine.close()
        check_sound(cuda)  # although whoever handles the error still holds its traceback
        assert caught.value.__traceback__ is not None


@GRAPH
@MAPPED
def test_an_interrupted_run_leaves_no_context_current(mapped: bool, cuda_graph: bool) -> None:
    with jetson() as cuda:
        engine = TensorrtEngine(plan_of(small_graph()), mapped=mapped, cuda_graph=cuda_graph)
        before_synchronise(once(interrupt))
        with pytest.raises(KeyboardInterrupt):
            engine.run(small_feeds(1))
        assert cuda.pushed_contexts == {}
        check_outputs(engine.run(small_feeds(2)), small_graph(), small_feeds(2))
        with suppress(TensorMismatchError):
            engine.run({})
        check_outputs(engine.run(small_feeds(3)), small_graph(), small_feeds(3))
        engine.close()
