"""Connections that only stay, with real sockets: they are limited, they end, and they keep nobody out."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from edge_mnv2.sinks.queued_outlet import QueuedOutlet
from tests.samples import frame_result
from tests.web.scene import TOKEN, WAIT_S, Scene, scene
from tests.web.test_routes import get, visit


@pytest.fixture
def made() -> Iterator[Scene]:
    with scene() as running:
        yield running


POST = b"POST /api/decoder HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


KNOWN = POST + b"Authorization: Bearer %s\r\n" % TOKEN.encode()


def connect(made: Scene, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", made.server.address.port), timeout=WAIT_S)
    connection.sendall(sent)
    return connection


def is_hung_up_on(connection: socket.socket) -> bool:
    """Wait for the other end to hang up; return whether it sent nothing before."""
    try:
        return connection.recv(1000) == b""
    except ConnectionError:
        return True


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def until_descriptors(count: int) -> None:
    end_s = time.monotonic() + WAIT_S
    while descriptors() > count:
        assert time.monotonic() < end_s, f"{descriptors()} descriptors, there were {count}"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    ],
)
def test_who_asks_for_nothing_is_hung_up_on(
    made: Scene, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_mnv2.web.connections._FIRST_REQUEST_S", 0.2)
    with connect(made, sent) as connection:
        assert is_hung_up_on(connection)


def test_headers_that_come_byte_by_byte_buy_no_time(made: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_mnv2.web.connections._FIRST_REQUEST_S", 0.5)
    with connect(made, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") as connection:

        def send_slowly() -> None:
            for _ in range(WAIT_S * 100):
                connection.sendall(b"x")
                time.sleep(0.01)

        with pytest.raises(ConnectionError):
            send_slowly()


def test_a_connection_is_kept_for_the_next_request_but_not_for_ever(
    made: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_mnv2.web.connections._FIRST_REQUEST_S", 0.0)
    with connect(made) as connection:
        # Being swept may take a moment; whoever has asked has more time.
        connection.sendall(b"GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(100_000).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr("edge_mnv2.web.connections._IDLE_S", 0.2)
        while not is_hung_up_on(connection):
            pass


def test_a_body_that_does_not_come_is_not_waited_for(made: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_mnv2.web.views._BODY_WAIT_S", 0.2)
    with connect(made, POST + b"Content-Length: 9\r\n\r\n{") as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_viewer_may_stay(made: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_FIRST_REQUEST_S", "_IDLE_S", "_SWEEP_S"):
        monkeypatch.setattr(f"edge_mnv2.web.connections.{limit}", 0.05)

    async def client(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{made.url}/api/detections") as events:
            with connect(made) as idle:  # it came later, and is hung up on
                assert await asyncio.to_thread(is_hung_up_on, idle)
            made.write(1)
            while b'"seq": 1' not in await events.content.readuntil(b"\n\n"):
                pass

    visit(client)


@contextmanager
def more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if soft < 2048 else soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_three_hundred_idle_connections_keep_nobody_out(made: Scene) -> None:
    """The page and its streams work, the loop keeps its rate, and what was taken is given back."""
    outlet = QueuedOutlet(made.server.add_camera("yard", made.decoders["door"]))
    done = threading.Event()
    counts: list[int] = []

    def loop() -> None:
        while not done.is_set():
            start_s, count = time.monotonic(), 0
            while time.monotonic() - start_s < 0.5:
                outlet.write(frame_result(count))
                count += 1
                time.sleep(0.01)
            counts.append(count)

    worker = threading.Thread(target=loop)
    before = descriptors()
    with more_descriptors(), ExitStack() as stack:
        worker.start()

        async def look(session: aiohttp.ClientSession) -> None:
            async with session.get(f"{made.url}/stream.mjpg?camera=yard") as stream:
                alone = len(counts)
                while len(counts) < alone + 2:
                    await stream.content.readany()
                idle = [stack.enter_context(connect(made)) for _ in range(300)]
                crowded = len(counts)
                while len(counts) < crowded + 3:
                    await stream.content.readany()
                # Those of the clients are in this process, too.
                assert descriptors() - before < 300 + 150
                assert sum(is_open(connection) for connection in idle) < 130
                for path in ("/", "/page.js", "/api/state", "/snapshot.jpg?camera=yard"):
                    async with aiohttp.ClientSession() as other, other.get(made.url + path) as answer:
                        assert answer.status == 200
            # Half is far more than what chance does to a loop that mostly sleeps.
            assert max(counts[crowded + 1 :]) > 0.5 * max(counts[alone:crowded])

        try:
            visit(look)
        finally:
            done.set()
            worker.join()
            outlet.close()
    until_descriptors(before)


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def test_where_all_are_busy_another_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_mnv2.web.views._BODY_WAIT_S", WAIT_S)
    with scene(max_viewers=1) as made, ExitStack() as stack:
        # Each is served for as long as its body does not come, and so has its place for certain.
        for _ in range(66):
            busy = stack.enter_context(
                connect(made, POST + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n")
            )
            assert b"100 Continue" in busy.recv(1000)
        assert is_hung_up_on(stack.enter_context(connect(made)))
        busy.close()
        # The place is free again once the server has noticed.
        while True:
            with connect(made) as another, suppress(ConnectionError):
                another.sendall(b"GET /api/state HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if another.recv(1000).startswith(b"HTTP/1.1 200"):
                    break


def test_a_process_without_descriptors_says_so_once_and_recovers(
    made: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_mnv2.web.connections._NO_ROOM_PAUSE_S", 0.05)
    caplog.set_level(logging.DEBUG)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        waiting = [stack.enter_context(socket.socket()) for _ in range(5)]
        highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        try:
            taken: list[int] = []
            with suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            for connection in waiting:
                connection.settimeout(WAIT_S)
                connection.connect(("127.0.0.1", made.server.address.port))
            end_s = time.monotonic() + WAIT_S
            while not caplog.records and time.monotonic() < end_s:
                time.sleep(0.01)
            time.sleep(0.5)  # ten more attempts
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for number in taken:
                os.close(number)
        told = [record.getMessage() for record in caplog.records]
        assert told == ["the live view cannot take another connection for now: Too many open files"]
        assert get(made, "/api/state")[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,  # TLS
        b"GET /?token=%s HTTP/9.9.9\r\n\r\n" % TOKEN.encode(),
        b"GET /?token=%s HTTP/1.1\r\nHost: localhost\r\nBad Header\x00: 1\r\n\r\n" % TOKEN.encode(),
        b"GET /?token=%s HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n" % (TOKEN.encode(), b"x" * 10_000),
        b"POST /api/decoder?token=%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n"
        % TOKEN.encode(),
        KNOWN + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        KNOWN + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi",
    ],
)
def test_what_strangers_send_is_not_logged(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Neither as noise nor with the token that it may hold."""
    caplog.set_level(logging.INFO)
    with scene(token=TOKEN) as made:
        with connect(made, sent) as connection:
            assert connection.recv(10_000).split()[1] == b"400"
        with connect(made, KNOWN + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n") as connection:
            assert b"100 Continue" in connection.recv(1000)
        assert get(made, "/icon.svg")[0] == 200  # it has noticed by now that the other one left
    assert not caplog.records


def test_what_fails_in_here_is_logged_without_the_token(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene(token=TOKEN) as made:
        monkeypatch.setattr(made.server._feeds["door"], "read_figures", None)
        status, body, headers = get(made, f"/api/state?token={TOKEN}")
        assert (status, headers["X-Content-Type-Options"]) == (500, "nosniff")
        assert b"TypeError" not in body
    assert "TypeError" in caplog.text
    assert TOKEN not in caplog.text
