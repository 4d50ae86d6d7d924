"""ONNX Runtime answers while TensorRT's plan is built, and TensorRT takes over between two frames."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import edge_mnv2.predictor
from camera import open_source
from edge_mnv2.backends import Opened, PlanOptions, open_tensorrt, synthetic_frames
from edge_mnv2.errors import PlanRefusedError, RequestError
from edge_mnv2.pipeline import RunControl, run_pipeline
from edge_mnv2.predictor import Predictor, PredictorOptions, open_predictor
from edge_mnv2.results import Detections, Result
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.sinks.specs import jsonl_spec
from edge_mnv2.successor import Successor
from edge_mnv2.zoo.model import Variant, load_model
from engines import BackendUnavailableError, BuildCancelledError, EngineError, FakeEngine, PlanMissingError
from engines.errors import BuildError
from engines.tensorrt.probe import probe
from tests.jetson import builds_held_back, child_processes, on_jetson

DETECTOR = "ssdlite-mnv2-coco"
WAIT_S = 60.0


def opened_fake() -> Opened:
    return Opened(FakeEngine((), {}), "fp32")


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    """Wait for what gives no event to wait for."""
    end_s = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < end_s, f"{what} never came"
        time.sleep(0.002)


def taken_by(successor: Successor) -> Opened:
    found: list[Opened] = []

    def take() -> bool:
        opened = successor.take()
        found.extend([] if opened is None else [opened])
        return opened is not None

    wait_until(take, "the successor")
    return found[0]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class Gate:
    """Stands for `open_tensorrt`: it makes a plan when it is let, then answers as `outcome` does."""

    def __init__(self, outcome: Callable[..., Opened]) -> None:
        self.reached, self.release = threading.Event(), threading.Event()
        self.cancelled = False
        self._outcome = outcome

    def __call__(self, model: Any, found: Any, options: Any) -> Opened:  # noqa: ANN401 - passed through
        if not options.may_build:
            raise PlanMissingError("There is no plan yet.")
        self.reached.set()
        while not self.release.wait(0.002):
            if options.cancel.is_set():
                self.cancelled = True
                raise BuildCancelledError("The build was cancelled.")
        return self._outcome(model, found, options)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Hold back the build of every plan."""
    gate = Gate(open_tensorrt)
    monkeypatch.setattr(edge_mnv2.predictor, "open_tensorrt", gate)
    return gate


def failing_gate(monkeypatch: pytest.MonkeyPatch, error: Exception) -> Gate:
    def fail(*_: object) -> Opened:
        raise error

    gate = Gate(fail)
    monkeypatch.setattr(edge_mnv2.predictor, "open_tensorrt", gate)
    return gate


