from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from camera import (
    BadFrameError,
    CameraError,
    CameraState,
    EndOfStream,
    Frame,
    FrameSource,
    SourceInfo,
    StateChange,
    open_source,
)
from edge_mnv2 import pipeline
from edge_mnv2.errors import OutputPathError, RunError, SinkError
from edge_mnv2.mailbox import Mailbox
from edge_mnv2.overlay import draw_overlay
from edge_mnv2.pipeline import RunControl, run_pipeline
from edge_mnv2.predictor import Predictor
from edge_mnv2.results import CameraStatus, Classification, FrameResult, SegmentationMap
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.sinks.base import SinkSpec
from engines import EngineError
from tests.samples import CLASSIFIER_LABELS, LABELS, fake_classifier, fake_predictor, fake_segmenter


class ListSource:
    """Plays a list of frames and errors, as a file or as a camera."""

    def __init__(self, items: Sequence[Frame | CameraError], *, live: bool = False) -> None:
        self.items = list(items)
        self.live = live
        self.closed = False

    def open(self) -> SourceInfo:
        return SourceInfo("list", self.live, 25.0, len(self.items), (8, 8))

    def read(self) -> Frame:
        if not self.items:
            raise EndOfStream("no more")
        item = self.items.pop(0)
        if isinstance(item, CameraError):
            raise item
        return item

    def close(self) -> None:
        self.closed = True


class Collector:
    """A sink that keeps results, and the address of the canvas each came with."""

    def __init__(self) -> None:
        self.results: list[FrameResult] = []
        self.canvases: list[int] = []
        self.closed = False

    def write(self, result: FrameResult) -> None:
        self.results.append(result)
        if result.canvas is not None:
            self.canvases.append(result.canvas.ctypes.data)

    def close(self) -> None:
        self.closed = True


def frame(seq: int, released: list[int] | None = None) -> Frame:
    log = [] if released is None else released
    return Frame(np.zeros((8, 8, 3), np.uint8), seq, time.monotonic_ns(), "list", lambda: log.append(seq))


def run(
    source: FrameSource,
    *sinks: Collector,
    canvas: bool = False,
    stop: threading.Event | None = None,
    max_frames: int | None = None,
    predictor: Predictor | None = None,
) -> RunSummary:
    specs = [SinkSpec(f"sink {index}", lambda _, sink=sink: sink, canvas) for index, sink in enumerate(sinks)]
    control = RunControl(stop or threading.Event(), max_frames)
    return run_pipeline(source, predictor or fake_predictor(), lambda _: specs, control)


def test_a_file_is_lossless_and_frames_are_released_in_order() -> None:
    released: list[int] = []
    source, sink = ListSource([frame(seq, released) for seq in range(20)]), Collector()
    summary = run(source, sink)
    assert [result.seq for result in sink.results] == list(range(20)) == released
    assert (summary.frames, summary.ok, summary.interrupted) == (20, True, False)
    assert summary.found == {"person": 20}
    assert summary.stages.keys() == {"read", "prepare", "infer", "decode", "sinks"}
    assert not any(summary.drops.values())
    assert sink.closed
    assert source.closed
    result = sink.results[3]
    assert (result.width, result.height, result.origin, result.task) == (8, 8, "list", "detect")
    assert result.age_ms >= 0


def test_a_segmentation_counts_the_frames_that_show_a_class() -> None:
    source, sink = ListSource([frame(seq) for seq in range(4)]), Collector()
    summary = run(source, sink, predictor=fake_segmenter())
    assert summary.found == {"person": 4}  # and no background
    assert summary.stages.keys() == {"read", "prepare", "infer", "decode", "sinks"}
    for result in sink.results:
        assert (result.task, result.labels, result.canvas) == ("segment", LABELS, None)
        assert isinstance(result.found, SegmentationMap)
        assert (result.found.class_id.mean(), result.found.class_id[:, 0].all()) == (0.5, True)


def test_a_classification_counts_the_best_class_of_each_frame() -> None:
    source, sink = ListSource([frame(seq) for seq in range(4)]), Collector()
    summary = run(source, sink, predictor=fake_classifier())
    assert summary.found == {"goldfish": 4}
    for result in sink.results:
        assert (result.task, result.labels) == ("classify", CLASSIFIER_LABELS)
        assert isinstance(result.found, Classification)
        assert result.found.class_id.tolist() == [1, 2, 0]


