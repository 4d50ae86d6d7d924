from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from camera import CameraError, SourceNotFoundError, UnsupportedSourceError
from edge_mnv2.cameras import run_side_by_side
from edge_mnv2.errors import RequestError, RunError
from edge_mnv2.run_summary import RunSummary

WAIT_S = 30
BAD_URI = UnsupportedSourceError("no such kind")


def raising(error: Exception) -> Callable[[], RunSummary]:
    def loop() -> RunSummary:
        raise error

    return loop


def test_loops_run_at_the_same_time_and_all_summaries_come_back() -> None:
    together = threading.Barrier(3)

    def loop(frames: int) -> Callable[[], RunSummary]:
        def run() -> RunSummary:
            together.wait(WAIT_S)
            return RunSummary(frames=frames)

        return run

    found = run_side_by_side({str(number): loop(number) for number in range(3)}, threading.Event())
    assert {name: summary.frames for name, summary in found.items()} == {"0": 0, "1": 1, "2": 2}


def test_a_camera_that_cannot_be_opened_leaves_the_others_alone(caplog: pytest.LogCaptureFixture) -> None:
    found = run_side_by_side(
        {"door": raising(SourceNotFoundError("There is no camera.")), "yard": lambda: RunSummary(frames=3)},
        threading.Event(),
    )
    assert found["yard"].ok
    assert found["door"].failures == ["There is no camera."]
    assert caplog.messages == ["door: There is no camera."]


@pytest.mark.parametrize(
    ("first", "raised"),
    [(CameraError("away"), RunError), (RequestError("no"), RequestError), (BAD_URI, RequestError)],
)
def test_where_none_can_begin_each_says_why_once(
    first: Exception, raised: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(raised, match="None of the cameras could begin"):
        run_side_by_side({"a": raising(first), "b": raising(RequestError("wrong"))}, threading.Event())
    assert sorted(caplog.messages) == [f"a: {first}", "b: wrong"]


def test_a_bug_in_one_loop_ends_them_all_and_is_raised() -> None:
    stop = threading.Event()

    def until_stopped() -> RunSummary:
        assert stop.wait(WAIT_S)
        return RunSummary()

    with pytest.raises(ZeroDivisionError):
        run_side_by_side({"a": until_stopped, "b": raising(ZeroDivisionError())}, stop)
