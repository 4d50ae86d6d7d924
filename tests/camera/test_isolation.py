from __future__ import annotations

import errno
import gc
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from camera import (
    BadFrameError,
    CameraError,
    EndOfStream,
    Frame,
    SourceNotFoundError,
    Transform,
    UnsupportedSourceError,
)
from camera.isolation.process_reader import SLOTS, ProcessReader
from tests.camera.bad_sources import picture
from tests.camera.held import LONG_S, Held, children, shared_memory, wait_for
from tests.camera.servers import Server
from tests.conftest import ROOT


def reader_of(name: str, uri: str = "") -> ProcessReader:
    return ProcessReader(uri, Transform(), f"tests.camera.bad_sources:{name}")


@pytest.fixture(autouse=True)
def nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for tests.camera.bad_sources, where camera is installed
    before = Held.now()
    yield
    wait_for(lambda: Held.now().is_within(before), 10)


def read(reader: ProcessReader) -> Frame:
    frame = reader.read(LONG_S)
    assert frame is not None
    return frame


def read_to_the_end(reader: ProcessReader) -> CameraError:
    """Read until the source says why it ends."""
    try:
        while True:
            read(reader).release()
    except CameraError as error:
        return error


def process_of(reader: ProcessReader) -> int:
    assert reader._child is not None
    return reader._child.pid


def test_frames_arrive_as_they_were_made() -> None:
    with closing(reader_of("good")) as reader:
        info = reader.open(LONG_S)
        assert (info.name, info.live, info.size) == ("scripted", True, (64, 48))
        last = -1
        for _ in range(40):
            with read(reader) as frame:
                assert frame.seq > last
                last = frame.seq
                np.testing.assert_array_equal(frame.image, picture(frame.seq))
                assert frame.origin == "scripted"
                assert 0 <= time.monotonic_ns() - frame.captured_ns < LONG_S * 1e9
        assert process_of(reader) in children()
    assert not children()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=SLOTS))
def test_frames_of_any_size_are_equal_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]]
) -> None:
    gate = tmp_path_factory.mktemp("gate") / "open"
    uri = ",".join(f"{width}x{height}" for width, height in sizes)
    held = []
    with closing(reader_of("sized", f"{uri}@{gate}")) as reader:
        reader.open(LONG_S)
        for number in range(len(sizes)):
            Path(f"{gate}.{number}").touch()
            held.append(read(reader))
    # All are held to the end: frames of rings that were replaced, and of a process that is gone.
    for number, (width, height) in enumerate(sizes):
        np.testing.assert_array_equal(held[number].image, picture(number, width, height))
        held[number].release()


def test_a_picture_that_does_not_lie_in_one_piece_is_copied_right() -> None:
    with closing(reader_of("strided")) as reader:
        reader.open(LONG_S)
        with read(reader) as frame:
            assert frame.image.flags.c_contiguous
            np.testing.assert_array_equal(frame.image, picture(0)[::-2, ::3])
        with pytest.raises(EndOfStream, match="The script is over"):
            reader.read(LONG_S)


