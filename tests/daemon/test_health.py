from __future__ import annotations

from dataclasses import replace

from edge_mnv2.daemon.health import Health
from edge_mnv2.readings import CameraFigures

LIVE = CameraFigures(state="live", frames=10, attempts=1)
AWAY = CameraFigures(state="reconnecting", frames=10, attempts=3)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> int:
        return int(self.now_s * 1e9)


def test_a_camera_whose_results_stop_is_stuck_after_the_limit() -> None:
    clock = Clock()
    health = Health(10, clock)
    assert health.stuck({"a": LIVE}) == []
    clock.now_s += 9
    assert health.stuck({"a": LIVE}) == []
    clock.now_s += 2
    assert health.stuck({"a": LIVE}) == ["a"]
    assert health.stuck({"a": replace(LIVE, frames=11)}) == []


def test_a_lost_camera_that_somebody_tries_to_open_is_not_stuck() -> None:
    clock = Clock()
    health = Health(10, clock)
    for attempt in range(20):
        assert health.stuck({"a": replace(AWAY, attempts=attempt)}) == []
        clock.now_s += 8
    clock.now_s += 3
    assert health.stuck({"a": replace(AWAY, attempts=19)}) == ["a"]


def test_one_stuck_camera_is_told_although_the_others_move() -> None:
    clock = Clock()
    health = Health(10, clock)
    health.stuck({"a": LIVE, "b": LIVE})
    clock.now_s += 11
    assert health.stuck({"a": replace(LIVE, frames=20), "b": LIVE}) == ["b"]


def test_a_camera_that_has_ended_cannot_be_stuck_and_one_that_is_gone_is_forgotten() -> None:
    clock = Clock()
    health = Health(10, clock)
    ended = replace(LIVE, state="ended")
    health.stuck({"a": ended, "b": LIVE})
    clock.now_s += 100
    assert health.stuck({"a": ended}) == []
    assert health.stuck({"a": ended, "b": LIVE}) == []
