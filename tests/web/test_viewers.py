from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import aiohttp
import numpy as np
import pytest

from edge_mnv2.errors import SinkError
from edge_mnv2.sinks.queued_outlet import QueuedOutlet
from edge_mnv2.web import WebAddress, WebServer
from edge_mnv2.web.server import encode_jpeg
from tests.samples import frame_result
from tests.web.scene import Scene, grey_of, next_event, next_picture, scene
from tests.web.test_routes import get, visit


@pytest.fixture
def made() -> Iterator[Scene]:
    with scene() as running:
        yield running


def _wait(event: threading.Event, timeout_s: float) -> None:
    event.wait(timeout_s)


async def until(is_true: object) -> None:
    assert callable(is_true)
    while not is_true():
        await asyncio.sleep(0.01)


def test_nothing_is_encoded_or_copied_while_nobody_watches(made: Scene) -> None:
    assert not made.is_watched("door")
    for seq in range(50):
        made.write(seq, canvas=np.full((48, 64, 3), seq, np.uint8))
    visit_state = get(made, "/api/state")
    assert visit_state[0] == 200
    assert not made.encoder.canvases

    async def client(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{made.url}/stream.mjpg") as stream:
            assert made.is_watched("door")
            made.write(60)
            assert grey_of(await next_picture(stream)) == 60
        await until(lambda: not made.is_watched("door"))

    visit(client)
    made.write(61, canvas=np.full((48, 64, 3), 61, np.uint8))
    assert len(made.encoder.canvases) == 1


def test_ten_viewers_share_one_encoding(made: Scene) -> None:
    async def client(session: aiohttp.ClientSession) -> None:
        streams = [await session.get(f"{made.url}/stream.mjpg") for _ in range(10)]
        for seq in range(1, 21):
            made.write(seq * 10)
            for stream in streams:
                assert grey_of(await next_picture(stream)) == seq * 10
            assert len(made.encoder.canvases) == seq
        for stream in streams:
            stream.close()

    visit(client)
    assert threading.main_thread().ident not in made.encoder.threads


def test_an_overlay_that_changes_later_does_not_change_the_picture(made: Scene) -> None:
    """The canvas is the loop's: it draws the next frame into it while the last one is encoded."""
    may_encode = threading.Event()
    made.encoder.before = lambda: _wait(may_encode, 30)
    canvas = np.full((48, 64, 3), 50, np.uint8)

    async def client(session: aiohttp.ClientSession) -> int:
        async with session.get(f"{made.url}/stream.mjpg") as stream:
            made.write(50, canvas=canvas)
            canvas[:] = 200
            may_encode.set()
            return grey_of(await next_picture(stream))

    assert visit(client) == 50


def test_while_one_picture_is_encoded_only_the_newest_waits(made: Scene) -> None:
    encoding, may_encode = threading.Event(), threading.Event()

    def hold() -> None:
        encoding.set()
        may_encode.wait(30)

    made.encoder.before = hold

    async def client(session: aiohttp.ClientSession) -> list[int]:
        async with session.get(f"{made.url}/stream.mjpg") as stream:
            made.write(10)
            assert await asyncio.to_thread(encoding.wait, 30)
            for grey in (20, 30, 40):
                made.write(grey)
            may_encode.set()
            return [grey_of(await next_picture(stream)) for _ in range(2)]

    assert visit(client) == [10, 40]


def test_pictures_come_at_a_bounded_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene(fps=0.001) as made:

        async def client(session: aiohttp.ClientSession) -> None:
            async with session.get(f"{made.url}/stream.mjpg") as stream:
                made.write(10)
                made.write(20)
                await next_picture(stream)
                # The next picture is due in a quarter of an hour: the loop need not even draw it.
                assert not made.is_watched("door")
                posted: list[object] = []
                monkeypatch.setattr(made.server._feeds["door"], "_post", posted.append)
                for seq in range(30, 60):  # another sink may want one
                    made.write(seq, canvas=np.full((48, 64, 3), seq, np.uint8))
                assert posted == []

        visit(client)


def test_who_comes_later_never_sees_the_picture_of_before(made: Scene) -> None:
    async def client(session: aiohttp.ClientSession) -> int:
        async with session.get(f"{made.url}/stream.mjpg") as stream:
            made.write(10)
            await next_picture(stream)
        await until(lambda: not made.is_watched("door"))
        asked = asyncio.ensure_future(session.get(f"{made.url}/snapshot.jpg"))
        await until(lambda: made.is_watched("door") or asked.done())
        made.write(20)
        async with await asked as answer:
            return grey_of(await answer.read())

    assert visit(client) == 20


def get_count(made: Scene) -> int:
    return len(made.encoder.canvases)


def test_a_viewer_that_does_not_read_slows_nobody(made: Scene) -> None:
    """One opens the stream and never reads; the other one gets every single picture."""
    noise = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)
    size = len(encode_jpeg(noise))
    pictures = 40_000_000 // size  # far more than the buffers of a connection

    async def client(session: aiohttp.ClientSession) -> None:
        asleep = socket.create_connection(("127.0.0.1", made.server.address.port))
        try:
            asleep.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: made.is_watched("door"))
            async with session.get(f"{made.url}/stream.mjpg") as stream:
                for seq in range(pictures):
                    made.write(seq, canvas=noise)
                    assert len(await next_picture(stream)) == size
                assert get_count(made) == pictures
        finally:
            asleep.close()

    visit(client)


