"""SSDLite on MobileNetV2: the graph, and the decoder of its outputs (arXiv 1801.04381, section 6.2).

SSDLite is SSD with every convolution of the prediction layers replaced by a depthwise and a 1x1 one. The
first head reads the expansion of the bottleneck at stride 16, the second the last layer, the others four
extra layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.networks.anchors import anchors_per_cell, ssd_anchors
from edge_mnv2.networks.base import Geometry
from edge_mnv2.networks.graph import Graph, GraphBuilder, Tensor
from edge_mnv2.networks.mobilenet_v2 import BackboneSpec, backbone
from edge_mnv2.networks.nms import nms
from edge_mnv2.networks.weight_sources import WeightSource
from edge_mnv2.results import Detections

BOX_OUTPUT = "box_encodings"
CLASS_OUTPUT = "class_logits"
NMS_IOU = 0.6
MAX_DETECTIONS = 100

_FIRST_FEATURE = "expanded_conv_13/expand"
_EXTRA_CHANNELS = (512, 256, 256, 128)
_STRIDES = (16, 32, 64, 128, 256, 512)
_BOX_SCALES = np.array([1 / 10, 1 / 10, 1 / 5, 1 / 5], np.float32)
# exp() of more than this only makes boxes larger than any picture, and overflows in the end.
_MAX_LOG_SIZE = 10.0


@dataclass(frozen=True, slots=True)
class SsdLiteSpec:
    """What distinguishes one SSDLite from another.

    Attributes:
        classes: Classes including the background, which is class 0.
        size: (height, width) of the input.
        width_multiplier: The paper's alpha.
        last_channels: Of `conv_1`; None for the paper's rule. TensorFlow's detectors narrow it, too.
    """

    classes: int
    size: tuple[int, int] = (300, 300)
    width_multiplier: float = 1.0
    last_channels: int | None = None


def build_ssdlite(spec: SsdLiteSpec, weights: WeightSource, split: int = 1) -> Graph:
    """Build the graph; outputs are `BOX_OUTPUT` (1, n, 4) and `CLASS_OUTPUT` (1, n, classes) float32.

    The sigmoid is left out: the decoder compares logits, and few of the n x classes scores are ever needed.

    Args:
        spec: Which network.
        weights: Its weights.
        split: See `mobilenet_v2.inverted_residual`.
    """
    graph = GraphBuilder(weights)
    boxes, classes = [], []
    for index, feature in enumerate(_features(graph, spec, split)):
        anchors = anchors_per_cell(index)
        head = f"heads/head_{index}"
        boxes.append(_predict(graph, feature, f"{head}/box", anchors, 4))
        classes.append(_predict(graph, feature, f"{head}/class", anchors, spec.classes))
    graph.output(graph.concat(boxes, 1, "heads/box"), BOX_OUTPUT)
    graph.output(graph.concat(classes, 1, "heads/class"), CLASS_OUTPUT)
    return graph.graph


def feature_maps(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (height, width) of the six maps that the heads read, finest first."""
    return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in _STRIDES]


