from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from camera.errors import BadFrameError
from edge_mnv2.agreement import MIN_EVIDENCE, Agreement, check_int8, compare, evidence
from edge_mnv2.comparisons import SLACK, SMALLEST_SCORE, comparison_decoder
from edge_mnv2.errors import RequestError
from edge_mnv2.limits import LIMITS
from edge_mnv2.results import Result
from edge_mnv2.zoo.accuracy_record import AccuracyRecord, find_record, record_key
from edge_mnv2.zoo.model import DecoderOptions, Variant, load_model
from tests.evaluation.fakes import FakePredictor, write_picture
from tests.samples import TASKS, classification, detections, segmentation
from tests.zoo.test_ranges_file import own_model


class Comparison:
    """Compares two predictors that say what a test wants of each picture."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.steps: list[tuple[int, int | None]] = []

    def __call__(self, reference: Sequence[Result], candidate: Sequence[Result]) -> Agreement:
        paths = [self._folder / f"{index}.png" for index in range(len(reference))]
        for index, path in enumerate(paths):
            write_picture(path, np.full((4, 5), index))
        predictors = [
            FakePredictor(TASKS[type(reference[0])], lambda image, says=says: says[image[0, 0, 0]], {})
            for says in (reference, candidate)
        ]
        found = compare(*predictors, paths, lambda done, total: self.steps.append((done, total)))
        assert found.images == len(paths) == predictors[0].calls == predictors[1].calls
        return found


@pytest.fixture
def of(tmp_path: Path) -> Comparison:
    return Comparison(tmp_path)


A = (0, 0, 10, 10, 0.9, 1)
B = (20, 20, 40, 40, 0.6, 2)
FAINT = (50, 50, 60, 60, 0.2, 1)


def moved(box: tuple[float, ...], by: float) -> tuple[float, float, float, float, float, int]:
    x1, y1, x2, y2, score, class_id = box
    return (x1 + by, y1, x2 + by, y2, score, int(class_id))


def scored(box: tuple[float, ...], score: float) -> tuple[float, float, float, float, float, int]:
    x1, y1, x2, y2, _, class_id = box
    return (x1, y1, x2, y2, score, int(class_id))


def test_the_same_boxes_agree_perfectly_in_any_order(of: Comparison) -> None:
    found = of([detections(A, B, FAINT), detections()], [detections(FAINT, B, A), detections()])
    assert found.figures == {"boxes": 2, "missed": 0, "extra": 0, "matched_iou": 1, "score_drift": 0}
    assert (found.overall, found.failures) == (1, ())
    assert of.steps == [(1, 2), (2, 2)]


def test_a_shifted_box_is_matched_down_to_half_an_overlap(of: Comparison) -> None:
    """10 pixels wide: moved by 2, 80 of 120 pixels are common; moved by 4, 60 of 140."""
    found = of([detections(A)], [detections(moved(A, 2))])
    assert found.figures == pytest.approx(
        {"boxes": 1, "missed": 0, "extra": 0, "matched_iou": 2 / 3, "score_drift": 0}
    )
    assert found.overall == pytest.approx(2 / 3)
    assert found.failures == ("matched_iou is 0.6667, and must be at least 0.9.",)
    found = of([detections(A)], [detections(moved(A, 4))])
    assert found.figures == {"boxes": 1, "missed": 1, "extra": 1}, "nothing to say of matched boxes"
    assert found.overall == 0
    assert found.failures == (
        "missed is 1.0000, and must be at most 0.06.",
        "extra is 1.0000, and must be at most 0.06.",
    )


def test_missing_and_extra_boxes_are_shares_of_the_references(of: Comparison) -> None:
    found = of([detections(A, B), detections(A, B)], [detections(A), detections(A, B)])
    assert (found.figures["missed"], found.figures["extra"]) == (0.25, 0)
    assert found.overall == pytest.approx((2 * 0.9 + 0.6) / (2 * 0.9 + 2 * 0.6))
    assert found.failures == ("missed is 0.2500, and must be at most 0.06.",)
    found = of([detections(A), detections(A)], [detections(A, B), detections(A)])
    assert (found.figures["missed"], found.figures["extra"]) == (0, 0.5)
    assert found.failures == ("extra is 0.5000, and must be at most 0.06.",)
    found = of([detections()], [detections(A, B)])
    assert (found.figures["boxes"], found.figures["extra"], found.overall) == (0, 2, 0)
    assert found.failures == ("extra is 2.0000, and must be at most 0.06.",)


def test_another_class_is_another_box(of: Comparison) -> None:
    found = of([detections((*A[:5], 1))], [detections((*A[:5], 2))])
    assert (found.figures["missed"], found.figures["extra"], found.overall) == (1, 1, 0)


def test_a_box_has_one_partner_the_nearest(of: Comparison) -> None:
    """Two boxes of the candidate over one of the reference; the nearer one may come second."""
    found = of([detections(A)], [detections(moved(A, 2), moved(A, 1))])
    assert (found.figures["missed"], found.figures["extra"]) == (0, 1)
    assert found.figures["matched_iou"] == pytest.approx(90 / 110)
    found = of([detections(moved(A, 2), moved(A, 1))], [detections(A)])
    assert (found.figures["missed"], found.figures["extra"]) == (0.5, 0)
    assert found.figures["matched_iou"] == pytest.approx(90 / 110)


def test_a_score_may_drift_a_little_around_the_threshold(of: Comparison) -> None:
    just = 0.5 - SLACK
    for expected, given, missed, extra in (
        (0.5, just + 0.01, 0, 0),
        (0.5, just - 0.01, 1, 0),
        (just + 0.01, 0.5, 0, 0),
        (just - 0.01, 0.5, 0, 1),
        (0.49, 0.2, 0, 0),
    ):
        found = of([detections(scored(A, expected))], [detections(scored(A, given))])
        assert (found.figures["missed"], found.figures["extra"]) == (missed, extra)
        assert found.overall == pytest.approx(min(expected, given) / max(expected, given))
    found = of([detections(A, B)], [detections(scored(A, 0.8), scored(B, 0.7))])
    assert found.figures["score_drift"] == pytest.approx(0.1)
    assert found.failures == ("score_drift is 0.1000, and must be at most 0.06.",)


def test_faint_boxes_rank_builds_but_fail_none(of: Comparison) -> None:
    found = of([detections(A, FAINT)], [detections(A)])
    assert (found.figures["boxes"], found.figures["missed"], found.failures) == (1, 0, ())
    assert found.overall == pytest.approx(0.9 / 1.1)
    found = of([detections(A, FAINT)], [detections(A, scored(moved(FAINT, 2), 0.3))])
    assert (found.figures["matched_iou"], found.figures["score_drift"], found.failures) == (1, 0, ())
    assert found.overall == pytest.approx((0.9 + 0.2 * 80 / 120) / 1.2)


def test_pictures_without_boxes_agree(of: Comparison) -> None:
    found = of([detections()], [detections()])
    assert (found.figures["boxes"], found.overall, found.failures) == (0, 1, ())


def test_masks_agree_by_pixels_and_by_classes(of: Comparison) -> None:
    """Two pictures of 10 x 10: class 3 has 20 pixels in each; in one of them, five go to class 7."""
    mask = np.zeros((10, 10), np.uint8)
    mask[:2] = 3
    worse = mask.copy()
    worse[0, :5] = 7
    same = of([segmentation(mask)], [segmentation(mask)])
    assert same.figures == {"pixel_agreement": 1, "mask_iou": 1, "pictures_with_objects": 1}
    assert (same.overall, same.failures) == (1, ())
    nothing = segmentation(np.zeros((10, 10)))
    found = of([segmentation(mask)] * 2 + [nothing], [segmentation(mask), segmentation(worse), nothing])
    iou = (1 + 35 / 40) / 2
    assert found.figures == pytest.approx(
        {"pixel_agreement": 295 / 300, "mask_iou": iou, "pictures_with_objects": 2}
    )
    assert (found.overall, found.failures) == (pytest.approx(iou), ())
    found = of([segmentation(mask)], [segmentation(worse)])
    assert found.figures["mask_iou"] == pytest.approx((1 + 15 / 20) / 2)
    assert found.failures == ("pixel_agreement is 0.9500, and must be at least 0.97.",)


def test_what_the_candidate_sees_beside_the_mask_counts_too(of: Comparison) -> None:
    mask, larger = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    mask[:2], larger[:4] = 5, 5
    found = of([segmentation(mask)], [segmentation(larger)])
    assert found.figures["pixel_agreement"] == pytest.approx(0.8)
    assert found.figures["mask_iou"] == pytest.approx((60 / 80 + 20 / 40) / 2)
    assert len(found.failures) == 2


def test_specks_of_a_class_do_not_weigh_as_much_as_the_others(of: Comparison) -> None:
    speckled, clean = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    speckled[0, :10] = 255
    assert of([segmentation(speckled)], [segmentation(clean)]).figures["mask_iou"] == pytest.approx(0.999)
    speckled[0, :11] = 255
    found = of([segmentation(speckled)], [segmentation(clean)])
    assert found.figures["mask_iou"] == pytest.approx(0.9989 / 2)


def test_classes_agree_by_the_best_one_and_by_its_score(of: Comparison) -> None:
    expected = classification((4, 0.7), (2, 0.2), (0, 0.1))
    same = of([expected], [classification((4, 0.7), (2, 0.2), (0, 0.1))])
    assert same.figures == {"top1_agreement": 1, "score_drift": 0}
    assert (same.overall, same.failures) == (1, ())
    # The scores are compared class by class, whatever their order: 0.3 of the first went to the second.
    changed = of([expected], [classification((2, 0.5), (4, 0.4), (0, 0.1))])
    assert changed.figures == pytest.approx({"top1_agreement": 0, "score_drift": 0.3})
    assert changed.overall == pytest.approx(0.7)
    assert changed.failures == (
        "top1_agreement is 0.0000, and must be at least 0.85.",
        "score_drift is 0.3000, and must be at most 0.1.",
    )
    drifted = of([expected], [classification((4, 0.6), (0, 0.35), (2, 0.05))])
    assert drifted.figures == pytest.approx({"top1_agreement": 1, "score_drift": 0.1}), "of the best class"
    most = of([expected] * 10, [expected] * 9 + [classification((2, 0.5), (4, 0.4), (0, 0.1))])
    assert most.figures == pytest.approx({"top1_agreement": 0.9, "score_drift": 0.03})
    assert most.failures == ()


def test_a_figure_at_its_limit_passes(of: Comparison) -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[0, :3] = 1
    found = of([segmentation(np.zeros((10, 10)))], [segmentation(mask)])
    assert found.figures["pixel_agreement"] == 0.97 == LIMITS["segment"][0].bound
    assert found.failures == ()
    found = of([detections(A)] * 50, [detections(A)] * 47 + [detections()] * 3)
    assert found.figures["missed"] == 0.06 == LIMITS["detect"][0].bound
    assert found.failures == ()


def test_evidence_is_what_there_was_to_compare(of: Comparison) -> None:
    """Boxes, pictures with anything in them, pictures: blank ones agree perfectly and prove nothing."""
    mask = segmentation([[0, 3]])
    for task, results, count in (
        ("detect", [detections(A, B, FAINT), detections(), detections(A)], 3),
        ("segment", [mask, segmentation([[0, 0]]), mask], 2),
        ("classify", [classification((0, 1.0))] * 3, 3),
    ):
        found = of(results, results)  # type: ignore[arg-type]
        assert evidence(task, AccuracyRecord("", found.images, found.figures, found.failures)) == count


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "good.png", np.zeros((4, 4)))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    predictor = FakePredictor("segment", lambda _: segmentation([[0]]), {})
    with pytest.raises(BadFrameError, match=r"bad\.png is not a picture"):
        compare(predictor, predictor, [tmp_path / "good.png", tmp_path / "bad.png"])


def test_results_of_two_tasks_are_a_mistake_in_the_program(of: Comparison) -> None:
    samples: list[Result] = [detections(A), segmentation([[0]]), classification((0, 1.0))]
    for index, sample in enumerate(samples):
        with pytest.raises(TypeError, match="are compared with"):
            of([sample], [samples[index - 1]])


def test_builds_are_compared_with_all_that_they_say() -> None:
    assert comparison_decoder("detect", 91) == DecoderOptions(threshold=SMALLEST_SCORE)
    assert comparison_decoder("classify", 1000).top_k == 1000
    assert comparison_decoder("segment", 21).classes is None


@pytest.mark.parametrize(
    ("name", "size"),
    [("ssdlite-mnv2-coco", 300), ("deeplabv3-mnv2-voc", 257), ("mobilenet-v2-imagenet", 224)],
)
def test_the_embedded_models_int8_agrees_on_real_pictures(
    pictures: Path, name: str, size: int, empty_cache: Path
) -> None:
    """As the records say that come with the models, for the size that they were made at."""
    model = load_model(name, Variant((size, size)))
    found = check_int8(model, sorted(pictures.iterdir()))
    assert found.failures == ()
    assert (found.key, found.images) == (record_key(model), 48)
    limited = {limit.figure for limit in LIMITS[model.task]}
    assert set(found.figures) - {"boxes", "pictures_with_objects"} == limited
    assert evidence(model.task, found) > MIN_EVIDENCE
    shipped = find_record(model)
    assert (shipped is None) == (model.spec != model.weights.spec)
    if shipped is not None:
        assert found.figures == pytest.approx(shipped.figures, abs=0.04)


def test_a_model_without_ranges_cannot_be_checked(tmp_path: Path, empty_cache: Path) -> None:
    with pytest.raises(
        RequestError, match="mine has no activation ranges for int8: edge-mnv2 models calibrate"
    ):
        check_int8(own_model(tmp_path), [])
