from __future__ import annotations

import logging
import multiprocessing
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edge_mnv2.errors import RequestError, WeightsError
from edge_mnv2.networks.activation_statistics import ActivationStatistics
from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.networks.deeplabv3 import DeepLabSpec
from edge_mnv2.networks.ssdlite import SsdLiteSpec
from edge_mnv2.predictor import PredictorOptions, open_predictor
from edge_mnv2.zoo.architectures import Spec
from edge_mnv2.zoo.cache import calibrated_ranges
from edge_mnv2.zoo.graph_store import (
    Precision,
    build_graph,
    build_untrained,
    ensure_graph,
    graph_file,
    to_precision,
)
from edge_mnv2.zoo.model import Model, Variant, load_model
from edge_mnv2.zoo.ranges_file import find_ranges, save_ranges
from tests.zoo.test_ranges_file import EMBEDDED, own_model

DEEPLAB = "deeplabv3-mnv2-voc"
SMALL = Variant((65, 65))


@pytest.fixture(scope="module")
def small() -> Model:
    """An embedded model at a small size: quick to build, with ranges of its own."""
    return load_model(DEEPLAB, SMALL)


def operators(graph: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(graph).graph.node}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", EMBEDDED)
def test_every_embedded_model_is_built_in_a_few_seconds_and_once(
    name: str, precision: Precision, empty_cache: Path
) -> None:
    model = load_model(name)
    started = time.perf_counter()
    path = ensure_graph(model, precision)
    seconds = time.perf_counter() - started
    print(f"{name}, {precision}: built in {seconds:.2f} s")  # noqa: T201 - a figure, for who looks (pytest -s)
    assert seconds < 10
    assert path.is_relative_to(empty_cache)
    stamp = path.stat().st_mtime_ns
    assert ensure_graph(model, precision) == path
    assert path.stat().st_mtime_ns == stamp
    assert ("QuantizeLinear" in operators(path.read_bytes())) == (precision == "int8")
    assert sorted(entry.suffix for entry in path.parent.iterdir()) == [".onnx", ".sha256"]


def test_what_a_graph_is_made_of_makes_its_name(empty_cache: Path, small: Model) -> None:
    """Another precision, size, stride or set of ranges is another file; the old one stays whole."""
    paths = [ensure_graph(small, "fp32"), ensure_graph(small, "int8")]
    for variant in (Variant((65, 97)), Variant((65, 65), 8)):
        paths.append(ensure_graph(load_model(DEEPLAB, variant), "int8"))
    ranges = find_ranges(small)
    assert ranges is not None
    save_ranges(calibrated_ranges(small.name, small.weights.digest), replace(ranges, images=1))
    paths.append(ensure_graph(small, "int8"))
    assert len(set(paths)) == len(paths)
    assert ensure_graph(small, "fp32") == paths[0]


def test_a_damaged_int8_graph_is_built_again(empty_cache: Path, small: Model) -> None:
    path = ensure_graph(small, "int8")
    digest = path.with_suffix(".sha256")
    whole, written = path.read_bytes(), digest.read_text()
    middle = len(whole) // 2
    for damaged in (b"", whole[:1000], whole[:middle] + b"\xaa" + whole[middle + 1 :]):
        path.write_bytes(damaged)
        assert ensure_graph(small, "int8") == path
        assert path.read_bytes() == whole
    for text in (b"", b"\xff\xff", written[:-1].encode()):
        digest.write_bytes(text)
        ensure_graph(small, "int8")
        assert digest.read_text() == written
    digest.unlink()
    ensure_graph(small, "int8")
    assert (digest.read_text(), path.read_bytes()) == (written, whole)


