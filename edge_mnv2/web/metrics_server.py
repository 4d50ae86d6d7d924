"""Metrics on a port of their own, for devices without a live view; needs no aiohttp."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from edge_mnv2.errors import RequestError
from edge_mnv2.metrics.exposition import check_prometheus_client, make_registry, registry_text
from edge_mnv2.readings import Snapshot
from edge_mnv2.threads import Worker
from edge_mnv2.web.access import GUESS_DELAY_S, Access, check_token, given_tokens, is_foreign
from edge_mnv2.web.address import WebAddress, bind

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

DEFAULT_METRICS_ADDRESS = WebAddress("127.0.0.1", 9464)
_CLOSE_TIMEOUT_S = 3.0
# A scrape is one short request: whoever takes longer is hung up on, and the oldest where there are too many.
_REQUEST_TIMEOUT_S = 5.0
_MAX_CONNECTIONS = 8

_log = logging.getLogger(__name__)


class MetricsServer:
    """Serves `/metrics` until it is closed; see `start`.

    Attributes:
        address: Where it listens, with its real port.
    """

    def __init__(
        self, sockets: list[socket.socket], address: WebAddress, registry: CollectorRegistry, access: Access
    ) -> None:
        self.address = address
        self._listeners = sockets
        self._registry = registry
        self._access = access
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, Worker] = {}
        self._wake, self._woken = socket.socketpair()
        self._is_closed = False
        self._worker = Worker(self._serve, f"metrics {address}")

    @classmethod
    def start(
        cls,
        address: WebAddress,
        read: Callable[[], Snapshot],
        token: str | None = None,
        names: Collection[str] = (),
    ) -> MetricsServer:
        """Serve from now on.

        Args:
            address: Where to listen. Another one than loopback needs a token: who is in view is private.
            read: Returns the present moment; called for each scrape, by several threads.
            token: Wanted from everybody, as `Authorization: Bearer`.
            names: Further host names that it is reached by.

        Raises:
            RequestError: prometheus-client is missing, the port is in use, the address is not this
                machine's, or it needs a token.
        """
        check_prometheus_client()
        check_token(address, token)
        try:
            sockets, address = bind(address)
        except RequestError as error:
            raise RequestError(str(error).replace("--web ", "--metrics ")) from error
        return cls(sockets, address, make_registry(read), Access(address, token, names))

    def check(self) -> None:
        """Raise what the server failed with, if it failed."""
        self._worker.check()

    def close(self) -> None:
        """Hang up on everybody and end, within seconds. Calling it again does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self._wake.close()
        deadline_s = time.monotonic() + _CLOSE_TIMEOUT_S
        self._worker.join(_CLOSE_TIMEOUT_S)
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            _hang_up(connection)
        workers = [self._worker, *connections.values()]
        ended = [worker.join(max(0.0, deadline_s - time.monotonic())) for worker in workers]
        if not all(ended):
            _log.error("the metrics at %s do not end", self.address)

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            try:
                for listener in self._listeners:
                    selector.register(listener, selectors.EVENT_READ)
                selector.register(self._woken, selectors.EVENT_READ)
                while not self._is_closed:
                    for key, _ in selector.select():
                        if key.fileobj is not self._woken:
                            self._accept(key.fileobj)  # type: ignore[arg-type]
            finally:
                for listener in (*self._listeners, self._woken):
                    listener.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, peer = listener.accept()
        except OSError:  # it is gone again, or there are no descriptors left
            time.sleep(0.05)
            return
        connection.settimeout(_REQUEST_TIMEOUT_S)
        with self._lock:
            if len(self._connections) >= _MAX_CONNECTIONS:
                _hang_up(next(iter(self._connections)))
            self._connections[connection] = Worker(lambda: self._answer(connection, peer), "metrics scrape")

    def _answer(self, connection: socket.socket, peer: Any) -> None:  # noqa: ANN401 - by address family
        try:
            with connection:
                _Handler(connection, peer, self)
        except OSError as error:
            _log.debug("metrics: whoever asked is gone, or too slow: %s", error)
        finally:
            with self._lock:
                self._connections.pop(connection, None)

    def answer_to(self, handler: BaseHTTPRequestHandler) -> tuple[HTTPStatus, bytes, str]:
        """Return status, body and content type of the answer to a request."""
        headers = handler.headers
        fetch = headers.get("Sec-Fetch-Site"), headers.get("Sec-Fetch-Mode")
        if not self._access.is_own_name(headers.get("Host")) or is_foreign(*fetch):
            return _error(HTTPStatus.FORBIDDEN, "This server has another name: use its IP address.")
        if self._access.needs_token:
            tokens = given_tokens({}, headers.get("Authorization"))
            if not tokens:
                return _error(HTTPStatus.UNAUTHORIZED, "A token is needed: Authorization: Bearer TOKEN.")
            if not self._access.is_token(tokens[0]):
                # Answered late, which bounds how fast one can guess.
                time.sleep(GUESS_DELAY_S)
                return _error(HTTPStatus.UNAUTHORIZED, "The token is wrong.")
        if handler.path.partition("?")[0] != "/metrics":
            return _error(HTTPStatus.NOT_FOUND, "The metrics are at /metrics.")
        try:
            body, content_type = registry_text(self._registry, headers.get("Accept", ""))
        except Exception:  # noqa: BLE001 - logged here; the next scrape may be better
            _log.exception("the metrics cannot be read")
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "The metrics cannot be read; the log says more.")
        return HTTPStatus.OK, body, content_type


class _Handler(BaseHTTPRequestHandler):
    """One request and its answer; HTTP/1.0, so that the connection ends with it."""

    server_version = "edge-mnv2"
    sys_version = ""
    timeout = _REQUEST_TIMEOUT_S

    def __init__(self, connection: socket.socket, peer: Any, server: MetricsServer) -> None:  # noqa: ANN401
        self._metrics = server
        super().__init__(connection, peer, None)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer."""
        status, body, content_type = self._metrics.answer_to(self)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the library looks for methods by these names

    def log_message(self, *_: object) -> None:
        """Log nothing: a line per scrape is of no use."""


def _error(status: HTTPStatus, text: str) -> tuple[HTTPStatus, bytes, str]:
    return status, f"{text}\n".encode(), "text/plain; charset=utf-8"


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)
