from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from edge_mnv2.errors import RequestError, UnknownModelError, WeightsError
from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.networks.deeplabv3 import DeepLabSpec
from edge_mnv2.networks.ssdlite import SsdLiteSpec
from edge_mnv2.predictor import PredictorOptions, open_predictor
from edge_mnv2.zoo.architectures import ARCHITECTURES, Spec, architecture_named
from edge_mnv2.zoo.graph_store import ensure_graph, graph_file
from edge_mnv2.zoo.labels import (
    COCO_LABELS,
    DATA_DIR,
    IMAGENET_LABELS,
    VOC_LABELS,
    default_labels,
    read_labels,
)
from edge_mnv2.zoo.model import (
    DecoderOptions,
    Model,
    Variant,
    load_model,
    make_network,
    parse_size,
    untrained_spec,
    vary,
)
from edge_mnv2.zoo.paper import as_in_the_paper, published, row_of


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
        open_predictor("ssdlite-mnv2-coco", PredictorOptions(precision="fp32")).close()
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
    assert len(list((empty_cache / "graphs").glob("*/*"))) == 2  # the graph and its digest


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


@pytest.mark.parametrize(
    ("name", "task", "count", "first", "last"),
    [
        ("ssdlite-mnv2-coco", "detect", 80, (1, "person"), (90, "toothbrush")),
        ("deeplabv3-mnv2-voc", "segment", 20, (1, "aeroplane"), (20, "tvmonitor")),
        ("mobilenet-v2-imagenet", "classify", 1000, (0, "tench"), (999, "toilet tissue")),
    ],
)
def test_an_embedded_model_says_its_task_and_its_classes(
    name: str, task: str, count: int, first: tuple[int, str], last: tuple[int, str]
) -> None:
    model = load_model(name)
    assert (model.task, len(model.labels)) == (task, count)
    assert (next(iter(model.labels.items())), list(model.labels.items())[-1]) == (first, last)
    assert model.classes == model.labels
    assert model.spec == model.weights.spec


@pytest.mark.parametrize(
    ("spec", "first"), [(SsdLiteSpec(4), 1), (DeepLabSpec(4), 1), (ClassifierSpec(3), 0)]
)
def test_classes_without_labels_are_called_by_their_numbers(
    coco_model: Model, spec: Spec, first: int
) -> None:
    bare = replace(coco_model, spec=spec, weights=replace(coco_model.weights, spec=spec, labels={}))
    assert bare.classes == {number: str(number) for number in range(first, first + 3)}
    make_network(bare, DecoderOptions(classes=[str(first)]))
    with pytest.raises(RequestError, match=rf"no class '99'. It has: {first}, {first + 1}, {first + 2}\."):
        make_network(bare, DecoderOptions(classes=["99"]))


def test_classes_are_chosen_by_label_or_number(coco_model: Model) -> None:
    make_network(coco_model, DecoderOptions(classes=["Person", " bicycle", "3"]))
    with pytest.raises(RequestError, match=r"no class 'persn', 'dgo'\. Did you mean person or dog") as caught:
        make_network(coco_model, DecoderOptions(classes=["persn", "bicycle", "dgo"]))
    assert "edge-mnv2 models info ssdlite-mnv2-coco" in str(caught.value)
    assert len(str(caught.value)) < 200
    for threshold in (0, 1, 2, -1, float("nan")):
        with pytest.raises(RequestError, match="between 0 and 1"):
            make_network(coco_model, DecoderOptions(threshold))


def test_a_few_classes_are_all_named() -> None:
    with pytest.raises(RequestError, match=r"no class 'qqq'\. It has: aeroplane, .*, tvmonitor\."):
        make_network(load_model("deeplabv3-mnv2-voc"), DecoderOptions(classes=["qqq"]))


@pytest.mark.parametrize("spec", [SsdLiteSpec(4), DeepLabSpec(4), ClassifierSpec(3)])
def test_any_network_runs_at_another_size_within_limits(spec: Spec) -> None:
    assert vary(spec, Variant()) == spec
    assert vary(spec, Variant(size=(32, 4096))) == replace(spec, size=(32, 4096))
    for size in ((31, 300), (300, 31), (4097, 300), (300, 4097)):
        with pytest.raises(
            RequestError, match=rf"{size[1]}x{size[0]} cannot be: a side has 32 to 4096 pixels"
        ):
            vary(spec, Variant(size=size))


def test_only_a_segmentation_has_an_output_stride_to_choose() -> None:
    for stride in (8, 16, 32):
        assert vary(DeepLabSpec(4), Variant(output_stride=stride)) == DeepLabSpec(4, output_stride=stride)
    with pytest.raises(RequestError, match="must be 8, 16 or 32, not 4"):
        vary(DeepLabSpec(4), Variant(output_stride=4))
    for spec in (SsdLiteSpec(4), ClassifierSpec(3)):
        with pytest.raises(RequestError, match="Only a segmentation"):
            vary(spec, Variant(output_stride=16))
    both = load_model("deeplabv3-mnv2-voc", Variant((257, 385), 8))
    assert (both.spec.size, both.weights.spec.size) == ((257, 385), (513, 513))
    assert both.spec == replace(both.weights.spec, size=(257, 385), output_stride=8)


