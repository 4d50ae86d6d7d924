"""Convolutional graphs with static shapes: what they are made of, and a builder that writes them.

The builder keeps the shape of every tensor, so padding follows TensorFlow's SAME rule and parameters and
multiply-adds are counted while the graph grows. Layout is NCHW, batch 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.networks.weight_sources import WeightSource

Activation = Literal["relu6", "relu"]
Padding = Literal["same", "symmetric"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor inside the graph: its name, its shape, and numpy's name of its type."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of ONNX, with one output."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


@dataclass(slots=True)
class Graph:
    """Operators in the order in which they run.

    Attributes:
        inputs: What is fed.
        outputs: What is returned.
        nodes: The operators; each reads inputs, constants, and outputs of earlier ones.
        tensors: Every tensor that is not a constant, by name.
        constants: Weights and other fixed values, by name.
        weight_shapes: Shape by canonical name of every weight that the network has.
        multiply_adds: Multiply-adds of the convolutions, for one image. The paper counts the same way (MAdds,
            section 6.1): one multiplication with its addition is one.
    """

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    weight_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    multiply_adds: int = 0

    @property
    def parameters(self) -> int:
        """Numbers held by convolutions: kernels and biases, batch norm folded in."""
        return sum(math.prod(shape) for shape in self.weight_shapes.values())

    def append(self, op: str, inputs: Sequence[str], output: Tensor, **attributes: object) -> Tensor:
        """Append an operator and return its output."""
        self.nodes.append(Node(op, tuple(inputs), output.name, attributes))
        self.tensors[output.name] = output
        return output

    def constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Keep a constant and return its name."""
        self.constants[name] = np.asarray(value)
        return name


@dataclass(frozen=True, slots=True)
class Channels:
    """Some of a layer's channels: from `start` to before `stop`, of `total`."""

    start: int
    stop: int
    total: int


