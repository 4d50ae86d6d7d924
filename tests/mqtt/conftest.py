"""A broker for each test that wants one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mqtt.broker import Broker


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread and no descriptor outlives a test."""
    threads = set(threading.enumerate())
    count = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert not [thread for thread in set(threading.enumerate()) - threads if thread.is_alive()]
    assert len(list(Path("/proc/self/fd").iterdir())) <= count


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that takes everybody, and keeps sessions and messages over a restart."""
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder, ["allow_anonymous true", "persistence true", f"persistence_location {folder}/"])
    broker.start()
    try:
        yield broker
    finally:
        broker.close()
