from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from pathlib import Path

import pytest

from edge_mnv2.detector import DetectorOptions, open_detector
from edge_mnv2.errors import RequestError, UnknownModelError, WeightsError
from edge_mnv2.networks.ssdlite import SsdLiteSpec
from edge_mnv2.zoo.catalogue import DATA_DIR
from edge_mnv2.zoo.labels import COCO_LABELS, read_labels
from edge_mnv2.zoo.model import Model, ensure_graph, graph_file, load_model, make_network, paper_rows


def test_the_graph_is_built_once_and_then_found(empty_cache: Path, coco_model: Model) -> None:
    path = ensure_graph(coco_model)
    assert path.is_relative_to(empty_cache)
    stamp = path.stat().st_mtime_ns
    assert ensure_graph(coco_model) == path
    assert path.stat().st_mtime_ns == stamp
    assert sorted(entry.suffix for entry in path.parent.iterdir()) == [".onnx", ".sha256"]


def test_a_damaged_graph_in_the_cache_is_built_again(empty_cache: Path, coco_model: Model) -> None:
    path = ensure_graph(coco_model)
    whole = path.read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:1000], whole[:middle] + b"\xaa" * 1000 + whole[middle + 1000 :]):
        path.write_bytes(damaged)
        open_detector("ssdlite-mnv2-coco", DetectorOptions()).close()
        assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_time_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coco_model: Model
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with graph_file(coco_model, "fp32") as path:
        assert path.is_file()
    assert list((tmp_path / "tmp").iterdir()) == []


def build_in_process(barrier: object, results: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    results.put(ensure_graph(load_model("ssdlite-mnv2-coco")).stat().st_size)  # type: ignore[attr-defined]


def test_two_processes_may_build_at_once(empty_cache: Path, coco_model: Model) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=build_in_process, args=(barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    sizes = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
    assert sizes == {ensure_graph(coco_model).stat().st_size}
    assert len(list((empty_cache / "graphs").iterdir())) == 2  # the graph and its digest


def test_unknown_models_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match="Did you mean ssdlite-mnv2-person"):
        load_model("ssdlite-mnv2-persn")
    with pytest.raises(RequestError, match="models fetch ssdlite-mnv2-person"):
        load_model("ssdlite-mnv2-person")
    with pytest.raises(RequestError, match=r"no weights file own\.npz"):
        load_model("own.npz")


def test_a_file_of_ones_own_is_a_model_too(tmp_path: Path) -> None:
    shutil.copy(DATA_DIR / "ssdlite-mnv2-coco.npz", tmp_path / "mine.npz")
    model = load_model(str(tmp_path / "mine.npz"))
    assert (model.name, model.labels[1]) == ("mine", "person")
    (tmp_path / "mine.npz").write_bytes(b"PK damaged")
    with pytest.raises(WeightsError, match=r"mine\.npz"):
        load_model(str(tmp_path / "mine.npz"))


def test_classes_are_chosen_by_label_or_number(coco_model: Model) -> None:
    make_network(coco_model, classes=["Person", " bicycle", "3"])
    with pytest.raises(RequestError, match="no class 'persn'"):
        make_network(coco_model, classes=["persn"])
    for threshold in (0, 1, 2, -1):
        with pytest.raises(RequestError, match="between 0 and 1"):
            make_network(coco_model, threshold)


def test_coco_labels_are_the_90_id_list() -> None:
    labels = read_labels(COCO_LABELS)
    assert len(labels) == 80
    assert (labels[1], labels[13], labels[90]) == ("person", "stop sign", "toothbrush")
    assert not {12, 26, 29, 30, 45, 66, 68, 69, 71, 83} & labels.keys()
    assert list(labels) == sorted(labels)


def test_label_files_may_have_gaps_and_must_have_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\ufeffcat\n-\n\n dog \n", encoding="utf-8")
    assert read_labels(path) == {1: "cat", 4: "dog"}
    path.write_text("-\n\n")
    with pytest.raises(RequestError, match="empty"):
        read_labels(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(RequestError, match="cannot be read"):
        read_labels(path)


def test_counts_stand_beside_the_papers_where_it_has_the_network(coco_model: Model) -> None:
    rows = paper_rows(coco_model.spec)
    assert [row.parameters for row in rows] == [4_475_167, 4_475_167, 2_206_816, 3_487_816]
    assert [row.paper is None for row in rows] == [False, False, True, False]
    for row in (rows[1], rows[3]):
        assert row.paper is not None
        assert row.multiply_adds == pytest.approx(row.paper.multiply_adds, rel=0.01)
        assert row.parameters == pytest.approx(row.paper.parameters, rel=0.05)
    narrow = paper_rows(SsdLiteSpec(classes=2, width_multiplier=0.35))
    assert all(row.paper is None for row in narrow)
