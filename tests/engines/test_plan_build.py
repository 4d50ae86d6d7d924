"""A build: what TensorRT is told in which version, and a child process that reports, obeys, and may die."""

from __future__ import annotations

import json
import logging
import os
import runpy
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from engines.errors import (
    BackendUnavailableError,
    BuildCancelledError,
    BuildError,
    EngineError,
    ModelFileError,
)
from engines.fake_jetson.jetson import FakeCuda, FakeJetson, fake_jetson
from engines.fake_jetson.plans import Plan, TimingCache, pack_timing_cache, read_plan, read_timing_cache
from engines.tensorrt import build_child
from engines.tensorrt.build_process import BuildProgress, run_build
from engines.tensorrt.engine import TensorrtEngine
from engines.tensorrt.logger import logger_of
from engines.tensorrt.network_builder import MIB, BuildJob, build_plan, needs_typed_graph
from engines.tensorrt.plan_cache import ensure_plan
from engines.tensorrt.plan_key import PlanKey, PlanRequest, make_key, timing_cache_name
from engines.tensorrt.probe import import_tensorrt, probe
from tests.engines.plan_samples import (
    KEY,
    LAYERS,
    ROOT,
    SITE,
    leftovers,
    play_in_children,
    request_for,
    run_in_children,
    write_graph,
)

EIGHT, TEN, ELEVEN = (FakeJetson(tensorrt_version=version) for version in ("8.6.1", "10.3.0", "11.4.0.106"))
VERSIONS = pytest.mark.parametrize("spec", [EIGHT, TEN, ELEVEN], ids=lambda spec: spec.tensorrt_version)
PHASES = ["Building engine", "Optimizing graph", "Timing graph nodes"]
# What `child_of` waits for: a build that hangs is in the midst of it.
IN_THE_MIDST = "Timing graph nodes"


def broken(*faults: str, base: FakeJetson = TEN, **changes: object) -> FakeJetson:
    return replace(base, faults=frozenset(faults), **changes)  # type: ignore[arg-type]


# --- what TensorRT is told


@dataclass
class Told:
    """A build in this process.

    Attributes:
        plan: As it is in the file.
        timing_cache: What was measured.
        network_flags: Bits that the network was made with.
        workspace_bytes: Limit of the workspace.
        steps: What the progress monitor heard.
        cuda: The device.
    """

    plan: Plan
    timing_cache: TimingCache
    network_flags: int
    workspace_bytes: int
    steps: list[tuple[str, int, int]]
    cuda: FakeCuda


JOB = BuildJob(b"", "fp16", 64 * MIB, None, b"")


@contextmanager
def playing(spec: FakeJetson) -> Iterator[tuple[FakeCuda, Any]]:
    with fake_jetson(spec) as cuda:
        yield cuda, import_tensorrt()
    assert cuda.violations == []


def tell(spec: FakeJetson, onnx_file: Path, **job: object) -> Told:
    """Build a plan in this process."""
    steps: list[tuple[str, int, int]] = []
    seen: dict[str, Any] = {}

    def take(phase: str, step: int, of: int) -> bool:
        steps.append((phase, step, of))
        return True

    with playing(spec) as (cuda, trt):
        create_network = trt.Builder.create_network
        create_config = trt.Builder.create_builder_config

        def spy_on_network(builder: object, flags: int) -> object:
            seen["flags"] = flags
            return create_network(builder, flags)

        def spy_on_config(builder: object) -> object:
            seen["config"] = create_config(builder)
            return seen["config"]

        trt.Builder.create_network, trt.Builder.create_builder_config = spy_on_network, spy_on_config
        built = build_plan(trt, replace(JOB, onnx=onnx_file.read_bytes(), **job), take)  # type: ignore[arg-type]
        limit = seen["config"].get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)
    measured = read_timing_cache(built.timing_cache)
    assert measured is not None
    return Told(read_plan(built.plan, spec), measured, seen["flags"], limit, steps, cuda)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "graph.onnx")


@pytest.fixture
def quantised(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "quantised.onnx", is_quantised=True)


