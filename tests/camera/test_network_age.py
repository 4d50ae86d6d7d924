"""A reader that is slower than its stream: frames are passed over, ages are true. Pictures show the time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass

import cv2
import pytest

from camera import FrameSource, network_grab
from camera.uri import raw_source
from tests.camera.mjpeg_server import number_of
from tests.camera.servers import Server, mjpeg, rtsp

MAKERS = pytest.mark.parametrize("make", [rtsp, mjpeg])


@dataclass(frozen=True)
class Seen:
    """One frame.

    Attributes:
        seq: Its number.
        age_s: How old it was when it was read, by the time in the picture.
        said_s: The same by its timestamp.
    """

    seq: int
    age_s: float
    said_s: float


def look(source: FrameSource) -> Seen:
    """Read a frame."""
    with source.read() as frame:
        now_ns = time.monotonic_ns()
        age = (now_ns // 10_000_000 - number_of(frame.image) + 32768) % 65536 - 32768
        return Seen(frame.seq, age / 100, (now_ns - frame.captured_ns) / 1e9)


def look_slowly(source: FrameSource, count: int) -> list[Seen]:
    """Read so many frames, with a pause after each."""
    seen = []
    for _ in range(count):
        seen.append(look(source))
        time.sleep(0.1)  # what somebody does with the frame
    return seen


def most(values: Iterable[float]) -> float:
    """Return what three of four values do not exceed: a busy machine now and then holds up anybody."""
    return statistics.quantiles(values, n=4)[2]


@MAKERS
def test_a_slow_reader_gets_new_frames(make: Callable[..., Server]) -> None:
    with make(more=("--clock",)) as server, closing(raw_source(server.url())) as source:
        source.open()
        seen = look_slowly(source, 40)
    # Read one by one, they would be 2.7 s old by the end.
    assert most(frame.age_s for frame in seen) < 1, seen
    assert most(abs(frame.age_s - frame.said_s) for frame in seen) < 0.5, seen
    assert seen[-1].seq - seen[0].seq > 2 * len(seen)


@MAKERS
def test_where_none_can_be_passed_over_their_age_grows_as_it_is(
    make: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(more=("--clock",)) as server, closing(raw_source(server.url())) as source:
        source.open()
        first = [look(source) for _ in range(40)]  # at the live edge
        monkeypatch.setattr(network_grab, "_MAX_PASSING_NS", 0)
        time.sleep(2)
        seen = [look(source) for _ in range(20)]
    assert [frame.seq for frame in seen] == [first[-1].seq + 1 + number for number in range(20)]
    assert seen[0].age_s > 1.5
    assert most(abs(frame.age_s - frame.said_s) for frame in seen) < 0.5, seen


def test_what_was_gathered_while_opening_is_passed_over() -> None:
    with rtsp(more=("--clock",)) as server, closing(raw_source(server.url())) as source:
        source.open()
        first = look(source)
    assert first.seq > 5
    assert first.age_s < 0.7


def test_numbers_count_what_was_passed_over(mjpeg_server: Server) -> None:
    with closing(raw_source(mjpeg_server.url())) as source:
        source.open()
        frames = []
        for _ in range(20):
            frames.append(source.read())
            time.sleep(0.1)
    assert [number_of(frame.image) for frame in frames] == [frame.seq for frame in frames]
    assert frames[-1].seq > 40


class Endless:
    """A stream that is faster than any reader."""

    def __init__(self) -> None:
        self.count = 0

    def grab(self) -> bool:
        self.count += 1
        return True

    def get(self, property_id: int) -> float:
        assert property_id == cv2.CAP_PROP_POS_MSEC
        return 0.0


@pytest.mark.parametrize("has_stamps", [True, False])
def test_a_stream_that_never_waits_gives_frames_all_the_same(*, has_stamps: bool) -> None:
    stream = Endless()
    grabber = network_grab.Grabber(stream, 30.0, 5.0, live=True, has_stamps=has_stamps)  # type: ignore[arg-type]
    passed = [grabber.grab().passed for _ in range(3)]
    assert sum(passed) + 3 == stream.count
    files = network_grab.Grabber(stream, 30.0, 5.0, live=False, has_stamps=has_stamps)  # type: ignore[arg-type]
    assert [files.grab().passed for _ in range(100)] == [0] * 100
