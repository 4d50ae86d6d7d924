from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from camera import EndOfStream, SourceNotFoundError, UnsupportedSourceError, open_source
from camera.replay import Replay
from camera.session_entries import (
    DroppedEntry,
    EndEntry,
    Entry,
    FrameEntry,
    SourceEntry,
    StateEntry,
    TelemetryEntry,
    to_chunk,
)
from camera.session_file import FIRST_LINE, chunk_bytes
from camera.session_pictures import encode
from camera.session_writer import Recorded, SessionWriter
from camera.states import CameraState, StateChange
from tests.camera.sessions import picture, play, record

MS = 1_000_000
# A machine that has been up for 40 days.
BOOT = 40 * 86400 * 1000 * MS


def source_entry(at_ms: int = 0) -> SourceEntry:
    return SourceEntry(BOOT + at_ms * MS, "rtsp://garden", True, 25.0, 24, 16, "2026-01-01T00:00:00Z")


def frame_entry(seq: int, at_ms: int, age_ms: int) -> FrameEntry:
    data = encode(picture(seq), None)
    assert data is not None
    received_ns = BOOT + at_ms * MS
    return FrameEntry(received_ns, received_ns - age_ms * MS, seq, "rtsp://garden", "", 24, 16, None, data)


def write(path: Path, *entries: Entry) -> Path:
    path.write_bytes(FIRST_LINE + b"".join(chunk_bytes(to_chunk(entry)) for entry in entries))
    return path


@pytest.fixture
def loss(tmp_path: Path) -> Path:
    """Two frames, a loss, two more frames, in 400 ms."""
    lost = StateChange(CameraState.LOST, "It is gone.", BOOT + 130 * MS, BOOT + 40 * MS, 1)
    back = StateChange(CameraState.LIVE, "", BOOT + 300 * MS)
    return write(
        tmp_path / "loss.session",
        source_entry(),
        frame_entry(7, 10, 20),
        frame_entry(9, 50, 10),
        StateEntry.of(lost, BOOT + 150 * MS),
        TelemetryEntry(BOOT + 200 * MS, {"power_w": 2.5, "fan": None}),
        StateEntry.of(back, BOOT + 301 * MS),
        frame_entry(30, 310, 15),
        frame_entry(31, 400, 60),
        EndEntry(BOOT + 410 * MS, "", 4, 0),
    )


def test_it_keeps_the_pace_the_numbers_and_the_ages(loss: Path) -> None:
    replay = Replay(loss)
    info = replay.open()
    assert info.live
    assert (info.fps, info.frames, info.size, info.paths) == (25.0, 4, (24, 16), (loss,))
    assert str(loss) in info.name
    start_ns = time.monotonic_ns()
    received_ms, ages_ms, captured_ms, numbers = [], [], [], []
    for _ in range(4):
        frame = replay.read()
        now_ns = time.monotonic_ns()
        received_ms.append((now_ns - start_ns) / MS)
        ages_ms.append((now_ns - frame.captured_ns) / MS)
        captured_ms.append(frame.captured_ns / MS)
        numbers.append(frame.seq)
        np.testing.assert_array_equal(frame.image, picture(frame.seq))
        assert frame.origin == "rtsp://garden"
    assert numbers == [7, 9, 30, 31]
    # Never early, and as old as in the field: older by what this machine was late.
    for received, age, (due, recorded_age) in zip(
        received_ms, ages_ms, [(10, 20), (50, 10), (310, 15), (400, 60)], strict=True
    ):
        assert received >= due - 1e-6
        late = received - due
        assert recorded_age <= age <= recorded_age + late + 1
    # Whatever the machine does meanwhile, the instants of capture lie as far apart as they did.
    assert np.diff(captured_ms) == pytest.approx([50, 255, 45], abs=1e-3)
    with pytest.raises(EndOfStream, match="no more frames"):
        replay.read()
    replay.close()


def test_states_and_readings_come_when_they_are_due_with_their_instants(loss: Path) -> None:
    told: list[tuple[int, StateChange]] = []
    readings: list[Mapping[str, object]] = []
    replay = Replay(loss, on_telemetry=readings.append)
    replay.set_on_state(lambda change: told.append((time.monotonic_ns(), change)))
    replay.open()
    replay.read()
    second = replay.read()
    assert not told
    third = replay.read()
    assert [change.state for _, change in told] == [CameraState.LOST, CameraState.LIVE]
    assert readings == [{"power_w": 2.5, "fan": None}]
    (heard_ns, lost), (_, back) = told
    assert (lost.reason, lost.attempt) == ("It is gone.", 1)
    assert lost.lost_since_ns == second.captured_ns  # both are 40 ms after boot
    assert lost.at_ns - second.captured_ns == pytest.approx(90 * MS, abs=1000)
    assert third.captured_ns - back.at_ns == pytest.approx(-5 * MS, abs=1000)
    assert heard_ns - lost.at_ns >= 20 * MS
    replay.close()


def test_as_fast_as_possible_nothing_is_lost_and_no_wait_is_made(tmp_path: Path) -> None:
    day_ms = 86_400_000
    path = write(
        tmp_path / "a.session", source_entry(), *(frame_entry(seq, seq * day_ms, 12) for seq in range(5))
    )
    played = play(Replay(path, speed=None))  # at its pace it would take four days
    assert not played.info.live
    assert played.info.fps is None
    assert played.numbers == list(range(5))
    assert all(12 <= age < 10_000 for age in played.ages_ms)


