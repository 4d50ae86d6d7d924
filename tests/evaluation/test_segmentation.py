from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from camera import BadFrameError
from edge_mnv2.errors import RequestError
from edge_mnv2.evaluation.segmentation import class_iou, confusion_matrix, evaluate_segmentation
from edge_mnv2.evaluation.tasks import decoder_options
from edge_mnv2.predictor import PredictorOptions, open_predictor
from edge_mnv2.results import Classification, SegmentationMap
from tests.evaluation.fakes import FakePredictor, classifier, png, segmenter, voc_palette, write_picture

LABELS = {1: "cat", 2: "dog", 3: "hen"}
Folders = tuple[Path, Path]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    return tmp_path / "images", tmp_path / "masks"


def write(folders: Folders, name: str, truth: object, predicted: object) -> None:
    """Write a picture that makes the fake predict so, and its mask."""
    images, masks = folders
    write_picture(images / f"{name}.png", predicted)
    (masks / f"{name}.png").write_bytes(png(truth, palette=voc_palette()))


def slow_iou(
    truths: list[NDArray[np.uint8]], maps: list[NDArray[np.uint8]], classes: int
) -> list[float | None]:
    """The definition, pixel by pixel: how many are in both, of those that are in either."""
    values: list[float | None] = []
    for number in range(classes):
        both = either = 0
        for truth, predicted in zip(truths, maps, strict=True):
            for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
                if t == 255:
                    continue
                both += t == number and p == number
                either += number in (t, p)
        values.append(both / either if either else None)
    return values


def test_an_example_by_hand(folders: Folders) -> None:
    """Over both pictures 11 pixels count, 9 of them are right.

    Background: 5 right of 6 true and 6 predicted, so of 7; cat: 2 of 2 and 3; dog: 2 of 3 and 2. The dog in
    the ignored corner counts for nothing.
    """
    write(folders, "a", [[0, 0, 1], [0, 1, 255]], [[0, 1, 1], [0, 1, 2]])
    write(folders, "b", [[2, 2, 2], [0, 0, 0]], [[2, 2, 0], [0, 0, 0]])
    done: list[tuple[int, int | None]] = []
    found = evaluate_segmentation(segmenter(LABELS), 4, *folders, lambda *counts: done.append(counts))
    assert found.iou == {
        "background": pytest.approx(5 / 7),
        "cat": pytest.approx(2 / 3),
        "dog": pytest.approx(2 / 3),
        "hen": None,
    }
    assert found.miou == pytest.approx((5 / 7 + 2 / 3 + 2 / 3) / 3)
    assert found.pixel_accuracy == pytest.approx(9 / 11)
    assert (found.images, found.ms_per_image) == (2, 2.0)
    assert done == [(1, 2), (2, 2)]


def test_a_class_that_is_only_predicted_counts_with_nothing(folders: Folders) -> None:
    write(folders, "a", [[0, 0, 0, 0]], [[0, 0, 0, 3]])
    found = evaluate_segmentation(segmenter(LABELS), 4, *folders)
    assert found.iou == {"background": 0.75, "cat": None, "dog": None, "hen": 0.0}
    assert found.miou == 0.375


def test_all_right_is_one(folders: Folders) -> None:
    write(folders, "a", [[0, 1], [2, 255]], [[0, 1], [2, 3]])
    found = evaluate_segmentation(segmenter(LABELS), 4, *folders)
    assert (found.miou, found.pixel_accuracy) == (1.0, 1.0)


@pytest.mark.parametrize("classes", [1, 2, 5, 21, 256])
def test_iou_agrees_with_its_definition(classes: int) -> None:
    rng = np.random.default_rng(classes)
    truths, maps = [], []
    for side in (9, 12, 17):
        truth = rng.integers(0, min(classes, 255), (side, 20)).astype(np.uint8)
        truth[rng.random(truth.shape) < 0.2] = 255
        truths.append(truth)
        maps.append(rng.integers(0, classes, truth.shape).astype(np.uint8))
    confusion = sum(
        (confusion_matrix(truth, predicted, classes) for truth, predicted in zip(truths, maps, strict=True)),
        np.zeros((classes, classes), np.int64),
    )
    expected = [np.nan if value is None else value for value in slow_iou(truths, maps, classes)]
    np.testing.assert_allclose(class_iou(confusion), expected, rtol=1e-12)
    assert confusion.sum() == sum(int((truth != 255).sum()) for truth in truths)


