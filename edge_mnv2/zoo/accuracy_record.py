"""What the accuracy check said of an int8 build, and what follows from it: which precision a run takes.

A record belongs to weights, activation ranges and network together: change one, and it says nothing. It is
kept in the cache; those of the embedded models come with them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from edge_mnv2.errors import CacheError, RequestError, WeightsError
from edge_mnv2.files import write_atomically
from edge_mnv2.zoo.cache import accuracy_record
from edge_mnv2.zoo.graph_store import Precision, to_precision
from edge_mnv2.zoo.model import Model
from edge_mnv2.zoo.ranges_file import TRAINED, ActivationRanges, find_ranges, no_ranges

PRECISIONS = ("auto", "fp32", "fp16", "int8")
_SCHEMA = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AccuracyRecord:
    """How far an int8 build is from float32.

    Attributes:
        key: Of weights, ranges and network; see `record_key`.
        images: On how many pictures.
        figures: The measures by name; see `edge_mnv2.agreement`.
        failures: Limits that were passed, one sentence each; empty for a good build.
    """

    key: str
    images: int
    figures: dict[str, float]
    failures: tuple[str, ...]


def record_key(model: Model) -> str | None:
    """Return what a record of a model's int8 build is kept under, None where it has no ranges.

    Raises:
        RequestError: The ranges belong to another model.
        WeightsError: They are damaged.
    """
    ranges = find_ranges(model)
    return None if ranges is None else _key(model, ranges)


def _key(model: Model, ranges: ActivationRanges) -> str:
    parts = [model.weights.digest, ranges.digest, dataclasses.asdict(model.spec)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def find_record(model: Model) -> AccuracyRecord | None:
    """Return the record of a model's int8 build: the user's own, else the one beside the weights.

    Raises:
        RequestError, WeightsError: As `record_key`.
    """
    return _record_of(model, find_ranges(model))


def _record_of(model: Model, ranges: ActivationRanges | None) -> AccuracyRecord | None:
    if ranges is None:
        return None
    key = _key(model, ranges)
    for path in (accuracy_record(key), _beside(model.path)):
        record = _read(path)
        if record is not None and record.key == key:
            return record
    return None


def save_record(model: Model, record: AccuracyRecord) -> Path:
    """Keep a record in the cache and return its path.

    Raises:
        CacheError: The cache cannot be written.
    """
    path = accuracy_record(record.key)
    content = {"schema": _SCHEMA, "model": model.name, **dataclasses.asdict(record)}
    try:
        write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as error:
        raise CacheError(f"The record of the check cannot be kept at {path}: {error}.") from error
    return path


def choose_precision(model: Model, wanted: str, *, force: bool = False) -> Precision:
    """Return the precision that a run takes on a CPU, and say in one log line why.

    Args:
        model: The model.
        wanted: One of `PRECISIONS`. `auto` is int8 where its record is good, or where the network was trained
            for it.
        force: Whether to run an int8 build whose record is not good.

    Raises:
        RequestError: The precision is unknown, or fp16; or int8 is wanted and has no ranges, those of another
            model, or failed its check and is not forced.
        WeightsError: Int8 is wanted, and its ranges are damaged.
    """
    check_precision(wanted)
    match wanted:
        case "fp32":
            return "fp32"
        case "fp16":
            raise RequestError("fp16 is for TensorRT, no CPU gains from it: choose fp32, int8 or auto.")
        case "int8":
            _allow_int8(model, force=force)
            return "int8"
    try:
        ranges = find_ranges(model)
        why_not = _why_not_int8(model, ranges, _record_of(model, ranges))
    except (RequestError, WeightsError) as error:
        _log.warning("%s", error)
        why_not = "the activation ranges for int8 cannot be used"
    _log.info("precision: %s", "int8 (its accuracy is known)" if why_not is None else f"fp32 ({why_not})")
    return "int8" if why_not is None else "fp32"


def choose_gpu_precision(model: Model, wanted: str, *, has_fast_fp16: bool, force: bool = False) -> Precision:
    """Return the precision that a run takes on a GPU.

    Args:
        model: The model.
        wanted: One of `PRECISIONS`. `auto` is fp16 where the GPU is fast in it, else fp32, and never int8,
            which loses accuracy for a gain that nobody has measured there.
        has_fast_fp16: Whether the GPU is.
        force: Whether to run an int8 build whose record is not good.

    Raises:
        RequestError, WeightsError: As `choose_precision`.
    """
    check_precision(wanted)
    match wanted:
        case "fp32" | "fp16":
            return to_precision(wanted)
        case "int8":
            _allow_int8(model, force=force)
            return "int8"
    return "fp16" if has_fast_fp16 else "fp32"


def check_precision(wanted: str) -> None:
    """Refuse what is no precision.

    Raises:
        RequestError: It is not one of `PRECISIONS`.
    """
    if wanted not in PRECISIONS:
        raise RequestError(f"There is no precision {wanted!r}: choose one of {', '.join(PRECISIONS)}.")


def _allow_int8(model: Model, *, force: bool) -> None:
    """Let an int8 build that was asked for pass.

    Raises:
        RequestError, WeightsError: As `choose_precision`.
    """
    ranges = find_ranges(model)
    if ranges is None:
        raise no_ranges(model)
    record = _record_of(model, ranges)
    why_not = _why_not_int8(model, ranges, record)
    if record is not None and record.failures and not force:
        raise RequestError(
            f"The int8 build of {model.name} failed its accuracy check: {' '.join(record.failures)} "
            "Run it with --precision fp32, or with --force as it is."
        )
    if why_not is not None:
        _log.warning("%s", why_not)


def _why_not_int8(model: Model, ranges: ActivationRanges | None, record: AccuracyRecord | None) -> str | None:
    """Return why the accuracy of a model's int8 build is not to be relied on, None where it is."""
    if record is not None and record.failures:
        return f"int8 failed its accuracy check: {' '.join(record.failures)}"
    if record is not None or (ranges is not None and ranges.method == TRAINED):
        return None
    if ranges is None:
        return f"int8 has no activation ranges: edge-mnv2 models calibrate {model.given} --images DIR"
    return f"int8 was not checked: edge-mnv2 models check {model.command_words} --images DIR"


def _beside(weights: Path) -> Path:
    return weights.with_name(weights.name.removesuffix(".npz") + ".check.json")


def _read(path: Path) -> AccuracyRecord | None:
    """Return the record in a file, None without one: a damaged record is no record."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != _SCHEMA:
            return None
        return AccuracyRecord(
            content["key"], content["images"], dict(content["figures"]), tuple(content["failures"])
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
