"""A plan opened: found, built, or built again once; and which plans are of no use here any more."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from engines.errors import (
    BackendUnavailableError,
    BuildCancelledError,
    BuildError,
    FailedBeforeError,
    ModelFileError,
    PlanError,
    PlanGivenUpError,
    PlanMissingError,
)
from engines.fake_jetson.jetson import FakeCuda, FakeJetson, fake_jetson
from engines.tensorrt import failed_build, plans
from engines.tensorrt.build_process import BuildProgress
from engines.tensorrt.engine import TensorrtEngine
from engines.tensorrt.failed_build import RETRY_S, failure_file, keep_failure
from engines.tensorrt.plan_cache import ensure_plan, list_plans, record_check
from engines.tensorrt.plan_key import PlanKey, PlanRequest, make_key, timing_cache_name
from engines.tensorrt.plan_pruning import prune_plans
from engines.tensorrt.plan_sidecar import PlanCheck, PlanFile, write_sidecar
from engines.tensorrt.plans import open_built_plan, open_plan, wants_typed_graph
from engines.tensorrt.probe import Probe, probe
from tests.engines.plan_samples import (
    FOUND,
    NOTHING,
    is_built,
    play_in_children,
    request_for,
    stale_plans,
    write_graph,
)
from tests.engines.test_plan_cache import held

ORIN = FakeJetson()
X = np.arange(-4, 4, dtype=np.float32).reshape(1, 8)
Play = Callable[..., AbstractContextManager["Bench"]]


@dataclass
class Bench:
    """A Jetson to open plans on.

    Attributes:
        request: What is wanted.
        folder: The cache.
        cuda: What happens in this process.
        found: What the probe found.
        reports: Of builds.
        builds: How many were begun.
    """

    request: PlanRequest
    folder: Path
    cuda: FakeCuda
    found: Probe
    reports: list[BuildProgress] = field(default_factory=list)
    builds: int = 0

    def open(self, **options: Any) -> PlanFile:  # noqa: ANN401 - as `open_plan` takes them
        """Open the plan, run it, close it."""
        options.setdefault("cancel", threading.Event())
        request = options.pop("request", self.request)
        engine, plan = open_plan(
            request, self.folder, self.found, self.reports.append, options.pop("cancel"), **options
        )
        try:
            assert isinstance(engine, TensorrtEngine)
            np.testing.assert_array_equal(engine.run({"x": X})["y"], np.maximum(X, 0))
        finally:
            engine.close()
        return plan

    def open_built(self, **options: Any) -> PlanFile:  # noqa: ANN401 - as `open_built_plan` takes them
        """Open the plan if it is there, close it."""
        engine, plan = open_built_plan(self.request, self.folder, self.found, **options)
        engine.close()
        return plan

    @property
    def key(self) -> PlanKey:
        return make_key(self.request, self.found)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Play a Jetson here and in child processes, where it may be another one."""
    request = request_for(write_graph(tmp_path / "graph.onnx"))

    @contextmanager
    def playing(spec: FakeJetson, children: FakeJetson | None = None) -> Iterator[Bench]:
        play_in_children(monkeypatch, children or spec)
        with fake_jetson(spec) as cuda, monkeypatch.context() as patch:
            bench = Bench(request, tmp_path / "plans", cuda, probe())
            run_build = plans.run_build

            def count(*arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - handed on
                bench.builds += 1
                return run_build(*arguments)

            patch.setattr(plans, "run_build", count)
            yield bench
        assert cuda.violations == cuda.leaks() == []

    return playing


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


# --- opening


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "11.4.0.106"])
def test_a_plan_is_built_once_and_loads_without_the_builder(play: Play, version: str) -> None:
    spec = FakeJetson(tensorrt_version=version)
    with play(spec) as bench:
        assert not is_built(bench.request, bench.folder, bench.found)
        built = bench.open()
        assert bench.builds == 1
        assert bench.reports
        assert built.key == bench.key
        assert built.build.keys() == {"seconds", "workspace_mib", "built_at", "attempts"}
    # Here every build fails, in whichever process.
    with play(spec, replace(spec, faults=frozenset({"no_tensorrt"}))) as bench:
        assert is_built(bench.request, bench.folder, bench.found)
        assert bench.open() == built
        assert bench.builds == 0
        assert bench.reports == []
        assert bench.cuda.calls["build_serialized_network"] == 0