def test_a_viewer_that_takes_nothing_is_hung_up_on(made: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_mnv2.web.stream._STUCK_S", 0.2)
    noise = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)

    async def client(_: aiohttp.ClientSession) -> None:
        asleep = socket.create_connection(("127.0.0.1", made.server.address.port))
        try:
            asleep.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: made.is_watched("door"))
            while made.is_watched("door"):
                made.write(0, canvas=noise)
                await asyncio.sleep(0.001)
        finally:
            asleep.close()

    visit(client)


def test_viewers_have_a_limit() -> None:
    with scene(max_viewers=2) as made:

        async def client(session: aiohttp.ClientSession) -> None:
            for path in ("/stream.mjpg", "/api/detections"):
                streams = [await session.get(made.url + path) for _ in range(2)]
                async with session.get(made.url + path) as answer:
                    assert answer.status == 503
                    assert "2 viewers are the most" in await answer.text()
                streams[0].close()
                while True:  # the place is free again once the server has noticed
                    async with session.get(made.url + path) as answer:
                        if answer.status == 200:
                            break
                streams[1].close()

        visit(client)


def test_it_closes_with_viewers_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_mnv2.web.server._FINISH_S", 600)  # nobody waits for what would never end
    with scene() as made:

        async def client(session: aiohttp.ClientSession) -> None:
            pictures = [await session.get(f"{made.url}/stream.mjpg") for _ in range(3)]
            records = await session.get(f"{made.url}/api/detections")
            await next_event(records)
            asleep = socket.create_connection(("127.0.0.1", made.server.address.port))
            asleep.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            made.write(1)
            await next_picture(pictures[0])
            await asyncio.to_thread(made.server.close)
            for stream in (*pictures, records):
                with pytest.raises((aiohttp.ClientError, asyncio.IncompleteReadError, ConnectionError)):
                    await stream.content.readexactly(1_000_000)
                stream.close()
            asleep.close()

        visit(client)
        made.server.close()  # again, it does nothing
        made.write(2)  # and a loop that is still running does not notice
        address = made.server.address
        WebServer.start(WebAddress(address.host, address.port)).close()


def test_a_picture_under_way_does_not_hold_the_end() -> None:
    may_encode = threading.Event()
    with scene() as made:
        made.encoder.before = lambda: _wait(may_encode, 1)

        async def client(session: aiohttp.ClientSession) -> None:
            async with session.get(f"{made.url}/stream.mjpg"):
                made.write(1)
                await asyncio.to_thread(made.server.close)

        visit(client)


def test_a_server_that_failed_is_told_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene() as made:
        made.server._worker.error = OSError("out of file descriptors")
        with pytest.raises(SinkError, match="The live view has failed: out of file descriptors"):
            made.write(1)
        with pytest.raises(SinkError):
            made.specs["door"].open(1)
        made.server._worker.error = None


def test_a_picture_that_cannot_be_encoded_is_not_the_end(made: Scene) -> None:
    failed = threading.Event()

    def fail_once() -> None:
        if not failed.is_set():
            failed.set()
            raise SinkError("too large for JPEG")

    made.encoder.before = fail_once

    async def client(session: aiohttp.ClientSession) -> int:
        async with session.get(f"{made.url}/stream.mjpg") as stream:
            made.write(10)
            assert await asyncio.to_thread(failed.wait, 30)
            made.write(20)
            return grey_of(await next_picture(stream))

    assert visit(client) == 20
    with pytest.raises(SinkError):
        encode_jpeg(np.zeros((1, 70_000, 3), np.uint8))


def test_it_works_behind_the_loops_own_outlet(made: Scene) -> None:
    outlet = QueuedOutlet(made.server.add_camera("yard", made.decoders["door"]))

    async def client(session: aiohttp.ClientSession) -> int:
        async with session.get(f"{made.url}/stream.mjpg?camera=yard") as stream:
            assert outlet.wants_canvas
            outlet.write(frame_result(77))
            return grey_of(await next_picture(stream))

    assert visit(client) == 77
    outlet.close()
    assert not outlet.failures
