from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from camera import CameraOptions, CameraState, StateChange, Supervision, Transform, open_source
from camera.isolation.process_reader import ProcessReader
from camera.options import Isolation
from camera.states import OnState
from camera.supervised import Supervised
from tests.camera.held import Held, children, wait_for
from tests.camera.servers import Server, mjpeg, rtsp
from tests.camera.watch import Watch
from tests.conftest import ROOT

LIVE, STALLED, LOST = CameraState.LIVE, CameraState.STALLED, CameraState.LOST


@pytest.fixture(autouse=True)
def nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for tests.camera.bad_sources, where camera is installed
    before = Held.now()
    yield
    wait_for(lambda: Held.now().is_within(before), 10)


def bad_source(name: str, uri: str, on_state: OnState) -> Supervised:
    supervision = Supervision(stall_s=0.5, first_pause_s=0.01, max_pause_s=0.05)
    make = partial(ProcessReader, uri, Transform(), f"tests.camera.bad_sources:{name}")
    return Supervised(make, "the camera", supervision, on_state)


def test_a_child_that_is_killed_comes_back() -> None:
    with Watch(partial(bad_source, "good", "")) as watch:
        watch.wait_for(LIVE)
        before = Held.now()
        for _ in range(5):
            since = len(watch.changes)
            (child,) = children()
            os.kill(child, signal.SIGKILL)
            watch.wait_for(LIVE, since)
            assert children() != {child}
        reasons = [change.reason for change in watch.changes if change.state is LOST]
        assert len(reasons) == 5
        assert all("SIGKILL" in reason for reason in reasons)
        wait_for(lambda: Held.now().is_within(before))
        assert watch.seqs == sorted(set(watch.seqs))


def test_a_driver_that_crashes_again_and_again_is_opened_until_it_works(tmp_path: Path) -> None:
    fixed = tmp_path / "fixed"
    with Watch(partial(bad_source, "once_per_file", str(fixed))) as watch:
        watch.wait(lambda: [change.state for change in watch.changes].count(LOST) >= 3)
        fixed.touch()
        crashes = [change for change in watch.changes if change.state is LOST]
        assert all("SIGSEGV" in change.reason for change in crashes)
        count = len(watch.seqs)
        watch.wait(lambda: len(watch.seqs) > count + 20)
        assert watch.seqs == sorted(set(watch.seqs))


@pytest.mark.parametrize("name", ["hang_in_read", "hang_in_read_with_every_lock"])
def test_a_driver_that_hangs_is_killed_and_opened_anew(name: str) -> None:
    with Watch(partial(bad_source, name, "")) as watch:
        watch.wait(lambda: [change.state for change in watch.changes].count(LIVE) >= 3)
        states = [change.state.value for change in watch.changes[1:9]]
        assert states == ["live", "stalled", "lost", "reconnecting"] * 2
        assert "gave no frame for 0." in watch.changes[2].reason
        assert watch.changes[3].lost_since_ns is not None


def camera_at(server: Server, isolation: Isolation, on_state: Callable[[StateChange], None]) -> Supervised:
    source = open_source(server.url(), CameraOptions(isolation=isolation), on_state)
    assert isinstance(source, Supervised)
    return source


def shows(watch: Watch, size: tuple[int, int]) -> bool:
    return watch.sizes[-1] == size


def holds_no_more_than(before: Held) -> bool:
    return Held.now().is_within(before)


@pytest.mark.parametrize("make", [mjpeg, rtsp])
@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_server_that_goes_and_comes_back(make: Callable[[], Server], isolation: Isolation) -> None:
    with make() as server, Watch(partial(camera_at, server, isolation)) as watch:
        watch.wait_for(LIVE)
        before = None
        for size in ((640, 480), (320, 240), (800, 600)):
            since = len(watch.changes)
            server.kill()
            watch.wait_for(LOST, since)
            server.restart(size)
            watch.wait_for(LIVE, since)
            watch.wait(partial(shows, watch, size))
            if before is not None and isolation == "process":  # what a library keeps in a thread is its own
                wait_for(partial(holds_no_more_than, before))
            before = Held.now()
        assert isinstance(watch.source, Supervised)
        assert watch.source.reconnects == 3
        assert watch.seqs == sorted(set(watch.seqs))


@pytest.mark.parametrize("make", [mjpeg, rtsp])
def test_a_server_that_freezes(make: Callable[[], Server]) -> None:
    with make() as server, Watch(partial(camera_at, server, "process")) as watch:
        watch.wait_for(LIVE)
        since = len(watch.changes)
        server.freeze()
        watch.wait_for(STALLED, since)
        watch.wait_for(LOST, since)
        server.thaw()
        watch.wait_for(LIVE, since)


def test_a_stream_that_changes_its_size_goes_on() -> None:
    options = ("--then-size", "800x600", "--after", "15")
    with (
        mjpeg(size=(320, 240), more=options) as server,
        Watch(partial(camera_at, server, "process")) as watch,
    ):
        watch.wait(lambda: watch.sizes[-1:] == [(800, 600)])
        assert watch.sizes == [(320, 240), (800, 600)]
        assert [change.state.value for change in watch.changes] == ["opening", "live"]