@pytest.mark.parametrize(
    ("spec", "precision", "flags"),
    [
        (EIGHT, "fp32", ()),
        (TEN, "fp32", ()),
        (ELEVEN, "fp32", ()),
        (EIGHT, "fp16", ("FP16", "TF32")),
        (TEN, "fp16", ("FP16", "TF32")),
        (ELEVEN, "fp16", ("TF32",)),
        (EIGHT, "int8", ("FP16", "INT8", "TF32")),
        (TEN, "int8", ("FP16", "INT8", "TF32")),
        (ELEVEN, "int8", ("TF32",)),
    ],
)
def test_precision_is_said_by_flags_where_there_are_any(
    graph: Path, quantised: Path, spec: FakeJetson, precision: str, flags: tuple[str, ...]
) -> None:
    told = tell(spec, quantised if precision == "int8" else graph, precision=precision)
    assert told.plan.flags == flags
    assert told.plan.dla_core is None


@VERSIONS
def test_a_typed_graph_is_needed_where_the_flags_are_gone(spec: FakeJetson) -> None:
    with playing(spec) as (_, trt):
        assert needs_typed_graph(trt) is (spec is ELEVEN)


@VERSIONS
def test_the_batch_is_explicit_where_that_can_be_said(graph: Path, spec: FakeJetson) -> None:
    assert tell(spec, graph).network_flags == (0 if spec is ELEVEN else 1)


@VERSIONS
def test_the_workspace_is_limited(graph: Path, spec: FakeJetson) -> None:
    assert tell(spec, graph, workspace_bytes=12345).workspace_bytes == 12345


@VERSIONS
def test_a_dla_core_takes_what_it_can(graph: Path, spec: FakeJetson) -> None:
    told = tell(replace(spec, dla_cores=2), graph, dla_core=1)
    assert told.plan.dla_core == 1
    assert "GPU_FALLBACK" in told.plan.flags


@pytest.mark.parametrize("cores", [0, 1])
def test_a_dla_core_that_is_not_there_is_refused(graph: Path, cores: int) -> None:
    with pytest.raises(BackendUnavailableError, match=f"no DLA core 1: this device has {cores}"):
        tell(replace(TEN, dla_cores=cores), graph, dla_core=1)


def test_measurements_are_taken_up(graph: Path, quantised: Path) -> None:
    first = tell(TEN, graph)
    assert len(first.timing_cache.entries) == 1
    second = tell(TEN, quantised, precision="int8", timing_cache=pack_timing_cache(first.timing_cache))
    assert len(second.timing_cache.entries) == 2
    assert first.timing_cache.entries < second.timing_cache.entries


@pytest.mark.parametrize(
    "foreign",
    [
        b"garbage",
        pack_timing_cache(TimingCache("10.7.0", TEN.device_name, frozenset({"foreign"}))),
        pack_timing_cache(TimingCache("10.3.0", "another", frozenset({"foreign"}))),
    ],
    ids=["garbage", "another version", "another device"],
)
def test_foreign_measurements_are_not_taken_up(graph: Path, foreign: bytes) -> None:
    assert tell(TEN, graph, timing_cache=foreign).timing_cache == tell(TEN, graph).timing_cache


@VERSIONS
def test_steps_are_told_where_there_is_a_monitor(graph: Path, spec: FakeJetson) -> None:
    told = tell(spec, graph)
    own = [("reading the graph", 0, 0), ("choosing kernels", 0, 0)]
    assert told.steps[:2] == own
    monitored = told.steps[2:]
    if spec is EIGHT:
        assert monitored == []
    else:
        assert list(dict.fromkeys(phase for phase, _, _ in monitored)) == PHASES
        optimising = [(step, of) for phase, step, of in monitored if phase == "Optimizing graph"]
        assert optimising == [(step, LAYERS) for step in (0, *range(LAYERS), LAYERS)]
        assert monitored[-1] == ("Building engine", 2, 2)


def test_a_monitor_can_end_the_build(graph: Path) -> None:
    with playing(TEN) as (_, trt), pytest.raises(BuildError, match=r"cannot build the plan: .*BuildCanceled"):
        build_plan(trt, replace(JOB, onnx=graph.read_bytes()), lambda phase, *_: phase != IN_THE_MIDST)


