"""The MobileNetV2 classifier: backbone, global average, one fully connected layer (Table 2, last lines)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.networks.base import Geometry
from edge_mnv2.networks.graph import Graph, GraphBuilder, Padding
from edge_mnv2.networks.mobilenet_v2 import UNIT_SCALING, BackboneSpec, PixelScaling, backbone
from edge_mnv2.networks.weight_sources import WeightSource, shapes_only
from edge_mnv2.results import Classification

LOGITS_OUTPUT = "logits"
TOP_K = 5
# The usual evaluation on ImageNet looks at the middle: 224 pixels of a picture whose short side is 256.
CENTRAL_SHARE = 0.875


@dataclass(frozen=True, slots=True)
class ClassifierSpec:
    """What distinguishes one classifier from another.

    Attributes:
        classes: Classes, without a background.
        size: (height, width) of the input.
        width_multiplier: The paper's alpha.
        scaling: What the first layer sees.
        padding: How convolutions are padded; see `graph.GraphBuilder`.
    """

    classes: int = 1000
    size: tuple[int, int] = (224, 224)
    width_multiplier: float = 1.0
    scaling: PixelScaling = UNIT_SCALING
    padding: Padding = "same"


def build_classifier(spec: ClassifierSpec, weights: WeightSource, split: int = 1) -> Graph:
    """Build the graph; its output is `LOGITS_OUTPUT` (1, classes) float32.

    Args:
        spec: Which network.
        weights: Its weights.
        split: See `mobilenet_v2.inverted_residual`.
    """
    graph = GraphBuilder(weights, spec.padding)
    extractor = BackboneSpec(spec.width_multiplier, scaling=spec.scaling, split=split)
    x = backbone(graph, spec.size, extractor)["conv_1"]
    x = graph.conv(graph.global_average(x, "head/pool"), "head/logits", spec.classes, activation=None)
    graph.output(graph.reshape(x, (1, spec.classes), "head/flat"), LOGITS_OUTPUT)
    return graph.graph


def build_features(size: tuple[int, int], width_multiplier: float) -> Graph:
    """Build the backbone alone, to be counted."""
    graph = GraphBuilder(shapes_only)
    backbone(graph, size, BackboneSpec(width_multiplier))
    return graph.graph


class Classifier:
    """Prepares frames for a classifier graph and decodes its outputs into the best classes.

    Args:
        spec: The network that the graph was built from.
        class_ids: Classes to report; None for all. Scores stay shares of all classes.
        score_threshold: Smallest score reported.
        top_k: Most classes reported.
    """

    def __init__(
        self,
        spec: ClassifierSpec,
        class_ids: Collection[int] | None = None,
        score_threshold: float = 0.0,
        top_k: int = TOP_K,
    ) -> None:
        self._size = spec.size
        self._class_ids = np.arange(spec.classes) if class_ids is None else np.array(sorted(class_ids))
        self._score_threshold = score_threshold
        self._top_k = top_k

    def prepare(self, image: NDArray[np.uint8], out: NDArray[np.uint8]) -> Geometry:
        """Scale the middle of the frame to the input; see `networks.base.Network.prepare`."""
        import cv2

        height, width = self._size
        frame_height, frame_width = image.shape[:2]
        scale = CENTRAL_SHARE * min(frame_width / width, frame_height / height)
        crop_width, crop_height = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (frame_width - crop_width) // 2, (frame_height - crop_height) // 2
        middle = image[top : top + crop_height, left : left + crop_width]
        method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
        cv2.resize(middle, (width, height), dst=out[0], interpolation=method)
        return Geometry(frame_width, frame_height, content_width=width, content_height=height)

    def decode(self, outputs: Mapping[str, NDArray[Any]], _: Geometry) -> Classification:
        """Turn logits into the shares of the best classes (softmax), best first."""
        logits = outputs[LOGITS_OUTPUT][0].astype(np.float64)
        powers = np.exp(logits - logits.max())
        score = (powers / powers.sum()).astype(np.float32)[self._class_ids]
        best = np.argsort(-score, kind="stable")[: self._top_k]
        best = best[score[best] >= self._score_threshold]
        return Classification(class_id=self._class_ids[best].astype(np.int64), score=score[best])
