"""From torchvision's MobileNetV2 to our canonical weights: names, and batch norm folded away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError
from edge_mnv2.zoo.importers.folding import check_finite, scale_and_bias

# PyTorch's batch norm constant, which torchvision leaves alone.
BATCH_NORM_EPSILON = 1e-5

# 17 bottlenecks lie between the first convolution and the last; the first of them has no expansion.
_LAST_BLOCK = 17
_EXPANDED = (("expand", "conv.0.0", "conv.0.1"), ("depthwise", "conv.1.0", "conv.1.1"))
_NOT_EXPANDED = (("depthwise", "conv.0.0", "conv.0.1"),)
_HEAD = "classifier.1"


def canonical_torchvision(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Fold batch norm and return every convolution under its canonical name.

    Args:
        tensors: State dict of a `torchvision.models.mobilenet_v2` of any width, by its names there.

    Returns:
        `NAME/weights` (O, I / groups, k, k) and `NAME/biases` (O,), float32.

    Raises:
        WeightsError: It is another network's, a tensor is missing or misshapen, or a weight is not finite.
    """
    if "features.0.0.weight" not in tensors or f"{_HEAD}.weight" not in tensors:
        first = next(iter(tensors), "nothing at all")
        raise WeightsError(
            f"These are not the weights of torchvision's mobilenet_v2: features.0.0.weight or {_HEAD}.weight "
            f"is missing; the first tensor is {first}."
        )
    folded: dict[str, NDArray[np.float32]] = {}
    for name, convolution, norm in _convolutions():
        kernel = _tensor(tensors, f"{convolution}.weight", 4)
        channels = kernel.shape[0]
        gamma, beta, mean, variance = (
            _tensor(tensors, f"{norm}.{part}", 1, channels)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale, bias = scale_and_bias(gamma, beta, mean, variance, BATCH_NORM_EPSILON)
        folded[f"{name}/weights"] = np.asarray(kernel * scale[:, None, None, None], np.float32)
        folded[f"{name}/biases"] = bias
    head = _tensor(tensors, f"{_HEAD}.weight", 2)
    folded["head/logits/weights"] = head[:, :, None, None]
    folded["head/logits/biases"] = _tensor(tensors, f"{_HEAD}.bias", 1, head.shape[0])
    _check_nothing_left(tensors)
    check_finite(folded)
    return folded


def _convolutions() -> list[tuple[str, str, str]]:
    """Return the canonical name of every convolution, and torchvision's of it and of its batch norm."""
    found = [("backbone/conv", "features.0.0", "features.0.1")]
    for index in range(_LAST_BLOCK):
        ours = "backbone/expanded_conv" + (f"_{index}" if index else "")
        theirs = f"features.{index + 1}"
        wide = _EXPANDED if index else _NOT_EXPANDED
        found += [(f"{ours}/{part}", f"{theirs}.{conv}", f"{theirs}.{norm}") for part, conv, norm in wide]
        last = len(wide)
        found.append((f"{ours}/project", f"{theirs}.conv.{last}", f"{theirs}.conv.{last + 1}"))
    last_block = f"features.{_LAST_BLOCK + 1}"
    return [*found, ("backbone/conv_1", f"{last_block}.0", f"{last_block}.1")]


def _tensor(
    tensors: Mapping[str, NDArray[Any]], name: str, axes: int, channels: int | None = None
) -> NDArray[np.float32]:
    if name not in tensors:
        raise WeightsError(f"The tensor {name} of torchvision's mobilenet_v2 is missing.")
    tensor = np.asarray(tensors[name], np.float32)
    if tensor.ndim != axes or channels not in (None, tensor.shape[0]):
        needed = f"{axes} axes" if channels is None else f"the shape ({channels},)"
        raise WeightsError(f"The tensor {name} has the shape {tensor.shape}, and needs {needed}.")
    return tensor


def _check_nothing_left(tensors: Mapping[str, NDArray[Any]]) -> None:
    layers = {_HEAD} | {layer for _, convolution, norm in _convolutions() for layer in (convolution, norm)}
    for name in tensors:
        if name.rpartition(".")[0] not in layers:
            raise WeightsError(f"The tensor {name} is not part of torchvision's mobilenet_v2.")
