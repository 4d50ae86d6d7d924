from __future__ import annotations

import errno
import os
import socket

import pytest

from edge_mnv2.errors import RequestError
from edge_mnv2.web import DEFAULT_ADDRESS, WebAddress, WebServer, parse_web_address
from edge_mnv2.web import address as address_module


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("", "127.0.0.1", 8080),
        ("9000", "127.0.0.1", 9000),
        (":9000", "127.0.0.1", 9000),
        ("0.0.0.0", "0.0.0.0", 8080),
        ("0.0.0.0:1", "0.0.0.0", 1),
        ("camera.local:0", "camera.local", 0),
        ("::", "::", 8080),
        ("[::1]:65535", "::1", 65535),
        ("[::1]", "::1", 8080),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int) -> None:
    assert parse_web_address(text) == WebAddress(host, port)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "host:",
            "1.2.3",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[camera]:1",
            "a b",
            "http://x",
            "a:1:2",
            "a..b",
            "x" * 400,
        ),
        *("127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:http", "127.0.0.1:٣"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match=r"An address is HOST:PORT|A port is a number"):
        parse_web_address(text)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        *(("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("LocalHost", True)),
        *(
            ("0.0.0.0", False),
            ("::", False),
            ("192.168.1.9", False),
            ("localhost.example", False),
            ("pi", False),
        ),
    ],
)
def test_loopback_is_what_no_other_machine_reaches(host: str, is_loopback: bool) -> None:
    assert WebAddress(host, 1).is_loopback is is_loopback


def test_a_port_in_use_is_named_with_who_holds_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(RequestError) as caught:
            WebServer.start(WebAddress("127.0.0.1", port))
    assert f"Port {port} is in use by " in str(caught.value)
    assert f"(process {os.getpid()})" in str(caught.value)


def test_who_holds_a_port_may_not_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    def refuse(_: str) -> list[object]:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", refuse)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(RequestError, match=f"Port {port} is in use: choose another one"):
            WebServer.start(WebAddress("127.0.0.1", port))


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(RequestError, match=r"192\.0\.2\.1 is no address of this machine"):
        address_module.bind(WebAddress("192.0.2.1", 0))  # reserved for documentation, RFC 5737


def test_an_unknown_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(RequestError, match="There is no host 'nowhere'"):
        address_module.bind(WebAddress("nowhere", 0))


def test_a_low_port_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(address_module, "_listener", refuse)
    with pytest.raises(RequestError, match="Port 80 needs root: choose one from 1024 on"):
        address_module.bind(WebAddress("127.0.0.1", 80))


def test_localhost_is_reached_on_every_family_by_one_port() -> None:
    sockets, address = address_module.bind(WebAddress("localhost", 0))
    try:
        assert {listener.getsockname()[1] for listener in sockets} == {address.port}
        assert "127.0.0.1" in {listener.getsockname()[0] for listener in sockets}
    finally:
        for listener in sockets:
            listener.close()


def test_all_addresses_are_those_of_ipv4_too() -> None:
    try:
        sockets, _ = address_module.bind(WebAddress("::", 0))
    except RequestError as error:
        pytest.skip(f"needs IPv6: {error}")
    for listener in sockets:
        assert not listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        listener.close()


def test_the_default_is_loopback() -> None:
    assert DEFAULT_ADDRESS.is_loopback
    assert str(DEFAULT_ADDRESS) == "127.0.0.1:8080"
    assert WebAddress("::1", 80).url == "http://[::1]:80/"
