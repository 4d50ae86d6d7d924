from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError
from edge_mnv2.networks.graph import Channels, Graph, GraphBuilder, Padding, same_padding
from edge_mnv2.networks.onnx_writer import to_onnx
from edge_mnv2.networks.weight_sources import random_weights, shapes_only, weights_from


@given(
    size=st.integers(1, 64),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 4),
)
def test_same_padding_gives_every_output_its_window(
    size: int, kernel: int, stride: int, dilation: int
) -> None:
    before, after, output = same_padding(size, kernel, stride, dilation)
    reach = (kernel - 1) * dilation + 1
    assert output == -(-size // stride)
    assert after - before in (0, 1)
    # The padded axis holds exactly the windows, unless the stride jumps over its end.
    assert (before + size + after - reach) // stride + 1 == output
    assert before + after == 0 or (output - 1) * stride + reach == before + size + after


def test_same_padding_is_asymmetric_as_in_tensorflow() -> None:
    assert same_padding(300, 3, 2) == (0, 1, 150)
    assert same_padding(75, 3, 2) == (1, 1, 38)
    assert same_padding(10, 3, 1) == (1, 1, 10)


def slow_convolution(
    x: NDArray[np.float64],
    weights: NDArray[np.float32],
    biases: NDArray[np.float32],
    stride: int,
    dilation: int,
    padding: Padding,
) -> NDArray[np.float64]:
    """Convolve by the definition, groups from the shapes."""
    channels, height, width = x.shape
    outputs, group_channels, kernel, _ = weights.shape
    groups = channels // group_channels
    top, bottom, rows = same_padding(height, kernel, stride, dilation)
    left, right, columns = same_padding(width, kernel, stride, dilation)
    if padding == "symmetric":
        top = bottom = left = right = (kernel - 1) * dilation // 2
        rows, columns = (
            (side + 2 * top - (kernel - 1) * dilation - 1) // stride + 1 for side in (height, width)
        )
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    result = np.zeros((outputs, rows, columns))
    for out in range(outputs):
        first = out // (outputs // groups) * group_channels
        for row in range(rows):
            for column in range(columns):
                window = padded[
                    first : first + group_channels,
                    row * stride : row * stride + kernel * dilation : dilation,
                    column * stride : column * stride + kernel * dilation : dilation,
                ]
                result[out, row, column] = (window * weights[out]).sum() + biases[out]
    return result


def run(graph: Graph, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(to_onnx(graph, "test", ""), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": image})
    return found


def start(graph: GraphBuilder, image: NDArray[np.uint8]) -> object:
    """Declare the picture as input and return its planes as float32."""
    planes = graph.transpose(graph.input("image", image.shape, "uint8"), (0, 3, 1, 2), "planes")
    return graph.to_float(planes, "pixels")


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(3, 9),
    width=st.integers(3, 9),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    padding=st.sampled_from(["same", "symmetric"]),
    is_depthwise=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_onnx_convolutions_equal_the_definition(
    height: int, width: int, stride: int, dilation: int, padding: Padding, is_depthwise: bool, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (1, height, width, 3), np.uint8)
    arrays = {
        "layer/weights": generator.normal(0, 0.02, (3, 1, 3, 3) if is_depthwise else (4, 3, 3, 3)),
        "layer/biases": generator.normal(0, 0.1, 3 if is_depthwise else 4),
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    builder = GraphBuilder(weights_from(arrays), padding)
    x = start(builder, image)
    if is_depthwise:
        y = builder.depthwise(x, "layer", stride=stride, dilation=dilation)
    else:
        dilation = 1
        y = builder.conv(x, "layer", 4, kernel=3, stride=stride)
    builder.output(y, "out")
    graph = builder.graph
    found = run(graph, image)
    planes = image[0].transpose(2, 0, 1).astype(np.float64)
    expected = slow_convolution(
        planes, arrays["layer/weights"], arrays["layer/biases"], stride, dilation, padding
    )
    np.testing.assert_allclose(found[0], np.clip(expected, 0, 6), atol=1e-4)
    assert found.shape == y.shape == graph.outputs[0].shape
    assert graph.parameters == arrays["layer/weights"].size + arrays["layer/biases"].size
    assert graph.multiply_adds == arrays["layer/weights"].size * y.shape[2] * y.shape[3]
    assert graph.weight_shapes == {name: array.shape for name, array in arrays.items()}


@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [(None, -np.inf, np.inf), ("relu", 0, np.inf), ("relu6", 0, 6)],
)
def test_activations_bound_what_a_convolution_gives(activation: str | None, low: float, high: float) -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (1, 5, 5, 3), np.uint8)
    weights = generator.normal(0, 0.1, (4, 3, 1, 1)).astype(np.float32)
    builder = GraphBuilder(weights_from({"layer/weights": weights, "layer/biases": np.zeros(4)}))
    builder.output(builder.conv(start(builder, image), "layer", 4, activation=activation), "out")
    linear = np.einsum("oi,hwi->ohw", weights[:, :, 0, 0], image[0].astype(np.float32))
    assert linear.min() < -6
    assert linear.max() > 12
    np.testing.assert_allclose(run(builder.graph, image)[0], np.clip(linear, low, high), atol=1e-4)


def test_the_first_layer_scales_its_channels_and_reads_bgr() -> None:
    """The kernel was trained on scaled RGB; the picture is BGR as it comes from the camera."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (1, 6, 6, 3), np.uint8)
    weights = generator.normal(0, 0.1, (2, 3, 1, 1)).astype(np.float32)
    scale = np.array([0.5, 0.01, 2], np.float32)
    builder = GraphBuilder(weights_from({"layer/weights": weights, "layer/biases": np.zeros(2)}))
    x = start(builder, image)
    builder.output(builder.conv(x, "layer", 2, activation=None, input_scale=scale), "out")
    rgb = image[0, :, :, ::-1] * scale
    expected = np.einsum("oi,hwi->ohw", weights[:, :, 0, 0], rgb)
    np.testing.assert_allclose(run(builder.graph, image)[0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("bounds", [(0, 8), (0, 3, 8), (0, 1, 2, 5, 8)])
def test_groups_of_channels_add_up_to_the_whole_block(bounds: tuple[int, ...]) -> None:
    """Expand, depthwise and project over groups of the eight expanded channels (section 5.1)."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (1, 7, 6, 3), np.uint8)
    shapes = {
        "wide/weights": (8, 3, 1, 1), "wide/biases": (8,),
        "deep/weights": (8, 1, 3, 3), "deep/biases": (8,),
        "narrow/weights": (4, 8, 1, 1), "narrow/biases": (4,),
    }  # fmt: skip
    arrays = {name: generator.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}

    def block(bounds: tuple[int, ...]) -> Graph:
        builder = GraphBuilder(weights_from(arrays))
        x, total = start(builder, image), None
        for begin, end in itertools.pairwise(bounds):
            part = Channels(begin, end, 8)
            deep = builder.depthwise(builder.conv_of_outputs(x, "wide", part), "deep", stride=2, part=part)
            given = builder.conv_of_inputs(deep, "narrow", 4, part)
            total = given if total is None else builder.add(total, given, f"sum_{begin}")
        builder.output(total, "out")
        return builder.graph

    whole, split = block((0, 8)), block(bounds)
    np.testing.assert_allclose(run(split, image), run(whole, image), atol=1e-5)
    assert (split.parameters, split.multiply_adds) == (whole.parameters, whole.multiply_adds)
    assert split.weight_shapes == whole.weight_shapes == shapes


def test_weights_that_are_only_counted_take_no_memory() -> None:
    assert shapes_only("w", (1000, 1000)).strides == (0, 0)


def test_missing_and_misshapen_weights_are_named() -> None:
    graph = GraphBuilder(weights_from({"a/weights": np.zeros((2, 3, 1, 1))}))
    x = graph.input("image", (1, 3, 4, 4), "float32")
    with pytest.raises(WeightsError, match="no tensor b/weights"):
        graph.conv(x, "b", 2)
    with pytest.raises(WeightsError, match=r"a/weights has the shape \(2, 3, 1, 1\).*\(5, 3, 1, 1\)"):
        graph.conv(x, "a", 5)


def test_random_weights_are_repeatable() -> None:
    first, second = random_weights(3), random_weights(3)
    np.testing.assert_array_equal(first("w", (4, 3, 3, 3)), second("w", (4, 3, 3, 3)))
    assert not first("b", (4,)).any()
