"""A plan whose first load ends the process is not loaded at every start; whatever else happens, it is."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engines.errors import EngineError, PlanGivenUpError, PlanMissingError
from engines.fake_jetson.jetson import FakeCuda, FakeJetson, fake_jetson
from engines.tensorrt import build_lock, first_load, plans
from engines.tensorrt.engine import TensorrtEngine
from engines.tensorrt.plan_cache import ensure_plan, list_plans
from engines.tensorrt.plan_pruning import prune_plans
from engines.tensorrt.plan_sidecar import PlanCheck, PlanFile, read_sidecar
from engines.tensorrt.plans import open_built_plan, open_plan
from engines.tensorrt.probe import probe
from tests.engines.plan_samples import (
    KEY,
    NOTHING,
    ROOT,
    leftovers,
    play_in_children,
    request_for,
    write_graph,
)

CRASHING = FakeJetson(faults=frozenset({"deserialise_crashes"}))
GOOD = PlanCheck({"error of y": 0.0}, ())

# argv: the graph, the cache, whether to build anew.
START = """
import resource, sys, threading
from pathlib import Path
from engines.tensorrt.plans import open_plan
from engines.tensorrt.plan_sidecar import PlanCheck
from engines.tensorrt.probe import probe
from tests.engines.plan_samples import request_for

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
engine, plan = open_plan(
    request_for(Path(sys.argv[1])), Path(sys.argv[2]), probe(), lambda _: None, threading.Event(),
    rebuild=sys.argv[3] == "anew", compare=lambda _: PlanCheck({}, ()),
)
engine.close()
print("loaded")
"""


@dataclass
class Bench:
    """A cache, and processes that use it."""

    graph: Path
    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def start(self, spec: FakeJetson, how: str = "") -> subprocess.CompletedProcess[str]:
        """Open the plan in a process of its own."""
        play_in_children(self.monkeypatch, spec)
        return subprocess.run(
            [sys.executable, "-c", START, str(self.graph), str(self.folder), how],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    @property
    def marks(self) -> list[Path]:
        return list(self.folder.glob(f"*{first_load.SUFFIX}"))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(write_graph(tmp_path / "graph.onnx"), tmp_path / "plans", monkeypatch)


# --- crashes


def test_a_plan_that_crashes_twice_is_given_up_until_it_is_built_anew(bench: Bench) -> None:
    for count in (1, 2):
        assert bench.start(CRASHING).returncode == -signal.SIGSEGV
        (mark,) = bench.marks
        assert len(mark.read_text().splitlines()) == count
    third = bench.start(CRASHING)
    assert third.returncode == 1
    assert third.stderr.splitlines()[-1] == (
        "engines.errors.PlanGivenUpError: The TensorRT plan of small in fp16 is not used: 2 times it was "
        "loaded, and each time the process ended. To build it anew: edge-mnv2 models build --engine tensorrt"
    )
    # Also where it would load by now, and where nothing may be built.
    spec = FakeJetson()
    with fake_jetson(spec) as cuda:
        request, found = request_for(bench.graph), probe()
        for _ in range(2):
            with pytest.raises(PlanGivenUpError, match="each time the process ended"):
                open_built_plan(request, bench.folder, found)
        assert cuda.calls["deserialize_cuda_engine"] == 0
        (kept,) = list_plans(bench.folder)
        assert kept.check is not None
        assert not kept.check.loads
    assert leftovers(bench.folder) == []
    anew = bench.start(spec, "anew")
    assert (anew.returncode, anew.stdout) == (0, "loaded\n"), anew.stderr
    assert bench.marks == []
    assert bench.start(spec).stdout == "loaded\n"


def test_what_was_checked_may_crash_later(bench: Bench) -> None:
    """Then it is something else: that plan did load."""
    assert bench.start(FakeJetson()).returncode == 0
    for _ in range(3):
        assert bench.start(CRASHING).returncode == -signal.SIGSEGV
    assert bench.marks == []
    assert bench.start(FakeJetson()).returncode == 0


def test_power_that_was_lost_once_does_no_harm(bench: Bench) -> None:
    assert bench.start(CRASHING).returncode == -signal.SIGSEGV
    assert bench.start(FakeJetson()).returncode == 0
    assert bench.marks == []


# --- in this process


@pytest.fixture
def plan(tmp_path: Path) -> PlanFile:
    """A plan that was never loaded."""

    def build(path: Path) -> dict[str, object]:
        path.write_bytes(b"a plan")
        return {}

    return ensure_plan(tmp_path / "plans", KEY, build, threading.Event())


def mark_of(plan: PlanFile) -> Path:
    return plan.path.with_suffix(first_load.SUFFIX)


def crash(plan: PlanFile, times: int = 1) -> None:
    """Leave marks as crashes do."""
    with mark_of(plan).open("a") as file:
        file.write(f"{plan.sha256}\n" * times)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EngineError("no memory"), SystemExit(1)])
@pytest.mark.parametrize("before", [0, 1])
def test_an_ordinary_end_takes_its_own_mark_away(plan: PlanFile, error: BaseException, before: int) -> None:
    crash(plan, before)

    def load() -> None:
        with first_load.first_load(plan):
            assert mark_of(plan).read_text() == f"{plan.sha256}\n" * (before + 1)
            raise error

    for _ in range(3):
        with pytest.raises(type(error)):
            load()
        assert mark_of(plan).read_text() if before else not mark_of(plan).exists()


def test_marks_of_another_plan_do_not_count(plan: PlanFile) -> None:
    mark_of(plan).write_text(f"{'0' * 64}\n" * 5 + plan.sha256[:20])
    with first_load.first_load(plan):
        pass
    assert not mark_of(plan).exists()


def test_who_loads_at_the_same_time_is_no_crash(plan: PlanFile) -> None:
    crash(plan)
    with first_load.first_load(plan):
        for _ in range(3):
            with first_load.first_load(plan):
                assert mark_of(plan).read_text() == f"{plan.sha256}\n" * 2
    assert not mark_of(plan).exists()


def test_who_opened_the_mark_before_it_was_deleted_finds_nothing_in_it(
    plan: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash(plan)
    with mark_of(plan).open("rb") as late:
        with first_load.first_load(plan):
            pass
        assert late.read() == b""


@pytest.mark.parametrize("problem", ["folder in its place", "no such folder", "full disk"])
def test_a_mark_that_cannot_be_kept_stops_nothing(
    plan: PlanFile, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if problem == "folder in its place":
        mark_of(plan).mkdir()
    elif problem == "no such folder":
        plan.path.parent.rename(plan.path.parent.with_name("gone"))
    else:
        monkeypatch.setattr(first_load.os, "fsync", refuse)
    with first_load.first_load(plan):
        loaded = True
    assert loaded


def test_without_locks_marks_count_all_the_same(plan: PlanFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(build_lock.fcntl, "flock", refuse)
    crash(plan)
    with first_load.first_load(plan):
        pass
    assert not mark_of(plan).exists()
    crash(plan, 2)
    with pytest.raises(PlanGivenUpError), first_load.first_load(plan):
        pass


def test_marks_without_a_plan_are_pruned(plan: PlanFile) -> None:
    crash(plan)
    assert leftovers(plan.path.parent) == []
    plan.path.unlink()
    plan.sidecar.unlink()
    assert [file.path for file in prune_plans(plan.path.parent, NOTHING, dry_run=False)] == [mark_of(plan)]


# --- the first comparison


@pytest.fixture
def jetson(bench: Bench) -> Iterator[FakeCuda]:
    """A Jetson with a plan that was never loaded."""
    play_in_children(bench.monkeypatch, FakeJetson())
    with fake_jetson(FakeJetson()) as cuda:
        engine, _ = open_plan(
            request_for(bench.graph), bench.folder, probe(), lambda _: None, threading.Event()
        )
        engine.close()
        yield cuda
        assert cuda.violations == cuda.leaks() == []


@pytest.mark.usefixtures("jetson")
def test_the_mark_lasts_until_the_verdict_is_kept(bench: Bench) -> None:
    compared: list[int] = []

    def compare(engine: TensorrtEngine) -> PlanCheck:
        (mark,) = bench.marks
        assert len(mark.read_text().splitlines()) == 1
        engine.run(engine.input_buffers)
        compared.append(1)
        return GOOD

    for _ in range(2):
        engine, plan = open_built_plan(request_for(bench.graph), bench.folder, probe(), compare=compare)
        engine.close()
        assert plan.check == GOOD
        assert bench.marks == []
    assert compared == [1]
    found = read_sidecar(plan.sidecar)
    assert found is not None
    assert found.check == GOOD


@pytest.mark.usefixtures("jetson")
def test_a_comparison_that_fails_frees_the_engine_and_leaves_no_mark(bench: Bench) -> None:
    def compare(_: TensorrtEngine) -> PlanCheck:
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            open_built_plan(request_for(bench.graph), bench.folder, probe(), compare=compare)
        assert bench.marks == []


@pytest.mark.usefixtures("jetson")
def test_a_plan_that_is_not_taken_by_tensorrt_leaves_no_mark(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise plans.PlanError("TensorRT cannot load the plan: no")

    monkeypatch.setattr(plans, "TensorrtEngine", refuse)
    with pytest.raises(PlanMissingError):
        open_built_plan(request_for(bench.graph), bench.folder, probe())
    assert bench.marks == []
