"""What TensorRT, pycuda and a numpy array offer, by version, as dotted names; and what their calls return."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SNAPSHOTS = Path(__file__).parents[1]


class Version(NamedTuple):
    """One release of one vendor."""

    vendor: str
    number: str


Versions = frozenset[Version]


@dataclass(frozen=True, slots=True)
class Api:
    """The names of all versions, such as `tensorrt.Builder.create_network`."""

    names: Mapping[Version, frozenset[str]]
    modules: frozenset[str]
    classes: frozenset[str]
    enum_values: frozenset[str]

    @property
    def versions(self) -> Versions:
        return frozenset(self.names)

    def having(self, path: str) -> Versions:
        """Return the versions that have a name."""
        return frozenset(version for version, names in self.names.items() if path in names)

    def members(self, owner: str) -> set[str]:
        """Return the names of a class's or module's members in any version."""
        found = {path.rpartition(".") for names in self.names.values() for path in names}
        return {name for before, _, name in found if before == owner}


# What the snapshots, which hold classes alone, leave out.
BESIDE_CLASSES = frozenset({"tensorrt", "tensorrt.__version__"})

# Text, numbers and the like: what is done with them is no vendor's business.
PLAIN = "plain"

# A result that is used further must be told here: nothing else says it.
CALLS = {
    "tensorrt.Builder.create_network": "tensorrt.INetworkDefinition",
    "tensorrt.Builder.create_builder_config": "tensorrt.IBuilderConfig",
    "tensorrt.Builder.build_serialized_network": "tensorrt.IHostMemory",
    "tensorrt.IBuilderConfig.create_timing_cache": "tensorrt.ITimingCache",
    "tensorrt.IBuilderConfig.get_timing_cache": "tensorrt.ITimingCache",
    "tensorrt.ITimingCache.serialize": "tensorrt.IHostMemory",
    "tensorrt.OnnxParser.get_error": "tensorrt.ParserError",
    "tensorrt.ParserError.desc": PLAIN,
    "tensorrt.Runtime.deserialize_cuda_engine": "tensorrt.ICudaEngine",
    "tensorrt.ICudaEngine.create_execution_context": "tensorrt.IExecutionContext",
    "tensorrt.ICudaEngine.get_tensor_name": PLAIN,
    "tensorrt.ICudaEngine.get_tensor_dtype": "tensorrt.DataType",
    "tensorrt.ICudaEngine.get_tensor_mode": "tensorrt.TensorIOMode",
    "pycuda.driver.Device.retain_primary_context": "pycuda.driver.Context",
    "pycuda.driver.Device.name": PLAIN,
    "pycuda.driver.mem_alloc": "pycuda.driver.DeviceAllocation",
    "pycuda.driver.pagelocked_empty": "numpy.ndarray",
    "numpy.ndarray.reshape": "numpy.ndarray",
    "numpy.ndarray.view": "numpy.ndarray",
}
PROPERTIES = {
    "tensorrt.__version__": PLAIN,
    "tensorrt.DataType.name": PLAIN,
    "numpy.ndarray.base": "pycuda.driver.PagelockedHostAllocation",  # of those that pycuda makes
    "numpy.ndarray.nbytes": PLAIN,
}


def read_api() -> Api:
    """Read the snapshots."""
    tensorrt = [_read(path) for path in sorted((SNAPSHOTS / "tensorrt_api").glob("*.json"))]
    pycuda = _read(SNAPSHOTS / "pycuda_api.json")
    names = {Version("tensorrt", content["version"]): _tensorrt_names(content) for content in tensorrt}
    names[Version("pycuda", pycuda["version"])] = _pycuda_names(pycuda)
    names[Version("numpy", np.__version__)] = frozenset(f"numpy.ndarray.{name}" for name in dir(np.ndarray))
    return Api(
        names,
        modules=frozenset({"tensorrt", *pycuda["modules"]}),
        classes=frozenset(
            {"numpy.ndarray"}
            | {f"tensorrt.{kind}" for content in tensorrt for kind in content["classes"]}
            | {f"pycuda.driver.{kind}" for kind in pycuda["classes"]}
        ),
        enum_values=frozenset(
            f"tensorrt.{kind}.{value}"
            for content in tensorrt
            for kind, facts in content["classes"].items()
            for value in facts.get("enum", ())
        ),
    )


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _tensorrt_names(content: dict[str, Any]) -> frozenset[str]:
    kinds = content["classes"]
    members = {f"tensorrt.{kind}.{name}" for kind, facts in kinds.items() for name in facts["members"]}
    return BESIDE_CLASSES | {f"tensorrt.{kind}" for kind in kinds} | members


def _pycuda_names(content: dict[str, Any]) -> frozenset[str]:
    names = {f"{module}.{name}" for module, found in content["modules"].items() for name in found}
    members = {f"pycuda.driver.{kind}.{name}" for kind, found in content["classes"].items() for name in found}
    return frozenset(names | members | set(content["modules"]))
