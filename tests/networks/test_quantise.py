"""Int8 graphs and what makes them: stored weights, equal channels, ranges, and rewrites of their bytes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError
from edge_mnv2.networks.activation_statistics import ActivationStatistics, tensors_to_watch
from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.networks.byte_layout import join_bytes, pair_columns
from edge_mnv2.networks.classifier import ClassifierSpec, build_classifier
from edge_mnv2.networks.deeplabv3 import DeepLabSpec, build_deeplabv3
from edge_mnv2.networks.equalise import equalise, tensors_to_equalise
from edge_mnv2.networks.graph import Activation, Graph, GraphBuilder, Node, Padding
from edge_mnv2.networks.mobilenet_v2 import IMAGENET_SCALING, UNIT_SCALING, PixelScaling, image_input
from edge_mnv2.networks.onnx_writer import to_onnx
from edge_mnv2.networks.quantise import Flavour, quantise
from edge_mnv2.networks.range_methods import METHODS, PERCENTILE, Histogram
from edge_mnv2.networks.ssdlite import SsdLiteSpec, build_ssdlite
from edge_mnv2.networks.stored_weights import find_grid, store_weights
from edge_mnv2.networks.weight_sources import WeightSource, random_weights, weights_from

Statistics = dict[str, ActivationStatistics]
Outputs = dict[str, NDArray[Any]]

FLAVOURS: tuple[Flavour, ...] = ("asymmetric", "symmetric")
SIZE = (65, 70)


def with_biases() -> WeightSource:
    """Return random weights whose biases are not zero."""
    kernels, generator = random_weights(0), np.random.default_rng(1)

    def source(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return kernels(name, shape) if len(shape) > 1 else generator.normal(0, 0.3, shape).astype(np.float32)

    return source


NETWORKS: dict[str, Callable[[tuple[int, int]], Graph]] = {
    "ssdlite": lambda size: build_ssdlite(SsdLiteSpec(4, size, 0.35), with_biases()),
    "deeplabv3": lambda size: build_deeplabv3(DeepLabSpec(4, size, 0.35), with_biases()),
    "classifier": lambda size: build_classifier(ClassifierSpec(5, size, 0.35), with_biases()),
    "classifier-torch": lambda size: build_classifier(
        ClassifierSpec(5, size, 0.35, IMAGENET_SCALING, "symmetric"), with_biases()
    ),
}
networks = pytest.mark.parametrize("name", NETWORKS)


def picture(size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Return smooth colours: what noise gives has no contrast left after a few layers."""
    colours = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return cv2.resize(colours, size[::-1], interpolation=cv2.INTER_CUBIC)[None].astype(np.uint8)


def run(graph: Graph, image: NDArray[np.uint8]) -> Outputs:
    session = onnxruntime.InferenceSession(to_onnx(graph, "test", ""), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {INPUT_NAME: image}), strict=True))


def watch(graph: Graph, images: Sequence[NDArray[np.uint8]]) -> Outputs:
    """Return what the tensors of a float graph hold, all pictures together."""
    runs = [run(replace(graph, outputs=tensors_to_watch(graph)), image) for image in images]
    return {name: np.concatenate([outputs[name] for outputs in runs]) for name in runs[0]}


