from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from camera.errors import BadFrameError
from camera.pictures import read_picture
from edge_mnv2.agreement import Agreement, check_int8
from edge_mnv2.calibrate import calibrate
from edge_mnv2.limits import LIMITS
from edge_mnv2.networks.activation_statistics import check_statistics, tensors_to_watch
from edge_mnv2.networks.equalise import equalise, tensors_to_equalise
from edge_mnv2.networks.range_methods import METHODS, Histogram, Range, min_max
from edge_mnv2.networks.weight_sources import weights_from
from edge_mnv2.predictor import Predictor
from edge_mnv2.zoo.architectures import build_network
from edge_mnv2.zoo.cache import calibrated_ranges
from edge_mnv2.zoo.model import Model, Variant, load_model, make_network
from edge_mnv2.zoo.ranges_file import find_ranges, save_ranges
from tests.networks.test_quantise import picture, statistics_of, true_peaks, watch

SIZES = {
    "ssdlite-mnv2-coco": (224, 224),
    "deeplabv3-mnv2-voc": (161, 161),
    "mobilenet-v2-imagenet": (128, 128),
}


def small(name: str) -> Model:
    return load_model(name, Variant(SIZES[name]))


@pytest.fixture(scope="module")
def few(pictures: Path) -> list[Path]:
    """Six pictures with something in them for every model, three to watch and three to judge."""
    numbers = (17627, 25560, 37777, 41888, 85329, 143931)
    return [pictures / f"{number:012}.jpg" for number in numbers]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six pictures of smooth colours: where only numbers count, not what they show."""
    folder = tmp_path_factory.mktemp("drawn")
    paths = [folder / f"{number}.png" for number in range(6)]
    for seed, path in enumerate(paths):
        cv2.imwrite(str(path), picture((150, 200), seed)[0])
    return paths


def prepared(model: Model, paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    inputs = []
    for path in paths:
        pixels = np.zeros((1, *model.spec.size, 3), np.uint8)
        make_network(model).prepare(read_picture(path), pixels)
        inputs.append(pixels)
    return inputs


@pytest.mark.parametrize("name", SIZES)
def test_a_few_real_pictures_give_ranges_that_work(
    name: str, few: list[Path], empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    model, steps = small(name), []
    ranges = calibrate(model, few, lambda done, total: steps.append((done, total)))
    assert list((tmp_path / "tmp").iterdir()) == []
    # Three times for each of the watched half and of all, once for each method and judge.
    assert steps == [(number, 3 * 3 + 3 * 6 + 4 * 3) for number in range(1, 40)]
    check_statistics(build_network(model.spec, weights_from(model.weights.arrays())), ranges.statistics)
    assert (ranges.weights_digest, ranges.images) == (model.weights.digest, 6)
    assert {row.method for row in ranges.compared} == set(METHODS)
    found = [row.agreement for row in ranges.compared]
    assert found == sorted(found, reverse=True)
    assert ranges.method == ranges.compared[0].method
    assert 0.4 < found[0] < 1  # with three pictures; with 128 it is 0.84 and more
    assert found[-1] < found[0]
    save_ranges(calibrated_ranges(model.name, model.weights.digest), ranges)
    kept = find_ranges(model)
    assert kept is not None
    assert (kept.method, kept.images) == (ranges.method, 6)
    assert check_int8(model, few).figures.keys() >= {limit.figure for limit in LIMITS[model.task]}


def use_methods(monkeypatch: pytest.MonkeyPatch, **methods: object) -> None:
    monkeypatch.setattr("edge_mnv2.calibrate.METHODS", methods)


def test_statistics_are_those_of_all_pictures_by_hand(
    drawn: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges and means behind equalisation, peaks before it."""
    use_methods(monkeypatch, everything=min_max)
    model = small("mobilenet-v2-imagenet")
    found = calibrate(model, drawn[:3]).statistics
    graph = build_network(model.spec, weights_from(model.weights.arrays()))
    expected = statistics_of(graph, prepared(model, drawn[:3]))
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        assert (found[name].low, found[name].high) == pytest.approx((wanted.low, wanted.high), rel=1e-5)
        assert wanted.mean is not None
        largest = float(np.abs(wanted.mean).max())
        np.testing.assert_allclose(found[name].mean, wanted.mean, atol=1e-4 * largest)
        assert (found[name].peak is None) == (name not in tensors_to_equalise(graph))
        if wanted.peak is not None:
            np.testing.assert_allclose(found[name].peak, wanted.peak, rtol=1e-5, atol=1e-6)


