"""Which network a set of tensors is: architecture, classes and width, from names and shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError
from edge_mnv2.networks.anchors import anchors_per_cell
from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.networks.deeplabv3 import DeepLabSpec
from edge_mnv2.networks.graph import Padding
from edge_mnv2.networks.mobilenet_v2 import UNIT_SCALING, PixelScaling, last_channels
from edge_mnv2.networks.ssdlite import SsdLiteSpec
from edge_mnv2.networks.weight_sources import shapes_only
from edge_mnv2.zoo.architectures import Spec, architecture_of, build_network

# The widths that MobileNetV2 was published with; an imported file is one of them.
WIDTH_MULTIPLIERS = (1.0, 0.35, 0.5, 0.75, 1.3, 1.4)

_SSDLITE_HEAD = "heads/head_0/class/predict/biases"
_DEEPLAB_HEAD = "head/aspp0/biases"
_HEAD = "head/logits/biases"
_SIZES = {SsdLiteSpec: (300, 300), DeepLabSpec: (513, 513), ClassifierSpec: (224, 224)}


@dataclass(frozen=True, slots=True)
class Training:
    """What the shapes of tensors do not tell of a network.

    Attributes:
        size: (height, width) that it was trained for, None for its architecture's usual one.
        scaling: What its first layer sees.
        padding: How its convolutions are padded.
    """

    size: tuple[int, int] | None = None
    scaling: PixelScaling = UNIT_SCALING
    padding: Padding = "same"


def recognise(arrays: Mapping[str, NDArray[np.float32]], training: Training) -> Spec:
    """Find architecture, class count and width multiplier, and check every tensor.

    Raises:
        WeightsError: No network of a published width fits; tensors that are missing, left over or misshapen
            are named.
    """
    problems: list[str] = []
    candidates = list(_candidates(arrays, training))
    for spec in candidates:
        found = _differences(arrays, spec)
        if not found:
            return spec
        # The closest width is the one that the user means.
        problems = found if not problems or len(found) < len(problems) else problems
    if not candidates:
        raise WeightsError(
            f"The file holds no network that we know: after renaming, {_SSDLITE_HEAD} (SSDLite), "
            f"{_DEEPLAB_HEAD} (Mobile DeepLabv3) and {_HEAD} (classifier) are all missing."
        )
    title, classes = architecture_of(candidates[0]).title, candidates[0].classes
    raise WeightsError(
        f"{len(problems)} tensors do not fit a {title} of {classes} classes, for example: "
        + "; ".join(problems[:3])
        + "."
    )


def _candidates(arrays: Mapping[str, NDArray[np.float32]], training: Training) -> Iterator[Spec]:
    """Yield the specification of the network that the heads belong to, at every published width."""

    def size(spec_type: type[Spec]) -> tuple[int, int]:
        return training.size or _SIZES[spec_type]

    for width in WIDTH_MULTIPLIERS:
        if _SSDLITE_HEAD in arrays:
            classes = arrays[_SSDLITE_HEAD].size // anchors_per_cell(0)
            found_last = arrays.get("backbone/conv_1/biases", np.empty(0)).size
            is_usual = found_last in (0, last_channels(width))
            yield SsdLiteSpec(classes, size(SsdLiteSpec), width, None if is_usual else found_last)
        elif _HEAD in arrays and _DEEPLAB_HEAD in arrays:
            for multiple in (8, 1):
                yield DeepLabSpec(
                    arrays[_HEAD].size, size(DeepLabSpec), width, multiple, scaling=training.scaling
                )
        elif _HEAD in arrays:
            yield ClassifierSpec(
                arrays[_HEAD].size, size(ClassifierSpec), width, training.scaling, training.padding
            )


def _differences(arrays: Mapping[str, NDArray[np.float32]], spec: Spec) -> list[str]:
    needed = build_network(spec, shapes_only).weight_shapes
    return (
        [f"{name} is missing" for name in needed if name not in arrays]
        + [f"{name} is not part of the network" for name in arrays if name not in needed]
        + [
            f"{name} is {arrays[name].shape}, needed {shape}"
            for name, shape in needed.items()
            if name in arrays and arrays[name].shape != shape
        ]
    )
