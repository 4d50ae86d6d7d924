"""Float16 graphs: their types, what rounding costs, and what they refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from camera import open_source
from camera.pictures import read_picture
from edge_mnv2.errors import WeightsError
from edge_mnv2.networks.activation_statistics import tensors_to_watch
from edge_mnv2.networks.graph import Graph, GraphBuilder
from edge_mnv2.networks.half_precision import to_half
from edge_mnv2.networks.mobilenet_v2 import IMAGENET_SCALING, UNIT_SCALING, PixelScaling, image_input
from edge_mnv2.networks.onnx_writer import to_onnx
from edge_mnv2.networks.quantise import quantise
from edge_mnv2.networks.weight_sources import weights_from
from edge_mnv2.zoo.architectures import build_network
from edge_mnv2.zoo.model import load_model, make_network
from tests.networks.test_quantise import (
    NETWORKS,
    SIZE,
    Outputs,
    picture,
    run,
    watch,
    wide_statistics,
)

# Largest error of an output, relative to its root mean square: twice the worst of 16 pictures and 8 drawn
# frames. The classifier's is the largest because its 1000 logits are small beside what they are summed from.
LIMITS = {
    "ssdlite-mnv2-coco": {"box_encodings": 0.011, "class_logits": 0.004},
    "deeplabv3-mnv2-voc": {"logits": 0.0125},
    "mobilenet-v2-imagenet": {"logits": 0.037},
}
networks = pytest.mark.parametrize("name", NETWORKS)
models = pytest.mark.parametrize("name", LIMITS)


@cache
def trained(name: str) -> Graph:
    model = load_model(name)
    return build_network(model.spec, weights_from(model.weights.arrays()))


def prepared(name: str, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    model = load_model(name)
    pixels = np.empty((1, *model.spec.size, 3), np.uint8)
    make_network(model).prepare(frame, pixels)
    return pixels


def drawn_frames() -> Iterator[NDArray[np.uint8]]:
    """Yield two synthetic frames that have little in common."""
    source = open_source("test://?fps=0&frames=60")
    source.open()
    try:
        for number in range(60):
            with source.read() as frame:
                if number % 30 == 0:
                    yield frame.image.copy()
    finally:
        source.close()


def relative_errors(found: Outputs, expected: Outputs) -> dict[str, float]:
    assert found.keys() == expected.keys()
    return {
        name: float(np.sqrt(np.square(found[name] - values).mean() / np.square(values).mean()))
        for name, values in expected.items()
    }


def check_errors(name: str, frames: Iterable[NDArray[np.uint8]]) -> None:
    half = to_half(trained(name))
    for frame in frames:
        pixels = prepared(name, frame)
        for output, error in relative_errors(run(half, pixels), run(trained(name), pixels)).items():
            # Float32 in another order would be a thousand times nearer than the lower bound.
            assert 3e-4 < error < LIMITS[name][output], output


@networks
def test_every_tensor_between_picture_and_results_is_float16(name: str) -> None:
    graph = NETWORKS[name](SIZE)
    half = to_half(graph)
    assert (half.inputs, half.outputs) == (graph.inputs, graph.outputs)
    assert (half.parameters, half.multiply_adds) == (graph.parameters, graph.multiply_adds)
    outside = {tensor.name for tensor in half.inputs + half.outputs}
    assert {tensor.dtype for key, tensor in half.tensors.items() if key not in outside} == {"float16"}
    assert {str(value.dtype) for value in half.constants.values()} <= {"float16", "int64"}
    assert Counter(node.op for node in half.nodes) == Counter(node.op for node in graph.nodes) + Counter(
        Cast=len(graph.outputs)
    )


@networks
def test_onnx_infers_the_types_that_the_graph_declares(name: str) -> None:
    """Strict inference refuses an operator whose inputs differ in type, as strongly typed backends do."""
    half = to_half(NETWORKS[name](SIZE))
    model = onnx.load_from_string(to_onnx(half, "test", ""))
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    assert len(types) == len(half.nodes) - len(half.outputs)
    assert set(types.values()) == {onnx.TensorProto.FLOAT16}


@networks
def test_a_network_computes_nearly_the_same(name: str) -> None:
    """Random weights, and results that others read inside the graph as well."""
    graph = NETWORKS[name](SIZE)
    watched = replace(graph, outputs=tensors_to_watch(graph))
    image = picture(SIZE, 0)
    found = run(to_half(watched), image)
    assert all(values.dtype == np.float32 for values in found.values())
    for output, error in relative_errors(found, run(watched, image)).items():
        assert error < 0.02, output


@models
def test_embedded_models_stay_near_float32_on_drawn_frames(name: str) -> None:
    check_errors(name, drawn_frames())


@models
def test_embedded_models_stay_near_float32_on_pictures(name: str, pictures: Path) -> None:
    check_errors(name, [read_picture(path) for path in sorted(pictures.glob("*.jpg"))[:3]])


@models
def test_activations_are_far_from_the_end_of_float16(name: str) -> None:
    """Black, white and noise, which no picture is like, come no nearer than a hundredth."""
    height, width = load_model(name).spec.size
    noise = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    images = [np.zeros_like(noise), np.full_like(noise, 255), noise]
    for tensor, values in watch(trained(name), images).items():
        assert np.abs(values).max() < 0.01 * np.finfo(np.float16).max, tensor


@pytest.mark.parametrize(("scaling", "atol"), [(UNIT_SCALING, 0), (IMAGENET_SCALING, 0.1)])
def test_all_levels_of_a_pixel_are_told_apart(scaling: PixelScaling, atol: float) -> None:
    """A mean of 127.5 is exact; those of ImageNet are rounded, which costs a tenth of a level at most."""
    builder = GraphBuilder(weights_from({}))
    builder.output(image_input(builder, (16, 16), scaling), "centred picture")
    levels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    (expected,) = run(builder.graph, levels).values()
    (found,) = run(to_half(builder.graph), levels).values()
    np.testing.assert_allclose(found, expected, atol=atol)
    assert len(np.unique(found[0, 0])) == 256


@pytest.mark.parametrize(
    ("value", "fits"), [(65504.0, True), (-65519.0, True), (65520.0, False), (-7e4, False)]
)
def test_weights_that_do_not_fit_are_named(value: float, fits: bool) -> None:
    kernel = np.ones((2, 3, 1, 1), np.float32)
    kernel[1, 2] = value
    builder = GraphBuilder(weights_from({"one/weights": kernel, "one/biases": np.zeros(2, np.float32)}))
    pixels = builder.to_float(builder.input("image", (1, 3, 4, 4), "uint8"), "pixels")
    builder.output(builder.conv(pixels, "one", 2, activation=None), "out")
    if fits:
        assert abs(to_half(builder.graph).constants["one/weights"][1, 2, 0, 0]) == 65504
        return
    words = rf"one/weights holds {abs(value):g}, more than float16 can \(65504\): run .* in fp32 or int8"
    with pytest.raises(WeightsError, match=words):
        to_half(builder.graph)


def test_only_float32_graphs_become_float16() -> None:
    graph = NETWORKS["classifier"](SIZE)
    for flavour, dtype in (("asymmetric", "uint8"), ("symmetric", "int8")):
        with pytest.raises(ValueError, match=rf"/stored is {dtype}, not float32: only"):
            to_half(quantise(graph, wide_statistics(graph), flavour))
    with pytest.raises(ValueError, match="is float16, not float32"):
        to_half(to_half(graph))
    builder = GraphBuilder(weights_from({}))
    builder.output(builder.input("image", (1, 3, 4, 4), "float32"), "out")
    with pytest.raises(ValueError, match="image is float32, not uint8"):
        to_half(builder.graph)