@VERSIONS
@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        ("parse_fails", ModelFileError, "cannot read the graph: Assertion failed: a fault was asked for"),
        (
            "build_returns_none",
            BuildError,
            "cannot build the plan: IBuilder::buildSerializedNetwork: Error Code 10: Internal Error "
            "(Could not find any implementation for node)",
        ),
    ],
)
def test_tensorrt_s_own_reason_is_given(
    graph: Path, spec: FakeJetson, fault: str, kind: type[EngineError], reason: str
) -> None:
    with pytest.raises(kind) as raised:
        tell(broken(fault, base=spec), graph)
    assert str(raised.value) == f"TensorRT {spec.tensorrt_version} {reason}"


def test_what_is_no_graph_is_refused_in_the_parser_s_words(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"\x08\x07no graph")
    with pytest.raises(ModelFileError, match=r"TensorRT 10\.3\.0 cannot read the graph: Failed to parse"):
        tell(TEN, tmp_path / "no.onnx")


def test_the_logger_keeps_the_last_reasons(caplog: pytest.LogCaptureFixture) -> None:
    with playing(TEN) as (_, trt):
        logger = logger_of(trt)
        assert logger_of(trt) is logger
        assert logger.take_reason() == "it gave no reason"
        severity = trt.ILogger
        with caplog.at_level(logging.DEBUG, "engines"):
            logger.log(severity.INTERNAL_ERROR, " first\n")
            logger.log(severity.WARNING, "careful")
            logger.log(severity.INFO, "by the way")
            logger.log(severity.ERROR, "second")
        assert logger.take_reason() == "first / second"
        assert logger.take_reason() == "it gave no reason"
        for number in range(9):
            logger.log(severity.ERROR, str(number))
        assert logger.take_reason() == "4 / 5 / 6 / 7 / 8"
    words = ["TensorRT:  first\n", "TensorRT: careful", "TensorRT: second"]
    assert [record.getMessage() for record in caplog.records] == words
    with playing(TEN) as (_, trt):
        assert logger_of(trt) is not logger  # of another module


# --- in the child


def test_the_workspace_is_a_quarter_of_what_is_free_at_most(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(build_child, "_say", lambda **message: said.append(message))

    def workspace_mib(asked_mib: int, device_mib: int, available_mib: int, share: int) -> float:
        monkeypatch.setattr(build_child, "_available_bytes", lambda: available_mib * MIB)
        job = {
            "onnx": str(graph),
            "plan": str(tmp_path / "plan"),
            "timing_cache": str(tmp_path / "timing"),
            "precision": "fp16",
            "workspace_mib": asked_mib,
            "dla_core": None,
            "share": share,
        }
        said.clear()
        with fake_jetson(replace(TEN, memory_bytes=device_mib * MIB)) as cuda:
            done = build_child._build(job)
        assert cuda.violations == cuda.leaks() == []
        assert said[0] == {
            "workspace_mib": done["workspace_mib"],
            "free_mib": min(device_mib, available_mib),
        }
        return float(done["workspace_mib"])

    assert workspace_mib(256, 8192, 8192, 1) == 256
    assert workspace_mib(256, 8192, 8192, 4) == 64
    assert workspace_mib(64, 8192, 8192, 1) == 64
    assert workspace_mib(256, 512, 8192, 1) == 128
    assert workspace_mib(256, 8192, 400, 1) == 100
    assert workspace_mib(256, 8192, 400, 4) == 25


def test_available_memory_is_the_system_s() -> None:
    total_bytes = psutil.virtual_memory().total
    assert total_bytes / 100 < build_child._available_bytes() <= total_bytes


@dataclass
class Bench:
    """Builds in child processes.

    Attributes:
        request: What is wanted.
        key: Of the plan.
        folder: Where it is written.
        cancel: Ends a build.
        heard: All reports.
        act: Called with each report.
    """

    request: PlanRequest
    key: PlanKey
    folder: Path
    cancel: threading.Event = field(default_factory=threading.Event)
    heard: list[BuildProgress] = field(default_factory=list)
    act: Callable[[BuildProgress], None] = lambda _: None

    @property
    def plan(self) -> Path:
        return self.folder / "built.plan"

    def hear(self, progress: BuildProgress) -> None:
        self.heard.append(progress)
        self.act(progress)

    def build(self, **changes: object) -> dict[str, Any]:
        request = replace(self.request, **changes)  # type: ignore[arg-type]
        return run_build(request, self.key, self.plan, self.hear, self.cancel)

    def read(self, spec: FakeJetson) -> Plan:
        return read_plan(self.plan.read_bytes(), spec)


@pytest.fixture
def bench(tmp_path: Path, graph: Path) -> Iterator[Bench]:
    folder = tmp_path / "plans"
    folder.mkdir()
    yield Bench(request_for(graph), KEY, folder)
    assert psutil.Process().children() == []


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeJetson], None]:
    """Let child processes play a Jetson."""
    return lambda spec: play_in_children(monkeypatch, spec)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


