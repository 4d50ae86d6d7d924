from __future__ import annotations

from pathlib import Path

import pytest

from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.zoo.graph_store import build_untrained
from edge_mnv2.zoo.paper import row_of
from engines import EngineError
from engines.onnx_memory import measure_inference_bytes


@pytest.mark.parametrize("split", [1, 4])
def test_what_is_measured_is_what_was_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: int
) -> None:
    """The paper's classifier: peak memory by the lifetimes of tensors, and in ONNX Runtime."""
    spec = ClassifierSpec()
    (tmp_path / "graph.onnx").write_bytes(build_untrained(spec, split))
    monkeypatch.chdir(tmp_path)
    measured = measure_inference_bytes(Path("graph.onnx"))
    if measured is None:
        pytest.skip("this kernel has no /proc/self/clear_refs to measure peaks with")
    counted = row_of(spec, split).peak_bytes
    assert measured == pytest.approx(counted, rel=0.25)


def test_what_cannot_be_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"no graph")
    for name in ("damaged.onnx", "missing.onnx"):
        with pytest.raises(EngineError, match=rf"{name} cannot be measured: .+"):
            measure_inference_bytes(tmp_path / name)
