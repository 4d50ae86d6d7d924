"""Answers `edge-mnv2 status`: whoever connects to a socket in the runtime directory gets a JSON document."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_mnv2.errors import RequestError, RunError
from edge_mnv2.threads import Worker

NAME = "status.sock"
# Where systemd's RuntimeDirectory= of the unit lies.
SYSTEM_DIRECTORY = Path("/run/edge-mnv2")

_TIMEOUT_S = 2.0
_MAX_ANSWER_BYTES = 1 << 20
_POLL_S = 0.2

_log = logging.getLogger(__name__)


class StatusServer:
    """Answers until it is closed. Everybody who may enter the directory may ask.

    Args:
        path: Of the socket. What an earlier daemon left there is replaced; one that still answers is not.
        answer: Returns the document, from the server's thread.

    Raises:
        RequestError: Another daemon answers there, or the socket cannot be made.
    """

    def __init__(self, path: Path, answer: Callable[[], Mapping[str, Any]]) -> None:
        self._path = path
        self._answer = answer
        self._stop = threading.Event()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(path)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            self._socket.bind(str(path))
            # Whatever the umask: to connect means to write.
            path.chmod(0o666)
        except OSError as error:
            raise RequestError(
                f"The status socket {path} cannot be made: {error.strerror or error}. "
                "Choose another directory with --runtime-dir."
            ) from error
        self._inode = path.stat().st_ino
        self._socket.listen(8)
        self._socket.settimeout(_POLL_S)
        self._worker = Worker(self._serve, "status socket")

    def close(self) -> None:
        """Stop answering, and remove the socket."""
        self._stop.set()
        self._worker.join(2 * _POLL_S)  # one that answers slowly goes with the process
        self._socket.close()
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:  # not that of a successor
                self._path.unlink()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                _log.warning("the status socket cannot answer: %s", error.strerror)
                self._stop.wait(1.0)
                continue
            with connection, suppress(OSError):  # whoever asked has gone
                connection.settimeout(_TIMEOUT_S)
                connection.sendall(json.dumps(self._answer()).encode("ascii"))


def ask(path: Path) -> dict[str, Any]:
    """Return what the daemon at a socket says.

    Raises:
        RunError: Nobody answers there, or it is no daemon of ours.
    """
    chunks: list[bytes] = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(str(path))
            while (chunk := connection.recv(65536)) and sum(map(len, chunks)) < _MAX_ANSWER_BYTES:
                chunks.append(chunk)
    except PermissionError as error:
        raise RunError(f"The daemon at {path} may not be asked by this user: use sudo.") from error
    except TimeoutError as error:
        raise RunError(f"The daemon at {path} does not answer in {_TIMEOUT_S:g} s.") from error
    except OSError as error:
        raise RunError(
            f"No daemon answers at {path} ({error.strerror or error}). "
            "Is it running? systemctl status edge-mnv2"
        ) from error
    try:
        document = json.loads(b"".join(chunks))
    except ValueError as error:
        raise RunError(f"What answers at {path} is no daemon of edge-mnv2.") from error
    if not isinstance(document, dict):
        raise RunError(f"What answers at {path} is no daemon of edge-mnv2.")
    return document


def runtime_directory(environment: Mapping[str, str]) -> Path:
    """Return where the daemon puts its socket: systemd's directory, the user's, or one in the system's."""
    # Several directories are separated by colons (systemd.exec(5)); the unit names one.
    if given := environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    if (user := environment.get("XDG_RUNTIME_DIR")) and os.access(user, os.W_OK):
        return Path(user) / "edge-mnv2"
    return SYSTEM_DIRECTORY


def find_socket(environment: Mapping[str, str]) -> Path:
    """Return the socket to ask: the system's service if there is one, else this user's."""
    candidates = [SYSTEM_DIRECTORY / NAME, runtime_directory(environment) / NAME]
    return next((path for path in candidates if _is_socket(path)), candidates[-1])


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


def _remove_stale(path: Path) -> None:
    if not _is_socket(path):
        return
    try:
        ask(path)
    except RunError:
        path.unlink(missing_ok=True)
    else:
        raise RequestError(f"Another daemon answers at {path} already: stop it first, or use --runtime-dir.")
