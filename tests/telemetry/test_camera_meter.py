from __future__ import annotations

import threading
import weakref
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest

from edge_mnv2.readings import CameraFigures, Percentiles
from edge_mnv2.results import CameraStatus, Detections, FrameResult, Result
from edge_mnv2.telemetry.camera_meter import CameraMeter
from tests.samples import camera_status, classification, detections, frame_result, segmentation
from tests.telemetry.heat_trees import Clock

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=timezone.utc)
LABELS = {0: "background", 1: "person", 3: "car", 15: "bird"}


def boxes(*class_ids: int) -> Detections:
    return detections(*((0.0, 0.0, 9.0, 9.0, 0.9, class_id) for class_id in class_ids))


def result(found: Result | None = None, **changes: Any) -> FrameResult:  # noqa: ANN401
    values = {"labels": LABELS, "age_ms": 20.0, "stages_ms": {"infer": 10.0}, **changes}
    return frame_result(0, boxes() if found is None else found, **values)


class Run:
    """A meter with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.meter = CameraMeter("/dev/video0", clock_ns=self.clock)

    def frames(
        self, count: int, hz: float, one: FrameResult | None = None, engine: str = "onnxruntime"
    ) -> None:
        for _ in range(count):
            self.clock.forward(1 / hz)
            self.meter.result(one or result(), engine, "int8")

    def fps(self) -> float | None:
        return self.meter.figures().fps


def test_nothing_is_known_before_the_first_result() -> None:
    assert Run().meter.figures() == CameraFigures(source="/dev/video0")


def test_what_results_say_of_themselves() -> None:
    run = Run()
    run.frames(3, 30)
    figures = run.meter.figures()
    assert (figures.model, figures.task) == ("ssdlite-mnv2-coco", "detect")
    assert (figures.engine, figures.precision, figures.frames) == ("onnxruntime", "int8", 3)
    assert figures.age == Percentiles(20.0, 20.0, 20.0)
    assert figures.stages == {"infer": Percentiles(10.0, 10.0, 10.0)}
    assert figures.state == "live"


@pytest.mark.parametrize("hz", [0.2, 1.0, 14.7, 30.0, 1000.0])
def test_the_rate_is_that_of_the_results(hz: float) -> None:
    run = Run()
    run.frames(1, hz)
    assert run.fps() is None
    run.frames(max(1, int(hz)) + 1, hz)
    assert run.fps() == pytest.approx(hz)
    run.frames(int(30 * hz) + 1, hz)
    assert run.fps() == pytest.approx(hz, rel=0.01)


def test_a_few_results_in_a_moment_are_no_rate() -> None:
    run = Run()
    # Frames that waited in the camera come at once.
    run.frames(3, 200)
    assert run.fps() is None
    run.frames(9, 10)
    assert run.fps() is None
    run.frames(1, 10)
    assert run.fps() == pytest.approx(12, rel=0.02)
    # The same after a loss.
    run.clock.forward(30)
    run.frames(3, 200)
    assert run.fps() is None
    run.frames(10, 10)
    assert run.fps() == pytest.approx(12, rel=0.02)


def test_the_rate_is_of_ten_seconds() -> None:
    run = Run()
    run.frames(600, 30)
    run.frames(25, 5)
    assert run.fps() == pytest.approx((5 * 30 + 25) / 10, rel=0.02)
    run.frames(50, 5)
    assert run.fps() == pytest.approx(5, rel=0.02)


def test_the_rate_falls_while_none_comes_and_then_is_nothing() -> None:
    run = Run()
    run.frames(600, 30)
    run.clock.forward(0.06)
    assert run.fps() == pytest.approx(30, rel=0.02), "one late frame is no fall"
    rates = [run.fps()]
    for _ in range(9):
        run.clock.forward(1)
        rates.append(run.fps())
    assert rates == sorted(rates, key=lambda rate: -(rate or 0.0))
    assert rates[5] == pytest.approx(15, rel=0.1)
    run.clock.forward(1)
    assert run.fps() == 0.0
    run.frames(1, 1)
    assert run.fps() == pytest.approx(1 / 11, rel=0.1)
    run.frames(60, 30)
    assert run.fps() == pytest.approx(30, rel=0.05)


def test_a_slow_source_is_slow_not_dead() -> None:
    run = Run()
    run.frames(3, 1 / 15)
    run.clock.forward(14)
    assert run.fps() == pytest.approx(1 / 15)
    run.clock.forward(17)
    assert run.fps() == 0.0


def test_percentiles_are_of_the_last_minute() -> None:
    run = Run()
    run.frames(1800, 30, result(age_ms=500.0, stages_ms={"infer": 400.0}))
    ages_ms = np.random.default_rng(1).permutation(np.arange(1, 1801)).astype(float)
    for age_ms in ages_ms:
        run.frames(1, 30, result(age_ms=age_ms, stages_ms={"infer": age_ms / 2, "decode": 1.0}))
    figures = run.meter.figures()
    expected = np.percentile(ages_ms, (50, 95, 99))
    assert figures.age is not None
    assert (figures.age.p50_ms, figures.age.p95_ms, figures.age.p99_ms) == pytest.approx(
        tuple(expected), abs=1
    )
    assert figures.stages["infer"].p99_ms == pytest.approx(expected[2] / 2, abs=1)
    assert figures.stages["decode"] == Percentiles(1.0, 1.0, 1.0)
    run.clock.forward(61)
    figures = run.meter.figures()
    assert (figures.age, figures.stages, figures.frames) == (None, {}, 3600)


def test_a_stage_that_some_frames_have_is_of_those_alone() -> None:
    run = Run()
    run.frames(90, 30)
    run.frames(10, 30, result(stages_ms={"infer": 10.0, "overlay": 3.0}))
    run.frames(90, 30)
    assert run.meter.figures().stages["overlay"] == Percentiles(3.0, 3.0, 3.0)


def test_times_of_two_engines_do_not_mix_and_the_rate_goes_on() -> None:
    run = Run()
    run.frames(300, 30)
    run.frames(30, 30, result(stages_ms={"run": 2.0}), engine="tensorrt")
    figures = run.meter.figures()
    assert (figures.engine, figures.stages) == ("tensorrt", {"run": Percentiles(2.0, 2.0, 2.0)})
    assert figures.fps == pytest.approx(30, rel=0.02)


def test_percentiles_are_worked_out_once_a_second_and_the_rest_at_once() -> None:
    run = Run()
    run.frames(30, 30)
    assert run.meter.figures().age == Percentiles(20.0, 20.0, 20.0)
    run.frames(29, 30, result(age_ms=1000.0))
    figures = run.meter.figures()
    assert (figures.age, figures.frames) == (Percentiles(20.0, 20.0, 20.0), 59)
    run.frames(2, 30, result(age_ms=1000.0))
    found = run.meter.figures().age
    assert found is not None
    assert (found.p50_ms, found.p95_ms) == (1000.0, 1000.0)


def test_memory_is_bounded_whatever_the_rate() -> None:
    run = Run()
    run.frames(150_000, 5000)
    assert run.meter._times.capacity == 65_536
    assert run.fps() == pytest.approx(5000, rel=0.01)
    slow = Run()
    slow.frames(10_000, 4)
    assert slow.meter._times.capacity == 256


def test_pictures_are_not_kept() -> None:
    run = Run()
    canvas = np.zeros((8, 8, 3), np.uint8)
    kept = weakref.ref(canvas)
    run.frames(5, 30, result(canvas=canvas))
    del canvas
    assert kept() is None
    assert run.meter.figures().frames == 5


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        (boxes(1, 3, 1, 77), {"person": 2, "car": 1, "77": 1}),
        (boxes(), {}),
        (classification((15, 0.9), (1, 0.1)), {"bird": 1}),
        (segmentation([[0, 15], [15, 1]]), {"person": 1, "bird": 1}),
        (segmentation([[0, 0]]), {}),
    ],
)
def test_counts_are_of_the_newest_result(found: Result, counts: dict[str, int]) -> None:
    run = Run()
    run.frames(1, 30, result(boxes(3, 3, 3)))
    run.frames(1, 30, result(found))
    assert run.meter.figures().counts == counts


def status(state: str, *, reason: str = "", lost: bool = False, is_change: bool = True) -> CameraStatus:
    lost_since = NOW if lost else None
    return camera_status(state, reason=reason, at=NOW, lost_since=lost_since, is_change=is_change)


def test_states_losses_and_attempts() -> None:
    run = Run()
    run.meter.state(status("opening"))
    assert (run.meter.figures().state, run.meter.figures().attempts) == ("opening", 1)
    run.meter.state(status("live"))
    run.frames(2, 30)
    run.meter.state(status("stalled", lost=True))
    run.frames(1, 30)
    assert run.meter.figures().state == "stalled", "a frame that was on its way does not make it live"
    for state in ("lost", "reconnecting", "reconnecting"):
        run.meter.state(status(state, reason="It was pulled.", lost=True))
        run.meter.state(status(state, lost=True, is_change=False))
    figures = run.meter.figures()
    assert (figures.state, figures.reason) == ("reconnecting", "It was pulled.")
    assert (figures.losses, figures.attempts) == (1, 3)
    assert figures.lost_since == figures.state_since == NOW
    run.meter.state(status("live"))
    assert run.meter.figures().lost_since is None


def test_the_end() -> None:
    run = Run()
    run.frames(60, 30)
    run.meter.ended("The file ended.")
    figures = run.meter.figures()
    assert (figures.state, figures.reason, figures.fps, figures.frames) == (
        "ended",
        "The file ended.",
        0.0,
        60,
    )
    assert figures.state_since is not None


def test_drops_are_counted_when_asked() -> None:
    run = Run()
    drops = {"newer frame came": 1}
    run.meter.drops = lambda: drops
    assert run.meter.figures().drops == {"newer frame came": 1}
    drops["newer frame came"] = 5
    assert run.meter.figures().drops == {"newer frame came": 5}


def test_many_read_while_frames_come() -> None:
    meter = CameraMeter("test")
    stop = threading.Event()
    failures: list[str] = []

    def read() -> None:
        last = 0
        while not stop.is_set():
            figures = meter.figures()
            if figures.frames < last or (figures.frames and figures.age is None):
                failures.append(f"{last}: {figures}")
            last = figures.frames

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for _ in range(5000):
        meter.result(result(), "onnxruntime", "int8")
    stop.set()
    for reader in readers:
        reader.join(30)
    assert not failures
    assert meter.figures().frames == 5000