@pytest.mark.parametrize("make", [fake_predictor, fake_segmenter, fake_classifier])
def test_what_is_found_is_drawn_onto_the_canvas_and_onto_nothing_else(make: Callable[[], Predictor]) -> None:
    image = np.full((96, 128, 3), 90, np.uint8)
    drawn: list[np.ndarray] = []

    class Copying(Collector):
        def write(self, result: FrameResult) -> None:
            assert result.canvas is not None
            drawn.append(result.canvas.copy())

    class Pictures(ListSource):
        def open(self) -> SourceInfo:
            return SourceInfo("list", False, None, 1, None)  # without a rate, and so without a status line

    still = Frame(image, 0, time.monotonic_ns(), "list")
    summary = run(Pictures([still]), Copying(), canvas=True, predictor=make())
    expected = np.full_like(image, 90)
    found, _ = make().predict(image)
    draw_overlay(expected, found, make().labels)
    np.testing.assert_array_equal(drawn[0], expected)
    assert (expected != 90).any()
    assert (image == 90).all()
    assert summary.stages.keys() == {"read", "prepare", "infer", "decode", "overlay", "sinks"}


def test_bad_frames_are_counted_and_the_rest_goes_on() -> None:
    source = ListSource([frame(0), BadFrameError("x.jpg is empty"), frame(2)])
    sink = Collector()
    summary = run(source, sink)
    assert [result.seq for result in sink.results] == [0, 2]
    assert summary.bad_frames == 1
    assert not summary.ok


