from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_mnv2.networks.anchors import ssd_anchors
from edge_mnv2.networks.base import Geometry
from edge_mnv2.networks.nms import pairwise_iou
from edge_mnv2.networks.onnx_writer import to_onnx
from edge_mnv2.networks.ssdlite import (
    SsdLite,
    SsdLiteSpec,
    build_ssdlite,
    decode_boxes,
    feature_maps,
    sigmoid,
)
from edge_mnv2.networks.weight_sources import random_weights, shapes_only
from edge_mnv2.zoo.graph_store import ensure_graph
from edge_mnv2.zoo.model import DecoderOptions, Model, make_network
from engines import OnnxRuntimeEngine

MAPS = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
Golden = dict[str, NDArray[np.float32]]


def whole_frame(width: int, height: int) -> Geometry:
    """Return the geometry of a frame that is stretched over the whole input."""
    return Geometry(width, height, content_width=300, content_height=300)


def test_feature_maps_of_300_pixels() -> None:
    assert feature_maps((300, 300)) == MAPS


@given(st.integers(32, 700), st.integers(32, 700))
@settings(max_examples=20, deadline=None)
def test_feature_maps_are_what_the_graph_has(height: int, width: int) -> None:
    graph = build_ssdlite(SsdLiteSpec(3, (height, width)), shapes_only)
    maps = [graph.tensors[f"heads/head_{index}/box/predict"].shape[2:] for index in range(6)]
    assert maps == feature_maps((height, width))
    assert graph.outputs[0].shape[1] == len(ssd_anchors(maps))


def test_anchors_equal_a_loop_over_the_definition() -> None:
    expected = []
    for index, (rows, columns) in enumerate(MAPS):
        scale = 0.2 + 0.15 * index
        following = 0.2 + 0.15 * (index + 1) if index < 5 else 1.0
        shapes = [(scale, ratio) for ratio in (1, 2, 1 / 2, 3, 0.3333)] + [(math.sqrt(scale * following), 1)]
        if index == 0:
            shapes = [(0.1, 1), (0.2, 2), (0.2, 0.5)]
        expected += [
            ((row + 0.5) / rows, (column + 0.5) / columns, size / math.sqrt(ratio), size * math.sqrt(ratio))
            for row in range(rows)
            for column in range(columns)
            for size, ratio in shapes
        ]
    assert len(expected) == 1917
    np.testing.assert_allclose(ssd_anchors(MAPS), expected, atol=1e-6)


def test_decoded_boxes_equal_tensorflows(golden_coco: Golden) -> None:
    """Equal boxes from equal encodings also prove the anchors, to 1e-6 of the picture's side."""
    boxes = decode_boxes(golden_coco["box_encodings"], ssd_anchors(MAPS))
    np.testing.assert_allclose(boxes, golden_coco["boxes_yxyx"], atol=1e-6)


def test_embedded_weights_give_tensorflows_outputs(coco_model: Model, golden_coco: Golden) -> None:
    engine = OnnxRuntimeEngine(ensure_graph(coco_model))
    outputs = engine.run({"image": np.ascontiguousarray(golden_coco["image_rgb"][None, ..., ::-1])})
    np.testing.assert_allclose(outputs["box_encodings"][0], golden_coco["box_encodings"], atol=1e-4)
    rows = golden_coco["class_logits_rows"]
    np.testing.assert_allclose(outputs["class_logits"][0, rows], golden_coco["class_logits"], atol=1e-4)


def slow_decode(
    network: SsdLite, boxes: NDArray[np.float32], logits: NDArray[np.float32], width: int, height: int
) -> list[tuple[int, float, list[float]]]:
    """One anchor and class after another, in double precision."""
    candidates = []
    for anchor, encoding, row in zip(network.anchors, boxes, logits, strict=True):
        centre_y, centre_x = encoding[:2] / 10 * anchor[2:] + anchor[:2]
        box_height, box_width = np.exp(np.float64(encoding[2:]) / 5) * anchor[2:]
        box = [
            min(max(centre_x - box_width / 2, 0), 1) * width,
            min(max(centre_y - box_height / 2, 0), 1) * height,
            min(max(centre_x + box_width / 2, 0), 1) * width,
            min(max(centre_y + box_height / 2, 0), 1) * height,
        ]
        candidates += [
            (class_id, 1 / (1 + math.exp(-row[class_id])), box)
            for class_id in range(1, len(row))
            if 1 / (1 + math.exp(-row[class_id])) >= network.score_threshold
        ]
    kept: list[tuple[int, float, list[float]]] = []
    for candidate in sorted(candidates, key=lambda item: -item[1]):
        rivals = [other[2] for other in kept if other[0] == candidate[0]]
        boxes_so_far = np.array(rivals, np.float32).reshape(-1, 4)
        if not (pairwise_iou(np.array([candidate[2]], np.float32), boxes_so_far) > 0.6).any():
            kept.append(candidate)
    return kept[:100]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, 3000), height=st.integers(1, 3000))
