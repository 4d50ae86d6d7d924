from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_mnv2.zoo.graph_store import ensure_graph
from edge_mnv2.zoo.model import Model
from engines import (
    BackendUnavailableError,
    EngineError,
    ModelFileError,
    OnnxRuntimeEngine,
    allocate_inputs,
    choose_backend,
)


@pytest.fixture(scope="module")
def graph(coco_model: Model) -> Path:
    return ensure_graph(coco_model)


def test_runs_the_embedded_model_and_says_its_tensors(graph: Path) -> None:
    engine = OnnxRuntimeEngine(graph)
    assert [str(spec) for spec in engine.inputs] == ["image uint8 (1, 300, 300, 3)"]
    assert [str(spec) for spec in engine.outputs] == [
        "box_encodings float32 (1, 1917, 4)",
        "class_logits float32 (1, 1917, 91)",
    ]
    outputs = engine.run(allocate_inputs(engine.inputs))
    assert {name: array.shape for name, array in outputs.items()} == {
        "box_encodings": (1, 1917, 4),
        "class_logits": (1, 1917, 91),
    }
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(allocate_inputs(engine.inputs))


def test_thread_count_does_not_change_the_result(graph: Path) -> None:
    generator = np.random.default_rng(1)
    image = generator.integers(0, 256, (1, 300, 300, 3), np.uint8)
    one, two = OnnxRuntimeEngine(graph, 1), OnnxRuntimeEngine(graph, 2)
    for name, array in one.run({"image": image}).items():
        np.testing.assert_allclose(two.run({"image": image})[name], array, atol=1e-4)


def test_damaged_missing_and_foreign_files_are_named(graph: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(graph.read_bytes()[:100_000])
    with pytest.raises(ModelFileError, match=r"damaged\.onnx.*Delete"):
        OnnxRuntimeEngine(damaged)
    with pytest.raises(ModelFileError, match="no model file"):
        OnnxRuntimeEngine(tmp_path / "nothing.onnx")
    with pytest.raises(BackendUnavailableError, match=r"tensorrtt.*onnxruntime"):
        choose_backend("tensorrtt")


def test_inference_leaves_no_trace_of_telemetry_in_an_empty_home(graph: Path, tmp_path: Path) -> None:
    """The vendor's telemetry opens a database below HOME; ours must be off before the import."""
    code = (
        "import sys; from pathlib import Path; from engines import *\n"
        "engine = OnnxRuntimeEngine(Path(sys.argv[1])); engine.run(allocate_inputs(engine.inputs))"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    subprocess.run([sys.executable, "-c", code, graph], env={**environment, "HOME": str(home)}, check=True)
    assert list(home.rglob("*")) == []
