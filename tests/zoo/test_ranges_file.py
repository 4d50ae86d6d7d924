from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_mnv2.errors import RequestError, RunError, WeightsError
from edge_mnv2.networks.activation_statistics import ActivationStatistics, check_statistics
from edge_mnv2.networks.weight_sources import shapes_only
from edge_mnv2.zoo.architectures import build_network
from edge_mnv2.zoo.cache import calibrated_ranges
from edge_mnv2.zoo.labels import DATA_DIR
from edge_mnv2.zoo.model import Model, load_model
from edge_mnv2.zoo.ranges_file import (
    ActivationRanges,
    MethodResult,
    beside,
    find_ranges,
    load_ranges,
    no_ranges,
    save_ranges,
)

EMBEDDED = ("ssdlite-mnv2-coco", "deeplabv3-mnv2-voc", "mobilenet-v2-imagenet")


def ranges_for(model: Model, method: str = "percentile") -> ActivationRanges:
    statistics = {
        "backbone/conv": ActivationStatistics(
            0, 6, np.array([1, 2], np.float32), np.array([3, 4], np.float32)
        ),
        "backbone/conv/sum.range": ActivationStatistics(-1.5, 2.25, np.array([0.5], np.float32)),
        "head": ActivationStatistics(-8, 0.125),
    }
    compared = (MethodResult(method, 0.75), MethodResult("other", 0.5))
    return ActivationRanges(model.weights.digest, method, 12, statistics, compared)


def own_model(folder: Path, stem: str = "mine") -> Model:
    """Return a model in a folder of its own, without any ranges."""
    (folder / f"{stem}.npz").symlink_to(DATA_DIR / "deeplabv3-mnv2-voc.npz")
    return load_model(str(folder / f"{stem}.npz"))


def assert_same(found: ActivationRanges, expected: ActivationRanges) -> None:
    assert replace(found, statistics={}) == replace(expected, statistics={})
    assert found.statistics.keys() == expected.statistics.keys()
    for name, wanted in expected.statistics.items():
        statistic = found.statistics[name]
        assert (statistic.low, statistic.high) == (wanted.low, wanted.high)
        np.testing.assert_array_equal(statistic.mean, wanted.mean)
        np.testing.assert_array_equal(statistic.peak, wanted.peak)


def test_what_is_written_is_read_again(tmp_path: Path, coco_model: Model) -> None:
    ranges = ranges_for(coco_model)
    save_ranges(tmp_path / "new" / "x.ranges.npz", ranges)
    found = load_ranges(tmp_path / "new" / "x.ranges.npz", coco_model)
    assert_same(found, ranges)
    other = replace(ranges, images=13)
    save_ranges(tmp_path / "x.ranges.npz", other)
    assert len({found.digest, load_ranges(tmp_path / "x.ranges.npz", coco_model).digest, ""}) == 3


def test_ranges_of_another_model_are_refused_with_both_names(tmp_path: Path, coco_model: Model) -> None:
    own = own_model(tmp_path)
    save_ranges(beside(own.path), ranges_for(coco_model))
    with pytest.raises(RequestError) as caught:
        find_ranges(own)
    text = str(caught.value)
    assert str(beside(own.path)) in text
    assert coco_model.weights.digest[:12] in text
    assert (
        f"than mine (weights {coco_model.weights.digest[:12]}, this model has {own.weights.digest[:12]})"
        in text
    )
    assert f"edge-mnv2 models calibrate {own.path} --images DIR" in text


def test_ones_own_ranges_go_before_those_beside_the_weights(
    tmp_path: Path, empty_cache: Path, coco_model: Model
) -> None:
    own = own_model(tmp_path)
    assert find_ranges(own) is None
    assert f"edge-mnv2 models calibrate {own.path} --images DIR" in str(no_ranges(own))
    save_ranges(beside(own.path), ranges_for(own, "shipped"))
    assert beside(own.path) == tmp_path / "mine.ranges.npz"
    shipped = find_ranges(own)
    assert shipped is not None
    assert shipped.method == "shipped"
    path = calibrated_ranges(own.name, own.weights.digest)
    assert path.is_relative_to(empty_cache)
    save_ranges(path, ranges_for(own, "own"))
    found = find_ranges(own)
    assert found is not None
    assert found.method == "own"
    # Other weights under the same name, at another place, have nothing to do with them.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.npz").symlink_to(coco_model.path)
    assert find_ranges(load_model(str(tmp_path / "other" / "mine.npz"))) is None


def test_damage_anywhere_is_found(tmp_path: Path, coco_model: Model) -> None:
    ranges = ranges_for(coco_model)
    path = tmp_path / "x.ranges.npz"
    save_ranges(path, ranges)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"x\.ranges\.npz is not a readable file of activation ranges"):
            load_ranges(path, coco_model)
    refused = 0
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            found = load_ranges(path, coco_model)
        except WeightsError as error:
            assert "x.ranges.npz" in str(error)  # noqa: PT017 - some bytes of a zip file mean nothing
            refused += 1
        else:
            assert_same(found, ranges)
    assert refused > len(whole) / 7 / 2


def test_what_is_no_file_of_ranges_is_named(tmp_path: Path, coco_model: Model) -> None:
    path = tmp_path / "x.ranges.npz"
    with pytest.raises(WeightsError, match="No such file"):
        load_ranges(path, coco_model)
    for content in (b"", b"ranges", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="not a readable file of activation ranges"):
            load_ranges(path, coco_model)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(WeightsError, match="not a readable file of activation ranges"):
        load_ranges(path, coco_model)
    for arrays in ({"a": np.zeros(3)}, {"meta": np.array("[]")}, {"meta": np.array("no json")}):
        np.savez(path, **arrays)
        with pytest.raises(WeightsError, match="not a readable file of activation ranges"):
            load_ranges(path, coco_model)
    shutil.copy(coco_model.path, path)
    with pytest.raises(WeightsError, match=r"x\.ranges\.npz is"):
        load_ranges(path, coco_model)


def test_numbers_that_were_changed_are_found(tmp_path: Path, coco_model: Model) -> None:
    """Whole as an archive, but not what was written."""
    path = tmp_path / "x.ranges.npz"
    save_ranges(path, ranges_for(coco_model))
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **(arrays | {"head.range": np.array([-8, 0.25], np.float32)}))
    with pytest.raises(WeightsError, match="is damaged: delete it, and calibrate the model again"):
        load_ranges(path, coco_model)
    outer = json.loads(str(arrays["meta"]))
    outer["content"] = outer["content"].replace("percentile", "percentage")
    np.savez(path, **(arrays | {"meta": np.array(json.dumps(outer))}))
    with pytest.raises(WeightsError, match="is damaged"):
        load_ranges(path, coco_model)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, coco_model: Model) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot be written to .*x\.ranges\.npz"):
        save_ranges(tmp_path / "file" / "x.ranges.npz", ranges_for(coco_model))


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_embedded_models_bring_ranges_that_fit(name: str, empty_cache: Path) -> None:
    model = load_model(name)
    ranges = find_ranges(model)
    assert ranges is not None
    graph = build_network(model.spec, shapes_only)
    check_statistics(graph, ranges.statistics)
    assert all(found.mean is not None for found in ranges.statistics.values())
    assert ranges.method == max(ranges.compared, key=lambda row: row.agreement).method
    assert len(ranges.compared) == 4
    assert ranges.images >= 100
