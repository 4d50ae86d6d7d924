from __future__ import annotations

import csv
import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edge_mnv2.errors import OutputPathError, SinkError
from edge_mnv2.results import FrameResult, Result
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.sinks.coco import CocoResultsSink
from edge_mnv2.sinks.csv_table import CsvSink
from edge_mnv2.sinks.jsonl import JsonLinesSink
from edge_mnv2.sinks.record import to_record, to_state_record
from edge_mnv2.sinks.specs import jsonl_spec
from edge_mnv2.sinks.text_file import TextFile
from tests.samples import (
    CLASSIFIER_LABELS,
    camera_status,
    classification,
    detections,
    frame_result,
    segmentation,
)

# A person in the lower left corner, two bicycles, and a class that has no label.
MAP = [
    [0, 0, 0, 2],
    [0, 0, 0, 0],
    [1, 0, 2, 2],
    [1, 1, 0, 7],
]


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Let every file end at `limit` bytes, as a full disk does: writes are cut short, then fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def write_until_full(sink: JsonLinesSink | CocoResultsSink) -> int:
    """Return how many results were written before the sink failed."""
    for seq in range(100):
        try:
            sink.write(frame_result(seq))
        except SinkError:
            return seq
    raise AssertionError("the disk never filled up")


def test_the_record_is_schema_1() -> None:
    assert to_record(frame_result(12)) == {
        "schema": 1,
        "source": "clip.mp4",
        "seq": 12,
        "time": "2026-01-01T00:00:00.000Z",
        "age_ms": 21.4,
        "image": {"width": 64, "height": 48},
        "model": "ssdlite-mnv2-coco",
        "task": "detect",
        "detections": [{"class_id": 1, "label": "person", "score": 0.91, "box": [10.0, 6.0, 48.3, 40.0]}],
        "stages_ms": {"prepare": 0.3, "infer": 8.7, "decode": 0.2},
    }


def test_one_of_several_cameras_has_its_name_in_its_records() -> None:
    for record in (
        to_record(frame_result(camera="door")),
        to_state_record(camera_status("lost", camera="door")),
    ):
        assert record["camera_name"] == "door"
    assert not {"camera_name"} & {*to_record(frame_result()), *to_state_record(camera_status("lost"))}


def test_the_record_of_a_segmentation_says_what_is_where_largest_first() -> None:
    """The map is 4x4, the frame 64x48: boxes are in pixels of the frame."""
    record = to_record(frame_result(found=segmentation(MAP)))
    assert record["task"] == "segment"
    assert record["segments"] == [
        {"class_id": 1, "label": "person", "share": 0.1875, "box": [0.0, 24.0, 32.0, 48.0]},
        {"class_id": 2, "label": "bicycle", "share": 0.1875, "box": [32.0, 0.0, 64.0, 36.0]},
        {"class_id": 7, "label": "7", "share": 0.0625, "box": [48.0, 36.0, 64.0, 48.0]},
    ]
    assert not {"detections", "classes"} & record.keys()


def test_shares_and_sides_are_rounded_as_in_detections() -> None:
    found = segmentation([[1, 1, 0], [0, 0, 0], [0, 0, 0]])
    (segment,) = to_record(frame_result(found=found, width=100, height=100))["segments"]
    assert (segment["share"], segment["box"]) == (0.222222, [0.0, 0.0, 66.7, 33.3])


def test_the_record_of_a_classification_has_the_best_class_first() -> None:
    found = classification((2, 0.61237), (0, 0.25), (9, 0.1))
    record = to_record(frame_result(found=found, labels=CLASSIFIER_LABELS))
    assert record["task"] == "classify"
    assert record["classes"] == [
        {"class_id": 2, "label": "great white shark", "score": 0.6124},
        {"class_id": 0, "label": "tench", "score": 0.25},
        {"class_id": 9, "label": "9", "score": 0.1},
    ]
    assert not {"detections", "segments"} & record.keys()