def true_peaks(graph: Graph, images: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
    values = watch(graph, images)
    return {name: values[name].max(axis=(0, 2, 3)) for name in tensors_to_equalise(graph)}


def statistics_of(graph: Graph, images: Sequence[NDArray[np.uint8]]) -> Statistics:
    """Calibrate by hand: keep all values, and note the mean of each channel."""
    peaks = true_peaks(graph, images)
    return {
        name: ActivationStatistics(
            float(values.min()), float(values.max()), values.mean(axis=(0, 2, 3)), peaks.get(name)
        )
        for name, values in watch(equalise(graph, peaks), images).items()
    }


def wide_statistics(graph: Graph) -> Statistics:
    """Return ranges that any network can be built with, where values do not matter."""
    return {
        tensor.name: ActivationStatistics(-3 - index % 5, 6 + index % 3)
        for index, tensor in enumerate(tensors_to_watch(graph))
    }


def readers(graph: Graph, name: str) -> list[Node]:
    return [node for node in graph.nodes if name in node.inputs]


def makers(graph: Graph) -> dict[str, Node]:
    return {node.output: node for node in graph.nodes}


@networks
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_int8_stays_near_float(name: str, flavour: Flavour) -> None:
    """Random weights are the worst case; trained ones are checked on pictures by `tests.test_calibrate`."""
    graph = NETWORKS[name](SIZE)
    images = [picture(SIZE, seed) for seed in range(4)]
    quantised = quantise(graph, statistics_of(graph, images), flavour)
    assert (quantised.inputs, quantised.outputs) == (graph.inputs, graph.outputs)
    assert (quantised.parameters, quantised.multiply_adds) == (graph.parameters, graph.multiply_adds)
    expected, found = run(graph, images[0]), run(quantised, images[0])
    for output, values in expected.items():
        assert found[output].dtype == np.float32
        error = math.sqrt(np.square(found[output] - values).mean())
        assert 0 < error < 0.45 * values.std()


@networks
def test_asymmetric_graphs_compute_on_bytes_from_the_picture_to_the_results(name: str) -> None:
    graph = NETWORKS[name](SIZE)
    quantised = quantise(graph, wide_statistics(graph))
    made = makers(quantised)
    assert not {node.op for node in quantised.nodes} & {"Clip", "Relu", "Cast", "Sub"}
    (planes,) = readers(quantised, INPUT_NAME)
    assert planes.op == "Transpose"
    assert quantised.tensors[planes.output].dtype == "uint8"
    (pixels,) = readers(quantised, planes.output)
    scale, zero_point = (quantised.constants[name] for name in pixels.inputs[1:])
    assert (pixels.op, float(scale), zero_point.dtype) == ("DequantizeLinear", 1.0, np.uint8)
    result_names = {output.name for output in quantised.outputs}
    for node in quantised.nodes:
        is_joined_for_a_layer = node.op == "Concat" and "Quantize" in readers(quantised, node.output)[0].op
        if node.op in ("Conv", "Add", "GlobalAveragePool") or is_joined_for_a_layer:
            assert {made[name].op for name in node.inputs} == {"DequantizeLinear"}
            # Backends fuse an operator and the pair around it only where nobody else reads its input.
            assert all(readers(quantised, name) == [node] for name in node.inputs)
            (reader,) = readers(quantised, node.output)
            assert reader.op == "QuantizeLinear" or reader.output in result_names
        elif node.op == "Concat" and quantised.tensors[node.output].dtype == "float32":
            (reader,) = readers(quantised, node.output)
            assert reader.output in result_names, "only results are joined in float"
        elif node.op not in ("QuantizeLinear", "DequantizeLinear", "Identity"):
            assert quantised.tensors[node.output].dtype == "uint8", node.op
    counts = Counter(node.op for node in quantised.nodes)
    floats = Counter(node.op for node in graph.nodes)
    assert {op: counts[op] for op in ("Conv", "Add", "Concat")} == {
        op: floats[op] for op in ("Conv", "Add", "Concat")
    }


@networks
def test_symmetric_graphs_are_what_tensorrt_takes(name: str) -> None:
    graph = NETWORKS[name](SIZE)
    quantised = quantise(graph, wide_statistics(graph), "symmetric")
    made = makers(quantised)
    shapes = {node.inputs[1] for node in quantised.nodes if node.op in ("Reshape", "Expand")}
    for key, constant in quantised.constants.items():
        assert key in shapes or constant.dtype in (np.float32, np.int8), key
        if key.endswith("/zero_point"):
            assert constant.dtype == np.int8
            assert not constant.any()
    for node in quantised.nodes:
        if node.op == "Conv":
            assert [made[name].op for name in node.inputs[:2]] == ["DequantizeLinear"] * 2
            assert quantised.constants[node.inputs[2]].dtype == np.float32, "biases stay in float"
        elif node.op in ("Add", "GlobalAveragePool"):
            assert {made[name].op for name in node.inputs} == {"DequantizeLinear"}
        elif node.op == "QuantizeLinear":
            (reader,) = readers(quantised, node.output)[:1]
            assert reader.op == "DequantizeLinear"
            behind = [
                after for name in readers(quantised, node.output) for after in readers(quantised, name.output)
            ]
            assert {after.op for after in behind} <= {"Conv", "Add", "GlobalAveragePool"}
    counts = Counter(node.op for node in quantised.nodes)
    floats = Counter(node.op for node in graph.nodes)
    kept = set(floats) - {"QuantizeLinear", "DequantizeLinear"}
    assert {op: counts[op] for op in kept} == {op: floats[op] for op in kept}


def first_layer(
    size: tuple[int, int],
    kernel: NDArray[np.float32],
    scaling: PixelScaling = UNIT_SCALING,
    padding: Padding = "same",
    *,
    stride: int = 1,
    activation: Activation | None = None,
) -> Graph:
    """Return a picture and one convolution on it."""
    weights = {"one/weights": kernel, "one/biases": np.zeros(len(kernel), np.float32)}
    builder = GraphBuilder(weights_from(weights), padding)
    x = image_input(builder, size, scaling)
    y = builder.conv(x, "one", len(kernel), kernel=kernel.shape[2], stride=stride, activation=activation)
    builder.output(y, "out")
    return builder.graph


@pytest.mark.parametrize("scaling", [UNIT_SCALING, IMAGENET_SCALING])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_bytes_leave_of_the_mean_goes_into_the_bias(scaling: PixelScaling, flavour: Flavour) -> None:
    """The zero point is a whole number, one for all channels; the means of ImageNet differ by 20."""
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[np.arange(3), np.arange(3)] = [[[0.5]], [[1]], [[2]]]
    graph = first_layer((4, 4), kernel, scaling)
    image = picture((4, 4), 0)
    expected = run(graph, image)["out"]
    # A step of the output is two grey levels at the most, so half a level would still be seen on average.
    statistics = {"one": ActivationStatistics(float(expected.min()), float(expected.max()))}
    found = run(quantise(graph, statistics, flavour), image)["out"]
    step = float(np.ptp(expected)) / 255
    bound = (step, 4 * step)[flavour == "symmetric"]
    np.testing.assert_allclose(found, expected, atol=bound)
    assert np.abs((found - expected).mean(axis=(2, 3))).max() < bound / 4


def test_the_border_is_padded_with_the_level_of_zero() -> None:
    """Beyond the border a float picture less its mean is 0; a picture of grey must not get an edge there."""
    kernel = np.full((1, 3, 3, 3), 1, np.float32)
    graph = first_layer((6, 6), kernel)
    for level in (0, 255, 128):
        image = np.full((1, 6, 6, 3), level, np.uint8)
        expected = run(graph, image)["out"]
        statistics = {
            "one": ActivationStatistics(float(min(expected.min(), -1)), float(max(expected.max(), 1)))
        }
        found = run(quantise(graph, statistics), image)["out"]
        # Half a level of the mean is missing in the padding: at a corner, 5 of 9 pixels of 3 channels.
        np.testing.assert_allclose(found, expected, atol=0.5 * 5 * 3 + float(np.ptp(expected)) / 255 + 0.1)
        np.testing.assert_allclose(found[0, 0, 1:-1, 1:-1], expected[0, 0, 1:-1, 1:-1], rtol=0.01, atol=0.1)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("is_depthwise", [False, True])
def test_bias_correction_removes_the_mean_of_what_rounding_takes(
    flavour: Flavour, is_depthwise: bool
) -> None:
    """One large weight sets the step, and all the small ones, each nearly half a step, are rounded off."""
    step = 1 / 127
    first = np.full((4, 3, 1, 1), 1 / 50, np.float32)
    second = np.full((4, 1, 3, 3) if is_depthwise else (2, 4, 1, 1), 0.45 * step, np.float32)
    second[:, 0, 0, 0] = 1
    weights = {"one/weights": first, "one/biases": np.zeros(4), "two/weights": second}
    weights["two/biases"] = np.zeros(len(second))
    builder = GraphBuilder(weights_from(weights))
    x = builder.conv(image_input(builder, (7, 7)), "one", 4)
    y = builder.depthwise(x, "two") if is_depthwise else builder.conv(x, "two", 2, activation=None)
    builder.output(y, "out")
    graph = builder.graph
    image = np.full((1, 7, 7, 3), 220, np.uint8)
    values = watch(graph, [image])
    ranges = {
        name: ActivationStatistics(0, float(array.max()), array.mean(axis=(0, 2, 3)))
        for name, array in values.items()
        if name != "centred"
    }
    ranges["centred"] = ActivationStatistics(-127.5, 127.5, values["centred"].mean(axis=(0, 2, 3)))
    bare = {name: replace(found, mean=None) for name, found in ranges.items()}
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    expected, with_means, without = (
        run(tested, image)["out"][inside].mean()
        for tested in (graph, quantise(graph, ranges, flavour), quantise(graph, bare, flavour))
    )
    lost = 0.45 * step * (8 if is_depthwise else 3) * values["one"].mean()
    assert expected - without == pytest.approx(lost, rel=0.25)
    assert abs(with_means - expected) < 0.15 * lost


def test_statistics_that_do_not_fit_are_named() -> None:
    graph = NETWORKS["classifier"]((32, 32))
    name = "backbone/expanded_conv_3/expand"
    channels = graph.tensors[name].shape[1]
    whole = wide_statistics(graph)
    assert name in whole
    for wrong, words in (
        (None, "There is no activation range of NAME: "),
        (ActivationStatistics(float("nan"), 6), "range of NAME is nan to 6"),
        (ActivationStatistics(-1, math.inf), "range of NAME is -1 to inf"),
        (ActivationStatistics(2, 1), "range of NAME is 2 to 1"),
        (ActivationStatistics(0, 6, mean=np.zeros(5, np.float32)), r"NAME have the shape \(5,\).*needs"),
        (
            ActivationStatistics(0, 6, peak=np.ones((channels, 1), np.float32)),
            rf"NAME have the shape \({channels}, 1\)",
        ),
    ):
        statistics = {key: found for key, found in whole.items() if key != name}
        if wrong is not None:
            statistics[name] = wrong
        for flavour in FLAVOURS:
            with pytest.raises(
                WeightsError, match=words.replace("NAME", name) + ".*calibrate the model again"
            ):
                quantise(graph, statistics, flavour)


@pytest.mark.parametrize("column", ["mean", "peak"])
def test_a_mean_or_peak_that_is_no_number_is_named(column: str) -> None:
    graph = NETWORKS["classifier"]((32, 32))
    name = "backbone/expanded_conv_3/expand"
    statistics = wide_statistics(graph)
    values = np.full(graph.tensors[name].shape[1], np.nan, np.float32)
    statistics[name] = ActivationStatistics(0, 6, **{column: values})
    with pytest.raises(WeightsError, match=name):
        quantise(graph, statistics)


def test_the_pictures_range_needs_no_statistics() -> None:
    graph = NETWORKS["classifier"]((32, 32))
    statistics = wide_statistics(graph)
    del statistics["centred"]
    for flavour in FLAVOURS:
        run(quantise(graph, statistics, flavour), picture((32, 32), 0))


@pytest.mark.parametrize(("low", "high"), [(2, 6), (-6, -2)])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_zero_is_in_every_range(low: float, high: float, flavour: Flavour) -> None:
    """The border of the next convolution is padded with it."""
    graph, name = NETWORKS["classifier"]((32, 32)), "backbone/expanded_conv_3/project"
    statistics = wide_statistics(graph) | {name: ActivationStatistics(low, high)}
    constants = quantise(graph, statistics, flavour).constants
    scale, zero_point = (float(constants[f"{name}/{key}"]) for key in ("scale", "zero_point"))
    assert scale == pytest.approx(6 / (255 if flavour == "asymmetric" else 127))
    assert zero_point == (255 if low < 0 and flavour == "asymmetric" else 0)


@pytest.mark.parametrize(("activation", "highest"), [("relu6", 6), ("relu", 40)])
def test_a_range_is_no_wider_than_the_activation_that_it_stands_for(
    activation: Activation, highest: float
) -> None:
    kernel = np.random.default_rng(0).normal(0, 20, (4, 3, 3, 3)).astype(np.float32)
    graph = first_layer((6, 6), kernel, activation=activation)
    found = run(quantise(graph, {"one": ActivationStatistics(-40, 40)}), picture((6, 6), 0))["out"]
    assert (found.min(), found.max()) == (0, pytest.approx(highest))


@settings(max_examples=80, deadline=None)
@given(
    step=st.floats(1e-3, 1),
    zero_point=st.integers(0, 255),
    levels=st.lists(st.integers(0, 255), min_size=8, max_size=300),
)
def test_a_kernel_that_was_trained_on_a_grid_keeps_it_exactly(
    step: float, zero_point: int, levels: list[int]
) -> None:
    """Zero and two neighbours are among the weights of every real kernel."""
    levels = [*levels, zero_point, levels[0], min(levels[0] + 1, 255) if levels[0] < 255 else 254]
    exact = (np.array(levels) - zero_point).astype(np.float64)
    weights = (exact * step).astype(np.float32)
    # As a weights file keeps them: a float16 and the rest.
    half = weights.astype(np.float16)
    weights = half.astype(np.float32) + (weights - half).astype(np.float16)
    kernel = weights.reshape(-1, 1, 1, 1)
    grid = find_grid(kernel)
    assert grid is not None
    assert grid.step == pytest.approx(step, rel=1e-3)
    stored = store_weights(kernel, np.zeros(len(kernel), np.float32), np.float32(1), allow_grid=True)
    assert (stored.levels.dtype.itemsize, stored.scale.shape) == (1, ())
    found = stored.levels.astype(int) - int(stored.zero_point)
    np.testing.assert_array_equal(found.ravel(), exact)
    np.testing.assert_allclose(stored.real(), kernel, rtol=1e-3)


@pytest.mark.parametrize("levels", [range(1, 200), range(150, 250)])
def test_a_grid_need_not_have_a_weight_of_zero(levels: range) -> None:
    kernel = (np.array(levels) * np.float32(0.01)).astype(np.float32).reshape(-1, 1, 1, 1)
    stored = store_weights(kernel, None, np.float32(1), allow_grid=True)
    np.testing.assert_allclose(stored.real(), kernel, rtol=1e-3)


@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (32, 1, 3, 3), (8, 8, 1, 1), (64, 96, 1, 1)])
def test_float_kernels_have_a_scale_for_each_channel(shape: tuple[int, ...]) -> None:
    kernel = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
    kernel *= np.geomspace(0.01, 1, shape[0], dtype=np.float32)[:, None, None, None]
    assert find_grid(kernel) is None
    stored = store_weights(kernel, None, np.float32(1), allow_grid=True)
    assert (stored.levels.dtype, stored.zero_point.any()) == (np.int8, False)
    largest = np.abs(kernel).max(axis=(1, 2, 3))
    np.testing.assert_allclose(stored.scale, largest / 127, rtol=1e-6)
    assert (np.abs(stored.levels).max(axis=(1, 2, 3)) == 127).all()
    error = np.abs(stored.real() - kernel).max(axis=(1, 2, 3))
    assert (error <= stored.scale * 0.5001).all()