@pytest.mark.parametrize(
    ("text", "size"),
    [("640x480", (480, 640)), ("513", (513, 513)), (" 64 X 32 ", (32, 64)), ("1x99999", (99999, 1))],
)
def test_a_size_is_width_by_height_or_one_number(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "640x", "x480", "1x2x3", "-5", "12.5", "big", "640*480", "²", "999999"]
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RequestError, match="WIDTHxHEIGHT, such as 513x289") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


def test_an_untrained_network_has_the_usual_classes_or_those_asked_for() -> None:
    usual = {entry.name: untrained_spec(entry, None, None).classes for entry in ARCHITECTURES}
    assert usual == {"ssdlite": 91, "deeplabv3": 21, "classifier": 1000}
    own = {entry.name: untrained_spec(entry, 0.5, 7).classes for entry in ARCHITECTURES}
    assert own == {"ssdlite": 8, "deeplabv3": 8, "classifier": 7}


@pytest.mark.parametrize(
    ("name", "width", "classes", "words"),
    [
        ("ssdlite", 0.09, None, "width must lie between 0.1 and 4, not 0.09"),
        ("classifier", 4.1, None, "width must lie between 0.1 and 4, not 4.1"),
        ("deeplabv3", float("nan"), None, "not nan"),
        ("deeplabv3", 1.0, 256, "classes must lie between 1 and 255, not 256"),
        ("ssdlite", None, 0, "classes must lie between 1 and 10000, not 0"),
        ("classifier", None, -1, "classes must lie between 1 and 100000, not -1"),
    ],
)
def test_an_untrained_network_that_cannot_be_is_refused(
    name: str, width: float | None, classes: int | None, words: str
) -> None:
    architecture = architecture_named(name)
    assert architecture is not None
    with pytest.raises(RequestError, match=words):
        untrained_spec(architecture, width, classes)


def test_coco_labels_are_the_90_id_list() -> None:
    found = read_labels(COCO_LABELS)
    labels = found.by_class(first=1)
    assert (found.lines, len(labels)) == (90, 80)
    assert (labels[1], labels[13], labels[90]) == ("person", "stop sign", "toothbrush")
    assert not {12, 26, 29, 30, 45, 66, 68, 69, 71, 83} & labels.keys()
    assert list(labels) == sorted(labels)


def test_every_task_has_its_usual_labels() -> None:
    for spec, path in (
        (SsdLiteSpec(91), COCO_LABELS),
        (DeepLabSpec(21), VOC_LABELS),
        (ClassifierSpec(), IMAGENET_LABELS),
    ):
        assert default_labels(spec) == read_labels(path)
    # On the command line classes are separated by commas, and are told apart by their names.
    for path, count in ((VOC_LABELS, 20), (IMAGENET_LABELS, 1000)):
        names = read_labels(path).names
        assert len({name.lower() for name in names}) == len(names) == count
        assert not any("," in name for name in names)


def test_label_files_may_have_gaps_and_must_have_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\ufeffcat\n-\n\n dog \n\n\n", encoding="utf-8")
    found = read_labels(path)
    assert found.by_class(first=1) == {1: "cat", 4: "dog"}
    assert found.by_class(first=0) == {0: "cat", 3: "dog"}
    assert (found.lines, found.path) == (4, path)
    path.write_text("-\n\n")
    with pytest.raises(RequestError, match="empty"):
        read_labels(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(RequestError, match="cannot be read"):
        read_labels(path)


def test_counts_stand_beside_the_papers_where_it_has_the_network(coco_model: Model) -> None:
    """The detector as it is, the paper's nearest; the segmentation and the classifier are the paper's own."""
    specs: list[Spec | None] = [coco_model.spec, as_in_the_paper(coco_model.spec)]
    for name in ("deeplabv3-mnv2-voc", "mobilenet-v2-imagenet"):
        own = load_model(name).spec
        assert as_in_the_paper(own) is None
        specs.append(own)
    rows = [row_of(spec) for spec in specs if spec is not None]
    assert [row.parameters for row in rows] == [4_475_167, 4_311_637, 2_097_013, 3_487_816]
    assert [bool(row.published) for row in rows] == [False, True, True, True]
    for row in rows[1:]:
        paper = row.published[0]
        assert paper.source.startswith("paper, table")
        assert paper.parameters is not None
        # Table 6 has one digit, "0.8B".
        is_detector = row.network.startswith("SSDLite")
        assert row.multiply_adds == pytest.approx(
            paper.multiply_adds * 1e6, rel=0.015 if is_detector else 0.004
        )
        assert row.parameters == pytest.approx(paper.parameters * 1e6, rel=0.03)
    narrow = SsdLiteSpec(classes=2, width_multiplier=0.35)
    assert (published(narrow), as_in_the_paper(narrow)) == ((), None)
