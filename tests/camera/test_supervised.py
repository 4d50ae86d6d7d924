from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from camera import (
    AccessDeniedError,
    BadFrameError,
    CameraError,
    CameraState,
    EndOfStream,
    Frame,
    SourceInfo,
    SourceNotFoundError,
    StateChange,
    Supervision,
    UnsupportedSourceError,
)
from camera.supervised import Pace, Supervised
from tests.camera.held import LONG_S

Happening = int | float | CameraError | tuple[float, CameraError]


@dataclass
class World:
    """A camera, its clock, and what the supervisor did.

    Attributes:
        lives: What each opening finds: an error to fail with, or what the reads give: the number of a frame,
            an error (after some seconds, in a tuple), a float for seconds in which nothing comes.
    """

    lives: list[CameraError | list[Happening]]
    fps: float | None = None
    now_ns: int = 1_000_000_000
    chance: float = 0.0
    made: int = 0
    closed: int = 0
    pauses: list[float] = field(default_factory=list)
    patience: list[float] = field(default_factory=list)
    changes: list[StateChange] = field(default_factory=list)

    def supervised(self, supervision: Supervision | None = None, *, has_user: bool = True) -> Supervised:
        pace = Pace(lambda: self.now_ns, lambda: self.chance, self.wait)
        return Supervised(
            lambda: Life(self),
            "the camera",
            supervision or Supervision(),
            self.changes.append,
            pace,
            has_user=has_user,
        )

    def wait(self, event: threading.Event, pause_s: float) -> bool:
        self.pauses.append(pause_s)
        self.pass_time(pause_s)
        return event.is_set()

    def pass_time(self, time_s: float) -> None:
        self.now_ns += int(time_s * 1e9)

    @property
    def states(self) -> list[str]:
        return [change.state.value for change in self.changes]


class Life:
    """One reader of the camera."""

    dropped = 5

    def __init__(self, world: World) -> None:
        world.made += 1
        self.world = world
        self.happenings: Iterator[Happening] = iter(())

    def open(self, timeout_s: float) -> SourceInfo:
        life = self.world.lives.pop(0)
        if isinstance(life, CameraError):
            raise life
        self.happenings = iter(life)
        return SourceInfo("raw", live=False, fps=self.world.fps, frames=None, size=(4, 3))

    def read(self, timeout_s: float) -> Frame | None:
        self.world.patience.append(timeout_s)
        happening = next(self.happenings, LONG_S)
        match happening:
            case CameraError():
                raise happening
            case int():
                self.world.pass_time(0.1)
                return Frame(np.zeros((3, 4, 3), np.uint8), happening, self.world.now_ns, "camera")
            case (delay_s, error):
                self.world.pass_time(delay_s)
                raise error
            case silence_s:
                self.world.pass_time(min(silence_s, timeout_s))
                return None

    def close(self) -> None:
        self.world.closed += 1


def read_numbers(camera: Supervised, count: int) -> list[int]:
    return [camera.read().seq for _ in range(count)]


def test_a_life_with_a_loss() -> None:
    lost = CameraError("It was unplugged.")
    world = World([[0, 1, lost], CameraError("Nobody there."), CameraError("Still nobody."), [0, 1]])
    camera = world.supervised()
    assert camera.open() == SourceInfo("raw", live=True, fps=None, frames=None, size=(4, 3))
    assert read_numbers(camera, 4) == [0, 1, 2, 3]
    told = [(change.state.value, change.reason, change.attempt) for change in world.changes]
    assert told == [
        ("opening", "", 0),
        ("live", "", 0),
        ("lost", "It was unplugged.", 0),
        ("reconnecting", "It was unplugged.", 1),
        ("reconnecting", "Nobody there.", 2),
        ("reconnecting", "Still nobody.", 3),
        ("live", "", 0),
    ]
    # There has been no picture since the second frame, 0.2 s after the start.
    assert [change.lost_since_ns for change in world.changes] == [
        *(None, None),
        *[1_200_000_000] * 4,
        None,
    ]
    assert [change.at_ns for change in world.changes] == sorted(change.at_ns for change in world.changes)
    assert camera.reconnects == 1
    assert world.made - world.closed == 1
    assert camera.dropped == world.made * Life.dropped
    camera.close()
    assert world.made == world.closed


