"""Metrics over HTTP: on the live view's server, and on a port of their own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from edge_mnv2.errors import RequestError
from edge_mnv2.readings import Snapshot
from edge_mnv2.web.access import Access
from edge_mnv2.web.address import WebAddress
from edge_mnv2.web.guard import add_headers, make_guard
from edge_mnv2.web.metrics_server import MetricsServer
from edge_mnv2.web.metrics_view import add_metrics
from tests.metrics.snapshots import FULL
from tests.web.scene import TOKEN

BEARER = {"Authorization": f"Bearer {TOKEN}"}


def full() -> Snapshot:
    return FULL


@contextmanager
def serve(token: str | None = None, host: str = "127.0.0.1") -> Iterator[MetricsServer]:
    before = set(threading.enumerate())
    descriptors = set(Path("/proc/self/fd").iterdir())
    server = MetricsServer.start(WebAddress(host, 0), full, token)
    try:
        yield server
    finally:
        server.close()
    server.check()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]
    assert len(set(Path("/proc/self/fd").iterdir())) <= len(descriptors)


def ask(
    server: MetricsServer, path: str = "/metrics", method: str = "GET", **headers: str
) -> tuple[int, str, str]:
    with closing(HTTPConnection("127.0.0.1", server.address.port, timeout=30)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def names(text: str) -> set[str]:
    return {family.name for family in text_string_to_metric_families(text)}


def test_a_port_of_its_own_serves_metrics() -> None:
    with serve() as server:
        status, content_type, text = ask(server)
        assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert "edge_mnv2_power_watts" in names(text)
        assert "openmetrics" in ask(server, Accept="application/openmetrics-text")[1]
        assert ask(server, "/metrics?x=1")[0] == 200
        assert ask(server, method="HEAD")[::2] == (200, "")
        assert ask(server, "/")[0] == 404
        assert ask(server, method="POST")[0] == 501


def test_the_port_is_free_after_close_even_with_somebody_connected() -> None:
    with serve() as server, socket.create_connection(("127.0.0.1", server.address.port)) as idle:
        assert ask(server)[0] == 200
        assert "metrics scrape" in {thread.name for thread in threading.enumerate()}
        server.close()
        assert "metrics scrape" not in {thread.name for thread in threading.enumerate()}
        idle.settimeout(30)
        assert idle.recv(1) == b""
        again = MetricsServer.start(server.address, full)
        again.close()


def test_many_idle_connections_do_not_lock_prometheus_out() -> None:
    with serve() as server:
        idle = [socket.create_connection(("127.0.0.1", server.address.port)) for _ in range(20)]
        try:
            assert ask(server)[0] == 200
        finally:
            for connection in idle:
                connection.close()


def test_a_port_in_use_is_refused_with_the_right_option() -> None:
    with serve() as server, pytest.raises(RequestError, match=r"in use.*--metrics HOST:PORT"):
        MetricsServer.start(server.address, full)


def test_other_addresses_than_loopback_need_a_token() -> None:
    with pytest.raises(RequestError, match="token"):
        MetricsServer.start(WebAddress("0.0.0.0", 0), full)
    with serve(TOKEN, "0.0.0.0") as server:
        assert ask(server)[0] == 401
        assert ask(server, Authorization="Bearer wrong")[0] == 401
        assert ask(server, **BEARER)[0] == 200


def test_pages_of_others_cannot_read_them() -> None:
    with serve() as server:
        assert ask(server, Host="evil.example")[0] == 403
        assert ask(server, **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})[0] == 403


def test_a_reading_that_fails_is_logged_and_the_next_one_answered(caplog: pytest.LogCaptureFixture) -> None:
    answers = [KeyError("broken"), FULL]

    def read() -> Snapshot:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    server = MetricsServer.start(WebAddress("127.0.0.1", 0), read)
    with closing(server):
        assert ask(server)[0] == 500
        assert ask(server)[0] == 200
    assert "the metrics cannot be read" in caplog.text


def test_the_view_is_behind_the_guard_and_negotiates() -> None:
    asyncio.run(ask_the_view())


async def ask_the_view() -> None:
    access = Access(WebAddress("127.0.0.1", 0), TOKEN)
    app = web.Application(middlewares=[make_guard(access, b"<html>locked</html>")])
    app.on_response_prepare.append(add_headers)
    with ThreadPoolExecutor(1) as executor:
        add_metrics(app, full, executor)
        async with TestClient(TestServer(app)) as client:
            assert (await client.get("/metrics")).status == 401
            answer = await client.get("/metrics", headers=BEARER)
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert "edge_mnv2_power_watts" in names(await answer.text())
            openmetrics = {**BEARER, "Accept": "application/openmetrics-text;version=1.0.0"}
            answer = await client.get("/metrics", headers=openmetrics)
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
