"""`edge-mnv2 eval`: what it asks for, what it refuses to overwrite, what it prints and writes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge_mnv2.predictor
from edge_mnv2.cli.app import run_app
from edge_mnv2.predictor import PredictorOptions
from edge_mnv2.stop import StopRequest
from edge_mnv2.zoo.labels import DATA_DIR
from edge_mnv2.zoo.model import DecoderOptions
from tests.evaluation.fakes import png

SEGMENT = ("--model", "deeplabv3-mnv2-voc", "--images", "images")
CLASSIFY = ("--model", "mobilenet-v2-imagenet", "--images", "images")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: two grey pictures with everything that may be known of them."""
    monkeypatch.chdir(tmp_path)
    for name in ("images/below", "masks"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a", "b"):
        cv2.imwrite(f"images/{name}.jpg", np.full((30, 40, 3), 127, np.uint8))
        (tmp_path / "masks" / f"{name}.png").write_bytes(png(np.zeros((30, 40))))
    shutil.copy("images/a.jpg", "images/below/c.jpg")
    shutil.copy("images/a.jpg", "elsewhere.jpg")
    shutil.copy(DATA_DIR / "ssdlite-mnv2-coco.npz", "own.npz")
    Path("images/link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (tmp_path / "labels.txt").write_text("a.jpg 1\nb.jpg 2\n")
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return tmp_path


def evaluate(*arguments: str) -> int:
    return run_app(["eval", *arguments], StopRequest())


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ("", "--annotations"),
        ("--masks masks", "--annotations"),
        ("--annotations truth.json --labels labels.txt", "--annotations"),
        ("--model own.npz --masks masks", "--annotations"),
        ("--model deeplabv3-mnv2-voc", "--masks"),
        ("--model deeplabv3-mnv2-voc --annotations truth.json", "--masks"),
        ("--model deeplabv3-mnv2-voc --masks masks --labels labels.txt", "--masks"),
        ("--model mobilenet-v2-imagenet --masks masks", "--labels"),
        ("--model mobilenet-v2-imagenet --masks masks --labels labels.txt", "--labels"),
    ],
)
def test_what_the_model_is_measured_with_is_said_at_once(
    arguments: str, option: str, empty_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--images", "images", *arguments.split()) == 2
    assert f"{option}, a" in capsys.readouterr().err
    assert not empty_cache.exists()  # no graph was built


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--annotations truth.json --json truth.json", "truth.json holds the annotations"),
        ("--annotations truth.json --json ./images/../truth.json", "holds the annotations"),
        ("--annotations truth.json --json images/a.jpg", "images/a.jpg is a picture that is read"),
        ("--annotations truth.json --json images/below/c.jpg", "is a picture that is read"),
        ("--annotations truth.json --json elsewhere.jpg", "is a picture that is read"),
        ("--annotations truth.json --model own.npz --json own.npz", "own.npz holds the model"),
        ("--model deeplabv3-mnv2-voc --masks masks --json masks/b.png", "masks/b.png is a mask that is read"),
        ("--model mobilenet-v2-imagenet --labels labels.txt --json labels.txt", "holds the labels"),
    ],
)
def test_figures_take_the_place_of_no_input(
    arguments: str, words: str, folder: Path, empty_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert evaluate("--images", "images", *arguments.split()) == 2
    assert words in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert not empty_cache.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*SEGMENT, "--masks", "images"), "no masks"),
        ((*SEGMENT, "--masks", "masks"), "link.jpg"),
        ((*CLASSIFY, "--labels", "truth.json"), "truth.json, line 1: a line is"),
        ((*CLASSIFY, "--labels", "nothing.txt"), "nothing.txt cannot be read"),
        (("--images", "masks", "--annotations", "truth.json"), "1 of 1 pictures named in truth.json"),
        (("--model", "nope", "--images", "images", "--masks", "masks"), "no model called 'nope'"),
        ((*SEGMENT, "--masks", "masks", "--engine", "tpu"), "tpu"),
        ((*SEGMENT, "--masks", "masks", "--precision", "int3"), "int3"),
    ],
)
def test_wrong_input_is_a_wrong_request(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(*arguments) == 2
    assert words in capsys.readouterr().err


def test_options_reach_the_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, PredictorOptions]] = []

    def stand_in(name: str, options: PredictorOptions) -> None:
        # Who hears of a plan's build, and who ends it, is the command's own.
        opened.append((name, replace(options, on_progress=None, cancel=None)))
        raise KeyboardInterrupt

    monkeypatch.setattr(edge_mnv2.predictor, "open_predictor", stand_in)
    evaluate(*SEGMENT, "--masks", "masks", "--precision", "int8", "--force", "--threads", "3")
    evaluate("--images", "images", "--annotations", "truth.json")
    assert opened == [
        (
            "deeplabv3-mnv2-voc",
            PredictorOptions(precision="int8", force=True, threads=3, decoder=DecoderOptions(masks=True)),
        ),
        ("ssdlite-mnv2-coco", PredictorOptions(decoder=DecoderOptions(threshold=0.01))),
    ]


def test_figures_of_a_segmentation_are_printed_and_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the file has all 21 classes; the table has those that appear."""
    Path("images/link.jpg").unlink()
    assert evaluate(*SEGMENT, "--masks", "masks", "--json", "out/f.json") == 0
    rows = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if "│" in line]
    printed = {key.strip(): value.strip() for key, value in rows}
    written = json.loads((folder / "out" / "f.json").read_text())
    assert [*written] == ["miou", "iou", "pixel_accuracy", "images", "ms_per_image"]
    assert written["images"] == 2
    assert len(written["iou"]) == 21
    assert written["iou"]["horse"] is None
    present = {name: value for name, value in written["iou"].items() if value is not None}
    assert 0.5 < present["background"] == pytest.approx(written["pixel_accuracy"])
    assert [*printed] == [
        "miou",
        *(f"iou {name}" for name in present),
        "pixel_accuracy",
        "images",
        "ms_per_image",
    ]
    assert printed["iou background"] == f"{present['background']:.4f}"


def test_figures_of_a_classification_and_a_detection_are_printed_and_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycocotools")
    assert evaluate(*CLASSIFY, "--labels", "labels.txt", "--json", "f.json") == 0
    assert "mobilenet-v2-imagenet on images" in capsys.readouterr().out
    assert [*json.loads((folder / "f.json").read_text())] == ["top1", "top5", "images", "ms_per_image"]
    assert evaluate("--images", "images", "--annotations", "truth.json", "--json", "f.json") == 0
    assert "ap50" in capsys.readouterr().out
    found = json.loads((folder / "f.json").read_text())
    assert [*found] == ["map", "ap50", "ap75", "images", "ms_per_image"]
    assert found["images"] == 1
