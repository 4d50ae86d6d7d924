"""The MobileNetV2 classifier: backbone, global average, one fully connected layer (Table 2, last lines)."""

from __future__ import annotations

from dataclasses import dataclass

from edge_mnv2.networks.graph import GraphBuilder, WeightSource, shapes_only
from edge_mnv2.networks.mobilenet_v2 import backbone, image_input

LOGITS_OUTPUT = "logits"


@dataclass(frozen=True, slots=True)
class ClassifierSpec:
    """What distinguishes one classifier from another.

    Attributes:
        classes: Classes, without a background.
        size: (height, width) of the input.
        width_multiplier: The paper's alpha.
    """

    classes: int = 1000
    size: tuple[int, int] = (224, 224)
    width_multiplier: float = 1.0


def build_classifier(spec: ClassifierSpec, weights: WeightSource) -> GraphBuilder:
    """Build the graph; its output is `LOGITS_OUTPUT` (1, classes) float32."""
    graph = GraphBuilder(weights)
    x = backbone(graph, image_input(graph, spec.size), spec.width_multiplier)["conv_1"]
    x = graph.conv(graph.global_average(x, "pool"), "head/logits", spec.classes, relu6=False)
    graph.output(graph.reshape(x, (1, spec.classes), "head/flat"), LOGITS_OUTPUT)
    return graph


def build_features(size: tuple[int, int], width_multiplier: float) -> GraphBuilder:
    """Build the backbone alone, to be counted."""
    graph = GraphBuilder(shapes_only)
    backbone(graph, image_input(graph, size), width_multiplier)
    return graph
