"""A daemon in a process of its own, and all that it said to the service manager."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from edge_mnv2.daemon.status_socket import NAME, ask

WAIT_S = 60


class Daemon:
    """A daemon, its settings, its log, and what it said.

    Args:
        folder: For all of these.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "settings.yaml"
        self.said: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._heard = threading.Condition()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        self.process: subprocess.Popen[str] | None = None

    def start(self, settings: dict[str, Any], *options: str) -> None:
        self.settings(settings)
        command = [sys.executable, "-m", "edge_mnv2", "daemon", "--config", str(self.config)]
        environment = {"NOTIFY_SOCKET": str(self.folder / "notify"), "WATCHDOG_USEC": "2000000"}
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--runtime-dir", str(self.folder), *options],
                env={**os.environ, **environment},
                stderr=log,
                text=True,
            )

    def settings(self, settings: dict[str, Any]) -> None:
        self.config.write_text(yaml.safe_dump(settings))

    def reload(self, settings: dict[str, Any]) -> None:
        """Give it other settings, and wait until it has followed or refused them."""
        self.settings(settings)
        before = len(self.said)
        self.send(signal.SIGHUP)
        self.hear("RELOADING=1", after=before)
        self.hear("READY=1", after=before)

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def hear(self, what: str, *, after: int = 0) -> str:
        """Wait for a message that has this in it; return it."""

        def found() -> str | None:
            return next((message for message in self.said[after:] if what in message), None)

        with self._heard:
            assert self._heard.wait_for(lambda: found() is not None, WAIT_S), f"no {what}: {self.log()}"
            message = found()
        assert message is not None
        return message

    def wait_until(self, is_true: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + WAIT_S
        while not is_true():
            assert time.monotonic() < end_s, f"{what} never came: {self.log()}"
            time.sleep(0.02)

    def status(self) -> dict[str, Any]:
        return ask(self.folder / NAME)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.send(number)
        assert self.process is not None
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with sender:
            sender.sendto(b"", str(self.folder / "notify"))
        self._listener.join()
        self._socket.close()

    def _listen(self) -> None:
        while message := self._socket.recv(4096).decode():
            with self._heard:
                self.said.append(message)
                self._heard.notify_all()