@pytest.mark.parametrize(
    ("found", "key"),
    [(detections(), "detections"), (segmentation([[0, 0]]), "segments"), (classification(), "classes")],
)
def test_a_frame_that_shows_nothing_has_an_empty_list(tmp_path: Path, found: Result, key: str) -> None:
    assert to_record(frame_result(found=found), masks=True)[key] == []
    sink = JsonLinesSink(tmp_path / "r.jsonl", masks=True)
    sink.write(frame_result(found=found))
    assert json.loads((tmp_path / "r.jsonl").read_text())[key] == []


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 4))
)
def test_the_masks_of_a_record_are_exactly_the_map(
    tmp_path_factory: pytest.TempPathFactory, class_id: NDArray[np.uint8]
) -> None:
    """What is read back from the file, pycocotools decodes to the map: all of it, and nothing else."""
    coco = pytest.importorskip("pycocotools.mask", reason="needs the eval extra")
    path = tmp_path_factory.mktemp("masks") / "r.jsonl"
    sink = JsonLinesSink(path, masks=True)
    sink.write(frame_result(found=segmentation(class_id)))
    sink.close()
    again = np.zeros_like(class_id)
    for segment in json.loads(path.read_text())["segments"]:
        mask = coco.decode(segment["mask"])
        assert mask.shape == class_id.shape == tuple(segment["mask"]["size"])
        assert not again[mask == 1].any()
        again[mask == 1] = segment["class_id"]
        assert segment["share"] == pytest.approx(mask.mean(), abs=1e-6)
    np.testing.assert_array_equal(again, class_id)


def test_records_carry_masks_only_where_they_are_wanted(tmp_path: Path) -> None:
    result = frame_result(found=segmentation(MAP))
    for masks in (False, True):
        for spec in (
            SinkSpec("direct", lambda _, m=masks: JsonLinesSink(tmp_path / "r.jsonl", masks=m), False),
            jsonl_spec(tmp_path / "r.jsonl", masks=masks),
        ):
            sink = spec.open(0)
            sink.write(result)
            sink.close()
            (line,) = (tmp_path / "r.jsonl").read_text().splitlines()
            assert [("mask" in segment) for segment in json.loads(line)["segments"]] == [masks] * 3


def test_json_lines_say_what_the_camera_did(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "r.jsonl")
    sink.write(frame_result(0))
    sink.show(camera_status("lost", attempt=2))
    sink.show(camera_status("lost", is_change=False))
    sink.show(camera_status("live"))
    sink.close()
    frame, lost, live = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
    assert "camera" not in frame
    assert lost == {
        "schema": 1,
        "source": "rtsp://***@camera/stream",
        "time": "2026-01-01T00:00:00.000Z",
        "camera": {
            "state": "lost",
            "reason": "No frame for 2 s.",
            "lost_since": "2025-12-31T23:59:58.000Z",
            "attempt": 2,
        },
    }
    assert live["camera"] == {"state": "live", "reason": "", "lost_since": None, "attempt": 0}


def test_json_lines_are_whole_after_every_write(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "deep" / "r.jsonl")
    for seq in range(3):
        sink.write(frame_result(seq))
        lines = (tmp_path / "deep" / "r.jsonl").read_text().splitlines()
        assert [json.loads(line)["seq"] for line in lines] == list(range(seq + 1))
    sink.close()
    sink.close()
    with pytest.raises(SinkError, match="closed"):
        sink.write(frame_result())


def test_another_attempt_appends_and_the_first_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    for attempt, lines in ((0, 1), (1, 2), (2, 3), (0, 1)):
        sink = JsonLinesSink(path, attempt)
        sink.write(frame_result())
        sink.close()
        assert len(path.read_text().splitlines()) == lines


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3000))
def test_a_full_disk_leaves_whole_lines(tmp_path_factory: pytest.TempPathFactory, limit: int) -> None:
    path = tmp_path_factory.mktemp("full") / "r.jsonl"
    sink = JsonLinesSink(path)
    with file_size_limit(limit):
        written = write_until_full(sink)
    sink.close()
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == list(range(written))


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 1500))
def test_a_full_disk_leaves_valid_coco_results(tmp_path_factory: pytest.TempPathFactory, limit: int) -> None:
    path = tmp_path_factory.mktemp("full") / "r.json"
    sink = CocoResultsSink(path, {"clip.mp4": 7})
    with file_size_limit(max(limit, 4)):
        written = write_until_full(sink)
    assert len(json.loads(path.read_text())) == written


def test_a_full_device_says_what_to_do() -> None:
    sink = JsonLinesSink(Path("/dev/full"))
    with pytest.raises(SinkError, match=r"/dev/full: the disk is full\. Make room"):
        sink.write(frame_result())


