"""A window on the desktop, for `--display`: in a process of its own, which may die without harm."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import logging
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import RequestError, SinkError
from edge_mnv2.results import CameraStatus, FrameResult
from edge_mnv2.sinks.window_child import SIZE
from edge_mnv2.threads import Worker

_OPEN_TIMEOUT_S = 20.0
_WRITE_TIMEOUT_MS = 5000
_CLOSE_TIMEOUT_S = 3.0
# What a pipe may hold without a special permission: fewer changes between the two processes.
_PIPE_BYTES = 1024 * 1024
_STDERR_BYTES = 2000

_log = logging.getLogger(__name__)


class WindowSink:
    """Shows every canvas. Keys in the window: q (or its cross) quits, space pauses, s saves, h hides the HUD.

    A pause holds the picture, nothing else. Pictures are saved as they are shown, as PNG, never over another
    file.

    Args:
        source: What the title calls it, without credentials.
        on_quit: Called once, from a thread of the sink, when the window is closed by its user. Results that
            come later are passed over: nobody wants to see them.
        on_hud: Called likewise with whether the status line is to be drawn; it is, at first.
        folder: Where pictures are saved; None for the working directory.
        environment: Where the display is named; None for the process's own.

    Raises:
        RequestError: No window can be opened; the message says what to do.
    """

    def __init__(
        self,
        source: str,
        on_quit: Callable[[], None],
        on_hud: Callable[[bool], None] = lambda _: None,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = dict(os.environ if environment is None else environment)
        _check_display(self._environment)
        self._on_quit = on_quit
        self._on_hud = on_hud
        self._opened = threading.Event()
        self._is_ready = False
        self._has_quit = False
        self._refusal = ""
        self._last_words = b""
        job = {"title": f"edge-mnv2 - {source}", "folder": str((folder or Path()).resolve())}
        self._child = self._start()
        assert self._child.stdin is not None  # noqa: S101 - for the type checker: all three are pipes
        assert self._child.stdout is not None  # noqa: S101
        assert self._child.stderr is not None  # noqa: S101
        self._pipe: IO[bytes] = self._child.stdin
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(self._pipe.fileno(), False)
        stdout, stderr = self._child.stdout, self._child.stderr
        self._readers = (
            Worker(lambda: self._read_events(stdout), "window events"),
            Worker(lambda: self._read_words(stderr), "window errors"),
        )
        try:
            self._send((json.dumps(job) + "\n").encode())
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def write(self, result: FrameResult) -> None:
        """Show the frame's canvas."""
        if result.canvas is None:
            raise SinkError("A result without a canvas cannot be shown.")
        self._show(result.canvas)

    def show(self, status: CameraStatus) -> None:
        """Show the last frame with its banner, where the camera is away."""
        if status.canvas is not None:
            self._show(status.canvas)

    def close(self) -> None:
        """Close the window. Calling it again does nothing."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        try:
            self._child.wait(_CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for reader in self._readers:
            reader.join(_CLOSE_TIMEOUT_S)
        for stream in (self._child.stdout, self._child.stderr):
            if stream is not None:
                stream.close()

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "edge_mnv2.sinks.window_child"],
                cwd=Path(__file__).parents[
                    2
                ],  # where this very package lies, whatever the user's folder holds
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        except OSError as error:
            raise RequestError(f"The window's process cannot be started: {error}.") from error

    def _wait_until_ready(self) -> None:
        """Wait for the window.

        Raises:
            RequestError: It does not come.
        """
        in_time = self._opened.wait(_OPEN_TIMEOUT_S)
        if self._is_ready:
            return
        display = self._environment.get("DISPLAY") or self._environment.get("WAYLAND_DISPLAY", "")
        if self._refusal == "no windows":
            raise RequestError(
                "This OpenCV has no windows (opencv-python-headless has none): "
                f"{sys.executable} -m pip install --force-reinstall opencv-python, or use --web."
            )
        if self._refusal:
            raise RequestError(f"No window can be opened: {self._refusal}.")
        if not in_time:
            raise RequestError(
                f"The display {display} did not open a window within {_OPEN_TIMEOUT_S:.0f} s: use --web."
            )
        self._readers[1].join(_CLOSE_TIMEOUT_S)
        words = self._last_words.decode(errors="replace").strip().partition("\n")[0]
        raise RequestError(
            f"The display {display} cannot be opened{f' ({words})' if words else ''}: is it there, and may "
            f"this user use it (on the desktop: xhost +si:localuser:{_user()})? Otherwise use --web."
        )

    def _show(self, canvas: NDArray[np.uint8]) -> None:
        for reader in self._readers:
            reader.check()
        if self._has_quit:
            return
        height, width = canvas.shape[:2]
        self._send(SIZE.pack(height, width))
        self._send(np.ascontiguousarray(canvas).data.cast("B"))

    def _send(self, data: bytes | memoryview) -> None:
        """Write to the child, which always reads; it is waited for only so long.

        Raises:
            SinkError: The window is gone, or hangs.
        """
        left = memoryview(data)
        poll = select.poll()
        poll.register(self._pipe, select.POLLOUT)
        while left:
            try:
                left = left[os.write(self._pipe.fileno(), left) :]
            except BlockingIOError:
                if not poll.poll(_WRITE_TIMEOUT_MS):
                    raise SinkError("The window hangs.") from None
            except BrokenPipeError:
                # Its last event says whether somebody closed it.
                self._readers[0].join(_CLOSE_TIMEOUT_S)
                if self._has_quit or not self._is_ready:
                    return
                raise SinkError("The window is gone: its display was closed, or went away.") from None

    def _read_events(self, stream: IO[bytes]) -> None:
        """Do what the child tells; runs in its own thread."""
        for line in stream:
            event = json.loads(line)
            match event["event"]:
                case "ready":
                    self._is_ready = True
                    self._opened.set()
                case "failed":
                    self._refusal = event["reason"]
                case "quit":
                    self._has_quit = True
                    self._on_quit()
                case "hud":
                    self._on_hud(event["on"])
                case "saved":
                    _log.info("saved %s", event["path"])
                case "not_saved":
                    _log.error("the picture was not saved: %s", event["reason"])
        self._opened.set()

    def _read_words(self, stream: IO[bytes]) -> None:
        """Keep what toolkits say first, and read on, so that none waits; runs in its own thread."""
        while words := stream.read(4096):
            self._last_words = (self._last_words + words)[:_STDERR_BYTES]


def _check_display(environment: Mapping[str, str]) -> None:
    """Refuse where there is none; whoever names a platform of Qt knows what he does."""
    if not any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")):
        raise RequestError("There is no display: over ssh use --web, or log in on the desktop.")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name
        return str(os.getuid())