def test_slots_of_a_ring_that_was_replaced_do_not_come_back(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    sizes = ["8x8"] * SLOTS + ["16x16"] * SLOTS
    with closing(reader_of("sized", f"{','.join(sizes)}@{gate}")) as reader:
        reader.open(LONG_S)
        held = []
        for number in range(len(sizes)):
            Path(f"{gate}.{number}").touch()
            held.append(read(reader))
            if number == SLOTS:  # the first of the new ones is there: the old ones go
                for frame in reversed(held[:SLOTS]):
                    frame.release()
        for number in range(SLOTS, len(sizes)):
            np.testing.assert_array_equal(held[number].image, picture(number, 16, 16))
        for frame in held:
            frame.release()


def test_growing_frames_leave_no_memory_behind(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    count = 12
    sizes = ",".join(f"{8 * number + 8}x16" for number in range(count))
    before = Held.now()
    with closing(reader_of("sized", f"{sizes}@{gate}")) as reader:
        reader.open(LONG_S)
        for number in range(count):
            Path(f"{gate}.{number}").touch()
            frame = read(reader)
            assert frame.image.shape == (16, 8 * number + 8, 3)
            frame.release()
            del frame
            assert Held.now().mappings <= before.mappings + 1


def test_the_slots_come_back_and_what_finds_none_is_counted() -> None:
    with closing(reader_of("burst", "50")) as reader:
        reader.open(LONG_S)
        held = [read(reader)]
        seen = [held[0].seq]
        while len(held) < SLOTS:  # newer ones may have displaced some that were never read
            frame = reader.read(0.2)
            if frame is None:
                break
            held.append(frame)
        for frame in held:
            np.testing.assert_array_equal(frame.image, picture(frame.seq))
        seen = [frame.seq for frame in held]
        assert seen == sorted(set(seen))
        for frame in held:
            frame.release()
            frame.release()
    with closing(reader_of("good")) as reader:
        reader.open(LONG_S)
        held = [read(reader) for _ in range(SLOTS)]
        assert reader.read(0.2) is None  # all are taken, and nothing is overwritten
        for frame in held:
            np.testing.assert_array_equal(frame.image, picture(frame.seq))
        held[1].release()
        with read(reader) as late:
            assert late.seq > held[-1].seq + 10
            lost = late.seq + 1 - SLOTS - 1
            assert 0 < reader.dropped <= lost
            np.testing.assert_array_equal(late.image, picture(late.seq))
        for frame in held:
            frame.release()
        for _ in range(3 * SLOTS):
            read(reader).release()


def test_a_reader_that_was_away_gets_the_newest_frame() -> None:
    with closing(reader_of("good")) as reader:
        reader.open(LONG_S)
        first = read(reader)
        first.release()
        wait_for(lambda: reader._handover.dropped > 30)
        with read(reader) as frame:
            assert frame.seq > first.seq + 30


@pytest.mark.parametrize("name", ["hang_in_make", "hang_in_open"])
def test_a_source_that_hangs_while_it_opens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camera.isolation.process_reader._START_TIMEOUT_S", 2.0)
    reader = reader_of(name, "rtsp://me:secret@host/")
    with closing(reader), pytest.raises(CameraError) as caught:
        reader.open(0.3)
    assert "did not open within 0.3 s" in str(caught.value) or "did not start" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not children()


@pytest.mark.parametrize("name", ["hang_in_read", "hang_in_read_with_every_lock", "hang_in_close"])
def test_a_source_that_hangs_is_killed(name: str) -> None:
    reader = reader_of(name)
    with closing(reader):
        reader.open(LONG_S)
        for _ in range(2):
            read(reader).release()
        if name != "hang_in_close":
            while (frame := reader.read(0.3)) is not None:
                frame.release()
        process = process_of(reader)
        start_s = time.monotonic()
    assert time.monotonic() - start_s < LONG_S
    assert not Path(f"/proc/{process}").exists()


def test_a_driver_that_was_alive_may_take_seconds_to_stop(tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    with closing(reader_of("slow_to_stop", str(stopped))) as reader:
        reader.open(LONG_S)
        read(reader).release()
    assert stopped.exists()


def test_a_driver_that_fell_silent_is_killed_sooner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camera.isolation.process_reader._STOP_S", LONG_S)
    stopped = tmp_path / "stopped"
    with closing(reader_of("slow_to_stop", f"{stopped}?silent")) as reader:
        reader.open(LONG_S)
        while (frame := reader.read(0.3)) is not None:
            frame.release()
    assert not stopped.exists()


def test_a_driver_that_is_told_off_for_nonsense_may_stop_too(tmp_path: Path) -> None:
    """Nobody calls `close`: the thread that follows the child sees it off."""
    stopped = tmp_path / "stopped"
    with closing(reader_of("slow_to_stop", str(stopped))) as reader:
        reader.open(LONG_S)
        read(reader).release()
        reader._take = nonsense  # type: ignore[method-assign]
        assert "cannot be used" in str(read_to_the_end(reader))
        wait_for(lambda: not children())
        assert stopped.exists()


def nonsense(message: object, memory: object) -> None:
    raise ValueError


@pytest.mark.parametrize("left", [0, 1])  # none for the memory; one, so that it cannot be mapped
def test_a_child_without_descriptors_says_so(left: int) -> None:
    with closing(reader_of("out_of_descriptors", str(left))) as reader:
        reader.open(LONG_S)
        error = str(read_to_the_end(reader))
        assert error == (
            "There is no shared memory for the camera's frames (0 MiB): too many files are open "
            "(see ulimit -n)."
        )


def test_a_parent_without_descriptors_says_so(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with closing(reader_of("sized", f"8x6@{gate}")) as reader:
        reader.open(LONG_S)
        first_free = os.dup(0)
        os.close(first_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, limits[1]))
        try:
            Path(f"{gate}.0").mkdir()  # which takes no descriptor
            error = str(read_to_the_end(reader))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert error == "The camera's frames cannot be shared: too many files are open (see ulimit -n)."


def test_a_parent_that_cannot_map_the_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr("camera.isolation.shared_frames.mmap.mmap", refuse)
    with closing(reader_of("good")) as reader:
        reader.open(LONG_S)
        assert "no shared memory for the camera's frames (0 MiB): Cannot allocate memory." in str(
            read_to_the_end(reader)
        )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("segfault_in_read", "was ended by signal 11 (SIGSEGV)."),
        ("abort_in_read", "was ended by signal 6 (SIGABRT)."),
        ("killed_in_read", "was ended by signal 9 (SIGKILL), perhaps because memory ran out."),
        ("exit_in_read", "ended with exit code 7."),
        ("raise_odd", "The camera's driver failed with RuntimeError: rtsp://***@host/: odd"),
        ("raise_system_exit", "ended with exit code 1: "),
    ],
)
def test_the_end_of_a_process_is_an_error_of_the_camera(name: str, expected: str) -> None:
    with closing(reader_of(name)) as reader:
        reader.open(LONG_S)
        error = read_to_the_end(reader)
        assert type(error) is CameraError
        assert expected in str(error)
        with pytest.raises(CameraError):  # and again
            reader.read(LONG_S)


def test_a_crash_while_it_opens() -> None:
    with closing(reader_of("segfault_in_open")) as reader, pytest.raises(CameraError, match="SIGSEGV"):
        reader.open(LONG_S)


def test_signals_to_all_processes_leave_the_child_to_its_parent() -> None:
    with closing(reader_of("good")) as reader:
        reader.open(LONG_S)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(process_of(reader), number)
        for _ in range(20):
            read(reader).release()


def test_signals_to_all_processes_do_not_break_a_stream(mjpeg_server: Server) -> None:
    with closing(ProcessReader(mjpeg_server.url(), Transform())) as reader:
        reader.open(LONG_S)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) * 10:
            read(reader).release()
            os.kill(process_of(reader), number)  # it waits for the network
        read(reader).release()


