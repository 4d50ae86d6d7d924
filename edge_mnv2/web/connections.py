"""Who is connected: how many at most, and for how long without asking for anything.

The HTTP library by itself waits for ever for a first request, and takes as many connections as there are.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Middleware

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# So long a new connection may take to say what it wants, headers and all.
_FIRST_REQUEST_S = 10.0
# So long it may stay for the next request, and for taking an answer.
_IDLE_S = 30.0
_SWEEP_S = 1.0
# A pause where the system has no descriptors left: it would report the same connection all the time.
_NO_ROOM_PAUSE_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Visit:
    """One connection.

    Attributes:
        since_s: When it came, or had its last answer.
        transport: None until it is set up.
        requests: How many are being answered now.
        has_asked: Whether there was a request.
    """

    since_s: float
    transport: asyncio.BaseTransport | None = None
    requests: int = 0
    has_asked: bool = False

    def is_over(self, now_s: float) -> bool:
        """Return whether it has been idle for too long."""
        if self.transport is None or self.requests:
            return False
        return now_s - self.since_s > (_IDLE_S if self.has_asked else _FIRST_REQUEST_S)


class Connections:
    """Takes connections and closes idle ones. It lives in the server's thread.

    Where there are too many, the one that has been idle for longest makes room: whoever only holds
    connections keeps nobody out.

    Args:
        most: So many at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._visits: dict[asyncio.BaseProtocol, _Visit] = {}
        self._arriving: set[asyncio.Task[None]] = set()
        self._listeners: Sequence[socket.socket] = ()
        self._server: web.Server | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._is_out_of_room = False

    def start(self, server: web.Server, listeners: Sequence[socket.socket]) -> None:
        """Take connections from now on; the server makes what speaks HTTP with each."""
        self._server, self._listeners = server, listeners
        for listener in listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self._later(_SWEEP_S, self._sweep)

    async def stop(self) -> None:
        """Take no more; those that are there are the server's to end."""
        for timer in self._timers:
            timer.cancel()
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
        await asyncio.gather(*self._arriving, return_exceptions=True)

    def middleware(self) -> Middleware:
        """Return what notes on which connections requests are being answered."""
        from aiohttp import web

        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            visit = self._visits.get(request.protocol)
            if visit is None:  # it was hung up on just now
                return await handler(request)
            visit.has_asked = True
            visit.requests += 1
            try:
                return await handler(request)
            finally:
                visit.requests -= 1
                visit.since_s = time.monotonic()

        return note

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            self._wait_for_room(listener, error)
            return
        connection.setblocking(False)
        if len(self._visits) >= self._most and not self._make_room():
            connection.close()
            return
        task = asyncio.get_running_loop().create_task(self._welcome(connection))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _welcome(self, connection: socket.socket) -> None:
        assert self._server is not None  # noqa: S101 - `start` has set it
        protocol, visit = self._server(), _Visit(time.monotonic())
        self._visits[protocol] = visit
        loop = asyncio.get_running_loop()
        try:
            visit.transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
        except OSError:  # it has left already
            connection.close()
            del self._visits[protocol]

    def _make_room(self) -> bool:
        """Hang up on the connection that has been idle for longest; return whether there is one."""
        self._forget_gone()
        idle = [
            visit for visit in self._visits.values() if visit.transport is not None and not visit.requests
        ]
        if idle:
            self._hang_up(min(idle, key=lambda visit: visit.since_s))
        return len(self._visits) < self._most

    def _sweep(self) -> None:
        self._forget_gone()
        now_s = time.monotonic()
        for visit in [visit for visit in self._visits.values() if visit.is_over(now_s)]:
            self._hang_up(visit)
        self._later(_SWEEP_S, self._sweep)

    def _hang_up(self, visit: _Visit) -> None:
        # At once: a close would wait for a peer that does not take what is left for it.
        if isinstance(visit.transport, asyncio.WriteTransport):
            visit.transport.abort()
        self._visits = {protocol: other for protocol, other in self._visits.items() if other is not visit}

    def _forget_gone(self) -> None:
        assert self._server is not None  # noqa: S101 - `start` has set it
        there = set(self._server.connections)
        self._visits = {
            protocol: visit
            for protocol, visit in self._visits.items()
            if protocol in there or visit.transport is None
        }

    def _wait_for_room(self, listener: socket.socket, error: OSError) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        self._later(_NO_ROOM_PAUSE_S, lambda: loop.add_reader(listener, self._accept, listener))
        self._make_room()
        if not self._is_out_of_room:  # once is news
            self._is_out_of_room = True
            _log.warning("the live view cannot take another connection for now: %s", error.strerror)

    def _later(self, pause_s: float, action: Callable[[], object]) -> None:
        def act() -> None:
            self._timers.discard(timer)
            action()

        timer = asyncio.get_running_loop().call_later(pause_s, act)
        self._timers.add(timer)
