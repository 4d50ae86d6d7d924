"""A model by name or path: its weights, its network, its decoder."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_mnv2.errors import RequestError
from edge_mnv2.files import expand_user
from edge_mnv2.networks.base import Network
from edge_mnv2.networks.classifier import TOP_K, Classifier, ClassifierSpec
from edge_mnv2.networks.deeplabv3 import DeepLab, DeepLabSpec
from edge_mnv2.networks.mobilenet_v2 import MIN_SIZE, OUTPUT_STRIDES
from edge_mnv2.networks.ssdlite import SsdLite, SsdLiteSpec
from edge_mnv2.zoo.architectures import Architecture, Spec, Task, architecture_of
from edge_mnv2.zoo.cache import fetched_weights
from edge_mnv2.zoo.catalogue import ModelCard, find_card
from edge_mnv2.zoo.labels import DATA_DIR
from edge_mnv2.zoo.weights_file import WeightsFile, load_weights

_MAX_SIZE = 4096
_MIN_WIDTH, _MAX_WIDTH = 0.1, 4.0
# A class map has 8 bits, one of them is the background.
_MAX_CLASSES = {"detect": 10_000, "segment": 255, "classify": 100_000}
# More would bury the message: ImageNet has a thousand.
_MOST_SHOWN = 25


@dataclass(frozen=True, slots=True)
class Model:
    """Trained weights with the name that they were asked for.

    Attributes:
        name: Catalogue name, or the stem of the user's own file.
        given: What it was asked for by, for commands in messages: catalogue name or path.
        path: Of the weights file.
        weights: The weights and the network that they were trained in.
        spec: The network as it is used: the trained one, at another input size or output stride if wanted.
    """

    name: str
    given: str
    path: Path
    weights: WeightsFile
    spec: Spec

    @property
    def command_words(self) -> str:
        """What names this model, and its variant, on the command line."""
        words = [str(self.given)]
        if self.spec.size != self.weights.spec.size:
            words.append(f"--input-size {self.spec.size[1]}x{self.spec.size[0]}")
        stride = getattr(self.spec, "output_stride", None)
        if stride != getattr(self.weights.spec, "output_stride", None):
            words.append(f"--output-stride {stride}")
        return " ".join(words)

    @property
    def task(self) -> Task:
        """What the model does."""
        return architecture_of(self.spec).task

    @property
    def labels(self) -> dict[int, str]:
        """Label by class id, without the background."""
        return self.weights.labels

    @property
    def classes(self) -> dict[int, str]:
        """Label by class id, numbers where the model has no labels."""
        first = int(architecture_of(self.spec).has_background)
        return self.labels or {number: str(number) for number in range(first, self.spec.classes)}


@dataclass(frozen=True, slots=True)
class Variant:
    """How a trained network is used differently from its training; None keeps what the weights file says.

    Attributes:
        size: (height, width) of the input.
        output_stride: Of a segmentation.
    """

    size: tuple[int, int] | None = None
    output_stride: int | None = None


@dataclass(frozen=True, slots=True)
class DecoderOptions:
    """What of the network's answer is reported.

    Attributes:
        threshold: Smallest score reported; None for 0.5 in detection, and for no limit in classification.
        classes: Labels or numbers of the classes to report; None for all.
        top_k: Most classes that a classification reports; None for 5.
        masks: Whether a segmentation has the frame's own resolution, and records carry its masks.
    """

    threshold: float | None = None
    classes: Collection[str] | None = None
    top_k: int | None = None
    masks: bool = False


def weights_path(card: ModelCard) -> Path | None:
    """Return where the weights of a catalogue model lie on this device, None if they must be fetched."""
    path = DATA_DIR / card.embedded if card.embedded else fetched_weights(card.name)
    return path if os.path.isfile(path) else None  # noqa: PTH113 - never raises


def load_model(name: str, variant: Variant | None = None) -> Model:
    """Load a catalogue model, or a weights file by its path.

    Raises:
        UnknownModelError: Neither exists.
        RequestError: The model must be fetched first, or has no such variant.
        WeightsError: Its file is damaged.
    """
    given = name
    if name.endswith(".npz"):
        path = expand_user(name)
        if not path.is_file():
            raise RequestError(f"There is no weights file {path}: check the path given with --model.")
        name = path.stem
    else:
        card = find_card(name)
        found = weights_path(card)
        if found is None:
            raise RequestError(f"{name} is not on this device yet: edge-mnv2 models fetch {name}")
        path = found
    weights = load_weights(path)
    return Model(name, given, path, weights, vary(weights.spec, variant or Variant()))


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of `640x480`; one number stands for a square.

    Raises:
        RequestError: It is no size.
    """
    sides = [side.strip() for side in text.lower().split("x")]
    if len(sides) > 2 or not all(side.isdecimal() and len(side) <= 5 for side in sides):
        raise RequestError(f"A size is WIDTHxHEIGHT, such as 513x289, or one number, not {text[:40]!r}.")
    return int(sides[-1]), int(sides[0])