def test_a_killed_child_is_told_from_one_that_ended() -> None:
    with closing(reader_of("good")) as reader:
        reader.open(LONG_S)
        read(reader).release()
        os.kill(process_of(reader), signal.SIGKILL)
        assert "signal 9 (SIGKILL)" in str(read_to_the_end(reader))
        wait_for(lambda: not children())  # before anybody closes it


def test_errors_keep_their_class_and_lose_their_credentials() -> None:
    with (
        closing(reader_of("not_found")) as reader,
        pytest.raises(SourceNotFoundError, match="no such camera"),
    ):
        reader.open(LONG_S)
    wrong = ProcessReader("test://?sise=3", Transform())
    with closing(wrong), pytest.raises(UnsupportedSourceError, match="sise"):
        wrong.open(LONG_S)
    with closing(reader_of("fail_then_hang_in_close")) as reader:
        reader.open(LONG_S)
        assert str(read_to_the_end(reader)) == "rtsp://***@host/ was unplugged."


def test_bad_frames_pass_by_and_reading_goes_on() -> None:
    good = bad = 0
    with closing(reader_of("bad_every_other")) as reader:
        reader.open(LONG_S)
        while good < 5 or bad < 5:
            try:
                read(reader).release()
                good += 1
            except BadFrameError as error:
                assert str(error) == "A damaged frame."  # noqa: PT017 - most of them are no error
                bad += 1


