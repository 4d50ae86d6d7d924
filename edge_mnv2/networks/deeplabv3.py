"""Mobile DeepLabv3: the graph, and the decoder of its outputs (arXiv 1801.04381, section 6.3).

DeepLabv3 on the MobileNetV2 backbone without the pyramid of atrous convolutions (ASPP): what is left of
the head is one 1x1 convolution beside global pooling, one that joins the two, and the prediction. The
backbone ends with the last bottleneck, whose strides become dilations from the output stride on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.networks.base import Geometry
from edge_mnv2.networks.graph import Graph, GraphBuilder
from edge_mnv2.networks.mobilenet_v2 import UNIT_SCALING, BackboneSpec, PixelScaling, backbone
from edge_mnv2.networks.upsampling import Samples, samples_at, upsampled_argmax
from edge_mnv2.networks.weight_sources import WeightSource
from edge_mnv2.results import SegmentationMap

LOGITS_OUTPUT = "logits"
HEAD_CHANNELS = 256
_PADDING_PIXEL = 127


@dataclass(frozen=True, slots=True)
class DeepLabSpec:
    """What distinguishes one Mobile DeepLabv3 from another.

    Attributes:
        classes: Classes including the background, which is class 0.
        size: (height, width) of the input.
        width_multiplier: The paper's alpha.
        channel_multiple: What numbers of channels are rounded to: DeepLab's authors rounded to 8 at width 1
            only, and to 1 elsewhere.
        output_stride: 8, 16 or 32: input pixels per cell of the prediction.
        scaling: What the first layer sees.
    """

    classes: int
    size: tuple[int, int] = (513, 513)
    width_multiplier: float = 1.0
    channel_multiple: int = 8
    output_stride: int = 16
    scaling: PixelScaling = UNIT_SCALING


def build_deeplabv3(spec: DeepLabSpec, weights: WeightSource, split: int = 1) -> Graph:
    """Build the graph; its output is `LOGITS_OUTPUT` (1, classes, rows, columns) float32.

    Upsampling is left to the decoder, which does it only where classes meet.

    Args:
        spec: Which network.
        weights: Its weights.
        split: See `mobilenet_v2.inverted_residual`.
    """
    graph = GraphBuilder(weights)
    extractor = BackboneSpec(
        spec.width_multiplier,
        spec.channel_multiple,
        spec.output_stride,
        conv_1_channels=0,
        scaling=spec.scaling,
        split=split,
    )
    features = backbone(graph, spec.size, extractor)["expanded_conv_16"]
    local = graph.conv(features, "head/aspp0", HEAD_CHANNELS, activation="relu")
    pooled = graph.global_average(features, "head/pool")
    pooled = graph.conv(pooled, "head/image_pooling", HEAD_CHANNELS, activation="relu")
    everywhere = graph.expand(pooled, local.shape, "head/everywhere")
    both = graph.concat([everywhere, local], 1, "head/concat")
    joined = graph.conv(both, "head/concat_projection", HEAD_CHANNELS, activation="relu")
    graph.output(graph.conv(joined, "head/logits", spec.classes, activation=None), LOGITS_OUTPUT)
    return graph.graph


class DeepLab:
    """Prepares frames for a Mobile DeepLabv3 graph and decodes its outputs into a class map.

    Args:
        spec: The network that the graph was built from.
        class_ids: Classes to report; pixels of others count as background. None for all.
        at_frame_resolution: Whether the map has the frame's own pixels instead of the network's input.
    """

    def __init__(
        self,
        spec: DeepLabSpec,
        class_ids: Collection[int] | None = None,
        *,
        at_frame_resolution: bool = False,
    ) -> None:
        self._size = spec.size
        self._at_frame_resolution = at_frame_resolution
        self._shown: NDArray[np.uint8] | None = None
        if class_ids is not None:
            self._shown = np.zeros(spec.classes, np.uint8)
            self._shown[list(class_ids)] = list(class_ids)

    def prepare(self, image: NDArray[np.uint8], out: NDArray[np.uint8]) -> Geometry:
        """Shrink or enlarge the frame to fit the input, at the top left, the rest grey.

        See `networks.base.Network.prepare`.
        """
        import cv2

        geometry = fit(image.shape[1], image.shape[0], self._size)
        width, height = geometry.content_width, geometry.content_height
        is_smaller = width < image.shape[1]
        method = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
        out[0, :height, :width] = cv2.resize(image, (width, height), interpolation=method)
        out[0, height:] = _PADDING_PIXEL
        out[0, :height, width:] = _PADDING_PIXEL
        return geometry

    def decode(self, outputs: Mapping[str, NDArray[Any]], geometry: Geometry) -> SegmentationMap:
        """Upsample the logits and take the best class of every pixel; see `networks.upsampling`."""
        logits: NDArray[np.float32] = outputs[LOGITS_OUTPUT][0]
        for axis in (1, 2):
            if logits.shape[axis] == 1:  # the same everywhere along this axis
                logits = np.repeat(logits, 2, axis=axis)
        axes = (
            (geometry.frame_height, geometry.content_height, self._size[0], logits.shape[1]),
            (geometry.frame_width, geometry.content_width, self._size[1], logits.shape[2]),
        )
        rows, columns = (self._samples(*axis) for axis in axes)
        class_id = upsampled_argmax(logits, rows, columns)
        if self._shown is not None:
            class_id = self._shown[class_id]
        return SegmentationMap(class_id)

    def _samples(self, frame: int, content: int, size: int, points: int) -> Samples:
        """Return where the map's pixels lie on the grid of logits: corners on corners, as TensorFlow does."""
        pixels = np.arange(content, dtype=np.float64)
        if self._at_frame_resolution:
            pixels = np.clip((np.arange(frame) + 0.5) * (content / frame) - 0.5, 0, content - 1)
        return samples_at(pixels * ((points - 1) / (size - 1)), points)


def fit(frame_width: int, frame_height: int, size: tuple[int, int]) -> Geometry:
    """Return how a frame fits into an input of `size` (height, width) with its proportions kept."""
    height, width = size
    scale = min(width / frame_width, height / frame_height)
    return Geometry(
        frame_width=frame_width,
        frame_height=frame_height,
        content_width=min(width, max(1, round(frame_width * scale))),
        content_height=min(height, max(1, round(frame_height * scale))),
    )
