"""The page in a real browser while the program behind it is away: killed, stopped, not ready."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from edge_mnv2.results import CameraStatus
from edge_mnv2.web import WebOptions, WebServer
from tests.samples import camera_status
from tests.web.chromium import Tab, find_chromium
from tests.web.scene import WAIT_S, Scene, reading, scene
from tests.web.test_browser import IS_LIVE, browse, playing, shown, text
from tests.web.test_run import free_port

IS_AWAY = f"{text('banner')}.includes('Connection lost')"
IS_BACK = "document.getElementById('banner').hidden"


@pytest.fixture(autouse=True)
def browser_is_there() -> None:
    find_chromium()


@dataclass
class Program:
    """`edge-mnv2 run` in a process of its own, on one port."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until a camera is live."""
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "edge_mnv2", "run", "--source", "test://?fps=20"),
                *("--engine", "onnxruntime", "--web", f"127.0.0.1:{self.port}"),
            ],
            env={**os.environ, "XDG_CACHE_HOME": str(self.folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end_s = asyncio.get_running_loop().time() + WAIT_S
        while not await self.is_well():
            assert self.process.poll() is None, "the program ended"
            assert asyncio.get_running_loop().time() < end_s, "the program does not become well"
            await asyncio.sleep(0.05)

    async def is_well(self) -> bool:
        with suppress(aiohttp.ClientConnectionError):
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/healthz") as answer:
                return answer.status == 200
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path)
    yield program
    program.kill()


async def moves(tab: Tab) -> bool:
    """Return whether the picture is another one within some seconds."""
    first = (await shown(tab)).astype(int)
    for _ in range(50):
        await asyncio.sleep(0.1)
        now = await shown(tab)
        if now.shape != first.shape or np.abs(now - first).max() > 60:
            return True
    return False


async def until_it_moves(tab: Tab) -> None:
    await tab.wait_for(IS_LIVE)
    for _ in range(4):
        if await moves(tab):
            return
    pytest.fail("the picture stands still")


def forget_lost_connections(tab: Tab) -> None:
    """The browser itself notes every request that fails; nothing else may be noted."""
    tab.problems[:] = [
        problem
        for problem in tab.problems
        if not any(word in problem for word in ("net::ERR_", "status of 503"))
    ]


def test_a_program_that_was_killed_is_found_again_without_a_reload(program: Program) -> None:
    async def scenario(tab: Tab) -> None:
        await program.start()
        await tab.open(program.url)
        await until_it_moves(tab)
        await tab.evaluate("window.isTheSamePage = true")
        program.kill()
        await tab.wait_for(IS_AWAY)
        assert not await tab.evaluate(IS_LIVE), "an old picture is shown as if it was live"
        assert await tab.evaluate(text("placeholder")) == "No connection"
        await program.start()
        await tab.wait_for(IS_BACK)
        await until_it_moves(tab)
        await tab.wait_for(f"{text('found')}.length > 0 || !document.getElementById('nothing').hidden")
        assert await tab.evaluate("window.isTheSamePage")
        forget_lost_connections(tab)

    browse(scenario)


def test_a_program_that_hangs_is_noticed_and_found_again(program: Program) -> None:
    async def scenario(tab: Tab) -> None:
        await program.start()
        await tab.open(program.url)
        await until_it_moves(tab)
        program.send(signal.SIGSTOP)
        try:
            await tab.wait_for(IS_AWAY)
            assert not await tab.evaluate(IS_LIVE)
            # A change is not waited for without an end, either.
            await tab.evaluate("document.getElementById('threshold').value = 0.3")
            await tab.evaluate("document.getElementById('threshold').dispatchEvent(new Event('input'))")
            await tab.wait_for(f"{text('problem')}.includes('Connection lost')")
        finally:
            program.send(signal.SIGCONT)
        await tab.wait_for(IS_BACK)
        await until_it_moves(tab)
        forget_lost_connections(tab)

    browse(scenario)


def test_a_start_between_two_questions_is_noticed() -> None:
    """The new server is there before the page asks again: all that differs is its run."""

    async def scenario(tab: Tab) -> None:
        with scene() as made, ExitStack() as stack:
            stack.enter_context(playing(made))
            await tab.open(made.url)
            await tab.wait_for(IS_LIVE)
            await tab.evaluate(
                "new MutationObserver(([{target}]) => { window.wasAway ||= !target.hidden; })"
                ".observe(document.getElementById('banner'), {attributes: true})"
            )
            for _ in range(5):
                await tab.evaluate("window.wasAway = false")
                before = await tab.evaluate(text("facts"))
                await tab.wait_for(f"{text('facts')} !== {json.dumps(before)}")  # it has asked just now
                restart(made, stack)
                await asyncio.wait_for(until_watched(made), WAIT_S)
                if not await tab.evaluate("window.wasAway"):
                    break
            else:
                pytest.fail("every start was noticed as an absence")
            await until_it_moves(tab)
        forget_lost_connections(tab)

    browse(scenario)


async def until_watched(made: Scene) -> None:
    while not made.is_watched("door"):
        await asyncio.sleep(0.01)


def restart(made: Scene, stack: ExitStack) -> None:
    """Put another server in the place of this one, at the same port and with the same camera."""
    address = made.server.address
    made.server.close()
    made.server = WebServer.start(address, WebOptions(encode=made.encoder, fps=1e6, read_device=reading))
    stack.callback(made.server.close)
    made.add("door")


def test_a_page_that_is_opened_too_early_fills_itself() -> None:
    async def scenario(tab: Tab) -> None:
        with scene() as made:
            feeds = made.server._feeds
            made.server._feeds = {}  # the cameras come later: streams and records are answered with 503
            await tab.open(made.url)
            await tab.wait_for(f"{text('banner')} === 'There is no camera yet.'")
            while not any("status of 503" in problem for problem in tab.problems):
                await asyncio.sleep(0.05)
            made.server._feeds = feeds
            with playing(made):
                await tab.wait_for(IS_LIVE)
                await tab.wait_for(IS_BACK)
                # It is the stream of events that brings these.
                await tab.wait_for(f"{text('found')}.includes('person')")
        forget_lost_connections(tab)

    browse(scenario)


def test_a_camera_that_has_ended_is_shown_as_such() -> None:
    async def scenario(tab: Tab) -> None:
        with scene() as made:
            made.add("yard")
            with playing(made):
                await tab.open(made.url)
                await tab.wait_for(IS_LIVE)
            made.server.end_camera("door", "It ended after 60 frames.", is_lost=False)
            await tab.wait_for(f"{text('state')} === 'ended'")
            await tab.wait_for(f"{text('reason')} === 'It ended after 60 frames.'")
            assert await tab.evaluate(text("placeholder")) == "This camera has ended"
            assert "no picture since" in await tab.evaluate(text("since"))
            assert await tab.evaluate("document.title") == "ended: edge-mnv2"
            assert not await tab.evaluate("document.getElementById('snapshot').hasAttribute('href')")
            # The other one is told, too.
            await tab.wait_for("document.getElementById('camera').options[1].text === 'yard (opening)'")
            await tab.wait_for(f"{text('others')} === '2 of 2 not live'")
        forget_lost_connections(tab)

    browse(scenario)


@pytest.mark.parametrize(
    ("status", "says", "since"),
    [
        (camera_status("opening", lost_since=None, attempt=0), "The camera is opening", "no picture yet"),
        (
            camera_status("reconnecting", lost_since=None, attempt=7),
            "The camera is reconnecting",
            "no picture yet, attempt 7",
        ),
    ],
)
def test_a_camera_without_a_picture_says_why_in_its_place(
    status: CameraStatus, says: str, since: str
) -> None:
    async def scenario(tab: Tab) -> None:
        with scene() as made:
            made.show(status)
            await tab.open(made.url, (390, 844))
            await tab.wait_for(f"{text('placeholder')} === {says!r}")
            box = "document.getElementById('placeholder').getBoundingClientRect()"
            assert await tab.evaluate(f"{box}.height > 10"), "it cannot be seen"
            assert await tab.evaluate(text("since")) == since
            assert not await tab.evaluate("document.getElementById('snapshot').hasAttribute('href')")

    browse(scenario)
