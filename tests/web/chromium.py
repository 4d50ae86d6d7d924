"""A headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

_START_S, _WAIT_S = 60, 30
_POLL_S = 0.1


def find_chromium() -> str:
    """Return the browser's path, or skip the test loudly."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("needs Chromium: apt-get install chromium")


class Tab:
    """One page.

    Attributes:
        problems: Console errors, exceptions and violations of the security policy, as they come.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self.problems: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        return await asyncio.wait_for(answer, _WAIT_S)

    async def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - whatever JavaScript returns
        """Return the value of a JavaScript expression; promises are waited for."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def wait_for(self, expression: str) -> Any:  # noqa: ANN401
        """Wait until an expression is true; return its value."""
        for _ in range(int(_WAIT_S / _POLL_S)):
            with suppress(AssertionError):  # what it is about may not be there yet
                value = await self.evaluate(expression)
                if value:
                    return value
            await asyncio.sleep(_POLL_S)
        text = await self.evaluate("document.body.innerText")
        raise AssertionError(f"it never came true: {expression}\n{text}\n{self.problems}")

    async def open(self, url: str, size: tuple[int, int] = (1280, 800), scheme: str = "light") -> None:
        """Open a page in a window of this size."""
        width, height = size
        await self.call("Runtime.enable")
        await self.call("Log.enable")
        await self.call("Page.enable")
        await self.show_as(width, height, scheme)
        await self.call("Page.navigate", url=url)

    async def show_as(self, width: int, height: int, scheme: str) -> None:
        """Change the window's size and the colour scheme."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if width < 600 else 1,
            mobile=width < 600,
        )
        await self.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    async def screenshot(self, *, whole: bool = False) -> bytes:
        """Return a PNG of what is seen, or of the whole page."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    async def press(self, key: str, code: int) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    async def click(self, expression: str) -> None:
        """Click with the mouse in the middle of the element that an expression returns."""
        place = await self.wait_for(
            f"(() => {{ const element = {expression}; if (!element) return null;"
            "element.scrollIntoView({block: 'center'}); const box = element.getBoundingClientRect();"
            "return {x: box.x + box.width / 2, y: box.y + box.height / 2}; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    async def close(self) -> None:
        """Stop listening."""
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader
        await self._socket.close()

    async def _read(self) -> None:
        async for message in self._socket:
            found = json.loads(message.data)
            if "id" in found:
                answer = self._answers.pop(found["id"])
                if not answer.done():
                    answer.set_result(found.get("result", {"error": found.get("error")}))
            elif found["method"] == "Runtime.exceptionThrown":
                self.problems.append(json.dumps(found["params"]["exceptionDetails"]))
            elif found["method"] == "Runtime.consoleAPICalled" and found["params"]["type"] in {
                "error",
                "warning",
            }:
                self.problems.append(json.dumps(found["params"]["args"]))
            elif found["method"] == "Log.entryAdded" and found["params"]["entry"]["level"] == "error":
                self.problems.append(json.dumps(found["params"]["entry"]))


@asynccontextmanager
async def chromium() -> AsyncIterator[Tab]:
    """Start a browser with one empty page; end it, and all its processes, at the end."""
    program = find_chromium()
    with tempfile.TemporaryDirectory(prefix="edge-mnv2-chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                *(program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                *("--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={profile}"),
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            port = await _port(Path(profile) / "DevToolsActivePort", process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    pages = [page for page in await answer.json() if page["type"] == "page"]
                socket = await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
                tab = Tab(socket)
                try:
                    yield tab
                finally:
                    await tab.close()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def _port(path: Path, process: subprocess.Popen[bytes]) -> int:
    for _ in range(int(_START_S / _POLL_S)):
        assert process.poll() is None, "Chromium ended"
        with suppress(OSError, IndexError, ValueError):
            return int(path.read_text().splitlines()[0])
        await asyncio.sleep(_POLL_S)
    raise AssertionError("Chromium does not open its port")