@pytest.mark.parametrize("values", [[0, 1, 2.4, 5], [-1, 0, 1, 300], [0, 1e-3, 1]])
def test_a_few_weights_that_lie_on_no_grid_are_float(values: list[float]) -> None:
    assert find_grid(np.array(values, np.float32).reshape(-1, 1, 1, 1)) is None


def test_a_backend_without_zero_points_in_weights_gets_none() -> None:
    kernel = ((np.arange(27 * 8) - 20) * np.float32(0.01)).reshape(8, 3, 3, 3).astype(np.float32)
    assert find_grid(kernel) is not None
    graph = first_layer((4, 4), kernel)
    statistics = {"one": ActivationStatistics(-9, 9)}
    one = "one/weights"
    symmetric = quantise(graph, statistics, "symmetric")
    constants = symmetric.constants
    assert (symmetric.tensors[f"{one}/stored"].dtype, constants[f"{one}/scale"].shape) == ("int8", (8,))
    assert constants[f"{one}/zero_point"].dtype == np.int8
    assert not constants[f"{one}/zero_point"].any()
    # Float weights that lie on the grid: quantising them in the graph changes nothing.
    levels = constants[f"{one}/real"] / constants[f"{one}/scale"].reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    np.testing.assert_allclose(constants[f"{one}/real"], kernel, atol=0.02)
    assert quantise(graph, statistics).constants[f"{one}/zero_point"].any()


