"""TensorFlow.js graph models: `model.json` beside binary shards.

Format: the converter's `weightsManifest`, groups of tensors that lie one after another in the concatenated
shards, optionally quantised with a scale and a minimum.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import WeightsError

_DTYPES = {"float32": np.float32, "int32": np.int32, "bool": np.bool_}
_QUANTISED = {"uint8": np.uint8, "uint16": np.uint16, "float16": np.float16}


def read_tfjs(model_json: Path) -> dict[str, NDArray[Any]]:
    """Read every weight of a TensorFlow.js graph model.

    Args:
        model_json: Its `model.json`; shards are looked for beside it.

    Raises:
        WeightsError: The file is not such a model, or a shard is missing or of the wrong size.
    """
    try:
        groups = json.loads(model_json.read_text(encoding="utf-8"))["weightsManifest"]
        tensors: dict[str, NDArray[Any]] = {}
        for group in groups:
            tensors.update(_read_group(group, model_json.parent))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{model_json} is not a whole TensorFlow.js graph model: {error!r}.") from error
    return tensors


def _read_group(group: dict[str, Any], folder: Path) -> dict[str, NDArray[Any]]:
    data = b"".join((folder / shard).read_bytes() for shard in group["paths"])
    tensors: dict[str, NDArray[Any]] = {}
    offset = 0
    for entry in group["weights"]:
        tensors[entry["name"]], size = _tensor(entry, data, offset)
        offset += size
    if offset != len(data):
        raise WeightsError(f"The shards in {folder} hold {len(data)} bytes, expected {offset}.")
    return tensors


def _tensor(entry: dict[str, Any], data: bytes, offset: int) -> tuple[NDArray[Any], int]:
    quantisation = entry.get("quantization")
    known = _DTYPES if quantisation is None else _QUANTISED
    stored = entry["dtype"] if quantisation is None else quantisation["dtype"]
    if stored not in known:
        raise WeightsError(f"Weight {entry['name']} has the unsupported type {stored}.")
    dtype = np.dtype(known[stored])
    count = math.prod(entry["shape"])
    size = count * dtype.itemsize
    if offset + size > len(data):
        raise WeightsError(f"The shards end inside the weight {entry['name']}: the download is truncated.")
    tensor = np.frombuffer(data, dtype, count, offset).reshape(entry["shape"])
    if quantisation is not None and "scale" in quantisation:
        tensor = tensor.astype(np.float32) * quantisation["scale"] + quantisation["min"]
    return tensor, size
