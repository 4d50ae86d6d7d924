"""From another framework's file to our weights: read, rename, recognise the network, check, save."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import RequestError, WeightsError
from edge_mnv2.networks.anchors import anchors_per_cell
from edge_mnv2.networks.graph import shapes_only
from edge_mnv2.networks.mobilenet_v2 import last_channels
from edge_mnv2.networks.ssdlite import SsdLiteSpec, build_ssdlite
from edge_mnv2.zoo.archives import model_file
from edge_mnv2.zoo.importers.frozen_graph import read_frozen_graph
from edge_mnv2.zoo.importers.tensorflow_names import canonical_weights
from edge_mnv2.zoo.importers.tfjs import read_tfjs
from edge_mnv2.zoo.weights_file import save_weights

# The widths that MobileNetV2 was published with; an imported file is one of them.
WIDTH_MULTIPLIERS = (1.0, 0.35, 0.5, 0.75, 1.3, 1.4)


def import_model(
    source: Path, output: Path, labels: Mapping[int, str], size: tuple[int, int] = (300, 300)
) -> SsdLiteSpec:
    """Import a TensorFlow.js graph model or a TF frozen graph and write it as a weights file.

    Args:
        source: `model.json`, a `.pb` file, a directory, or a package archive holding one of them.
        output: The `.npz` to write.
        labels: Label by class id.
        size: (height, width) that the network was trained for.

    Returns:
        The network that was recognised.

    Raises:
        RequestError: There is no such file, or the labels do not fit the classes.
        WeightsError: The file is damaged, or not an SSDLite on MobileNetV2.
    """
    with model_file(source) as path:
        tensors: dict[str, NDArray[Any]] = (
            read_tfjs(path) if path.suffix == ".json" else dict(read_frozen_graph(path))
        )
        arrays = canonical_weights(tensors)
    spec = recognise(arrays, size)
    if labels and max(labels) >= spec.classes:
        raise RequestError(
            f"The labels go up to class {max(labels)}, the network has {spec.classes - 1} classes beside the "
            "background: pass the right file with --labels."
        )
    save_weights(output, spec, labels, arrays)
    return spec


def recognise(arrays: Mapping[str, NDArray[np.float32]], size: tuple[int, int]) -> SsdLiteSpec:
    """Find class count and width multiplier from the tensors' shapes, and check every one of them.

    Raises:
        WeightsError: No published width fits; tensors that are missing, left over or misshapen are named.
    """
    head = "heads/head_0/class/predict/biases"
    if head not in arrays:
        raise WeightsError(f"The file holds no SSDLite: {head} is missing after renaming.")
    classes = arrays[head].size // anchors_per_cell(0)
    found_last = arrays.get("backbone/conv_1/biases", np.empty(0)).size
    problems: list[str] = []
    for width_multiplier in WIDTH_MULTIPLIERS:
        is_usual = found_last in (0, last_channels(width_multiplier))
        spec = SsdLiteSpec(classes, size, width_multiplier, None if is_usual else found_last)
        found = _differences(arrays, spec)
        if not found:
            return spec
        # The closest width is the one that the user means.
        problems = found if not problems or len(found) < len(problems) else problems
    raise WeightsError(
        f"{len(problems)} tensors do not fit an SSDLite of {classes} classes, for example: "
        + "; ".join(problems[:3])
        + "."
    )


def _differences(arrays: Mapping[str, NDArray[np.float32]], spec: SsdLiteSpec) -> list[str]:
    needed = build_ssdlite(spec, shapes_only).graph.weight_shapes
    return (
        [f"{name} is missing" for name in needed if name not in arrays]
        + [f"{name} is not part of the network" for name in arrays if name not in needed]
        + [
            f"{name} is {arrays[name].shape}, needed {shape}"
            for name, shape in needed.items()
            if name in arrays and arrays[name].shape != shape
        ]
    )
