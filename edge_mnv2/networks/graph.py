"""A thin builder of convolutional graphs with static shapes, from which ONNX is written.

It keeps the shape of every tensor, so padding follows TensorFlow's SAME rule and parameters and
multiply-adds are counted while the graph grows. Layout is NCHW, batch 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError

# Opset 13 is the first with per-channel QDQ and is read by TensorRT 8.6 and every ONNX Runtime we support.
_OPSET = 13
_IR_VERSION = 8

WeightSource = Callable[[str, tuple[int, ...]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor inside the graph: its name and its shape."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Node:
    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


def weights_from(arrays: Mapping[str, NDArray[Any]]) -> WeightSource:
    """Return a source that reads `arrays` and checks names and shapes.

    Raises (the source, when called):
        WeightsError: A tensor is missing or has another shape than this network needs.
    """

    def source(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if name not in arrays:
            raise WeightsError(f"The weights have no tensor {name}: they belong to another network.")
        array = np.asarray(arrays[name], np.float32)
        if array.shape != shape:
            raise WeightsError(f"Weight {name} has the shape {array.shape}, the network needs {shape}.")
        return array

    return source


def shapes_only(_: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Source that costs nothing: for counting, for shapes, for the names a network needs."""
    return np.broadcast_to(np.float32(0), shape)


