"""TensorFlow Lite files, float or quantised: weights under canonical names, ranges of activations, labels."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError
from edge_mnv2.zoo.archives import ARCHIVE_DAMAGE
from edge_mnv2.zoo.importers.folding import check_finite
from edge_mnv2.zoo.importers.tensorflow_names import canonical_scope
from edge_mnv2.zoo.importers.tflite_file import DAMAGE, Operator, TfliteFile, import_tflite

# Axes of a kernel there, in our order (O, I / groups, H, W): OHWI, and 1HWC for depthwise ones.
_KERNEL_AXES = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2), "FULLY_CONNECTED": (0, 1)}
# Our names of what these convolutions read, where no convolution has made it.
_INPUT_NAMES = {"backbone/conv": "image", "head/concat_projection": "head/concat"}
_ARITHMETIC = ("ADD", "SUB", "MUL", "DIV")

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class TfliteModel:
    """What a TensorFlow Lite file says about a network that we can build.

    Attributes:
        weights: `NAME/weights` (O, I / groups, k, k) and `NAME/biases` (O,), float32.
        ranges: Smallest and largest value of each quantised activation, its fused ReLU included, by the
            canonical name of the convolution that gives it, or BLOCK/add for the sum at the end of a
            bottleneck, `image` for the input and `head/concat` for what `head/concat_projection` reads. A
            network trained with these limits needs them. Empty for a float file.
        size: (height, width) of the input.
    """

    weights: dict[str, NDArray[np.float32]]
    ranges: dict[str, Range]
    size: tuple[int, int]


def read_tflite(path: Path) -> TfliteModel:
    """Read a TensorFlow Lite file, quantised weights turned back into real ones.

    Args:
        path: A `.tflite` file converted from TensorFlow 1, whose tensors still carry its scopes' names.

    Raises:
        RequestError: The package `tflite` is not installed.
        WeightsError: The file is damaged, holds another network, lost its names, or a weight is not finite.
    """
    schema = import_tflite()
    try:
        return _read(TfliteFile(schema, path.read_bytes()))
    except (OSError, *DAMAGE) as error:
        raise WeightsError(
            f"{path} is not a whole TensorFlow Lite file ({error!r}): download or convert it again."
        ) from error
    except WeightsError as error:
        raise WeightsError(f"{path} cannot be imported. {error}") from error


def read_tflite_labels(path: Path) -> list[str] | None:
    """Return the class names that came with a TensorFlow Lite file, first class first; None if none did.

    They lie in a text file inside a zip archive appended to the file.

    Raises:
        WeightsError: That archive is damaged, or holds several such files.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name for name in archive.namelist() if "label" in name.lower() and name.endswith(".txt")]
            texts = [archive.read(name).decode() for name in found]
    except (UnicodeDecodeError, *ARCHIVE_DAMAGE) as error:
        raise WeightsError(f"The labels inside {path} cannot be read: {error}.") from error
    if len(texts) > 1:
        raise WeightsError(f"{path} holds several files of labels: {', '.join(found)}.")
    return [line.strip() for line in texts[0].splitlines()] if texts else None


def _read(file: TfliteFile) -> TfliteModel:
    weights: dict[str, NDArray[np.float32]] = {}
    ranges: dict[str, Range] = {}
    names: dict[int, str] = {}  # of what convolutions and additions gave, by tensor
    size = (0, 0)
    unknown = []
    for operator in file.operators:
        if operator.kind in _KERNEL_AXES:
            name = _scope(file.name(operator.inputs[1]))
            if name is None:
                unknown.append(file.name(operator.inputs[1]))
                continue
            if f"{name}/weights" in weights:
                raise WeightsError(f"Two convolutions claim to be {name}.")
            weights[f"{name}/weights"], weights[f"{name}/biases"] = _convolution(file, operator)
            if name == "backbone/conv":
                _, height, width, _ = file.shape(operator.inputs[0])
                size = (height, width)
            if name in _INPUT_NAMES:
                _note_range(ranges, _INPUT_NAMES[name], file, operator.inputs[0])
        elif operator.kind in _ARITHMETIC and any(index in names for index in operator.inputs):
            name = _sum_name(file, operator, names)
        else:
            continue
        names[operator.outputs[0]] = name
        _note_range(ranges, name, file, operator.outputs[0], operator.bounds)
    _check_complete(weights, unknown)
    check_finite(weights)
    return TfliteModel(weights, ranges, size)


def _scope(name: str) -> str | None:
    """Return the canonical name of the convolution that a kernel of this name belongs to."""
    for part in name.split(";"):
        steps = part.split("/")
        # TensorFlow's own suffixes follow the scope: /Conv2D_Fold, /weights_quant/FakeQuantWithMinMaxVars
        for length in range(len(steps), 0, -1):
            found = canonical_scope("/".join(steps[:length]))
            if found is not None:
                return found
    return None


def _convolution(file: TfliteFile, operator: Operator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    kernel = file.constant(operator.inputs[1]).transpose(_KERNEL_AXES[operator.kind])
    if kernel.ndim == 2:  # fully connected: the 1x1 convolution of a single position
        kernel = kernel[:, :, None, None]
    has_bias = len(operator.inputs) > 2 and operator.inputs[2] >= 0
    bias = file.constant(operator.inputs[2]) if has_bias else np.zeros(kernel.shape[0], np.float32)
    return np.ascontiguousarray(kernel), bias


def _sum_name(file: TfliteFile, operator: Operator, names: dict[int, str]) -> str:
    """Return the name of a bottleneck's sum: its last convolution's, with `add` in place of `project`."""
    known = [names[index] for index in names if index in operator.inputs]
    constant = any(file.is_constant(index) for index in operator.inputs if index not in names)
    block, _, last = known[-1].rpartition("/")
    if operator.kind != "ADD" or constant or last != "project":
        raise WeightsError(
            f"An operator {operator.kind} follows {known[-1]}: batch norm must be folded into the "
            "convolutions, so convert the network again, frozen for inference."
        )
    return f"{block}/add"


def _note_range(
    ranges: dict[str, Range],
    name: str,
    file: TfliteFile,
    index: int,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> None:
    found = file.range(index)
    if found is not None:
        ranges[name] = (max(found[0], bounds[0]), min(found[1], bounds[1]))


def _check_complete(weights: dict[str, NDArray[np.float32]], unknown: list[str]) -> None:
    if "backbone/conv/weights" not in weights:
        what = f"Its first convolution is called {unknown[0]}" if unknown else "It holds no convolutions"
        raise WeightsError(
            f"{what}: it is not a MobileNetV2 of TensorFlow's making, or the converter lost its names, such "
            "as MobilenetV2/Conv. Convert the TensorFlow 1 graph itself."
        )
    if unknown:
        raise WeightsError(f"The convolution {unknown[0]} is not part of any network that we know.")
