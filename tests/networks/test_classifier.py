from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edge_mnv2.networks.base import Geometry
from edge_mnv2.networks.classifier import (
    Classifier,
    ClassifierSpec,
    build_classifier,
    build_features,
)
from edge_mnv2.networks.onnx_writer import to_onnx
from edge_mnv2.networks.weight_sources import random_weights
from edge_mnv2.results import Classification
from edge_mnv2.zoo.graph_store import ensure_graph
from edge_mnv2.zoo.model import DecoderOptions, Model, load_model, make_network
from engines import OnnxRuntimeEngine
from tests.conftest import read_golden

Golden = dict[str, NDArray[np.generic]]

ANYWHERE = Geometry(640, 480, content_width=224, content_height=224)
LOGITS = hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(-60, 60, width=32))


@pytest.fixture(scope="module")
def golden() -> Golden:
    """torchvision's own outputs for the embedded model's original."""
    return read_golden("mobilenet_v2_imagenet.npz")


@pytest.fixture(scope="module")
def model() -> Model:
    """The embedded model."""
    return load_model("mobilenet-v2-imagenet")


def decode(logits: NDArray[np.float32], **options: object) -> Classification:
    network = Classifier(ClassifierSpec(len(logits)), **options)  # type: ignore[arg-type]
    return network.decode({"logits": logits[None]}, ANYWHERE)


def slow_softmax(logits: NDArray[np.float32]) -> list[float]:
    largest = max(logits.tolist())
    powers = [np.exp(np.longdouble(value) - np.longdouble(largest)) for value in logits.tolist()]
    return [float(power / sum(powers)) for power in powers]


def test_embedded_weights_give_torchvisions_logits(model: Model, golden: Golden) -> None:
    engine = OnnxRuntimeEngine(ensure_graph(model, "fp32"))
    outputs = engine.run({"image": np.ascontiguousarray(golden["image_rgb"][None, ..., ::-1])})
    assert outputs["logits"].shape == (1, 1000)
    np.testing.assert_allclose(outputs["logits"][0], golden["logits"], atol=1e-4)
    found = make_network(model, DecoderOptions(top_k=1000)).decode(outputs, ANYWHERE)
    # Best first, as they are in the original; neighbours that are closer than 1e-4 may change places.
    np.testing.assert_allclose(
        golden["logits"][found.class_id], np.sort(golden["logits"])[::-1], atol=2e-4, rtol=0
    )


@settings(deadline=None)
@given(LOGITS)
def test_scores_are_shares_of_all_classes_best_first(logits: NDArray[np.float32]) -> None:
    found = decode(logits, top_k=len(logits))
    assert found.score.sum() == pytest.approx(1, abs=1e-5)
    assert found.score.tolist() == sorted(found.score.tolist(), reverse=True)
    assert sorted(found.class_id.tolist()) == list(range(len(logits)))
    np.testing.assert_allclose(found.score, np.array(slow_softmax(logits))[found.class_id], atol=1e-6)


@settings(deadline=None)
@given(
    LOGITS,
    st.integers(1, 40),
    st.floats(0, 1, width=32),
    st.none() | st.sets(st.integers(0, 29), min_size=1),
)
def test_top_k_threshold_and_classes_choose_among_all(
    logits: NDArray[np.float32], top_k: int, threshold: float, wanted: set[int] | None
) -> None:
    """What is left out takes nothing from the scores of what is reported: they stay shares of all classes."""
    if wanted is not None:
        wanted = {class_id for class_id in wanted if class_id < len(logits)} or {0}
    everything = decode(logits, top_k=len(logits))
    expected = [
        (class_id, score)
        for class_id, score in zip(everything.class_id.tolist(), everything.score.tolist(), strict=True)
        if (wanted is None or class_id in wanted) and score >= threshold
    ][:top_k]
    found = decode(logits, class_ids=wanted, score_threshold=threshold, top_k=top_k)
    assert list(zip(found.class_id.tolist(), found.score.tolist(), strict=True)) == expected


@pytest.mark.parametrize("scale", [1e30, 1e4, 1e-30])
def test_extreme_logits_give_finite_scores(scale: float) -> None:
    found = decode(np.array([1, -1, 0.5], np.float32) * np.float32(scale), top_k=3)
    assert np.isfinite(found.score).all()
    assert found.score.sum() == pytest.approx(1)
    assert found.class_id[0] == 0