def test_what_libraries_write_is_logged_without_credentials(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "camera"), closing(reader_of("chatty")) as reader:
        reader.open(LONG_S)
        error = str(read_to_the_end(reader))
    assert "exit code 3" in error
    assert error.endswith("cannot open rtsp://***@10.0.0.9/stream / last word.")
    assert "on stdout: rtsp://***@10.0.0.9/stream" in caplog.text
    assert "hunter2" not in caplog.text + error


def test_nothing_shows_the_uri_of_the_camera() -> None:
    with closing(reader_of("good", "rtsp://admin:hunter2@host/")) as reader:
        reader.open(LONG_S)
        process = Path(f"/proc/{process_of(reader)}")
        for name in ("cmdline", "environ", "comm"):
            assert b"hunter2" not in (process / name).read_bytes()
        assert (process / "comm").read_text(encoding="ascii") == "edge-mnv2-cam\n"
        # Neither the parent's standard input nor its output is the child's.
        streams = [str((process / "fd" / name).readlink()) for name in "012"]
        assert streams[0] == "/dev/null"
        assert streams[1] == streams[2]
        assert streams[1].startswith("pipe:")
        assert os.getpgid(process_of(reader)) != os.getpgid(0)


def test_what_a_driver_started_ends_with_it(tmp_path: Path) -> None:
    number = tmp_path / "number"
    for end in (signal.SIGKILL, None):
        with closing(reader_of("starts_a_program", str(number))) as reader:
            reader.open(LONG_S)
            started = Path(f"/proc/{number.read_text(encoding='ascii')}")
            assert started.exists()
            if end is not None:
                os.kill(process_of(reader), end)
                assert "SIGKILL" in str(read_to_the_end(reader))
        # It is init's to wait for, or whoever stands in for it: a zombie is over, too.
        wait_for(partial(is_over, started))


def test_what_a_driver_started_heeds_a_service_manager(tmp_path: Path) -> None:
    number = tmp_path / "number"
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with closing(reader_of("starts_a_program", str(number))) as reader:
            reader.open(LONG_S)
            started = int(number.read_text(encoding="ascii"))
            os.kill(started, end)
            wait_for(partial(is_over, Path(f"/proc/{started}")))
            read(reader).release()


def is_over(process: Path) -> bool:
    try:
        return "\nState:\tZ" in (process / "status").read_text(encoding="utf-8")
    except OSError:
        return True


@pytest.mark.parametrize(
    "nonsense", ["{", "[]", "{}", '{"kind":"frame"}', '{"kind":"frame","ring":1,"slot":99,"dropped":0}']
)
def test_a_process_that_talks_nonsense_is_given_up(nonsense: str) -> None:
    with closing(reader_of("lying", nonsense)) as reader:
        reader.open(LONG_S)
        assert "cannot be used" in str(read_to_the_end(reader))


def test_close_from_another_thread_wakes_the_reader() -> None:
    for name in ("hang_in_open", "hang_in_read"):
        reader = reader_of(name)
        outcome: list[BaseException] = []

        def use(reader: ProcessReader = reader, outcome: list[BaseException] = outcome) -> None:
            try:
                reader.open(LONG_S)
                while True:
                    read(reader).release()
            except EndOfStream as error:
                outcome.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        wait_for(lambda reader=reader: reader._child is not None)  # type: ignore[misc]
        reader.close()
        reader.close()
        thread.join(LONG_S)
        assert len(outcome) == 1


def test_frames_may_be_released_after_the_end_by_any_thread() -> None:
    reader = reader_of("good")
    reader.open(LONG_S)
    frames = [read(reader) for _ in range(2)]
    reader.close()
    threads = [threading.Thread(target=frame.release) for frame in frames]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    np.testing.assert_array_equal(frames[0].image, picture(frames[0].seq))


def test_a_reader_that_was_never_opened_closes() -> None:
    reader = reader_of("good")
    reader.close()
    with pytest.raises(CameraError):
        reader.open(1)