def test_no_kernel_is_too_small_to_be_stored() -> None:
    """Channels of zeros, and of weights so small that their bias would not fit 32 bits."""
    kernel = np.zeros((3, 2, 1, 1), np.float32)
    kernel[1] = [[[1e-12]], [[-3.3e-12]]]
    biases = np.array([0, 5, 0.1], np.float32)
    for small in (kernel, kernel * 0):
        stored = store_weights(small, biases, np.float32(1e-4), allow_grid=False)
        assert (np.abs(biases / (stored.scale * np.float32(1e-4))) <= 2**30 * 1.001).all()
        np.testing.assert_allclose(stored.real(), small, atol=1e-7)


@networks
@pytest.mark.parametrize("size", [(33, 32), (40, 33), (32, 34), (35, 35)])
def test_paired_columns_and_joined_bytes_change_no_bit(name: str, size: tuple[int, int]) -> None:
    graph = NETWORKS[name](size)
    plain = quantise(graph, wide_statistics(graph))
    image = picture(size, 1)
    expected = run(plain, image)
    joined = join_bytes(plain)
    paired = pair_columns(joined)
    for rewritten in (joined, paired, pair_columns(plain)):
        found = run(rewritten, image)
        assert found.keys() == expected.keys()
        for output, values in expected.items():
            np.testing.assert_array_equal(found[output], values)
            assert len(np.unique(values)) > 2
    results = {output.name for output in paired.outputs}
    for node in paired.nodes:
        if node.op == "Concat" and any(reader.output in results for reader in readers(paired, node.output)):
            raise AssertionError(f"{node.output} is still joined in float")
    assert paired.constants["backbone/conv/linear/weights/stored"].shape == (32, 12, 3, 2)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 13)),
    padding=st.sampled_from(["same", "symmetric"]),
    scaling=st.sampled_from([UNIT_SCALING, IMAGENET_SCALING]),
    on_grid=st.booleans(),
    seed=st.integers(0, 100),
)
def test_columns_are_paired_in_pictures_of_any_width(
    size: tuple[int, int], padding: Padding, scaling: PixelScaling, on_grid: bool, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    kernel = generator.normal(0, 0.1, (4, 3, 3, 3)).astype(np.float32)
    if on_grid:
        kernel = (generator.integers(-90, 165, kernel.shape) * np.float32(0.01)).astype(np.float32)
    graph = first_layer(size, kernel, scaling, padding, stride=2, activation="relu6")
    plain = quantise(graph, {"one": ActivationStatistics(0, 6)})
    image = generator.integers(0, 256, (1, *size, 3), np.uint8)
    np.testing.assert_array_equal(run(pair_columns(plain), image)["out"], run(plain, image)["out"])


@networks
def test_equal_channels_compute_the_same_in_float(name: str) -> None:
    graph = NETWORKS[name](SIZE)
    image = picture(SIZE, 0)
    peaks = true_peaks(graph, [image])
    equal = equalise(graph, peaks)
    expected, found = run(graph, image), run(equal, image)
    for output, values in expected.items():
        np.testing.assert_allclose(found[output], values, atol=2e-4 * float(np.abs(values).max()))
    assert peaks
    before, after = watch(graph, [image]), watch(equal, [image])
    for tensor, peak in peaks.items():
        largest = after[tensor].max(axis=(0, 2, 3))
        assert (largest <= 6).all()
        assert (largest >= before[tensor].max(axis=(0, 2, 3)) * 0.999).all()
        # Only a depthwise convolution reads it: then nothing is lost by using the whole range.
        if all(node.attributes["group"] > 1 for node in readers(graph, tensor)):
            expected_peak = np.where(peak > 6 / 8, 6, np.maximum(peak, 0) * 8)
            np.testing.assert_allclose(largest, expected_peak, rtol=1e-3, atol=1e-3 * 8)
        else:
            factors = np.sqrt(np.clip(6 / np.maximum(peak, 1e-3), 1, 8))
            np.testing.assert_allclose(largest, peak * factors, rtol=1e-3, atol=1e-3)


def test_only_what_convolutions_alone_read_is_equalised() -> None:
    graph = NETWORKS["classifier"]((32, 32))
    names = tensors_to_equalise(graph)
    assert "backbone/expanded_conv_3/expand" in names
    assert "backbone/conv_1" not in names, "a mean reads it"
    kernel = np.ones((3, 3, 1, 1), np.float32)
    builder = GraphBuilder(
        weights_from(
            {f"{name}/weights": kernel for name in "ab"} | {f"{name}/biases": np.zeros(3) for name in "ab"}
        )
    )
    x = builder.conv(builder.input("image", (1, 3, 4, 4), "float32"), "a", 3)
    builder.output(builder.conv(x, "b", 3, activation=None), "read by a layer")
    assert tensors_to_equalise(builder.graph) == ["a"]
    builder.output(x, "read as a result")
    assert tensors_to_equalise(builder.graph) == []
    unchanged = equalise(graph, {})
    assert all(unchanged.constants[key] is value for key, value in graph.constants.items())


def histogram_of(values: NDArray[np.float64]) -> Histogram:
    counts, _ = np.histogram(values, 2048, (values.min(), values.max()))
    return Histogram(float(values.min()), float(values.max()), counts.astype(np.int64))


def share_inside(histogram: Histogram, low: float, high: float) -> float:
    centres = (histogram.edges[1:] + histogram.edges[:-1]) / 2
    return float(histogram.counts[(centres >= low) & (centres <= high)].sum() / histogram.counts.sum())


def draw(shape: str, seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    match shape:
        case "normal":
            return generator.normal(0, 2, 50_000)
        case "skewed":
            return np.append(generator.normal(0.5, 1, 50_000), 9.0)
        case "relu":
            return np.maximum(generator.normal(0, 1, 50_000), 0)
        case "relu6":
            return np.clip(generator.normal(1, 3, 50_000), 0, 6)
        case _:
            return generator.laplace(0, 1, 50_000)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", ["normal", "skewed", "relu6", "laplace"])
def test_every_method_keeps_most_of_the_values_and_invents_none(method: str, shape: str) -> None:
    histogram = histogram_of(draw(shape, 0))
    low, high = METHODS[method](histogram)
    assert histogram.low <= low < high <= histogram.high
    assert low <= 0 <= high
    assert share_inside(histogram, low, high) > 0.999
    if method == "min-max":
        assert (low, high) == (histogram.low, histogram.high)
    if shape == "relu6":
        assert high > 5.9, "a bound at which values pile up is no tail"


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_one_value_has_a_range(method: str) -> None:
    counts = np.zeros(2048, np.int64)
    counts[0] = 100
    assert METHODS[method](Histogram(0.0, 0.0, counts)) == (0.0, 0.0)


@given(
    outlier=st.floats(20, 1e4),
    sign=st.sampled_from([1, -1]),
    values=st.lists(st.floats(0, 1), min_size=30, max_size=60),
)
@settings(max_examples=40, deadline=None)
def test_a_percentile_cuts_one_outlier_in_ten_thousand(
    outlier: float, sign: int, values: list[float]
) -> None:
    """All but one value in ten thousand on each side are kept, and not much more than they need."""
    many = np.tile(np.array([*values, 0.0, 1.0]), 1 + 40_000 // len(values))
    histogram = histogram_of(sign * np.append(many, outlier))
    low, high = METHODS["percentile"](histogram)
    bin_width = (histogram.high - histogram.low) / 2048
    assert max(abs(low), abs(high)) <= 1 + 2 * bin_width
    centres = (histogram.edges[1:] + histogram.edges[:-1]) / 2
    total = histogram.counts.sum()
    assert histogram.counts[centres > high].sum() <= (1 - PERCENTILE) * total
    assert histogram.counts[centres < low].sum() <= (1 - PERCENTILE) * total
    if sign > 0:
        assert low == histogram.low == 0


def test_entropy_does_not_mind_the_zeros_behind_a_relu() -> None:
    """Half of the values are 0, which is stored exactly: they say nothing about the range of the others."""
    histogram = histogram_of(draw("relu", 0))
    assert share_inside(histogram, *METHODS["entropy"](histogram)) > 0.999


def test_entropy_cuts_a_tail_but_keeps_a_pile_at_the_bound() -> None:
    generator = np.random.default_rng(0)
    values = generator.exponential(0.3, 200_000)
    tail = histogram_of(np.append(values[values < 5.9], 6.0))
    assert METHODS["entropy"](tail)[1] < 4
    pile = histogram_of(np.append(generator.uniform(0, 3, 500_000), np.full(80, 6.0)))
    assert METHODS["entropy"](pile) == (pile.low, pile.high)


@pytest.mark.parametrize("shape", ["normal", "skewed", "relu", "laplace"])
def test_least_squares_loses_the_least(shape: str) -> None:
    values = draw(shape, 1)
    histogram = histogram_of(values)

    def loss(low: float, high: float) -> float:
        step = (high - low) / 255
        stored = np.clip(np.rint((values - low) / step), 0, 255) * step + low
        return float(np.square(values - stored).sum())

    best = loss(*METHODS["least-squares"](histogram))
    for other in METHODS.values():
        assert best <= loss(*other(histogram)) * 1.01
