"""The fake's plans and timing caches: what they were made by and for, and what is inside."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from engines.fake_jetson.spec import FakeJetson

_PLAN = b"FAKEPLAN"
_TIMING = b"FAKETIME"
_LENGTH_BYTES = 4


class PlanRefusedError(Exception):
    """A plan that this TensorRT on this device does not take; in TensorRT's manner of speaking."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An engine as it lies in a file.

    Attributes:
        version: TensorRT's.
        device_name: Where it was built.
        compute_capability: Of that device.
        flags: Names of the builder's flags.
        dla_core: The deep learning accelerator that runs it, or None.
        model: The ONNX model.
    """

    version: str
    device_name: str
    compute_capability: tuple[int, int]
    flags: tuple[str, ...]
    dla_core: int | None
    model: bytes


def pack_plan(plan: Plan) -> bytes:
    """Return a plan as bytes."""
    header = {
        "version": plan.version,
        "device_name": plan.device_name,
        "compute_capability": plan.compute_capability,
        "flags": plan.flags,
        "dla_core": plan.dla_core,
        "digest": hashlib.sha256(plan.model).hexdigest(),
    }
    return _frame(_PLAN, header) + plan.model


def read_plan(data: bytes, spec: FakeJetson) -> Plan:
    """Read a plan for one device.

    Raises:
        PlanRefusedError: It is cut off or something else, or belongs to another version or device.
    """
    try:
        header, model = _unframe(_PLAN, data)
        plan = Plan(
            header["version"],
            header["device_name"],
            (header["compute_capability"][0], header["compute_capability"][1]),
            tuple(header["flags"]),
            header["dla_core"],
            model,
        )
        digest = header["digest"]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise PlanRefusedError("Error Code 1: Serialization (Magic tag does not match)") from error
    if plan.version != spec.tensorrt_version:
        raise PlanRefusedError(
            "Error Code 1: Serialization (Version tag does not match. Note: Current Version: "
            f"{spec.tensorrt_version}, Serialized Engine Version: {plan.version})"
        )
    if hashlib.sha256(model).hexdigest() != digest:
        raise PlanRefusedError("Error Code 1: Serialization (Size specified in header does not match)")
    if (plan.device_name, plan.compute_capability) != (spec.device_name, spec.compute_capability):
        raise PlanRefusedError(
            "Error Code 6: API Usage Error (The engine plan file is not compatible with this device: "
            f"built for {plan.device_name}, compute {plan.compute_capability})"
        )
    return plan


@dataclass(frozen=True, slots=True)
class TimingCache:
    """What builds have measured.

    Attributes:
        version: TensorRT's.
        device_name: Where it was measured.
        entries: Digests of the models that were built.
    """

    version: str
    device_name: str
    entries: frozenset[str] = frozenset()


def pack_timing_cache(cache: TimingCache) -> bytes:
    """Return a timing cache as bytes."""
    header = {"version": cache.version, "device_name": cache.device_name, "entries": sorted(cache.entries)}
    return _frame(_TIMING, header)


def read_timing_cache(data: bytes) -> TimingCache | None:
    """Read a timing cache; None if it is damaged or something else."""
    try:
        header, _ = _unframe(_TIMING, data)
        return TimingCache(header["version"], header["device_name"], frozenset(header["entries"]))
    except (ValueError, KeyError, TypeError):
        return None


def _frame(magic: bytes, header: dict[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return magic + len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _unframe(magic: bytes, data: bytes) -> tuple[dict[str, Any], bytes]:
    start = len(magic) + _LENGTH_BYTES
    if not data.startswith(magic):
        raise ValueError("another magic number")
    end = start + int.from_bytes(data[len(magic) : start], "little")
    header = json.loads(data[start:end])
    if not isinstance(header, dict):
        raise ValueError("no header")
    return header, data[end:]
