from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from edge_mnv2.errors import OutputPathError, SinkError, SinkGoneError
from edge_mnv2.readings import DeviceEvent
from edge_mnv2.results import CameraStatus, FrameResult
from edge_mnv2.sinks import queued_outlet as outlet_module
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.sinks.outlet import Outlet
from edge_mnv2.sinks.queued_outlet import QueuedOutlet
from edge_mnv2.threads import Worker
from tests.samples import camera_status, frame_result


class RecordingSink:
    """Keeps what it gets; `before` may block or raise."""

    def __init__(self, before: Callable[[FrameResult], None] = lambda _: None) -> None:
        self.before = before
        self.results: list[FrameResult] = []
        self.closed = 0
        self.wrote = threading.Semaphore(0)

    def write(self, result: FrameResult) -> None:
        self.before(result)
        self.results.append(result)
        self.wrote.release()

    def close(self) -> None:
        self.closed += 1


def fail(_: FrameResult) -> None:
    raise SinkError("the disk is full")


def spec(*sinks: RecordingSink, wants_canvas: bool = False) -> SinkSpec:
    return SinkSpec("test", lambda attempt: sinks[attempt], wants_canvas)


def test_a_direct_outlet_gives_a_failed_sink_up_and_counts() -> None:
    sink = RecordingSink(fail)
    outlet = Outlet(spec(sink))
    outlet.write(frame_result())
    outlet.write(frame_result())
    outlet.close()
    assert (outlet.failures, outlet.dropped, outlet.is_alive) == (["the disk is full"], 2, False)
    assert sink.closed == 1


def test_a_sink_that_fails_to_close_is_a_failure_too() -> None:
    class BadClose(RecordingSink):
        def close(self) -> None:
            raise SinkError("cannot be completed")

    outlet = Outlet(spec(BadClose()))
    outlet.write(frame_result())
    outlet.close()
    assert outlet.failures == ["cannot be completed"]


def test_a_queued_outlet_never_waits_and_drops_the_oldest() -> None:
    gate, started = threading.Event(), threading.Event()

    def block(_: FrameResult) -> None:
        started.set()
        gate.wait(30)

    sink = RecordingSink(block)
    outlet = QueuedOutlet(spec(sink))
    outlet.write(frame_result(0))
    assert started.wait(10)
    for seq in range(1, 41):  # returns at once although the sink is blocked
        outlet.write(frame_result(seq))
    gate.set()
    outlet.close()
    assert [result.seq for result in sink.results] == [0, *range(25, 41)]
    assert outlet.dropped == 24
    assert sink.closed == 1


def test_a_queued_outlet_keeps_its_own_pixels() -> None:
    sink = RecordingSink()
    outlet = QueuedOutlet(spec(sink, wants_canvas=True))
    result = frame_result(5)
    assert result.canvas is not None
    outlet.write(result)
    result.canvas[:] = 0
    outlet.close()
    kept = sink.results[0].canvas
    assert kept is not None
    assert (kept == 5).all()


def test_a_failed_queued_sink_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "_FIRST_RETRY_S", 0.001)
    broken, good = RecordingSink(fail), RecordingSink()
    attempts: list[int] = []

    def open_sink(attempt: int) -> RecordingSink:
        attempts.append(attempt)
        if attempt == 1:
            raise OutputPathError("the folder is still gone")
        return good if attempt else broken

    outlet = QueuedOutlet(SinkSpec("test", open_sink, wants_canvas=False))
    outlet.write(frame_result(0))
    while not good.results:
        outlet.write(frame_result(1))
        good.wrote.acquire(timeout=0.05)
    outlet.close()
    assert attempts == [0, 1, 2]
    assert outlet.failures == [], "it works again: what was lost is counted, as with a camera that came back"
    assert (broken.closed, good.closed) == (1, 1)