@VERSIONS
def test_the_child_ends_cleanly_whatever_comes_out(
    bench: Bench, play: Callable[[FakeJetson], None], spec: FakeJetson
) -> None:
    # The fakes turn its exit code into another where a context stays pushed, or something else is misused.
    for faults, last in ((), "done"), (("parse_fails",), "error"), (("build_returns_none",), "error"):
        play(broken(*faults, base=spec))
        code, messages, stderr = talk(bench)
        assert (code, stderr) == (0, "")
        assert last in messages[-1]
    assert bench.read(spec).version == spec.tensorrt_version


def talk(bench: Bench) -> tuple[int, list[dict[str, Any]], str]:
    """Run the child by hand; return its exit code, its messages and what it wrote beside them."""
    job = {
        "onnx": str(bench.request.onnx),
        "plan": str(bench.plan),
        "timing_cache": str(bench.folder / "timing"),
        "precision": "fp16",
        "workspace_mib": 256,
        "dla_core": None,
        "share": 1,
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "engines.tensorrt.build_child"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(json.dumps(job) + "\n")
        child.stdin.flush()
        lines = [line for line in child.stdout if line.strip()]
        return child.wait(), [json.loads(line) for line in lines], child.stderr.read()


# --- beside the parent


def test_progress_comes_with_phases_and_steps(bench: Bench, play: Callable[[FakeJetson], None]) -> None:
    play(TEN)
    facts = bench.build()
    assert facts.keys() == {"seconds", "workspace_mib", "built_at", "attempts"}
    assert (facts["workspace_mib"], facts["attempts"]) == (256, 1)
    assert bench.read(TEN).flags == ("FP16", "TF32")
    phases = list(dict.fromkeys(progress.phase for progress in bench.heard))
    assert phases == ["starting", "reading the graph", "choosing kernels", *PHASES]
    for phase, steps in zip(PHASES, (2, LAYERS, LAYERS), strict=True):
        told = [progress for progress in bench.heard if progress.phase == phase]
        assert {progress.steps for progress in told} == {steps}
        assert told[0].step == 0
        assert told[-1].step == steps
    elapsed = [progress.elapsed_s for progress in bench.heard]
    assert elapsed == sorted(elapsed)


def test_before_tensorrt_10_only_time_passes(bench: Bench, play: Callable[[FakeJetson], None]) -> None:
    def stop_later(progress: BuildProgress) -> None:
        if len([one for one in bench.heard if one.phase == "choosing kernels"]) == 4:
            bench.cancel.set()

    bench.act = stop_later
    play(broken("build_hangs", base=EIGHT))
    with pytest.raises(BuildCancelledError):
        bench.build()
    waited = [progress for progress in bench.heard if progress.phase == "choosing kernels"]
    assert {(progress.step, progress.steps) for progress in bench.heard} == {(0, 0)}
    elapsed = [progress.elapsed_s for progress in waited]
    assert len(elapsed) == 4
    assert elapsed == sorted(set(elapsed))


def test_a_build_that_hangs_is_cancelled(
    bench: Bench, play: Callable[[FakeJetson], None], warnings: Callable[[], list[str]]
) -> None:
    children: list[int] = []

    def cancel_in_the_midst(progress: BuildProgress) -> None:
        if progress.phase == IN_THE_MIDST and not children:
            children.extend(child.pid for child in psutil.Process().children())
            bench.cancel.set()

    bench.act = cancel_in_the_midst
    play(broken("build_hangs"))
    with pytest.raises(BuildCancelledError):
        bench.build()
    (pid,) = children
    assert not psutil.pid_exists(pid)
    assert list(bench.folder.iterdir()) == []
    assert warnings() == []


def test_a_build_that_nobody_wants_any_more_does_not_begin(
    bench: Bench, play: Callable[[FakeJetson], None]
) -> None:
    play(TEN)
    bench.cancel.set()
    with pytest.raises(BuildCancelledError):
        bench.build()
    assert not bench.plan.exists()


def test_the_child_ends_with_who_hears_its_reports(bench: Bench, play: Callable[[FakeJetson], None]) -> None:
    def fail(progress: BuildProgress) -> None:
        if progress.phase == IN_THE_MIDST:
            raise KeyboardInterrupt

    bench.act = fail
    play(broken("build_hangs"))
    with pytest.raises(KeyboardInterrupt):
        bench.build()


def test_the_child_gives_way(bench: Bench, play: Callable[[FakeJetson], None]) -> None:
    found: list[tuple[int, int, bool]] = []

    def look(progress: BuildProgress) -> None:
        if progress.phase == IN_THE_MIDST and not found:
            (child,) = psutil.Process().children()
            score = int(Path(f"/proc/{child.pid}/oom_score_adj").read_text(encoding="ascii"))
            found.append((child.nice(), score, os.getsid(child.pid) == child.pid))
            bench.cancel.set()

    bench.act = look
    play(broken("build_hangs"))
    with pytest.raises(BuildCancelledError):
        bench.build()
    assert found == [(min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10), 800, True)]


