"""Tells systemd how the daemon fares: the protocol of `sd_notify(3)`, a datagram of `KEY=value` lines."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

# A status is one line in `systemctl status`.
_MAX_STATUS = 200

_log = logging.getLogger(__name__)


class Notifier:
    """Sends states to the service manager; without one it does nothing.

    Args:
        address: Of the manager's socket: a path, or `@NAME` in the abstract namespace; None for none.
        watchdog_s: The service is killed when it gives no sign of life for so long; None for never.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        self._address = "\0" + address[1:] if address and address[0] == "@" else address or None
        self._has_failed = False
        self._socket: socket.socket | None = None
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            # A manager that does not read must not hold the daemon up.
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Notifier:
        """Return the notifier that systemd's variables say (`sd_notify(3)`, `sd_watchdog_enabled(3)`)."""
        watchdog_s = None
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "")
        if is_ours and microseconds.isdecimal() and int(microseconds) > 0:
            watchdog_s = int(microseconds) / 1e6
        return cls(environment.get("NOTIFY_SOCKET"), watchdog_s)

    def ready(self) -> None:
        """Say that the start, or reading new settings, is over."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that new settings are read; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Give a sign of life to the watchdog."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")

    def extend(self, timeout_s: float) -> None:
        """Ask for so much more time from now, while starting or stopping."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(timeout_s * 1e6)}")

    def status(self, text: str) -> None:
        """Say what `systemctl status` shows: one line."""
        self._send("STATUS=" + " ".join(text.split())[:_MAX_STATUS])

    def close(self) -> None:
        """Say nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is None or self._address is None:
            return
        try:
            self._socket.sendto(text.encode("utf-8", "backslashreplace"), self._address)
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                _log.warning("systemd cannot be told %s: %s", text.partition("=")[0], error.strerror)
            self._has_failed = True
