"""What networks cost, counted, beside what the paper and its authors' own tables say.

One multiplication with its addition is one multiply-add, as in the paper; only convolutions have any.
Parameters are counted as they are stored: kernels, and one bias per channel, into which batch norm is
folded. The authors' table counts kernels alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.networks.deeplabv3 import DeepLabSpec
from edge_mnv2.networks.memory import peak_activation_bytes
from edge_mnv2.networks.onnx_writer import to_onnx
from edge_mnv2.networks.ssdlite import SsdLiteSpec
from edge_mnv2.networks.weight_sources import shapes_only
from edge_mnv2.zoo.architectures import Spec, architecture_of, build_network

WIDTHS = (1.4, 1.3, 1.0, 0.75, 0.5, 0.35)
SIZES = (224, 192, 160, 128, 96)

# COCO's 80 classes and the background, without the gaps in COCO's numbers: what the paper must have counted.
_COCO_CLASSES = 81


@dataclass(frozen=True, slots=True)
class Figures:
    """Parameters and multiply-adds that somebody published, in millions.

    Attributes:
        parameters: None where only the multiply-adds are given.
        multiply_adds: For one image.
        source: Where.
    """

    parameters: float | None
    multiply_adds: float
    source: str


@dataclass(frozen=True, slots=True)
class Row:
    """Exact counts of one network.

    Attributes:
        network: In words.
        parameters: Kernels and biases, batch norm folded in.
        kernels: Kernels alone.
        multiply_adds: For one image.
        peak_bytes: Peak activation memory; see `networks.memory`.
        file_bytes: Size of the float32 ONNX file.
        published: What others say.
    """

    network: str
    parameters: int
    kernels: int
    multiply_adds: int
    peak_bytes: int
    file_bytes: int
    published: tuple[Figures, ...] = ()


_PAPER = "paper, table 4"
_AUTHORS = "authors' checkpoints"
_PAPER_CLASSIFIER = {(1.0, 224): Figures(3.4, 300, _PAPER), (1.4, 224): Figures(6.9, 585, _PAPER)}
_AUTHORS_PARAMETERS = {1.4: 6.06, 1.3: 5.34, 1.0: 3.47, 0.75: 2.61, 0.5: 1.95, 0.35: 1.66}
# By width: multiply-adds at 224, 192, 160, 128, 96; larger widths were trained at 224 alone.
_AUTHORS_MULTIPLY_ADDS = {
    1.4: (582,),
    1.3: (509,),
    1.0: (300, 221, 154, 99, 56),
    0.75: (209, 153, 107, 69, 39),
    0.5: (97, 71, 50, 32, 18),
    0.35: (59, 43, 30, 20, 11),
}


def row_of(spec: Spec, split: int = 1) -> Row:
    """Count one network.

    Args:
        spec: Which network.
        split: See `networks.mobilenet_v2.inverted_residual`.
    """
    graph = build_network(spec, shapes_only, split)
    kernels = sum(math.prod(shape) for shape in graph.weight_shapes.values() if len(shape) > 1)
    return Row(
        describe(spec),
        graph.parameters,
        kernels,
        graph.multiply_adds,
        peak_activation_bytes(graph),
        len(to_onnx(graph, "counted", "")),
        published(spec),
    )


def paper_grid() -> list[ClassifierSpec]:
    """Return the classifiers of the paper's trade-off: every width at every size (section 6.1, figure 5)."""
    return [ClassifierSpec(size=(size, size), width_multiplier=width) for width in WIDTHS for size in SIZES]


def paper_networks() -> list[Spec]:
    """Return the detector and the segmentation as the paper has them."""
    return [
        SsdLiteSpec(_COCO_CLASSES, (320, 320)),
        DeepLabSpec(21),
        DeepLabSpec(21, output_stride=8),
    ]


def as_in_the_paper(spec: Spec) -> Spec | None:
    """Return the network of the paper that is nearest to this one, None if it is that, or there is none."""
    match spec:
        case SsdLiteSpec(width_multiplier=1.0):
            nearest: Spec = SsdLiteSpec(_COCO_CLASSES, (320, 320))
        case DeepLabSpec(width_multiplier=1.0):
            nearest = DeepLabSpec(21, output_stride=min(spec.output_stride, 16))
        case ClassifierSpec():
            nearest = ClassifierSpec(size=spec.size, width_multiplier=spec.width_multiplier)
        case _:
            return None
    return None if describe(nearest) == describe(spec) or not published(nearest) else nearest


def published(spec: Spec) -> tuple[Figures, ...]:
    """Return what others say of a network, the paper first."""
    match spec:
        case SsdLiteSpec(classes=81, size=(320, 320), width_multiplier=1.0):
            return (Figures(4.3, 800, "paper, table 6"),)
        case DeepLabSpec(classes=21, size=(513, 513), width_multiplier=1.0, output_stride=16):
            return (Figures(2.11, 2750, "paper, table 7"),)
        case ClassifierSpec(classes=1000):
            return _classifier_figures(spec)
    return ()


def _classifier_figures(spec: ClassifierSpec) -> tuple[Figures, ...]:
    height, width = spec.size
    if height != width or height not in SIZES:
        return ()
    key, index = (spec.width_multiplier, height), SIZES.index(height)
    found = [_PAPER_CLASSIFIER[key]] if key in _PAPER_CLASSIFIER else []
    multiply_adds = _AUTHORS_MULTIPLY_ADDS.get(spec.width_multiplier, ())
    if index < len(multiply_adds):
        parameters = _AUTHORS_PARAMETERS[spec.width_multiplier]
        found.append(Figures(parameters, multiply_adds[index], _AUTHORS))
    return tuple(found)


def describe(spec: Spec) -> str:
    """Return a network in words, such as `SSDLite 1.00, 300x300, 90 classes`."""
    architecture = architecture_of(spec)
    classes = spec.classes - int(architecture.has_background)
    stride = f", output stride {spec.output_stride}" if isinstance(spec, DeepLabSpec) else ""
    height, width = spec.size
    return f"{architecture.title} {spec.width_multiplier:.2f}, {width}x{height}, {classes} classes{stride}"
