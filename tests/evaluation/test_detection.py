from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera import BadFrameError
from edge_mnv2.errors import RequestError
from edge_mnv2.evaluation.detection import evaluate_detection
from edge_mnv2.evaluation.tasks import decoder_options
from edge_mnv2.predictor import PredictorOptions, open_predictor
from tests.evaluation.fakes import classifier, detector


def annotations(folder: Path, boxes: list[list[float]]) -> Path:
    """Write pictures of 100x100 with one person each, and their COCO instances file."""
    images, instances = [], []
    for index, box in enumerate(boxes, 1):
        cv2.imwrite(str(folder / f"{index}.png"), np.zeros((100, 100, 3), np.uint8))
        images.append({"id": index, "file_name": f"{index}.png", "width": 100, "height": 100})
        area = box[2] * box[3]
        instances.append(
            {"id": index, "image_id": index, "category_id": 1, "bbox": box, "area": area, "iscrowd": 0}
        )
    path = folder / "instances.json"
    categories = [{"id": 1, "name": "person"}]
    path.write_text(json.dumps({"images": images, "annotations": instances, "categories": categories}))
    return path


def test_perfect_half_and_no_detections(tmp_path: Path) -> None:
    """The fake finds a person in the middle tenth of every picture: from 45 to 55."""
    pytest.importorskip("pycocotools")
    for count, (boxes, expected) in enumerate(
        [([[45, 45, 10, 10]] * 2, 1.0), ([[45, 45, 10, 10], [0, 0, 10, 10]], 0.5), ([[0, 0, 10, 10]], 0.0)]
    ):
        folder = tmp_path / str(count)
        folder.mkdir()
        found = evaluate_detection(detector(), folder, annotations(folder, boxes))
        assert found.map == pytest.approx(expected, abs=0.01)
        assert found.images == len(boxes)
        assert found.ms_per_image == 2.0


def test_progress_is_told_and_another_task_is_a_mistake_in_the_program(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    path = annotations(tmp_path, [[1, 1, 5, 5]] * 3)
    done: list[tuple[int, int | None]] = []
    evaluate_detection(detector(), tmp_path, path, lambda *counts: done.append(counts))
    assert done == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(TypeError, match="returns Classification, not Detections"):
        evaluate_detection(classifier({0: [1]}), tmp_path, path)


def test_missing_pictures_and_bad_files_are_named(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    path = annotations(tmp_path, [[1, 1, 5, 5]] * 3)
    (tmp_path / "2.png").unlink()
    with pytest.raises(RequestError, match=r"1 of 3 pictures.*2\.png"):
        evaluate_detection(detector(), tmp_path, path)
    (tmp_path / "2.png").touch()
    with pytest.raises(BadFrameError, match=r"2\.png is empty"):
        evaluate_detection(detector(), tmp_path, path)
    nothing = '{"images": [], "annotations": [], "categories": []}'
    for text in ("", "{}", "[]", '{"images": []}', "\x00", nothing, "[" * 100_000):
        path.write_text(text)
        with pytest.raises(RequestError, match=r"instances\.json is not a COCO instances file"):
            evaluate_detection(detector(), tmp_path, path)
    dataset = json.loads(annotations(tmp_path, [[1, 1, 5, 5]]).read_text())
    path.write_text(json.dumps(dataset | {"images": []}))
    with pytest.raises(RequestError, match=r"instances\.json names no pictures"):
        evaluate_detection(detector(), tmp_path, path)
    with pytest.raises(RequestError, match=r"nothing\.json is not"):
        evaluate_detection(detector(), tmp_path, tmp_path / "nothing.json")


def test_the_embedded_model_reaches_its_accuracy_on_real_pictures(pictures: Path) -> None:
    pytest.importorskip("pycocotools")
    predictor = open_predictor(
        "ssdlite-mnv2-coco", PredictorOptions(precision="fp32", decoder=decoder_options("detect"))
    )
    try:
        found = evaluate_detection(predictor, pictures, pictures.parent / "instances.json")
    finally:
        predictor.close()
    assert found.images == 48
    assert found.map == pytest.approx(0.363, abs=0.005)
    assert found.ap50 == pytest.approx(0.567, abs=0.01)
