"""What makes a TensorRT plan valid: everything that it was built from, by and for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engines.errors import BackendUnavailableError, ModelFileError
from engines.tensorrt.probe import Probe, require

PlanPrecision = Literal["fp32", "fp16", "int8"]

# Raised when a build's recipe changes in a way that the other fields do not tell.
SCHEMA = 1
WORKSPACE_MIB = 256
_L4T_FILE = Path("/etc/nv_tegra_release")


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a plan is wanted for.

    Attributes:
        model: Name of the model, for file names and messages.
        onnx: The graph: float32; int8 with symmetric QDQ; for `fp16` float32 where TensorRT has a flag for
            it, else a graph of float16 (`needs_typed_graph`).
        precision: Of the arithmetic.
        shapes: Of the inputs, in words.
        workspace_mib: Most memory that a layer may use while it runs; less is taken where less is free.
        dla_core: DLA core that takes the layers it can; None for the GPU alone.
        weights: The file that the model comes from: a plan of the same file replaces this one.
        command: What a person types to have the plan built anew, for messages.
    """

    model: str
    onnx: Path
    precision: PlanPrecision
    shapes: str
    workspace_mib: int = WORKSPACE_MIB
    dla_core: int | None = None
    weights: str = ""
    command: str = "edge-mnv2 models build --engine tensorrt"


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that a plan depends on; another value of any field is another plan.

    Attributes:
        model: Name of the model.
        precision: Of the arithmetic.
        shapes: Of the inputs, in words.
        graph: SHA-256 of the ONNX file.
        tensorrt: Full version.
        device: Name of the GPU.
        compute_capability: Of the GPU, such as `8.7`.
        sm_count: Its streaming multiprocessors: the same module is sold with fewer.
        l4t: Release of the Jetson's system, None on other machines.
        workspace_mib: Limit that was asked for.
        flags: What else the builder was told.
        schema: Of the build's recipe.
    """

    model: str
    precision: str
    shapes: str
    graph: str
    tensorrt: str
    device: str
    compute_capability: str
    sm_count: int
    l4t: str | None
    workspace_mib: int
    flags: str
    schema: int = SCHEMA

    @property
    def digest(self) -> str:
        """Short hash over all fields."""
        content = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def but_for_graph(self) -> PlanKey:
        """The key without its graph: what stays the same where the model or our code changes."""
        return dataclasses.replace(self, graph="")

    @property
    def stem(self) -> str:
        """File name without a suffix."""
        return f"{self.model}-{self.precision}-{self.digest}"


_IN_WORDS = {
    "tensorrt": "TensorRT",
    "l4t": "L4T",
    "graph": "the graph",
    "compute_capability": "compute capability",
    "sm_count": "SM count",
    "workspace_mib": "workspace (MiB)",
    "schema": "the way plans are built",
}
# Their values mean nothing to a reader.
_OPAQUE = ("graph", "schema")
_NUMBERS = ("sm_count", "workspace_mib", "schema")


def make_key(request: PlanRequest, found: Probe, l4t_file: Path = _L4T_FILE) -> PlanKey:
    """Return the key of the plan that this device needs.

    Args:
        request: What is wanted.
        found: What `probe` found.
        l4t_file: Where a Jetson's system tells its release.

    Raises:
        BackendUnavailableError: TensorRT cannot run here.
        ModelFileError: The graph cannot be read.
    """
    require(found)
    try:
        graph = request.onnx.read_bytes()
    except OSError as error:
        raise ModelFileError(f"The graph cannot be read: {error}.") from error
    if found.device is None or found.version is None:
        raise BackendUnavailableError("The probe of TensorRT found no device.")
    return PlanKey(
        model=request.model,
        precision=request.precision,
        shapes=request.shapes,
        graph=hashlib.sha256(graph).hexdigest(),
        tensorrt=found.version,
        device=found.device.name,
        compute_capability="{}.{}".format(*found.device.compute_capability),
        sm_count=found.device.sm_count,
        l4t=l4t_release(l4t_file),
        workspace_mib=request.workspace_mib,
        flags="gpu" if request.dla_core is None else f"dla {request.dla_core} with gpu fallback",
    )


def belongs_here(key: PlanKey, found: Probe, l4t_file: Path = _L4T_FILE) -> bool:
    """Return whether a plan is of this device, system, TensorRT and recipe; its graph may be an older one."""
    device = found.device
    return (
        device is not None
        and key.schema == SCHEMA
        and (key.tensorrt, key.device, key.sm_count) == (found.version, device.name, device.sm_count)
        and key.compute_capability == "{}.{}".format(*device.compute_capability)
        and key.l4t == l4t_release(l4t_file)
    )


def key_from(content: Mapping[str, Any]) -> PlanKey:
    """Return the key in a sidecar.

    Raises:
        ValueError: It holds no key.
    """
    names = {field.name for field in dataclasses.fields(PlanKey)}
    if content.keys() != names:
        raise ValueError("the fields are not those of a plan's key")
    for name, value in content.items():
        wanted = int if name in _NUMBERS else str
        if type(value) is not wanted and (name, value) != ("l4t", None):
            raise ValueError(f"{name} is not of its type")
    return PlanKey(**content)


def differences(before: PlanKey, now: PlanKey) -> tuple[str, ...]:
    """Return what differs between two keys, in words: `TensorRT 10.3.0 -> 10.7.0`."""
    found = []
    for field in dataclasses.fields(PlanKey):
        old, new = getattr(before, field.name), getattr(now, field.name)
        if old != new:
            words = _IN_WORDS.get(field.name, field.name)
            found.append(f"{words} changed" if field.name in _OPAQUE else f"{words} {old} -> {new}")
    return tuple(found)


def timing_cache_name(version: str, device: str, compute_capability: str) -> str:
    """Return the name of the file with what builds measured: true of one version on one kind of device."""
    words = f"timing-{version}-{device}-{compute_capability}.cache"
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in words)


def l4t_release(path: Path = _L4T_FILE) -> str | None:
    """Return the release of a Jetson's system, such as `36.4.3`; None on other machines.

    The file begins with `# R36 (release), REVISION: 4.3, ...` (Jetson Linux developer guide).
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{found[1]}.{found[2]}" if found else None
