"""JSON lines behind their queue: disks that fill up, pipes that nobody reads."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_mnv2.readings import DeviceEvent
from edge_mnv2.sinks import queued_outlet as outlet_module
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.sinks.queued_outlet import QueuedOutlet
from edge_mnv2.sinks.rotating_file import Rotation
from edge_mnv2.sinks.specs import jsonl_spec
from tests.samples import frame_result
from tests.sinks.test_text_sinks import file_size_limit
from tests.small_disk import fill, small_disk

WAIT_S = 30

FullDisk = Callable[[Path], AbstractContextManager[tuple[Path, Callable[[], None]]]]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "_FIRST_RETRY_S", 0.02)
    monkeypatch.setattr(outlet_module, "_MAX_RETRY_S", 0.1)


class Feeder:
    """Writes numbered results into an outlet, slowly enough that a working disk keeps up."""

    def __init__(self, spec: SinkSpec) -> None:
        self.told: queue.Queue[DeviceEvent] = queue.Queue()
        self.outlet = QueuedOutlet(spec, self.told.put)
        self.sent = 0

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.outlet.write(frame_result(self.sent))
            self.sent += 1
            threading.Event().wait(0.0005)

    def send_until_told(self) -> DeviceEvent:
        for _ in range(WAIT_S * 1000):
            self.send()
            try:
                return self.told.get_nowait()
            except queue.Empty:
                continue
        raise AssertionError("nobody was told of any trouble")


def records(*paths: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@contextmanager
def full_tmpfs(folder: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    with small_disk(folder) as disk:
        filler = fill(disk)
        with filler.open("r+b") as file:  # leave room for a few records
            file.truncate(filler.stat().st_size - 8192)
        yield disk, filler.unlink


@contextmanager
def limited_files(folder: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    folder.mkdir()
    limit = file_size_limit(5000)
    limit.__enter__()
    removed: list[int] = []

    def remove() -> None:
        if not removed:
            removed.append(1)
            limit.__exit__(None, None, None)

    try:
        yield folder, remove
    finally:
        remove()


@pytest.mark.parametrize(
    ("full_disk", "rotation"),
    [
        (full_tmpfs, None),
        (full_tmpfs, Rotation()),
        (full_tmpfs, Rotation(max_bytes=4000)),
        (limited_files, None),
        (limited_files, Rotation()),
    ],
)
def test_a_full_disk_is_an_event_and_recording_goes_on_when_there_is_room(
    tmp_path: Path, full_disk: FullDisk, rotation: Rotation | None, caplog: pytest.LogCaptureFixture
) -> None:
    with full_disk(tmp_path / "disk") as (disk, make_room):
        path = disk / "out.jsonl"
        feeder = Feeder(jsonl_spec(path, rotation=rotation, is_live=True))
        begun = feeder.send_until_told()
        assert begun.is_active
        assert "out.jsonl" in begun.text
        feeder.send(300)  # more than the queue holds: the loop goes on, and results are lost
        assert feeder.outlet.trouble == begun.text
        written_before = len(records(*sorted(disk.glob("out*.jsonl"))))
        make_room()
        ended = feeder.send_until_told()
        assert not ended.is_active
        feeder.send(20)
        feeder.outlet.close()
        found = [record["seq"] for record in records(*sorted(disk.glob("out-*.jsonl")), path)]
        assert feeder.outlet.failures == [], "what healed is no failure of the run"
        assert found == sorted(set(found))
        assert 0 < written_before < len(found)
        lost = feeder.sent - len(found)
        assert lost > 100
        assert feeder.outlet.dropped == lost, "the gap is counted"
        assert ended.text.endswith(f"results lost: {lost}.")
        assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


def test_a_disk_that_is_full_to_the_end_is_a_failure(tmp_path: Path) -> None:
    with full_tmpfs(tmp_path / "disk") as (disk, _):
        feeder = Feeder(jsonl_spec(disk / "out.jsonl", is_live=True))
        feeder.send_until_told()
        feeder.outlet.close()
        (failure,) = feeder.outlet.failures
        assert "the disk is full. Make room" in failure
        assert feeder.outlet.dropped == feeder.sent - len(records(disk / "out.jsonl"))


def test_a_cap_keeps_a_small_disk_from_filling_up(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        rotation = Rotation(max_bytes=100_000, keep_bytes=500_000)
        sink = jsonl_spec(disk / "out.jsonl", rotation=rotation).open(0)
        for seq in range(12_000):
            sink.write(frame_result(seq))
        sink.close()
        files = sorted(disk.glob("out-*.jsonl"))
        found = [record["seq"] for record in records(*files, disk / "out.jsonl")]
        assert found == list(range(12_000 - len(found), 12_000))
        assert 400_000 < sum(path.stat().st_size for path in files) <= 500_000


def test_a_pipe_is_written_while_somebody_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    feeder = Feeder(jsonl_spec(path, is_live=True))  # does not wait for a reader
    assert feeder.send_until_told().text == f"{path}: nobody reads this pipe yet."
    newest = -1
    for _ in range(2):  # readers come and go
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as reader:
            assert not feeder.send_until_told().is_active
            feeder.send(10)
            os.set_blocking(reader.fileno(), True)
            seen = [json.loads(reader.readline())["seq"] for _ in range(5)]
            assert seen == sorted(set(seen))
            assert seen[0] > newest
            newest = seen[-1]
        assert feeder.send_until_told().text == f"{path}: whoever was reading it has gone."
    feeder.outlet.close()
    assert feeder.outlet.failures == [f"{path}: whoever was reading it has gone."]


def test_a_pipe_that_blocks_is_trouble_and_holds_the_end_up_for_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet_module, "_BLOCKED_S", 0.1)
    monkeypatch.setattr(outlet_module, "_DRAIN_TIMEOUT_S", 0.1)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        feeder = Feeder(jsonl_spec(path, is_live=True))
        assert feeder.send_until_told().text == f"jsonl {path} is blocked."
        feeder.outlet.close()
        assert feeder.outlet.failures == [f"jsonl {path} is still blocked: its last results are lost."]
    finally:
        os.close(reader)  # the sink's thread gets its answer, and ends
    assert feeder.outlet._worker.join(WAIT_S)
