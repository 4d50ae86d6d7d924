"""A server with cameras whose frames the test gives by hand, and clients that count events, not time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import RequestError
from edge_mnv2.readings import DeviceReading, Reading
from edge_mnv2.results import CameraStatus
from edge_mnv2.sinks.base import Sink, SinkSpec
from edge_mnv2.web import WebAddress, WebOptions, WebServer
from edge_mnv2.web.server import encode_jpeg
from edge_mnv2.zoo.model import DecoderOptions
from tests.samples import LABELS, frame_result

TOKEN = "a-token-that-is-long-enough"  # noqa: S105 - of the tests alone
WAIT_S = 30


class FakeDecoder:
    """Keeps what it is told; it knows persons and bicycles."""

    def __init__(self, task: str = "detect", labels: Mapping[int, str] | None = None) -> None:
        self.task = task
        self.labels: Mapping[int, str] = LABELS if labels is None else labels
        self.options = DecoderOptions()
        self.changes: list[DecoderOptions] = []
        self.changed = threading.Event()

    @property
    def decoder(self) -> DecoderOptions:
        return self.options

    def change_decoder(self, options: DecoderOptions) -> None:
        for name in options.classes or ():
            if name not in self.labels.values():
                raise RequestError(f"The model has no class {name!r}.")
        self.options = options
        self.changes.append(options)
        self.changed.set()


@dataclass
class CountingEncoder:
    """A real encoder that counts its pictures and remembers in which thread it ran."""

    canvases: list[NDArray[np.uint8]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    done: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    before: Callable[[], None] = lambda: None

    def __call__(self, canvas: NDArray[np.uint8]) -> bytes:
        self.before()
        self.canvases.append(canvas)
        self.threads.add(threading.get_ident())
        data = encode_jpeg(canvas)
        self.done.release()
        return data


@dataclass
class Scene:
    """A running server.

    Attributes:
        server: The server.
        encoder: What it encodes with.
        decoders: By camera.
        specs: Of the sinks, by camera.
        sinks: Open, by camera.
    """

    server: WebServer
    encoder: CountingEncoder
    decoders: dict[str, FakeDecoder] = field(default_factory=dict)
    specs: dict[str, SinkSpec] = field(default_factory=dict)
    sinks: dict[str, Sink] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.address.port}"

    def add(self, name: str, decoder: FakeDecoder | None = None, **more: Any) -> None:  # noqa: ANN401
        self.decoders[name] = decoder or FakeDecoder()
        self.specs[name] = self.server.add_camera(name, self.decoders[name], **more)
        self.sinks[name] = self.specs[name].open(0)

    def is_watched(self, name: str) -> bool:
        is_watched = self.specs[name].is_watched
        assert is_watched is not None
        return is_watched()

    def write(self, seq: int, name: str = "door", **changes: Any) -> None:  # noqa: ANN401
        """Give a frame whose canvas is grey by its number; it has one only if watched, as in the loop."""
        grey = np.full((48, 64, 3), seq % 256, np.uint8)
        changes.setdefault("canvas", grey if self.is_watched(name) else None)
        self.sinks[name].write(frame_result(seq, **changes))

    def show(self, status: CameraStatus, name: str = "door") -> None:
        sink = self.sinks[name]
        sink.show(status)  # type: ignore[attr-defined]


def reading() -> DeviceReading:
    return DeviceReading(Reading(48.3, "measured", "cpu-thermal"), Reading())


@contextmanager
def scene(host: str = "127.0.0.1", **changes: Any) -> Iterator[Scene]:  # noqa: ANN401
    """Serve one camera called `door` at a port of the system's choice; nothing of it is left afterwards."""
    threads = set(threading.enumerate())
    encoder = CountingEncoder()
    options = WebOptions(**{"encode": encoder, "fps": 1e6, "read_device": reading, **changes})
    server = WebServer.start(WebAddress(host, 0), options)
    try:
        made = Scene(server, encoder)
        made.add("door")
        yield made
    finally:
        server.close()
    left = [thread for thread in set(threading.enumerate()) - threads if thread.is_alive()]
    assert not left, left


def grey_of(jpeg: bytes) -> int:
    """Return the brightness of a picture, which says what frame it is of."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return round(float(image.mean()))


async def next_picture(stream: aiohttp.ClientResponse) -> bytes:
    """Return the next part of a multipart answer."""
    head = await stream.content.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    return await stream.content.readexactly(int(length.split(b":")[1]))


async def next_event(stream: aiohttp.ClientResponse) -> tuple[str, str]:
    """Return type and data of the next server-sent event."""
    while True:
        lines = (await stream.content.readuntil(b"\n\n")).decode().strip().split("\n")
        fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
        if "data" in fields:
            return fields.get("event", "message"), fields["data"]
