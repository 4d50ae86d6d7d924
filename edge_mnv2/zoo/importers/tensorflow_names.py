"""From TensorFlow's variables to our canonical weights: names, axes, and batch norm folded away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError
from edge_mnv2.zoo.importers.folding import check_finite, scale_and_bias

# slim's batch norm constant, which the object detection API and every MobileNetV2 backbone share.
BATCH_NORM_EPSILON = 0.001
# DeepLab sets its own for the head.
HEAD_EPSILON = 1e-5

_SCOPES = (
    (r"(?:FeatureExtractor/)?MobilenetV2/Conv", r"backbone/conv"),
    (r"(?:FeatureExtractor/)?MobilenetV2/Conv_1", r"backbone/conv_1"),
    (
        r"(?:FeatureExtractor/)?MobilenetV2/(expanded_conv(?:_\d+)?)/(expand|depthwise|project)",
        r"backbone/\1/\2",
    ),
    (
        r"FeatureExtractor/MobilenetV2/layer_19_1_Conv2d_(\d)_1x1_\d+",
        r"extras/extra_\1/reduce",
    ),
    (
        r"FeatureExtractor/MobilenetV2/layer_19_2_Conv2d_(\d)_3x3_s2_\d+_depthwise",
        r"extras/extra_\1/depthwise",
    ),
    (
        r"FeatureExtractor/MobilenetV2/layer_19_2_Conv2d_(\d)_3x3_s2_\d+",
        r"extras/extra_\1/pointwise",
    ),
    (r"BoxPredictor_(\d)/BoxEncodingPredictor_depthwise", r"heads/head_\1/box/depthwise"),
    (r"BoxPredictor_(\d)/BoxEncodingPredictor", r"heads/head_\1/box/predict"),
    (r"BoxPredictor_(\d)/ClassPredictor_depthwise", r"heads/head_\1/class/depthwise"),
    (r"BoxPredictor_(\d)/ClassPredictor", r"heads/head_\1/class/predict"),
    (r"(aspp0|image_pooling|concat_projection)", r"head/\1"),
    (r"logits/semantic", r"head/logits"),
    (r"MobilenetV2/Logits/Conv2d_1c_1x1", r"head/logits"),
)
_KERNELS = ("weights", "depthwise_weights", "Conv2D/merged_input")
# (bias, factor) under BatchNorm/ where the TensorFlow.js converter has folded it: one pair for each kind of
# batch norm that the graph was trained with.
_FOLDED_NORMS = (
    ("batchnorm/sub", "batchnorm/mul"),
    ("FusedBatchNorm/Offset", "FusedBatchNorm/Scaled"),
    ("FusedBatchNormV3/Offset", "FusedBatchNormV3/Scaled"),
)
# TensorFlow counts its extra layers from 2: the first two feature maps are the backbone's.
_FIRST_EXTRA = 2


def canonical_weights(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Fold batch norm and return every convolution under its canonical name.

    Args:
        tensors: Variables of a TensorFlow.js graph model or a frozen graph, by their names there.

    Returns:
        `NAME/weights` (O, I / groups, k, k) and `NAME/biases` (O,), float32.

    Raises:
        WeightsError: There is no MobileNetV2 in it, a convolution lacks its bias or batch norm, or a weight
            is not finite.
    """
    folded: dict[str, NDArray[np.float32]] = {}
    unknown = []
    for name, tensor in tensors.items():
        scope, kernel = _split_kernel(name)
        canonical = canonical_scope(scope) if kernel else None
        if canonical is None:
            if kernel and np.ndim(tensor) == 4:
                unknown.append(scope)
            continue
        if np.ndim(tensor) != 4:
            raise WeightsError(f"{name} has {np.ndim(tensor)} dimensions: a kernel has 4.")
        try:
            weights, biases = _fold(tensors, scope, np.asarray(tensor, np.float32))
        except (KeyError, ValueError) as error:
            raise WeightsError(f"The batch norm of {scope} is incomplete or misshapen: {error}.") from error
        # HWIO to OIHW; a depthwise kernel is (H, W, C, 1) there and (C, 1, H, W) here.
        axes = (2, 3, 0, 1) if kernel == "depthwise_weights" else (3, 2, 0, 1)
        folded[f"{canonical}/weights"] = np.ascontiguousarray(weights.transpose(axes))
        folded[f"{canonical}/biases"] = biases
    if "backbone/conv/weights" not in folded:
        raise WeightsError(
            "There is no MobilenetV2/Conv in this file: it is not a MobileNetV2 of TensorFlow's making."
        )
    if unknown:
        raise WeightsError(
            f"{len(unknown)} convolutions are not part of any network that we know, for example {unknown[0]}."
        )
    check_finite(folded)
    return folded


def canonical_scope(scope: str) -> str | None:
    """Return our name of a TensorFlow scope, or None where the scope is not part of a network we know."""
    for pattern, name in _SCOPES:
        match = re.fullmatch(pattern, scope)
        if match:
            canonical = match.expand(name)
            return re.sub(r"extra_(\d)", lambda m: f"extra_{int(m[1]) - _FIRST_EXTRA}", canonical)
    return None


def _split_kernel(name: str) -> tuple[str, str | None]:
    for kernel in _KERNELS:
        if name.endswith(f"/{kernel}"):
            return name.removesuffix(f"/{kernel}"), kernel
    return name, None


def _fold(
    tensors: Mapping[str, NDArray[Any]], scope: str, kernel: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the kernel, still in TensorFlow's axes, and the bias, after folding the scope's batch norm."""
    norm = f"{scope}/BatchNorm"
    if f"{norm}/moving_variance" in tensors:
        is_head = (canonical_scope(scope) or "").startswith("head/")
        scale, bias = scale_and_bias(
            tensors.get(f"{norm}/gamma"),  # left out by models trained without it
            tensors[f"{norm}/beta"],
            tensors[f"{norm}/moving_mean"],
            tensors[f"{norm}/moving_variance"],
            HEAD_EPSILON if is_head else BATCH_NORM_EPSILON,
        )
        return _scaled(kernel, scale), bias
    for sub, mul in _FOLDED_NORMS:
        if f"{norm}/{sub}" in tensors:
            scale = np.asarray(tensors.get(f"{norm}/{mul}", np.ones(1)))
            return _scaled(kernel, scale), np.asarray(tensors[f"{norm}/{sub}"], np.float32)
    if f"{scope}/biases" in tensors:
        return kernel, np.asarray(tensors[f"{scope}/biases"], np.float32)
    raise WeightsError(f"The convolution {scope} has neither batch norm nor biases in this file.")


def _scaled(kernel: NDArray[np.float32], scale: NDArray[Any]) -> NDArray[np.float32]:
    """Multiply a kernel by one factor per output channel: the last axis, or the third if depthwise."""
    if kernel.shape[3] == 1 and kernel.shape[2] == scale.size:
        scale = scale[:, None]
    return np.asarray(kernel * scale, np.float32)