@pytest.fixture(autouse=True)
def plans(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of plans; graphs are those of all tests."""
    cache = tmp_path / "cache" / "edge-mnv2"
    cache.mkdir(parents=True)
    (own_cache / "graphs").mkdir(parents=True, exist_ok=True)
    (cache / "graphs").symlink_to(own_cache / "graphs")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache / "plans"


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    """A frame that shows a stop sign and a clock."""
    return next(iter(synthetic_frames()))


def open_serving(engine: str = "tensorrt", precision: str = "fp32") -> Predictor:
    return open_predictor(
        DETECTOR, PredictorOptions(engine=engine, precision=precision, serve_while_building=True)
    )


# The successor alone.


def test_it_is_taken_once_when_it_is_ready() -> None:
    ready, opened = threading.Event(), opened_fake()

    def make(_: threading.Event) -> Opened:
        assert ready.wait(WAIT_S)
        return opened

    successor = Successor(make, is_required=True)
    assert successor.take() is None
    ready.set()
    assert taken_by(successor) is opened
    assert successor.take() is None
    successor.close()
    # It belongs to whoever took it.
    assert isinstance(opened.engine, FakeEngine)
    assert not opened.engine.closed


def test_closing_closes_what_nobody_took() -> None:
    opened = opened_fake()
    successor = Successor(lambda _: opened, is_required=True)
    successor.close()
    assert isinstance(opened.engine, FakeEngine)
    assert opened.engine.closed
    successor.close()
    assert successor.take() is None


def test_closing_says_so_to_whoever_makes_it_and_waits_for_the_end() -> None:
    ended = threading.Event()

    def make(cancel: threading.Event) -> Opened:
        assert cancel.wait(WAIT_S)
        ended.set()
        raise BuildCancelledError("cancelled")

    successor = Successor(make, is_required=True)
    successor.close()
    assert ended.is_set()


def test_what_is_ready_too_late_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    opened = opened_fake()

    def make(cancel: threading.Event) -> Opened:
        assert cancel.wait(WAIT_S)
        return opened

    successor = Successor(make, is_required=True, remedy="Wait for it.")
    successor.close()
    assert isinstance(opened.engine, FakeEngine)
    assert opened.engine.closed
    assert caplog.messages == ["TensorRT did not take over before the end. Wait for it."]


ERRORS = [BuildError("It cannot be built."), PlanRefusedError("It disagrees."), RequestError("It is wrong.")]


@pytest.mark.parametrize("error", ERRORS)
def test_a_failure_is_a_warning_or_an_error(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    failed: list[bool] = []

    def make(_: threading.Event) -> Opened:
        failed.append(True)
        raise error

    optional = Successor(make, is_required=False)
    wait_until(lambda: optional.take() is None and bool(warnings_of(caplog)), "the warning")
    assert warnings_of(caplog) == [f"ONNX Runtime goes on: {error}"]
    assert optional.take() is None
    assert len(warnings_of(caplog)) == len(failed) == 1
    optional.close()

    required = Successor(make, is_required=True)
    with pytest.raises(type(error), match=str(error)):
        taken_by(required)
    assert required.take() is None
    required.close()


def test_a_bug_is_not_taken_for_a_failure_of_the_device() -> None:
    def make(_: threading.Event) -> Opened:
        raise ZeroDivisionError

    successor = Successor(make, is_required=False)
    with pytest.raises(ZeroDivisionError):
        taken_by(successor)
    successor.close()


# In a predictor.


def test_onnx_runtime_answers_at_once_and_tensorrt_takes_over_between_two_frames(
    gate: Gate, image: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    with on_jetson() as cuda, caplog.at_level(logging.INFO):
        predictor = open_serving()
        assert gate.reached.wait(WAIT_S)
        before = [predictor.predict(image)[0] for _ in range(3)]
        assert (predictor.backend, predictor.precision) == ("onnxruntime", "fp32")
        assert cuda.launches == 0
        first = predictor._turns._engine
        gate.release.set()

        def predict() -> bool:
            found, stages_ms = predictor.predict(image)
            assert [*stages_ms] == ["prepare", "infer", "decode"]
            (after if predictor.backend == "tensorrt" else before).append(found)
            return bool(after)

        after: list[Result] = []
        wait_until(predict, "TensorRT")
        runs = cuda.graph_launches
        after += [predictor.predict(image)[0] for _ in range(3)]
        assert cuda.graph_launches == runs + 3
        with pytest.raises(EngineError, match="closed"):
            first.run(first.input_buffers)
        predictor.close()
    for found in (*before, *after):
        assert isinstance(found, Detections)
        assert np.array_equal(found.class_id, [13, 85])
        for column in ("xyxy", "score", "class_id"):
            assert np.allclose(getattr(found, column), getattr(before[0], column), atol=1e-3)
    lines = [record.getMessage() for record in caplog.records if record.msg.startswith("engine:")]
    assert lines[0].startswith("engine: onnxruntime, fp32, ")
    assert "until TensorRT's plan is built" in lines[0]
    assert lines[1:] == ["engine: tensorrt, fp32, takes over from here"]
    assert warnings_of(caplog) == []


def test_a_plan_that_is_there_is_used_from_the_first_frame(
    image: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    with on_jetson():
        with closing(open_predictor(DETECTOR, PredictorOptions(engine="tensorrt"))) as waited:
            assert waited.backend == "tensorrt"
        caplog.clear()
        with caplog.at_level(logging.INFO), closing(open_serving(precision="auto")) as predictor:
            assert (predictor.backend, predictor.precision) == ("tensorrt", "fp16")
            found, _ = predictor.predict(image)
            assert isinstance(found, Detections)
            assert len(found) == 2
    assert [record.getMessage() for record in caplog.records] == ["engine: tensorrt, fp16 (as asked)"]


def test_a_run_goes_on_from_one_engine_to_the_other(
    plans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the whole way: the plan is built by a child process while frames go by."""
    stop = threading.Event()
    engines: list[str] = []
    with (
        on_jetson(),
        builds_held_back(plans) as let_go,
        caplog.at_level(logging.INFO),
        closing(open_serving()) as predictor,
    ):

        def on_frame(done: int, _: int | None) -> None:
            engines.append(predictor.backend)
            if done == 3:
                let_go()
            if engines.count("tensorrt") == 3:
                stop.set()

        summary = run_on_synthetic(predictor, tmp_path / "r.jsonl", RunControl(stop, on_frame=on_frame))
    assert summary.ok
    before = engines.count("onnxruntime")
    assert engines == ["onnxruntime"] * before + ["tensorrt"] * 3
    assert before >= 3
    records = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [record["seq"] for record in records] == list(range(len(engines)))
    for record in records:
        assert sorted(item["label"] for item in record["detections"]) == ["clock", "stop sign"]
    lines = [record.getMessage() for record in caplog.records]
    assert sum("another process builds a TensorRT plan: waiting for it" in line for line in lines) == 1
    assert sum("until TensorRT's plan is built" in line for line in lines) == 1
    assert sum("takes over" in line for line in lines) == 1


def run_on_synthetic(predictor: Predictor, records: Path, control: RunControl) -> RunSummary:
    return run_pipeline(open_source("test://?fps=0"), predictor, lambda _: [jsonl_spec(records)], control)


def test_without_a_plan_onnx_runtime_goes_on_if_it_may(
    monkeypatch: pytest.MonkeyPatch, image: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    gate = failing_gate(monkeypatch, PlanRefusedError("The plan disagrees."))
    gate.release.set()
    with on_jetson(), closing(open_serving("auto", "auto")) as predictor:

        def predict() -> bool:
            predictor.predict(image)
            return bool(warnings_of(caplog))

        wait_until(predict, "the warning")
        for _ in range(3):
            found, _ = predictor.predict(image)
            assert isinstance(found, Detections)
            assert len(found) == 2
        assert predictor.backend == "onnxruntime"
    assert warnings_of(caplog) == ["ONNX Runtime goes on: The plan disagrees."]


def test_without_a_plan_that_was_asked_for_the_run_fails_and_its_records_are_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate = failing_gate(monkeypatch, PlanRefusedError("The plan disagrees."))

    def on_frame(done: int, _: int | None) -> None:
        if done == 3:
            gate.release.set()

    with on_jetson(), closing(open_serving("tensorrt", "auto")) as predictor:
        control = RunControl(threading.Event(), on_frame=on_frame)
        summary = run_on_synthetic(predictor, tmp_path / "r.jsonl", control)
    assert not summary.ok
    assert summary.failures == ["The plan disagrees."]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == (
        summary.failures
    )
    text = (tmp_path / "r.jsonl").read_text()
    assert text.endswith("\n")
    assert [json.loads(line)["seq"] for line in text.splitlines()] == list(range(summary.frames))
    assert summary.frames >= 3


def test_closing_while_a_plan_is_built_ends_the_builder(
    image: NDArray[np.uint8], plans: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with on_jetson(faults={"build_hangs"}), caplog.at_level(logging.INFO):
        predictor = open_serving()
        wait_until(lambda: bool(child_processes(os.getpid())), "the builder")
        predictor.predict(image)
        predictor.close()
        assert child_processes(os.getpid()) == set()
        assert not [thread.name for thread in threading.enumerate() if thread.name == "TensorRT plan"]
    assert f"edge-mnv2 models build {DETECTOR} --engine tensorrt" in caplog.messages[-1]
    assert [path.name for path in plans.iterdir()] == ["build.lock"]


def test_where_nobody_can_serve_meanwhile_nothing_is_built_either(
    monkeypatch: pytest.MonkeyPatch, plans: Path
) -> None:
    def fail(*_: object) -> None:
        wait_until(lambda: bool(child_processes(os.getpid())), "the builder")
        raise BackendUnavailableError("ONNX Runtime is not installed.")

    monkeypatch.setattr(edge_mnv2.predictor, "open_onnx", fail)
    with on_jetson(faults={"build_hangs"}):
        with pytest.raises(BackendUnavailableError, match="not installed"):
            open_serving()
        assert child_processes(os.getpid()) == set()
    assert [path.name for path in plans.iterdir()] == ["build.lock"]


def test_closing_before_the_plan_is_taken_leaves_nothing(gate: Gate, image: NDArray[np.uint8]) -> None:
    """What is left on the fake device is looked at by `on_jetson`."""
    with on_jetson() as cuda:
        predictor = open_serving()
        predictor.predict(image)
        gate.release.set()
        wait_until(lambda: cuda.graph_launches > 0, "the engine")
        predictor.close()
        assert not gate.cancelled
        assert predictor.backend == "onnxruntime"


def test_the_plan_of_float16_may_be_asked_for_while_the_processor_does_what_it_can(
    gate: Gate, image: NDArray[np.uint8]
) -> None:
    with on_jetson(), closing(open_serving(precision="fp16")) as predictor:
        predictor.predict(image)
        assert (predictor.backend, predictor.precision) == ("onnxruntime", "int8")
        gate.release.set()

        def predict() -> bool:
            predictor.predict(image)
            return predictor.backend == "tensorrt"

        wait_until(predict, "TensorRT")
        assert predictor.precision == "fp16"


def test_a_refused_plan_does_not_keep_the_first_frame_waiting_for_the_next(
    image: NDArray[np.uint8], plans: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Float16 was refused at an earlier start, and float32 is not built yet."""
    with on_jetson(faults={"nan_outputs"}), pytest.raises(PlanRefusedError):
        open_tensorrt(load_model(DETECTOR), probe(), PlanOptions("fp16"))
    with on_jetson(faults={"build_hangs"}):
        predictor = open_serving(precision="auto")
        wait_until(lambda: bool(child_processes(os.getpid())), "the builder")
        predictor.predict(image)
        assert predictor.backend == "onnxruntime"
        predictor.close()


def test_a_plan_that_tensorrt_refuses_is_built_again_while_onnx_runtime_serves(
    image: NDArray[np.uint8], plans: Path
) -> None:
    with on_jetson():
        open_tensorrt(load_model(DETECTOR), probe(), PlanOptions("fp32")).engine.close()
    with on_jetson(faults={"deserialise_none_once", "build_hangs"}):
        predictor = open_serving()
        predictor.predict(image)
        assert predictor.backend == "onnxruntime"
        predictor.close()


def test_what_ends_too_early_names_the_command_for_the_same_plan(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    asked = PredictorOptions(
        precision="fp16", dla_core=1, serve_while_building=True, variant=Variant((320, 320), None)
    )
    with on_jetson(dla_cores=2):
        for options in (asked, PredictorOptions(serve_while_building=True)):
            predictor = open_predictor(DETECTOR, options)
            assert gate.reached.wait(WAIT_S)
            predictor.close()
    lines = [line for line in caplog.messages if "before the end" in line]
    command = f"To build its plan ahead: edge-mnv2 models build {DETECTOR}"
    assert [line.partition(". ")[2] for line in lines] == [
        f"{command} --input-size 320x320 --engine tensorrt --precision fp16 --dla 1",
        f"{command} --engine tensorrt",
    ]
    assert warnings_of(caplog) == []


def test_a_build_that_failed_is_tried_again_only_where_tensorrt_is_required(
    image: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    with on_jetson(faults={"build_returns_none"}), closing(open_predictor(DETECTOR)) as waited:
        assert waited.backend == "onnxruntime"
    caplog.clear()
    with on_jetson() as cuda, closing(open_serving("auto", "auto")) as predictor:
        predictor.predict(image)
        assert predictor.backend == "onnxruntime"
        assert cuda.calls["deserialize_cuda_engine"] == 0
    (warning,) = warnings_of(caplog)
    assert f"models build {DETECTOR} --engine tensorrt" in warning
    with on_jetson(), closing(open_predictor(DETECTOR, PredictorOptions(engine="tensorrt"))) as required:
        assert required.backend == "tensorrt"


def test_a_failure_that_nobody_saw_is_told_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: threading.Event) -> Opened:
        raise EngineError("It cannot be built.")

    successor = Successor(fail, is_required=True)
    wait_until(lambda: successor._worker is None or successor._worker.join(0), "the failure")
    successor.close()
    assert [record.getMessage() for record in caplog.records] == [
        "TensorRT did not take over: It cannot be built."
    ]


def test_float16_falls_back_on_what_the_processor_has(
    monkeypatch: pytest.MonkeyPatch, image: NDArray[np.uint8]
) -> None:
    with on_jetson(faults={"build_returns_none"}):
        options = PredictorOptions(precision="fp16", threads=1)
        with closing(open_predictor(DETECTOR, options)) as predictor:
            predictor.predict(image)
            assert (predictor.backend, predictor.precision) == ("onnxruntime", "int8")


def test_a_dla_core_is_not_asked_of_onnx_runtime(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RequestError, match=r"--dla is TensorRT's: leave it out"):
        open_predictor(DETECTOR, PredictorOptions(engine="onnxruntime", dla_core=0))
    with on_jetson(faults={"no_tensorrt"}):
        open_predictor(DETECTOR, PredictorOptions(dla_core=0, threads=1)).close()
    assert "--dla is TensorRT's, and has no effect on ONNX Runtime" in warnings_of(caplog)
