"""The command line on a fake Jetson: what it prints, writes, and returns.

Where processes matter, commands have their own; the others run in this one, which is quicker.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest

import edge_mnv2.self_test
import edge_mnv2.stress
from edge_mnv2.backends import synthetic_frames
from edge_mnv2.cli.app import run_app
from edge_mnv2.cli.log_handler import LogHandler
from edge_mnv2.stop import StopRequest
from edge_mnv2.zoo.catalogue import find_card
from edge_mnv2.zoo.graph_store import ensure_graph
from edge_mnv2.zoo.model import Variant, load_model
from engines.fake_jetson.jetson import EXIT_VIOLATION
from tests.cli.test_commands import records, wait_for_lines
from tests.cli.test_models import tables
from tests.conftest import Command
from tests.jetson import builds_held_back, child_processes, jetson_environment, on_jetson

PROGRAM = (sys.executable, "-m", "edge_mnv2")
PRECISIONS = ("fp32", "fp16", "int8")
DETECTOR, CLASSIFIER = "ssdlite-mnv2-coco", "mobilenet-v2-imagenet"
PLAN = f"TensorRT plan for {DETECTOR} in fp16"
NO_GPU = {"faults": {"no_driver"}}

Done = subprocess.CompletedProcess[str]
Play = Callable[..., Done]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the detector's graphs and its plan of float16 for TensorRT 10.3.0, checked."""
    home = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        ensure_graph(load_model(DETECTOR), "int8")
    subprocess.run(
        [*PROGRAM, "models", "build", DETECTOR, "--engine", "tensorrt"],
        env={**os.environ, **jetson_environment(), "XDG_CACHE_HOME": str(home)},
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    return home / "edge-mnv2"


@pytest.fixture(autouse=True)
def cache(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own with the graphs, and no plan."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Links: all who write here put a new file in the place of an old one.
    shutil.copytree(built / "graphs", tmp_path / "cache" / "edge-mnv2" / "graphs", copy_function=os.link)
    return tmp_path / "cache" / "edge-mnv2"


@pytest.fixture
def planned(built: Path, cache: Path) -> Path:
    """A cache of this test's own with graphs and plan."""
    shutil.copytree(built / "plans", cache / "plans", copy_function=os.link)
    return cache


@pytest.fixture
def play(command: Command) -> Play:
    """Run a command in a process of its own; what must never happen on a real Jetson did not."""

    def run(*arguments: object, **fields: object) -> Done:
        done: Done = command(*arguments, env={**os.environ, **jetson_environment(**fields)})
        check(done.returncode, done.stderr)
        return done

    return run


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Play]:
    """Run a command in this process; in the end it holds nothing of the Jetson any more."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    level = root.level

    def run(*arguments: object, **fields: object) -> Done:
        words = [*map(str, arguments)]
        with on_jetson(**fields):
            code = run_app(words, StopRequest())
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, printed.out, printed.err)

    yield run
    root.setLevel(level)
    for handler in [each for each in root.handlers if isinstance(each, LogHandler)]:
        root.removeHandler(handler)


def check(code: int, errors: str) -> None:
    """Look for what a fake Jetson answers with an exit code of its own, or pycuda by aborting."""
    assert code not in (EXIT_VIOLATION, -signal.SIGABRT), errors
    assert "violation" not in errors
    assert "Traceback" not in errors


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two pictures of a stop sign and a clock."""
    (tmp_path / "photos").mkdir()
    for number, frame in zip(range(2), synthetic_frames(), strict=False):
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), frame)
    return tmp_path / "photos"


