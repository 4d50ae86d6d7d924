from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camera.base import Frame, FrameSource, SourceInfo
from camera.diagnosis import faster_format, problems
from camera.errors import BadFrameError, CameraError, EndOfStream, SourceNotFoundError
from camera.measure import Measurement, Spread, measure
from camera.states import CameraState, StateChange
from camera.uri import Uri, parse_uri, raw_source
from camera.v4l2_modes import Mode
from tests.camera.v4l2_driver import FakeControl, FakeDevice, FakeDrivers

RTSP = parse_uri("rtsp://host/stream")


class Script:
    """Gives what it is told, frames (seq, age in ms, width) and errors, and then waits to be closed."""

    def __init__(self, steps: Sequence[tuple[int, float, int] | Exception], fps: float | None = None) -> None:
        self.steps = list(steps)
        self.fps = fps
        self.closed = threading.Event()

    def open(self) -> SourceInfo:
        return SourceInfo("script", live=True, fps=self.fps, frames=None, size=(4, 4))

    def read(self) -> Frame:
        if not self.steps:
            assert self.closed.wait(30)
            raise EndOfStream
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        seq, age_ms, width = step
        taken_ns = time.monotonic_ns() - round(age_ms * 1e6)
        return Frame(np.zeros((4, width, 3), np.uint8), seq, taken_ns, "script")

    def close(self) -> None:
        self.closed.set()


def measured(source: FrameSource, seconds: float = 30, **options: Any) -> Measurement:  # noqa: ANN401
    seen = measure(source, seconds, **options)
    assert seen is not None
    return seen


def test_a_synthetic_camera_gives_what_it_promises() -> None:
    seen = measured(raw_source("test://?size=64x48&fps=50"), 1.0)
    assert seen.info.live
    assert seen.sizes == ((64, 48),)
    assert seen.fps == pytest.approx(50, rel=0.1)
    assert seen.intervals_ms is not None
    assert seen.intervals_ms.p50 == pytest.approx(20, abs=5)
    assert seen.ages_ms is not None
    assert 0 <= seen.ages_ms.p50 <= seen.ages_ms.p95
    assert seen.first_frame_s is not None
    assert seen.open_s <= seen.first_frame_s
    assert (seen.dropped, seen.bad_frames, seen.in_future, seen.failure) == (0, 0, 0, None)
    assert not seen.ended


def test_gaps_ages_damage_and_sizes_are_counted() -> None:
    steps = [(0, 100, 4), (1, 90, 4), BadFrameError("x"), (5, 50, 8), (6, -1000, 8), (7, 0, 8), EndOfStream()]
    seen = measured(Script(steps), settle_s=0)
    assert (seen.frames, seen.dropped, seen.bad_frames) == (5, 3, 1)
    assert seen.sizes == ((4, 4), (8, 4))
    assert (seen.in_future, seen.backwards) == (1, 1)
    assert seen.ages_ms is not None
    assert seen.ages_ms.p50 == pytest.approx(50, abs=20)
    assert seen.ended


def test_a_camera_that_counts_anew_has_dropped_nothing() -> None:
    seen = measured(Script([(7, 0, 4), (8, 0, 4), (0, 0, 4), (1, 0, 4), EndOfStream()]), settle_s=0)
    assert (seen.frames, seen.dropped) == (4, 0)


def test_silence_is_given_up() -> None:
    source = Script([(0, 0, 4)])
    seen = measured(source, patience_s=0.3)
    assert source.closed.is_set()
    assert seen.failure == "No frame came for 0.3 s: it was given up."
    assert not seen.ended
    seen = measured(Script([]), patience_s=0.3)
    assert (seen.frames, seen.first_frame_s, seen.fps, seen.ages_ms) == (0, None, None, None)
    assert problems(seen, RTSP) == ["No frame came for 0.3 s: it was given up."]


def test_a_stop_ends_it_early_and_is_no_failure() -> None:
    stop = threading.Event()

    class Stopping(Script):
        def read(self) -> Frame:
            if not self.steps:
                stop.set()
            return super().read()

    seen = measured(Stopping([(0, 0, 4)]), settle_s=0, patience_s=30, stop=stop)
    assert (seen.frames, seen.failure, seen.ended, seen.stopped) == (1, None, False, True)
    assert problems(seen, RTSP) == []
    seen = measured(Stopping([]), patience_s=30, stop=stop)
    assert problems(seen, RTSP) == ["No frame came before it was stopped."]


