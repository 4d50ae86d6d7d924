from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from camera import BadFrameError, EndOfStream, Frame, SourceInfo, UnsupportedSourceError
from camera import session_queue as queue_module
from camera import session_writer as writer_module
from camera.replay import Replay
from camera.session_entries import DroppedEntry, FrameEntry, from_chunk
from camera.session_file import Chunk, Damage, chunk_bytes, read_chunks
from camera.session_writer import Recorded, SessionWriter
from camera.states import CameraState, StateChange
from tests.camera.sessions import INFO, Played, frame, picture, play, record

FIRST_LINE = b"edge-mnv2 session 1\n"


def chunks(path: Path) -> list[Chunk | Damage]:
    with path.open("rb") as file:
        file.readline()
        return list(read_chunks(file))


def whole(path: Path) -> Played:
    return play(Replay(path, speed=None))


def test_frames_come_back_pixel_by_pixel(tmp_path: Path, shared: Path) -> None:
    import cv2

    real = cv2.imread(str(next((shared / "data" / "coco_dev" / "images").iterdir())))
    assert real is not None
    images = [picture(0), real.astype(np.uint8), picture(2, 1, 1), np.zeros((3, 500, 3), np.uint8)]
    writer = SessionWriter(tmp_path / "a.session")
    for seq, image in enumerate(images):
        writer.frame(frame(seq * 10, image=image))
    writer.close()
    assert (writer.frames, writer.dropped, writer.failure) == (4, 0, None)
    played = whole(tmp_path / "a.session")
    assert played.numbers == [0, 10, 20, 30]
    for image, replayed in zip(images, played.frames, strict=True):
        np.testing.assert_array_equal(image, replayed.image)
        assert replayed.image.flags.c_contiguous
    assert [replayed.origin for replayed in played.frames] == ["camera 0"] * 4


def test_the_pixels_are_copied_before_the_frame_is_released(tmp_path: Path) -> None:
    image = picture(1)
    writer = SessionWriter(tmp_path / "a.session")
    for seq in range(20):
        image[:] = seq
        writer.frame(frame(seq, image=image))
    image[:] = 99
    writer.close()
    assert [int(f.image[0, 0, 0]) for f in whole(tmp_path / "a.session").frames] == list(range(20))


def test_jpeg_is_smaller_near_enough_and_says_so(tmp_path: Path, clip: Path) -> None:
    import cv2

    capture = cv2.VideoCapture(str(clip))
    ok, image = capture.read()
    capture.release()
    assert ok
    sizes = {}
    for quality in (None, 90):
        path = tmp_path / f"{quality}.session"
        writer = SessionWriter(path, quality=quality)
        writer.frame(frame(0, image=image.astype(np.uint8)))
        writer.close()
        entry = from_chunk(next(c for c in chunks(path) if isinstance(c, Chunk) and c.payload))
        assert isinstance(entry, FrameEntry)
        assert entry.quality == quality
        difference = whole(path).frames[0].image.astype(int) - image
        assert np.abs(difference).mean() < (3 if quality else 1e-9)
        sizes[quality] = path.stat().st_size
    assert sizes[90] < sizes[None] / 4


@pytest.mark.parametrize("wrong", [{"quality": 0}, {"quality": 101}, {"max_bytes": 0}])
def test_wrong_options_make_no_file(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SessionWriter(tmp_path / "a.session", **wrong)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_never_overwritten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "night.session"
    before = record(path, 2)
    kept = path.read_bytes()
    second, third = record(path, 3), record(path, 4)
    assert (before.path, second.path.name, third.path.name) == (path, "night-2.session", "night-3.session")
    assert path.read_bytes() == kept
    assert len(whole(third.path).frames) == 4
    (told, _) = caplog.messages
    assert told == f"{path} is there already: this session goes to {second.path}"


def test_where_nothing_can_be_written_it_says_so_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="Not a directory"):
        SessionWriter(tmp_path / "file" / "a.session")
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(OSError, match="it is a folder or a device, no file"):
            SessionWriter(path)
    assert sorted(tmp_path.parent.glob(f"{tmp_path.name}*")) == [tmp_path]