def test_a_graph_that_is_whole_but_cannot_be_loaded_is_built_again(
    empty_cache: Path, small: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade of the backend: the digest is right, and yet it fails."""
    path = ensure_graph(small, "int8")
    whole = path.read_bytes()
    monkeypatch.setattr("edge_mnv2.zoo.graph_store._is_whole", lambda _: True)
    path.write_bytes(whole[:5000])
    options = PredictorOptions(precision="int8", variant=SMALL)
    predictor = open_predictor(DEEPLAB, options)
    assert predictor.precision == "int8"
    predictor.predict(np.zeros((40, 60, 3), np.uint8))
    predictor.close()
    assert path.read_bytes() == whole


def build_in_process(barrier: object, results: object) -> None:
    model = load_model(DEEPLAB, SMALL)
    barrier.wait()  # type: ignore[attr-defined]
    results.put(ensure_graph(model, "int8").read_bytes())  # type: ignore[attr-defined]


def test_two_processes_may_build_int8_at_once(empty_cache: Path, small: Model) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=build_in_process, args=(barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    built = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
    assert built == {build_graph(small, "int8")}
    assert {ensure_graph(small, "int8").read_bytes()} == built
    assert len(list((empty_cache / "graphs").glob("*/*"))) == 2


def spoil_ranges(model: Model) -> None:
    """Give a model ranges of its own, one of which is no number."""
    ranges = find_ranges(model)
    assert ranges is not None
    spoiled = {**ranges.statistics, "backbone/conv": ActivationStatistics(0, float("nan"))}
    save_ranges(calibrated_ranges(model.name, model.weights.digest), replace(ranges, statistics=spoiled))


def test_a_build_that_fails_leaves_nothing_behind(
    empty_cache: Path, tmp_path: Path, small: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    spoil_ranges(small)
    with pytest.raises(WeightsError, match="range of backbone/conv is 0 to nan"):
        ensure_graph(small, "int8")
    with pytest.raises(WeightsError), graph_file(small, "int8"):
        raise AssertionError("nothing was built")
    assert [path.name for path in empty_cache.iterdir()] == ["ranges"]
    assert list((tmp_path / "tmp").iterdir()) == []
    # Float needs no ranges.
    assert ensure_graph(small, "fp32").is_file()


def test_a_disk_that_is_full_costs_time_but_leaves_no_half_a_graph(
    empty_cache: Path, small: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, _: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("edge_mnv2.zoo.graph_store.write_atomically", full)
    with caplog.at_level(logging.WARNING), graph_file(small, "int8") as path:
        assert "QuantizeLinear" in operators(path.read_bytes())
    assert "No space left on device" in caplog.text
    assert not path.exists()
    assert not empty_cache.exists()


def test_int8_without_ranges_is_refused(tmp_path: Path, empty_cache: Path) -> None:
    bare = own_model(tmp_path)
    for flavour in ("asymmetric", "symmetric"):
        with pytest.raises(RequestError, match="mine has no activation ranges"):
            build_graph(bare, "int8", flavour)
    with pytest.raises(RequestError, match="mine has no activation ranges"):
        ensure_graph(bare, "int8")
    assert not empty_cache.exists()


def test_flavours_and_machines_differ_in_layout_only(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are paired on x86-64 alone; the numbers are the same to the bit."""
    graphs, symmetric = {}, set()
    for machine in ("x86_64", "AMD64", "aarch64"):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        graphs[machine] = build_graph(small, "int8")
        symmetric.add(build_graph(small, "int8", "symmetric"))
    (for_tensorrt,) = symmetric
    assert graphs["x86_64"] == graphs["AMD64"] != graphs["aarch64"]
    image = np.random.default_rng(0).integers(0, 256, (1, 65, 65, 3), np.uint8)
    found = [
        onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]
        for graph in (graphs["x86_64"], graphs["aarch64"], for_tensorrt)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert "Clip" in operators(for_tensorrt)
    assert np.corrcoef(found[0].ravel(), found[2].ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("spec", "outputs"),
    [
        (SsdLiteSpec(4, (96, 64), 0.5), {"box_encodings": 4, "class_logits": 4}),
        (DeepLabSpec(3, (96, 64), 0.5, output_stride=8), {"logits": 8}),
        (ClassifierSpec(7, (96, 64), 1.4), {"logits": 7}),
    ],
)
@pytest.mark.parametrize("split", [1, 3])
def test_untrained_networks_run(spec: Spec, outputs: dict[str, int], split: int) -> None:
    serialised = build_untrained(spec, split)
    session = onnxruntime.InferenceSession(serialised, providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": np.zeros((1, 96, 64, 3), np.uint8)})
    names = [output.name for output in session.get_outputs()]
    assert {name: array.shape[-1] for name, array in zip(names, found, strict=True)} == outputs
    assert all(np.isfinite(array).all() for array in found)
    assert serialised == build_untrained(spec, split), "the same weights every time"
    sums = [node for node in onnx.load_from_string(serialised).graph.node if "/sum_" in node.name]
    assert bool(sums) == (split > 1)


def test_precisions_have_three_names() -> None:
    assert [to_precision(name) for name in ("fp32", "fp16", "int8")] == ["fp32", "fp16", "int8"]
    for name in ("auto", "int4", ""):
        with pytest.raises(RequestError, match=f"no precision '{name}': choose one of fp32, fp16, int8"):
            to_precision(name)
