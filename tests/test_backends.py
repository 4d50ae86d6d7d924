"""TensorRT's plan for a model: which one, checked on its first load, refused where it disagrees."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edge_mnv2.backends
import engines.tensorrt.plans
from edge_mnv2.backends import (
    Opened,
    PlanOptions,
    log_progress,
    open_tensorrt,
    synthetic_frames,
)
from edge_mnv2.errors import PlanRefusedError, RequestError
from edge_mnv2.predictor import Predictor, PredictorOptions, open_predictor
from edge_mnv2.zoo.graph_store import ensure_graph
from edge_mnv2.zoo.model import Model, Variant, load_model
from engines import (
    BackendUnavailableError,
    BuildCancelledError,
    BuildError,
    ModelFileError,
    PlanMissingError,
)
from engines.errors import FailedBeforeError, PlanGivenUpError
from engines.fake_jetson.jetson import FakeCuda
from engines.fake_jetson.plans import Plan, read_plan
from engines.tensorrt.build_process import BuildProgress
from engines.tensorrt.plan_cache import list_plans, record_check
from engines.tensorrt.plan_key import PlanRequest
from engines.tensorrt.plan_sidecar import PlanCheck
from engines.tensorrt.probe import probe
from tests.jetson import child_processes, on_jetson

NAME = "mobilenet-v2-imagenet"
SMALL = Variant(size=(96, 96))


class Counts:
    """What was called, and how often."""

    builds = 0
    references = 0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with graphs, and the small classifier's plans of float16 and float32, not checked yet."""
    home = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch, on_jetson():
        patch.setenv("XDG_CACHE_HOME", str(home))
        for precision in ("fp16", "fp32"):
            close(open_here(load_model(NAME, SMALL), precision=precision))
    for path in (home / "edge-mnv2" / "plans").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"check": None}))
    return home / "edge-mnv2"