def test_nothing_recorded_leaves_nothing(tmp_path: Path) -> None:
    writer = SessionWriter(tmp_path / "a.session")
    writer.close()
    writer.close()
    writer.frame(frame(0))  # does nothing
    assert not list(tmp_path.iterdir())


def test_recording_stops_below_its_size_limit_and_the_file_replays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.session"
    writer = record(path, 200, max_bytes=50_000)
    assert 40_000 < path.stat().st_size <= 50_000
    assert 5 < writer.frames < 200
    assert writer.failure is not None
    assert "its limit of 50000 bytes" in writer.failure
    assert writer.is_full
    assert "The run goes on" in caplog.records[0].message
    caplog.clear()
    played = whole(path)
    assert played.numbers == list(range(writer.frames))
    assert played.info.frames == writer.frames
    assert "limit of 50000 bytes" in played.end
    assert not caplog.records


def test_frames_after_the_size_limit_are_counted_and_told_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = SessionWriter(tmp_path / "a.session", max_bytes=50_000)
    given = 0
    while writer.failure is None:
        writer.frame(frame(given), wait=True)
        given += 1
    before = writer.dropped
    assert writer.frames + before == given
    for seq in range(7):
        writer.frame(frame(seq))
    assert writer.dropped == before + 7
    writer.close()
    writer.close()
    writer.frame(frame(0))  # nobody records any more
    assert writer.frames + writer.dropped == given + 7
    (last,) = [record for record in caplog.records if "lacks" in record.message]
    assert last.message == f"{writer.path} lacks {writer.dropped} frames: it ended before the run did."


def test_a_full_disk_stops_the_recording_and_not_the_run(tmp_path: Path) -> None:
    # A limit of the kernel on the file's size is met in the middle of a chunk, as a full disk is.
    code = (
        "import resource, sys, logging\n"
        "from pathlib import Path\n"
        "from tests.camera.sessions import *\n"
        "logging.basicConfig(format='%(levelname)s %(message)s')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "writer = SessionWriter(Path(sys.argv[1]))\n"
        "for seq in range(100): writer.frame(frame(seq), wait=True)\n"
        "writer.close()\n"
        "print(writer.frames, writer.failure)\n"
    )
    path = tmp_path / "a.session"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    frames, _, failure = done.stdout.partition(" ")
    assert failure.startswith(f"{path}: it cannot be written (File too large) after {frames} frames")
    assert done.stderr.startswith("WARNING")
    assert done.stderr.endswith(f"lacks {100 - int(frames)} frames: it ended before the run did.\n")
    assert done.stderr.count("\n") == 2
    assert int(frames) > 10
    played = whole(path)
    assert played.numbers == list(range(int(frames)))
    assert "cannot be written" in played.end


