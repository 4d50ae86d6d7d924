"""A fake `tensorrt` of any version from 8.6 to 11: only what that version's bindings really have."""

from __future__ import annotations

import types
from typing import Any, cast

from engines.fake_jetson import (
    tensorrt_base,
    tensorrt_build,
    tensorrt_config,
    tensorrt_names,
    tensorrt_parse,
    tensorrt_run,
)
from engines.fake_jetson.device import FakeCuda
from engines.fake_jetson.tensorrt_base import Library

_CLASSES: tuple[type, ...] = (
    tensorrt_base.ILogger,
    tensorrt_base.IHostMemory,
    tensorrt_base.Dims,
    tensorrt_run.Runtime,
    tensorrt_run.ICudaEngine,
    tensorrt_run.IExecutionContext,
    tensorrt_parse.INetworkDefinition,
    tensorrt_parse.OnnxParser,
    tensorrt_parse.ParserError,
    tensorrt_build.Builder,
    tensorrt_config.IBuilderConfig,
    tensorrt_config.IProgressMonitor,
    tensorrt_config.ITimingCache,
)


class Absent:
    """Stands in a class for a member that this version does not have."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:  # noqa: ANN401 - never returns
        raise AttributeError(f"there is no attribute {self._name!r} in this version")

    def __set__(self, instance: object, value: object) -> None:
        raise AttributeError(f"there is no attribute {self._name!r} in this version")


def make_tensorrt(cuda: FakeCuda) -> types.ModuleType:
    """Return a module that stands for `tensorrt`, for one fake device.

    Its classes are made anew for each device: nothing is shared between two of them.
    """
    version = cuda.spec.version
    module = types.ModuleType("tensorrt", "A fake.")
    library = Library(cuda, module)
    members: dict[str, object] = {"__version__": cuda.spec.tensorrt_version}
    for name, values in tensorrt_names.enumerations(version).items():
        members[name] = cast(Any, tensorrt_names.TrtEnum)(name, values, module="tensorrt")
    for base in _CLASSES:
        if tensorrt_names.has(version, base.__name__):
            absent = {name: Absent(name) for name in tensorrt_names.absent_members(version, base.__name__)}
            own = {"__module__": "tensorrt", "_library": library, **absent}
            members[base.__name__] = type(base.__name__, (base,), {**own, **_slots(base)})
    logger = members["ILogger"]
    assert isinstance(logger, type)  # noqa: S101 - one of the classes above
    members["Logger"] = type("Logger", (tensorrt_base.Logger, logger), {"__module__": "tensorrt"})
    vars(module).update(members)
    return module


def _slots(base: type) -> dict[str, object]:
    """Keep a class closed against new attributes where its base is, as the bindings' classes are."""
    return {"__slots__": ()} if "__slots__" in vars(base) else {}
