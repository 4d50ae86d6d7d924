from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import pytest
from numpy.typing import NDArray

from camera import BadFrameError, CameraError, EndOfStream, Frame, FrameSource
from camera.handover import Handover
from camera.thread_reader import ThreadReader
from tests.camera.bad_sources import SIZE, Scripted, bad_every_other, endless, picture
from tests.camera.held import LONG_S, Held, wait_for


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = Held.now()
    yield
    wait_for(lambda: Held.now().is_within(before), 10)


def reader_of(
    make: Callable[[], FrameSource], left_behind: list[threading.Thread] | None = None
) -> ThreadReader:
    return ThreadReader(make, "the camera", [] if left_behind is None else left_behind)


def read(reader: ThreadReader) -> Frame:
    frame = reader.read(LONG_S)
    assert frame is not None
    return frame


def test_frames_pass_through_and_the_newest_wins() -> None:
    with closing(reader_of(lambda: Scripted(endless(0.001)))) as reader:
        assert reader.open(LONG_S).size == SIZE
        first = read(reader)
        np.testing.assert_array_equal(first.image, picture(first.seq))
        wait_for(lambda: reader.dropped > 20)
        with read(reader) as frame:
            assert frame.seq > first.seq + 20


def test_frames_that_nobody_takes_are_released() -> None:
    released: list[int] = []

    class Counting(Scripted):
        def read(self) -> Frame:
            frame = super().read()
            seq = frame.seq
            return Frame(frame.image, seq, 0, "", lambda: released.append(seq))

    source = Counting(endless(0.001))
    with closing(reader_of(lambda: source)) as reader:
        reader.open(LONG_S)
        kept = read(reader)
        wait_for(lambda: reader.dropped > 5)
    assert sorted(released) == [seq for seq in range(source.seq) if seq != kept.seq]


@pytest.mark.parametrize(
    "error", [CameraError("gone"), EndOfStream("over"), RuntimeError("odd"), ValueError("odd")]
)
def test_what_a_source_raises_reaches_the_reader(error: Exception) -> None:
    def fail() -> None:
        raise error

    closed: list[bool] = []
    with closing(reader_of(lambda: Scripted(endless(), fail, lambda: closed.append(True)))) as reader:
        with pytest.raises(CameraError, match=str(error)) as caught:
            reader.open(LONG_S)
        expected = type(error) if isinstance(error, CameraError) else CameraError
        assert type(caught.value) is expected
        wait_for(lambda: bool(closed))


def test_bad_frames_pass_by() -> None:
    good = bad = 0
    with closing(reader_of(lambda: bad_every_other(""))) as reader:
        reader.open(LONG_S)
        while good < 5 or bad < 5:
            try:
                read(reader).release()
                good += 1
            except BadFrameError:
                bad += 1


@pytest.mark.parametrize("where", ["open", "read", "close"])
def test_a_driver_that_hangs_leaves_its_thread_behind(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("camera.thread_reader._END_S", 0.1)
    monkeypatch.setattr("camera.left_behind.MAX_LEFT_BEHIND", 2)
    wake = threading.Event()

    def hang() -> None:
        wake.wait(LONG_S)

    def images() -> Iterator[NDArray[np.uint8]]:
        yield picture(0)
        hang()

    def make() -> Scripted:
        nothing = lambda: None  # noqa: E731
        return Scripted(
            images() if where == "read" else endless(),
            hang if where == "open" else nothing,
            hang if where == "close" else nothing,
        )

    left_behind: list[threading.Thread] = []
    try:
        for count in (1, 2):
            reader = reader_of(make, left_behind)
            if where == "open":
                with pytest.raises(CameraError, match=r"did not open within 0.05 s"):
                    reader.open(0.05)
            else:
                reader.open(LONG_S)
                read(reader).release()
                if where == "read":
                    assert reader.read(0.05) is None
            reader.close()
            reader.close()
            assert len(left_behind) == count
        assert caplog.text.count("is left behind") == 2
        blocked = reader_of(make, left_behind)
        with closing(blocked), pytest.raises(CameraError, match=r"2 threads hang.*isolation: process"):
            blocked.open(LONG_S)
    finally:
        wake.set()
    for thread in list(left_behind):
        thread.join(LONG_S)
    # They ended after all, and count no longer.
    with closing(reader_of(lambda: Scripted(endless()), left_behind)) as reader:
        reader.open(LONG_S)
    assert not left_behind


def test_a_source_cannot_be_made() -> None:
    def make() -> FrameSource:
        raise CameraError("There is none.")

    with closing(reader_of(make)) as reader, pytest.raises(CameraError, match="There is none"):
        reader.open(LONG_S)


def test_a_handover_that_was_closed_takes_nothing_more() -> None:
    released: list[int] = []
    handover = Handover()
    handover.put(Frame(picture(0), 0, 0, "", lambda: released.append(0)))
    handover.close()
    handover.put(Frame(picture(1), 1, 0, "", lambda: released.append(1)))
    handover.put_bad(BadFrameError("damaged"))
    handover.end(CameraError("late"))
    assert released == [0, 1]
    for _ in range(2):
        with pytest.raises(EndOfStream):
            handover.take(LONG_S)
    with pytest.raises(EndOfStream):
        handover.wait_open(LONG_S)


def test_a_handover_gives_the_last_frame_before_the_end() -> None:
    handover = Handover()
    handover.put(Frame(picture(0), 0, 0, ""))
    handover.end(CameraError("first"))
    handover.end(CameraError("second"))
    frame = handover.take(LONG_S)
    assert frame is not None
    for _ in range(2):
        with pytest.raises(CameraError, match="first"):
            handover.take(LONG_S)
    assert Handover().take(0) is None
    assert Handover().wait_open(0) is None


def test_debug_log_only(caplog: pytest.LogCaptureFixture) -> None:
    """A driver that cannot even be closed is no reason to trouble the user."""

    def fail() -> None:
        raise OSError("cannot close")

    with (
        caplog.at_level(logging.INFO),
        closing(reader_of(lambda: Scripted(endless(), on_close=fail))) as reader,
    ):
        reader.open(LONG_S)
    assert not caplog.records
