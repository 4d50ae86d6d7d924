from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from camera.base import Frame, SourceInfo
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


def test_a_synthetic_camera_gives_what_it_promises() -> None:
    seen = measure(raw_source("test://?size=64x48&fps=50"), 1.0)
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
    seen = measure(Script(steps), 30)
    assert (seen.frames, seen.dropped, seen.bad_frames) == (5, 3, 1)
    assert seen.sizes == ((4, 4), (8, 4))
    assert (seen.in_future, seen.backwards) == (1, 1)
    assert seen.ages_ms is not None
    assert seen.ages_ms.p50 == pytest.approx(50, abs=20)
    assert seen.ended


def test_a_camera_that_counts_anew_has_dropped_nothing() -> None:
    seen = measure(Script([(7, 0, 4), (8, 0, 4), (0, 0, 4), (1, 0, 4), EndOfStream()]), 30)
    assert (seen.frames, seen.dropped) == (4, 0)


def test_silence_is_given_up() -> None:
    source = Script([(0, 0, 4)])
    seen = measure(source, 30, patience_s=0.3)
    assert source.closed.is_set()
    assert seen.failure == "No frame came for 0.3 s."
    assert not seen.ended
    seen = measure(Script([]), 30, patience_s=0.3)
    assert (seen.frames, seen.first_frame_s, seen.fps, seen.ages_ms) == (0, None, None, None)
    assert problems(seen, RTSP) == ["No frame came for 0.3 s."]


def test_a_stop_ends_it_early_and_is_no_failure() -> None:
    stop = threading.Event()
    stop.set()
    seen = measure(Script([(0, 0, 4)]), 30, patience_s=30, stop=stop)
    assert (seen.frames, seen.failure, seen.ended) == (1, None, False)


def test_a_failure_is_kept_with_what_was_seen_before() -> None:
    seen = measure(Script([(0, 0, 4), CameraError("It was unplugged.")]), 30)
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
        ({"fps": 15.0, "dropped": 3}, "It gives 15.0 instead of 30 fps: frames are lost on the way"),
        ({"intervals_ms": Spread(33.0, 90.0)}, "It is uneven: half of the intervals are below 33 ms"),
        ({"dropped": 50}, "50 of 200 frames were lost"),
        ({"in_future": 4}, "4 frames have timestamps in the future"),
        ({"backwards": 2}, "2 timestamps do not come after"),
        ({"ages_ms": Spread(4200.0, 5000.0)}, "Frames are 4.2 s old"),
        ({"sizes": ((640, 480), (320, 240))}, "The size changed while it ran: 640x480, 320x240"),
        ({"bad_frames": 3}, "3 frames could not be decoded"),
        ({"frames": 0, "fps": None}, "No frame came."),
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
    slow = changed(info=file, fps=3.0, intervals_ms=Spread(1, 100), backwards=1, ages_ms=Spread(5000, 5000))
    assert problems(slow, parse_uri("clip.mp4")) == []


def test_states_that_are_no_good_are_told_once() -> None:
    states = [
        StateChange(CameraState.LIVE, "", 1),
        StateChange(CameraState.STALLED, "no frame for 2 s", 2),
        StateChange(CameraState.LOST, "unplugged", 3),
        StateChange(CameraState.RECONNECTING, "", 4),
    ]
    assert problems(GOOD, RTSP, states) == ["It was stalled: no frame for 2 s", "It was lost: unplugged"]
    assert problems(changed(failure="unplugged"), RTSP, states[2:]) == ["unplugged"]


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