def untrained_spec(architecture: Architecture, width: float | None, classes: int | None) -> Spec:
    """Return the specification of an untrained network.

    Args:
        architecture: Which network.
        width: Its width multiplier, None for 1.
        classes: How many, without the background; None for the usual number.

    Raises:
        RequestError: The width or the number of classes is out of range.
    """
    width = 1.0 if width is None else width
    if not _MIN_WIDTH <= width <= _MAX_WIDTH:
        raise RequestError(f"The width must lie between {_MIN_WIDTH:g} and {_MAX_WIDTH:g}, not {width:g}.")
    most = _MAX_CLASSES[architecture.task]
    if classes is not None and not 1 <= classes <= most:
        raise RequestError(f"The number of classes must lie between 1 and {most}, not {classes}.")
    background = int(architecture.has_background)
    total = architecture.default_classes if classes is None else classes + background
    return architecture.spec_type(classes=total, width_multiplier=width)


def vary(spec: Spec, variant: Variant) -> Spec:
    """Return a specification with another input size or output stride.

    Raises:
        RequestError: The network cannot be built so.
    """
    if variant.size is not None:
        if not all(MIN_SIZE <= side <= _MAX_SIZE for side in variant.size):
            height, width = variant.size
            raise RequestError(
                f"The input size {width}x{height} cannot be: a side has {MIN_SIZE} to {_MAX_SIZE} pixels."
            )
        spec = replace(spec, size=variant.size)
    if variant.output_stride is not None:
        if not isinstance(spec, DeepLabSpec):
            raise RequestError("Only a segmentation (deeplabv3) has an output stride to choose.")
        if variant.output_stride not in OUTPUT_STRIDES:
            raise RequestError(f"The output stride must be 8, 16 or 32, not {variant.output_stride}.")
        spec = replace(spec, output_stride=variant.output_stride)
    return spec


def make_network(model: Model, options: DecoderOptions | None = None) -> Network[Any]:
    """Return the model's preparation and decoding.

    Raises:
        RequestError: The threshold is out of range, a class is unknown, or an option is another task's.
    """
    options = options or DecoderOptions()
    threshold = options.threshold
    if threshold is not None and not 0 < threshold < 1:
        raise RequestError(f"The threshold must lie between 0 and 1, not {threshold:g}.")
    if options.masks and model.task != "segment":
        raise RequestError(f"{model.name} does not segment: it has no masks.")
    if options.top_k is not None and model.task != "classify":
        raise RequestError(f"{model.name} does not classify: it has no best classes to count.")
    wanted = None
    if options.classes is not None:
        wanted = _class_ids(model, options.classes)
        if not wanted:
            raise RequestError("The list of classes is empty: leave it out to have all reported.")
    match model.spec:
        case SsdLiteSpec():
            reported = sorted(model.classes) if wanted is None else wanted
            return SsdLite(model.spec, reported, 0.5 if threshold is None else threshold)
        case DeepLabSpec():
            return DeepLab(model.spec, wanted, at_frame_resolution=options.masks)
        case ClassifierSpec():
            return Classifier(model.spec, wanted, threshold or 0.0, options.top_k or TOP_K)


def _class_ids(model: Model, names: Collection[str]) -> list[int]:
    """Return the classes of these labels, several where one is given twice, or of these numbers.

    Raises:
        RequestError: There are none such; it names all of them, and the nearest that there are.
    """
    known, found, unknown, near = model.classes, set[int](), list[str](), list[str]()
    labels = {label.lower(): label for label in known.values()}
    for name in names:
        wanted = name.strip().lower()
        ids = [class_id for class_id, label in known.items() if wanted == label.lower()]
        ids = ids or [class_id for class_id in known if wanted == str(class_id)]
        found.update(ids)
        if not ids:
            unknown.append(repr(name))
            near += [labels[label] for label in difflib.get_close_matches(wanted, labels, n=2)]
    if unknown:
        hint = f"Did you mean {' or '.join(dict.fromkeys(near))}? " if near else ""
        every = f"It has: {', '.join(known.values())}."
        if len(known) > _MOST_SHOWN:
            every = f"List them: edge-mnv2 models info {model.given}"
        raise RequestError(f"{model.name} has no class {', '.join(unknown)}. {hint}{every}")
    return sorted(found)