def test_damaged_frames_of_a_camera_are_counted_no_failure_and_told_ever_more_seldom(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = [BadFrameError(f"frame {number} is damaged") for number in range(150)]
    summary = run(ListSource([frame(0), *bad, frame(200)], live=True))
    assert (summary.bad_frames, summary.ok) == (150, True)
    told = [line for line in caplog.messages if "damaged" in line]
    assert told == [
        "frame 0 is damaged",
        "frame 9 is damaged (10 damaged frames by now)",
        "frame 99 is damaged (100 damaged frames by now)",
    ]
    summary = run(ListSource([BadFrameError("all is damaged")], live=True))
    assert summary.failures == ["list gave no frame."]


def test_the_overlay_makes_no_record_late(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_overlay(*_: object) -> None:
        time.sleep(0.5)

    monkeypatch.setattr(pipeline, "draw_overlay", slow_overlay)
    sink, captured = Collector(), frame(0)
    started_ns, started = time.monotonic_ns(), datetime.now(timezone.utc)
    run(ListSource([captured]), sink, canvas=True)
    late_s = (sink.results[0].captured_at - started).total_seconds() - (
        captured.captured_ns - started_ns
    ) / 1e9
    assert abs(late_s) < 0.3


@pytest.mark.parametrize("live", [False, True])
def test_a_source_that_fails_ends_the_run_with_what_came_before(live: bool) -> None:
    sink = Collector()
    summary = run(ListSource([frame(0), CameraError("the cable is out")], live=live), sink)
    assert len(sink.results) == 1
    assert summary.failures == ["the cable is out"]
    assert sink.closed


def test_a_source_without_frames_is_a_failure() -> None:
    summary = run(ListSource([]))
    assert summary.failures == ["list gave no frame."]


def test_an_engine_that_fails_ends_the_run_and_closes_the_sinks() -> None:
    def crash() -> None:
        raise EngineError("out of memory")

    sink = Collector()
    summary = run(ListSource([frame(0)]), sink, predictor=fake_predictor(crash))
    assert summary.failures == ["out of memory"]
    assert sink.closed


def test_a_crash_in_the_capture_thread_reaches_the_caller() -> None:
    class Crashing(ListSource):
        def read(self) -> Frame:
            raise ZeroDivisionError("a bug")

    sink = Collector()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(Crashing([], live=True), sink)
    assert sink.closed


def test_stop_finishes_the_frame_in_hand_and_closes_everything() -> None:
    stop = threading.Event()
    source, sink = ListSource([frame(seq) for seq in range(9)]), Collector()
    summary = run(source, sink, stop=stop, predictor=fake_predictor(stop.set))
    assert (len(sink.results), summary.frames, summary.interrupted, summary.ok) == (1, 1, True, True)
    assert sink.closed
    assert source.closed


def test_stop_ends_a_live_run_that_waits_for_a_frame() -> None:
    class Silent(ListSource):
        def __init__(self) -> None:
            super().__init__([], live=True)
            self.ended = threading.Event()

        def read(self) -> Frame:
            stop.set()
            self.ended.wait(30)
            raise EndOfStream("closed")

        def close(self) -> None:
            self.ended.set()

    stop = threading.Event()
    summary = run(Silent(), stop=stop)
    assert (summary.frames, summary.interrupted) == (0, True)


def test_max_frames_ends_the_run() -> None:
    sink = Collector()
    assert run(ListSource([frame(seq) for seq in range(9)]), sink, max_frames=4).frames == 4
    assert len(sink.results) == 4


def test_live_newest_frame_wins_and_drops_are_counted() -> None:
    """The camera is five times as fast as the engine: what reaches the sinks is always the newest."""
    released: list[int] = []
    all_read = threading.Event()

    class Fast(ListSource):
        def read(self) -> Frame:
            if not self.items:
                all_read.set()
            return super().read()

    source = Fast([frame(seq, released) for seq in range(100)], live=True)
    # The first inference lasts until the camera has shown everything.
    summary = run(source, sink := Collector(), predictor=fake_predictor(lambda: all_read.wait(30) and None))
    seen = [result.seq for result in sink.results]
    assert seen[-1] == 99
    assert len(seen) <= 3
    assert summary.drops["newer frame came"] == 100 - len(seen)
    assert sorted(released) == list(range(100))


def test_what_was_lost_at_the_source_is_a_cause_of_its_own() -> None:
    class Lossy(ListSource):
        lost = 7

    assert run(Lossy([frame(0)], live=True), Collector()).drops["lost at the source"] == 7
    assert "lost at the source" not in run(ListSource([frame(0)], live=True), Collector()).drops


@pytest.mark.parametrize("make", [fake_predictor, fake_segmenter, fake_classifier])
def test_the_frame_itself_goes_to_the_network_and_nothing_is_copied(make: Callable[[], Predictor]) -> None:
    """Headless: the network reads the camera's buffer, and no memory of a frame's size is taken."""
    height, width = 1000, 1500
    seen: list[int] = []
    predictor = make()
    network = predictor._decoded.network
    prepare = network.prepare

    def spy(image: np.ndarray, out: np.ndarray) -> object:
        seen.append(image.ctypes.data)
        return prepare(image, out)

    network.prepare = spy  # type: ignore[method-assign]
    images = [np.zeros((height, width, 3), np.uint8) for _ in range(3)]
    frames = [Frame(image, seq, time.monotonic_ns(), "list") for seq, image in enumerate(images)]
    tracemalloc.start()
    try:
        run(ListSource(frames), Collector(), predictor=predictor)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == [image.ctypes.data for image in images]
    assert peak < height * width * 3 / 4


def test_a_live_run_that_is_cut_short_releases_every_frame() -> None:
    released: list[int] = []
    handed_out: list[int] = []

    class Endless(ListSource):
        def read(self) -> Frame:
            handed_out.append(len(handed_out))
            return frame(handed_out[-1], released)

    run(Endless([], live=True), max_frames=5)
    assert sorted(released) == handed_out


def test_a_crash_of_a_queued_sink_reaches_the_caller_even_on_the_last_frame() -> None:
    class Crashing(Collector):
        def write(self, result: FrameResult) -> None:
            raise ZeroDivisionError("a bug")

    other = Collector()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(ListSource([frame(0)], live=True), Crashing(), other)
    assert other.closed


def test_outputs_never_take_the_place_of_inputs_or_of_each_other(tmp_path: Path) -> None:
    class Reading(ListSource):
        def open(self) -> SourceInfo:
            paths = (tmp_path / "in" / "clip.mp4", tmp_path / "pictures" / "1.jpg")
            return SourceInfo("list", False, 25.0, 1, (8, 8), paths)

    (tmp_path / "link").symlink_to(tmp_path / "in")
    for paths in (["in/clip.mp4"], ["link/clip.mp4"], ["pictures"], ["out.mp4", "sub/../out.mp4"]):
        specs = [SinkSpec("x", lambda _: Collector(), False, tmp_path / path) for path in paths]
        with pytest.raises(OutputPathError, match="choose another path"):
            run_pipeline(
                Reading([frame(0)]), fake_predictor(), lambda _, s=specs: s, RunControl(threading.Event())
            )


def test_one_canvas_serves_all_frames_and_leaves_them_untouched() -> None:
    frames = [frame(seq) for seq in range(3)]
    images = [item.image for item in frames]
    sink = Collector()
    run(ListSource(frames), sink, canvas=True)
    assert len(set(sink.canvases)) == 1
    assert all(not image.any() for image in images)


def test_a_dead_sink_does_not_stop_the_others_but_the_last_one_does() -> None:
    class Dying(Collector):
        def __init__(self, after: int) -> None:
            super().__init__()
            self.after = after

        def write(self, result: FrameResult) -> None:
            if len(self.results) == self.after:
                raise SinkError(f"full after {self.after}")
            super().write(result)

    early, late = Dying(2), Dying(5)
    summary = run(ListSource([frame(seq) for seq in range(50)]), early, late)
    assert (len(early.results), len(late.results), summary.frames) == (2, 5, 6)
    assert summary.failures == ["full after 2", "full after 5"]
    assert summary.drops["sink 0"] == 4


def test_a_sink_that_cannot_be_opened_closes_what_was_opened() -> None:
    source, good = ListSource([frame(0)]), Collector()

    def refuse(_: int) -> Collector:
        raise OutputPathError("read-only")

    specs = [SinkSpec("good", lambda _: good, False), SinkSpec("bad", refuse, False)]
    with pytest.raises(OutputPathError):
        run_pipeline(source, fake_predictor(), lambda _: specs, RunControl(threading.Event()))
    assert good.closed
    assert source.closed


def test_the_synthetic_camera_runs_live_through_a_queue(tmp_path: Path) -> None:
    sink = Collector()
    summary = run(open_source("test://?size=64x48&fps=200&frames=60"), sink, canvas=True)
    assert summary.frames == len(sink.results) + summary.drops["sink 0"]
    assert summary.frames + summary.drops["newer frame came"] == 60
    seen = [result.seq for result in sink.results]
    assert seen == sorted(set(seen))


def test_times_begin_anew_where_another_engine_takes_over() -> None:
    slow = threading.Event()

    def infer() -> None:
        if not slow.is_set():
            time.sleep(0.5)

    predictor = fake_predictor(infer)

    def watch(done: int, _: int | None) -> None:
        if done == 2:  # as a successor does between two frames
            slow.set()
            predictor._turns.backend, predictor._turns.precision = "tensorrt", "fp16"

    control = RunControl(threading.Event(), on_frame=watch)
    summary = run_pipeline(ListSource([frame(seq) for seq in range(5)]), predictor, lambda _: [], control)
    assert (summary.engine, summary.engine_since, summary.frames) == ("tensorrt fp16", 2, 5)
    assert summary.stages["infer"].p99_ms < 500  # of the second alone; the first took longer every time
    alone = run(ListSource([frame(0)]))
    assert (alone.engine, alone.engine_since) == ("fake fp32", 0)


def test_a_failure_to_run_is_in_the_summary() -> None:
    def refuse() -> None:
        raise RunError("The plan disagrees.")

    collector = Collector()
    summary = run(ListSource([frame(0)]), collector, predictor=fake_predictor(refuse))
    assert summary.failures == ["The plan disagrees."]
    assert collector.closed


# A camera that goes and comes back.


class StatesCollector(Collector):
    """Keeps states, too, and says when one came."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[CameraStatus] = []
        self.written = threading.Event()
        self.repeated = threading.Event()

    def write(self, result: FrameResult) -> None:
        super().write(result)
        self.written.set()

    def show(self, status: CameraStatus) -> None:
        self.states.append(status)
        if not status.is_change:
            self.repeated.set()


class LeavingCamera(ListSource):
    """Gives a frame, is lost until somebody has seen the banner, and comes back."""

    def __init__(self, states: Mailbox[StateChange], sink: StatesCollector) -> None:
        super().__init__([], live=True)
        self.states = states
        self.sink = sink
        self.reads = 0

    def change(self, state: CameraState, reason: str = "", **values: int) -> None:
        self.states.put(StateChange(state, reason, time.monotonic_ns(), **values))

    def read(self) -> Frame:
        self.reads += 1
        if self.reads == 1:
            self.change(CameraState.LIVE)
            return frame(0)
        if self.reads == 2:
            assert self.sink.written.wait(30)
            lost_since_ns = time.monotonic_ns()
            self.change(CameraState.LOST, "Its cable was pulled.", lost_since_ns=lost_since_ns)
            self.change(CameraState.RECONNECTING, lost_since_ns=lost_since_ns, attempt=1)
            assert self.sink.repeated.wait(30)
            self.change(CameraState.LIVE)
            return frame(7)
        raise EndOfStream("no more")


def test_sinks_hear_of_a_lost_camera_and_see_its_last_frame_with_a_banner(
    caplog: pytest.LogCaptureFixture,
) -> None:
    states, sink = Mailbox[StateChange](), StatesCollector()
    specs = [SinkSpec("sink", lambda _: sink, wants_canvas=True)]
    with caplog.at_level("INFO"):
        summary = run_pipeline(
            LeavingCamera(states, sink),
            fake_predictor(),
            lambda _: specs,
            RunControl(threading.Event(), states=states),
        )
    assert (summary.frames, summary.camera_losses, summary.ok) == (2, 1, True)
    assert [result.seq for result in sink.results] == [0, 7]
    told = [status for status in sink.states if status.is_change]
    assert [status.state for status in told] == ["live", "lost", "reconnecting", "live"]
    assert [status.lost_since is None for status in told] == [True, False, False, True]
    assert [status.canvas is None for status in told] == [True, False, False, True]
    assert told[1].origin == "list"
    assert 0 <= (told[1].at - told[1].lost_since).total_seconds() < 30  # type: ignore[operator]
    repeated = [status for status in sink.states if not status.is_change]
    assert {status.state for status in repeated} == {"reconnecting"}
    for status in (*told[1:3], *repeated):
        assert status.canvas is not None
        assert status.canvas.shape == (8, 8, 3)
    assert [record.getMessage() for record in caplog.records if "list is" in record.getMessage()] == [
        "list is live",
        "list is lost: Its cable was pulled.",
        "list is reconnecting",
        "list is live",
    ]


def test_whoever_looks_at_a_lost_camera_sees_its_last_second() -> None:
    """Nobody looked while it was there: without a canvas for each frame, one a second is kept."""
    states, sink, watched = Mailbox[StateChange](), StatesCollector(), [False]
    camera = LeavingCamera(states, sink)
    change = camera.change

    def look(state: CameraState, reason: str = "", **values: int) -> None:
        watched[0] = state is not CameraState.LIVE
        change(state, reason, **values)

    camera.change = look  # type: ignore[method-assign]
    spec = SinkSpec("sink", lambda _: sink, wants_canvas=True, is_watched=lambda: watched[0])
    control = RunControl(threading.Event(), states=states)
    run_pipeline(camera, fake_predictor(), lambda _: [spec], control)
    assert [result.canvas for result in sink.results] == [None, None]
    lost = next(status for status in sink.states if status.state == "lost")
    assert lost.canvas is not None


def test_a_stop_ends_a_run_whose_camera_does_not_open() -> None:
    class Hanging(ListSource):
        def __init__(self) -> None:
            super().__init__([], live=True)
            self.let_go = threading.Event()

        def open(self) -> SourceInfo:
            assert self.let_go.wait(30)
            raise CameraError("closed while it was opened")

        def close(self) -> None:
            self.let_go.set()

    stop = threading.Event()
    stop.set()
    summary = run(Hanging(), Collector(), stop=stop)
    assert (summary.frames, summary.interrupted, summary.ok) == (0, True, True)


def test_the_status_line_can_be_hidden_while_it_runs() -> None:
    shown = iter([True, False])
    pixels = []

    class Keeper(Collector):
        def write(self, result: FrameResult) -> None:
            assert result.canvas is not None
            pixels.append(result.canvas.copy())

    frames = [
        Frame(np.full((120, 160, 3), 90, np.uint8), seq, time.monotonic_ns(), "list") for seq in range(2)
    ]
    source = ListSource(frames)
    control = RunControl(threading.Event(), shows_hud=lambda: next(shown))
    run_pipeline(source, fake_predictor(), lambda _: [SinkSpec("k", lambda _: Keeper(), True)], control)
    with_hud, without = pixels
    assert (without[0] == 90).all()
    assert not (with_hud[:20] == without[:20]).all()
    assert (with_hud[40:] == without[40:]).all()
