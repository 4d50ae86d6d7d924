"""The self-test of a device: what it tries, what it finds, and the report of it."""

from __future__ import annotations

import itertools
import json
import logging
import mmap
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import edge_mnv2.self_test
import edge_mnv2.stress
from edge_mnv2.backends import PlanOptions, open_tensorrt
from edge_mnv2.self_test import Build, SelfTest, report, run_self_test
from edge_mnv2.stress import Check, check_growth, check_reopening, check_threads, check_two
from edge_mnv2.zoo.catalogue import find_card
from edge_mnv2.zoo.model import Variant, load_model
from engines import BuildCancelledError, EngineError, FakeEngine, TensorSpec
from engines.errors import BuildError
from engines.tensorrt.probe import Probe, ProbeStep, probe
from tests.jetson import on_jetson

NAME = "mobilenet-v2-imagenet"
SMALL = Variant(size=(96, 96))
NO_GPU = Probe((ProbeStep("NVIDIA driver", None, "there is none", "get one"),))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's plans, not checked yet."""
    home = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch, on_jetson():
        patch.setenv("XDG_CACHE_HOME", str(home))
        for precision in BACKENDS[2:]:
            options = PlanOptions(precision.removeprefix("tensorrt "), force=True)
            open_tensorrt(load_model(NAME, SMALL), probe(), options).engine.close()
    for path in (home / "edge-mnv2" / "plans").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"check": None}))
    return home / "edge-mnv2" / "plans"


@pytest.fixture
def planned(built: Path, small: Path) -> None:
    """Let the plans be there."""
    shutil.copytree(built, small / "plans")


