from __future__ import annotations

import csv
import json
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera import UnsupportedSourceError
from edge_mnv2.batch import coco_image_ids, run_batch
from edge_mnv2.errors import RequestError
from edge_mnv2.pipeline import RunControl
from edge_mnv2.predictor import Predictor
from tests.conftest import Command
from tests.samples import fake_classifier, fake_predictor, fake_segmenter

CONTROL = RunControl(threading.Event())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("000000000042.jpg", "000000000007.jpg"):
        cv2.imwrite(str(photos / name), np.zeros((30, 40, 3), np.uint8))
    (photos / "000000000009.jpg").touch()
    return photos


def test_a_folder_with_a_bad_picture(folder: Path, tmp_path: Path) -> None:
    summary = run_batch([str(folder)], tmp_path / "out", fake_predictor(), CONTROL, annotate=True)
    assert (summary.frames, summary.bad_frames, summary.ok) == (2, 1, False)
    records = [json.loads(line) for line in (tmp_path / "out" / "detections.jsonl").read_text().splitlines()]
    assert [Path(record["source"]).stem for record in records] == ["000000000007", "000000000042"]
    assert sorted(path.name for path in (tmp_path / "out" / "annotated").iterdir()) == [
        "000000000007.jpg",
        "000000000042.jpg",
    ]


def test_coco_results_carry_cocos_image_and_category_ids(folder: Path, tmp_path: Path) -> None:
    run_batch([f"{folder}/*.jpg"], tmp_path / "out", fake_predictor(), CONTROL, file_format="coco")
    rows = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(7, 1), (42, 1)]
    images = json.loads((tmp_path / "out" / "images.json").read_text())
    assert [image["id"] for image in images] == [7, 9, 42]


def test_csv_has_a_line_for_each_detection(folder: Path, tmp_path: Path) -> None:
    run_batch([str(folder)], tmp_path / "out", fake_predictor(), CONTROL, file_format="csv")
    assert [row["label"] for row in read_csv(tmp_path / "out" / "detections.csv")] == ["person", "person"]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_of_a_segmentation_and_of_a_classification(folder: Path, tmp_path: Path) -> None:
    for name, predictor in (("s", fake_segmenter()), ("c", fake_classifier())):
        run_batch([str(folder)], tmp_path / name, predictor, CONTROL, file_format="csv")
    segments = read_csv(tmp_path / "s" / "detections.csv")
    assert [(row["label"], row["share"], row["x2"], row["y2"]) for row in segments] == [
        ("person", "0.5", "20.0", "30.0")
    ] * 2
    classes = read_csv(tmp_path / "c" / "detections.csv")
    assert [row["label"] for row in classes] == ["goldfish", "great white shark", "tench"] * 2
    assert classes[0].keys() == {"source", "seq", "class_id", "label", "score"}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_records_of_a_batch_carry_masks_where_they_are_wanted(folder: Path, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="needs the eval extra")
    for name, masks in (("with", True), ("without", False)):
        run_batch([str(folder)], tmp_path / name, fake_segmenter(masks=masks), CONTROL, masks=masks)
        for line in (tmp_path / name / "detections.jsonl").read_text().splitlines():
            (segment,) = json.loads(line)["segments"]
            assert ("mask" in segment) == masks
            if masks:
                mask = coco.decode(segment["mask"])
                assert (mask.shape, mask[:, :20].all(), mask[:, 20:].any()) == ((30, 40), True, False)


@pytest.mark.parametrize("predictor", [fake_segmenter(), fake_classifier()], ids=["segment", "classify"])
def test_coco_results_are_refused_for_models_that_do_not_detect(
    folder: Path, tmp_path: Path, predictor: Predictor
) -> None:
    with pytest.raises(RequestError, match="COCO results are for detections: choose --format jsonl or csv"):
        run_batch([str(folder)], tmp_path / "out", predictor, CONTROL, file_format="coco")
    assert not (tmp_path / "out").exists()


def test_a_picture_that_is_named_twice_is_processed_once(folder: Path, tmp_path: Path) -> None:
    inputs = [str(folder), str(folder / "000000000042.jpg"), f"{folder}/../photos/*07.jpg"]
    summary = run_batch(inputs, tmp_path / "out", fake_predictor(), CONTROL, file_format="coco")
    assert summary.frames == 2
    rows = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [row["image_id"] for row in rows] == [7, 42]


def test_image_ids_are_counted_where_names_do_not_give_them() -> None:
    assert coco_image_ids([Path("a/COCO_val_0012.jpg"), Path("3.png")]) == {
        "a/COCO_val_0012.jpg": 12,
        "3.png": 3,
    }
    assert coco_image_ids([Path("a/1.jpg"), Path("b/1.jpg")]) == {"a/1.jpg": 1, "b/1.jpg": 2}
    assert coco_image_ids([Path("x.jpg"), Path("2.jpg")]) == {"x.jpg": 1, "2.jpg": 2}


def test_cameras_and_videos_in_the_wrong_place_are_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(UnsupportedSourceError, match="is a camera"):
        run_batch(["test://"], tmp_path, fake_predictor(), CONTROL)
    with pytest.raises(RequestError, match="COCO results are for pictures"):
        run_batch([str(tmp_path / "clip.mp4")], tmp_path, fake_predictor(), CONTROL, file_format="coco")


def test_real_pictures_become_true_coco_results(pictures: Path, tmp_path: Path, command: Command) -> None:
    """What `batch` writes is what pycocotools accepts, and finds the same objects as `eval`."""
    coco = pytest.importorskip("pycocotools.coco", reason="needs the eval extra")
    done = command("batch", pictures, "-o", "out", "-f", "coco", "-t", "0.01", "-p", "fp32")
    assert done.returncode == 0, done.stderr
    truth = coco.COCO(str(pictures.parent / "instances.json"))
    found = truth.loadRes(str(tmp_path / "out" / "detections.json"))
    evaluation = pytest.importorskip("pycocotools.cocoeval").COCOeval(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] > 0.34


def test_folders_and_globs_mean_videos_too_and_names_never_collide(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        writer = cv2.VideoWriter(
            str(tmp_path / name / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48)
        )
        for _ in range(3):
            writer.write(np.zeros((48, 64, 3), np.uint8))
        writer.release()
    inputs = [str(tmp_path / "a"), str(tmp_path / "b" / "*.avi"), str(folder / "000000000042.jpg")]
    summary = run_batch(inputs, tmp_path / "out", fake_predictor(), CONTROL, annotate=True)
    assert (summary.frames, summary.ok) == (7, True)
    names = sorted(path.name for path in (tmp_path / "out" / "annotated").iterdir())
    assert names == [
        "000000000042-000000.jpg",
        *(f"clip-00000{index}.jpg" for index in range(3)),
        *(f"clip-2-00000{index}.jpg" for index in range(3)),
    ]


def test_a_file_name_that_is_not_utf8_stops_nothing(tmp_path: Path) -> None:
    data = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for name in (b"caf\xe9.png", b"z.png"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(data)  # noqa: PTH118
    summary = run_batch([str(tmp_path)], tmp_path / "out", fake_predictor(), CONTROL)
    assert (summary.frames, summary.ok) == (2, True)
    lines = (tmp_path / "out" / "detections.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["source"].endswith("caf\\xe9.png")
