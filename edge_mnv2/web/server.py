"""The server of the live view: one thread with an event loop of its own, beside the loop of the frames."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import socket
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.controls import LiveDecoder
from edge_mnv2.errors import RequestError, SinkError
from edge_mnv2.readings import CameraFigures, DeviceReading, Snapshot
from edge_mnv2.results import CameraStatus, FrameResult
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.telemetry.device import read_device
from edge_mnv2.threads import Worker
from edge_mnv2.web.access import Access, check_token
from edge_mnv2.web.address import DEFAULT_ADDRESS, WebAddress, bind
from edge_mnv2.web.connections import Connections
from edge_mnv2.web.feed import CameraFeed, Encode
from edge_mnv2.web.metrics_view import add_metrics
from edge_mnv2.web.views import Views

_JPEG_QUALITY = 80
_CLOSE_TIMEOUT_S = 5.0
# Connections that are in the middle of an answer get so long when the server closes.
_FINISH_S = 1.0

# Beside those that stay open: a browser opens up to six, and a page is loaded within moments.
_SHORT_CONNECTIONS = 64

_log = logging.getLogger(__name__)
# What strangers send is no news, and may hold a token; what fails in here is logged by the guard.
_silent = logging.Logger("edge_mnv2.web.silent", logging.CRITICAL + 1)


def check_aiohttp() -> None:
    """Refuse to go on without the library.

    Raises:
        RequestError: It says how to install it.
    """
    if importlib.util.find_spec("aiohttp") is None:
        raise RequestError("The live view needs aiohttp: pip install 'edge-mnv2[web]'")


def encode_jpeg(canvas: NDArray[np.uint8]) -> bytes:
    """Return a picture, (H, W, 3) uint8 BGR, as JPEG.

    Raises:
        SinkError: It cannot be encoded.
    """
    import cv2

    try:
        done, data = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    except cv2.error:  # some versions say so this way
        done = False
    if not done:
        raise SinkError(f"A picture of {canvas.shape[1]}x{canvas.shape[0]} cannot be encoded as JPEG.")
    return data.tobytes()


@dataclass(frozen=True, slots=True)
class WebOptions:
    """How the live view is served.

    Attributes:
        token: Wanted from every viewer; None for none, which only a loopback address allows.
        names: Further host names that it is reached by, such as that of a proxy.
        fps: Most pictures per second and camera.
        max_viewers: Most who watch pictures at once; as many again may listen to records.
        encode: Makes a JPEG of a canvas.
        read_device: Reads the device's sensors.
        read_snapshot: Returns what `/metrics` tells, at once; None for no metrics.
    """

    token: str | None = None
    names: Collection[str] = ()
    fps: float = 15.0
    max_viewers: int = 32
    encode: Encode = encode_jpeg
    read_device: Callable[[], DeviceReading] = read_device
    read_snapshot: Callable[[], Snapshot] | None = None


class WebServer:
    """Serves the live view until it is closed; see `start`.

    Attributes:
        address: Where it listens, with its real port.
    """

    def __init__(self, sockets: list[socket.socket], address: WebAddress, options: WebOptions) -> None:
        self.address = address
        self._sockets = sockets
        self._options = options
        self._feeds: dict[str, CameraFeed] = {}
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._is_closed = False
        # Two threads, so that what a viewer asks for need not wait for a picture.
        self._executor = ThreadPoolExecutor(2, "web work", initializer=_be_modest)
        self._worker = Worker(self._serve, f"web {address}")

    @classmethod
    def start(cls, address: WebAddress = DEFAULT_ADDRESS, options: WebOptions | None = None) -> WebServer:
        """Serve from now on.

        Raises:
            RequestError: aiohttp is missing, the port is in use, the address is not this machine's, or it
                needs a token.
        """
        options = options or WebOptions()
        check_aiohttp()
        check_token(address, options.token)
        sockets, address = bind(address)
        server = cls(sockets, address, options)
        while not server._started.wait(0.05):
            if server._worker.join(0):
                server.close()
                server.check()
        return server

    def add_camera(
        self,
        name: str,
        decoder: LiveDecoder,
        read_figures: Callable[[], CameraFigures] = CameraFigures,
    ) -> SinkSpec:
        """Show one more camera; the first one is what the page opens with.

        Args:
            name: As viewers choose it.
            decoder: What viewers can change.
            read_figures: Asked for what only the loop knows, from the server's thread; it must not block.

        Returns:
            The sink that gets the camera's results and states. It is watched while a viewer is there and
            another picture is due.

        Raises:
            RequestError: Another camera has this name.
        """
        if name in self._feeds:
            raise RequestError(f"Two cameras are called {name!r}: give one of them another name.")
        options = self._options
        feed = CameraFeed(
            name, decoder, read_figures, options.encode, self._executor, self._post, options.fps
        )
        # A new dictionary: the server's thread may be going through the old one.
        self._feeds = {**self._feeds, name: feed}
        return SinkSpec(
            name=f"web {name}",
            open=lambda _: FeedSink(feed, self.check),
            wants_canvas=True,
            is_watched=feed.wants_canvas,
        )

    def remove_camera(self, name: str) -> None:
        """Show a camera no more, and hang up on its viewers; one that is not there is no error."""
        if (feed := self._feeds.get(name)) is not None:
            feed.end("The camera was taken away.", is_lost=False)
            self._feeds = {other: feed for other, feed in self._feeds.items() if other != name}

    def end_camera(self, name: str, reason: str, *, is_lost: bool) -> None:
        """Say that nothing more comes from a camera, and hang up on its viewers.

        Args:
            name: Of the camera.
            reason: Why, as a sentence.
            is_lost: Whether it failed, rather than came to its end.
        """
        self._feeds[name].end(reason, is_lost=is_lost)

    def check(self) -> None:
        """Do nothing while it serves.

        Raises:
            SinkError: It does not, any more.
        """
        if self._worker.error is not None:
            raise SinkError(f"The live view has failed: {self._worker.error}") from self._worker.error

    def close(self) -> None:
        """Hang up on all viewers and end, within seconds. Calling it again does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._closing is not None:
            self._post(self._closing.set)
        if not self._worker.join(_CLOSE_TIMEOUT_S):
            _log.error("the live view at %s does not end", self.address)
        for listener in self._sockets:
            listener.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _post(self, function: Callable[[], None]) -> None:
        """Call a function in the server's thread; not at all once it has ended."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(function)

    def _serve(self) -> None:
        _be_modest()
        try:
            asyncio.run(self._run())
        except BaseException as error:
            _log.error("the live view has failed: %s", error)
            raise
        finally:
            self._executor.shutdown(cancel_futures=True)

    async def _run(self) -> None:
        from aiohttp import web

        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        access = Access(self.address, self._options.token, self._options.names)
        views = Views(
            lambda: self._feeds, access, self._executor, self._options.read_device, self._options.max_viewers
        )
        connections = Connections(2 * self._options.max_viewers + _SHORT_CONNECTIONS)
        app = views.application(connections.middleware())
        if self._options.read_snapshot is not None and importlib.util.find_spec("prometheus_client"):
            add_metrics(app, self._options.read_snapshot, self._executor)
        runner = web.AppRunner(
            app,
            # A line per request would hold tokens.
            access_log=None,
            logger=_silent,
            handler_cancellation=True,
            shutdown_timeout=_FINISH_S,
        )
        await runner.setup()
        try:
            assert runner.server is not None  # noqa: S101 - `setup` has made it
            connections.start(runner.server, self._sockets)
            self._started.set()
            await self._closing.wait()
            views.end_streams()
        finally:
            await connections.stop()
            await runner.cleanup()


class FeedSink:
    """Hands what the loop finds to a camera's feed.

    Args:
        feed: Of the camera.
        check: Raises SinkError where the server is gone.
    """

    def __init__(self, feed: CameraFeed, check: Callable[[], None]) -> None:
        check()
        self._feed = feed
        self._check = check

    def write(self, result: FrameResult) -> None:
        """Take a result."""
        self._check()
        self._feed.write(result)

    def show(self, status: CameraStatus) -> None:
        """Take the camera's state."""
        self._check()
        self._feed.show(status)

    def close(self) -> None:
        """Do nothing: the server closes by itself, and its page stays until then."""


def _be_modest() -> None:
    """Let the loop go first where processors are short (Linux has a niceness for each thread, `sched(7)`)."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
