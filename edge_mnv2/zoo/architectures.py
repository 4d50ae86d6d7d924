"""The networks that weights may belong to: each one's name in files, its task, and how its graph is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from edge_mnv2.networks.classifier import ClassifierSpec, build_classifier
from edge_mnv2.networks.deeplabv3 import DeepLabSpec, build_deeplabv3
from edge_mnv2.networks.graph import Graph
from edge_mnv2.networks.mobilenet_v2 import PixelScaling
from edge_mnv2.networks.ssdlite import SsdLiteSpec, build_ssdlite
from edge_mnv2.networks.weight_sources import WeightSource

Task = Literal["detect", "segment", "classify"]
Spec = SsdLiteSpec | DeepLabSpec | ClassifierSpec


@dataclass(frozen=True, slots=True)
class Architecture:
    """One kind of network.

    Attributes:
        name: As in weights files and on the command line.
        title: As in tables.
        task: What it does.
        spec_type: Type of its specification.
        build: Builds its graph from a specification, weights, and the number of channel groups that each
            block is split into.
        has_background: Whether class 0 is the background.
        default_classes: Classes of an untrained one, the background included.
    """

    name: str
    title: str
    task: Task
    spec_type: type[Spec]
    build: Callable[[Any, WeightSource, int], Graph]
    has_background: bool
    default_classes: int


ARCHITECTURES = (
    Architecture("ssdlite", "SSDLite", "detect", SsdLiteSpec, build_ssdlite, True, 91),
    Architecture("deeplabv3", "Mobile DeepLabv3", "segment", DeepLabSpec, build_deeplabv3, True, 21),
    Architecture("classifier", "classifier", "classify", ClassifierSpec, build_classifier, False, 1000),
)


def architecture_of(spec: Spec) -> Architecture:
    """Return the architecture that a specification belongs to."""
    return next(entry for entry in ARCHITECTURES if entry.spec_type is type(spec))


def architecture_named(name: str) -> Architecture | None:
    """Return the architecture of this name, None where there is none."""
    return next((entry for entry in ARCHITECTURES if entry.name == name), None)


def build_network(spec: Spec, weights: WeightSource, split: int = 1) -> Graph:
    """Build the graph of a specification; see `mobilenet_v2.inverted_residual` for `split`."""
    return architecture_of(spec).build(spec, weights, split)


def spec_from_json(architecture: Architecture, values: dict[str, Any]) -> Spec:
    """Return the specification that `dataclasses.asdict` made these values of, as JSON gives them back.

    Raises:
        KeyError, TypeError: A value is missing or of the wrong type.
    """
    values = {**values, "size": tuple(values["size"])}
    if "scaling" in values:
        values["scaling"] = PixelScaling(**{key: tuple(row) for key, row in values["scaling"].items()})
    return architecture.spec_type(**values)
