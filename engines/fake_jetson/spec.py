"""Which Jetson is played, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

FAULTS = frozenset(
    {
        "no_driver",  # libcuda.so.1 cannot be loaded, and so pycuda.driver cannot be imported
        "no_pycuda",  # pycuda is not installed
        "no_tensorrt",  # tensorrt is not installed
        "no_device",  # cuInit finds no device
        "no_capture",  # cuStreamBeginCapture_v2 fails
        "parse_fails",  # the ONNX parser refuses every model
        "build_returns_none",  # the builder fails
        "build_out_of_memory",  # the builder fails for want of memory while its workspace is large
        "build_killed",  # the kernel kills the process while its workspace is large
        "build_killed_always",  # the kernel kills the process
        "build_hangs",  # the build makes no end of steps
        "deserialise_crashes",  # loading a plan ends the process by a segmentation fault
        "deserialise_none_once",  # the first plan is refused, whatever it is
        "execute_fails",  # execute_async_v3 returns False
        "nan_outputs",  # floating point outputs are NaN
        "wrong_outputs",  # outputs are noisy
        "zero_cost",  # executing a plan does nothing: outputs stay as they are
    }
)
LARGE_WORKSPACE_BYTES = 128 << 20
"""From this workspace on, `build_out_of_memory` and `build_killed` strike."""


@dataclass(frozen=True, slots=True)
class FakeJetson:
    """One device with one TensorRT.

    Args:
        tensorrt_version: As in `tensorrt.__version__`; 8.6 to 11.
        device_name: As the driver calls it.
        compute_capability: Major and minor.
        sm_count: Number of streaming multiprocessors.
        integrated: Whether the GPU shares the processor's memory.
        memory_bytes: What all allocations together may take; page-locked ones count if `integrated`.
        can_capture: Whether a plan may run while its stream is captured. If not, `execute_async_v3` fails
            then, and the capture with it.
        dla_cores: Number of deep learning accelerators.
        device_count: How many of these devices there are.
        faults: What goes wrong, out of `FAULTS`.

    Raises:
        ValueError: A fault is unknown.
    """

    tensorrt_version: str = "10.3.0"
    device_name: str = "Orin (fake)"
    compute_capability: tuple[int, int] = (8, 7)
    sm_count: int = 8
    integrated: bool = True
    memory_bytes: int = 8 << 30
    can_capture: bool = True
    dla_cores: int = 0
    device_count: int = 1
    faults: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        unknown = self.faults - FAULTS
        if unknown:
            raise ValueError(f"There are no faults called {sorted(unknown)}: choose from {sorted(FAULTS)}.")

    @property
    def version(self) -> tuple[int, ...]:
        """TensorRT's version as numbers."""
        return tuple(int(part) for part in self.tensorrt_version.split("."))

    @property
    def cuda_version(self) -> int:
        """CUDA's version as the driver gives it, such as 12060: the one that JetPack pairs with TensorRT."""
        if self.version < (10,):
            return 12020
        return 12060 if self.version < (10, 13) else 13000

    def to_json(self) -> str:
        """Return the specification as `from_json` reads it."""
        return json.dumps({**dataclasses.asdict(self), "faults": sorted(self.faults)})

    @staticmethod
    def from_json(text: str) -> FakeJetson:
        """Read a specification; fields that are left out have their defaults.

        Raises:
            ValueError: It is not JSON, or a fault is unknown.
            TypeError: A field is unknown.
        """
        fields = json.loads(text)
        for name, convert in (("faults", frozenset), ("compute_capability", tuple)):
            if name in fields:
                fields[name] = convert(fields[name])
        return FakeJetson(**fields)