@pytest.mark.parametrize("fault", ["build_killed", "build_out_of_memory"])
def test_too_little_memory_is_tried_once_more_with_less(
    bench: Bench, play: Callable[[FakeJetson], None], warnings: Callable[[], list[str]], fault: str
) -> None:
    play(broken(fault))
    plan = ensure_plan(
        bench.folder,
        KEY,
        lambda path: run_build(bench.request, KEY, path, bench.hear, bench.cancel),
        bench.cancel,
    )
    said = json.loads(plan.sidecar.read_text(encoding="utf-8"))["build"]
    assert (said["attempts"], said["workspace_mib"]) == (2, 64)
    (line,) = warnings()
    reason = "was killed, most likely because memory ran out" if "killed" in fault else "OutOfMemory"
    assert reason in line
    assert line.endswith("; trying once more with a quarter of the workspace")


def test_a_build_that_is_killed_twice_says_so(
    bench: Bench, play: Callable[[FakeJetson], None], warnings: Callable[[], list[str]]
) -> None:
    play(broken("build_killed_always"))
    with pytest.raises(BuildError, match="was killed, most likely because memory ran out"):
        bench.build()
    assert len(warnings()) == 1
    assert list(bench.folder.iterdir()) == []


def test_a_build_that_fails_gives_tensorrt_s_reason(
    bench: Bench, play: Callable[[FakeJetson], None], warnings: Callable[[], list[str]]
) -> None:
    play(broken("build_returns_none"))
    with pytest.raises(
        BuildError, match=r"TensorRT 10\.3\.0 cannot build .*Could not find any implementation"
    ):
        bench.build()
    assert warnings() == []  # less workspace would not help


@pytest.mark.parametrize(
    ("spec", "changes", "kind", "words"),
    [
        (broken("parse_fails"), {}, ModelFileError, "cannot read the graph: Assertion failed"),
        (TEN, {"onnx": Path("missing.onnx")}, ModelFileError, "The graph cannot be read: .*No such file"),
        (broken("no_tensorrt"), {}, BackendUnavailableError, "TensorRT cannot run here"),
        (broken("no_driver"), {}, BackendUnavailableError, "there is no NVIDIA driver"),
        (broken("no_device"), {}, BackendUnavailableError, "no device that works"),
        (TEN, {"dla_core": 0}, BackendUnavailableError, "no DLA core 0: this device has 0"),
    ],
    ids=["graph", "no graph", "no TensorRT", "no driver", "no device", "no DLA"],
)
def test_what_another_try_does_not_mend_is_not_tried_again(
    bench: Bench,
    play: Callable[[FakeJetson], None],
    warnings: Callable[[], list[str]],
    spec: FakeJetson,
    changes: dict[str, Any],
    kind: type[EngineError],
    words: str,
) -> None:
    play(spec)
    with pytest.raises(kind, match=words):
        bench.build(**changes)
    assert warnings() == []
    assert list(bench.folder.iterdir()) == []