def test_a_reader_that_has_gone_is_not_waited_for() -> None:
    def gone(_: FrameResult) -> None:
        raise SinkGoneError("whoever was reading it has gone")

    sink = RecordingSink(gone)
    outlet = QueuedOutlet(spec(sink))
    outlet.write(frame_result())
    while outlet.is_alive:
        outlet.write(frame_result())
    outlet.close()
    assert outlet.failures == ["whoever was reading it has gone"]
    assert sink.closed == 1


def test_retries_grow_until_a_write_succeeds_and_trouble_is_told_when_it_begins_and_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []

    def no_wait(outlet: QueuedOutlet, pause_s: float) -> bool:
        pauses.append(pause_s)
        return False

    monkeypatch.setattr(QueuedOutlet, "_wait", no_wait)
    opened: list[RecordingSink] = []

    def open_sink(attempt: int) -> RecordingSink:
        opened.append(RecordingSink(fail if attempt < 6 else lambda _: None))
        return opened[-1]

    told: list[DeviceEvent] = []
    outlet = QueuedOutlet(SinkSpec("test", open_sink, wants_canvas=False), told.append)
    for seq in range(7):
        outlet.write(frame_result(seq))
    outlet.close()
    assert pauses == [1, 2, 4, 8, 10, 10]
    assert (outlet.failures, outlet.trouble) == ([], "")
    assert [result.seq for result in opened[6].results] == [6]
    assert (outlet.dropped, [sink.closed for sink in opened]) == (6, [1] * 7)
    assert [(event.name, event.is_active, event.text) for event in told] == [
        ("test", True, "the disk is full"),
        ("test", False, "test works again; results lost: 6."),
    ]
    assert [record.levelname for record in caplog.records if "trouble" in record.name] == ["ERROR", "WARNING"]


