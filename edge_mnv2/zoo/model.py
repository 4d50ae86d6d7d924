"""A model by name or path: its weights, its graph on disk, its decoder."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_mnv2 import networks
from edge_mnv2.errors import CacheError, RequestError, RunError
from edge_mnv2.files import expand_user, write_atomically
from edge_mnv2.networks.classifier import ClassifierSpec, build_classifier, build_features
from edge_mnv2.networks.graph import shapes_only, weights_from
from edge_mnv2.networks.ssdlite import SsdLite, SsdLiteGraph, SsdLiteSpec, build_ssdlite
from edge_mnv2.zoo.cache import fetched_weights, graph_path
from edge_mnv2.zoo.catalogue import (
    CLASSIFIER_PAPER,
    DATA_DIR,
    SSDLITE_PAPER,
    ModelCard,
    PaperFigures,
    find_card,
)
from edge_mnv2.zoo.labels import read_labels
from edge_mnv2.zoo.weights_file import WeightsFile, load_weights

PRECISIONS = ("auto", "fp32")

# A detector for fewer classes has fewer parameters than the paper's.
_COCO_CLASSES = 80

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Model:
    """Trained weights with the name that they were asked for.

    Attributes:
        name: Catalogue name, or the stem of the user's own file.
        task: `detect`.
        weights: The weights and the network they belong to.
    """

    name: str
    task: str
    weights: WeightsFile

    @property
    def spec(self) -> SsdLiteSpec:
        """The network."""
        return self.weights.spec

    @property
    def labels(self) -> dict[int, str]:
        """Label by class id."""
        return self.weights.labels


def weights_path(card: ModelCard) -> Path | None:
    """Return where the weights of a catalogue model lie on this device, None if they must be fetched."""
    path = DATA_DIR / card.embedded if card.embedded else fetched_weights(card.name)
    return path if os.path.isfile(path) else None  # noqa: PTH113 - never raises


def load_model(name: str) -> Model:
    """Load a catalogue model, or a weights file by its path.

    Raises:
        UnknownModelError: Neither exists.
        RequestError: The model must be fetched first.
        WeightsError: Its file is damaged.
    """
    if name.endswith(".npz"):
        path = expand_user(name)
        if not path.is_file():
            raise RequestError(f"There is no weights file {path}: check the path given with --model.")
        return Model(path.stem, "detect", load_weights(path))
    card = find_card(name)
    found = weights_path(card)
    if found is None:
        raise RequestError(f"{name} is not on this device yet: edge-mnv2 models fetch {name}")
    return Model(card.name, card.task, load_weights(found))


def make_network(
    model: Model, score_threshold: float = 0.5, classes: Collection[str] | None = None
) -> SsdLite:
    """Return the model's preparation and decoding.

    Args:
        model: The model.
        score_threshold: Smallest score reported, inside (0, 1).
        classes: Labels or numbers of the classes to report; None for all that have a label.

    Raises:
        RequestError: The threshold is out of range, or a class is unknown.
    """
    if not 0 < score_threshold < 1:
        raise RequestError(f"The threshold must lie between 0 and 1, not {score_threshold:g}.")
    known = model.labels or {number: str(number) for number in range(1, model.spec.classes)}
    class_ids = sorted(known) if classes is None else [_class_id(known, name) for name in classes]
    maps = _shape_of(model.spec).feature_maps
    return SsdLite(maps, model.spec, class_ids, score_threshold)


def build_graph(model: Model, precision: str = "fp32") -> bytes:
    """Return the model's ONNX graph with its weights inside.

    Raises:
        RequestError: The precision is unknown.
        WeightsError: The weights do not fit the network.
    """
    if precision not in PRECISIONS:
        raise RequestError(f"There is no precision {precision!r}: choose one of {', '.join(PRECISIONS)}.")
    built = build_ssdlite(model.spec, weights_from(model.weights.arrays()))
    return built.graph.to_onnx(model.name.replace("-", "_"), f"{model.name}, edge-mnv2, fp32")


def ensure_graph(model: Model, precision: str = "fp32", *, rebuild: bool = False) -> Path:
    """Return the path of the model's graph, built on first use and kept in the cache.

    Args:
        model: The model.
        precision: One of `PRECISIONS`.
        rebuild: Build it even if it is there: the caller found it damaged.

    Raises:
        RequestError: The precision is unknown.
        CacheError: The cache cannot be written.
    """
    path = graph_path(f"{model.name}-{model.weights.digest[:12]}-{_graph_revision()}-fp32")
    if not rebuild and precision in PRECISIONS and _is_whole(path):
        return path
    serialised = build_graph(model, precision)
    try:
        write_atomically(path, serialised)
        write_atomically(_digest_path(path), hashlib.sha256(serialised).hexdigest().encode())
    except OSError as error:
        raise CacheError(f"The cache cannot be written ({error}).") from error
    return path


def _digest_path(graph: Path) -> Path:
    return graph.with_suffix(".sha256")


def _is_whole(graph: Path) -> bool:
    """Return whether a graph is in the cache as it was built: damage in it would be silent, wrong results."""
    try:
        return hashlib.sha256(graph.read_bytes()).hexdigest() == _digest_path(graph).read_text()
    except (OSError, UnicodeDecodeError):
        return False


@contextmanager
def graph_file(model: Model, precision: str, *, rebuild: bool = False) -> Iterator[Path]:
    """Yield the path of the model's graph for as long as an engine needs to read it.

    A cache that cannot be written costs time at every start, not the run: the graph is then a temporary file.

    Raises:
        RequestError: The precision is unknown.
        RunError: There is no room for a temporary file either.
    """
    try:
        path = ensure_graph(model, precision, rebuild=rebuild)
    except CacheError as error:
        _log.warning("%s The graph is built at every start.", error)
    else:
        yield path
        return
    with TemporaryDirectory(prefix="edge-mnv2-") as folder:
        path = Path(folder) / "graph.onnx"
        try:
            path.write_bytes(build_graph(model, precision))
        except OSError as error:
            raise RunError(f"The graph cannot be written anywhere: {error}.") from error
        yield path


def spec_of(card: ModelCard) -> SsdLiteSpec:
    """Return the network of a catalogue model, fetched or not."""
    return SsdLiteSpec(classes=max(read_labels(card.labels)) + 1)


def count(spec: SsdLiteSpec) -> tuple[int, int]:
    """Return (parameters, multiply-adds) of a network, without weights."""
    graph = _shape_of(spec).graph
    return graph.parameters, graph.multiply_adds


@dataclass(frozen=True, slots=True)
class PaperRow:
    """Our exact counts of a network, and the paper's rounded ones where it has this network."""

    network: str
    parameters: int
    multiply_adds: int
    paper: PaperFigures | None


