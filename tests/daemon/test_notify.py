"""What systemd is told, heard at a socket as its own."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_mnv2.daemon.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        yield manager


def heard(manager: socket.socket) -> str:
    return manager.recv(4096).decode()


def test_each_message(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname(), 2.0)
    notifier.ready()
    assert heard(manager) == "READY=1"
    notifier.alive()
    assert heard(manager) == "WATCHDOG=1"
    notifier.reloading()
    assert heard(manager).splitlines()[0] == "RELOADING=1"
    notifier.extend(1.5)
    assert heard(manager) == "EXTEND_TIMEOUT_USEC=1500000"
    notifier.status("one\nline ")
    assert heard(manager) == "STATUS=one line"
    notifier.stopping()
    assert heard(manager) == "STOPPING=1"
    notifier.close()
    notifier.ready()


def test_a_reload_says_when_it_began(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname())
    notifier.reloading()
    notifier.close()
    key, _, value = heard(manager).splitlines()[1].partition("=")
    assert key == "MONOTONIC_USEC"
    assert int(value) > 0


def test_an_abstract_address() -> None:
    name = f"edge-mnv2-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(10)
        notifier = Notifier(f"@{name}")
        notifier.ready()
        assert heard(manager) == "READY=1"
        notifier.close()


def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier.from_environment({})
    assert notifier.watchdog_s is None
    notifier.ready()
    notifier.alive()
    notifier.close()


def test_the_watchdog_is_this_process_s_only() -> None:
    environment = {"WATCHDOG_USEC": "3000000"}
    assert Notifier.from_environment(environment).watchdog_s == 3.0
    assert Notifier.from_environment({**environment, "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 3.0
    assert Notifier.from_environment({**environment, "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier.from_environment({"WATCHDOG_USEC": "soon"}).watchdog_s is None


def test_a_manager_that_is_gone_is_reported_once(
    manager: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(manager.getsockname())
    (tmp_path / "notify").unlink()
    with caplog.at_level(logging.WARNING):
        notifier.ready()
        notifier.status("x")
    assert len(caplog.records) == 1
    notifier.close()


def test_a_manager_that_does_not_read_holds_nobody_up(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname(), 1.0)
    for _ in range(10_000):  # more than its buffer holds
        notifier.alive()
    notifier.close()
