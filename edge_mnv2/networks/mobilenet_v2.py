"""The MobileNetV2 backbone as the paper's table (arXiv 1801.04381, sections 3 and 4, Table 2)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.networks.graph import Channels, GraphBuilder, Tensor


@dataclass(frozen=True, slots=True)
class BottleneckRow:
    """One line of Table 2: `repeats` inverted residuals, of which the first has `stride`, the others 1."""

    expansion: int
    channels: int
    repeats: int
    stride: int


TABLE_2 = (
    BottleneckRow(expansion=1, channels=16, repeats=1, stride=1),
    BottleneckRow(expansion=6, channels=24, repeats=2, stride=2),
    BottleneckRow(expansion=6, channels=32, repeats=3, stride=2),
    BottleneckRow(expansion=6, channels=64, repeats=4, stride=2),
    BottleneckRow(expansion=6, channels=96, repeats=3, stride=1),
    BottleneckRow(expansion=6, channels=160, repeats=3, stride=2),
    BottleneckRow(expansion=6, channels=320, repeats=1, stride=1),
)
FIRST_CHANNELS = 32
LAST_CHANNELS = 1280
MIN_SIZE = 32
OUTPUT_STRIDES = (8, 16, 32)


def scaled_channels(channels: int, width_multiplier: float, multiple: int = 8) -> int:
    """Return `channels` times the width multiplier, rounded to a multiple, never below 90 % of it."""
    scaled = channels * width_multiplier
    rounded = max(multiple, int(scaled + multiple / 2) // multiple * multiple)
    return rounded + multiple if rounded < 0.9 * scaled else rounded


def last_channels(width_multiplier: float) -> int:
    """Return the width of `conv_1`: never narrowed, so that small networks keep features (section 4)."""
    return scaled_channels(LAST_CHANNELS, max(1.0, width_multiplier))


@dataclass(frozen=True, slots=True)
class PixelScaling:
    """What the network was trained to see: (pixel - mean) / deviation, per channel in RGB.

    Attributes:
        mean: In pixel values, 0 to 255.
        deviation: In pixel values.
    """

    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    deviation: tuple[float, float, float] = (127.5, 127.5, 127.5)


# TensorFlow's: pixels become -1 to 1.
UNIT_SCALING = PixelScaling()
# PyTorch's: mean and deviation of ImageNet's pixels.
IMAGENET_SCALING = PixelScaling((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def image_input(graph: GraphBuilder, size: tuple[int, int], scaling: PixelScaling = UNIT_SCALING) -> Tensor:
    """Declare the graph's input: one (1, height, width, 3) uint8 BGR picture, as OpenCV holds it.

    Conversion to float and to planes happens inside the graph, where it is fused and threaded, and a frame
    is resized straight into the tensor. Returns pixel - mean in NCHW; `backbone` divides by the deviation.
    """
    picture = graph.input(INPUT_NAME, (1, *size, 3), "uint8")
    # To float first: TensorRT moves no bytes of eight bits.
    planes = graph.transpose(graph.to_float(picture, "pixels"), (0, 3, 1, 2), "planes")
    means = np.array(scaling.mean[::-1], np.float32)
    # One number where the channels share it: a backend then needs no broadcasting.
    centre = means[:1] if (means == means[0]).all() else means
    return graph.subtract(planes, centre.reshape(1, -1, 1, 1), "centred")


def inverted_residual(
    graph: GraphBuilder,
    x: Tensor,
    name: str,
    row: BottleneckRow,
    *,
    channels: int,
    dilation: int = 1,
    split: int = 1,
) -> tuple[Tensor, Tensor | None]:
    """Append expand, depthwise and linear projection, with a shortcut where shapes allow (Table 1, figure 4).

    Args:
        graph: The graph to append to.
        x: The narrow input.
        name: Canonical name of the block.
        row: Expansion and stride (of this block, not of the whole line).
        channels: Channels of the narrow output.
        dilation: Dilation of the depthwise convolution.
        split: The paper's t of section 5.1: the block is computed as a sum over so many groups of expanded
            channels, so that the expanded tensor never exists whole. 1 for the plain block.

    Returns:
        The narrow output, and the expanded tensor before the depthwise convolution, None where it is split.
    """
    expanded_channels = x.shape[1] * row.expansion
    split = min(split, expanded_channels) if row.expansion != 1 else 1
    narrow, expanded = None, None
    bounds = sorted({_bound(expanded_channels, group, split) for group in range(split + 1)})
    for group, (start, stop) in enumerate(pairwise(bounds)):
        part = Channels(start, stop, expanded_channels)
        wide = x if row.expansion == 1 else graph.conv_of_outputs(x, f"{name}/expand", part)
        deep = graph.depthwise(wide, f"{name}/depthwise", stride=row.stride, dilation=dilation, part=part)
        given = graph.conv_of_inputs(deep, f"{name}/project", channels, part)
        narrow = given if narrow is None else graph.add(given, narrow, f"{name}/sum_{group}")
        expanded = wide if split == 1 else None
    if narrow is None:
        raise ValueError("A block must be split into at least one group.")
    if narrow.shape == x.shape:
        narrow = graph.add(narrow, x, f"{name}/add")
    return narrow, expanded


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """What distinguishes one feature extractor from another.

    Attributes:
        width_multiplier: The paper's alpha (section 4), applied to every layer but the last.
        channel_multiple: What numbers of channels are rounded to.
        output_stride: Where the product of strides reaches it, later strides become dilations (section 6.3).
        conv_1_channels: Channels of the last layer, 0 to leave it out; None for `last_channels`.
        scaling: What the first layer sees.
        split: See `inverted_residual`; blocks in `whole_blocks` are never split.
        whole_blocks: Blocks whose expansion is read by others.
    """

    width_multiplier: float = 1.0
    channel_multiple: int = 8
    output_stride: int = 32
    conv_1_channels: int | None = None
    scaling: PixelScaling = UNIT_SCALING
    split: int = 1
    whole_blocks: tuple[str, ...] = ()


def _bound(channels: int, group: int, groups: int) -> int:
    """Return where a group of channels begins: in steps of eight, the blocks in which backends compute."""
    return channels if group == groups else round(channels * group / groups / 8) * 8


def backbone(graph: GraphBuilder, size: tuple[int, int], spec: BackboneSpec) -> dict[str, Tensor]:
    """Append the input and the feature extractor of Table 2, without pooling and classifier.

    Args:
        graph: The graph to append to.
        size: (height, width) of the input.
        spec: Which feature extractor.

    Returns:
        Tensors by name: `expanded_conv_N` and `expanded_conv_N/expand` of each block, and `conv_1`.

    Raises:
        ValueError: The output stride is not 8, 16 or 32, or the picture is smaller than 32 pixels.
    """
    if spec.output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"The output stride must be 8, 16 or 32, not {spec.output_stride}.")
    if min(size) < MIN_SIZE:
        raise ValueError(f"The input must be at least {MIN_SIZE} pixels wide and high.")
    endpoints: dict[str, Tensor] = {}
    x = graph.conv(
        image_input(graph, size, spec.scaling),
        "backbone/conv",
        scaled_channels(FIRST_CHANNELS, spec.width_multiplier, spec.channel_multiple),
        kernel=3,
        stride=2,
        input_scale=(1 / np.array(spec.scaling.deviation)).astype(np.float32),
    )
    reached_stride, dilation, index = 2, 1, 0
    for row in TABLE_2:
        for repeat in range(row.repeats):
            stride = row.stride if repeat == 0 else 1
            block_dilation = dilation
            if stride > 1 and reached_stride == spec.output_stride:
                dilation *= stride
                stride = 1
            reached_stride *= stride
            block = "expanded_conv" if index == 0 else f"expanded_conv_{index}"
            x, expanded = inverted_residual(
                graph,
                x,
                f"backbone/{block}",
                BottleneckRow(row.expansion, row.channels, 1, stride),
                channels=scaled_channels(row.channels, spec.width_multiplier, spec.channel_multiple),
                dilation=block_dilation,
                split=1 if block in spec.whole_blocks else spec.split,
            )
            endpoints[block] = x
            if expanded is not None:
                endpoints[f"{block}/expand"] = expanded
            index += 1
    channels = last_channels(spec.width_multiplier) if spec.conv_1_channels is None else spec.conv_1_channels
    if channels:
        endpoints["conv_1"] = graph.conv(x, "backbone/conv_1", channels)
    return endpoints