def test_a_check_of_a_plan_is_kept(play: Play) -> None:
    with play(ORIN) as bench:
        checked = record_check(bench.open(), PlanCheck({"error of y": 0.0}, ()))
        assert bench.open() == checked
        assert bench.builds == 1
        assert bench.open(rebuild=True).check is None


def test_a_plan_can_be_had_anew(play: Play, warnings: Callable[[], list[str]]) -> None:
    with play(ORIN) as bench:
        bench.open(rebuild=True)
        assert (bench.builds, warnings()) == (1, [])
        built = bench.open(rebuild=True)
        assert (bench.builds, warnings()) == (2, [])
        assert list_plans(bench.folder) == [built]


def test_a_plan_stays_where_building_it_again_fails(play: Play) -> None:
    with play(ORIN) as bench:
        built = bench.open()
    with play(replace(ORIN, faults=frozenset({"build_returns_none"}))) as bench:
        with pytest.raises(BuildError, match="cannot build the plan"):
            bench.open(rebuild=True)
        assert list_plans(bench.folder) == [built]
        assert bench.open() == built


def test_after_an_upgrade_another_plan_is_built(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    with play(ORIN) as bench:
        before = bench.open()
    caplog.set_level(logging.INFO, "engines")
    with play(replace(ORIN, tensorrt_version="10.7.0")) as bench:
        after = bench.open()
        assert "rebuilding the TensorRT plan for small in fp16 because TensorRT 10.3.0 -> 10.7.0" in [
            record.getMessage() for record in caplog.records
        ]
        assert sorted(list_plans(bench.folder), key=lambda plan: plan.path.name) == sorted(
            (before, after), key=lambda plan: plan.path.name
        )
        timing = bench.folder / timing_cache_name("10.3.0", ORIN.device_name, "8.7")
        assert stale_plans(bench.folder, bench.found) == [before.path, before.sidecar, timing]


def test_a_dla_core_runs_its_own_plan(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    cores = []

    class Spy(TensorrtEngine):
        def __init__(self, plan: bytes, *, dla_core: int | None) -> None:
            cores.append(dla_core)
            super().__init__(plan, dla_core=dla_core)

    monkeypatch.setattr(plans, "TensorrtEngine", Spy)
    with play(replace(ORIN, dla_cores=1)) as bench:
        gpu = bench.open()
        dla = bench.open(request=replace(bench.request, dla_core=0))
        assert cores == [None, 0]
        assert bench.builds == 2
        assert gpu.path != dla.path
        assert dla.key.flags == "dla 0 with gpu fallback"


# --- plans that do not load


def test_a_damaged_plan_is_built_again_once(play: Play, warnings: Callable[[], list[str]]) -> None:
    with play(ORIN) as bench:
        built = bench.open()
        built.path.write_bytes(built.path.read_bytes()[:-1])
        assert not is_built(bench.request, bench.folder, bench.found)
        bench.open()
        assert bench.builds == 2
        assert len(warnings()) == 1
        bench.open()
        assert (bench.builds, len(warnings())) == (2, 1)


def test_a_plan_that_tensorrt_refuses_is_built_again_once(
    play: Play, warnings: Callable[[], list[str]]
) -> None:
    with play(ORIN) as bench:
        bench.open()
    with play(replace(ORIN, faults=frozenset({"deserialise_none_once"}))) as bench:
        again = bench.open()
        assert bench.builds == 1
        (line,) = warnings()
        assert line.startswith(f"the TensorRT plan {again.path.name} is deleted: TensorRT cannot load the pl")
        assert "Magic tag does not match" in line
        assert bench.open() == again
        assert bench.builds == 1


def test_a_plan_that_never_loads_is_built_twice_and_given_up(
    play: Play, warnings: Callable[[], list[str]]
) -> None:
    # The builder's device is another one than the runner's.
    with play(ORIN, replace(ORIN, device_name="Xavier (fake)")) as bench:
        with pytest.raises(PlanError, match="not compatible with this device: built for Xavier"):
            bench.open()
        assert (bench.builds, len(warnings())) == (2, 1)
        (kept,) = list_plans(bench.folder)
        assert kept.check is not None
        assert not kept.check.loads
        # The next start neither builds nor tries: the verdict is kept.
        for open_again in (bench.open, lambda: open_built_plan(bench.request, bench.folder, bench.found)):
            with pytest.raises(
                PlanGivenUpError,
                match=r"built for Xavier.* It was built twice\. To build it anew: edge-mnv2 models bui",
            ):
                open_again()
        assert bench.builds == 2
    with play(ORIN) as bench:
        assert bench.open(rebuild=True).check is None
        assert bench.open().check is None


def test_what_is_not_built_is_not_opened_where_nothing_may_be(
    play: Play, warnings: Callable[[], list[str]]
) -> None:
    once = replace(ORIN, faults=frozenset({"deserialise_none_once"}))
    with play(ORIN) as bench:
        with pytest.raises(PlanMissingError, match="no TensorRT plan for small in fp16 yet"):
            open_built_plan(bench.request, bench.folder, bench.found)
        built = bench.open()
        engine, plan = open_built_plan(bench.request, bench.folder, bench.found)
        engine.close()
        assert (plan, bench.builds, warnings()) == (built, 1, [])
    with play(once) as bench:
        with pytest.raises(PlanMissingError):
            open_built_plan(bench.request, bench.folder, bench.found)
        assert len(warnings()) == 1
        assert not is_built(bench.request, bench.folder, bench.found)


@dataclass
class Models:
    """Weights files whose graphs change, on one Jetson."""

    bench: Bench
    tmp_path: Path

    def use(self, weights: str, graph: str) -> PlanFile:
        """Open the plan of what a weights file holds by now."""
        path = self.tmp_path / f"{graph}.onnx"
        model = onnx.load(self.bench.request.onnx)
        model.doc_string = graph
        onnx.save(model, path)
        return self.bench.open(request=replace(self.bench.request, onnx=path, weights=weights))

    def stale(self) -> list[Path]:
        return stale_plans(self.bench.folder, self.bench.found)


def test_what_a_later_plan_replaced_is_pruned_whatever_the_clock_says(play: Play, tmp_path: Path) -> None:
    with play(ORIN) as bench:
        models = Models(bench, tmp_path)
        before = models.use("a.npz", "one")
        after = models.use("a.npz", "two")
        assert after.key.graph != before.key.graph
        assert models.stale() == [before.path, before.sidecar]
        # The clock of a Jetson without a battery begins at some time long ago.
        late = replace(before, build={**before.build, "built_at": "2099-01-01T00:00:00Z"})
        write_sidecar(late)
        assert models.stale() == [before.path, before.sidecar]
        # What is used again is no longer replaced: now the other one is.
        models.use("a.npz", "one")
        assert models.stale() == [after.path, after.sidecar]
        pruned = prune_plans(bench.folder, bench.found, dry_run=False)
        assert pruned[0].size_bytes == after.size_bytes
        assert [plan.key for plan in list_plans(bench.folder)] == [before.key]


def test_weights_files_of_one_name_do_not_replace_each_other_s_plans(play: Play, tmp_path: Path) -> None:
    with play(ORIN) as bench:
        models = Models(bench, tmp_path)
        first = models.use("a/small.npz", "one")
        models.use("b/small.npz", "two")
        assert models.stale() == []
        # The same weights in both places: the plan belongs to who used it last.
        models.use("b/small.npz", "one")
        models.use("a/small.npz", "three")
        second = make_key(replace(bench.request, onnx=tmp_path / "two.onnx"), bench.found)
        assert models.stale() == [bench.folder / f"{second.stem}{suffix}" for suffix in (".plan", ".json")]
        assert first.path.exists()


def test_a_plan_that_another_process_deletes_meanwhile_is_built(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    with play(ORIN) as bench:
        ensure = plans.ensure_plan
        deleted: list[Path] = []

        def ensure_and_lose(*arguments: Any, **options: Any) -> PlanFile:  # noqa: ANN401 - handed on
            plan = ensure(*arguments, **options)
            if not deleted:
                deleted.append(plan.path)
                plan.path.unlink()
                plan.sidecar.unlink()
            return plan

        monkeypatch.setattr(plans, "ensure_plan", ensure_and_lose)
        plan = bench.open()
        assert bench.builds == 2
        assert deleted == [plan.path]


# --- what cannot be opened


def test_without_tensorrt_nothing_opens(play: Play) -> None:
    with play(replace(ORIN, faults=frozenset({"no_tensorrt"}))) as bench:
        for attempt in (
            bench.open,
            lambda: is_built(bench.request, bench.folder, bench.found),
            wants_typed_graph,
        ):
            with pytest.raises(BackendUnavailableError, match="TensorRT cannot run here"):
                attempt()
        assert bench.builds == 0
        assert not bench.folder.exists()


@pytest.mark.parametrize("version", ["8.6.1", "10.16.1.11", "11.4.0.106"])
def test_whether_a_typed_graph_is_wanted(play: Play, version: str) -> None:
    with play(FakeJetson(tensorrt_version=version)):
        assert wants_typed_graph() is version.startswith("11")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("parse_fails", ModelFileError),
        ("build_returns_none", BuildError),
        ("build_killed_always", BuildError),
    ],
)
def test_what_cannot_be_built_is_not_tried_for_ever(play: Play, fault: str, kind: type[Exception]) -> None:
    with play(ORIN, replace(ORIN, faults=frozenset({fault}))) as bench:
        with pytest.raises(kind):
            bench.open()
        assert bench.builds == 1
        assert sorted(path.name for path in bench.folder.iterdir()) == [
            "build.lock",
            f"{bench.key.stem}.failed.json",
        ]
        # Where nobody insists, that is believed.
        for attempt in (bench.open, bench.open_built):
            with pytest.raises(FailedBeforeError) as raised:
                attempt(retry_failed=False)
            words = str(raised.value)
            assert words.startswith("The TensorRT plan of small in fp16 could not be built on 20")
            assert words.endswith(". To try again: edge-mnv2 models build --engine tensorrt")
            assert "\n" not in words
        assert bench.builds == 1
        with pytest.raises(PlanMissingError):
            bench.open_built()
        # Asked for, it is tried again.
        with pytest.raises(kind):
            bench.open()
        assert bench.builds == 2
    with play(replace(ORIN, tensorrt_version="10.7.0")) as bench:
        bench.open(retry_failed=False)  # another key
    with play(ORIN) as bench:
        bench.open()
        assert bench.builds == 1
        assert not list(bench.folder.glob("*.failed.json"))


def fail_at(folder: Path, key: PlanKey, failed_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a failure as if it had been at some time."""
    folder.mkdir(exist_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(failed_build.time, "time", lambda: failed_s)
        keep_failure(folder, key, BuildError("no kernel."))


def test_what_failed_a_day_ago_is_tried_again_by_itself(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.time()
    with play(ORIN) as bench:
        fail_at(bench.folder, bench.key, now_s - RETRY_S + 60, monkeypatch)
        with pytest.raises(FailedBeforeError, match=r": no kernel\. To try again: "):
            bench.open(retry_failed=False)
        # The clock was not set yet when this start began.
        fail_at(bench.folder, bench.key, now_s + 1e6, monkeypatch)
        with pytest.raises(FailedBeforeError):
            bench.open(retry_failed=False)
        fail_at(bench.folder, bench.key, now_s - RETRY_S - 60, monkeypatch)
        with pytest.raises(PlanMissingError):
            bench.open_built(retry_failed=False)
        assert stale_plans(bench.folder, bench.found) == [failure_file(bench.folder, bench.key)]
        assert bench.builds == 0
        bench.open(retry_failed=False)
        assert bench.builds == 1


def test_a_failure_that_cannot_be_read_is_none(play: Play) -> None:
    with play(ORIN) as bench:
        bench.folder.mkdir()
        path = failure_file(bench.folder, bench.key)
        for text in ("", "{", "[]", '{"key": 1}', '{"key": {}, "kind": 1, "reason": 2, "failed_s": 1e400}'):
            path.write_text(text, encoding="utf-8")
            with pytest.raises(PlanMissingError):
                bench.open_built(retry_failed=False)
            assert stale_plans(bench.folder, NOTHING) == [path]


def test_failures_of_other_versions_are_stale(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    with play(ORIN) as bench:
        for version in ("10.3.0", "10.7.0"):
            fail_at(bench.folder, replace(bench.key, tensorrt=version), time.time(), monkeypatch)
        other = failure_file(bench.folder, replace(bench.key, tensorrt="10.7.0"))
        assert stale_plans(bench.folder, bench.found) == [other]
        assert stale_plans(bench.folder, NOTHING) == []


def test_a_failure_that_cannot_be_kept_changes_nothing(
    play: Play, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(failed_build, "write_whole", refuse)
    with play(ORIN, replace(ORIN, faults=frozenset({"build_returns_none"}))) as bench:
        for _ in range(2):
            with pytest.raises(BuildError, match="cannot build the plan"):
                bench.open(retry_failed=False)
        assert bench.builds == 2
    assert (
        warnings()
        == [
            f"that the build of {failure_file(bench.folder, bench.key).name} failed cannot be kept: "
            "[Errno 28] No space left on device"
        ]
        * 2
    )


def test_a_dla_core_that_is_not_there_is_said_before_anybody_waits_for_its_plan(play: Play) -> None:
    with play(replace(ORIN, dla_cores=1)) as bench:
        bench.request = replace(bench.request, dla_core=0)
        with pytest.raises(PlanMissingError):
            bench.open_built()
        bench.request = replace(bench.request, dla_core=1)
        with pytest.raises(BackendUnavailableError, match="no DLA core 1: this device has 1"):
            bench.open_built()


def test_a_build_can_be_cancelled(play: Play) -> None:
    cancel = threading.Event()
    with play(ORIN, replace(ORIN, faults=frozenset({"build_hangs"}))) as bench:

        class CancelInTheMidst(list[BuildProgress]):
            def append(self, progress: BuildProgress) -> None:
                if progress.phase == "Timing graph nodes":
                    cancel.set()

        bench.reports = CancelInTheMidst()
        with pytest.raises(BuildCancelledError):
            bench.open(cancel=cancel)
        assert [path.name for path in bench.folder.iterdir()] == ["build.lock"]


# --- what is of no use any more


def build(path: Path) -> dict[str, Any]:
    path.write_bytes(b"a plan")
    return {}


@pytest.fixture
def cache(tmp_path: Path) -> tuple[Path, PlanFile, PlanKey]:
    """A cache with one plan of this device."""
    key = make_key(request_for(write_graph(tmp_path / "graph.onnx")), FOUND)
    folder = tmp_path / "plans"
    return folder, ensure_plan(folder, key, build, threading.Event()), key


@pytest.mark.parametrize(
    "change",
    [
        {"tensorrt": "10.7.0"},
        {"device": "Xavier"},
        {"compute_capability": "7.2"},
        {"sm_count": 6},
        {"l4t": "0.0.0"},
        {"schema": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_plans_of_other_devices_systems_and_versions_are_stale(
    cache: tuple[Path, PlanFile, PlanKey], change: dict[str, Any]
) -> None:
    folder, _, key = cache
    other = ensure_plan(folder, replace(key, **change), build, threading.Event())
    assert stale_plans(folder, FOUND) == [other.path, other.sidecar]
    assert stale_plans(folder, NOTHING) == []


def test_other_plans_of_this_device_are_not_stale(cache: tuple[Path, PlanFile, PlanKey]) -> None:
    folder, _, key = cache
    for change in (
        {"model": "large"},
        {"precision": "int8"},
        {"shapes": "16x1"},
        {"graph": "1" * 64},
        {"workspace_mib": 64},
        {"flags": "dla 0 with gpu fallback"},
    ):
        ensure_plan(folder, replace(key, **change), build, threading.Event())
    assert len(list_plans(folder)) == 7
    assert stale_plans(folder, FOUND) == []


def test_measurements_of_other_versions_and_devices_are_stale(
    cache: tuple[Path, PlanFile, PlanKey],
) -> None:
    folder, _, _ = cache
    own = folder / timing_cache_name("10.3.0", "Orin", "8.7")
    older = folder / timing_cache_name("8.6.1", "Orin", "8.7")
    others = folder / timing_cache_name("10.3.0", "Xavier", "7.2")
    for path in (own, older, others):
        path.write_bytes(b"measured")
    assert stale_plans(folder, FOUND) == sorted([older, others])
    assert stale_plans(folder, NOTHING) == []


def test_what_builds_left_behind_is_stale_unless_one_runs(cache: tuple[Path, PlanFile, PlanKey]) -> None:
    folder, plan, _ = cache
    half = folder / ".0123.partial"
    half.write_bytes(b"half")
    plan.sidecar.unlink()
    for found in (FOUND, NOTHING):
        assert stale_plans(folder, found) == sorted([half, plan.path])
    with held(folder):
        assert stale_plans(folder, FOUND) == []


def test_no_cache_has_nothing_stale(tmp_path: Path) -> None:
    assert stale_plans(tmp_path / "none", FOUND) == []
