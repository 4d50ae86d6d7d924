"""The activation ranges that an int8 graph is built from: a `.ranges.npz` beside each model's weights.

It holds, for each tensor that is stored in int8, the range that is kept (min, max), the mean of each channel,
and where channels are equalised, their peaks; and `meta`, which says in JSON which weights they belong to (by
SHA-256) and how they were found. Ranges that a user calibrated lie in the cache and go before those that came
with the weights.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from edge_mnv2.errors import RequestError, RunError, WeightsError
from edge_mnv2.files import write_atomically
from edge_mnv2.networks.activation_statistics import ActivationStatistics
from edge_mnv2.zoo.cache import calibrated_ranges
from edge_mnv2.zoo.model import Model
from edge_mnv2.zoo.weights_file import DAMAGE

_SCHEMA = 1
# The method of ranges that the network was trained with: int8 is then what it is, not an approximation.
TRAINED = "training"
_RANGE, _MEAN, _PEAK = ".range", ".mean", ".peak"
SUFFIX = ".ranges.npz"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MethodResult:
    """How well one way of choosing ranges did.

    Attributes:
        method: Its name.
        agreement: With float32 on pictures that the ranges were not chosen on, 0 to 1.
    """

    method: str
    agreement: float


@dataclass(frozen=True, slots=True)
class ActivationRanges:
    """Statistics of a model's activations.

    Attributes:
        weights_digest: SHA-256 of the weights that they belong to.
        method: How the ranges were chosen.
        images: On how many pictures.
        statistics: By tensor.
        compared: All methods that were tried, best first.
        digest: SHA-256 of the content.
    """

    weights_digest: str
    method: str
    images: int
    statistics: Mapping[str, ActivationStatistics]
    compared: tuple[MethodResult, ...] = ()
    digest: str = field(default="", compare=False)


def beside(weights: Path) -> Path:
    """Return where the ranges lie that come with a weights file."""
    return weights.with_name(weights.name.removesuffix(".npz") + SUFFIX)


def find_ranges(model: Model) -> ActivationRanges | None:
    """Return the ranges of a model: the user's own, else those beside the weights; None without any.

    Raises:
        RequestError: The file belongs to another model.
        WeightsError: It is damaged.
    """
    for path in (calibrated_ranges(model.name, model.weights.digest), beside(model.path)):
        if path.is_file():
            return load_ranges(path, model)
    return None


def no_ranges(model: Model) -> RequestError:
    """Return the error of a model that is wanted in int8 and has no ranges."""
    return RequestError(
        f"{model.name} has no activation ranges for int8: edge-mnv2 models calibrate {model.given} "
        "--images DIR"
    )


def load_ranges(path: Path, model: Model) -> ActivationRanges:
    """Read a file of ranges and check that it belongs to a model.

    Raises:
        RequestError: It belongs to another model.
        WeightsError: It is missing, damaged, or no such file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        outer = json.loads(str(arrays.pop("meta")))
        meta = json.loads(outer["content"])
        is_whole = outer["sha256"] == _digest(outer["content"], arrays)
        tensors = [name.removesuffix(_RANGE) for name in arrays if name.endswith(_RANGE)]
        statistics = {
            name: ActivationStatistics(
                float(arrays[name + _RANGE][0]),
                float(arrays[name + _RANGE][1]),
                arrays.get(name + _MEAN),
                arrays.get(name + _PEAK),
            )
            for name in tensors
        }
    except DAMAGE as error:
        raise WeightsError(f"{path} is not a readable file of activation ranges ({error}).") from error
    if not is_whole:
        raise WeightsError(f"{path} is damaged: delete it, and calibrate the model again.")
    if meta["schema"] != _SCHEMA:
        raise WeightsError(
            f"{path} was written by a newer version of edge-mnv2: upgrade, or calibrate again."
        )
    if meta["weights_digest"] != model.weights.digest:
        raise RequestError(
            f"The activation ranges in {path} belong to another model than {model.name} (weights "
            f"{meta['weights_digest'][:12]}, this model has {model.weights.digest[:12]}): edge-mnv2 models "
            f"calibrate {model.given} --images DIR"
        )
    return ActivationRanges(
        meta["weights_digest"],
        meta["method"],
        meta["images"],
        statistics,
        tuple(MethodResult(**row) for row in meta["compared"]),
        outer["sha256"],
    )


def remove_foreign(path: Path, weights_digest: str) -> None:
    """Remove a file of ranges that belongs to other weights than those that were just written beside it."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = json.loads(json.loads(str(archive["meta"]))["content"])["weights_digest"]
    except FileNotFoundError:
        return
    except DAMAGE:
        found = None
    if found != weights_digest:
        _log.info("%s belonged to other weights: removed", path)
        path.unlink(missing_ok=True)


def save_ranges(path: Path, ranges: ActivationRanges) -> None:
    """Write a file of ranges; an existing one is replaced at once or not at all.

    Raises:
        RunError: It cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, found in sorted(ranges.statistics.items()):
        arrays[name + _RANGE] = np.array([found.low, found.high], np.float32)
        for suffix, column in ((_MEAN, found.mean), (_PEAK, found.peak)):
            if column is not None:
                arrays[name + suffix] = np.asarray(column, np.float32)
    content = json.dumps(
        {
            "schema": _SCHEMA,
            "weights_digest": ranges.weights_digest,
            "method": ranges.method,
            "images": ranges.images,
            "compared": [asdict(row) for row in ranges.compared],
        },
        sort_keys=True,
    )
    meta = np.array(json.dumps({"sha256": _digest(content, arrays), "content": content}))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, meta=meta, **arrays)  # type: ignore[arg-type] # see zoo.weights_file
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise RunError(f"The activation ranges cannot be written to {path}: {error}.") from error


def _digest(content: str, arrays: Mapping[str, np.ndarray]) -> str:
    sha256 = hashlib.sha256(content.encode())
    for name in sorted(arrays):
        sha256.update(name.encode())
        sha256.update(np.ascontiguousarray(arrays[name]).data)
    return sha256.hexdigest()