@pytest.fixture(autouse=True)
def plans(tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of plans; the graphs are shared."""
    cache = tmp_path / "cache" / "edge-mnv2"
    cache.mkdir(parents=True)
    (cache / "graphs").symlink_to(built / "graphs")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache / "plans"


@pytest.fixture
def unchecked(built: Path, plans: Path) -> Path:
    """A cache of plans with the two that are built and not checked yet."""
    shutil.copytree(built / "plans", plans)
    return plans


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """Count plans that are built, and engines of ONNX Runtime that are opened."""
    counted = Counts()
    build, reference = engines.tensorrt.plans.run_build, edge_mnv2.backends.OnnxRuntimeEngine

    def count_build(*arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - passed through
        counted.builds += 1
        return build(*arguments)

    def count_reference(*arguments: Any) -> Any:  # noqa: ANN401 - passed through
        counted.references += 1
        return reference(*arguments)

    monkeypatch.setattr(engines.tensorrt.plans, "run_build", count_build)
    monkeypatch.setattr(edge_mnv2.backends, "OnnxRuntimeEngine", count_reference)
    return counted


@pytest.fixture
def model() -> Model:
    """The embedded classifier, small enough to be quick."""
    return load_model(NAME, SMALL)


def open_here(model: Model, **options: Any) -> Opened:  # noqa: ANN401 - the fields of PlanOptions
    return open_tensorrt(model, probe(), PlanOptions(**options))


def close(opened: Opened) -> None:
    opened.engine.close()


def sidecars(plans: Path) -> Iterator[dict[str, Any]]:
    def refuse(word: str) -> float:
        raise AssertionError(f"{word} is no JSON")

    for path in sorted(plans.glob("*.json")):
        yield json.loads(path.read_text(), parse_constant=refuse)


def plan_of(opened: Opened, cuda: FakeCuda) -> Plan:
    assert opened.plan is not None
    return read_plan(opened.plan.path.read_bytes(), cuda.spec)


def mistrust(plans: Path, precision: str) -> None:
    """Let the plan of a precision have failed its check."""
    (plan,) = (plan for plan in list_plans(plans) if plan.key.precision == precision)
    record_check(plan, PlanCheck({}, (f"logits is off in {precision}.",)))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_first_load_of_a_plan_checks_it_and_the_second_believes_that(
    model: Model, plans: Path, counts: Counts
) -> None:
    with on_jetson():
        first = open_here(model)
        assert (first.engine.backend, first.precision) == ("tensorrt", "fp16")
        assert first.plan is not None
        assert first.plan.check is not None
        assert first.plan.check.failures == ()
        assert (counts.builds, counts.references) == (1, 1)
        close(first)
        (sidecar,) = sidecars(plans)
        assert sidecar["check"]["failures"] == []
        assert sidecar["check"]["figures"]["error of logits"] == 0
        assert sidecar["check"]["figures"]["top1_agreement"] == 1
        second = open_here(model)
        close(second)
        assert second.plan == first.plan
        assert (counts.builds, counts.references) == (1, 1)


def test_a_plan_that_is_built_anew_is_checked_anew(model: Model, unchecked: Path, counts: Counts) -> None:
    with on_jetson():
        mistrust(unchecked, "fp16")
        rebuilt = open_here(model, rebuild=True)
        close(rebuilt)
        assert rebuilt.plan is not None
        assert rebuilt.plan.check is not None
        assert rebuilt.plan.check.failures == ()
        assert (counts.builds, counts.references) == (1, 1)


@pytest.mark.parametrize(
    ("fault", "words"),
    [("nan_outputs", "logits has values that are not finite"), ("wrong_outputs", r"logits is off by \d+")],
)
def test_a_plan_that_disagrees_is_refused_and_the_verdict_is_kept(
    model: Model, unchecked: Path, counts: Counts, fault: str, words: str
) -> None:
    with on_jetson(faults={fault}) as cuda:
        for _ in range(2):
            with pytest.raises(PlanRefusedError, match=words) as caught:
                open_here(model, precision="fp16")
        # The second time nothing was compared; nor was the plan built again, with the same result.
        assert (counts.builds, counts.references) == (0, 1)
        checks = {sidecar["key"]["precision"]: sidecar["check"] for sidecar in sidecars(unchecked)}
        assert len(checks["fp16"]["failures"]) == 1
        assert checks["fp32"] is None
        message = str(caught.value)
        assert f"plan of {NAME} in fp16 disagrees with ONNX Runtime" in message
        # The command is about this very build.
        assert f"edge-mnv2 models compare {NAME} --input-size 96x96 --backends " in message
        assert "onnxruntime,tensorrt:fp16 --images DIR" in message
        assert cuda.calls["deserialize_cuda_engine"] == 2


def test_a_plan_that_is_forced_runs_and_says_so(
    model: Model, unchecked: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with on_jetson(faults={"wrong_outputs"}), caplog.at_level(logging.WARNING):
        for _ in range(2):
            forced = open_here(model, precision="fp16", force=True)
            assert forced.plan is not None
            assert forced.plan.check is not None
            assert forced.plan.check.failures
            forced.engine.run(forced.engine.input_buffers)
            close(forced)
    assert [text.endswith("It runs because it is forced.") for text in warnings_of(caplog)] == [True, True]


def test_float32_takes_the_place_of_a_float16_that_disagrees(
    model: Model, unchecked: Path, counts: Counts, caplog: pytest.LogCaptureFixture
) -> None:
    with on_jetson():
        mistrust(unchecked, "fp16")
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                opened = open_here(model)
                assert (opened.engine.backend, opened.precision) == ("tensorrt", "fp32")
                close(opened)
        assert counts.builds == 0
    assert (
        warnings_of(caplog)
        == [
            f"The TensorRT plan of {NAME} in fp16 disagrees with ONNX Runtime: logits is off in fp16. "
            "Float32 is taken instead."
        ]
        * 2
    )
    with on_jetson(), pytest.raises(PlanRefusedError, match="logits is off in fp16"):
        open_here(model, precision="fp16")


def test_a_dla_core_has_no_float32_to_fall_back_on(model: Model, plans: Path, counts: Counts) -> None:
    with on_jetson(dla_cores=2):
        close(open_here(model, dla_core=1))
        mistrust(plans, "fp16")
        with pytest.raises(PlanRefusedError, match="logits is off in fp16"):
            open_here(model, dla_core=1)
        assert counts.builds == 1


def open_small(engine: str) -> Predictor:
    return open_predictor(NAME, PredictorOptions(engine=engine, variant=SMALL))


@pytest.mark.parametrize("fault", ["nan_outputs", "wrong_outputs"])
def test_where_every_plan_disagrees_onnx_runtime_answers_unless_tensorrt_was_asked_for(
    unchecked: Path, counts: Counts, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    with on_jetson(faults={fault}), caplog.at_level(logging.INFO):
        for _ in range(2):
            predictor = open_small("auto")
            assert predictor.backend == "onnxruntime"
            predictor.predict(np.zeros((48, 64, 3), np.uint8))
            predictor.close()
        assert counts.builds == 0
        assert counts.references == 4  # two that checked a plan, two that answer
        assert all(sidecar["check"]["failures"] for sidecar in sidecars(unchecked))
        with pytest.raises(PlanRefusedError, match="in fp32 disagrees with ONNX Runtime"):
            open_small("tensorrt")
        assert counts.builds == 0
    engine_lines = [record.getMessage() for record in caplog.records if record.msg.startswith("engine:")]
    assert len(engine_lines) == 2
    assert all(line.startswith("engine: onnxruntime") for line in engine_lines)
    # It is not there because it was the best choice.
    assert all("fastest" not in line for line in engine_lines)


def test_a_build_that_fails_leaves_onnx_runtime_unless_tensorrt_was_asked_for() -> None:
    with on_jetson(faults={"parse_fails"}):
        predictor = open_small("auto")
        assert predictor.backend == "onnxruntime"
        predictor.close()
        with pytest.raises(ModelFileError, match="cannot read the graph"):
            open_small("tensorrt")


# With and without flags that say the precision.
VERSIONS = ["10.3.0", "11.4.0"]


@pytest.mark.parametrize("version", VERSIONS)
def test_int8_is_built_from_the_symmetric_graph(model: Model, version: str) -> None:
    with on_jetson(tensorrt_version=version) as cuda:
        opened = open_here(model, precision="int8", force=True)
        plan = plan_of(opened, cuda)
        close(opened)
    assert opened.precision == "int8"
    assert plan.model == ensure_graph(model, "int8", "symmetric").read_bytes()
    assert {"INT8", "FP16"} & {*plan.flags} == ({"INT8", "FP16"} if version.startswith("10.") else set())


@pytest.mark.parametrize("version", ["8.6.1", *VERSIONS])
def test_fp16_is_a_flag_or_a_graph_of_float16(model: Model, version: str) -> None:
    with on_jetson(tensorrt_version=version) as cuda:
        opened = open_here(model, precision="fp16")
        plan = plan_of(opened, cuda)
        close(opened)
    is_typed = not version.startswith(("8.", "10."))
    assert plan.model == ensure_graph(model, "fp16" if is_typed else "fp32").read_bytes()
    assert ("FP16" in plan.flags) != is_typed
    half = onnx.TensorProto.FLOAT16
    assert any(array.data_type == half for array in onnx.load_from_string(plan.model).graph.initializer) == (
        is_typed
    )


def test_fp32_is_the_graph_of_float32_without_flags(model: Model, unchecked: Path) -> None:
    with on_jetson() as cuda:
        opened = open_here(model, precision="fp32")
        plan = plan_of(opened, cuda)
        close(opened)
    assert plan.model == ensure_graph(model, "fp32").read_bytes()
    assert not {"FP16", "INT8", "TF32"} & {*plan.flags}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_dla_core_computes_in_float16_alone(model: Model, precision: str) -> None:
    with (
        on_jetson(dla_cores=2),
        pytest.raises(RequestError, match=f"A DLA core computes in fp16, not in {precision}"),
    ):
        open_here(model, precision=precision, dla_core=0, force=True)


def test_a_plan_is_built_for_the_dla_core_that_was_asked_for(model: Model) -> None:
    """Also where the GPU beside it would take float32."""
    with on_jetson(dla_cores=2, compute_capability=(6, 1)) as cuda:
        opened = open_here(model, dla_core=1)
        assert (opened.precision, plan_of(opened, cuda).dla_core) == ("fp16", 1)
        close(opened)


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> list[PlanRequest]:
    """Collect what is asked of TensorRT, without building it."""
    requests: list[PlanRequest] = []

    def collect(request: PlanRequest, *_: object, **__: object) -> None:
        requests.append(request)
        raise PlanMissingError("There is none.")

    monkeypatch.setattr(edge_mnv2.backends, "open_built_plan", collect)
    return requests


def is_there(model: Model, **options: Any) -> bool:  # noqa: ANN401 - the fields of PlanOptions
    try:
        close(open_here(model, may_build=False, **options))
    except PlanMissingError:
        return False
    return True


@pytest.mark.parametrize(
    ("capability", "precision"),
    [
        ((5, 0), "fp32"),
        ((5, 2), "fp32"),
        ((5, 3), "fp16"),  # Jetson Nano
        ((6, 0), "fp16"),
        ((6, 1), "fp32"),  # has float16, at a small part of the speed of float32
        ((6, 2), "fp16"),
        ((7, 2), "fp16"),
        ((8, 7), "fp16"),
        ((10, 1), "fp16"),
    ],
)
def test_auto_is_float16_where_the_gpu_is_fast_in_it(
    model: Model, wanted: list[PlanRequest], capability: tuple[int, int], precision: str
) -> None:
    with on_jetson(compute_capability=capability):
        assert not is_there(model)
        assert not is_there(model, precision="int8", force=True)
    assert [request.precision for request in wanted] == [precision, "int8"]


def test_a_plan_is_named_by_its_input(wanted: list[PlanRequest]) -> None:
    with on_jetson():
        for name, variant in (
            (NAME, Variant()),
            (NAME, Variant(size=(96, 128))),
            ("deeplabv3-mnv2-voc", Variant(output_stride=8)),
        ):
            assert not is_there(load_model(name, variant))
    assert [(request.model, request.shapes) for request in wanted] == [
        (NAME, "224x224"),
        (NAME, "128x96"),
        ("deeplabv3-mnv2-voc", "513x513, output stride 8"),
    ]


def test_a_plan_that_is_there_is_opened_and_another_is_not_built(
    model: Model, built: Path, plans: Path, counts: Counts
) -> None:
    with on_jetson(dla_cores=1):
        assert not is_there(model, precision="fp32")
        plans.mkdir()
        for path in (built / "plans").glob("*-fp32-*"):
            shutil.copy(path, plans)
        assert is_there(model, precision="fp32")
        assert not is_there(model)
        assert not is_there(model, precision="int8", force=True)
        assert not is_there(model, dla_core=0)
        assert not is_there(load_model(NAME, Variant(size=(128, 128))), precision="fp32")
    with on_jetson(tensorrt_version="10.7.0"):
        assert not is_there(model, precision="fp32")
    with on_jetson():
        assert is_there(model, precision="fp32")
        (plan,) = plans.glob("*.plan")
        plan.write_bytes(plan.read_bytes()[:-1])
        assert not is_there(model, precision="fp32")
    assert counts.builds == 0


def test_of_float16_that_is_refused_the_plan_of_float32_is_missing(
    model: Model, built: Path, plans: Path, counts: Counts
) -> None:
    """It is not built either while somebody waits for a first answer."""
    plans.mkdir()
    for path in (built / "plans").glob("*-fp16-*"):
        shutil.copy(path, plans)
    mistrust(plans, "fp16")
    with on_jetson():
        assert not is_there(model)
    assert counts.builds == 0


def test_a_build_that_nobody_wants_any_more_leaves_nothing(model: Model, plans: Path) -> None:
    cancel = threading.Event()
    phases: list[BuildProgress] = []

    def cancel_in_the_middle(progress: BuildProgress) -> None:
        phases.append(progress)
        if progress.phase == "Timing graph nodes":
            cancel.set()

    with on_jetson(faults={"build_hangs"}), pytest.raises(BuildCancelledError):
        open_here(model, on_progress=cancel_in_the_middle, cancel=cancel)
    assert {"starting", "Timing graph nodes"} <= {progress.phase for progress in phases}
    assert child_processes(os.getpid()) == set()
    assert [path.name for path in plans.iterdir()] == ["build.lock"]


@pytest.mark.parametrize("is_checked", [False, True])
def test_a_plan_that_nobody_wants_any_more_is_neither_checked_nor_used(
    model: Model, unchecked: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch, is_checked: bool
) -> None:
    """Interrupted between the build and the check, which takes its time too."""
    cancel, load = threading.Event(), engines.tensorrt.plans.TensorrtEngine
    if is_checked:
        with on_jetson():
            close(open_here(model))
        counts.references = 0

    def load_and_cancel(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - passed through
        cancel.set()
        return load(*arguments, **options)

    monkeypatch.setattr(engines.tensorrt.plans, "TensorrtEngine", load_and_cancel)
    words = "was used" if is_checked else "was checked"
    with on_jetson(), pytest.raises(BuildCancelledError, match=f"before the TensorRT plan {words}"):
        open_here(model, cancel=cancel)
    assert counts.references == 0
    checks = [sidecar["check"] is None for sidecar in sidecars(unchecked)]
    assert checks == [not is_checked, True]
    assert not list(unchecked.glob("*.loading"))


def test_a_refused_plan_of_a_dla_core_is_compared_on_that_core(model: Model, plans: Path) -> None:
    with on_jetson(dla_cores=2, faults={"wrong_outputs"}), pytest.raises(PlanRefusedError) as caught:
        open_here(model, dla_core=1)
    assert "--backends onnxruntime,tensorrt:fp16 --dla 1 --images DIR" in str(caught.value)


def crash_first_loads(plans: Path, precision: str) -> None:
    """Leave what two crashes of the first load of a plan leave."""
    (plan,) = (plan for plan in list_plans(plans) if plan.key.precision == precision)
    plan.path.with_suffix(".loading").write_text(f"{plan.sha256}\n" * 2)


@pytest.mark.parametrize("serves", [False, True])
def test_a_plan_that_crashes_leaves_onnx_runtime_unless_tensorrt_was_asked_for(
    unchecked: Path, counts: Counts, caplog: pytest.LogCaptureFixture, serves: bool
) -> None:
    crash_first_loads(unchecked, "fp16")
    with on_jetson() as cuda:
        options = PredictorOptions(variant=SMALL, serve_while_building=serves)
        predictor = open_predictor(NAME, options)
        assert predictor.backend == "onnxruntime"
        predictor.close()
        (line,) = warnings_of(caplog)
        assert line == (
            f"ONNX Runtime takes the place of TensorRT: The TensorRT plan of {NAME} in fp16 is not used: "
            "2 times it was loaded, and each time the process ended. To build it anew: edge-mnv2 models "
            f"build {NAME} --input-size 96x96 --engine tensorrt --precision fp16"
        )
        with pytest.raises(PlanGivenUpError, match="To build it anew: edge-mnv2 models build"):
            open_predictor(NAME, replace(options, engine="tensorrt"))
        assert cuda.calls["deserialize_cuda_engine"] == 0
        assert counts.builds == 0
        close(open_here(load_model(NAME, SMALL), rebuild=True))
        assert counts.builds == 1


def test_a_build_that_failed_is_told_and_not_repeated_unless_it_is_asked_for(
    model: Model, plans: Path, counts: Counts
) -> None:
    with on_jetson(faults={"build_returns_none"}):
        for _ in range(2):
            with pytest.raises(BuildError, match="cannot build the plan"):
                open_here(model)
        assert counts.builds == 2
        for may_build in (False, True):
            with pytest.raises(FailedBeforeError) as caught:
                open_here(model, may_build=may_build, retry_failed=False)
            message = str(caught.value)
            assert f"plan of {NAME} in fp16 could not be built on 20" in message
            assert "Could not find any implementation" in message
            command = f"edge-mnv2 models build {NAME} --input-size 96x96 --engine tensorrt --precision fp16"
            assert message.endswith(f"To try again: {command}")
        with pytest.raises(PlanMissingError):
            open_here(model, may_build=False)
        assert counts.builds == 2
    with on_jetson():
        close(open_here(model))
        close(open_here(model, may_build=False, retry_failed=False))


def test_what_builds_again_for_a_dla_core_says_so(model: Model, plans: Path) -> None:
    with on_jetson(faults={"build_returns_none"}, dla_cores=2):
        with pytest.raises(BuildError):
            open_here(model, dla_core=1)
        with pytest.raises(FailedBeforeError, match=r"--engine tensorrt --precision fp16 --dla 1$"):
            open_here(model, dla_core=1, retry_failed=False)


def test_a_dla_core_that_is_not_there_is_said_at_once(model: Model, plans: Path, counts: Counts) -> None:
    with on_jetson(dla_cores=1):
        with pytest.raises(BackendUnavailableError, match="no DLA core 1"):
            open_here(model, dla_core=1, may_build=False)
        assert counts.builds == 0


def test_that_float32_takes_the_place_is_said_by_who_has_it(
    model: Model, built: Path, unchecked: Path, counts: Counts, caplog: pytest.LogCaptureFixture
) -> None:
    """A plan is looked for first, and built by another call: one of them says so."""
    mistrust(unchecked, "fp16")
    with on_jetson():
        assert is_there(model)
        assert len(warnings_of(caplog)) == 1
        for path in unchecked.glob("*-fp32-*"):
            path.unlink()
        caplog.clear()
        assert not is_there(model)
        assert warnings_of(caplog) == []
        close(open_here(model))
        assert len(warnings_of(caplog)) == 1


def test_a_plan_knows_the_weights_that_use_it(model: Model, plans: Path) -> None:
    with on_jetson():
        close(open_here(model))
    (sidecar,) = sidecars(plans)
    assert (sidecar["weights"], sidecar["use"]) == (str(model.path.resolve()), 1)


def test_progress_is_logged_from_time_to_time(caplog: pytest.LogCaptureFixture) -> None:
    log = log_progress()
    with caplog.at_level(logging.INFO):
        for elapsed_s in range(100):
            log(BuildProgress("Timing graph nodes", elapsed_s // 2, 50, elapsed_s))
        log(BuildProgress("choosing kernels", 0, 0, 199.6))
    *lines, last = caplog.messages
    assert last == "building the TensorRT plan: choosing kernels, 200 s"
    told_s = [int(line.removesuffix(" s").rpartition(" ")[2]) for line in lines]
    assert all(later - earlier == 10 for earlier, later in itertools.pairwise(told_s))
    assert told_s[0] <= 10
    assert told_s[-1] >= 90
    assert lines == [
        f"building the TensorRT plan: Timing graph nodes, step {second // 2} of 50, {second} s"
        for second in told_s
    ]


def test_progress_of_a_second_attempt_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    """It counts from 0 again."""
    log = log_progress()
    for elapsed_s in (0, 95, 0, 15):
        with caplog.at_level(logging.INFO):
            log(BuildProgress("choosing kernels", 0, 0, elapsed_s))
    assert caplog.messages[-2:] == [
        f"building the TensorRT plan: choosing kernels, {elapsed_s} s" for elapsed_s in (95, 15)
    ]


def test_synthetic_frames_are_few_and_differ() -> None:
    frames = list(synthetic_frames())
    assert len(frames) == 4
    assert len({frame.tobytes() for frame in frames}) == 4