def test_the_thread_that_opens_may_end() -> None:
    """The kernel's notice of a parent's death is bound to a thread; ours lives as long as the child."""
    with closing(reader_of("good")) as reader:
        thread = threading.Thread(target=reader.open, args=(LONG_S,))
        thread.start()
        thread.join(LONG_S)
        for _ in range(30):
            read(reader).release()


def test_threads_of_a_driver_do_not_keep_the_process_alive() -> None:
    with closing(reader_of("leaves_threads")) as reader:
        reader.open(LONG_S)
        read(reader).release()
        child = reader._child
        assert child is not None
    assert child._process.returncode == 0  # it was not killed


def test_a_users_own_modules_do_not_take_our_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("camera", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('wrong module')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with closing(reader_of("good")) as reader:
        reader.open(LONG_S)
        read(reader).release()


PARENT = """
import json, sys, threading
from camera import Transform
from camera.isolation.process_reader import ProcessReader
names = sys.argv[1:]
readers = [ProcessReader("", Transform(), f"tests.camera.bad_sources:{name}") for name in names]
for reader in readers:
    reader.open(30)
    while not (frame := reader.read(30)): pass
print(json.dumps([reader._child.pid for reader in readers]), flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_children_end_with_their_parent(how: signal.Signals) -> None:
    shared = shared_memory()
    names = ["good", "hang_in_read", "hang_in_read_with_every_lock", "hang_in_close"]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *names], stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as parent:
        try:
            assert parent.stdout is not None
            processes = [Path(f"/proc/{number}") for number in json.loads(parent.stdout.readline())]
            assert all("edge-mnv2-cam" in (process / "comm").read_text() for process in processes)
            parent.send_signal(how)
            parent.wait(LONG_S)
        finally:
            parent.kill()
    for process in processes:
        wait_for(partial(is_over, process))
    assert shared_memory() == shared


def test_a_transform_reaches_the_child() -> None:
    transform = Transform(crop=(8, 4, 20, 10), rotate=90, flip="horizontal")
    reader = ProcessReader("", transform, "tests.camera.bad_sources:good")
    with closing(reader):
        assert reader.open(LONG_S).size == (10, 20)
        with read(reader) as frame:
            expected = np.rot90(picture(frame.seq)[4:14, 8:28], -1)[:, ::-1]
            np.testing.assert_array_equal(frame.image, expected)


def test_a_child_that_cannot_be_killed_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that waits in the kernel for a broken device; here, killing it does nothing for a while."""
    left_behind: list[threading.Thread] = []
    readers = []
    with monkeypatch.context() as patch:
        patch.setattr("camera.isolation.process_reader._STOP_S", 0.05)
        patch.setattr("camera.isolation.process_reader._KILL_S", 0.05)
        patch.setattr("camera.isolation.child_process.ChildProcess.kill", lambda child: None)
        patch.setattr("camera.left_behind.MAX_LEFT_BEHIND", 2)
        for count in (1, 2):
            reader = ProcessReader("", Transform(), "tests.camera.bad_sources:hang_in_close", left_behind)
            reader.open(LONG_S)
            reader.close()
            readers.append(reader)
            assert len(left_behind) == count
        assert caplog.text.count("cannot be killed") == 2
        refused = ProcessReader("", Transform(), "tests.camera.bad_sources:good", left_behind)
        with closing(refused), pytest.raises(CameraError, match=r"2 processes hang.*unplug"):
            refused.open(LONG_S)
    for reader in readers:
        os.kill(process_of(reader), signal.SIGKILL)
    for thread in left_behind:
        thread.join(LONG_S)
    with closing(ProcessReader("", Transform(), "tests.camera.bad_sources:good", left_behind)) as reader:
        reader.open(LONG_S)
    assert not left_behind


def test_a_lost_camera_leaves_nothing_to_the_garbage_collector() -> None:
    """Its memory is large, and a process that only loops makes hardly any other garbage."""

    def lose() -> None:
        reader = reader_of("segfault_in_read")
        try:
            reader.open(LONG_S)
            read_to_the_end(reader)
        finally:
            reader.close()

    lose()
    before = Held.now()
    gc.disable()
    try:
        for _ in range(3):
            lose()
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8").count("camera frames")
    finally:
        gc.enable()
    assert mapped <= before.mappings