@pytest.mark.parametrize("notices", [True, False])
def test_a_stop_ends_it_while_it_is_opened(notices: bool) -> None:
    stop = threading.Event()

    class Slow(Script):
        def open(self) -> SourceInfo:
            stop.set()
            assert self.closed.wait(30)
            if notices:
                raise CameraError("It was closed.")
            return super().open()

    endless = [(number, 0.0, 4) for number in range(100_000)]
    seen = measure(Slow(endless), 600, stop=stop)
    assert (seen is None) == notices
    assert seen is None or (seen.stopped, seen.frames) == (True, 0)


def test_the_first_second_of_a_camera_does_not_count_nor_that_after_it_was_lost() -> None:
    """FFmpeg hands out at once what it gathered: too fast, and with gaps where nobody was quick enough."""

    class Lost(Script):
        reconnects = 0

        def read(self) -> Frame:
            time.sleep(0.01)
            self.reconnects += self.steps[:1] == [(50, 0, 4)]
            return super().read()

    burst = [(0, 0, 4), (20, 0, 4), (21, 0, 4)]
    steady = [(number, 0, 4) for number in range(22, 50)]
    again = [(50, 0, 4), (90, 0, 4)]
    seen = measured(Lost([*burst, *steady, *again, EndOfStream()]), settle_s=0.1)
    assert 0 < seen.frames <= len(burst) + len(steady) - 10
    assert seen.dropped == 0
    assert seen.first_frame_s is not None
    # Files have no such second.
    assert measured(raw_source("test://?size=64x48&fps=0&frames=5"), settle_s=60).frames == 5


def test_what_ends_in_the_first_second_is_measured_where_that_is_known_and_else_a_problem() -> None:
    seen = measured(raw_source("test://?size=64x48&fps=50&frames=10"))
    assert (seen.frames, seen.ended) == (10, True)
    assert seen.fps == pytest.approx(50, rel=0.3)
    seen = measured(Script([(0, 0, 4), (1, 0, 4), EndOfStream()]))
    assert (seen.frames, seen.ended) == (0, True)
    (line,) = problems(seen, RTSP)
    assert line.startswith("It ended before anything could be measured")


def test_a_failure_is_kept_with_what_was_seen_before() -> None:
    seen = measured(Script([(0, 0, 4), CameraError("It was unplugged.")]), settle_s=0)
    assert (seen.frames, seen.failure) == (1, "It was unplugged.")
    assert problems(seen, RTSP) == ["It was unplugged."]


def test_what_cannot_be_opened_is_closed_and_raises() -> None:
    class Missing(Script):
        def open(self) -> SourceInfo:
            raise SourceNotFoundError("There is no camera.")

    source = Missing([])
    with pytest.raises(SourceNotFoundError):
        measure(source, 1)
    assert source.closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "camera-probe-watch"]


GOOD = Measurement(
    info=SourceInfo("cam", live=True, fps=30.0, frames=None, size=(640, 480)),
    open_s=0.1,
    first_frame_s=0.2,
    frames=150,
    dropped=0,
    bad_frames=0,
    fps=29.97,
    intervals_ms=Spread(33.3, 36.0),
    ages_ms=Spread(12.0, 20.0),
    in_future=0,
    backwards=0,
    sizes=((640, 480),),
    ended=False,
    failure=None,
)


def changed(**changes: object) -> Measurement:
    return replace(GOOD, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"fps": 15.0}, "It gives 15.0 instead of 30 fps: in low light, a long exposure"),
        ({"intervals_ms": Spread(33.0, 90.0)}, "It is uneven: half of the intervals are below 33 ms"),
        ({"dropped": 50}, "50 of 200 frames were lost"),
        ({"in_future": 4}, "4 frames have timestamps in the future"),
        ({"backwards": 2}, "2 timestamps do not come after"),
        ({"ages_ms": Spread(4200.0, 5000.0)}, "Frames are 4.2 s old"),
        ({"sizes": ((640, 480), (320, 240))}, "The size changed while it ran: 640x480, 320x240"),
        ({"bad_frames": 3}, "3 frames could not be decoded"),
        ({"bad_frames": 1}, "1 frame could not be decoded"),
        ({"frames": 0, "first_frame_s": None, "fps": None}, "No frame came."),
        ({"frames": 0, "fps": None, "ended": True}, "It ended before anything could be measured: its first"),
        ({"frames": 0, "fps": None, "stopped": True}, "It was stopped before anything could be measured"),
    ],
)
def test_each_problem_has_a_line_of_its_own(changes: dict[str, object], line: str) -> None:
    (found,) = problems(changed(**changes), RTSP)
    assert found.startswith(line)


