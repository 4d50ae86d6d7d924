from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest

from edge_mnv2.networks.activation_statistics import ActivationStatistics, tensors_to_watch
from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.networks.classifier import ClassifierSpec, build_classifier
from edge_mnv2.networks.deeplabv3 import DeepLabSpec, build_deeplabv3
from edge_mnv2.networks.graph import Channels, Graph, GraphBuilder, Tensor
from edge_mnv2.networks.memory import peak_activation_bytes
from edge_mnv2.networks.quantise import quantise
from edge_mnv2.networks.ssdlite import SsdLiteSpec, build_ssdlite
from edge_mnv2.networks.weight_sources import WeightSource, random_weights, shapes_only
from tests.networks.test_quantise import run, with_biases

# Bytes of one plane of the graphs below: 5 x 5 float32.
PLANE = 100


def start(channels: int) -> tuple[GraphBuilder, Tensor]:
    builder = GraphBuilder(shapes_only)
    return builder, builder.input("x", (1, channels, 5, 5), "float32")


def peak_planes(builder: GraphBuilder, y: Tensor) -> float:
    builder.output(y, "y")
    return peak_activation_bytes(builder.graph) / PLANE


def test_a_tensor_lives_until_its_last_reader() -> None:
    """2 planes in, 8 between, 3 out: the input is gone when the output is made."""
    builder, x = start(2)
    wide = builder.conv(x, "wide", 8, activation=None)
    assert peak_planes(builder, builder.conv(wide, "narrow", 3, activation=None)) == 8 + 3


def test_a_shortcut_keeps_its_input_alive() -> None:
    builder, x = start(2)
    wide = builder.conv(x, "wide", 8, activation=None)
    narrow = builder.conv(wide, "narrow", 2, activation=None)
    assert peak_planes(builder, builder.add(narrow, x, "sum")) == 2 + 8 + 2


def test_a_result_lives_to_the_end() -> None:
    builder, x = start(1)
    first = builder.conv(x, "first", 4, activation=None)
    builder.output(first, "early")
    other = builder.conv(x, "other", 1, activation=None)
    assert peak_planes(builder, builder.conv(other, "last", 6, activation=None)) == 4 + 1 + 6


def test_activations_and_sums_happen_in_place() -> None:
    builder, x = start(3)
    y = builder.conv(x, "conv", 3, activation="relu6")
    y = builder.conv(y, "next", 3, activation="relu")
    assert peak_planes(builder, builder.add(y, x, "sum")) == 3 + 3 + 3


def test_a_sum_of_what_is_still_needed_takes_memory_of_its_own() -> None:
    builder, x = start(4)
    y = builder.conv(x, "conv", 4, activation=None)
    total = builder.add(x, y, "sum")
    builder.output(x, "first")
    builder.output(y, "second")
    assert peak_planes(builder, total) == 4 + 4 + 4


def test_a_block_in_two_parts_needs_half_of_its_wide_tensor() -> None:
    """2 planes in; of 8 expanded ones 4 at a time, before and behind the depthwise convolution; 3 out."""

    def block(bounds: tuple[int, ...]) -> float:
        builder, x = start(2)
        total = None
        for begin, end in itertools.pairwise(bounds):
            part = Channels(begin, end, 8)
            deep = builder.depthwise(builder.conv_of_outputs(x, "wide", part), "deep", part=part)
            given = builder.conv_of_inputs(deep, "narrow", 3, part)
            total = given if total is None else builder.add(given, total, "sum")
        assert total is not None
        return peak_planes(builder, total)

    # The whole block is largest where its depthwise convolution has 8 planes on either side. Of the parts,
    # the first has the input beside 4 and 4, and the second also the 3 planes of the first.
    assert block((0, 8)) == 8 + 8
    assert block((0, 4, 8)) == 3 + 4 + 4


def test_a_picture_of_bytes_counts_as_bytes() -> None:
    builder = GraphBuilder(shapes_only)
    x = builder.input(INPUT_NAME, (1, 5, 5, 3), "uint8")
    assert peak_planes(builder, builder.to_float(x, "pixels")) == 3 / 4 + 3


def with_ranges(graph: Graph) -> dict[str, ActivationStatistics]:
    return {tensor.name: ActivationStatistics(-1, 6) for tensor in tensors_to_watch(graph)}


def test_int8_takes_a_quarter() -> None:
    graph = build_classifier(ClassifierSpec(3, (64, 64)), random_weights(0))
    whole, quarter = (peak_activation_bytes(each) for each in (graph, quantise(graph, with_ranges(graph))))
    assert quarter == pytest.approx(whole / 4, rel=0.1)


def test_splitting_lowers_the_peak_of_the_papers_network_by_a_third() -> None:
    whole, *parts = (
        peak_activation_bytes(build_classifier(ClassifierSpec(), shapes_only, split))
        for split in (1, 2, 4, 8)
    )
    assert parts[0] <= whole * 2 / 3
    assert whole > parts[0] >= parts[1] >= parts[2]
    # The first block has no expansion to be split: its 32 planes of 112 x 112 on both sides are the floor.
    assert parts[2] == 2 * 32 * 112 * 112 * 4


BUILDERS: dict[str, Callable[[WeightSource, int], Graph]] = {
    "ssdlite": lambda weights, split: build_ssdlite(SsdLiteSpec(4, (64, 64), 0.35), weights, split),
    "deeplabv3": lambda weights, split: build_deeplabv3(DeepLabSpec(4, (65, 65), 0.35), weights, split),
    "classifier": lambda weights, split: build_classifier(
        ClassifierSpec(5, (64, 64), 0.35, padding="symmetric"), weights, split
    ),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_a_split_network_computes_the_same(name: str) -> None:
    """Up to the rounding of sums in another order, which the layers behind carry on."""
    image = np.random.default_rng(0).integers(0, 256, (1, 65, 65, 3), np.uint8)
    if name != "deeplabv3":
        image = image[:, :64, :64].copy()
    whole = BUILDERS[name](with_biases(), 1)
    expected, peak = run(whole, image), peak_activation_bytes(whole)
    for split in (2, 3, 4, 8):
        graph = BUILDERS[name](with_biases(), split)
        assert (graph.weight_shapes, graph.multiply_adds) == (whole.weight_shapes, whole.multiply_adds)
        assert peak_activation_bytes(graph) < peak
        # Backends compute in blocks of eight channels: no group begins inside one.
        parts = [key for key in graph.constants if re.search(r"/expand/part_\d+/weights", key)]
        assert parts
        assert all(len(graph.constants[key]) % 8 == 0 for key in parts)
        found = run(graph, image)
        for output, values in expected.items():
            largest = float(np.abs(values).max())
            np.testing.assert_allclose(found[output], values, atol=1e-4 * largest, rtol=0)
