"""The live view of a real run: what it says of cameras that are refused, that end, and that fail."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from camera import CameraError, Frame
from camera.synthetic import SyntheticCamera
from edge_mnv2.config import read_config
from edge_mnv2.live_run import run_settings
from tests.web.scene import WAIT_S

Answer = tuple[int, dict[str, Any]]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(settings: dict[str, Any]) -> Iterator[str]:
    """Run with a live view in a thread; give its URL, and end it."""
    stop, failures = threading.Event(), []
    address = f"127.0.0.1:{free_port()}"
    config = read_config(None, {"engine": "onnxruntime", "web": address, **settings})

    def target() -> None:
        try:
            run_settings(config, [], stop)
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield f"http://{address}"
    finally:
        stop.set()
        thread.join(WAIT_S)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


async def ask(session: aiohttp.ClientSession, url: str) -> Answer:
    async with session.get(url) as answer:
        return answer.status, await answer.json()


async def until_state(session: aiohttp.ClientSession, url: str, wanted: dict[str, str]) -> dict[str, Any]:
    """Return what is said of each camera once all are in the state that is wanted."""
    found: dict[str, Any] = {}
    end_s = asyncio.get_running_loop().time() + WAIT_S
    while asyncio.get_running_loop().time() < end_s:
        try:
            _, state = await ask(session, f"{url}/api/state?labels=no")
        except aiohttp.ClientConnectionError:  # it is only starting
            await asyncio.sleep(0.02)
            continue
        found = {camera["name"]: camera for camera in state["cameras"]}
        if {name: camera["state"] for name, camera in found.items()} == wanted:
            assert dict(zip(state["names"], state["states"], strict=True)) == wanted
            return found
        await asyncio.sleep(0.02)
    pytest.fail(f"never {wanted}, but {found}")


def test_a_camera_that_has_ended_is_not_live_any_more(tmp_path: Path) -> None:
    cameras = {
        "live": {"source": "test://?fps=20"},
        "short": {"source": "test://?fps=20&frames=5"},
        "refused": {"source": "/dev/video987", "retry_first": False},
        # Its output cannot be opened: the loop of this one camera fails.
        "blocked": {"source": "test://?fps=20", "video": tmp_path / "file" / "out.mp4"},
    }
    (tmp_path / "file").write_text("no folder")
    wanted = {"live": "live", "short": "ended", "refused": "lost", "blocked": "lost"}

    async def look(url: str) -> None:
        async with aiohttp.ClientSession() as session:
            found = await until_state(session, url, wanted)
            assert "/dev/video987" in found["refused"]["reason"]
            assert found["refused"]["lost_since"] is None
            assert str(tmp_path / "file") in found["blocked"]["reason"]
            frames = found["short"]["frames"]  # a newer one may have come before the loop took one
            assert 1 <= frames <= 5
            assert found["short"]["reason"] == f"It ended after {frames} frames."
            assert found["short"]["lost_since"] <= found["short"]["since"]
            assert {name: camera["ended"] for name, camera in found.items()} == {
                name: state != "live" for name, state in wanted.items()
            }
            # A watchdog hears of any camera that is not live.
            assert await ask(session, f"{url}/healthz") == (503, {"ok": False, "cameras": wanted})
            assert (await ask(session, f"{url}/healthz?camera=live"))[0] == 200
            for name in ("short", "refused", "blocked"):
                assert (await ask(session, f"{url}/healthz?camera={name}"))[0] == 503
                for path in ("stream.mjpg", "snapshot.jpg"):
                    async with session.get(f"{url}/{path}?camera={name}") as answer:
                        assert answer.status == 503
                        assert f"{name} is {wanted[name]}" in await answer.text()

    with running({"cameras": cameras}) as url:
        asyncio.run(look(url))


def test_who_watches_when_a_camera_ends_is_told() -> None:
    """The stream ends instead of standing still, and listeners get the state."""
    cameras = {"live": {"source": "test://?fps=20"}, "short": {"source": "test://?fps=20&frames=60"}}

    async def look(url: str) -> None:
        async with aiohttp.ClientSession() as session:
            await until_state(session, url, {"live": "live", "short": "live"})
            async with (
                session.get(f"{url}/stream.mjpg?camera=short") as stream,
                session.get(f"{url}/api/detections?camera=short") as events,
            ):
                assert len(await stream.content.read()) > 1000
                while b'"state": "ended"' not in (told := await events.content.readuntil(b"\n\n")):
                    pass
            assert json.loads(told.partition(b"data: ")[2])["ended"] is True

    with running({"cameras": cameras}) as url:
        asyncio.run(look(url))


def test_a_camera_that_is_given_up_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: SyntheticCamera) -> Frame:
        if self._options.width == 320 and self._seq == 5:
            raise CameraError("http://me:secret@cam did not come back in 3 attempts; it is given up.")
        return read_by_itself(self)

    read_by_itself = SyntheticCamera.read
    monkeypatch.setattr(SyntheticCamera, "read", read)
    cameras = {"live": {"source": "test://?fps=20"}, "dead": {"source": "test://?fps=20&size=320x240"}}

    async def look(url: str) -> None:
        async with aiohttp.ClientSession() as session:
            found = await until_state(session, url, {"live": "live", "dead": "lost"})
            assert found["dead"]["ended"]
            assert "did not come back in 3 attempts" in found["dead"]["reason"]
            assert "secret" not in json.dumps(found)
            assert found["dead"]["lost_since"] is not None

    with running({"cameras": cameras}) as url:
        asyncio.run(look(url))
