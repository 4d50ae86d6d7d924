from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError
from edge_mnv2.networks.graph import GraphBuilder, random_weights, same_padding, weights_from


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
) -> NDArray[np.float64]:
    """Convolve by the definition, SAME padding, groups from the shapes."""
    channels, height, width = x.shape
    outputs, group_channels, kernel, _ = weights.shape
    groups = channels // group_channels
    top, bottom, rows = same_padding(height, kernel, stride, dilation)
    left, right, columns = same_padding(width, kernel, stride, dilation)
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


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(3, 9),
    width=st.integers(3, 9),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    is_depthwise=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_onnx_convolutions_equal_the_definition(
    height: int, width: int, stride: int, dilation: int, is_depthwise: bool, seed: int
) -> None:
    import onnxruntime

    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (1, height, width, 3), np.uint8)
    arrays = {
        "layer/weights": generator.normal(0, 0.02, (3, 1, 3, 3) if is_depthwise else (4, 3, 3, 3)),
        "layer/biases": generator.normal(0, 0.1, 3 if is_depthwise else 4),
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    graph = GraphBuilder(weights_from(arrays))
    x = graph.to_float(graph.transpose(graph.input("image", image.shape, "uint8"), (0, 3, 1, 2), "t"), "f")
    if is_depthwise:
        y = graph.depthwise(x, "layer", stride=stride, dilation=dilation)
    else:
        y = graph.conv(x, "layer", 4, kernel=3, stride=stride, dilation=dilation)
    graph.output(y, "out")
    session = onnxruntime.InferenceSession(graph.to_onnx("test", ""), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": image})
    planes = image[0].transpose(2, 0, 1).astype(np.float64)
    expected = slow_convolution(planes, arrays["layer/weights"], arrays["layer/biases"], stride, dilation)
    np.testing.assert_allclose(found[0], np.clip(expected, 0, 6), atol=1e-4)
    assert graph.parameters == arrays["layer/weights"].size + arrays["layer/biases"].size
    assert graph.multiply_adds == arrays["layer/weights"].size * y.shape[2] * y.shape[3]


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