@contextmanager
def started(folder: Path, *arguments: object, **fields: object) -> Iterator[subprocess.Popen[str]]:
    """Run a command on a fake Jetson while the `with` block looks at it; its end is waited for."""
    with subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        cwd=folder, env={**os.environ, **jetson_environment(**fields)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def read_until(words: str, process: subprocess.Popen[str]) -> str:
    """Return what a process says until it has said this."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if words in line:
            return said
    raise AssertionError(f"it never said {words!r}, but: {said}")


def is_running(pid: int) -> bool:
    try:
        return not re.search(r"^State:\s+[ZX]", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except FileNotFoundError:
        return False


def log_lines(errors: str, prefix: str) -> list[str]:
    return [line for line in errors.splitlines() if line.startswith(f"edge-mnv2: {prefix}")]


def labels(record: dict[str, Any]) -> list[str]:
    return sorted(item["label"] for item in record["detections"])


# `run` and `batch`.


def test_a_run_begins_on_onnx_runtime_and_ends_on_tensorrt(cache: Path, tmp_path: Path) -> None:
    words = ("run", "--engine", "tensorrt", "--source", "test://?fps=0", "--jsonl", "r.jsonl")
    with builds_held_back(cache / "plans") as let_go, started(tmp_path, *words) as process:
        wait_for_lines(tmp_path / "r.jsonl", 3, process)
        let_go()
        said = read_until("takes over", process)
        before = len((tmp_path / "r.jsonl").read_bytes().splitlines())
        wait_for_lines(tmp_path / "r.jsonl", before + 5, process)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    check(process.returncode, said + errors)
    assert process.returncode == 0
    written: list[Any] = records(tmp_path / "r.jsonl")
    assert [record["seq"] for record in written] == list(range(len(written)))
    # Hundreds of frames on, int8 sees a third thing in some.
    assert all({"clock", "stop sign"} <= {*labels(record)} for record in written)
    engines = log_lines(said + errors, "engine:")
    assert len(engines) == 2
    assert re.search(r"onnxruntime, int8, .*until TensorRT's plan is built", engines[0])
    assert engines[1].endswith("tensorrt, fp16, takes over from here")
    assert f"building a {PLAN}: there is none yet" in said
    (row,) = (row for row in tables(output) if row[0] == "engine")
    since = re.match(r"tensorrt fp16, from frame (\d+) on", row[1])
    assert since
    assert 3 < int(since[1]) <= len(written) - 4


def test_with_a_plan_a_run_is_tensorrt_from_the_start(play: Play, planned: Path, tmp_path: Path) -> None:
    done = play("run", "-e", "tensorrt", "-s", "test://?fps=0", "-n", 5, "--jsonl", "r.jsonl")
    assert done.returncode == 0
    assert done.stderr.splitlines() == ["edge-mnv2: engine: tensorrt, fp16 (as asked)"]
    written: list[Any] = records(tmp_path / "r.jsonl")
    assert [labels(record) for record in written] == [["clock", "stop sign"]] * 5


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("no_driver", "there is no NVIDIA driver"),
        ("no_pycuda", "the module pycuda is not installed"),
        ("no_tensorrt", "the module tensorrt is not installed"),
        ("no_device", "there is a driver, but no device that works"),
    ],
)
def test_without_what_tensorrt_needs_there_are_three_lines(play: Play, fault: str, problem: str) -> None:
    done = play("run", "--engine", "tensorrt", "-s", "test://", "--jsonl", "r.jsonl", faults={fault})
    assert (done.returncode, done.stdout) == (2, "")
    what, remedy, without = done.stderr.splitlines()
    assert what.startswith(f"edge-mnv2: error: TensorRT cannot run here: {problem}")
    assert remedy.startswith("edge-mnv2: error: To mend it: ")
    assert "--engine onnxruntime" in without


def test_auto_without_tensorrt_says_once_what_runs_and_why(play: Play, tmp_path: Path) -> None:
    done = play("run", "-s", "test://?fps=0", "-n", 3, "--jsonl", "r.jsonl", **NO_GPU)
    assert done.returncode == 0
    (line,) = log_lines(done.stderr, "engine:")
    assert line.startswith("edge-mnv2: engine: onnxruntime, int8, ")
    assert "TensorRT cannot run: there is no NVIDIA driver" in line
    assert "warning" not in done.stderr
    assert len(records(tmp_path / "r.jsonl")) == 3


@pytest.mark.parametrize("version", ["8.6.1", "11.4.0"])
def test_a_batch_waits_for_the_plan(call: Play, photos: Path, tmp_path: Path, version: str) -> None:
    done = call("batch", photos, "-o", "out", tensorrt_version=version)
    assert done.returncode == 0, done.stderr
    assert log_lines(done.stderr, "engine:") == ["edge-mnv2: engine: tensorrt, fp16 (the fastest here)"]
    written: list[Any] = records(tmp_path / "out" / "detections.jsonl")
    assert [labels(record) for record in written] == [["clock", "stop sign"]] * 2


@pytest.mark.parametrize("words", [("run", "-s"), ("batch", "-o", "out")])
def test_float16_without_tensorrt_is_a_wrong_request(
    call: Play, photos: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = call(*words, photos, "--precision", "fp16", **NO_GPU)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line == (
        "edge-mnv2: error: fp16 is for TensorRT, no CPU gains from it: choose fp32, int8 or auto."
    )


def test_an_upgrade_says_what_changed_and_builds_again(
    play: Play, call: Play, planned: Path, photos: Path
) -> None:
    done = play("batch", photos, "-o", "out", tensorrt_version="10.7.0")
    assert done.returncode == 0
    assert f"rebuilding the {PLAN} because TensorRT 10.3.0 -> 10.7.0\n" in done.stderr
    assert len([*(planned / "plans").glob("*.plan")]) == 2
    again = call("batch", photos, "-o", "again", tensorrt_version="10.7.0")
    assert again.stderr.splitlines() == ["edge-mnv2: engine: tensorrt, fp16 (the fastest here)"]
    # Downgraded, its plan is still there.
    back = call("batch", photos, "-o", "back", tensorrt_version="10.3.0")
    assert back.stderr == again.stderr


def test_a_damaged_plan_is_built_again_once(call: Play, planned: Path, photos: Path) -> None:
    (plan,) = (planned / "plans").glob("*.plan")
    whole = plan.read_bytes()
    plan.unlink()
    plan.write_bytes(whole[:1000])
    done = call("batch", photos, "-o", "out")
    assert done.returncode == 0
    assert f"warning: the TensorRT plan {plan.name} is deleted: it has 1000 bytes instead of" in done.stderr
    assert plan.read_bytes() == whole


@pytest.mark.parametrize(("way", "fault"), [("play", "wrong_outputs"), ("call", "nan_outputs")])
def test_a_plan_that_disagrees_ends_a_run_that_asked_for_it(
    request: pytest.FixtureRequest, tmp_path: Path, way: str, fault: str
) -> None:
    """The source has no end: what ends the run is that there is no plan."""
    run: Play = request.getfixturevalue(way)
    done = run("run", "-e", "tensorrt", "-s", "test://?fps=0", "--jsonl", "r.jsonl", faults={fault})
    assert done.returncode == 1
    (line,) = log_lines(done.stderr, "error:")
    assert f"The TensorRT plan of {DETECTOR} in fp32 disagrees with ONNX Runtime: box_encodings " in line
    assert "peak memory" in done.stdout
    written = records(tmp_path / "r.jsonl")
    assert [record["seq"] for record in written] == list(range(len(written)))
    assert written


def test_a_plan_that_disagrees_is_left_out_where_nobody_asked_for_it(call: Play, photos: Path) -> None:
    for _ in range(2):
        done = call("batch", photos, "-o", "out", faults={"wrong_outputs"})
        assert done.returncode == 0
        assert len(log_lines(done.stderr, "warning:")) == 2  # of float16, of float32
        (line,) = log_lines(done.stderr, "engine:")
        assert line.startswith("edge-mnv2: engine: onnxruntime, int8, ")
    assert "building" not in done.stderr


def test_ctrl_c_while_a_batch_waits_for_a_plan(photos: Path, tmp_path: Path) -> None:
    with started(tmp_path, "batch", photos, "-o", "out", faults={"build_hangs"}) as process:
        said = read_until("TensorRT builds with", process)
        (builder,) = child_processes(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    check(process.returncode, said + errors)
    assert process.returncode == 1
    assert "interrupted" in errors
    assert not is_running(builder)


def test_ctrl_c_while_a_run_serves_and_builds(cache: Path, tmp_path: Path) -> None:
    words = ("run", "-e", "tensorrt", "-s", "test://?fps=0", "--jsonl", "r.jsonl")
    with started(tmp_path, *words, faults={"build_hangs"}) as process:
        said = read_until("TensorRT builds with", process)
        (builder,) = child_processes(process.pid)
        wait_for_lines(tmp_path / "r.jsonl", 3, process)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    check(process.returncode, said + errors)
    assert process.returncode == 0
    assert not is_running(builder)
    assert "peak memory" in output
    written = records(tmp_path / "r.jsonl")
    assert [record["seq"] for record in written] == list(range(len(written)))
    assert [path.name for path in (cache / "plans").iterdir()] == ["build.lock"]


def test_a_builder_ends_with_whoever_wanted_the_plan(photos: Path, tmp_path: Path) -> None:
    """Killed by SIGKILL, nobody can cancel anything."""
    with started(tmp_path, "batch", photos, "-o", "out", faults={"build_hangs"}) as process:
        read_until("TensorRT builds with", process)
        (builder,) = child_processes(process.pid)
        process.kill()
        process.communicate(timeout=60)
        end_s = time.monotonic() + 60
        while is_running(builder):
            assert time.monotonic() < end_s
            time.sleep(0.01)


# `models build`, `list` and `prune`.


def test_plans_of_every_precision_are_built_and_listed(call: Play, cache: Path) -> None:
    call("models", "build", CLASSIFIER)  # its float32 graph is that of two plans
    for precision in ("fp32", "fp16", "int8"):
        done = call("models", "build", CLASSIFIER, "-e", "tensorrt", "-p", precision)
        assert done.returncode == 0, done.stderr
        path = Path(done.stdout.strip())
        assert path.parent == cache / "plans"
        assert path.name.startswith(f"{CLASSIFIER}-{precision}-")
        assert path.is_file()
    done = call("models", "list")
    assert "TensorRT plans" in done.stdout
    found = tables(done.stdout)[-4:]
    assert [row[:3] for row in found[1:]] == [
        [CLASSIFIER, precision, "224x224"] for precision in ("fp16", "fp32", "int8")
    ]
    assert {row[3] for row in found[1:]} == {"TensorRT 10.3.0, Orin (fake)"}
    assert {row[-1] for row in found[1:]} == {"good"}


def plan_row(call: Play, **fields: object) -> list[str]:
    done = call("models", "list", **fields)
    assert done.returncode == 0
    return tables(done.stdout)[-1]


def test_the_list_says_of_a_plan_whom_it_is_for_and_what_its_check_said(call: Play, planned: Path) -> None:
    assert plan_row(call)[3:] == ["TensorRT 10.3.0, Orin (fake)", *plan_row(call)[4:6], "good"]
    assert plan_row(call, tensorrt_version="10.7.0")[3] == "TensorRT 10.3.0, Orin (fake) (stale)"
    assert plan_row(call, **NO_GPU)[3] == "TensorRT 10.3.0, Orin (fake)", "nobody can tell"
    (path,) = (planned / "plans").glob("*.json")
    for kept, word in ((None, "not yet"), ({"figures": {}, "failures": ["It is bad."]}, "failed")):
        sidecar = json.loads(path.read_text())
        path.unlink()
        path.write_text(json.dumps(sidecar | {"check": kept}))
        assert plan_row(call)[-1] == word


def test_without_plans_the_list_has_no_table_of_them(call: Play) -> None:
    assert "TensorRT plans" not in call("models", "list").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (f"{DETECTOR} -p int3", "There is no precision 'int3'"),
        (
            f"{DETECTOR} --split 2",
            "of the options, only --precision, --dla, --input-size and --output-stride",
        ),
        (f"{DETECTOR} --width 0.5", "of the options, only --precision, --dla, --input-size and"),
        (f"{DETECTOR} --output-stride 8", "Only a segmentation"),
        ("ssdlite", "There is no model called 'ssdlite'"),
        (f"{DETECTOR} -p fp32 --dla 0", "A DLA core computes in fp16, not in fp32"),
    ],
)
def test_a_plan_that_cannot_be_is_one_line(call: Play, cache: Path, words: str, message: str) -> None:
    done = call("models", "build", "--engine", "tensorrt", *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("edge-mnv2: error: ")
    assert message in line
    assert not (cache / "plans").exists()


def test_a_dla_core_that_is_not_there(call: Play) -> None:
    done = call("models", "build", DETECTOR, "-e", "tensorrt", "--dla", 2, dla_cores=2)
    assert (done.returncode, done.stdout) == (2, "")
    assert log_lines(done.stderr, "error:") == [
        "edge-mnv2: error: There is no DLA core 2: this device has 2. Leave --dla out."
    ]


def test_a_build_that_disagrees_says_so(call: Play) -> None:
    done = call("models", "build", CLASSIFIER, "-e", "tensorrt", "-p", "fp16", faults={"nan_outputs"})
    assert (done.returncode, done.stdout) == (1, "")
    line, then = log_lines(done.stderr, "error:")
    assert line.endswith("disagrees with ONNX Runtime: logits has values that are not finite.")
    assert f"models compare {CLASSIFIER} --backends onnxruntime,tensorrt:fp16 --images DIR" in then


def test_a_build_without_tensorrt_is_three_lines(call: Play) -> None:
    done = call("models", "build", DETECTOR, "-e", "tensorrt", **NO_GPU)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 3)


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_prune_deletes_what_nothing_uses_and_says_what(call: Play, planned: Path) -> None:
    graphs, plans = planned / "graphs", planned / "plans"
    current = files_in(graphs)
    (graphs / "0ld0ld0").mkdir()
    old_graphs = {graphs / "0ld0ld0" / "a.onnx", graphs / "flat-fp32.onnx", graphs / "flat-fp32.sha256"}
    orphan = {plans / "orphan.plan", plans / ".abc.partial"}
    for path in (*old_graphs, *orphan):
        path.write_bytes(bytes(500_000))
    before = files_in(planned)

    # Where TensorRT cannot run, plans may be another system's; what builds left behind is nobody's.
    dry = call("models", "prune", "--dry-run", **NO_GPU)
    assert {*map(Path, dry.stdout.splitlines())} == old_graphs | orphan
    # For the device that they are for, all plans are in use.
    assert call("models", "prune", "--dry-run").stdout == dry.stdout
    assert dry.stderr == "5 files, 2.5 MB would be deleted.\n"
    # After an upgrade, none is.
    upgraded = {"tensorrt_version": "10.7.0"}
    dry = call("models", "prune", "--dry-run", **upgraded)
    stale = {path for path in files_in(plans) if path.name != "build.lock"}
    assert {path.suffix for path in stale} == {".plan", ".json", ".cache", ".partial"}
    assert {*map(Path, dry.stdout.splitlines())} == stale | old_graphs
    assert files_in(planned) == before

    done = call("models", "prune", **upgraded)
    assert done.returncode == 0
    assert done.stdout == dry.stdout
    assert done.stderr == dry.stderr.replace("would be deleted", "deleted")
    assert files_in(planned) == {*current, plans / "build.lock"}
    shutil.rmtree(planned)
    assert call("models", "prune", **upgraded).stderr == "0 files, 0.0 MB deleted.\n"


def test_prune_leaves_the_files_of_a_build_that_runs(
    planned: Path, photos: Path, tmp_path: Path, call: Play
) -> None:
    partial = planned / "plans" / ".half.partial"
    partial.write_bytes(b"half")
    words = ("batch", photos, "-o", "out", "-p", "fp32")
    with started(tmp_path, *words, faults={"build_hangs"}) as process:
        read_until("TensorRT builds with", process)
        assert call("models", "prune").stdout == ""
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert call("models", "prune").stdout.splitlines() == [str(partial)]


# `models compare`.


def compared(stdout: str) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in tables(stdout)}


def test_two_builds_of_one_backend_are_compared(call: Play, photos: Path) -> None:
    words = ("--backends", "onnxruntime,onnxruntime:int8", "--images", photos)
    done = call("models", "compare", DETECTOR, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == (
        f"{DETECTOR}, onnxruntime int8 beside onnxruntime fp32, 2 pictures"
    )
    rows = compared(done.stdout)
    assert [*rows] == [
        *("output", "box_encodings", "class_logits"),
        *("figure", "boxes", "missed", "extra", "matched_iou", "score_drift"),
        *("ms per picture", "onnxruntime fp32", "onnxruntime int8"),
    ]
    assert 0 < float(rows["box_encodings"][0].rstrip("%")) < 42
    assert rows["missed"] == ["0.0000", "at most 0.06"]
    for backend in ("onnxruntime fp32", "onnxruntime int8"):
        p50_ms, p95_ms = map(float, rows[backend])
        assert 0 < p50_ms <= p95_ms


def test_the_coarser_of_two_decides_what_is_allowed(call: Play, photos: Path) -> None:
    words = ("--backends", "onnxruntime:int8,onnxruntime:fp32", "--images", photos)
    done = call("models", "compare", CLASSIFIER, *words)
    assert not [line for line in log_lines(done.stderr, "error:") if " is off by " in line]


def test_a_dla_is_tensorrt_s_and_its_precision_too(call: Play, photos: Path) -> None:
    words = ("--images", photos, "--dla", "0", "--backends")
    done = call("models", "compare", CLASSIFIER, *words, "onnxruntime,onnxruntime:int8")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--dla is TensorRT's" in done.stderr
    done = call("models", "compare", CLASSIFIER, *words, "tensorrt,onnxruntime", dla_cores=1)
    assert "tensorrt fp16" in done.stdout.splitlines()[0]


def test_tensorrt_is_compared_with_onnx_runtime(play: Play, planned: Path, photos: Path) -> None:
    done = play("models", "compare", DETECTOR, "--backends", "onnxruntime,tensorrt", "--images", photos)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{DETECTOR}, tensorrt fp16 beside onnxruntime fp32, 2 pictures\n")
    rows = compared(done.stdout)
    assert rows["box_encodings"] == rows["class_logits"] == ["0.000%", "0"]
    assert {"onnxruntime fp32", "tensorrt fp16"} <= rows.keys()


@pytest.mark.parametrize("model", [DETECTOR, CLASSIFIER])
def test_figures_that_fail_are_named(call: Play, photos: Path, model: str) -> None:
    """What disagrees is what the command is to show: no plan is refused."""
    words = ("--backends", "onnxruntime,tensorrt:fp32", "--images", photos)
    done = call("models", "compare", model, *words, faults={"wrong_outputs"})
    assert done.returncode == 1
    rows = compared(done.stdout)
    errors = log_lines(done.stderr, "error:")
    title = f"edge-mnv2: error: {model}, tensorrt fp32 beside onnxruntime fp32: "
    assert all(line.startswith(title) for line in errors)
    failed = [line.removeprefix(title).split()[0] for line in errors]
    outputs = ["box_encodings", "class_logits"] if model == DETECTOR else ["logits"]
    assert failed[: len(outputs)] == outputs
    assert len(failed) > len(outputs)
    for line in errors[len(outputs) :]:
        figure, value = re.match(r"(\w+) is ([\d.]+),", line.removeprefix(title)).groups()  # type: ignore[union-attr]
        assert rows[figure][0] == value


@pytest.mark.parametrize(
    ("pair", "title"),
    [
        ("onnxruntime,tensorrt:fp16", "tensorrt fp16 beside onnxruntime fp32"),
        # A reference is float32 unless it is said.
        ("tensorrt,onnxruntime", "onnxruntime fp32 beside tensorrt fp32"),
    ],
)
@pytest.mark.parametrize("model", [DETECTOR, CLASSIFIER])
def test_outputs_that_are_not_finite_give_no_figures(
    call: Play, photos: Path, model: str, pair: str, title: str
) -> None:
    words = ("--backends", pair, "--images", photos)
    done = call("models", "compare", model, *words, faults={"nan_outputs"})
    assert done.stdout.splitlines()[0] == f"{model}, {title}, 2 pictures"
    assert done.returncode == 1
    rows = compared(done.stdout)
    output = "logits" if model == CLASSIFIER else "class_logits"
    assert rows[output] == ["not finite", "-"]
    assert "figure" not in rows
    assert f"{output} has values that are not finite." in done.stderr


@pytest.mark.parametrize(
    ("backends", "images", "code", "message"),
    [
        ("onnxruntime", "photos", 2, "--backends takes two, such as onnxruntime,tensorrt, not 'onnxruntime'"),
        ("onnxruntime,onnxruntime,tensorrt", "photos", 2, "--backends takes two"),
        ("onnxruntime,tpu", "photos", 2, "There is no backend 'tpu' to compare"),
        ("onnxruntime,auto", "photos", 2, "There is no backend 'auto' to compare"),
        ("onnxruntime,", "photos", 2, "There is no backend '' to compare"),
        ("onnxruntime,tensorrt:int3", "photos", 2, "There is no precision 'int3'"),
        ("onnxruntime,onnxruntime:fp16", "photos", 2, "fp16 is for TensorRT, no CPU gains from it"),
        ("onnxruntime,onnxruntime", "nowhere", 2, "There is no folder nowhere"),
        ("onnxruntime,onnxruntime", "photos/0.png", 2, "There is no folder photos/0.png"),
        ("onnxruntime,onnxruntime", "empty", 2, "The folder empty holds no pictures"),
        ("onnxruntime,onnxruntime", "damaged", 1, "damaged/1.png is not a picture, or is damaged."),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    call: Play, photos: Path, tmp_path: Path, backends: str, images: str, code: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(photos, tmp_path / "damaged")
    (tmp_path / "damaged" / "1.png").write_bytes((photos / "1.png").read_bytes()[:3000])
    done = call("models", "compare", DETECTOR, "--backends", backends, "--images", images)
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("edge-mnv2: error: ")
    assert message in line


# `doctor`.


def test_the_doctor_names_what_tensorrt_has_and_lacks(call: Play, cache: Path) -> None:
    done = call("doctor")
    assert done.returncode == 0
    rows = {row[0]: row[1:] for row in tables(done.stdout)}
    assert rows["device"] == ["ok", "Orin (fake), compute capability 8.7, CUDA 12.6"]
    assert rows["TensorRT version"] == ["ok", "10.3.0"]
    done = call("doctor", faults={"no_pycuda"})
    rows = {row[0]: row[1:] for row in tables(done.stdout)}
    assert rows["NVIDIA driver"][0] == "ok"
    assert rows["TensorRT"][0] == "optional"
    assert "the module pycuda is not installed" in rows["TensorRT"][1]
    assert re.search(r"^TensorRT: .*pip install pycuda$", done.stdout, re.MULTILINE)
    done = call("doctor", tensorrt_version="8.5.2")
    assert "TensorRT 8.5.2 is too old, 8.6 is the oldest that works" in done.stdout
    # No device needs TensorRT, and the doctor builds no plan.
    assert done.returncode == 0
    assert not (cache / "plans").exists()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One model of small input, and fewer runs for each figure."""
    module = edge_mnv2.self_test
    monkeypatch.setattr(module, "CATALOGUE", [find_card(CLASSIFIER)])
    monkeypatch.setattr(module, "load_model", lambda name: load_model(name, Variant(size=(96, 96))))
    for count in ("_WARM_UP", "_TIMED"):
        monkeypatch.setattr(module, count, 2)
    for count in ("_RUNS", "_OPENINGS", "_RUNS_PER_THREAD"):
        monkeypatch.setattr(edge_mnv2.stress, count, 2)


@pytest.mark.usefixtures("quick")
def test_the_self_test_prints_a_report_to_paste(call: Play) -> None:
    done = call("doctor", "--self-test")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("## edge-mnv2 self-test\n")
    assert "\n- device: Orin (fake), compute capability 8.7, CUDA 12.6\n" in done.stdout
    assert "\n- TensorRT version: 10.3.0\n" in done.stdout
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in rows]
    backends = ("onnxruntime fp32", "onnxruntime int8", *(f"tensorrt {each}" for each in PRECISIONS))
    assert [row[:2] for row in cells[2:7]] == [[CLASSIFIER, backend] for backend in backends]
    assert {row[1] for row in cells[9:]} == {"ok"}
    assert done.stdout.endswith("\n24 of 24 checks passed.\n")
    assert log_lines(done.stderr, "error:") == []


@pytest.mark.usefixtures("quick")
def test_the_self_test_of_a_device_that_errs_fails(call: Play) -> None:
    """Twice: that the plans were refused before is no reason to leave them out."""
    for _ in range(2):
        done = call("doctor", "--self-test", faults={"wrong_outputs"})
        assert done.returncode == 1
        assert done.stdout.endswith("\n21 of 24 checks passed.\n")
        for precision, line in zip(PRECISIONS, log_lines(done.stderr, "error:"), strict=True):
            name = f"{CLASSIFIER} on tensorrt {precision} agrees with float32"
            assert f"| {name} | FAILED | logits is off by" in done.stdout
            assert line.startswith(f"edge-mnv2: error: {name}: logits is off by")