def test_pauses_double_up_to_a_limit_and_are_shortened_by_chance() -> None:
    refused: list[CameraError | list[Happening]] = [CameraError("no")] * 6
    for chance, factor in ((0.0, 1.0), (0.5, 0.75), (1.0, 0.5)):
        world = World([[0, CameraError("gone")], *refused, [0]], chance=chance)
        camera = world.supervised(Supervision(first_pause_s=0.5, max_pause_s=3.0))
        camera.open()
        read_numbers(camera, 2)
        assert world.pauses == [pause_s * factor for pause_s in (0.5, 1, 2, 3, 3, 3, 3)]
        camera.close()


def test_a_camera_that_stays_away_is_asked_less_often_after_minutes() -> None:
    gone = CameraError("gone")
    world = World([[0, gone], *[gone] * 200, [0, gone], gone, [0]])
    camera = world.supervised(Supervision(long_after_s=300, long_pause_s=15))
    camera.open()
    read_numbers(camera, 3)
    away_s = 0.0
    for pause_s in world.pauses[2:201]:
        assert pause_s == (2 if away_s + 1.5 <= 300 else 15)
        away_s += pause_s
    assert away_s > 900
    # It did not stay, but a new absence has begun.
    assert world.pauses[201:] == [2, 2]


def test_a_camera_that_refuses_a_password_is_asked_again_after_a_minute_and_more() -> None:
    refused = AccessDeniedError("refuses this user or password")
    no = CameraError("no")
    for chance, factor in ((0.0, 1.0), (1.0, 1.5)):
        world = World([[0, no], *[refused] * 6, no, refused, [0, no], refused, [0]], chance=chance)
        camera = world.supervised()
        camera.open()
        read_numbers(camera, 3)
        pauses = [pause_s for pause_s in world.pauses if pause_s > 10]
        assert pauses == [60 * count * factor for count in (1, 2, 4, 8, 10, 10)]
        # Once more soon, as the password was right before; so again once it was back.
        assert [pause_s for pause_s in world.pauses if pause_s <= 10].count(3) == 2
        assert len(world.pauses) == len(pauses) + 2 + 3


def test_a_password_that_was_never_right_is_not_tried_again_soon() -> None:
    world = World([CameraError("no"), AccessDeniedError("refuses this user or password"), [0]])
    camera = world.supervised(Supervision(retry_first=True))
    camera.open()
    camera.read()
    assert world.pauses == [0.5, 60]


def test_a_camera_that_is_told_no_user_may_refuse_for_a_moment() -> None:
    refused = AccessDeniedError("asks for a user and a password")
    world = World([[0, CameraError("no")], *[refused] * 4, [0]])
    camera = world.supervised(has_user=False)
    camera.open()
    read_numbers(camera, 2)
    assert world.pauses == [0.5, 1, 2, 2, 2]


def test_a_camera_that_cannot_do_what_is_asked_any_more_is_asked_less_and_less_often() -> None:
    wrong = UnsupportedSourceError("The crop reaches beyond the frame.")
    world = World([[0, wrong], *[wrong] * 7, [0]])
    camera = world.supervised()
    camera.open()
    read_numbers(camera, 2)
    assert world.pauses == [0.5, 1, 2, 4, 8, 15, 15, 15]
    assert {change.reason for change in world.changes} == {"", str(wrong)}


def test_a_camera_that_goes_again_at_once_is_asked_less_and_less_often() -> None:
    gone = CameraError("gone")
    lives: list[CameraError | list[Happening]] = [[0, gone], [0, gone], [0, gone], [*range(40), gone], [0]]
    world = World(lives)
    camera = world.supervised(Supervision(first_pause_s=0.5, max_pause_s=3.0))
    camera.open()
    read_numbers(camera, 44)
    # It stayed for 4 s the last time.
    assert world.pauses == [0.5, 1.0, 2.0, 0.5]
    assert camera.reconnects == 4
    assert {change.attempt for change in world.changes} == {0, 1}


