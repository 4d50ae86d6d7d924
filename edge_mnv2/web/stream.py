"""What goes on until the viewer leaves: pictures as multipart, records as server-sent events.

A viewer is written to at the speed at which it reads; what came meanwhile is skipped. So it slows nobody.
"""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from edge_mnv2.web.feed import CameraFeed, Listener
from edge_mnv2.web.state import state_event

if TYPE_CHECKING:
    from aiohttp import web

_BOUNDARY = "edge-mnv2-frame"
# Unsent bytes that the kernel takes: more would be pictures of yesterday to a slow viewer (`tcp(7)`).
_UNSENT_BYTES = 64 * 1024
# A viewer that takes nothing for so long is gone, whatever its connection says.
_STUCK_S = 20.0
# Proxies and browsers give a silent connection up.
_HEARTBEAT_S = 10.0


async def stream_pictures(request: web.Request, feed: CameraFeed) -> web.StreamResponse:
    """Send the newest picture, again and again, until the viewer leaves."""
    from aiohttp import web

    response = web.StreamResponse(
        headers={"Content-Type": f"multipart/x-mixed-replace; boundary={_BOUNDARY}"},
    )
    event = feed.join()
    number = 0
    try:
        await response.prepare(request)
        _keep_fresh(request)
        # Each part ends with the next one's boundary: browsers show a picture when they see that.
        lead = f"--{_BOUNDARY}\r\n"
        while not feed.is_closed:
            jpeg = feed.jpeg
            if jpeg is None or jpeg.number == number:
                if feed.has_ended:
                    break
                event.clear()
                await event.wait()
                continue
            number = jpeg.number
            head = f"{lead}Content-Type: image/jpeg\r\nContent-Length: {len(jpeg.data)}\r\n\r\n"
            part = b"".join((head.encode(), jpeg.data, f"\r\n--{_BOUNDARY}\r\n".encode()))
            lead = ""
            await asyncio.wait_for(_write(request, response, part), _STUCK_S)
    except (ConnectionError, asyncio.TimeoutError):
        _hang_up(request)
    finally:
        feed.leave(event)
    return response


async def stream_records(request: web.Request, feed: CameraFeed) -> web.StreamResponse:
    """Send each record as a message, and the camera's state as event `state`, until the listener leaves."""
    from aiohttp import web

    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    listener = Listener()
    feed.listeners.add(listener)
    told: dict[str, Any] | None = None
    try:
        await response.prepare(request)
        await response.write(b"retry: 2000\n\n")
        while not feed.is_closed:
            parts = []
            # The state is compared, not queued: it is never lost where records are.
            state = state_event(feed)
            if state != told:
                told = state
                parts.append(f"event: state\ndata: {json.dumps(state)}\n\n".encode())
            while listener.records:
                parts.append(b"data: " + listener.records.popleft() + b"\n\n")
            if parts:
                await asyncio.wait_for(_write(request, response, b"".join(parts)), _STUCK_S)
                continue
            listener.news.clear()
            try:
                await asyncio.wait_for(listener.news.wait(), _HEARTBEAT_S)
            except asyncio.TimeoutError:
                await asyncio.wait_for(_write(request, response, b": nothing new\n\n"), _STUCK_S)
    except (ConnectionError, asyncio.TimeoutError):
        _hang_up(request)
    finally:
        feed.listeners.discard(listener)
    return response


async def _write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Write, and wait until the kernel has taken it: `write` by itself only waits every now and then."""
    await response.write(data)
    await request.writer.drain()


def _keep_fresh(request: web.Request) -> None:
    """Keep buffers on the way small, so that a slow viewer skips pictures rather than seeing old ones."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    with suppress(OSError, AttributeError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    if isinstance(transport, asyncio.WriteTransport):
        transport.set_write_buffer_limits(high=0)


def _hang_up(request: web.Request) -> None:
    """Drop the connection with what it has not taken."""
    if isinstance(request.transport, asyncio.WriteTransport):
        request.transport.abort()