class SsdLite:
    """Prepares frames for an SSDLite graph and decodes its outputs into detections.

    Args:
        spec: The network that the graph was built from.
        class_ids: Classes to report; others, and the background, are never candidates.
        score_threshold: Smallest score reported, inside (0, 1).
    """

    def __init__(self, spec: SsdLiteSpec, class_ids: Sequence[int], score_threshold: float = 0.5) -> None:
        self.anchors = ssd_anchors(feature_maps(spec.size))
        self.score_threshold = score_threshold
        self._size = spec.size
        self._is_reported = np.zeros(spec.classes, np.bool_)
        self._is_reported[list(class_ids)] = True

    def prepare(self, image: NDArray[np.uint8], out: NDArray[np.uint8]) -> Geometry:
        """Stretch the frame into the input tensor; see `networks.base.Network.prepare`."""
        import cv2

        height, width = self._size
        cv2.resize(image, (width, height), dst=out[0], interpolation=cv2.INTER_LINEAR)
        return Geometry(image.shape[1], image.shape[0], content_width=width, content_height=height)

    def decode(self, outputs: Mapping[str, NDArray[Any]], geometry: Geometry) -> Detections:
        """Turn encodings and logits into at most `MAX_DETECTIONS` boxes inside the frame, best first."""
        anchor_index, class_id = self._candidates(outputs[CLASS_OUTPUT][0])
        score = sigmoid(outputs[CLASS_OUTPUT][0, anchor_index, class_id])
        used, box_index = np.unique(anchor_index, return_inverse=True)
        boxes = decode_boxes(outputs[BOX_OUTPUT][0, used], self.anchors[used])
        frame = np.array([geometry.frame_width, geometry.frame_height] * 2, np.float32)
        xyxy = (np.clip(boxes[:, [1, 0, 3, 2]], 0, 1) * frame)[box_index]
        solid = np.flatnonzero((xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1]))
        kept = solid[
            nms(
                xyxy[solid],
                score[solid],
                class_id[solid],
                iou_threshold=NMS_IOU,
                max_per_class=MAX_DETECTIONS,
                max_total=MAX_DETECTIONS,
            )
        ]
        return Detections(xyxy=xyxy[kept], score=score[kept], class_id=class_id[kept])

    def _candidates(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return anchor and class of every reported score above the threshold.

        The threshold is compared with logits, and all of them, wanted or not: one pass over contiguous memory
        is ten times as fast as one over selected columns.
        """
        threshold = math.log(self.score_threshold / (1 - self.score_threshold))
        hits = np.flatnonzero(logits >= threshold)
        anchor_index, class_id = np.divmod(hits, logits.shape[1])
        wanted = self._is_reported[class_id]
        return anchor_index[wanted], class_id[wanted]


def decode_boxes(encodings: NDArray[np.float32], anchors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Decode (ty, tx, th, tw) against centre-size anchors.

    Args:
        encodings: (n, 4), scaled by 10, 10, 5, 5 as in TensorFlow's box coder.
        anchors: (n, 4) centre y, centre x, height, width.

    Returns:
        (n, 4) float32 y1, x1, y2, x2 as shares of the input, not clipped.
    """
    scaled = encodings * _BOX_SCALES
    centre = scaled[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(np.minimum(scaled[:, 2:], _MAX_LOG_SIZE)) * anchors[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)) without overflow for any float32."""
    positive = 1 / (1 + np.exp(-np.abs(logits)))
    return np.where(logits >= 0, positive, 1 - positive).astype(np.float32)


def _features(graph: GraphBuilder, spec: SsdLiteSpec, split: int) -> list[Tensor]:
    """Append backbone and extra layers; return the six maps that the heads read."""
    width_multiplier = spec.width_multiplier
    first_block = _FIRST_FEATURE.removesuffix("/expand")
    extractor = BackboneSpec(
        width_multiplier, conv_1_channels=spec.last_channels, split=split, whole_blocks=(first_block,)
    )
    endpoints = backbone(graph, spec.size, extractor)
    features = [endpoints[_FIRST_FEATURE], endpoints["conv_1"]]
    for index, channels in enumerate(_EXTRA_CHANNELS):
        scaled = max(int(channels * width_multiplier), 16)
        name = f"extras/extra_{index}"
        x = graph.conv(features[-1], f"{name}/reduce", scaled // 2)
        x = graph.depthwise(x, f"{name}/depthwise", stride=2)
        features.append(graph.conv(x, f"{name}/pointwise", scaled))
    return features


def _predict(graph: GraphBuilder, feature: Tensor, name: str, anchors: int, numbers: int) -> Tensor:
    """Append one SSDLite predictor; return (1, cells x anchors, numbers)."""
    x = graph.depthwise(feature, f"{name}/depthwise")
    x = graph.conv(x, f"{name}/predict", anchors * numbers, activation=None)
    rows, columns = x.shape[2:]
    x = graph.transpose(x, (0, 2, 3, 1), f"{name}/cells")
    return graph.reshape(x, (1, rows * columns * anchors, numbers), f"{name}/anchors")
