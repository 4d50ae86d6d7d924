"""Outputs that fail, block and fill their disk at once, while the loop keeps its rate."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from camera import open_source
from edge_mnv2.errors import SinkError
from edge_mnv2.pipeline import RunControl, run_pipeline
from edge_mnv2.results import FrameResult
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.sinks import queued_outlet as outlet_module
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.sinks.rotating_file import Rotation
from edge_mnv2.sinks.specs import jsonl_spec
from edge_mnv2.threads import Worker
from tests.samples import fake_predictor
from tests.small_disk import fill, small_disk

WAIT_S = 60
FPS = 50


class Log(logging.Handler):
    """Lets a test wait for a line."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._came = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._came:
            self.lines.append(record.getMessage())
            self._came.notify_all()

    def wait_for(self, *parts: str) -> None:
        def is_there() -> bool:
            return any(all(part in line for part in parts) for line in self.lines)

        with self._came:
            assert self._came.wait_for(is_there, WAIT_S), f"{parts} never came: {self.lines}"


class FailingSink:
    """Takes five results, then never another one; opened again, the same."""

    def __init__(self) -> None:
        self.left = 5

    def write(self, _: FrameResult) -> None:
        self.left -= 1
        if self.left < 0:
            raise SinkError("the network disk is gone.")

    def close(self) -> None:
        pass


class HangingSink:
    """Hangs like a network disk whose server went away."""

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate

    def write(self, _: FrameResult) -> None:
        self.gate.wait(2 * WAIT_S)

    def close(self) -> None:
        pass


@pytest.fixture
def log() -> Iterator[Log]:
    handler = Log()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


class Loop:
    """A loop on a synthetic camera, in a thread of its own."""

    def __init__(self, *specs: SinkSpec) -> None:
        self.done = 0
        self._stop = threading.Event()
        self._summaries: list[RunSummary] = []
        source, control = (
            open_source(f"test://?size=64x48&fps={FPS}"),
            RunControl(self._stop, on_frame=self._count),
        )
        self._worker = Worker(
            lambda: self._summaries.append(run_pipeline(source, fake_predictor(), lambda _: specs, control)),
            "loop",
        )

    def _count(self, done: int, _: int | None) -> None:
        self.done = done

    def wait_for_frames(self, more: int) -> None:
        """Wait until the loop has done so many frames more."""
        target, end_s = self.done + more, time.monotonic() + WAIT_S
        while self.done < target:
            assert time.monotonic() < end_s, f"the loop stands still at {self.done} frames"
            time.sleep(0.01)

    def end(self) -> RunSummary:
        self._stop.set()
        assert self._worker.join(WAIT_S), "the loop does not end"
        self._worker.check()
        return self._summaries[0]


def read_seqs(*paths: Path) -> list[int]:
    return [json.loads(line)["seq"] for path in paths for line in path.read_text().splitlines()]


def test_the_loop_keeps_its_rate_whatever_its_outputs_do(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet_module, "_BLOCKED_S", 0.5)
    unread, stuck = tmp_path / "unread", tmp_path / "stuck"
    for pipe in (unread, stuck):
        os.mkfifo(pipe)
    reader = os.open(stuck, os.O_RDONLY | os.O_NONBLOCK)  # opens it, and never reads
    gate, good = threading.Event(), tmp_path / "good.jsonl"
    loop = Loop(
        jsonl_spec(good, rotation=Rotation(max_bytes=20_000), is_live=True),
        jsonl_spec(Path("/dev/full"), is_live=True),
        jsonl_spec(unread, is_live=True),
        jsonl_spec(stuck, is_live=True),
        SinkSpec("failing", lambda _: FailingSink(), wants_canvas=True),
        SinkSpec("hanging", lambda _: HangingSink(gate), wants_canvas=True),
    )
    try:
        log.wait_for("/dev/full: the disk is full")
        log.wait_for(f"{unread}: nobody reads this pipe yet")
        log.wait_for("the network disk is gone")
        log.wait_for("hanging is blocked")
        log.wait_for(f"{stuck} is blocked")
        loop.wait_for_frames(3 * FPS)
        stopped_s = time.monotonic()
        summary = loop.end()
        took_s = time.monotonic() - stopped_s
    finally:
        gate.set()
        os.close(reader)
    # Every frame got to the output that works; the others lost theirs, and say how many.
    seen = read_seqs(*sorted(tmp_path.glob("good-*.jsonl")), good)
    assert len(seen) == summary.frames == loop.done
    assert summary.drops[f"jsonl {good}"] == 0
    assert summary.drops["jsonl /dev/full"] == summary.frames
    assert all(
        summary.drops[name] > FPS for name in (f"jsonl {unread}", f"jsonl {stuck}", "failing", "hanging")
    )
    # The camera's own count is the clock: had any output held the loop up for long, frames would be missing.
    assert summary.drops["newer frame came"] < summary.frames / 4
    # Blocked outputs share one bounded wait.
    assert took_s < 20
    assert [failure for failure in summary.failures if "blocked" in failure] == [
        f"jsonl {stuck} is still blocked: its last results are lost.",
        "hanging is still blocked: its last results are lost.",
    ]


def test_the_loop_keeps_its_rate_while_a_disk_is_full_and_recording_goes_on_afterwards(
    tmp_path: Path, log: Log
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        path, good = disk / "full.jsonl", tmp_path / "good.jsonl"
        filler = fill(disk)
        loop = Loop(jsonl_spec(path, rotation=Rotation(), is_live=True), jsonl_spec(good, is_live=True))
        log.wait_for("full.jsonl: the disk is full")
        loop.wait_for_frames(4 * FPS)
        filler.unlink()
        log.wait_for(f"jsonl {path} works again")  # within the longest pause between two attempts
        loop.wait_for_frames(FPS)
        summary = loop.end()
        recorded, seen = read_seqs(path), read_seqs(good)
    assert (summary.failures, len(seen)) == ([], summary.frames)
    assert summary.drops["newer frame came"] < summary.frames / 4
    assert recorded == seen[-len(recorded) :], "from the room on there is no gap"
    assert summary.drops[f"jsonl {path}"] == summary.frames - len(recorded) > 0
