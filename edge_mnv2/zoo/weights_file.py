"""Our file of weights: one `.npz` per model, self-describing and self-checking.

Every tensor lies in it twice: `NAME` is the float16 value, `NAME.residual` the float16 rest. The first
alone would be a model with the same mAP, but its logits differ from the original's by up to 0.09; with the
rest they agree to 1e-4, so that every later comparison (int8, another backend) starts from the original's
own numbers. Beside the tensors, `meta` says in JSON what network they belong to, and the SHA-256 of it all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError
from edge_mnv2.files import write_atomically
from edge_mnv2.zoo.architectures import Spec, architecture_named, architecture_of, spec_from_json

_SCHEMA = 1
_RESIDUAL = ".residual"
# What zipfile, numpy and json raise over a damaged archive, depending on which byte it is.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,  # NotImplementedError is one: an unknown compression
    AttributeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """Trained weights and the network that they belong to.

    Attributes:
        spec: The network.
        labels: Label by class id, without the background and unused ids.
        stored: Tensors as they lie in the file: float16 values and residuals.
        digest: SHA-256 of the stored content in hexadecimal; what is built from it is keyed on this.
    """

    spec: Spec
    labels: dict[int, str]
    stored: dict[str, NDArray[np.float16]]
    digest: str

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the tensors by canonical name, float32; computed here, for only a build needs them."""
        return {
            name: array.astype(np.float32) + self.stored[name + _RESIDUAL]
            for name, array in self.stored.items()
            if not name.endswith(_RESIDUAL)
        }


def save_weights(
    path: Path,
    spec: Spec,
    labels: Mapping[int, str],
    arrays: Mapping[str, NDArray[np.float32]],
) -> None:
    """Write a weights file; an existing one is replaced at once or not at all.

    Raises:
        WeightsError: A weight is not finite or too large for float16, or the file cannot be written.
    """
    stored: dict[str, NDArray[Any]] = {}
    for name in sorted(arrays):
        array = np.asarray(arrays[name], np.float32)
        with np.errstate(over="ignore"):
            rounded = array.astype(np.float16)
        if not np.isfinite(rounded).all():
            raise WeightsError(f"Weight {name} holds NaN, infinity, or more than float16 can (65504).")
        stored[name] = rounded
        stored[name + _RESIDUAL] = (array - rounded).astype(np.float16)
    meta: dict[str, object] = {
        "schema": _SCHEMA,
        "architecture": architecture_of(spec).name,
        "labels": {str(number): labels[number] for number in sorted(labels)},
        **{key: value for key, value in dataclasses.asdict(spec).items() if value is not None},
    }
    text = json.dumps(meta, ensure_ascii=False, sort_keys=True)
    stored["meta"] = np.array(json.dumps({"sha256": _digest(text, stored), "content": text}))
    buffer = io.BytesIO()
    np.savez(buffer, **stored)  # type: ignore[arg-type] # numpy 2 types its allow_pickle option as any name
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise WeightsError(f"The weights cannot be written to {path}: {error}.") from error


def load_weights(path: Path) -> WeightsFile:
    """Read a weights file and check its SHA-256.

    Raises:
        WeightsError: The file is missing, not one of ours, or damaged.
    """
    try:
        # Opened here, because numpy leaves a file that it cannot read open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
        outer = json.loads(str(stored.pop("meta")))
        text, digest = outer["content"], outer["sha256"]
        meta = json.loads(text)
    except DAMAGE as error:
        raise WeightsError(
            f"{path} is not a readable weights file ({error}). Install or import it again."
        ) from error
    if _digest(text, stored) != digest:
        raise WeightsError(f"{path} is damaged: its SHA-256 is not {digest}. Install or import it again.")
    newer = WeightsError(f"{path} was written by a newer version of edge-mnv2: upgrade, or import it again.")
    schema, labels = meta.pop("schema"), meta.pop("labels")
    architecture = architecture_named(meta.pop("architecture"))
    if schema != _SCHEMA or architecture is None:
        raise newer
    try:
        spec = spec_from_json(architecture, meta)
        by_class = dict(sorted((int(number), str(label)) for number, label in labels.items()))
        fits = all(0 <= number < spec.classes for number in by_class)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise newer from error
    if not fits:
        raise WeightsError(f"{path} has labels for more classes than its network: import the model again.")
    return WeightsFile(
        spec=spec,
        labels=by_class,
        stored=stored,
        digest=digest,
    )


def _digest(text: str, stored: Mapping[str, NDArray[Any]]) -> str:
    sha256 = hashlib.sha256(text.encode())
    for name in sorted(stored):
        sha256.update(f"{name} {stored[name].dtype.str} {stored[name].shape}".encode())
        sha256.update(np.ascontiguousarray(stored[name]).data)
    return sha256.hexdigest()