def test_no_space_left_is_called_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, full = os.write, threading.Event()

    def write_or_fail(descriptor: int, data: bytes) -> int:
        if full.is_set() and len(data) > 500:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(writer_module.os, "write", write_or_fail)
    writer = SessionWriter(tmp_path / "a.session")
    writer.frame(frame(0))
    wait_for(lambda: writer.frames == 1)
    full.set()
    writer.frame(frame(1))
    wait_for(lambda: writer.failure is not None)
    assert "the disk is full after 1 frames" in str(writer.failure)
    writer.frame(frame(2), wait=True)  # returns
    writer.close()
    played = whole(tmp_path / "a.session")
    assert (played.numbers, played.bad) == ([0], [])
    assert "the disk is full" in played.end


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_where_the_disk_is_slow_the_oldest_frames_go_and_the_file_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "_MAX_BYTES", 3 * picture(0).nbytes)
    writing, go_on = threading.Event(), threading.Event()
    write = os.write

    def slow_write(descriptor: int, data: bytes) -> int:
        writing.set()
        assert go_on.wait(30)
        return write(descriptor, data)

    writer = SessionWriter(tmp_path / "a.session")
    monkeypatch.setattr(writer_module.os, "write", slow_write)
    writer.frame(frame(0))
    assert writing.wait(30)
    for seq in range(1, 3):
        writer.frame(frame(seq))
    writer.state(StateChange(CameraState.STALLED, "", time.monotonic_ns()))
    for seq in range(3, 8):
        writer.frame(frame(seq))
    assert writer.dropped == 4
    go_on.set()
    writer.close()
    assert (writer.frames, writer.dropped) == (4, 4)
    entries = [from_chunk(c) for c in chunks(writer.path) if isinstance(c, Chunk)]
    found = [e.seq if isinstance(e, FrameEntry) else type(e).__name__ for e in entries]
    assert found == [0, "DroppedEntry", "StateEntry", "DroppedEntry", 5, 6, 7, "EndEntry"]
    assert [e.frames for e in entries if isinstance(e, DroppedEntry)] == [2, 2]


def test_files_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "_MAX_BYTES", 2 * picture(0).nbytes)
    writer = record(tmp_path / "a.session", 60)
    assert (writer.frames, writer.dropped) == (60, 0)


class Source:
    """A source of a few frames; one of them is bad."""

    def __init__(self, *, live: bool) -> None:
        self.live = live
        self.seq = -1
        self.is_closed = False

    def open(self) -> SourceInfo:
        return SourceInfo("source", self.live, 25.0, 4, (24, 16))

    def read(self) -> Frame:
        self.seq += 1
        if self.seq == 2:
            raise BadFrameError("Frame 2 is bad.")
        if self.seq == 4:
            raise EndOfStream("It is over.")
        return frame(self.seq)

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("live", [True, False])
def test_a_recorded_source_passes_everything_through_and_keeps_it(tmp_path: Path, live: bool) -> None:
    source = Source(live=live)
    writer = SessionWriter(tmp_path / "a.session")
    recorded = Recorded(source, writer)
    info = recorded.open()
    assert info == SourceInfo("source", live, 25.0, 4, (24, 16))
    assert [recorded.read().seq, recorded.read().seq] == [0, 1]
    with pytest.raises(BadFrameError, match="Frame 2"):
        recorded.read()
    assert recorded.read().seq == 3
    with pytest.raises(EndOfStream, match=r"It is over\."):
        recorded.read()
    recorded.close()
    assert source.is_closed
    played = whole(tmp_path / "a.session")
    assert (played.numbers, played.bad) == ([0, 1, 3], ["Frame 2 is bad."])


def test_a_killed_recording_replays_up_to_its_last_whole_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.session"
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.camera.sessions import *\n"
        "writer = SessionWriter(Path(sys.argv[1]))\n"
        "writer.source(INFO)\n"
        "for seq in range(10**9): writer.frame(frame(seq), wait=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)])
    try:
        wait_for(lambda: path.is_file() and path.stat().st_size > 300_000)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    played = whole(path)
    assert len(played.frames) > 100
    assert played.numbers == list(range(len(played.frames)))
    for replayed in played.frames[-3:]:
        np.testing.assert_array_equal(replayed.image, picture(replayed.seq))
    assert not played.bad
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert re.search(r"a\.session was cut", caplog.text)


@pytest.mark.parametrize("tail", [1, 30, 700])
@pytest.mark.parametrize("filler", [b"", bytes(5000)])
def test_a_cut_tail_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tail: int, filler: bytes
) -> None:
    path = tmp_path / "a.session"
    record(path, 5)
    end_bytes = len(chunk_bytes([c for c in chunks(path) if isinstance(c, Chunk)][-1]))
    # The end is gone, and a part of the last frame; a power cut may leave zeros behind it.
    path.write_bytes(path.read_bytes()[: -end_bytes - tail] + filler)
    played = whole(path)
    assert (played.numbers, played.bad) == ([0, 1, 2, 3], [])
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "inside its last entry" in caplog.text


