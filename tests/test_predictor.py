"""A model on an engine, opened by name."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest

import edge_mnv2.backends
from edge_mnv2.errors import RequestError, RunError
from edge_mnv2.predictor import PredictorOptions, open_build, open_predictor
from edge_mnv2.results import Classification, Detections, SegmentationMap
from edge_mnv2.zoo.accuracy_record import AccuracyRecord, record_key, save_record
from edge_mnv2.zoo.model import DecoderOptions, Model, Variant
from engines import EngineError, ModelFileError
from tests.samples import fake_classifier, fake_predictor, fake_segmenter


@pytest.mark.parametrize(
    ("name", "task", "kind"),
    [
        ("ssdlite-mnv2-coco", "detect", Detections),
        ("deeplabv3-mnv2-voc", "segment", SegmentationMap),
        ("mobilenet-v2-imagenet", "classify", Classification),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_embedded_model_answers_for_frames_of_any_size(
    name: str, task: str, kind: type, precision: str
) -> None:
    predictor = open_predictor(name, PredictorOptions(precision=precision, force=True, threads=1))
    assert (predictor.name, predictor.task, predictor.precision) == (name, task, precision)
    assert predictor.backend == "onnxruntime"
    assert len(predictor.labels) >= 20
    for size in ((48, 64), (1, 1), (700, 30)):
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        image.flags.writeable = False
        found, stages_ms = predictor.predict(image)
        assert type(found) is kind
        assert [*stages_ms] == ["prepare", "infer", "decode"]
        assert all(duration_ms > 0 for duration_ms in stages_ms.values())
    predictor.close()
    with pytest.raises(EngineError, match="closed"):
        predictor.predict(image)


def test_variant_and_decoder_reach_the_network() -> None:
    options = PredictorOptions(
        precision="fp32",
        variant=Variant(size=(65, 97), output_stride=8),
        decoder=DecoderOptions(classes=["cat"]),
    )
    predictor = open_predictor("deeplabv3-mnv2-voc", options)
    found, _ = predictor.predict(np.zeros((65, 97, 3), np.uint8))
    assert isinstance(found, SegmentationMap)
    assert found.class_id.shape == (65, 97)
    options = PredictorOptions(precision="fp32", decoder=DecoderOptions(top_k=3))
    found, _ = open_predictor("mobilenet-v2-imagenet", options).predict(np.zeros((65, 97, 3), np.uint8))
    assert isinstance(found, Classification)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (PredictorOptions(precision="int3"), "no precision 'int3': choose one of auto, fp32, fp16, int8"),
        (PredictorOptions(decoder=DecoderOptions(classes=["persn"])), "no class 'persn'"),
        (PredictorOptions(decoder=DecoderOptions(1.5)), "between 0 and 1"),
        (PredictorOptions(variant=Variant(output_stride=16)), "Only a segmentation"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_before_a_graph_is_built(
    empty_cache: Path, options: PredictorOptions, words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        open_predictor("ssdlite-mnv2-coco", options)
    assert not empty_cache.exists()


def test_a_graph_that_no_engine_takes_is_built_anew_once(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[bytes] = []

    def refuse(path: Path, *_: object) -> None:
        tried.append(path.read_bytes())
        # As if it had been written so: nothing but the engine can tell that it is no graph.
        path.write_bytes(b"no graph")
        path.with_suffix(".sha256").write_text(hashlib.sha256(b"no graph").hexdigest())
        raise ModelFileError(f"{path.name} is damaged")

    monkeypatch.setattr(edge_mnv2.backends, "OnnxRuntimeEngine", refuse)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(RunError, match=r"graph of ssdlite-mnv2-coco was built anew and still fails.*damaged"),
    ):
        open_predictor("ssdlite-mnv2-coco", PredictorOptions(precision="fp32"))
    assert len(tried) == 2
    assert tried[0] == tried[1] != b"no graph"
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "building the graph again"
    ]


def test_a_build_is_opened_whatever_its_accuracy(empty_cache: Path, coco_model: Model) -> None:
    """The accuracy check itself must be able to run what it is about to judge."""
    key = record_key(coco_model)
    assert key is not None
    save_record(coco_model, AccuracyRecord(key, 1, {}, ("It is bad.",)))
    with pytest.raises(RequestError, match=r"failed its accuracy check: It is bad\."):
        open_predictor("ssdlite-mnv2-coco", PredictorOptions(precision="int8"))
    for precision in ("fp32", "int8"):
        predictor = open_build(coco_model, precision, DecoderOptions(0.01))  # type: ignore[arg-type]
        assert predictor.precision == precision
        predictor.close()


def test_the_sample_predictors_say_what_their_names_promise() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    boxes, _ = fake_predictor().predict(image)
    assert isinstance(boxes, Detections)
    left, top, right, bottom = boxes.xyxy[0].tolist()
    assert (left + right, top + bottom) == (pytest.approx(64), pytest.approx(48))
    assert 0 < left < right < 64
    for masks, shape in ((False, (24, 32)), (True, (48, 64))):
        areas, _ = fake_segmenter(masks=masks).predict(image)
        assert isinstance(areas, SegmentationMap)
        assert areas.class_id.shape == shape
        half = shape[1] // 2
        assert (areas.class_id[:, :half] == 1).all()
        assert not areas.class_id[:, half:].any()
    classes, _ = fake_classifier().predict(image)
    assert classes.class_id.tolist() == [1, 2, 0]