def test_a_dla_core_reaches_the_child(bench: Bench, play: Callable[[FakeJetson], None]) -> None:
    spec = replace(TEN, dla_cores=1)
    play(spec)
    bench.build(dla_core=0)
    assert bench.read(spec).dla_core == 0


def test_measurements_are_kept_beside_the_plans(
    bench: Bench, play: Callable[[FakeJetson], None], quantised: Path
) -> None:
    play(TEN)
    path = bench.folder / timing_cache_name(KEY.tensorrt, KEY.device, KEY.compute_capability)
    foreign = TimingCache("10.7.0", TEN.device_name, frozenset({"foreign"}))
    path.write_bytes(pack_timing_cache(foreign))
    bench.build()
    first = read_timing_cache(path.read_bytes())
    bench.build(onnx=quantised, precision="int8")
    second = read_timing_cache(path.read_bytes())
    assert first is not None
    assert second is not None
    assert (first.version, len(first.entries), len(second.entries)) == ("10.3.0", 1, 2)
    assert first.entries < second.entries
    assert sorted(bench.folder.iterdir()) == [bench.plan, path]


def test_measurements_that_cannot_be_kept_do_no_harm(
    bench: Bench, play: Callable[[FakeJetson], None], warnings: Callable[[], list[str]]
) -> None:
    play(TEN)
    path = bench.folder / timing_cache_name(KEY.tensorrt, KEY.device, KEY.compute_capability)
    path.mkdir()
    assert bench.build()["attempts"] == 1
    assert warnings() == []
    assert sorted(bench.folder.iterdir()) == [bench.plan, path]


# --- children that misbehave


@pytest.fixture
def meddle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let child processes play a Jetson, and run some code before anything else."""

    def start(code: str) -> None:
        play_in_children(monkeypatch, TEN)
        run_in_children(monkeypatch, tmp_path / "site", code)

    return start


# A phase of which nothing more is heard once it began.
SILENCE = """
import signal
from engines.fake_jetson.tensorrt_build import Builder
def pause(builder, network, config):
    config._monitor.phase_start("silent", None, 3)
    config._monitor.phase_finish("silent")
    signal.pause()
Builder.build_serialized_network = pause
"""


def test_a_phase_lasts_until_something_else_is_heard(bench: Bench, meddle: Callable[[str], None]) -> None:
    def stop_later(progress: BuildProgress) -> None:
        if len([one for one in bench.heard if one.phase == "silent"]) == 4:
            bench.cancel.set()

    bench.act = stop_later
    meddle(SILENCE)
    with pytest.raises(BuildCancelledError):
        bench.build()
    silent = [(one.step, one.steps) for one in bench.heard if one.phase == "silent"]
    assert silent == [(0, 3), (3, 3), (3, 3), (3, 3)]


# A library that prints bytes and lines that look like messages, and leaves the last line unended.
NOISE = r"""
import os
from engines.fake_jetson.tensorrt_build import Builder
lines = b"\xff\xfe\x00\n null\n[1]\n\"x\"\n7\n{\n" + b"[" * 100_000 + b"\n"
os.write(1, lines)
build = Builder.build_serialized_network
def noisy(*arguments):
    os.write(1, lines + b"no end of line")
    built = build(*arguments)
    os.write(1, b"no end of line")
    return built
Builder.build_serialized_network = noisy
"""


def test_what_a_library_prints_is_no_message(
    bench: Bench, meddle: Callable[[str], None], warnings: Callable[[], list[str]]
) -> None:
    meddle(NOISE)
    assert bench.build()["attempts"] == 1
    assert {progress.phase for progress in bench.heard} >= set(PHASES)
    assert warnings() == []


# The soft limit stands for a disk that is full: it is the process's own.
FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
"""