@pytest.fixture(autouse=True)
def small(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One model of small input, fewer runs, no plans from elsewhere."""
    monkeypatch.setattr(edge_mnv2.self_test, "CATALOGUE", [find_card(NAME)])
    monkeypatch.setattr(edge_mnv2.self_test, "load_model", lambda name: load_model(name, SMALL))
    monkeypatch.setattr(edge_mnv2.self_test, "_TIMED", 10)
    monkeypatch.setattr(edge_mnv2.stress, "_RUNS", 20)
    monkeypatch.setattr(edge_mnv2.stress, "_OPENINGS", 2)
    cache = tmp_path / "cache" / "edge-mnv2"
    cache.mkdir(parents=True)
    (own_cache / "graphs").mkdir(parents=True, exist_ok=True)
    (cache / "graphs").symlink_to(own_cache / "graphs")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache


def failed(result: SelfTest) -> list[str]:
    return [check.name for check in result.checks if not check.passed]


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


BACKENDS = ("onnxruntime fp32", "onnxruntime int8", "tensorrt fp32", "tensorrt fp16", "tensorrt int8")


def names_of(backend: str) -> list[str]:
    on = f"{NAME} on {backend}"
    agrees = [] if backend == BACKENDS[0] else [f"{on} agrees with float32"]
    stressed = ("from 4 threads", "memory", "two engines at once", "opened again and again")
    return [*agrees, *(f"{on} {what}" if what[0] == "f" else f"{on}, {what}" for what in stressed)]


def test_each_build_of_a_good_device_is_compared_timed_and_stressed() -> None:
    with on_jetson() as cuda:
        result = run_self_test(probe(), threading.Event())
        # Of each precision the engine that made the plan, the one that is tried, the one beside it, and those
        # of the openings.
        assert cuda.calls["deserialize_cuda_engine"] == 15
    assert result.passed
    assert [check.name for check in result.checks] == [name for on in BACKENDS for name in names_of(on)]
    assert [build.title for build in result.builds] == [*BACKENDS]
    for build in result.builds:
        assert build.model == NAME
        assert 0 < build.p50_ms <= build.p95_ms
        assert build.load_s > 0
        assert (build.build_s is not None) == build.title.startswith("tensorrt")
        assert (build.parity is None) == (build.title == BACKENDS[0])
    details = {check.name: check.detail for check in result.checks}
    assert details[f"{NAME} on tensorrt fp16 agrees with float32"] == "logits 0.00%"
    assert details[f"{NAME} on tensorrt fp16 from 4 threads"] == (
        "after 40 runs at once the answer is the same"
    )
    assert details[f"{NAME} on tensorrt fp16, two engines at once"] == "20 of 20 answers are the same"
    assert details[f"{NAME} on tensorrt fp16, memory"].endswith(" MiB in 20 runs")
    assert details[f"{NAME} on tensorrt fp16, opened again and again"].endswith(" in 2 openings")


def test_without_tensorrt_onnx_runtime_is_tested_alone() -> None:
    result = run_self_test(NO_GPU, threading.Event())
    assert result.passed
    assert [build.title for build in result.builds] == [*BACKENDS[:2]]


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize(
    ("fault", "seen", "error"),
    [
        ("wrong_outputs", "logits is off by", None),
        ("nan_outputs", "logits has values that are not finite.", "not finite"),
    ],
)
def test_a_plan_that_computes_nonsense_is_found_and_measured_all_the_same(
    fault: str, seen: str, error: str | None
) -> None:
    with on_jetson(faults={fault}):
        result = run_self_test(probe(), threading.Event())
    assert not result.passed
    # NaN is not the same as NaN: what cannot be compared is not called the same.
    what = ["agrees with float32", "from 4 threads", "two engines at once"]
    what = what if fault == "nan_outputs" else what[:1]
    on_tensorrt = [name for backend in BACKENDS[2:] for name in names_of(backend)]
    assert failed(result) == [name for name in on_tensorrt if name.endswith(tuple(what))]
    details = [check.detail for check in result.checks if "agrees" in check.name and not check.passed]
    assert [detail.startswith(seen) for detail in details] == [True] * 3
    assert [build.title for build in result.builds] == [*BACKENDS]
    if error is not None:
        assert [row[-1] for row in rows(report(result, []))[4:7]] == [error] * 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("build_returns_none", "cannot build the plan"),
        ("parse_fails", "cannot read the graph"),
        ("execute_fails", "failed while running the model"),
    ],
)
def test_what_does_not_run_is_a_failed_check_and_the_others_go_on(fault: str, words: str) -> None:
    with on_jetson(faults={fault}):
        result = run_self_test(probe(), threading.Event())
    assert failed(result) == [f"{NAME} on {backend}" for backend in BACKENDS[2:]]
    assert words in result.checks[-1].detail
    assert [build.title for build in result.builds] == [*BACKENDS[:2]]


def test_whoever_cancels_gets_no_report() -> None:
    cancel = threading.Event()

    class CancelAtTheBuild(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "TensorRT builds with" in record.getMessage():
                cancel.set()

    handler, logger = CancelAtTheBuild(), logging.getLogger("engines.tensorrt.build_process")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        with on_jetson(faults={"build_hangs"}), pytest.raises(BuildCancelledError):
            run_self_test(probe(), cancel)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_whatever_a_library_raises_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def fail(*_: object) -> Any:  # noqa: ANN401 - it never returns
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(edge_mnv2.self_test, "open_tensorrt", fail)
    with on_jetson():
        result = run_self_test(probe(), threading.Event(), lambda build: seen.append(build.title))
    assert failed(result) == [f"{NAME} on {backend}" for backend in BACKENDS[2:]]
    assert result.checks[-1].detail == "TypeError: pybind11::init(): factory function returned nullptr"
    assert seen == [*BACKENDS[:2]]


def test_an_error_after_the_cancel_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = threading.Event()

    def fail(*_: object) -> Any:  # noqa: ANN401 - it never returns
        cancel.set()
        raise BuildError("It was killed.")

    monkeypatch.setattr(edge_mnv2.self_test, "open_tensorrt", fail)
    with on_jetson(), pytest.raises(BuildError, match=r"It was killed\."):
        run_self_test(probe(), cancel)


# Each check by itself, with an engine that does what it must not.


def engine_of(answers: Iterator[float]) -> FakeEngine:
    """Return an engine with these answers, all in one and the same array, as TensorRT's are."""
    buffer = np.zeros(1, np.float32)

    def compute(_: object) -> dict[str, NDArray[np.float32]]:
        buffer.fill(next(answers))
        return {"y": buffer}

    return engine_with(compute)


def engine_with(compute: Callable[[Any], dict[str, NDArray[np.float32]]]) -> FakeEngine:
    return FakeEngine(
        (TensorSpec("image", (1, 2, 2, 3), np.dtype(np.uint8)),),
        compute=compute,
        output_specs=(TensorSpec("y", (1,), np.dtype(np.float32)),),
    )


def test_an_answer_that_changes_is_found() -> None:
    steady = check_threads("x", engine_of(itertools.repeat(1.0)))
    assert (steady.passed, steady.detail) == (True, "after 40 runs at once the answer is the same")
    changed = check_threads("x", engine_of(itertools.chain([1], itertools.repeat(2))))
    assert (changed.passed, changed.detail) == (False, "after 40 runs at once the answer is another one")


def test_an_engine_that_bears_one_thread_alone_is_found() -> None:
    """Whoever comes while another one runs breaks it."""
    busy = threading.Lock()

    def compute(_: object) -> dict[str, NDArray[np.float32]]:
        if not busy.acquire(blocking=False):
            raise EngineError("two at once")
        time.sleep(0.001)  # long enough for the others to come
        busy.release()
        return {"y": np.zeros(1, np.float32)}

    with pytest.raises(EngineError, match="two at once"):
        check_threads("x", engine_with(compute))


def test_an_engine_that_disturbs_another_is_found() -> None:
    same = check_two("x", engine_of(itertools.repeat(1.0)), engine_of(itertools.repeat(1.0)))
    assert (same.passed, same.detail) == (True, "20 of 20 answers are the same")
    other = check_two(
        "x", engine_of(itertools.repeat(1.0)), engine_of(itertools.chain([1, 1], itertools.repeat(3)))
    )
    assert (other.passed, other.detail) == (False, "12 of 20 answers are the same")


def test_both_engines_get_the_same_picture() -> None:
    first, second = engine_of(itertools.repeat(1.0)), engine_of(itertools.repeat(1.0))
    first.input_buffers["image"].fill(7)
    check_two("x", first, second)
    assert (second.input_buffers["image"] == 7).all()


@pytest.mark.parametrize(("growth_mib", "passes"), [(-3.0, True), (7.9, True), (8.1, False), (100.0, False)])
def test_memory_that_grows_is_found(monkeypatch: pytest.MonkeyPatch, growth_mib: float, passes: bool) -> None:
    readings = iter([200.0, 200.0 + growth_mib])
    monkeypatch.setattr(edge_mnv2.stress, "resident_mib", lambda: next(readings))
    check = check_growth("x", engine_of(itertools.repeat(1.0)))
    assert (check.passed, check.detail) == (passes, f"{growth_mib:+.1f} MiB in 20 runs")


@pytest.mark.parametrize(("loss_mib", "passes"), [(-300.0, True), (127.0, True), (129.0, False)])
def test_memory_that_closed_engines_keep_is_found(
    monkeypatch: pytest.MonkeyPatch, loss_mib: float, passes: bool
) -> None:
    readings = itertools.cycle([1000.0, 1000.0 - loss_mib])
    monkeypatch.setattr(edge_mnv2.stress, "available_mib", lambda: next(readings))
    opened: list[FakeEngine] = []

    def open_() -> FakeEngine:
        assert all(engine.closed for engine in opened)
        opened.append(engine_of(itertools.repeat(1.0)))
        return opened[-1]

    check = check_reopening("x", open_)
    assert (check.passed, check.detail) == (passes, f"{loss_mib:+.0f} MiB of the system's in 2 openings")
    # What looks like a leak is looked at again.
    assert [engine.closed for engine in opened] == [True, True] * (1 if passes else 3)


def test_memory_that_another_program_took_is_no_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([1000.0, 400.0, 400.0, 390.0])
    monkeypatch.setattr(edge_mnv2.stress, "available_mib", lambda: next(readings))
    check = check_reopening("x", lambda: engine_of(itertools.repeat(1.0)))
    assert (check.passed, check.detail) == (True, "+10 MiB of the system's in 2 openings")


def test_memory_is_that_of_this_process() -> None:
    before_mib = edge_mnv2.stress.resident_mib()
    with mmap.mmap(-1, 32 << 20) as fresh:  # not what was freed before
        fresh.write(bytes(1) * len(fresh))
        assert 24 < edge_mnv2.stress.resident_mib() - before_mib < 128


def test_the_report_is_markdown_that_says_what_failed() -> None:
    result = SelfTest(
        [Build("m", "onnxruntime fp32", None, 0.0421, 7.279, 7.471, None)],
        [Check("m on onnxruntime fp32, memory", True, "+0.0 MiB"), Check("m on tensorrt", False, "It died.")],
    )
    text = report(result, [("device", "Orin"), ("L4T", "36.4.3")])
    assert text.startswith("## edge-mnv2 self-test\n\n- device: Orin\n- L4T: 36.4.3\n- machine: ")
    assert rows(text) == [
        ["model", "on", "built", "loaded", "p50", "p95", "FPS", "error"],
        ["---"] * 8,
        ["m", "onnxruntime fp32", "-", "0.04 s", "7.28 ms", "7.47 ms", "137", "-"],
        ["check", "", "seen"],
        ["---"] * 3,
        ["m on onnxruntime fp32, memory", "ok", "+0.0 MiB"],
        ["m on tensorrt", "FAILED", "It died."],
    ]
    assert text.endswith("\n\n1 of 2 checks passed.")
    # Without an empty line before it, no reader of Markdown sees a table.
    lines = text.splitlines()
    assert all(
        lines[number - 1] == ""
        for number, line in enumerate(lines)
        if line.startswith(("| model", "| check"))
    )


def test_what_a_library_says_in_lines_stays_in_its_cell() -> None:
    text = report(SelfTest([], [Check("m on tensorrt", False, "It died:\n  a | b\n")]), [])
    assert text.splitlines()[-3] == r"| m on tensorrt | FAILED | It died: a \| b |"