def test_a_good_camera_has_no_problem_and_a_file_no_rate() -> None:
    assert problems(GOOD, RTSP) == []
    live = [StateChange(CameraState.OPENING, "", 0), StateChange(CameraState.LIVE, "", 1)]
    assert problems(GOOD, RTSP, live) == []
    file = SourceInfo("clip.mp4", live=False, fps=30.0, frames=10, size=(4, 4))
    slow = changed(
        info=file,
        fps=3.0,
        sizes=((4, 4), (8, 8)),
        intervals_ms=Spread(1, 100),
        backwards=1,
        ages_ms=Spread(5000, 5000),
    )
    assert problems(slow, parse_uri("clip.mp4")) == []


def test_states_that_are_no_good_are_told_once() -> None:
    states = [
        StateChange(CameraState.LIVE, "", 1),
        StateChange(CameraState.STALLED, "no frame for 2 s", 2),
        StateChange(CameraState.LOST, "unplugged", 3),
        StateChange(CameraState.RECONNECTING, "", 4),
    ]
    assert problems(GOOD, RTSP, states) == ["It was lost: unplugged"]
    assert problems(changed(failure="unplugged"), RTSP, states[2:]) == ["unplugged"]


def test_what_happens_again_and_again_is_one_line_with_its_number() -> None:
    states = []
    for silent_s in (2.0, 2.1, 2.3):
        reason = f"cam gave no frame for {silent_s} s."
        states += [StateChange(CameraState.STALLED, reason, 1), StateChange(CameraState.LOST, reason, 2)]
        states += [StateChange(CameraState.RECONNECTING, reason, 3, attempt=1)]
    states.append(StateChange(CameraState.LOST, "cam ended the stream.", 4))
    assert problems(GOOD, RTSP, states) == [
        "It was lost 3 times: cam gave no frame for 2.3 s.",
        "It was lost: cam ended the stream.",
    ]


def test_a_faster_format_is_named() -> None:
    modes = [Mode("MJPG", 1280, 720, (30.0, 15.0)), Mode("MJPG", 640, 480, (30.0,))]
    (line,) = faster_format("YUYV", (1280, 720), 10.0, modes)
    assert line == "YUYV gives 10 fps at 1280x720, MJPG gives 30: ask for format=MJPG."
    assert faster_format("YUYV", (640, 480), 30.0, modes) == []
    assert faster_format("MJPG", (1280, 720), 15.0, modes) == []
    assert faster_format("YUYV", (800, 600), 10.0, modes) == []


def test_a_v4l2_device_is_asked_what_would_help(tmp_path: Path) -> None:
    node = tmp_path / "video0"
    node.touch()
    uri = Uri(str(node), "v4l2", str(node), {"size": "1280x720"})
    device = FakeDevice(current=("YUYV", 1280, 720), controls=[FakeControl(1, "Exposure, Dynamic Framerate")])
    drivers = FakeDrivers({"video0": device})
    slow = changed(info=replace(GOOD.info, fps=10.0), fps=5.0)
    rate, better = problems(slow, uri, ioctl=drivers)
    assert rate.startswith("It gives 5.0 instead of 10 fps: ask for a smaller size or format=MJPG")
    assert better == "YUYV gives 10 fps at 1280x720, MJPG gives 30: ask for format=MJPG."
    device.controls[0].value = 1
    assert "add the option exposure_dynamic_framerate=0 to the URI" in problems(slow, uri, ioctl=drivers)[0]
    # Who asks for a rate has chosen.
    asked = replace(uri, options={"fps": "10"})
    assert len(problems(slow, asked, ioctl=drivers)) == 1
    node.unlink()
    assert len(problems(slow, uri, ioctl=drivers)) == 1