def test_a_stall_and_the_loss_are_told_before_the_camera_is_closed() -> None:
    world = World([[0, 60.0], [0]])
    seen: list[tuple[str, int, int]] = []

    def watch(change: StateChange) -> None:
        seen.append((change.state.value, world.closed, (change.at_ns - 1_100_000_000) // 10**8))

    camera = Supervised(
        lambda: Life(world),
        "the camera",
        Supervision(stall_s=2.0),
        watch,
        Pace(lambda: world.now_ns, lambda: 0, world.wait),
    )
    camera.open()
    read_numbers(camera, 2)
    # Two seconds after the frame at 1.1 s.
    assert seen[2:4] == [("stalled", 0, 20), ("lost", 0, 20)]
    assert seen[4][:2] == ("reconnecting", 1)
    assert [state for state, _, _ in seen[4:]] == ["reconnecting", "live"]


def test_patience_is_counted_from_the_last_good_frame() -> None:
    world = World([[0, (1.25, BadFrameError("damaged")), 60.0], [0]])
    camera = world.supervised(Supervision(stall_s=2.0, open_timeout_s=10.0))
    camera.open()
    assert camera.read().seq == 0
    with pytest.raises(BadFrameError):
        camera.read()
    camera.read()
    assert world.patience == [10.0, 2.0, 0.75, 10.0]
    assert world.changes[2].reason == "the camera gave no frame for 2.0 s."


def test_how_long_a_frame_is_waited_for() -> None:
    for fps, expected_s in ((None, 2.0), (30.0, 2.0), (0.2, 15.0), (1.0, 3.0)):
        world = World([[0, 1]], fps=fps)
        camera = world.supervised(Supervision(stall_s=2.0, open_timeout_s=10.0))
        camera.open()
        read_numbers(camera, 2)
        # The first may take as long as opening: some cameras wait for a key frame.
        assert world.patience == [max(10.0, expected_s), expected_s]
    # A reader that was away for long lets the camera speak before it is given up.
    world = World([[0, 1]])
    camera = world.supervised(Supervision(stall_s=2.0))
    camera.open()
    camera.read()
    world.pass_time(3600)
    assert camera.read().seq == 1
    assert world.patience[-1] == 0.5
    assert world.states == ["opening", "live"]


def test_a_first_frame_that_never_comes() -> None:
    world = World([[60.0], [0]])
    camera = world.supervised(Supervision(open_timeout_s=10.0))
    camera.open()
    camera.read()
    assert world.states == ["opening", "stalled", "lost", "reconnecting", "live"]
    assert world.changes[1].reason == "the camera gave no frame for 10.0 s."
    assert world.changes[1].lost_since_ns is None


@pytest.mark.parametrize("retry", [False, True])
@pytest.mark.parametrize("error", [AccessDeniedError("you?"), UnsupportedSourceError("what?")])
def test_a_wrong_request_is_an_error_at_once(*, retry: bool, error: CameraError) -> None:
    world = World([error])
    camera = world.supervised(Supervision(retry_first=retry))
    with pytest.raises(type(error)):
        camera.open()
    assert world.made == world.closed == 1


def test_the_first_opening_fails_unless_it_is_to_be_tried_again() -> None:
    busy, unplugged = CameraError("busy"), SourceNotFoundError("unplugged")
    for error in (busy, unplugged):
        with pytest.raises(type(error), match=str(error)):
            World([error]).supervised().open()
    for lives in ([busy, unplugged, [0]], [unplugged, busy, [0]]):
        world = World([*lives])
        camera = world.supervised(Supervision(retry_first=True))
        assert camera.open() == SourceInfo("the camera", live=True, fps=None, frames=None, size=None)
        assert camera.read().seq == 0
        assert world.states == ["opening", "lost", "reconnecting", "reconnecting", "live"]
        assert [change.reason for change in world.changes[1:4]] == [*[str(lives[0])] * 2, str(lives[1])]


def test_it_is_given_up_after_so_many_attempts() -> None:
    no = CameraError("No route to it.")
    world = World([[0, no], no, no, no, [0]])
    camera = world.supervised(Supervision(max_attempts=3))
    camera.open()
    camera.read()
    for _ in range(2):
        with pytest.raises(CameraError, match=r"did not come back in 3 attempts.*No route to it"):
            camera.read()
    assert world.made == world.closed == 4


def test_attempts_are_counted_anew_once_it_was_back() -> None:
    no = CameraError("no")
    world = World([[0, no], no, [0, no], no, [0]])
    camera = world.supervised(Supervision(max_attempts=2))
    camera.open()
    assert read_numbers(camera, 3) == [0, 1, 2]


def test_numbers_go_on_without_repeating() -> None:
    no = CameraError("no")
    # Three were dropped in the first life, two in the second, whose driver began anew in the middle.
    world = World([[0, 4, no], [10, 13, 0, 1, no], [7]])
    camera = world.supervised()
    camera.open()
    assert read_numbers(camera, 7) == [0, 4, 5, 8, 9, 10, 11]


def test_gaps_are_frames_lost_at_the_source_as_far_as_the_reader_did_not_drop_them() -> None:
    no = CameraError("no")
    # A reader says that it dropped five. The driver of the second life counts anew, the third has bad frames.
    bad: list[Happening] = [BadFrameError("damaged")] * 3
    world = World([[10, 20, no], [5, 6, 0, 7, no], [3, *bad, 15]])
    camera = world.supervised()
    camera.open()
    lost = []
    while len(lost) < 8:
        try:
            camera.read()
        except BadFrameError:
            continue
        lost.append(camera.lost)
    assert lost == [0, 4, 4, 4, 4, 5, 5, 8]
    camera.close()
    assert (camera.lost, camera.dropped) == (8, 3 * Life.dropped)


@pytest.mark.parametrize(
    ("happenings", "lost"),
    [
        # What is bad before the first good one is in no gap.
        (["bad", "bad", "bad", 3, 7], 3),
        ([0, "bad", "bad", "bad", 7, 8], 3),
        # A bad one is told before a good one that came before it.
        ([0, "bad", 1, 3, 5], 1),
        # No good one follows.
        ([0, 4, "bad", "bad", "no"], 3),
        ([0, 4, *["bad"] * 30], 3),
    ],
)
def test_bad_frames_hide_no_losses(
    happenings: list[int | str], lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Life, "dropped", 0)
    errors = {"bad": BadFrameError("damaged"), "no": CameraError("no")}
    life: list[Happening] = [errors[what] if isinstance(what, str) else what for what in happenings]
    world = World([life, CameraError("no")])
    camera = world.supervised(Supervision(max_attempts=1))
    camera.open()
    while camera._state is not CameraState.LOST and len(world.patience) < len(life):
        with contextlib.suppress(CameraError):
            camera.read()
    assert camera.lost == lost


def test_bad_frames_pass_through_and_a_long_row_of_them_is_a_loss() -> None:
    bad: list[Happening] = [BadFrameError("damaged")] * 29
    world = World([[*bad, 0, *bad, BadFrameError("the last"), 1], [0]])
    camera = world.supervised()
    camera.open()
    numbers: list[int] = []
    errors = 0
    while len(numbers) < 2:
        try:
            numbers.append(camera.read().seq)
        except BadFrameError:
            errors += 1
    assert (numbers, errors) == ([0, 1], 58)
    assert "30 frames in a row could not be decoded. the last" in [change.reason for change in world.changes]


def test_a_stream_that_ends_regularly_ends() -> None:
    world = World([[0, EndOfStream("over")]])
    camera = world.supervised()
    camera.open()
    camera.read()
    for _ in range(2):
        with pytest.raises(EndOfStream):
            camera.read()
    assert world.states == ["opening", "live"]
    assert world.made == world.closed


def test_a_watcher_that_fails_does_not_stop_the_camera(caplog: pytest.LogCaptureFixture) -> None:
    world = World([[0, CameraError("no")], [0]])

    def watch(change: StateChange) -> None:
        raise RuntimeError("the watcher's own")

    pace = Pace(lambda: world.now_ns, lambda: 0, world.wait)
    camera = Supervised(lambda: Life(world), "the camera", Supervision(), watch, pace)
    with caplog.at_level(logging.ERROR):
        camera.open()
        assert read_numbers(camera, 2) == [0, 1]
    assert "the watcher's own" in caplog.text


class Blocking:
    """A reader that blocks where it is told to, until it is closed."""

    dropped = 0

    def __init__(self, where: str, reached: threading.Event) -> None:
        self.where = where
        self.reached = reached
        self.closed = threading.Event()

    def _block(self) -> None:
        self.reached.set()
        assert self.closed.wait(LONG_S)
        raise EndOfStream("closed")

    def open(self, timeout_s: float) -> SourceInfo:
        if self.where == "open":
            self._block()
        return SourceInfo("raw", live=True, fps=None, frames=None, size=None)

    def read(self, timeout_s: float) -> Frame | None:
        if self.where == "read":
            self._block()
        raise CameraError("gone")

    def close(self) -> None:
        self.closed.set()


@pytest.mark.parametrize("where", ["open", "read", "pause"])
def test_close_wakes_whoever_waits(where: str) -> None:
    reached = threading.Event()

    def watch(change: StateChange) -> None:
        if where == "pause" and change.state is CameraState.LOST:
            reached.set()

    make: Callable[[], Blocking] = lambda: Blocking(where, reached)  # noqa: E731
    camera = Supervised(make, "the camera", Supervision(first_pause_s=3600, max_pause_s=3600), watch)
    ended = threading.Event()

    def use() -> None:
        try:
            camera.open()
            camera.read()
        except EndOfStream:
            ended.set()

    thread = threading.Thread(target=use)
    thread.start()
    assert reached.wait(LONG_S)
    camera.close()
    camera.close()
    assert ended.wait(LONG_S)
    thread.join()
    with pytest.raises(EndOfStream):
        camera.read()
