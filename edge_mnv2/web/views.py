"""The routes of the live view."""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edge_mnv2.readings import DeviceReading
from edge_mnv2.web.access import Access
from edge_mnv2.web.decoder_request import camera_of, read_decoder_request
from edge_mnv2.web.feed import CameraFeed
from edge_mnv2.web.guard import add_headers, answer_error, is_trusted, make_guard
from edge_mnv2.web.state import camera_state, decoder_state, device_state, now, readable
from edge_mnv2.web.stream import stream_pictures, stream_records

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Middleware

    Stream = Callable[[web.Request, CameraFeed], Awaitable[web.StreamResponse]]

PAGE_DIR = Path(__file__).parent / "page"
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/charts.js": ("charts.js", "text/javascript"),
    "/classes.js": ("classes.js", "text/javascript"),
    "/found.js": ("found.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_MAX_BODY_BYTES = 64 * 1024
_BODY_WAIT_S = 10.0
# How long a snapshot waits: a camera that stays away shows its last picture once a second.
_SNAPSHOT_WAIT_S = 3.0
# Sensors on a slow bus are not asked more often, however many watch.
_DEVICE_INTERVAL_S = 0.9


@dataclass(slots=True)
class Views:
    """The handlers and what they share; all of it lives in the server's thread.

    Attributes:
        feeds: Returns the cameras by name, the default one first.
        access: Who may see what.
        executor: Where what takes time is done.
        read_device: Reads the device's sensors.
        max_streams: Most connections of each kind that stay open.
        streams: Tasks that serve such connections, by kind.
        run: Another one each time the program starts: what the page has open is of the run before.
    """

    feeds: Callable[[], Mapping[str, CameraFeed]]
    access: Access
    executor: Executor
    read_device: Callable[[], DeviceReading]
    max_streams: int
    streams: dict[str, set[asyncio.Task[object]]] = field(
        default_factory=lambda: {"pictures": set(), "records": set()}
    )
    run: str = field(default_factory=secrets.token_hex)
    _device: DeviceReading | None = None
    _device_at_s: float = 0.0

    def application(self, *middlewares: Middleware) -> web.Application:
        """Return the routes behind the guard, and that behind other middlewares."""
        from aiohttp import web

        locked = (PAGE_DIR / "locked.html").read_bytes()
        guard = make_guard(self.access, locked)
        app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[*middlewares, guard])
        app.on_response_prepare.append(add_headers)
        for path, (name, kind) in _FILES.items():
            app.router.add_get(path, functools.partial(_file, (PAGE_DIR / name).read_bytes(), kind))
        app.router.add_get("/stream.mjpg", self.pictures, allow_head=False)
        app.router.add_get("/api/detections", self.records, allow_head=False)
        app.router.add_get("/api/state", self.state)
        app.router.add_get("/snapshot.jpg", self.snapshot, allow_head=False)
        app.router.add_get("/healthz", self.health)
        app.router.add_post("/api/decoder", self.decoder)
        return app

    def end_streams(self) -> None:
        """End what would go on for ever, and begin no more of it.

        Cancelling alone is not enough: `asyncio.wait_for` may lose it to a write that is done just then
        (Python 3.11 and before).
        """
        for feed in self.feeds().values():
            feed.is_closed = True
        for tasks in self.streams.values():
            for task in tasks:
                task.cancel()

    async def pictures(self, request: web.Request) -> web.StreamResponse:
        """GET /stream.mjpg: the camera with its overlay, as an image that changes."""
        return await self._stream("pictures", request, stream_pictures)

    async def records(self, request: web.Request) -> web.StreamResponse:
        """GET /api/detections: records and states, as server-sent events."""
        return await self._stream("records", request, stream_records)

    async def state(self, request: web.Request) -> web.Response:
        """GET /api/state: all cameras, or that of `?camera=`; `?labels=no` leaves labels out."""
        from aiohttp import web

        feeds = [self._feed(request)] if "camera" in request.query else list(self.feeds().values())
        labels = request.query.get("labels") != "no"
        return web.json_response(
            {
                "schema": 1,
                "run": self.run,
                "time": now(),
                "cameras": [camera_state(feed, labels=labels) for feed in feeds],
                "names": [readable(name) for name in self.feeds()],
                "states": [feed.state for feed in self.feeds().values()],
                "device": device_state(await self._read_device()),
            }
        )

    async def snapshot(self, request: web.Request) -> web.Response:
        """GET /snapshot.jpg: one picture with its overlay."""
        from aiohttp import web

        feed = self._feed(request)
        event = feed.join()
        try:
            if feed.jpeg is None and not feed.has_ended:
                await asyncio.wait_for(event.wait(), _SNAPSHOT_WAIT_S)
            jpeg = feed.jpeg
        except asyncio.TimeoutError:
            jpeg = None
        finally:
            feed.leave(event)
        if jpeg is None:
            return answer_error(request, 503, f"There is no picture: {readable(feed.name)} is {feed.state}.")
        name = f"{_file_name(feed.name)}-{time.strftime('%Y%m%d-%H%M%S')}.jpg"
        headers = {"Content-Disposition": f'inline; filename="{name}"'}
        return web.Response(body=jpeg.data, content_type="image/jpeg", headers=headers)

    async def health(self, request: web.Request) -> web.Response:
        """GET /healthz: 200 while every camera, or that of `?camera=`, is live and gives results."""
        from aiohttp import web

        feeds = [self._feed(request)] if "camera" in request.query else list(self.feeds().values())
        ok = bool(feeds) and all(feed.is_well() for feed in feeds)
        body: dict[str, object] = {"ok": ok}
        if is_trusted(request, self.access):
            body["cameras"] = {readable(feed.name): feed.state for feed in feeds}
        return web.json_response(body, status=200 if ok else 503)

    async def decoder(self, request: web.Request) -> web.Response:
        """POST /api/decoder: what is reported from the next frame on."""
        from aiohttp import web

        try:
            body = await asyncio.wait_for(request.read(), _BODY_WAIT_S)
        except asyncio.TimeoutError:
            return answer_error(request, 408, "The body does not come.")
        feed = self._named(camera_of(body))
        loop = asyncio.get_running_loop()
        async with feed.changing:  # two viewers must not undo each other's changes
            wanted = read_decoder_request(body, feed.decoder.decoder)
            # It may have to compute anchors anew.
            await loop.run_in_executor(self.executor, feed.decoder.change_decoder, wanted)
            return web.json_response({"decoder": decoder_state(feed.decoder.decoder)})

    async def _stream(self, kind: str, request: web.Request, serve: Stream) -> web.StreamResponse:
        feed, tasks = self._feed(request), self.streams[kind]
        if feed.is_closed:
            return answer_error(request, 503, "The live view is closing.")
        if feed.has_ended and kind == "pictures":
            return answer_error(request, 503, f"There is no picture: {readable(feed.name)} is {feed.state}.")
        if len(tasks) >= self.max_streams:
            return answer_error(request, 503, f"{self.max_streams} viewers are the most: close another page.")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler runs in one
        tasks.add(task)
        try:
            return await serve(request, feed)
        finally:
            tasks.discard(task)

    def _feed(self, request: web.Request) -> CameraFeed:
        return self._named(request.query.get("camera"))

    def _named(self, name: str | None) -> CameraFeed:
        from aiohttp import web

        for feed in self.feeds().values():
            if name is None or readable(feed.name) == name:
                return feed
        if not self.feeds():  # they come once the model is loaded: no reason to forget a name
            raise web.HTTPServiceUnavailable(text="There is no camera yet.")
        known = ", ".join(map(readable, self.feeds())) or "none"
        raise web.HTTPNotFound(text=f"There is no camera {(name or '')[:80]!r}. There is: {known}.")

    async def _read_device(self) -> DeviceReading:
        due = time.monotonic() - self._device_at_s >= _DEVICE_INTERVAL_S
        if self._device is None or due:
            self._device_at_s = time.monotonic()
            loop = asyncio.get_running_loop()
            self._device = await loop.run_in_executor(self.executor, self.read_device)
        return self._device


async def _file(body: bytes, kind: str, _: web.Request) -> web.Response:
    from aiohttp import web

    return web.Response(body=body, content_type=kind, charset="utf-8")


def _file_name(name: str) -> str:
    """Return a name that a header and every file system can carry."""
    kept = "".join(character if character.isascii() and character.isalnum() else "-" for character in name)
    return kept.strip("-")[:60] or "camera"