def test_a_disk_that_is_full_is_said_and_no_second_build_tried(
    bench: Bench, meddle: Callable[[str], None], warnings: Callable[[], list[str]]
) -> None:
    meddle(FULL_DISK)
    with pytest.raises(BuildError) as raised:
        ensure_plan(
            bench.folder,
            KEY,
            lambda path: run_build(bench.request, KEY, path, bench.hear, bench.cancel),
            bench.cancel,
        )
    words = f"The cache of TensorRT plans, {bench.folder}, cannot be written: [Errno 27] File too large"
    assert str(raised.value).startswith(words)
    assert warnings() == []
    assert [path.name for path in bench.folder.iterdir()] == ["build.lock"]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (
            "os.kill(os.getpid(), signal.SIGSEGV)",
            r"crashed \(Segmentation fault\): .* first words / last words\.",
        ),
        ("os._exit(3)", r"ended with exit code 3: .* first words / last words\."),
        ("os._exit(0)", r"ended with exit code 0: .* first words / last words\."),
        ("raise TypeError('no builder')", r"ended with exit code 1: .*TypeError: no builder"),
    ],
)
def test_a_child_that_dies_is_heard(
    bench: Bench, meddle: Callable[[str], None], warnings: Callable[[], list[str]], end: str, words: str
) -> None:
    meddle(
        "import os, resource, signal, sys\n"
        "from engines.fake_jetson.tensorrt_build import Builder\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "def die(*_):\n"
        "    os.write(2, b'\\xff first words\\nlast words\\n')\n"
        f"    {end}\n"
        "Builder.build_serialized_network = die\n"
    )
    with pytest.raises(BuildError, match=f"The TensorRT builder {words}"):
        bench.build()
    assert warnings() == []


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_child_that_somebody_ends_has_not_failed(
    bench: Bench, meddle: Callable[[str], None], end: signal.Signals
) -> None:
    """As systemd does where it ends a service; the next start builds."""
    meddle(
        "import os, signal\n"
        "from engines.fake_jetson.tensorrt_build import Builder\n"
        "def die(*_):\n"
        f"    signal.signal({int(end)}, signal.SIG_DFL)\n"
        f"    os.kill(os.getpid(), {int(end)})\n"
        "Builder.build_serialized_network = die\n"
    )
    with pytest.raises(BuildCancelledError, match=rf"builder was ended \({signal.strsignal(end)}\)"):
        ensure_plan(
            bench.folder,
            KEY,
            lambda path: run_build(bench.request, KEY, path, bench.hear, bench.cancel),
            bench.cancel,
        )
    assert [path.name for path in bench.folder.iterdir()] == ["build.lock"]


# The driver fails once the plan is there.
NO_DETACH = """
import pycuda.driver
def fail(context):
    raise pycuda.driver.LogicError("cuDevicePrimaryCtxRelease failed")
pycuda.driver.Context.detach = fail
"""


def test_a_plan_is_not_lost_where_the_context_cannot_be_given_back(
    bench: Bench, meddle: Callable[[str], None], warnings: Callable[[], list[str]]
) -> None:
    meddle(NO_DETACH)
    assert bench.build()["attempts"] == 1
    assert bench.read(TEN).version == TEN.tensorrt_version
    assert list(bench.folder.glob("timing-*.cache"))
    assert warnings() == []


def test_a_child_that_dies_before_it_hears_its_job_is_heard(
    bench: Bench, meddle: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    def start_and_wait(*arguments: Any, **options: Any) -> subprocess.Popen[str]:  # noqa: ANN401 - handed on
        child: subprocess.Popen[str] = start(*arguments, **options)
        child.wait()
        return child

    monkeypatch.setattr(subprocess, "Popen", start_and_wait)
    meddle("import os\nos._exit(4)\n")
    with pytest.raises(BuildError, match="ended with exit code 4: it said nothing"):
        bench.build()


def test_a_child_that_cannot_be_started_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(bench.folder / "no-python"))
    with pytest.raises(BuildError, match=r"The TensorRT builder cannot be started: .*no-python"):
        bench.build()


