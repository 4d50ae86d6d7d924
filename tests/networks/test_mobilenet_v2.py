from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mnv2.networks.classifier import ClassifierSpec, build_classifier
from edge_mnv2.networks.graph import Graph, GraphBuilder
from edge_mnv2.networks.mobilenet_v2 import (
    IMAGENET_SCALING,
    UNIT_SCALING,
    BackboneSpec,
    PixelScaling,
    backbone,
    image_input,
    last_channels,
    scaled_channels,
)
from edge_mnv2.networks.onnx_writer import to_onnx
from edge_mnv2.networks.ssdlite import SsdLiteSpec, build_ssdlite
from edge_mnv2.networks.weight_sources import random_weights, shapes_only, weights_from


def features(size: tuple[int, int], width: float = 1.0, stride: int = 32) -> dict[str, tuple[int, ...]]:
    spec = BackboneSpec(width, output_stride=stride)
    endpoints = backbone(GraphBuilder(shapes_only), size, spec)
    return {name: tensor.shape for name, tensor in endpoints.items()}


def test_table_2_at_224() -> None:
    shapes = features((224, 224))
    assert shapes["expanded_conv"] == (1, 16, 112, 112)
    assert shapes["expanded_conv_2"] == (1, 24, 56, 56)
    assert shapes["expanded_conv_5"] == (1, 32, 28, 28)
    assert shapes["expanded_conv_9"] == (1, 64, 14, 14)
    assert shapes["expanded_conv_12"] == (1, 96, 14, 14)
    assert shapes["expanded_conv_15"] == (1, 160, 7, 7)
    assert shapes["expanded_conv_16"] == (1, 320, 7, 7)
    assert shapes["conv_1"] == (1, 1280, 7, 7)


@pytest.mark.parametrize(("stride", "side"), [(32, 17), (16, 33), (8, 65)])
def test_output_stride_turns_strides_into_dilations(stride: int, side: int) -> None:
    assert features((513, 513), stride=stride)["expanded_conv_16"] == (1, 320, side, side)


@pytest.mark.parametrize(
    ("width", "first", "last"), [(0.35, 16, 1280), (0.5, 16, 1280), (0.75, 24, 1280), (1.4, 48, 1792)]
)
def test_width_multiplier_narrows_all_but_the_last_layer(width: float, first: int, last: int) -> None:
    assert scaled_channels(32, width) == first
    assert last_channels(width) == last
    assert features((96, 96), width)["conv_1"][1] == last


@given(channels=st.integers(8, 2000), width=st.floats(0.1, 2))
def test_scaled_channels_are_multiples_of_eight_and_never_far_below(channels: int, width: float) -> None:
    scaled = scaled_channels(channels, width)
    assert scaled % 8 == 0
    assert scaled >= 0.9 * channels * width


@pytest.mark.parametrize(
    ("spec", "parameters", "multiply_adds"),
    [
        # Table 4 says 3.4 M and 300 M, 6.9 M and 585 M; TensorFlow's own table 3.47 M, 6.06 M and 582 M.
        (ClassifierSpec(), 3_487_816, 300_774_272),
        (ClassifierSpec(width_multiplier=1.4), 6_084_808, 582_195_824),
    ],
)
def test_classifier_counts_near_the_paper(spec: ClassifierSpec, parameters: int, multiply_adds: int) -> None:
    graph = build_classifier(spec, shapes_only)
    assert (graph.parameters, graph.multiply_adds) == (parameters, multiply_adds)


def test_ssdlite_counts_near_the_paper() -> None:
    """Section 6.2: 4.3 M parameters and 0.8 B multiply-adds at 320x320."""
    graph = build_ssdlite(SsdLiteSpec(91, (320, 320)), shapes_only)
    assert graph.parameters == pytest.approx(4.3e6, rel=0.05)
    assert graph.multiply_adds == pytest.approx(0.8e9, rel=0.02)


@given(channels=st.integers(1, 2000), width=st.floats(0.1, 2))
def test_channels_need_not_be_multiples_of_eight(channels: int, width: float) -> None:
    """DeepLab's authors rounded to whole channels where the width is not 1."""
    exact = channels * width
    nearest = max(1, int(exact + 0.5))
    assert scaled_channels(channels, width, multiple=1) == (
        nearest if nearest >= 0.9 * exact else nearest + 1
    )


@pytest.mark.parametrize(
    "scaling", [UNIT_SCALING, IMAGENET_SCALING, PixelScaling((128, 128, 128), (128, 128, 128))]
)
def test_the_first_layer_sees_pixels_as_the_network_was_trained(scaling: PixelScaling) -> None:
    deltas = {"one/weights": np.eye(3, dtype=np.float32)[:, :, None, None], "one/biases": np.zeros(3)}
    graph = GraphBuilder(weights_from(deltas))
    x = image_input(graph, (4, 5), scaling)
    scale = (1 / np.array(scaling.deviation)).astype(np.float32)
    graph.output(graph.conv(x, "one", 3, activation=None, input_scale=scale), "out")
    image = np.random.default_rng(0).integers(0, 256, (1, 4, 5, 3), np.uint8)
    rgb = image[0, :, :, ::-1].astype(np.float64)
    expected = (rgb - scaling.mean) / scaling.deviation
    np.testing.assert_allclose(run(graph.graph, image)["out"][0].transpose(1, 2, 0), expected, atol=1e-5)


def run(graph: Graph, image: np.ndarray) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(to_onnx(graph, "test", ""), providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": image})
    return dict(zip((output.name for output in session.get_outputs()), found, strict=True))


@pytest.mark.parametrize("split", [2, 5, 7])
def test_a_split_backbone_computes_the_same(split: int) -> None:
    """Section 5.1: the expanded tensors of a split block never exist whole; what it gives is the same."""
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)

    def build(split: int) -> tuple[Graph, dict[str, object]]:
        builder = GraphBuilder(random_weights(0))
        spec = BackboneSpec(0.35, split=split, whole_blocks=("expanded_conv_13",))
        endpoints = backbone(builder, (64, 64), spec)
        builder.output(endpoints["conv_1"], "out")
        return builder.graph, endpoints

    (whole, _), (divided, endpoints) = build(1), build(split)
    np.testing.assert_allclose(run(divided, image)["out"], run(whole, image)["out"], rtol=1e-3, atol=1e-4)
    assert divided.weight_shapes == whole.weight_shapes
    assert divided.multiply_adds == whole.multiply_adds
    expanded = [name for name in endpoints if name.endswith("/expand")]
    assert expanded == ["expanded_conv/expand", "expanded_conv_13/expand"]
    narrow = scaled_channels(96, 0.35)
    widest = max(tensor.shape[1] for name, tensor in divided.tensors.items() if "_12/" in name)
    # Groups begin at multiples of eight.
    assert widest == max(narrow, round(narrow * 6 / split / 8) * 8)


def test_the_last_layer_can_be_left_out_or_given_a_width() -> None:
    graph = GraphBuilder(shapes_only)
    assert "conv_1" not in backbone(graph, (64, 64), BackboneSpec(conv_1_channels=0))
    graph = GraphBuilder(shapes_only)
    assert backbone(graph, (64, 64), BackboneSpec(conv_1_channels=448))["conv_1"].shape == (1, 448, 2, 2)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="32 pixels"):
        features((31, 64))
    with pytest.raises(ValueError, match="8, 16 or 32"):
        features((64, 64), stride=4)
