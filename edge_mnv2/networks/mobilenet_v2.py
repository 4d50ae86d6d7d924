"""The MobileNetV2 backbone as the paper's table (arXiv 1801.04381, sections 3 and 4, Table 2)."""

from __future__ import annotations

from dataclasses import dataclass

from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.networks.graph import GraphBuilder, Tensor


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


def scaled_channels(channels: int, width_multiplier: float) -> int:
    """Return `channels` times the width multiplier, rounded to a multiple of 8, never below 90 % of it."""
    scaled = channels * width_multiplier
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def last_channels(width_multiplier: float) -> int:
    """Return the width of `conv_1`: never narrowed, so that small networks keep features (section 4)."""
    return scaled_channels(LAST_CHANNELS, max(1.0, width_multiplier))


def image_input(graph: GraphBuilder, size: tuple[int, int]) -> Tensor:
    """Declare the graph's input: one (1, height, width, 3) uint8 BGR picture, as OpenCV holds it.

    Conversion to float and to planes happens inside the graph, where it is fused and threaded, and a frame
    is resized straight into the tensor. Returns pixel - 127.5 in NCHW; `backbone` scales it to [-1, 1].
    """
    picture = graph.input(INPUT_NAME, (1, *size, 3), "uint8")
    planes = graph.transpose(picture, (0, 3, 1, 2), "planes")
    return graph.subtract(graph.to_float(planes, "pixels"), 127.5, "centred")


def inverted_residual(
    graph: GraphBuilder,
    x: Tensor,
    name: str,
    row: BottleneckRow,
    *,
    channels: int,
    dilation: int = 1,
) -> tuple[Tensor, Tensor]:
    """Append expand, depthwise and linear projection, with a shortcut where shapes allow (Table 1, figure 4).

    Args:
        graph: The graph to append to.
        x: The narrow input.
        name: Canonical name of the block.
        row: Expansion and stride (of this block, not of the whole line).
        channels: Channels of the narrow output.
        dilation: Dilation of the depthwise convolution.

    Returns:
        The narrow output, and the expanded tensor before the depthwise convolution.
    """
    expanded = x
    if row.expansion != 1:
        expanded = graph.conv(x, f"{name}/expand", x.shape[1] * row.expansion)
    deep = graph.depthwise(expanded, f"{name}/depthwise", stride=row.stride, dilation=dilation)
    narrow = graph.conv(deep, f"{name}/project", channels, relu6=False)
    if narrow.shape == x.shape:
        narrow = graph.add(narrow, x, f"{name}/add")
    return narrow, expanded


def backbone(
    graph: GraphBuilder,
    pixels: Tensor,
    width_multiplier: float = 1.0,
    output_stride: int = 32,
    conv_1_channels: int | None = None,
) -> dict[str, Tensor]:
    """Append the feature extractor of Table 2, without pooling and classifier.

    Args:
        graph: The graph to append to.
        pixels: The result of `image_input`.
        width_multiplier: The paper's alpha (section 4), applied to every layer but the last.
        output_stride: Where the product of strides reaches it, later strides become dilations (section 6.3).
        conv_1_channels: Channels of the last layer; None for `last_channels`.

    Returns:
        Tensors by name: `expanded_conv_N` and `expanded_conv_N/expand` of each block, and `conv_1`.

    Raises:
        ValueError: `output_stride` is not 8, 16 or 32, or the picture is smaller than 32 pixels.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"The output stride must be 8, 16 or 32, not {output_stride}.")
    if min(pixels.shape[2:]) < MIN_SIZE:
        raise ValueError(f"The input must be at least {MIN_SIZE} pixels wide and high.")
    endpoints: dict[str, Tensor] = {}
    x = graph.conv(
        pixels,
        "backbone/conv",
        scaled_channels(FIRST_CHANNELS, width_multiplier),
        kernel=3,
        stride=2,
        bgr_to_rgb_scale=1 / 127.5,
    )
    reached_stride, dilation, index = 2, 1, 0
    for row in TABLE_2:
        for repeat in range(row.repeats):
            stride = row.stride if repeat == 0 else 1
            block_dilation = dilation
            if stride > 1 and reached_stride == output_stride:
                dilation *= stride
                stride = 1
            reached_stride *= stride
            block = "expanded_conv" if index == 0 else f"expanded_conv_{index}"
            x, expanded = inverted_residual(
                graph,
                x,
                f"backbone/{block}",
                BottleneckRow(row.expansion, row.channels, 1, stride),
                channels=scaled_channels(row.channels, width_multiplier),
                dilation=block_dilation,
            )
            endpoints[block], endpoints[f"{block}/expand"] = x, expanded
            index += 1
    endpoints["conv_1"] = graph.conv(x, "backbone/conv_1", conv_1_channels or last_channels(width_multiplier))
    return endpoints