def test_the_user_s_own_modules_are_not_taken_for_ours(
    bench: Bench, play: Callable[[FakeJetson], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in ("engines.py", "json.py", "numpy.py"):
        (own / name).write_text("raise SystemExit('the wrong one')\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        runpy.run_path(str(own / "json.py"))
    monkeypatch.chdir(own)
    relative = Path(os.path.relpath(bench.request.onnx))
    play(TEN)
    assert bench.build(onnx=relative)["attempts"] == 1
    # The fakes are loaded before anything else, and with them some modules: now without.
    for name in ("PYTHONPATH", "EDGE_MNV2_FAKE_JETSON"):
        monkeypatch.delenv(name)
    with suppress(BackendUnavailableError):  # as ours says where there is no TensorRT
        bench.build(onnx=relative)


def test_a_path_for_modules_that_is_relative_is_so_in_the_child_too(
    bench: Bench, play: Callable[[FakeJetson], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    play(TEN)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", os.path.relpath(SITE))
    assert bench.build()["attempts"] == 1


INSTALLED = """
import dataclasses, json, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])  # by now the standard library is loaded
from engines.tensorrt.build_process import run_build
from tests.engines.plan_samples import KEY, request_for
run_build(request_for(Path(sys.argv[2])), KEY, Path(sys.argv[3]), lambda _: None, threading.Event())
"""


def test_what_lies_beside_an_installed_package_is_not_taken_for_the_standard_library(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In site-packages lie backports of modules that Python has by now, such as dataclasses."""
    for name in ("PYTHONPATH", "EDGE_MNV2_FAKE_JETSON"):
        monkeypatch.delenv(name, raising=False)
    site = tmp_path / "site-packages"
    shutil.copytree(ROOT / "engines", site / "engines")
    (site / "dataclasses.py").write_text("raise SystemExit('the wrong one')\n", encoding="utf-8")
    # The copy tells that it is the one which runs.
    copied = site / "engines" / "tensorrt" / "build_child.py"
    text = copied.read_text(encoding="utf-8")
    copied.write_text(text.replace("_say(**_build(job))", '_say(error="the copy", kind="graph")'), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED, str(site), str(bench.request.onnx), str(bench.plan)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "engines.errors.ModelFileError: the copy"


PARENT = """
import sys, threading
from pathlib import Path
from engines.tensorrt.build_process import run_build
from tests.engines.plan_samples import KEY, request_for

def hear(progress):
    if progress.phase == "choosing kernels":
        print("builds", flush=True)

run_build(request_for(Path(sys.argv[1])), KEY, Path(sys.argv[2]), hear, threading.Event())
"""


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_ends_when_its_parent_dies(
    bench: Bench, play: Callable[[FakeJetson], None], death: signal.Signals
) -> None:
    play(broken("build_hangs", base=EIGHT))  # which says nothing, and so does not notice a broken pipe
    command = [sys.executable, "-c", PARENT, str(bench.request.onnx), str(bench.plan)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "builds\n"
        (child,) = psutil.Process(parent.pid).children()
        descriptor = os.pidfd_open(child.pid)
        try:
            parent.send_signal(death)
            parent.wait()
            # Readable as soon as the process has ended, whoever buries it.
            assert select.select([descriptor], [], [], 60)[0] == [descriptor]
        finally:
            with suppress(ProcessLookupError):  # as it should be
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)
    assert leftovers(bench.folder) == []


def test_the_key_s_version_is_the_child_s(bench: Bench, play: Callable[[FakeJetson], None]) -> None:
    with fake_jetson(TEN):
        key = make_key(bench.request, probe())
    play(TEN)
    bench.build()
    plan = bench.read(TEN)
    assert (plan.version, plan.device_name) == (key.tensorrt, key.device)


# --- what real bindings do where the fake's are kinder


@pytest.mark.parametrize("name", ["Builder", "Runtime"])
def test_a_null_pointer_of_the_bindings_is_a_failure_with_a_reason(
    graph: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def nothing(logger: Any) -> None:  # noqa: ANN401 - tensorrt's
        logger.log(sys.modules["tensorrt"].ILogger.ERROR, "CUDA initialization failure with error: 2")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    job = replace(JOB, onnx=graph.read_bytes())
    with playing(TEN) as (_, trt):
        plan = build_plan(trt, job, lambda *_: True).plan
        monkeypatch.setattr(trt, name, nothing)
        start = {
            "Builder": lambda: build_plan(trt, job, lambda *_: True),
            "Runtime": lambda: TensorrtEngine(plan),
        }
        with pytest.raises(EngineError, match="TensorRT cannot start: CUDA initialization failure"):
            start[name]()


def test_a_timing_cache_that_cannot_be_read_is_begun_anew(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with playing(TEN) as (_, trt):
        config = type(trt.Builder(logger_of(trt)).create_builder_config())
        create = config.create_timing_cache
        monkeypatch.setattr(
            config, "create_timing_cache", lambda self, content: None if content else create(self, content)
        )
        job = replace(JOB, onnx=graph.read_bytes(), timing_cache=b"damaged")
        assert build_plan(trt, job, lambda *_: True).plan
