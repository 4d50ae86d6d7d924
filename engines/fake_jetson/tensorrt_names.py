"""Which names TensorRT's Python module has in which version, as far as the fake has them at all.

Read off the bindings of 8.6.1, 10.3.0, 10.7.0, 10.13.3, 10.16.1 and 11.4.0; a version in between is taken for
the nearest older one of these.
"""

from __future__ import annotations

import enum

Version = tuple[int, ...]

_FLAGS_8 = (
    "FP16 INT8 DEBUG GPU_FALLBACK STRICT_TYPES REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE "
    "OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO REJECT_EMPTY_ALGORITHMS "
    "ENABLE_TACTIC_HEURISTIC VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME FP8"
)
_FLAGS_10 = (
    "FP16 INT8 DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE "
    "OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO REJECT_EMPTY_ALGORITHMS "
    "VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME FP8 ERROR_ON_TIMING_CACHE_MISS BF16 DISABLE_COMPILATION_CACHE "
    "STRIP_PLAN REFIT_IDENTICAL WEIGHT_STREAMING INT4 REFIT_INDIVIDUAL STRICT_NANS MONITOR_MEMORY FP4 "
    "EDITABLE_TIMING_CACHE DISTRIBUTIVE_INDEPENDENCE"
)
_FLAGS_SINCE = {(10,): 24, (10, 7): 26, (10, 13): 29}
# What is left of them in 11, with new numbers.
_FLAGS_11 = {
    "DEBUG": 2,
    "GPU_FALLBACK": 3,
    "REFIT": 4,
    "DISABLE_TIMING_CACHE": 5,
    "TF32": 6,
    "SPARSE_WEIGHTS": 7,
    "SAFETY_SCOPE": 8,
    "DIRECT_IO": 11,
    "VERSION_COMPATIBLE": 12,
    "EXCLUDE_LEAN_RUNTIME": 13,
    "ERROR_ON_TIMING_CACHE_MISS": 15,
    "DISABLE_COMPILATION_CACHE": 17,
    "STRIP_PLAN": 18,
    "REFIT_IDENTICAL": 19,
    "WEIGHT_STREAMING": 20,
    "REFIT_INDIVIDUAL": 22,
    "STRICT_NANS": 23,
    "MONITOR_MEMORY": 24,
    "EDITABLE_TIMING_CACHE": 26,
    "DISTRIBUTIVE_INDEPENDENCE": 27,
}
_TYPES = "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64 INT4 FP4 E8M0"
_TYPES_SINCE = {(8,): 7, (10,): 10, (10, 13): 12}
_POOLS = "WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM TACTIC_DRAM TACTIC_SHARED_MEMORY"

# Members and classes that come or go: first version with it, first version without.
_SOMETIMES: dict[str, tuple[Version, Version]] = {
    "IProgressMonitor": ((10,), (99,)),
    "IBuilderConfig.progress_monitor": ((10,), (99,)),
    "Builder.platform_has_fast_fp16": ((8,), (11,)),
    "Builder.platform_has_fast_int8": ((8,), (11,)),
    "ICudaEngine.device_memory_size": ((8,), (11,)),
    "ICudaEngine.device_memory_size_v2": ((10,), (99,)),
}


class TrtEnum(enum.Enum):
    """An enumeration as the bindings have them: no integer, but it can be made one."""

    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return int(self.value)


class Severity(enum.Enum):
    """How bad a message is; comparable with its like only."""

    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4

    def __int__(self) -> int:
        return self.value

    def __index__(self) -> int:
        return self.value

    def __lt__(self, other: Severity) -> bool:
        return self.value < other.value

    def __le__(self, other: Severity) -> bool:
        return self.value <= other.value

    def __gt__(self, other: Severity) -> bool:
        return self.value > other.value

    def __ge__(self, other: Severity) -> bool:
        return self.value >= other.value


def has(version: Version, name: str) -> bool:
    """Return whether a version has a class, or `Class.member`; what is not known to come or go is there."""
    first, first_without = _SOMETIMES.get(name, ((0,), (99,)))
    return first <= version < first_without


def absent_members(version: Version, class_name: str) -> list[str]:
    """Return the members that the fake's class has and this version's does not."""
    owned = [name for name in _SOMETIMES if name.startswith(f"{class_name}.")]
    return [name.partition(".")[2] for name in owned if not has(version, name)]


def enumerations(version: Version) -> dict[str, dict[str, int]]:
    """Return name and value of every member of every enumeration."""
    old_verbosities = {"DEFAULT": 0, "VERBOSE": 2} if version < (10,) else {}
    return {
        "BuilderFlag": _builder_flags(version),
        "DataType": _numbered(_TYPES, _newest(_TYPES_SINCE, version)),
        "DeviceType": _numbered("GPU DLA"),
        "MemoryPoolType": _numbered(_POOLS, 6 if version >= (10,) else 5),
        "NetworkDefinitionCreationFlag": _network_flags(version),
        "ProfilingVerbosity": _numbered("LAYER_NAMES_ONLY NONE DETAILED") | old_verbosities,
        "TensorIOMode": _numbered("NONE INPUT OUTPUT"),
    }


def _builder_flags(version: Version) -> dict[str, int]:
    if version < (10,):
        return _numbered(_FLAGS_8)
    if version >= (11,):
        return dict(_FLAGS_11)
    return _numbered(_FLAGS_10, _newest(_FLAGS_SINCE, version)) | {"WEIGHTLESS": 19}


def _network_flags(version: Version) -> dict[str, int]:
    if version < (10,):
        return _numbered("EXPLICIT_BATCH EXPLICIT_PRECISION")
    if version >= (11,):
        return _numbered("STRONGLY_TYPED PREFER_JIT_PYTHON_PLUGINS PREFER_AOT_PYTHON_PLUGINS")
    names = "EXPLICIT_BATCH STRONGLY_TYPED PREFER_JIT_PYTHON_PLUGINS PREFER_AOT_PYTHON_PLUGINS"
    return _numbered(names, 4 if version >= (10, 13) else 2)


def _newest(since: dict[Version, int], version: Version) -> int:
    return since[max(first for first in since if first <= version)]


def _numbered(names: str, count: int | None = None) -> dict[str, int]:
    return {name: number for number, name in enumerate(names.split()[:count])}
