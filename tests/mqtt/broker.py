"""A real mosquitto on loopback, and a subscriber of its own that tells what arrives."""

from __future__ import annotations

import getpass
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 30
USER, PASSWORD = "camera", "tür-und-tor"


def tool(name: str) -> str:
    """Return the path of a program, or skip."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"needs {name}: apt-get install mosquitto mosquitto-clients openssl")
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Broker:
    """Mosquitto with its files in a folder; it can be stopped and started again on its port.

    Attributes:
        folder: For configuration, data and log.
        lines: Further lines of its configuration.
        port: Where it listens.
        client_options: What mosquitto_sub and mosquitto_pub need to get in.
    """

    folder: Path
    lines: list[str] = field(default_factory=lambda: ["allow_anonymous true"])
    port: int = field(default_factory=free_port)
    client_options: list[str] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _listeners: list[Listener] = field(default_factory=list)

    def start(self) -> None:
        config = self.folder / "mosquitto.conf"
        own = [
            f"listener {self.port} 127.0.0.1",
            f"user {getpass.getuser()}",
            f"log_dest file {self.folder}/log",
        ]
        config.write_text("\n".join([*own, *self.lines]) + "\n")
        self._process = subprocess.Popen([tool("mosquitto"), "-c", str(config)])
        deadline_s = time.monotonic() + WAIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline_s, "mosquitto does not start"
                time.sleep(0.02)
            else:
                return

    def stop(self, *, hard: bool = False) -> None:
        process, self._process = self._process, None
        if process is not None:
            (process.kill if hard else process.terminate)()
            process.wait(WAIT_S)

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self.stop()

    def listen(self, topic: str, *options: str) -> Listener:
        """Subscribe; it is done when this returns."""
        listener = Listener(
            [
                *(tool("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(self.port), "-t", topic, "-q", "1"),
                *("-d", "-F", "MESSAGE %r %t %p", *self.client_options, *options),
            ]
        )
        self._listeners.append(listener)
        return listener

    def publish(self, topic: str, payload: str, *options: str) -> None:
        subprocess.run(
            [
                *(tool("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(self.port), "-t", topic, "-m", payload),
                *("-q", "1", *self.client_options, *options),
            ],
            check=True,
            timeout=WAIT_S,
        )


@dataclass(frozen=True)
class Arrived:
    """A message as the subscriber saw it."""

    topic: str
    payload: str
    was_kept: bool

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever was sent
        return json.loads(self.payload)


class Listener:
    """Keeps what arrives, and waits for what is to come."""

    def __init__(self, command: list[str]) -> None:
        self.messages: list[Arrived] = []
        self._changed = threading.Condition()
        self._is_subscribed = False
        self._lines: list[str] = []
        # Line by line: mosquitto_sub writes whole blocks to a pipe otherwise.
        self._command = [tool("stdbuf"), "-oL", *command]
        self._is_closing = False
        self._process = self._start()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        with self._changed:
            is_subscribed = self._changed.wait_for(lambda: self._is_subscribed, WAIT_S)
        if not is_subscribed:
            self.close()
            raise AssertionError(f"no subscription: {self._lines}")

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_for(self, condition: Callable[[Arrived], bool]) -> Arrived:
        """Return the first message that fits, of those that came and those to come."""

        def find() -> Arrived | None:
            return next((message for message in self.messages if condition(message)), None)

        with self._changed:
            found = self._changed.wait_for(find, WAIT_S)
            assert found, self.messages
            return found

    def topic(self, topic: str) -> Arrived:
        """Return the first message on a topic."""
        return self.wait_for(lambda message: message.topic == topic)

    def forget(self) -> None:
        """Forget what came."""
        with self._changed:
            self.messages.clear()

    def close(self) -> None:
        self._is_closing = True
        self._process.kill()  # mosquitto_sub may miss a SIGTERM and stay
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def _read(self) -> None:
        while True:
            with self._process as process:
                assert process.stdout is not None
                for line in process.stdout:
                    self._take(line)
            # On a busy machine the first attempt may be too slow for the broker, and mosquitto_sub gives up.
            if self._is_subscribed or self._is_closing:
                return
            time.sleep(0.1)
            self._process = self._start()

    def _take(self, line: str) -> None:
        with self._changed:
            if line.startswith("MESSAGE "):
                _, kept, topic, payload = line.rstrip("\n").split(" ", 3)
                self.messages.append(Arrived(topic, payload, kept == "1"))
            else:
                self._lines.append(line)
                self._is_subscribed |= line.startswith("Subscribed")
            self._changed.notify_all()


def make_certificates(folder: Path) -> None:
    """Make `ca.crt`, a `server` for 127.0.0.1 and a `client` that it signed, each `.crt` and `.key`.

    `locked.key` is the client's with a passphrase.
    """

    def openssl(*arguments: str) -> None:
        subprocess.run(
            [tool("openssl"), *arguments], cwd=folder, check=True, capture_output=True, timeout=WAIT_S
        )

    key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=Test CA")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1\n")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", *signed, "-extfile", f"{name}.ext", "-out", f"{name}.crt"
        )
    openssl("rsa", "-aes256", "-in", "client.key", "-passout", "pass:1234", "-out", "locked.key")


def make_password_file(folder: Path) -> Path:
    path = folder / "passwords"
    subprocess.run(
        [tool("mosquitto_passwd"), "-b", "-c", str(path), USER, PASSWORD],
        check=True,
        capture_output=True,
        timeout=WAIT_S,
    )
    return path
