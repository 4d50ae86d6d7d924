from __future__ import annotations

import csv
import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mnv2.errors import OutputPathError, SinkError
from edge_mnv2.sinks.coco import CocoResultsSink
from edge_mnv2.sinks.csv_table import CsvSink
from edge_mnv2.sinks.jsonl import JsonLinesSink
from edge_mnv2.sinks.record import to_record
from edge_mnv2.sinks.text_file import TextFile
from tests.samples import detections, frame_result


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


def test_csv_quotes_what_must_be_quoted(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "r.csv")
    sink.write(
        frame_result(origin='a,"b".jpg', found=detections((1, 2, 3, 4, 0.5, 2), (1, 2, 3, 4, 0.25, 1)))
    )
    sink.write(frame_result(found=detections()))
    sink.close()
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["bicycle", "person"]
    assert rows[0] == {
        "source": 'a,"b".jpg', "seq": "0", "class_id": "2", "label": "bicycle", "score": "0.5",
        "x1": "1.0", "y1": "2.0", "x2": "3.0", "y2": "4.0",
    }  # fmt: skip


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputPathError, match="cannot be written"):
        TextFile(tmp_path / "file" / "r.jsonl")
    with pytest.raises(OutputPathError, match="directory"):
        TextFile(tmp_path)
