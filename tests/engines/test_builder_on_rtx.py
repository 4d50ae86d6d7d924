"""Our own builder on real bindings of TensorRT's family: what the fakes could have wrong, these have right.

TensorRT for RTX builds without a GPU for one that is named. Naming it is all that is added to our code here.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Any, get_args

import pytest

from edge_mnv2.zoo.graph_store import Precision, build_graph
from edge_mnv2.zoo.model import load_model
from engines import BackendUnavailableError, BuildError, ModelFileError
from engines.tensorrt.network_builder import MIB, BuildJob, build_plan, needs_typed_graph

try:
    import tensorrt_rtx_bindings as rtx
except ImportError as missing:
    pytest.skip(f"needs TensorRT for RTX, the extra `rtx` ({missing})", allow_module_level=True)

# It has timing caches by name only, and warns whoever uses them.
pytestmark = pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")

CLASSIFIER = load_model("mobilenet-v2-imagenet")


class NamingBuilder:
    """A real builder whose configurations name the GPU of the Ada generation."""

    def __init__(self, logger: Any) -> None:  # noqa: ANN401 - the library's own type
        self._builder = rtx.Builder(logger)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the real one has
        return getattr(self._builder, name)

    def create_builder_config(self) -> Any:  # noqa: ANN401 - the library's own type
        config = self._builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(rtx.ComputeCapability.SM89, 0)
        return config


@cache
def trt() -> types.ModuleType:
    """The real module, but for its builder."""
    module = types.ModuleType("tensorrt_that_names_a_gpu")
    vars(module).update({name: getattr(rtx, name) for name in dir(rtx) if not name.startswith("__")})
    vars(module).update(__version__=rtx.__version__, Builder=NamingBuilder)
    return module


def job(precision: Precision = "fp32", **changes: Any) -> BuildJob:  # noqa: ANN401
    values = {
        "onnx": build_graph(CLASSIFIER, precision, "symmetric"),
        "precision": precision,
        "workspace_bytes": 64 * MIB,
        "dla_core": None,
        "timing_cache": b"",
    }
    return BuildJob(**(values | changes))


@pytest.mark.parametrize("precision", get_args(Precision))
def test_every_precision_is_built_with_progress_and_a_timing_cache(precision: Precision) -> None:
    steps: list[tuple[str, int, int]] = []

    def on_step(phase: str, done: int, total: int) -> bool:
        steps.append((phase, done, total))
        return True

    assert needs_typed_graph(trt())
    built = build_plan(trt(), job(precision), on_step)
    assert len(built.plan) > 1_000_000
    assert built.timing_cache
    assert [phase for phase, _, _ in steps[:2]] == ["reading the graph", "choosing kernels"]
    counted = [(done, total) for _, done, total in steps if total]
    assert len(counted) > 50
    assert all(0 <= done <= total for done, total in counted)
    again = build_plan(trt(), job(precision, timing_cache=built.timing_cache), on_step)
    assert len(again.plan) > 1_000_000


def test_a_step_that_says_no_ends_the_build() -> None:
    with pytest.raises(BuildError, match="cannot build the plan"):
        build_plan(trt(), job(), lambda phase, done, total: total == 0)


def test_failures_are_told_in_the_librarys_own_words() -> None:
    asymmetric = build_graph(CLASSIFIER, "int8", "asymmetric")
    with pytest.raises(ModelFileError, match=r"cannot read the graph: .*UInt8"):
        build_plan(trt(), job(onnx=asymmetric), lambda *_: True)
    with pytest.raises(ModelFileError, match=r"cannot read the graph: .*Failed to parse the ONNX model"):
        build_plan(trt(), job(onnx=b"no graph"), lambda *_: True)
    with pytest.raises(BackendUnavailableError, match="no DLA core 0: this device has 0"):
        build_plan(trt(), job("fp16", dla_core=0), lambda *_: True)