def random_weights(seed: int) -> WeightSource:
    """Return a source of He-initialised weights (zero biases): any width and size can be built and timed."""
    generator = np.random.default_rng(seed)

    def source(_: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if len(shape) == 1:
            return np.zeros(shape, np.float32)
        scale = math.sqrt(2.0 / math.prod(shape[1:]))
        return (generator.standard_normal(shape) * scale).astype(np.float32)

    return source


class GraphBuilder:
    """Collects nodes and initialisers; every method that appends returns the new tensor.

    Attributes:
        parameters: Numbers held by convolutions so far: kernels and biases, batch norm folded in.
        multiply_adds: Multiply-adds of the convolutions so far, for one image. The paper counts the same
            way (MAdds, section 6.1): one multiplication with its addition is one.
        weight_shapes: Shape by canonical name of every weight that the graph asked for.
    """

    def __init__(self, weights: WeightSource) -> None:
        self.parameters = 0
        self.multiply_adds = 0
        self.weight_shapes: dict[str, tuple[int, ...]] = {}
        self._weights = weights
        self._nodes: list[_Node] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._inputs: list[tuple[Tensor, str]] = []
        self._outputs: list[Tensor] = []

    def input(self, name: str, shape: tuple[int, ...], dtype: str) -> Tensor:
        """Declare a graph input; `dtype` is numpy's name of it."""
        tensor = Tensor(name, shape)
        self._inputs.append((tensor, dtype))
        return tensor

    def output(self, x: Tensor, name: str) -> None:
        """Declare `x` a float32 graph output called `name`."""
        self._outputs.append(self._append("Identity", [x.name], Tensor(name, x.shape)))

    def conv(
        self,
        x: Tensor,
        name: str,
        channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        relu6: bool = True,
        bgr_to_rgb_scale: float | None = None,
    ) -> Tensor:
        """Append a convolution with bias, SAME padding and an optional ReLU6.

        Args:
            x: The input.
            name: Canonical name; its weights are `name/weights` (O, I, k, k) and `name/biases` (O,).
            channels: Output channels.
            kernel: Size of the square kernel.
            stride: Stride in both directions.
            dilation: Dilation in both directions.
            relu6: False for the paper's linear bottlenecks and for predictions.
            bgr_to_rgb_scale: For the first layer: the trained kernel sees RGB, this graph is fed BGR. The
                kernel's input channels are reversed and multiplied by this factor.
        """
        in_channels = x.shape[1]
        kernel_weights = self._weight(f"{name}/weights", (channels, in_channels, kernel, kernel))
        if bgr_to_rgb_scale is not None:
            kernel_weights = np.ascontiguousarray(kernel_weights[:, ::-1] * np.float32(bgr_to_rgb_scale))
        return self._convolve(x, name, kernel_weights, (stride, dilation, 1), relu6=relu6)

    def depthwise(self, x: Tensor, name: str, *, stride: int = 1, dilation: int = 1) -> Tensor:
        """Append a 3x3 depthwise convolution with bias and ReLU6 (section 3.1); weights are (C, 1, 3, 3)."""
        groups = x.shape[1]
        kernel_weights = self._weight(f"{name}/weights", (groups, 1, 3, 3))
        return self._convolve(x, name, kernel_weights, (stride, dilation, groups), relu6=True)

    def add(self, x: Tensor, y: Tensor, name: str) -> Tensor:
        """Append an element-wise sum: the shortcut between bottlenecks."""
        return self._append("Add", [x.name, y.name], Tensor(name, x.shape))

    def subtract(self, x: Tensor, value: float, name: str) -> Tensor:
        """Append the subtraction of one number."""
        return self._append(
            "Sub",
            [x.name, self._constant(f"{name}/value", np.float32(value))],
            Tensor(name, x.shape),
        )

    def global_average(self, x: Tensor, name: str) -> Tensor:
        """Append the mean over all positions: (1, C, H, W) to (1, C, 1, 1)."""
        return self._append("GlobalAveragePool", [x.name], Tensor(name, (*x.shape[:2], 1, 1)))

    def to_float(self, x: Tensor, name: str) -> Tensor:
        """Append a cast to float32."""
        return self._append("Cast", [x.name], Tensor(name, x.shape), to=1)

    def transpose(self, x: Tensor, order: Sequence[int], name: str) -> Tensor:
        """Append a permutation of the axes."""
        shape = tuple(x.shape[axis] for axis in order)
        return self._append("Transpose", [x.name], Tensor(name, shape), perm=list(order))

    def reshape(self, x: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
        """Append a reshape to a full static shape."""
        constant = self._constant(f"{name}/shape", np.array(shape, np.int64))
        return self._append("Reshape", [x.name, constant], Tensor(name, shape))

    def concat(self, tensors: Sequence[Tensor], axis: int, name: str) -> Tensor:
        """Append a concatenation along `axis`."""
        shape = list(tensors[0].shape)
        shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        names = [tensor.name for tensor in tensors]
        return self._append("Concat", names, Tensor(name, tuple(shape)), axis=axis)

    def to_onnx(self, name: str, description: str) -> bytes:
        """Serialise the graph as an ONNX model, checked by onnx itself."""
        import onnx
        from onnx import helper, numpy_helper

        types = {"uint8": onnx.TensorProto.UINT8, "float32": onnx.TensorProto.FLOAT}
        graph = helper.make_graph(
            [
                helper.make_node(node.op, node.inputs, [node.output], name=node.output, **node.attributes)
                for node in self._nodes
            ],
            name,
            [
                helper.make_tensor_value_info(tensor.name, types[dtype], tensor.shape)
                for tensor, dtype in self._inputs
            ],
            [
                helper.make_tensor_value_info(tensor.name, onnx.TensorProto.FLOAT, tensor.shape)
                for tensor in self._outputs
            ],
            [numpy_helper.from_array(array, key) for key, array in self._constants.items()],
            description,
        )
        model = helper.make_model(
            graph,
            producer_name="edge-mnv2",
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", _OPSET)],
        )
        onnx.checker.check_model(model)
        serialised: bytes = model.SerializeToString()
        return serialised

    def _convolve(
        self,
        x: Tensor,
        name: str,
        kernel_weights: NDArray[np.float32],
        stride_dilation_groups: tuple[int, int, int],
        *,
        relu6: bool,
    ) -> Tensor:
        stride, dilation, groups = stride_dilation_groups
        channels, group_channels, kernel, _ = kernel_weights.shape
        biases = self._weight(f"{name}/biases", (channels,))
        top, bottom, height = same_padding(x.shape[2], kernel, stride, dilation)
        left, right, width = same_padding(x.shape[3], kernel, stride, dilation)
        self.multiply_adds += height * width * channels * group_channels * kernel * kernel
        output = Tensor(f"{name}/linear" if relu6 else name, (1, channels, height, width))
        output = self._append(
            "Conv",
            [
                x.name,
                self._constant(f"{name}/weights", kernel_weights),
                self._constant(f"{name}/biases", biases),
            ],
            output,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            dilations=[dilation, dilation],
            group=groups,
            pads=[top, left, bottom, right],
        )
        if not relu6:
            return output
        bounds = [
            self._constant("relu6/min", np.float32(0.0)),
            self._constant("relu6/max", np.float32(6.0)),
        ]
        return self._append("Clip", [output.name, *bounds], Tensor(name, output.shape))

    def _weight(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        self.parameters += math.prod(shape)
        self.weight_shapes[name] = shape
        return self._weights(name, shape)

    def _constant(self, name: str, value: NDArray[Any] | np.float32) -> str:
        self._constants[name] = np.asarray(value)
        return name

    def _append(
        self, op: str, inputs: Sequence[str], output: Tensor, **attributes: int | list[int]
    ) -> Tensor:
        self._nodes.append(_Node(op, tuple(inputs), output.name, attributes))
        return output


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int, int]:
    """Return (before, after, output size) of TensorFlow's SAME padding along one axis.

    An odd total puts the larger half after: with stride 2 on an even size that is 0 before and 1 after,
    unlike the symmetric padding of other frameworks.
    """
    output = -(-size // stride)
    reach = (kernel - 1) * dilation + 1
    total = max((output - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2, output
