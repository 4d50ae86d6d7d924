from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mnv2.networks.classifier import ClassifierSpec, build_classifier
from edge_mnv2.networks.graph import GraphBuilder, shapes_only
from edge_mnv2.networks.mobilenet_v2 import backbone, image_input, last_channels, scaled_channels
from edge_mnv2.networks.ssdlite import SsdLiteSpec, build_ssdlite


def features(size: tuple[int, int], width: float = 1.0, stride: int = 32) -> dict[str, tuple[int, ...]]:
    graph = GraphBuilder(shapes_only)
    endpoints = backbone(graph, image_input(graph, size), width, stride)
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
    graph = build_ssdlite(SsdLiteSpec(91, (320, 320)), shapes_only).graph
    assert graph.parameters == pytest.approx(4.3e6, rel=0.05)
    assert graph.multiply_adds == pytest.approx(0.8e9, rel=0.02)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="32 pixels"):
        features((31, 64))
    with pytest.raises(ValueError, match="8, 16 or 32"):
        features((64, 64), stride=4)