def paper_rows(spec: SsdLiteSpec) -> list[PaperRow]:
    """Return the rows of a comparison with the paper.

    The detector as it is and with the paper's 320x320 input, its backbone, and the classifier on that
    backbone, which is what the paper counts.
    """
    width = spec.width_multiplier
    detector_paper = SSDLITE_PAPER if width == 1 and spec.classes > _COCO_CLASSES else None
    at_320 = replace(spec, size=(320, 320))
    features = build_features(spec.size, width)
    classifier = build_classifier(ClassifierSpec(width_multiplier=width), shapes_only)
    return [
        PaperRow(_describe(spec), *count(spec), detector_paper),
        PaperRow(_describe(at_320), *count(at_320), detector_paper),
        PaperRow(
            f"backbone {width:.2f}, {spec.size[1]}x{spec.size[0]}",
            features.parameters,
            features.multiply_adds,
            None,
        ),
        PaperRow(
            f"classifier {width:.2f}, 224x224, 1000 classes",
            classifier.parameters,
            classifier.multiply_adds,
            CLASSIFIER_PAPER.get(width),
        ),
    ]


def _describe(spec: SsdLiteSpec) -> str:
    return f"SSDLite {spec.width_multiplier:.2f}, {spec.size[1]}x{spec.size[0]}, {spec.classes - 1} classes"


@cache
def _shape_of(spec: SsdLiteSpec) -> SsdLiteGraph:
    return build_ssdlite(spec, shapes_only)


@cache
def _graph_revision() -> str:
    """Return a short hash over the code that builds graphs: another version of it builds anew."""
    sources = sorted(Path(networks.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:8]


def _class_id(known: dict[int, str], name: str) -> int:
    for class_id, label in known.items():
        if name.strip().lower() in (label.lower(), str(class_id)):
            return class_id
    raise RequestError(f"The model has no class {name!r}. It has: {', '.join(known.values())}.")