def test_decoding_equals_the_slow_reference(seed: int, width: int, height: int) -> None:
    spec = SsdLiteSpec(classes=5, size=(64, 64))
    network = SsdLite(spec, range(1, 5), score_threshold=0.4)
    generator = np.random.default_rng(seed)
    count = len(network.anchors)
    boxes = generator.normal(0, 2, (count, 4)).astype(np.float32)
    logits = generator.normal(-3, 2, (count, 5)).astype(np.float32)
    outputs = {"box_encodings": boxes[None], "class_logits": logits[None]}
    found = network.decode(outputs, whole_frame(width, height))
    expected = slow_decode(network, boxes, logits, width, height)
    assert found.class_id.tolist() == [class_id for class_id, _, _ in expected]
    np.testing.assert_allclose(found.score, [score for _, score, _ in expected], atol=1e-5)
    np.testing.assert_allclose(found.xyxy, np.reshape([box for *_, box in expected], (-1, 4)), atol=0.02)


def test_only_the_classes_asked_for_are_reported(coco_model: Model, golden_coco: Golden) -> None:
    engine = OnnxRuntimeEngine(ensure_graph(coco_model))
    outputs = engine.run({"image": np.ascontiguousarray(golden_coco["image_rgb"][None, ..., ::-1])})
    everything = make_network(coco_model, DecoderOptions(0.01)).decode(outputs, whole_frame(300, 300))
    wanted = int(everything.class_id[0])
    options = DecoderOptions(0.01, classes=[str(wanted)])
    some = make_network(coco_model, options).decode(outputs, whole_frame(300, 300))
    assert set(everything.class_id.tolist()) > {wanted} == set(some.class_id.tolist())
    assert 0 not in everything.class_id


def test_extreme_outputs_give_finite_boxes_inside_the_frame() -> None:
    network = SsdLite(SsdLiteSpec(classes=2, size=(64, 64)), [1])
    count = len(network.anchors)
    for value in (np.inf, -np.inf, np.nan, 3e38):
        boxes = np.full((1, count, 4), value, np.float32)
        with np.errstate(all="ignore"):
            found = network.decode(
                {"box_encodings": boxes, "class_logits": np.full((1, count, 2), 9, np.float32)},
                whole_frame(640, 480),
            )
        assert np.isfinite(found.xyxy).all()
        assert (found.xyxy[:, 2] <= 640).all()


def test_prepare_fills_the_tensor_in_place(coco_model: Model) -> None:
    network = make_network(coco_model)
    image = np.full((40, 80, 3), (10, 20, 30), np.uint8)
    tensor = np.zeros((1, 300, 300, 3), np.uint8)
    geometry = network.prepare(image, tensor)
    assert (tensor == (10, 20, 30)).all()
    assert geometry == Geometry(frame_width=80, frame_height=40, content_width=300, content_height=300)


def test_prepare_stretches_the_whole_picture() -> None:
    network = SsdLite(SsdLiteSpec(classes=2, size=(32, 64)), [1])
    image = np.zeros((100, 100, 3), np.uint8)
    image[:50, :, 0] = 200
    image[:, 50:, 2] = 100
    tensor = np.zeros((1, 32, 64, 3), np.uint8)
    network.prepare(image, tensor)
    assert tensor[0, 3, 3].tolist() == [200, 0, 0]
    assert tensor[0, 28, 60].tolist() == [0, 0, 100]


@pytest.mark.parametrize("width", [0.35, 1.4])
def test_any_width_and_size_builds_and_runs(width: float) -> None:
    import onnxruntime

    spec = SsdLiteSpec(classes=4, size=(160, 224), width_multiplier=width)
    serialised = to_onnx(build_ssdlite(spec, random_weights(0)), "test", "")
    session = onnxruntime.InferenceSession(serialised, providers=["CPUExecutionProvider"])
    boxes, logits = session.run(None, {"image": np.zeros((1, 160, 224, 3), np.uint8)})
    assert boxes.shape[1] == logits.shape[1] == len(ssd_anchors(feature_maps(spec.size)))
    assert logits.shape[2] == 4


@given(st.floats(-1000, 1000, width=32))
def test_sigmoid_never_overflows(value: float) -> None:
    found = sigmoid(np.array([value], np.float32))[0]
    assert found == pytest.approx(1 / (1 + math.exp(-max(value, -500))), abs=1e-6)
