from __future__ import annotations

import math

import pytest

from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.networks.deeplabv3 import DeepLabSpec
from edge_mnv2.networks.mobilenet_v2 import IMAGENET_SCALING
from edge_mnv2.networks.ssdlite import SsdLiteSpec
from edge_mnv2.zoo.architectures import Spec
from edge_mnv2.zoo.graph_store import build_untrained
from edge_mnv2.zoo.paper import (
    SIZES,
    WIDTHS,
    as_in_the_paper,
    describe,
    paper_grid,
    paper_networks,
    published,
    row_of,
)

# Expansion, channels, repeats, stride: table 2 of arXiv 1801.04381, typed again.
TABLE_2 = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def narrowed(channels: int, width: float) -> int:
    """Return the nearest multiple of eight, the next one where that takes more than a tenth away."""
    nearest = max(8, math.floor(channels * width / 8 + 0.5) * 8)
    return nearest if nearest >= 0.9 * channels * width else nearest + 8


def count_by_hand(width: float, size: int) -> tuple[int, int, int]:
    """Return kernels, biases and multiply-adds of the classifier, layer by layer."""
    kernels = biases = multiply_adds = 0

    def layer(weights: int, outputs: int, side: int) -> None:
        nonlocal kernels, biases, multiply_adds
        kernels, biases = kernels + weights, biases + outputs
        multiply_adds += weights * side * side

    side, channels = math.ceil(size / 2), narrowed(32, width)
    layer(9 * 3 * channels, channels, side)
    for expansion, row_channels, repeats, stride in TABLE_2:
        outputs = narrowed(row_channels, width)
        for repeat in range(repeats):
            wide = channels * expansion
            if expansion > 1:
                layer(channels * wide, wide, side)
            side = math.ceil(side / stride) if repeat == 0 else side
            layer(9 * wide, wide, side)
            layer(wide * outputs, outputs, side)
            channels = outputs
    last = narrowed(1280, max(1, width))
    layer(channels * last, last, side)
    layer(last * 1000, 1000, 1)
    return kernels, biases, multiply_adds


@pytest.mark.parametrize("spec", paper_grid(), ids=describe)
def test_every_network_of_the_grid_counts_as_by_hand(spec: ClassifierSpec) -> None:
    row = row_of(spec)
    kernels, biases, multiply_adds = count_by_hand(spec.width_multiplier, spec.size[0])
    assert (row.kernels, row.parameters, row.multiply_adds) == (kernels, kernels + biases, multiply_adds)


def test_the_grid_is_every_width_at_every_size() -> None:
    grid = {(spec.width_multiplier, *spec.size) for spec in paper_grid()}
    assert grid == {(width, size, size) for width in WIDTHS for size in SIZES}
    assert len(paper_grid()) == 30


def test_published_figures_are_met_within_two_per_cent_and_the_exceptions_are_known() -> None:
    """The authors' table cuts decimals off: 18.9 million multiply-adds are 18 there."""
    off = []
    compared = 0
    for spec in (*paper_networks(), *paper_grid()):
        row = row_of(spec)
        for found in row.published:
            compared += 1
            millions = row.multiply_adds / 1e6
            assert millions == pytest.approx(found.multiply_adds, rel=0.02) or (
                math.floor(millions) == found.multiply_adds < 50
            ), row.network
            assert found.parameters is not None
            if row.kernels / 1e6 != pytest.approx(found.parameters, rel=0.02):
                off.append((row.network, found.parameters, round(row.kernels / 1e6, 2)))
    assert compared == 26
    # 3.4 is 3.47 cut off; of 6.9 nobody knows how it was counted, the authors' own table has 6.06.
    assert off == [
        ("classifier 1.40, 224x224, 1000 classes", 6.9, 6.06),
        ("classifier 1.00, 224x224, 1000 classes", 3.4, 3.47),
    ]


@pytest.mark.parametrize(
    ("spec", "parameters", "multiply_adds", "paper"),
    [
        (SsdLiteSpec(81, (320, 320)), 4_311_637, 788_830_144, (4.3e6, 0.8e9)),
        (DeepLabSpec(21), 2_097_013, 2_740_709_056, (2.11e6, 2.75e9)),
    ],
)
def test_detector_and_segmentation_are_the_papers(
    spec: Spec, parameters: int, multiply_adds: int, paper: tuple[float, float]
) -> None:
    assert spec in paper_networks()
    row = row_of(spec)
    assert (row.parameters, row.multiply_adds) == (parameters, multiply_adds)
    assert (parameters, multiply_adds) == pytest.approx(paper, rel=0.02)
    (figures,) = row.published
    assert figures.parameters is not None
    assert (figures.parameters * 1e6, figures.multiply_adds * 1e6) == pytest.approx(paper)


def test_a_row_has_the_size_of_the_file_and_the_peak_of_the_split_network() -> None:
    spec = ClassifierSpec(10, (64, 64), 0.35)
    whole, split = row_of(spec), row_of(spec, 4)
    assert whole.file_bytes == pytest.approx(len(build_untrained(spec)), rel=0.01)
    assert split.peak_bytes < whole.peak_bytes
    assert (split.parameters, split.multiply_adds) == (whole.parameters, whole.multiply_adds)
    assert whole.published == published(ClassifierSpec(size=(192, 160))) == ()


@pytest.mark.parametrize(
    ("spec", "nearest"),
    [
        (SsdLiteSpec(91), SsdLiteSpec(81, (320, 320))),
        (SsdLiteSpec(81, (320, 320)), None),
        (SsdLiteSpec(91, width_multiplier=0.5), None),
        (DeepLabSpec(4, (257, 257), output_stride=32), DeepLabSpec(21)),
        (DeepLabSpec(21), None),
        (ClassifierSpec(5), ClassifierSpec()),
        (ClassifierSpec(padding="symmetric", scaling=IMAGENET_SCALING), None),
        (ClassifierSpec(size=(225, 225)), None),
        (ClassifierSpec(size=(192, 160)), None),
        (ClassifierSpec(size=(192, 192), width_multiplier=1.4), None),
    ],
    ids=lambda spec: "-" if spec is None else describe(spec),
)
def test_the_papers_nearest_network_stands_beside_ones_own(spec: Spec, nearest: Spec | None) -> None:
    assert as_in_the_paper(spec) == nearest
    assert nearest is None or published(nearest)