@pytest.mark.parametrize(("speed", "low_ms", "fps"), [(0.5, 780, 12.5), (4.0, 97, 100.0)])
def test_other_speeds_keep_the_ages(loss: Path, speed: float, low_ms: float, fps: float) -> None:
    start_ns = time.monotonic_ns()
    played = play(Replay(loss, speed))
    passed_ms = (time.monotonic_ns() - start_ns) / MS
    assert passed_ms >= low_ms
    assert played.info.fps == fps
    assert played.info.live
    for age, recorded in zip(played.ages_ms, [20, 10, 15, 60], strict=True):
        assert age >= recorded
    captured_ms = [frame.captured_ns / MS for frame in played.frames]
    due_ms = np.array([10, 50, 310, 400]) / speed - [20, 10, 15, 60]
    assert np.diff(captured_ms) == pytest.approx(np.diff(due_ms), abs=1e-3)


def test_closing_wakes_a_reader(tmp_path: Path) -> None:
    path = write(tmp_path / "a.session", frame_entry(0, 0, 0), frame_entry(1, 3_600_000, 0))
    replay = Replay(path)
    replay.open()
    replay.read()
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(EndOfStream, match="was closed"):
            replay.read()
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    replay.close()
    assert ended.wait(30)
    reader.join(30)
    with pytest.raises(EndOfStream):
        replay.read()
    replay.close()


def test_it_can_be_opened_again(loss: Path) -> None:
    replay = Replay(loss, speed=None)
    assert play(replay).numbers == [7, 9, 30, 31]
    assert play(replay).numbers == [7, 9, 30, 31]


def test_what_the_recording_lacks_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = write(
        tmp_path / "a.session",
        source_entry(),
        DroppedEntry(BOOT, 3),
        frame_entry(4, 10, 0),
        DroppedEntry(BOOT + 20 * MS, 2),
        EndEntry(BOOT + 30 * MS, "the disk is full", 1, 5),
    )
    played = play(Replay(path, speed=None))
    assert played.end == f"{path} has no more frames: the disk is full."
    assert [r.getMessage() for r in caplog.records] == [f"{path} lacks 5 frames: recording was too slow."]


def test_a_picture_of_another_size_than_its_entry_says_is_bad(tmp_path: Path) -> None:
    wrong = replace(frame_entry(1, 10, 0), width=25)
    path = write(tmp_path / "a.session", frame_entry(0, 0, 0), wrong, frame_entry(2, 20, 0))
    played = play(Replay(path, speed=None))
    assert played.numbers == [0, 2]
    assert played.bad == [f"{path}: frame 1 cannot be decoded."]


@pytest.mark.parametrize("cut", [0, 1])
def test_without_its_first_entry_it_plays_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.session"
    record(path, 3)
    content = path.read_bytes()
    path.write_bytes(FIRST_LINE + content[len(FIRST_LINE) + cut :])
    played = play(Replay(path, speed=None))
    assert played.numbers == [0, 1, 2]
    assert (played.info.size is None) == (len(played.bad) == 1) == bool(cut)


def test_the_uri_says_the_pace(tmp_path: Path, loss: Path) -> None:
    for query, live, fps in [
        ("", True, 25),
        ("?speed=max", False, None),
        ("?speed=MAX", False, None),
        ("?speed=2", True, 50),
        ("?speed=0.5", True, 12.5),
    ]:
        source = open_source(f"replay://{loss}{query}")
        info = source.open()
        source.close()
        assert (info.live, info.fps) == (live, fps)
    odd = tmp_path / "what? #1 100%.session"
    odd.write_bytes(loss.read_bytes())
    source = open_source(f"replay://{tmp_path}/what%3F %231 100%25.session?speed=max")
    assert source.open().paths == (odd,)
    source.close()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?speed=fast", r"speed=fast is wrong: give a number from 0\.01 to 100, or max\."),
        ("?speed=0", r"or max\."),
        ("?sped=2", "Did you mean speed"),
    ],
)
def test_wrong_options_are_refused(loss: Path, query: str, message: str) -> None:
    with pytest.raises(UnsupportedSourceError, match=message):
        open_source(f"replay://{loss}{query}")


def test_a_session_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSourceError, match="After replay:// comes a recorded session"):
        open_source("replay://")
    with pytest.raises(SourceNotFoundError, match=r"There is no session .*gone\.session: check the path"):
        open_source(f"replay://{tmp_path}/gone.session")


def test_a_camera_is_recorded_and_replayed(tmp_path: Path) -> None:
    writer = SessionWriter(tmp_path / "a.session")
    camera = Recorded(open_source("test://?size=160x120&fps=100&frames=20"), writer)
    camera.open()
    seen, stamps, ages_ms = [], [], []
    for _ in range(20):
        frame = camera.read()
        stamps.append(frame.captured_ns)
        ages_ms.append((time.monotonic_ns() - frame.captured_ns) / MS)
        seen.append(frame.image.copy())
        frame.release()
    camera.close()
    start_ns = time.monotonic_ns()
    played = play(Replay(writer.path))
    assert time.monotonic_ns() - start_ns >= 0.9 * (stamps[-1] - stamps[0])
    assert played.info.size == (160, 120)
    assert played.numbers == list(range(20))
    for image, replayed in zip(seen, played.frames, strict=True):
        np.testing.assert_array_equal(image, replayed.image)
    replayed_stamps = [frame.captured_ns for frame in played.frames]
    assert np.diff(replayed_stamps) == pytest.approx(np.diff(stamps), abs=2)
