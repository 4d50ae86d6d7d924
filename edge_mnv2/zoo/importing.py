"""From another framework's file to our weights: read, rename, recognise the network, check, save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import RequestError
from edge_mnv2.networks.activation_statistics import ActivationStatistics, tensors_to_watch
from edge_mnv2.networks.mobilenet_v2 import IMAGENET_SCALING, PixelScaling
from edge_mnv2.networks.weight_sources import shapes_only
from edge_mnv2.zoo.architectures import Spec, architecture_of, build_network
from edge_mnv2.zoo.archives import model_file
from edge_mnv2.zoo.importers.frozen_graph import read_frozen_graph
from edge_mnv2.zoo.importers.state_dict import read_state_dict
from edge_mnv2.zoo.importers.tensorflow_names import canonical_weights
from edge_mnv2.zoo.importers.tfjs import read_tfjs
from edge_mnv2.zoo.importers.tflite import read_tflite, read_tflite_labels
from edge_mnv2.zoo.importers.torchvision_names import canonical_torchvision
from edge_mnv2.zoo.labels import Labels, default_labels
from edge_mnv2.zoo.model import Variant, vary
from edge_mnv2.zoo.ranges_file import TRAINED, ActivationRanges, beside, remove_foreign, save_ranges
from edge_mnv2.zoo.recognise import Training, recognise
from edge_mnv2.zoo.weights_file import load_weights, save_weights

_HEAD = ("head/logits/weights", "head/logits/biases")
_WITH_BACKGROUND = 1001


@dataclass(frozen=True, slots=True)
class _Imported:
    """What a file of another framework holds.

    Attributes:
        arrays: Weights by canonical name.
        training: What their shapes do not tell.
        labels: Those inside the file, None without any.
        ranges: What its quantised activations can hold, by name; empty for a float file.
        may_have_background: Whether a classifier of this framework may count a background as its first class.
    """

    arrays: dict[str, NDArray[np.float32]]
    training: Training = field(default_factory=Training)
    labels: Labels | None = None
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    may_have_background: bool = True


def import_model(
    source: Path, output: Path, labels: Labels | None, size: tuple[int, int] | None = None
) -> Spec:
    """Import a trained network from another framework's file and write it as a weights file.

    Args:
        source: A TensorFlow.js `model.json`, a TF frozen graph (`.pb`), a `.tflite`, a PyTorch state dict of
            torchvision's MobileNetV2 (`.pth`, `.pt`), a directory, or a package archive holding one of them.
        output: The `.npz` to write.
        labels: The classes; None for those in the file, else the usual ones of COCO, VOC or ImageNet.
        size: (height, width) that the network was trained for; None for the usual one.

    Returns:
        The network that was recognised.

    Raises:
        RequestError: There is no such file, or the labels do not fit the classes.
        WeightsError: The file is damaged, or holds no network that we know.
    """
    with model_file(source) as path:
        imported = _read(path)
    spec = vary(recognise(imported.arrays, imported.training), Variant(size))
    labels = labels or imported.labels or default_labels(spec)
    arrays = imported.arrays
    if imported.may_have_background and spec.classes == labels.lines + 1 == _WITH_BACKGROUND:
        # TensorFlow's own classifiers have a background before ImageNet's classes, which no picture is of.
        arrays = {**arrays, **{name: arrays[name][1:] for name in _HEAD}}
        spec = replace(spec, classes=labels.lines)
    _check_labels(labels, spec)
    save_weights(output, spec, labels.by_class(first=int(architecture_of(spec).has_background)), arrays)
    _save_trained_ranges(output, spec, imported.ranges)
    return spec


def _read(path: Path) -> _Imported:
    match path.suffix.lower():
        case ".json":
            return _Imported(canonical_weights(read_tfjs(path)))
        case ".tflite":
            model = read_tflite(path)
            names = read_tflite_labels(path) or []
            if names[:1] == ["background"]:
                names = names[1:]
            labels = Labels(tuple(names), path) if names else None
            return _Imported(
                model.weights, Training(model.size, _scaling(model.ranges)), labels, model.ranges
            )
        case ".pth" | ".pt":
            arrays = canonical_torchvision(read_state_dict(path))
            training = Training(scaling=IMAGENET_SCALING, padding="symmetric")
            return _Imported(arrays, training, may_have_background=False)
        case _:
            return _Imported(canonical_weights(read_frozen_graph(path)))


def _scaling(ranges: Mapping[str, tuple[float, float]]) -> PixelScaling:
    """Return how a quantised network reads its bytes: 0 is its smallest input value, 255 the largest."""
    if "image" not in ranges:
        return Training().scaling
    low, high = ranges["image"]
    deviation = 255 / (high - low)
    return PixelScaling((-low * deviation,) * 3, (deviation,) * 3)


def _save_trained_ranges(output: Path, spec: Spec, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Write the ranges that a network was trained with beside its weights; remove those of other weights."""
    digest, path = load_weights(output).digest, beside(output)
    if not ranges:
        remove_foreign(path, digest)
        return
    graph = build_network(spec, shapes_only)
    # Such files say nothing of a mean: it is stored like what it is the mean of.
    averaged = {node.output: node.inputs[0] for node in graph.nodes if node.op == "GlobalAveragePool"}
    sources = {tensor.name: averaged.get(tensor.name, tensor.name) for tensor in tensors_to_watch(graph)}
    statistics = {
        name: ActivationStatistics(*ranges[source]) for name, source in sources.items() if source in ranges
    }
    save_ranges(path, ActivationRanges(digest, TRAINED, 0, statistics))


def _check_labels(labels: Labels, spec: Spec) -> None:
    architecture = architecture_of(spec)
    classes = spec.classes - int(architecture.has_background)
    if labels.lines != classes:
        beside = " beside the background" if architecture.has_background else ""
        raise RequestError(
            f"{labels.path} has {labels.lines} lines, the network has {classes} classes{beside}: pass the "
            "right file with --labels, one label per line, - for a number without a class."
        )