def test_rows_are_the_truth_and_columns_the_prediction() -> None:
    truth, predicted = np.array([[1, 1, 2, 255]], np.uint8), np.array([[1, 0, 0, 0]], np.uint8)
    np.testing.assert_array_equal(confusion_matrix(truth, predicted, 3), [[0, 0, 0], [1, 1, 0], [1, 0, 0]])


def test_classes_without_a_label_of_their_own_keep_a_name_of_their_own(folders: Folders) -> None:
    write(folders, "a", [[0, 1, 2, 3, 4]], [[0, 1, 2, 3, 4]])
    found = evaluate_segmentation(segmenter({1: "crane", 3: "crane", 4: "hen"}), 5, *folders)
    assert found.iou == dict.fromkeys(("background", "crane (1)", "2", "crane (3)", "hen"), 1.0)


def test_bad_masks_are_named_before_anything_is_run(folders: Folders) -> None:
    write(folders, "a", [[0, 1]], [[0, 1]])
    write(folders, "b", [[4, 200]], [[0, 1]])
    fake = segmenter(LABELS)
    with pytest.raises(
        RequestError, match=r"b\.png holds 4, 200, but fake-segment has the classes 0 to 3; 255"
    ):
        evaluate_segmentation(fake, 4, *folders)
    write(folders, "b", [[0, 1]], [[0, 1]])
    good = (folders[1] / "b.png").read_bytes()
    (folders[1] / "b.png").write_bytes(good[:-20])
    with pytest.raises(RequestError, match=r"b\.png is damaged"):
        evaluate_segmentation(fake, 4, *folders)
    (folders[1] / "b.png").unlink()
    with pytest.raises(RequestError, match=r"no mask in \S+: b\.png"):
        evaluate_segmentation(fake, 4, *folders)
    (folders[0] / "b.png").unlink()
    write(folders, "a", [[255, 255]], [[0, 1]])
    with pytest.raises(RequestError, match="every pixel is 255"):
        evaluate_segmentation(fake, 4, *folders)
    assert fake.calls == 0


def test_a_mask_of_another_size_is_named_with_both_sizes(folders: Folders) -> None:
    write(folders, "a", np.zeros((2, 3)), np.zeros((3, 2)))
    fake = segmenter(LABELS)
    with pytest.raises(RequestError, match=r"masks/a\.png has 3x2 pixels.*images/a\.png has 2x3"):
        evaluate_segmentation(fake, 4, *folders)
    assert fake.calls == 0


def test_a_damaged_picture_is_no_wrong_request(folders: Folders) -> None:
    write(folders, "a", [[0]], [[0]])
    (folders[0] / "a.png").write_bytes(b"")
    with pytest.raises(BadFrameError, match=r"a\.png is empty"):
        evaluate_segmentation(segmenter(LABELS), 4, *folders)


def test_a_predictor_that_was_opened_wrongly_is_a_mistake_in_the_program(folders: Folders) -> None:
    write(folders, "a", np.zeros((2, 3)), np.zeros((2, 3)))
    coarse = FakePredictor("segment", lambda _: SegmentationMap(np.zeros((4, 4), np.uint8)), LABELS)
    with pytest.raises(ValueError, match=r"map of 4x4 for a picture of 3x2.*masks=True"):
        evaluate_segmentation(coarse, 4, *folders)
    with pytest.raises(TypeError, match=f"returns {Classification.__name__}, not {SegmentationMap.__name__}"):
        evaluate_segmentation(classifier({0: [1]}), 4, *folders)


def test_the_embedded_model_reaches_its_accuracy_on_real_masks(pictures: Path) -> None:
    predictor = open_predictor(
        "deeplabv3-mnv2-voc", PredictorOptions(precision="fp32", decoder=decoder_options("segment"))
    )
    try:
        found = evaluate_segmentation(predictor, 21, pictures, pictures.parent / "masks_voc21")
    finally:
        predictor.close()
    assert found.images == 48
    assert found.miou == pytest.approx(0.571, abs=0.01)
    assert found.pixel_accuracy == pytest.approx(0.946, abs=0.005)
    assert found.iou["person"] == pytest.approx(0.704, abs=0.02)
    assert found.iou["horse"] is None
    present = [value for value in found.iou.values() if value is not None]
    assert len(present) == 20
    assert found.miou == pytest.approx(sum(present) / 20)