def test_behind_damage_it_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.session"
    record(path, 6)
    content = bytearray(path.read_bytes())
    middle = content.index(b'"seq":3')
    content[middle + 300 : middle + 320] = bytes(20)
    path.write_bytes(content)
    played = whole(path)
    assert played.numbers == [0, 1, 2, 4, 5]
    assert len(played.bad) == 1
    assert re.search(r"a\.session is damaged: \d+ bytes from \d+ on are skipped\.", played.bad[0])
    assert not caplog.records


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no recorded session"),
        (b"\x00" * 100, "is no recorded session"),
        (b"edge-mnv2 session one\n", "is no recorded session"),
        (b"edge-mnv2 session 1", "is no recorded session"),
        (b"edge-mnv2 session 7\nxyz", "of version 7, this program reads version 1"),
    ],
)
def test_what_is_no_session_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.session"
    path.write_bytes(content)
    replay = Replay(path)
    with pytest.raises(UnsupportedSourceError, match=message):
        replay.open()
    replay.close()


def test_an_entry_of_a_later_program_is_passed_over_and_a_wrong_one_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "a.session"
    record(path, 1)
    with path.open("ab") as file:
        file.write(chunk_bytes(Chunk({"kind": "sound", "received_ns": 1}, b"x")))
        file.write(chunk_bytes(Chunk({"kind": "frame", "received_ns": "soon"}, b"x")))
        file.write(chunk_bytes(Chunk({"kind": "frame", "received_ns": 2**70}, b"x")))
        file.write(chunk_bytes(Chunk({"kind": "state", "received_ns": 1}, b"x")))
        file.write(chunk_bytes(Chunk({"kind": "bad_frame", "received_ns": 1, "message": "x", "more": 1})))
    played = whole(path)
    assert played.numbers == [0]
    assert len(played.bad) == 4
    assert played.bad[3] == "x"


@pytest.fixture(scope="module")
def good_session(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sessions") / "good.session"
    writer = SessionWriter(path)
    writer.source(INFO)
    for seq in range(8):
        writer.frame(frame(seq, image=picture(seq, 6, 5)), wait=True)
        writer.state(StateChange(CameraState.LIVE, "It is back.", time.monotonic_ns()))
        writer.telemetry({"power_w": 2.5, "fan": None})
    writer.close()
    return path.read_bytes()


@given(data=st.data())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_to_the_bytes_no_frame_is_wrong(
    tmp_path: Path, good_session: bytes, data: st.DataObject
) -> None:
    content = bytearray(good_session)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        length = data.draw(st.integers(1, 200))
        match data.draw(st.sampled_from(["flip", "overwrite", "remove", "insert", "cut", "repeat"])):
            case "flip" if content:
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            case "overwrite":
                content[at : at + length] = data.draw(st.binary(min_size=1, max_size=length))
            case "remove":
                del content[at : at + length]
            case "insert":
                content[at:at] = data.draw(st.binary(max_size=length))
            case "cut":
                del content[at:]
            case "repeat":
                content[at:at] = content[at : at + length]
    path = tmp_path / "bad.session"
    path.write_bytes(content)
    try:
        played = play(Replay(path, speed=None), limit=100)
    except UnsupportedSourceError:
        assert not bytes(content).startswith(FIRST_LINE)
        return
    original = tmp_path / "good.session"
    original.write_bytes(good_session)
    written = chunks(original)
    assert all(chunk in written for chunk in chunks(path) if isinstance(chunk, Chunk))
    for replayed in played.frames:
        np.testing.assert_array_equal(replayed.image, picture(replayed.seq, 6, 5))
        assert replayed.origin == f"camera {replayed.seq % 2}"
    assert all(state.reason == "It is back." for state in played.states)
    if bytes(content) == good_session:
        assert played.numbers == list(range(8))