def test_methods_choose_from_histograms_of_the_values(
    drawn: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Histogram] = []

    def probe(histogram: Histogram) -> Range:
        seen.append(histogram)
        return min_max(histogram)

    use_methods(monkeypatch, probe=probe)
    model = small("deeplabv3-mnv2-voc")
    calibrate(model, drawn[:2])
    graph = build_network(model.spec, weights_from(model.weights.arrays()))
    inputs = prepared(model, drawn[:2])
    values = watch(equalise(graph, true_peaks(graph, inputs)), inputs)
    predictions = {"head/logits"}
    names = [tensor.name for tensor in tensors_to_watch(graph) if tensor.name not in predictions]
    by_name = dict(zip(names, seen[-len(names) :], strict=True))
    for name in (
        "backbone/expanded_conv_5/project",
        "backbone/expanded_conv_9/add",
        "head/pool",
        "head/concat",
    ):
        histogram, wanted = by_name[name], values[name].ravel()
        assert (histogram.low, histogram.high) == pytest.approx((wanted.min(), wanted.max()))
        counts, _ = np.histogram(wanted, len(histogram.counts), (wanted.min(), wanted.max()))
        assert histogram.counts.sum() == wanted.size
        # At the border of two bins a value may fall to either.
        assert np.abs(np.cumsum(histogram.counts) - np.cumsum(counts)).max() <= max(2, wanted.size / 1000)


def test_the_best_method_wins_and_predictions_keep_all_their_values(
    drawn: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tenth(histogram: Histogram) -> Range:
        return histogram.low / 10, histogram.high / 10

    model = small("mobilenet-v2-imagenet")
    use_methods(monkeypatch, tenth=tenth, everything=min_max)
    both = calibrate(model, drawn[:2])
    assert [row.method for row in both.compared] == ["everything", "tenth"]
    assert both.compared[0].agreement > 0.5 > both.compared[1].agreement
    assert both.method == "everything"
    use_methods(monkeypatch, tenth=tenth)
    narrow = calibrate(model, drawn[:2])
    assert narrow.method == "tenth"
    kept = {
        name
        for name, wide in both.statistics.items()
        if (narrow.statistics[name].low, narrow.statistics[name].high)
        == pytest.approx((wide.low, wide.high), rel=1e-4)
    }
    assert kept == {"head/logits"}


@pytest.mark.parametrize("name", ["mobilenet-v2-imagenet", "deeplabv3-mnv2-voc"])
def test_only_predictions_keep_all_their_values(
    drawn: list[Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_methods(monkeypatch, none=lambda _: (-1e-3, 1e-3))
    statistics = calibrate(small(name), drawn[:1]).statistics
    assert {key for key, found in statistics.items() if found.high > 1e-3} == {"head/logits"}


@pytest.mark.parametrize(("count", "judges"), [(1, [0]), (2, [0]), (5, [0, 2, 4])])
def test_no_method_is_judged_on_what_it_was_fitted_to(
    drawn: list[Path], count: int, judges: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture is all there is: then it does both."""
    judged: list[Path] = []
    watched: list[Path] = []

    def note(_: Predictor, __: Predictor, paths: Sequence[Path], ___: object) -> Agreement:
        judged.extend(paths)
        return Agreement(len(paths), {}, 0.5, ())

    def read(path: Path) -> NDArray[np.uint8]:
        if not judged:
            watched.append(path)
        return read_picture(path)

    monkeypatch.setattr("edge_mnv2.calibrate.compare", note)
    monkeypatch.setattr("edge_mnv2.calibrate.read_picture", read)
    use_methods(monkeypatch, everything=min_max)
    ranges = calibrate(small("mobilenet-v2-imagenet"), drawn[:count])
    assert judged == [drawn[index] for index in judges]
    assert set(watched) == (set(drawn[:count]) - set(judged) or set(judged))
    assert ranges.images == count


def test_a_picture_that_cannot_be_decoded_is_named(drawn: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    for content in (b"", drawn[0].read_bytes()[:20]):
        bad.write_bytes(content)
        for paths in ([bad], [drawn[0], bad], [bad, drawn[0]]):
            with pytest.raises(BadFrameError, match=r"bad\.jpg"):
                calibrate(small("mobilenet-v2-imagenet"), paths)


def test_a_picture_without_any_contrast_gives_ranges_too(tmp_path: Path, empty_cache: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((64, 64, 3), 127, np.uint8))
    model = small("deeplabv3-mnv2-voc")
    ranges = calibrate(model, [tmp_path / "grey.png"])
    save_ranges(calibrated_ranges(model.name, model.weights.digest), replace(ranges))
    assert check_int8(model, [tmp_path / "grey.png"]).images == 1