def test_a_sink_that_fails_again_soon_is_opened_with_longer_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with room for a few lines at a time must not fill the log."""
    pauses: list[float] = []
    later_s = [0.0]
    monkeypatch.setattr(QueuedOutlet, "_wait", lambda _, pause_s: bool(pauses.append(pause_s)))
    monkeypatch.setattr(outlet_module.time, "monotonic", lambda: later_s[0])

    def fail_now_and_then(result: FrameResult) -> None:
        if result.seq in (7, 8):
            later_s[0] += 11  # the first of them: it worked for long enough; the second: it failed for long
        if result.seq in (1, 3, 5, 7, 8, 9):
            raise SinkError("the disk is full")

    told: list[DeviceEvent] = []
    outlet = QueuedOutlet(
        SinkSpec("test", lambda _: RecordingSink(fail_now_and_then), wants_canvas=False), told.append
    )
    for seq in range(12):
        outlet.write(frame_result(seq))
    outlet.close()
    assert pauses == [1, 2, 4, 1, 2, 4]
    assert [event.text for event in told] == [
        *["the disk is full", "test works again; results lost: 1."] * 3,
        *["the disk is full", "test works again; results lost: 3."],
    ]
    assert outlet.failures == []


def test_a_sink_that_blocks_while_results_are_lost_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "_BLOCKED_S", 0.0)
    gate, started = threading.Event(), threading.Event()

    def block(result: FrameResult) -> None:
        if result.seq == 0:
            started.set()
            gate.wait(30)

    told: list[DeviceEvent] = []
    sink = RecordingSink(block)
    outlet = QueuedOutlet(SinkSpec("pipe", lambda _: sink, wants_canvas=False, queue_length=4), told.append)
    outlet.write(frame_result(0))
    assert started.wait(10)
    for seq in range(1, 5):
        outlet.write(frame_result(seq))
    assert not told, "nothing is lost yet"
    for seq in range(5, 10):
        outlet.write(frame_result(seq))
    assert outlet.trouble == "pipe is blocked."
    gate.set()
    outlet.close()
    assert [event.text for event in told] == ["pipe is blocked.", "pipe works again; results lost: 5."]
    assert (outlet.dropped, outlet.failures, outlet.trouble) == (5, [], "")


def write_for_ever(outlet: QueuedOutlet) -> None:
    while True:
        outlet.write(frame_result())


def test_an_unforeseen_error_of_a_queued_sink_reaches_the_loop() -> None:
    def crash(_: FrameResult) -> None:
        raise ZeroDivisionError("a bug")

    outlet = QueuedOutlet(spec(RecordingSink(crash)))
    outlet.write(frame_result())
    with pytest.raises(ZeroDivisionError, match="a bug"):
        write_for_ever(outlet)
    assert not outlet.is_alive


def test_blocked_sinks_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    waited_s: list[float] = []
    monkeypatch.setattr(Worker, "join", lambda _, timeout_s: waited_s.append(timeout_s) or False)
    gate = threading.Event()
    outlets = [QueuedOutlet(spec(RecordingSink(lambda _: gate.wait(30) and None))) for _ in range(2)]
    for outlet in outlets:
        outlet.stop()
    # The first took two of the three seconds.
    later_s = time.monotonic() + 2
    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    for outlet in outlets:
        outlet.close()
    gate.set()
    assert all(0.5 < waited <= 1.5 for waited in waited_s)


def test_a_blocked_sink_does_not_block_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "_DRAIN_TIMEOUT_S", 0.01)
    gate = threading.Event()
    outlet = QueuedOutlet(spec(RecordingSink(lambda _: gate.wait(30) and None)))
    outlet.write(frame_result())
    outlet.close()
    assert "still blocked" in outlet.failures[0]
    gate.set()


class StatefulSink(RecordingSink):
    """Keeps states, too."""

    def __init__(self, before: Callable[[FrameResult], None] = lambda _: None) -> None:
        super().__init__(before)
        self.states: list[CameraStatus] = []

    def show(self, status: CameraStatus) -> None:
        self.states.append(status)


@pytest.mark.parametrize("kind", [Outlet, QueuedOutlet])
def test_states_reach_the_sinks_that_take_them(kind: type[Outlet | QueuedOutlet]) -> None:
    stateful, plain = StatefulSink(), RecordingSink()
    for sink in (stateful, plain):
        outlet = kind(spec(sink, wants_canvas=True))
        outlet.write(frame_result(0))
        outlet.write(camera_status("lost"))
        outlet.close()
        assert [result.seq for result in sink.results] == [0]
        assert (outlet.dropped, outlet.failures) == (0, [])
    assert [status.state for status in stateful.states] == ["lost"]


def test_what_happened_to_the_camera_outlasts_frames_in_a_full_queue() -> None:
    gate, started = threading.Event(), threading.Event()

    def block(_: FrameResult) -> None:
        started.set()
        gate.wait(30)

    sink = StatefulSink(block)
    outlet = QueuedOutlet(spec(sink))
    outlet.write(frame_result(0))
    assert started.wait(10)
    outlet.write(camera_status("lost"))
    outlet.write(camera_status("lost", is_change=False))
    outlet.write(camera_status("live"))
    for seq in range(1, 41):
        outlet.write(frame_result(seq))
    gate.set()
    outlet.close()
    assert [status.state for status in sink.states] == ["lost", "live"]
    assert [result.seq for result in sink.results] == [0, *range(27, 41)]
    assert outlet.dropped == 26, "frames; a state that is only repeated is no loss"


def test_nobody_pays_for_pixels_that_nobody_watches() -> None:
    sink, watched = RecordingSink(), [False]
    outlet = QueuedOutlet(SinkSpec("test", lambda _: sink, wants_canvas=True, is_watched=lambda: watched[0]))
    assert not outlet.wants_canvas
    outlet.write(frame_result(0))  # of another sink's canvas nothing is kept
    watched[0] = True
    assert outlet.wants_canvas
    outlet.write(frame_result(1))
    outlet.close()
    assert [result.canvas is None for result in sink.results] == [True, False]
