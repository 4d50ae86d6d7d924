"""A model's graph as a file: built on first use, kept in the cache, rebuilt where it is damaged."""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, cast, get_args

from edge_mnv2 import networks
from edge_mnv2.errors import CacheError, RequestError, RunError, WeightsError
from edge_mnv2.files import write_atomically
from edge_mnv2.networks.byte_layout import join_bytes, pair_columns
from edge_mnv2.networks.half_precision import to_half
from edge_mnv2.networks.onnx_writer import to_onnx
from edge_mnv2.networks.quantise import Flavour, quantise
from edge_mnv2.networks.weight_sources import random_weights, weights_from
from edge_mnv2.zoo.architectures import Spec, build_network
from edge_mnv2.zoo.cache import graph_path
from edge_mnv2.zoo.model import Model
from edge_mnv2.zoo.ranges_file import find_ranges, no_ranges

Precision = Literal["fp32", "fp16", "int8"]

# Where pairing the columns of the first layer is faster; see `networks.byte_layout`.
_PAIRING_MACHINES = ("x86_64", "AMD64")

_log = logging.getLogger(__name__)


def to_precision(name: str) -> Precision:
    """Return the precision of this name.

    Raises:
        RequestError: There is none.
    """
    for precision in get_args(Precision):
        if precision == name:
            return cast("Precision", precision)
    raise RequestError(f"There is no precision {name!r}: choose one of {', '.join(get_args(Precision))}.")


def build_untrained(spec: Spec, split: int = 1, precision: Literal["fp32", "fp16"] = "fp32") -> bytes:
    """Return the ONNX graph of a network with random weights, to be timed and measured."""
    graph = build_network(spec, random_weights(0), split)
    if precision == "fp16":
        graph = to_half(graph)
    return to_onnx(graph, "untrained", "untrained network, edge-mnv2")


def build_graph(
    model: Model, precision: Precision = "fp32", flavour: Flavour = "asymmetric", split: int = 1
) -> bytes:
    """Return the model's ONNX graph with its weights inside.

    Args:
        model: The model.
        precision: Of its arithmetic. `fp16` is a graph of float16, which TensorRT needs from 11 on.
        flavour: Of int8; see `networks.quantise`.
        split: Of float32; see `networks.mobilenet_v2.inverted_residual`.

    Raises:
        RequestError: The model has no activation ranges.
        WeightsError: The weights or the ranges do not fit the network.
    """
    arrays = model.weights.arrays()
    graph = build_network(model.spec, weights_from(arrays), split)
    left_over = sorted(arrays.keys() - graph.weight_shapes.keys())
    if left_over:
        raise WeightsError(
            f"{model.path} holds {left_over[0]}, which is not part of its network: import the model again."
        )
    if precision == "int8":
        ranges = find_ranges(model)
        if ranges is None:
            raise no_ranges(model)
        graph = quantise(graph, ranges.statistics, flavour)
        if flavour == "asymmetric":
            graph = join_bytes(graph)
            if platform.machine() in _PAIRING_MACHINES:
                graph = pair_columns(graph)
    if precision == "fp16":
        graph = to_half(graph)
    return to_onnx(graph, model.name, f"{model.name}, edge-mnv2, {precision}")


def ensure_graph(
    model: Model,
    precision: Precision = "fp32",
    flavour: Flavour = "asymmetric",
    *,
    rebuild: bool = False,
) -> Path:
    """Return the path of the model's graph, built on first use and kept in the cache.

    Args:
        model: The model.
        precision: Of its arithmetic.
        flavour: Of int8.
        rebuild: Build it even if it is there: the caller found it damaged.

    Raises:
        RequestError: The model has no activation ranges.
        CacheError: The cache cannot be written.
    """
    kind = f"{precision}-{flavour}" if precision == "int8" else precision
    path = graph_path(_graph_revision(), f"{model.name}-{_identity(model, precision)}-{kind}")
    if not rebuild and _is_whole(path):
        return path
    serialised = build_graph(model, precision, flavour)
    try:
        write_atomically(path, serialised)
        write_atomically(_digest_path(path), hashlib.sha256(serialised).hexdigest().encode())
    except OSError as error:
        raise CacheError(f"The cache cannot be written ({error}).") from error
    return path


@contextmanager
def graph_file(
    model: Model, precision: Precision, flavour: Flavour = "asymmetric", *, rebuild: bool = False
) -> Iterator[Path]:
    """Yield the path of the model's graph for as long as an engine needs to read it.

    A cache that cannot be written costs time at every start, not the run: the graph is then a temporary file.

    Raises:
        RequestError: The model has no activation ranges.
        RunError: There is no room for a temporary file either.
    """
    try:
        path = ensure_graph(model, precision, flavour, rebuild=rebuild)
    except CacheError as error:
        _log.warning("%s The graph is built at every start.", error)
    else:
        yield path
        return
    with TemporaryDirectory(prefix="edge-mnv2-") as folder:
        path = Path(folder) / "graph.onnx"
        try:
            path.write_bytes(build_graph(model, precision, flavour))
        except OSError as error:
            raise RunError(f"The graph cannot be written anywhere: {error}.") from error
        yield path


def prune_graphs(*, dry_run: bool) -> list[tuple[Path, int]]:
    """Delete the graphs in the cache that another version of the code built.

    Args:
        dry_run: Delete nothing.

    Returns:
        Path and size in bytes of each file.

    Raises:
        OSError: One cannot be deleted.
    """
    kept = graph_path(_graph_revision(), "any").parent
    stale = [path for path in sorted(kept.parent.rglob("*")) if path.is_file() and path.parent != kept]
    found = [(path, path.stat().st_size) for path in stale]
    if not dry_run:
        for path in stale:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in stale} - {kept.parent}:
            with suppress(OSError):  # something new lies in it
                folder.rmdir()
    return found


def _digest_path(graph: Path) -> Path:
    return graph.with_suffix(".sha256")


def _is_whole(graph: Path) -> bool:
    """Return whether a graph is in the cache as it was built: damage in it would be silent, wrong results."""
    try:
        return hashlib.sha256(graph.read_bytes()).hexdigest() == _digest_path(graph).read_text()
    except (OSError, UnicodeDecodeError):
        return False


def _identity(model: Model, precision: Precision) -> str:
    """Return a short hash over everything that a graph is made from."""
    ranges = find_ranges(model) if precision == "int8" else None
    parts = [
        model.weights.digest,
        ranges.digest if ranges else "",
        repr(model.spec),
        platform.machine(),  # a home directory may be shared
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def _graph_revision() -> str:
    """Return a short hash over the code that builds graphs: another version of it builds anew."""
    sources = sorted(Path(networks.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:8]
