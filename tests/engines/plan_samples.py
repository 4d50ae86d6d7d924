"""Small graphs, keys of plans, and fake Jetsons that child processes play, too."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.fake_jetson.jetson import FakeJetson
from engines.tensorrt.driver import CudaDevice
from engines.tensorrt.plan_cache import find_plan
from engines.tensorrt.plan_key import PlanKey, PlanRequest, make_key
from engines.tensorrt.plan_pruning import prune_plans
from engines.tensorrt.probe import Probe, ProbeStep

ROOT = Path(__file__).parents[2]
SITE = Path(__file__).parents[1] / "fake_jetson_site"
LAYERS = 6
KEY = PlanKey(
    model="small",
    precision="fp16",
    shapes="8x1",
    graph="0" * 64,
    tensorrt="10.3.0",
    device="Orin",
    compute_capability="8.7",
    sm_count=8,
    l4t="36.4.3",
    workspace_mib=256,
    flags="gpu",
)
ORIN = CudaDevice("Orin", (8, 7), 8, "12.6")
FOUND = Probe((ProbeStep("TensorRT version", "10.3.0"),), ORIN, "10.3.0")
"""What the probe finds where `KEY` is made, but for the L4T release."""
NOTHING = Probe((ProbeStep("NVIDIA driver", None, "there is none", "buy one"),))


def write_graph(path: Path, *, layers: int = LAYERS, is_quantised: bool = False) -> Path:
    """Write a graph of `layers` nodes from x to y, both (1, 8) float32."""
    nodes, last = [], "x"
    if is_quantised:
        nodes += [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="q"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="d"),
        ]
        last = "d"
    for number in range(len(nodes), layers):
        name = "y" if number == layers - 1 else f"t{number}"
        nodes.append(helper.make_node("Relu", [last], [name], name=name))
        last = name
    constants = [
        numpy_helper.from_array(np.array(0.5, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 8)) for name in "xy")
    graph = helper.make_graph(nodes, "graph", [x], [y], constants if is_quantised else [])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(onnx.shape_inference.infer_shapes(made).SerializeToString())
    return path


def request_for(onnx_file: Path, **changes: object) -> PlanRequest:
    """Return a request for a float16 plan of a graph."""
    return replace(PlanRequest("small", onnx_file, "fp16", "8x1"), **changes)  # type: ignore[arg-type]


def play_in_children(monkeypatch: pytest.MonkeyPatch, spec: FakeJetson) -> None:
    """Let every process that this one starts play a Jetson."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (SITE, ROOT))))
    monkeypatch.setenv("EDGE_MNV2_FAKE_JETSON", spec.to_json())


def run_in_children(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Let every process that this one starts run some code once it plays its Jetson."""
    folder.mkdir()
    play = f"import runpy\nrunpy.run_path({str(SITE / 'sitecustomize.py')!r})\n"
    (folder / "sitecustomize.py").write_text(play + code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ["PYTHONPATH"]]))


def is_built(request: PlanRequest, folder: Path, found: Probe) -> bool:
    """Whether the plan for a request is in the cache."""
    return find_plan(folder, make_key(request, found)) is not None


def stale_plans(folder: Path, found: Probe) -> list[Path]:
    """What would be pruned."""
    return [file.path for file in prune_plans(folder, found, dry_run=True)]


def leftovers(folder: Path) -> list[Path]:
    """What would be pruned where TensorRT is missing: what no plan needs, whoever it is for."""
    return stale_plans(folder, NOTHING)
