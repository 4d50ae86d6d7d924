from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from edge_mnv2.errors import CacheError, RequestError, WeightsError
from edge_mnv2.zoo.accuracy_record import (
    AccuracyRecord,
    choose_precision,
    find_record,
    record_key,
    save_record,
)
from edge_mnv2.zoo.model import Model, Variant, load_model, vary
from edge_mnv2.zoo.ranges_file import TRAINED, beside, save_ranges
from tests.zoo.test_ranges_file import EMBEDDED, own_model, ranges_for

FAILURE = "mask_iou is 0.500, and must be at least 0.85."


@pytest.fixture
def model(tmp_path: Path, empty_cache: Path) -> Model:
    """A model of the user's own with ranges beside its weights, not checked yet."""
    own = own_model(tmp_path)
    save_ranges(beside(own.path), ranges_for(own))
    return own


def record_of(model: Model, *failures: str) -> AccuracyRecord:
    key = record_key(model)
    assert key is not None
    return AccuracyRecord(key, 7, {"mask_iou": 0.5, "pixel_agreement": 0.75}, failures)


def at_another_size(model: Model) -> Model:
    return replace(model, spec=vary(model.spec, Variant((257, 257))))


def test_what_is_kept_is_found_again(model: Model, empty_cache: Path) -> None:
    assert find_record(model) is None
    record = record_of(model, FAILURE)
    path = save_record(model, record)
    assert path.is_relative_to(empty_cache)
    assert find_record(model) == record
    assert json.loads(path.read_text())["model"] == "mine"


def test_a_record_says_nothing_of_other_ranges_sizes_or_strides(model: Model) -> None:
    save_record(model, record_of(model))
    others = [at_another_size(model), replace(model, spec=vary(model.spec, Variant(output_stride=8)))]
    keys = {record_key(each) for each in (model, *others)}
    assert len(keys) == 3
    assert [find_record(other) for other in others] == [None, None]
    save_ranges(beside(model.path), replace(ranges_for(model), images=99))
    assert record_key(model) not in keys
    assert find_record(model) is None


def test_ones_own_record_goes_before_the_one_beside_the_weights(model: Model, tmp_path: Path) -> None:
    shipped, own = record_of(model), record_of(model, FAILURE)
    path = save_record(model, shipped)
    path.rename(tmp_path / "mine.check.json")
    assert find_record(model) == shipped
    save_record(model, own)
    assert find_record(model) == own


def test_a_model_without_ranges_has_no_record(tmp_path: Path, empty_cache: Path) -> None:
    bare = own_model(tmp_path)
    assert (record_key(bare), find_record(bare)) == (None, None)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda _: "no json",
        lambda _: "[]",
        lambda _: "null",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"schema": 1', '"schema": 2'),
        lambda text: text.replace('"figures"', '"numbers"'),
        lambda text: text.replace('"key": "', '"key": "0'),
        lambda text: text.replace("{\n", '{"figures": 5,\n', 1).replace('"figures": {', '"other": {'),
        lambda _: "\udcff",
    ],
    ids=["empty", "text", "list", "null", "cut", "schema", "lacking", "key", "figures", "bytes"],
)
def test_a_damaged_record_is_no_record(model: Model, damage: object) -> None:
    path = save_record(model, record_of(model))
    text = path.read_text()
    assert callable(damage)
    path.write_text(damage(text), errors="surrogateescape")
    assert find_record(model) is None
    assert choose_precision(model, "auto") == "fp32"


def test_a_record_that_cannot_be_kept_is_an_error(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of(model)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(CacheError, match="cannot be kept at"):
        save_record(model, record)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]


def test_without_a_record_auto_takes_float_and_int8_warns(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert choose_precision(model, "auto") == "fp32"
    assert f"edge-mnv2 models check {model.path}" in caplog.text
    assert not warnings_in(caplog)
    assert choose_precision(model, "int8") == "int8"
    (warning,) = warnings_in(caplog)
    assert "int8 was not checked" in warning


def test_a_good_record_makes_auto_take_int8(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    save_record(model, record_of(model))
    assert choose_precision(model, "auto") == choose_precision(model, "int8") == "int8"
    assert "precision: int8" in caplog.text
    assert not warnings_in(caplog)
    assert choose_precision(model, "fp32") == "fp32"
    assert choose_precision(at_another_size(model), "auto") == "fp32"


def test_a_bad_record_makes_auto_take_float_and_int8_needs_force(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    save_record(model, record_of(model, FAILURE, "Another."))
    for force in (False, True):
        assert choose_precision(model, "auto", force=force) == "fp32"
    assert FAILURE in caplog.text
    with pytest.raises(
        RequestError, match=r"mine failed its accuracy check: mask_iou is 0\.500.*Another\..*--force"
    ):
        choose_precision(model, "int8")
    assert not warnings_in(caplog)
    assert choose_precision(model, "int8", force=True) == "int8"
    (warning,) = warnings_in(caplog)
    assert FAILURE in warning


@pytest.mark.parametrize("failures", [None, (), (FAILURE,)])
def test_ranges_that_were_trained_need_no_record_but_believe_one(
    model: Model, failures: tuple[str, ...] | None, caplog: pytest.LogCaptureFixture
) -> None:
    save_ranges(beside(model.path), ranges_for(model, TRAINED))
    if failures is not None:
        save_record(model, record_of(model, *failures))
    assert choose_precision(model, "auto") == ("fp32" if failures else "int8")
    if failures:
        with pytest.raises(RequestError, match="failed its accuracy check"):
            choose_precision(model, "int8")
    else:
        assert choose_precision(model, "int8") == "int8"
    assert not warnings_in(caplog)


def test_a_model_without_ranges_runs_in_float(
    tmp_path: Path, empty_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bare = own_model(tmp_path)
    assert choose_precision(bare, "auto") == "fp32"
    assert f"edge-mnv2 models calibrate {bare.path}" in caplog.text
    for force in (False, True):
        with pytest.raises(
            RequestError, match="mine has no activation ranges for int8: edge-mnv2 models calib"
        ):
            choose_precision(bare, "int8", force=force)


def test_ranges_that_cannot_be_used_stop_int8_but_not_auto(
    model: Model, coco_model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    path = beside(model.path)
    path.write_bytes(path.read_bytes()[:-100])
    assert choose_precision(model, "auto") == "fp32"
    with pytest.raises(WeightsError, match=r"mine\.ranges\.npz is not a readable"):
        choose_precision(model, "int8")
    save_ranges(path, ranges_for(coco_model))
    assert choose_precision(model, "auto") == "fp32"
    with pytest.raises(RequestError, match="belong to another model than mine"):
        choose_precision(model, "int8")
    assert [text.count("mine.ranges.npz") for text in warnings_in(caplog)] == [1, 1]
    assert choose_precision(model, "fp32") == "fp32"


@pytest.mark.parametrize("name", ["", "int4", "INT8"])
def test_an_unknown_precision_is_refused_with_the_known_ones(model: Model, name: str) -> None:
    with pytest.raises(RequestError, match=f"no precision '{name}': choose one of auto, fp32, fp16, int8"):
        choose_precision(model, name)


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_embedded_models_bring_a_good_record(name: str, empty_cache: Path) -> None:
    """Change weights, ranges or network, and they must be checked again: then the keys differ."""
    model = load_model(name)
    record = find_record(model)
    assert record is not None
    assert record.key == record_key(model)
    assert record.failures == ()
    assert record.images >= 40
    assert choose_precision(model, "auto") == "int8"
    assert choose_precision(load_model(name, Variant((160, 160))), "auto") == "fp32"