class GraphBuilder:
    """Appends layers to a graph; every method that appends returns the new tensor.

    Args:
        weights: Where the weights come from, by canonical name.
        padding: `same` is TensorFlow's rule, `symmetric` is (kernel - 1) / 2 on each side, as PyTorch's
            MobileNetV2 has it.

    Attributes:
        graph: What has been appended so far.
    """

    def __init__(self, weights: WeightSource, padding: Padding = "same") -> None:
        self.graph = Graph()
        self._weights = weights
        self._padding = padding
        self._loaded: dict[str, NDArray[np.float32]] = {}

    def input(self, name: str, shape: tuple[int, ...], dtype: str) -> Tensor:
        """Declare a graph input; `dtype` is numpy's name of it."""
        tensor = Tensor(name, shape, dtype)
        self.graph.inputs.append(tensor)
        self.graph.tensors[name] = tensor
        return tensor

    def output(self, x: Tensor, name: str) -> None:
        """Declare `x` a float32 graph output called `name`."""
        self.graph.outputs.append(self.graph.append("Identity", [x.name], Tensor(name, x.shape)))

    def conv(
        self,
        x: Tensor,
        name: str,
        channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        activation: Activation | None = "relu6",
        input_scale: NDArray[np.float32] | None = None,
    ) -> Tensor:
        """Append a convolution with bias and an optional activation.

        Args:
            x: The input.
            name: Canonical name; its weights are `name/weights` (O, I, k, k) and `name/biases` (O,).
            channels: Output channels.
            kernel: Size of the square kernel.
            stride: Stride in both directions.
            activation: None for the paper's linear bottlenecks and for predictions.
            input_scale: For the first layer, (3,) in RGB: the trained kernel sees scaled RGB, this graph is
                fed BGR. The kernel's input channels are multiplied by it and reversed.
        """
        kernel_weights = self._weight(f"{name}/weights", (channels, x.shape[1], kernel, kernel))
        if input_scale is not None:
            kernel_weights = np.ascontiguousarray((kernel_weights * input_scale[:, None, None])[:, ::-1])
        biases = self._weight(f"{name}/biases", (channels,))
        linear = self._convolve(x, name, (kernel_weights, biases), (stride, 1, 1), activation)
        return self.activate(linear, activation, name)

    def depthwise(
        self, x: Tensor, name: str, *, stride: int = 1, dilation: int = 1, part: Channels | None = None
    ) -> Tensor:
        """Append a 3x3 depthwise convolution with bias and ReLU6 (section 3.1); weights are (C, 1, 3, 3).

        Args:
            x: The input.
            name: Canonical name.
            stride: Stride in both directions.
            dilation: Dilation in both directions.
            part: Which of the layer's channels `x` is; None for all.
        """
        groups = x.shape[1]
        part = part or Channels(0, groups, groups)
        kernel_weights = self._weight(f"{name}/weights", (part.total, 1, 3, 3))[part.start : part.stop]
        biases = self._weight(f"{name}/biases", (part.total,))[part.start : part.stop]
        name = _part_name(name, part)
        linear = self._convolve(x, name, (kernel_weights, biases), (stride, dilation, groups), "relu6")
        return self.activate(linear, "relu6", name)

    def conv_of_outputs(self, x: Tensor, name: str, part: Channels) -> Tensor:
        """Append those output channels of a 1x1 convolution with ReLU6 that are in `part`."""
        kernel_weights = self._weight(f"{name}/weights", (part.total, x.shape[1], 1, 1))
        biases = self._weight(f"{name}/biases", (part.total,))
        chosen = (kernel_weights[part.start : part.stop], biases[part.start : part.stop])
        name = _part_name(name, part)
        return self.activate(self._convolve(x, name, chosen, (1, 1, 1), "relu6"), "relu6", name)

    def conv_of_inputs(self, x: Tensor, name: str, channels: int, part: Channels) -> Tensor:
        """Append what the input channels in `part` give to a linear 1x1 convolution.

        The sum over all parts is the convolution; the part that starts at 0 carries the bias.
        """
        kernel_weights = self._weight(f"{name}/weights", (channels, part.total, 1, 1))
        biases = self._weight(f"{name}/biases", (channels,))
        chosen = (kernel_weights[:, part.start : part.stop], biases if part.start == 0 else None)
        return self._convolve(x, _part_name(name, part), chosen, (1, 1, 1), None)

    def activate(self, x: Tensor, activation: Activation | None, name: str) -> Tensor:
        """Append an activation, none for None."""
        if activation is None:
            return x
        if activation == "relu":
            return self.graph.append("Relu", [x.name], Tensor(name, x.shape))
        bounds = [
            self.graph.constant("relu6/min", np.float32(0.0)),
            self.graph.constant("relu6/max", np.float32(6.0)),
        ]
        return self.graph.append("Clip", [x.name, *bounds], Tensor(name, x.shape))

    def add(self, x: Tensor, y: Tensor, name: str) -> Tensor:
        """Append an element-wise sum: the shortcut between bottlenecks."""
        return self.graph.append("Add", [x.name, y.name], Tensor(name, x.shape))

    def subtract(self, x: Tensor, value: NDArray[np.float32], name: str) -> Tensor:
        """Append the subtraction of a constant that fits `x` by broadcasting."""
        constant = self.graph.constant(f"{name}/value", value)
        return self.graph.append("Sub", [x.name, constant], Tensor(name, x.shape))

    def global_average(self, x: Tensor, name: str) -> Tensor:
        """Append the mean over all positions: (1, C, H, W) to (1, C, 1, 1)."""
        return self.graph.append("GlobalAveragePool", [x.name], Tensor(name, (*x.shape[:2], 1, 1)))

    def to_float(self, x: Tensor, name: str) -> Tensor:
        """Append a cast to float32."""
        return self.graph.append("Cast", [x.name], Tensor(name, x.shape), to=1)

    def transpose(self, x: Tensor, order: Sequence[int], name: str) -> Tensor:
        """Append a permutation of the axes."""
        shape = tuple(x.shape[axis] for axis in order)
        return self.graph.append("Transpose", [x.name], Tensor(name, shape, x.dtype), perm=list(order))

    def reshape(self, x: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
        """Append a reshape to a full static shape."""
        constant = self.graph.constant(f"{name}/shape", np.array(shape, np.int64))
        return self.graph.append("Reshape", [x.name, constant], Tensor(name, shape, x.dtype))

    def expand(self, x: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
        """Append the repetition of `x` along its axes of size 1, up to `shape`."""
        constant = self.graph.constant(f"{name}/shape", np.array(shape, np.int64))
        return self.graph.append("Expand", [x.name, constant], Tensor(name, shape, x.dtype))

    def concat(self, tensors: Sequence[Tensor], axis: int, name: str) -> Tensor:
        """Append a concatenation along `axis`."""
        shape = list(tensors[0].shape)
        shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        names = [tensor.name for tensor in tensors]
        return self.graph.append("Concat", names, Tensor(name, tuple(shape)), axis=axis)

    def _convolve(
        self,
        x: Tensor,
        name: str,
        weights_and_biases: tuple[NDArray[np.float32], NDArray[np.float32] | None],
        stride_dilation_groups: tuple[int, int, int],
        activation: Activation | None,
    ) -> Tensor:
        kernel_weights, biases = weights_and_biases
        stride, dilation, groups = stride_dilation_groups
        channels, group_channels, kernel, _ = kernel_weights.shape
        top, bottom, height = self._pad(x.shape[2], kernel, stride, dilation)
        left, right, width = self._pad(x.shape[3], kernel, stride, dilation)
        self.graph.multiply_adds += height * width * channels * group_channels * kernel * kernel
        inputs = [x.name, self.graph.constant(f"{name}/weights", kernel_weights)]
        if biases is not None:
            inputs.append(self.graph.constant(f"{name}/biases", biases))
        return self.graph.append(
            "Conv",
            inputs,
            Tensor(name if activation is None else f"{name}/linear", (1, channels, height, width)),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            dilations=[dilation, dilation],
            group=groups,
            pads=[top, left, bottom, right],
        )

    def _pad(self, size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int, int]:
        if self._padding == "same":
            return same_padding(size, kernel, stride, dilation)
        reach = (kernel - 1) * dilation
        return reach // 2, reach // 2, (size + reach // 2 * 2 - reach - 1) // stride + 1

    def _weight(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if name not in self._loaded:
            self.graph.weight_shapes[name] = shape
            self._loaded[name] = self._weights(name, shape)
        return self._loaded[name]


def _part_name(name: str, part: Channels) -> str:
    return name if part.stop - part.start == part.total else f"{name}/part_{part.start}"


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int, int]:
    """Return (before, after, output size) of TensorFlow's SAME padding along one axis.

    An odd total puts the larger half after: with stride 2 on an even size that is 0 before and 1 after,
    unlike the symmetric padding of other frameworks.
    """
    output = -(-size // stride)
    reach = (kernel - 1) * dilation + 1
    total = max((output - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2, output
