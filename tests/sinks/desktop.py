"""A desktop without a screen: Xvfb, its pixels, its keys."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

_WIDTH, _HEIGHT = 1400, 800

# What the cross of a window does: a message to its program. No tool of Debian's xdotool sends it.
_CLOSE = """
import ctypes, sys
class Message(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("serial", ctypes.c_ulong), ("send_event", ctypes.c_int),
                ("display", ctypes.c_void_p), ("window", ctypes.c_ulong), ("message_type", ctypes.c_ulong),
                ("format", ctypes.c_int), ("data", ctypes.c_long * 5), ("rest", ctypes.c_long * 24)]
x = ctypes.CDLL("libX11.so.6")
x.XOpenDisplay.restype = ctypes.c_void_p
x.XInternAtom.restype = ctypes.c_ulong
display = ctypes.c_void_p(x.XOpenDisplay(None))
atom = lambda name: x.XInternAtom(display, name, 0)
window = int(sys.argv[1])
message = Message(type=33, window=window, message_type=atom(b"WM_PROTOCOLS"), format=32)
message.data[0] = atom(b"WM_DELETE_WINDOW")
x.XSendEvent(display, ctypes.c_ulong(window), 0, ctypes.c_long(0), ctypes.byref(message))
x.XSync(display, 0)
x.XCloseDisplay(display)
"""


def wait_for(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait until something is true; that it never is is a failure."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Desktop:
    """A display of its own.

    Attributes:
        environment: For programs that open windows there.
    """

    environment: dict[str, str]
    server: subprocess.Popen[bytes]
    screen: Path

    def pixels(self) -> NDArray[np.uint8]:
        """Return what is on the screen, BGR: Xvfb keeps it as an X window dump (XWDFile.h)."""
        dump = self.screen.read_bytes()
        header = np.frombuffer(dump[:100], ">u4")
        start, height, line_bytes = int(header[0] + header[19] * 12), int(header[5]), int(header[12])
        lines = np.frombuffer(dump[start : start + height * line_bytes], np.uint8)
        return lines.reshape(height, -1, 4)[:, : int(header[4]), :3]

    def tool(self, *arguments: object) -> str:
        """Run xdotool; return what it says."""
        return subprocess.run(
            ["xdotool", *map(str, arguments)],  # noqa: S607 - wherever the distribution has it
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        ).stdout.strip()

    def window(self, name: str) -> str:
        """Return the number of the window with this in its title, once it is there."""
        wait_for(lambda: self.tool("search", "--onlyvisible", "--name", name))
        return self.tool("search", "--onlyvisible", "--name", name).splitlines()[-1]

    def wake(self, window: str) -> None:
        """Take a window from the screen and put it back.

        On a busy machine, the Qt inside PyPI's OpenCV now and then hears nothing of its first events: the
        window stays black, whoever opens it. This brings it to life.
        """
        self.tool("windowunmap", "--sync", window)
        self.tool("windowmap", "--sync", window)

    def title(self, window: str) -> str:
        """Return a window's title."""
        return self.tool("getwindowname", window)

    def press(self, window: str, key: str) -> None:
        """Press a key in a window."""
        self.tool("windowfocus", "--sync", window)
        self.tool("key", key)

    def close(self, window: str) -> None:
        """Do what the cross of a window does."""
        subprocess.run([sys.executable, "-c", _CLOSE, window], env=self.environment, check=True, timeout=30)


@contextmanager
def desktop() -> Iterator[Desktop]:
    """Run an X server without a screen; skip where there is none."""
    missing = [tool for tool in ("Xvfb", "xdotool") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}: apt-get install --no-install-recommends xvfb xdotool")
    read_end, write_end = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        # Without -noreset it starts anew whenever its last window closes, and what it then shows may be lost.
        options = ["-screen", "0", f"{_WIDTH}x{_HEIGHT}x24", "-fbdir", folder, "-nolisten", "tcp", "-noreset"]
        server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write_end), *options],  # noqa: S607 - wherever the distribution has it
            pass_fds=[write_end],
            stderr=subprocess.DEVNULL,
        )
        os.close(write_end)
        try:
            with os.fdopen(read_end) as pipe:
                number = pipe.readline().strip()
            assert number, "Xvfb did not start"
            environment = {key: value for key, value in os.environ.items() if key != "WAYLAND_DISPLAY"}
            yield Desktop({**environment, "DISPLAY": f":{number}"}, server, Path(folder) / "Xvfb_screen0")
        finally:
            server.terminate()
            server.wait(30)
