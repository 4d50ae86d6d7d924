"""The fake TensorRT's builder configuration, timing cache and progress monitor."""

from __future__ import annotations

from typing import Any, ClassVar

from engines.fake_jetson.plans import TimingCache, pack_timing_cache, read_timing_cache
from engines.fake_jetson.tensorrt_base import IHostMemory, ILogger, Library, report
from engines.fake_jetson.tensorrt_names import Severity

_HIGHEST_OPTIMIZATION_LEVEL = 5


class IProgressMonitor:
    """Hears of a build's phases, once it is subclassed."""

    _is_ready = False

    def __init__(self) -> None:
        self._is_ready = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Hear that a phase starts, inside another or not."""

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Hear that a step is done; return False to cancel the build."""
        del phase_name, step
        return True

    def phase_finish(self, phase_name: str) -> None:
        """Hear that a phase is over."""


class ITimingCache:
    """What builds have measured."""

    __slots__ = ("_content",)

    def __init__(self, content: TimingCache) -> None:
        self._content = content

    def serialize(self) -> IHostMemory:
        """Return it as bytes."""
        return IHostMemory(pack_timing_cache(self._content))


class IBuilderConfig:
    """How to build."""

    __slots__ = (
        "_cache",
        "_dla_core",
        "_flags",
        "_limits",
        "_logger",
        "_monitor",
        "_optimization_level",
        "default_device_type",
        "profiling_verbosity",
    )
    _library: ClassVar[Library]

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger
        self._flags = {"TF32"}
        self._limits: dict[object, int] = {}
        self._cache: ITimingCache | None = None
        self._monitor: IProgressMonitor | None = None
        self._dla_core = -1
        self._optimization_level = 3
        self.default_device_type = self._library.member("DeviceType", "GPU")
        self.profiling_verbosity = self._library.member("ProfilingVerbosity", "LAYER_NAMES_ONLY")

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:  # noqa: ANN401 - MemoryPoolType
        """Limit the memory of one kind, in bytes."""
        self._library.require(pool, "MemoryPoolType")
        if pool_size != int(pool_size) or isinstance(pool_size, float) or pool_size < 0:
            raise TypeError("set_memory_pool_limit(): incompatible function arguments")
        self._limits[pool] = pool_size

    def get_memory_pool_limit(self, pool: Any) -> int:  # noqa: ANN401 - MemoryPoolType
        """Return the limit of one kind; all of the device's memory if nobody has set it."""
        self._library.require(pool, "MemoryPoolType")
        return self._limits.get(pool, self._library.spec.memory_bytes)

    def set_flag(self, flag: Any) -> None:  # noqa: ANN401 - BuilderFlag
        """Switch something on."""
        self._library.require(flag, "BuilderFlag")
        self._flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:  # noqa: ANN401 - BuilderFlag
        """Switch something off."""
        self._library.require(flag, "BuilderFlag")
        self._flags.discard(flag.name)

    def get_flag(self, flag: Any) -> bool:  # noqa: ANN401 - BuilderFlag
        """Return whether something is on."""
        self._library.require(flag, "BuilderFlag")
        return flag.name in self._flags

    @property
    def progress_monitor(self) -> IProgressMonitor | None:
        """Who hears of the build's phases."""
        return self._monitor

    @progress_monitor.setter
    def progress_monitor(self, monitor: IProgressMonitor) -> None:
        self._library.require(monitor, "IProgressMonitor")
        self._monitor = monitor

    @property
    def builder_optimization_level(self) -> int:
        """How long to search, 0 to 5."""
        return self._optimization_level

    @builder_optimization_level.setter
    def builder_optimization_level(self, level: int) -> None:
        self._optimization_level = min(max(level, 0), _HIGHEST_OPTIMIZATION_LEVEL)

    @property
    def DLA_core(self) -> int:  # noqa: N802 - TensorRT calls it so
        """The deep learning accelerator to build for; setting one that is not there does nothing."""
        return self._dla_core

    @DLA_core.setter
    def DLA_core(self, core: int) -> None:  # noqa: N802 - TensorRT calls it so
        if core < self._library.spec.dla_cores:
            self._dla_core = core

    def create_timing_cache(self, serialized_timing_cache: Any) -> ITimingCache:  # noqa: ANN401
        """Return the cache in some bytes; an empty one where they are damaged or of another version."""
        spec = self._library.spec
        data = bytes(memoryview(serialized_timing_cache))
        content = read_timing_cache(data)
        if content is None or content.version != spec.tensorrt_version:
            if data:
                text = "Failed to deserialize timing cache. Returning an empty timing cache."
                report(self._logger, Severity.WARNING, text)
            content = TimingCache(spec.tensorrt_version, spec.device_name)
        found: ITimingCache = self._library.module.ITimingCache(content)
        return found

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        """Use a cache; False where it is another device's."""
        self._library.require(cache, "ITimingCache")
        if cache._content.device_name != self._library.spec.device_name and not ignore_mismatch:
            report(self._logger, Severity.ERROR, "The timing cache was made on another device")
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        """Return the cache in use."""
        return self._cache
