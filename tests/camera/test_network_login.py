"""A camera whose password was changed is not asked so often that it locks the account."""

from __future__ import annotations

import subprocess
import sys
import threading
import urllib.request
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import pytest

from camera import (
    AccessDeniedError,
    CameraOptions,
    CameraState,
    EndOfStream,
    StateChange,
    Supervision,
    open_source,
)
from camera.options import Isolation
from camera.supervised import Pace, Supervised
from camera.thread_reader import ThreadReader
from camera.uri import raw_source
from tests.camera.servers import Server, mjpeg
from tests.camera.watch import Watch
from tests.conftest import ROOT

HOUR_S = 3600
USER, OLD, NEW = "viewer", "0ld", "N3w"


@dataclass
class Hour:
    """An hour that passes in pauses only.

    Attributes:
        pauses: Their lengths in seconds.
    """

    pauses: list[float] = field(default_factory=list)

    def wait(self, closed: threading.Event, pause_s: float) -> bool:
        self.pauses.append(pause_s)
        if sum(self.pauses) > HOUR_S:
            closed.set()
        return closed.is_set()

    def now_ns(self) -> int:
        return int(sum(self.pauses) * 1e9)


def logins(server: Server) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/logins", timeout=30) as answer:
        return int(answer.read())


def read_on(camera: Supervised) -> None:
    while True:
        camera.read().release()


def test_a_changed_password_costs_few_attempts_an_hour() -> None:
    hour, changes = Hour(), list[StateChange]()
    with mjpeg(user=USER, password=OLD) as server:
        uri = server.url()
        camera = Supervised(
            lambda: ThreadReader(partial(raw_source, uri), "the camera", []),
            "the camera",
            Supervision(),
            changes.append,
            Pace(hour.now_ns, lambda: 0.0, hour.wait),
        )
        camera.open()
        camera.read().release()
        assert logins(server) == 1
        server.kill()
        server.password = NEW
        server.start()
        with pytest.raises(EndOfStream):
            read_on(camera)
        attempts = [change for change in changes if change.state is CameraState.RECONNECTING]
        assert 5 <= len(attempts) <= 12
        # FFmpeg tells nobody what the camera answers, so it is asked once more.
        assert logins(server) == 2 * len(attempts)
    assert "refuses this user or password (401" in attempts[-1].reason
    # Once more soon: a camera may refuse for a moment after it was restarted.
    assert hour.pauses[1] == 3
    assert all(pause_s >= 60 for pause_s in hour.pauses[2:])


def test_a_server_that_refuses_for_a_moment_whoever_tells_no_user_is_soon_back() -> None:
    with mjpeg() as server, Watch(partial(open_source, server.url(), CameraOptions())) as watch:
        watch.wait_for(CameraState.LIVE)
        server.kill()
        server.user, server.password = USER, OLD
        server.start()
        watch.wait(lambda: "asks for a user and a password" in watch.changes[-1].reason)
        since = len(watch.changes)
        server.kill()
        server.user = server.password = None
        server.start()
        watch.wait_for(CameraState.LIVE, since)


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_wrong_password_at_the_start_is_an_error_of_its_own(isolation: Isolation) -> None:
    options = CameraOptions(isolation, supervision=Supervision(retry_first=True))
    with mjpeg(user=USER, password=OLD) as server:
        for uri in (server.url(password=NEW), f"http://127.0.0.1:{server.port}/cam"):
            with pytest.raises(AccessDeniedError), closing(open_source(uri, options)) as camera:
                camera.open()
        assert logins(server) == 2


def test_a_wrong_password_is_a_wrong_request_on_the_command_line() -> None:
    with mjpeg(user=USER, password=OLD) as server:
        uri = server.url(password=NEW)
        done = subprocess.run(
            [sys.executable, "-m", "edge_mnv2", "cameras", "probe", uri],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=ROOT,
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert "refuses this user or password (401" in done.stderr
    assert NEW not in done.stderr