def test_five_classes_are_reported_unless_told_otherwise(model: Model) -> None:
    logits = {"logits": np.linspace(9, -9, 1000, dtype=np.float32)[None]}
    assert make_network(model).decode(logits, ANYWHERE).class_id.tolist() == [0, 1, 2, 3, 4]
    two = make_network(model, DecoderOptions(top_k=2, classes=["goldfish", "tench", "7"]))
    assert two.decode(logits, ANYWHERE).class_id.tolist() == [0, 1]
    few = make_network(model, DecoderOptions(threshold=0.0176, top_k=1000)).decode(logits, ANYWHERE)
    assert 0 < len(few) < 10
    assert (few.score >= 0.0176).all()
    assert len(make_network(model, DecoderOptions(threshold=0.9)).decode(logits, ANYWHERE)) == 0


def test_the_middle_of_the_frame_fills_the_input() -> None:
    """Of 640x480 the square of 0.875 x 480 pixels in the middle: as 224 of a short side of 256."""
    image = np.zeros((480, 640, 3), np.uint8)
    image[30:450, 110:530] = (10, 20, 30)
    image.flags.writeable = False
    tensor = np.zeros((1, 224, 224, 3), np.uint8)
    geometry = Classifier(ClassifierSpec()).prepare(image, tensor)
    assert geometry == Geometry(640, 480, content_width=224, content_height=224)
    assert (tensor == (10, 20, 30)).all()
    framed = image.copy()
    framed[30:34, 110:530] = framed[446:450, 110:530] = 200
    framed[30:450, 110:114] = framed[30:450, 526:530] = 200
    Classifier(ClassifierSpec()).prepare(framed, tensor)
    for edge in (tensor[0, 0], tensor[0, -1], tensor[0, :, 0], tensor[0, :, -1]):
        assert (edge == 200).all()
    assert (tensor[0, 4:-4, 4:-4] == (10, 20, 30)).all()


@settings(deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(32, 200), st.integers(32, 200))
@example(1, 900, 32, 200)
def test_any_frame_fills_any_input_with_its_middle(
    frame_width: int, frame_height: int, width: int, height: int
) -> None:
    scale = min(frame_width / width, frame_height / height)
    crop_width, crop_height = max(1, round(0.875 * width * scale)), max(1, round(0.875 * height * scale))
    # The same shape as the input, to the pixel.
    assert abs(crop_width - 0.875 * width * scale) <= 1
    left, top = (frame_width - crop_width) // 2, (frame_height - crop_height) // 2
    image = np.full((frame_height, frame_width, 3), 255, np.uint8)
    # One pixel more on each side: a half may be rounded either way.
    image[max(top - 1, 0) : top + crop_height + 1, max(left - 1, 0) : left + crop_width + 1] = (10, 20, 30)
    tensor = np.zeros((1, height, width, 3), np.uint8)
    geometry = Classifier(ClassifierSpec(size=(height, width))).prepare(image, tensor)
    assert (tensor == (10, 20, 30)).all()
    assert geometry == Geometry(frame_width, frame_height, content_width=width, content_height=height)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1920, 1080), (300, 300)])
def test_prepare_equals_the_usual_evaluation(width: int, height: int) -> None:
    """Short side to 256, then the middle 224x224: two steps of the usual scripts, one of ours."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 120 * np.sin(x / width * a + y / height * b) for a, b in ((9, 4), (3, -7), (-5, 6))]
    image = np.stack(waves, axis=-1).astype(np.uint8)
    scale = 256 / min(width, height)
    small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    top, left = (small.shape[0] - 224) // 2, (small.shape[1] - 224) // 2
    expected = small[top : top + 224, left : left + 224]
    tensor = np.zeros((1, 224, 224, 3), np.uint8)
    Classifier(ClassifierSpec()).prepare(image, tensor)
    difference = cv2.absdiff(tensor[0], expected)
    assert difference.mean() < 1
    assert difference.max() <= 6


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize(("width", "split"), [(0.35, 1), (0.35, 4), (1.4, 1)])
def test_any_width_and_size_builds_and_runs(width: float, split: int, padding: str) -> None:
    import onnxruntime

    spec = ClassifierSpec(7, (96, 130), width, padding=padding)  # type: ignore[arg-type]
    serialised = to_onnx(build_classifier(spec, random_weights(0), split), "test", "")
    session = onnxruntime.InferenceSession(serialised, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).integers(0, 256, (1, 96, 130, 3), np.uint8)
    (logits,) = session.run(None, {"image": image})
    assert logits.shape == (1, 7)
    assert np.isfinite(logits).all()
    assert logits.std() > 0


def test_the_features_alone_are_the_classifier_without_its_last_layer() -> None:
    features = build_features((224, 224), 1.0)
    classifier = build_classifier(ClassifierSpec(), random_weights(0))
    assert classifier.parameters - features.parameters == 1280 * 1000 + 1000
    assert classifier.multiply_adds - features.multiply_adds == 1280 * 1000