def test_coco_results_are_valid_json_after_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    sink = CocoResultsSink(path, {"a.jpg": 42, "b.jpg": 43})
    assert json.loads(path.read_text()) == []
    sink.write(frame_result(origin="a.jpg", found=detections()))
    assert json.loads(path.read_text()) == []
    rows = detections((10, 20, 30, 50, 0.9, 1), (0, 0, 5.5, 5, 0.25, 90))
    sink.write(frame_result(origin="b.jpg", found=rows))
    first = json.loads(path.read_text())
    assert first == [
        {"image_id": 43, "category_id": 1, "bbox": [10, 20, 20, 30], "score": 0.9},
        {"image_id": 43, "category_id": 90, "bbox": [0, 0, 5.5, 5], "score": 0.25},
    ]
    sink.write(frame_result(origin="a.jpg", found=rows))
    sink.close()
    assert [row["image_id"] for row in json.loads(path.read_text())] == [43, 43, 42, 42]


@pytest.mark.parametrize("found", [segmentation(MAP), classification((1, 0.5))])
def test_coco_results_of_something_else_than_detections_are_refused(tmp_path: Path, found: Result) -> None:
    sink = CocoResultsSink(tmp_path / "r.json", {"clip.mp4": 7})
    with pytest.raises(SinkError, match="COCO results are for detections: choose JSON lines or CSV"):
        sink.write(frame_result(found=found))
    assert json.loads((tmp_path / "r.json").read_text()) == []


def csv_rows(path: Path, task: str, *results: FrameResult) -> list[dict[str, str]]:
    """Write results as CSV and read them back."""
    sink = CsvSink(path, task)
    for result in results:
        sink.write(result)
    sink.close()
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_quotes_what_must_be_quoted(tmp_path: Path) -> None:
    found = detections((1, 2, 3, 4, 0.5, 2), (1, 2, 3, 4, 0.25, 1))
    results = (frame_result(origin='a,"b".jpg', found=found), frame_result(found=detections()))
    rows = csv_rows(tmp_path / "r.csv", "detect", *results)
    assert [row["label"] for row in rows] == ["bicycle", "person"]
    assert rows[0] == {
        "source": 'a,"b".jpg', "seq": "0", "class_id": "2", "label": "bicycle", "score": "0.5",
        "x1": "1.0", "y1": "2.0", "x2": "3.0", "y2": "4.0",
    }  # fmt: skip


def test_csv_of_a_segmentation_has_a_line_for_each_class_that_is_there(tmp_path: Path) -> None:
    results = (frame_result(4, segmentation(MAP)), frame_result(5, segmentation([[0]])))
    rows = csv_rows(tmp_path / "r.csv", "segment", *results)
    assert [(row["seq"], row["label"]) for row in rows] == [("4", "person"), ("4", "bicycle"), ("4", "7")]
    assert rows[1] == {
        "source": "clip.mp4", "seq": "4", "class_id": "2", "label": "bicycle", "share": "0.1875",
        "x1": "32.0", "y1": "0.0", "x2": "64.0", "y2": "36.0",
    }  # fmt: skip


def test_csv_of_a_classification_has_a_line_for_each_class(tmp_path: Path) -> None:
    found = classification((2, 0.75), (0, 0.25))
    results = (frame_result(1, found, labels=CLASSIFIER_LABELS), frame_result(2, classification()))
    rows = csv_rows(tmp_path / "r.csv", "classify", *results)
    first = {"source": "clip.mp4", "seq": "1", "class_id": "2", "label": "great white shark", "score": "0.75"}
    assert rows == [first, first | {"class_id": "0", "label": "tench", "score": "0.25"}]


@pytest.mark.parametrize("task", ["detect", "segment", "classify"])
def test_csv_has_its_header_although_nothing_is_found(tmp_path: Path, task: str) -> None:
    assert csv_rows(tmp_path / "r.csv", task) == []
    header = (tmp_path / "r.csv").read_text()
    assert header.startswith("source,seq,class_id,label,")
    CsvSink(tmp_path / "r.csv", task, attempt=1).close()
    assert (tmp_path / "r.csv").read_text() == header


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputPathError, match="cannot be written"):
        TextFile(tmp_path / "file" / "r.jsonl")
    with pytest.raises(OutputPathError, match="directory"):
        TextFile(tmp_path)
