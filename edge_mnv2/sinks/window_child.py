"""The process behind a window: shows the newest picture, follows keys, tells its parent what was asked for.

Started by `sinks.window` as `python -m edge_mnv2.sinks.window_child`. A toolkit aborts or leaves the whole
process when its display goes away, wants one thread for all windows, and writes what it likes to standard
error: all that stays in here.

Standard input: one line of JSON (`title`, `folder`), then pictures: height and width (uint32, little-endian),
then the pixels, BGR. Its end is the end of the window. Standard output: a line of JSON for each event.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import struct
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

SIZE = struct.Struct("<II")

_WINDOW = "edge-mnv2"
# How long a key or the cross of the window may go unnoticed.
_POLL_S = 0.02
# When the parent is gone, and the display hangs.
_EXIT_S = 3.0
# The window at first; it can be made larger.
_MAX_WIDTH, _MAX_HEIGHT = 1280, 720


class Inbox:
    """Reads pictures in a thread of its own, as fast as they come, and keeps the newest."""

    def __init__(self, stream: BinaryIO) -> None:
        self.has_ended = False
        self._stream = stream
        self._newest: NDArray[np.uint8] | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._read, name="pictures", daemon=True).start()

    def take(self, timeout_s: float) -> NDArray[np.uint8] | None:
        """Return the newest picture that was not taken yet, None where none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self.has_ended, timeout_s)
            picture, self._newest = self._newest, None
            return picture

    def _read(self) -> None:
        while (picture := self._next()) is not None:
            with self._changed:
                self._newest = picture
                self._changed.notify_all()
        with self._changed:
            self.has_ended = True
            self._changed.notify_all()
        threading.Event().wait(_EXIT_S)  # the process ends meanwhile, unless its display hangs
        os._exit(1)

    def _next(self) -> NDArray[np.uint8] | None:
        head = self._stream.read(SIZE.size)
        if len(head) < SIZE.size:
            return None
        height, width = SIZE.unpack(head)
        picture = np.empty((height, width, 3), np.uint8)
        view = picture.data.cast("B")
        return picture if self._stream.readinto(view) == len(view) else None  # type: ignore[attr-defined]


class Window:
    """One window and what its keys do.

    Args:
        title: Of the window.
        folder: Where pictures are saved.
    """

    def __init__(self, title: str, folder: Path) -> None:
        import cv2

        self._title = title
        self._folder = folder
        self._is_paused = False
        self._has_hud = True
        self._was_visible = False
        self._waiting: NDArray[np.uint8] | None = None
        self._shown: NDArray[np.uint8] | None = None
        cv2.namedWindow(_WINDOW, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.setWindowTitle(_WINDOW, title)
        cv2.resizeWindow(_WINDOW, 640, 480)
        cv2.imshow(_WINDOW, _placeholder())
        cv2.waitKey(1)

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a picture, or keep it until the window goes on."""
        import cv2

        if self._is_paused:
            self._waiting = picture
            return
        if self._shown is None:
            height, width = picture.shape[:2]
            scale = min(1.0, _MAX_WIDTH / width, _MAX_HEIGHT / height)
            cv2.resizeWindow(_WINDOW, max(1, round(width * scale)), max(1, round(height * scale)))
        self._shown = picture
        cv2.imshow(_WINDOW, picture)

    def follow_keys(self) -> bool:
        """Let the toolkit work, do what was asked for; return whether the window stays."""
        import cv2

        code = cv2.waitKey(1)
        match chr(code & 0xFF).lower() if code >= 0 else "":
            case "q":
                return False
            case " ":
                self._pause()
            case "s":
                self._save()
            case "h":
                self._has_hud = not self._has_hud
                tell("hud", on=self._has_hud)
        try:
            is_visible = cv2.getWindowProperty(_WINDOW, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # some toolkits forget a window that was closed
            is_visible = False
        was_closed = self._was_visible and not is_visible
        self._was_visible |= is_visible
        return not was_closed

    def _pause(self) -> None:
        import cv2

        self._is_paused = not self._is_paused
        cv2.setWindowTitle(_WINDOW, f"{self._title} - paused" if self._is_paused else self._title)
        if not self._is_paused and self._waiting is not None:
            picture, self._waiting = self._waiting, None
            self.show(picture)

    def _save(self) -> None:
        if self._shown is None:
            tell("not_saved", reason="there is no picture yet")
            return
        try:
            tell("saved", path=str(save(self._shown, self._folder)))
        except OSError as error:
            tell("not_saved", reason=f"{self._folder}: {error.strerror}")


def save(picture: NDArray[np.uint8], folder: Path) -> Path:
    """Write a picture as PNG under a name that says when, and that was free; return its path.

    Raises:
        OSError: It cannot be written there; nothing is left behind.
    """
    import cv2

    _, data = cv2.imencode(".png", picture)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"edge-mnv2-{datetime.now():%Y%m%d-%H%M%S}"
    for number in itertools.count(1):
        path = folder / (f"{name}.png" if number == 1 else f"{name}-{number}.png")
        try:
            file = path.open("xb")
        except FileExistsError:
            continue
        try:
            with file:
                file.write(data.tobytes())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path
    raise AssertionError("unreachable: the numbers have no end")


def tell(event: str, **details: object) -> None:
    """Tell the parent, if it is still there."""
    with contextlib.suppress(OSError):
        sys.stdout.write(json.dumps({"event": event, **details}) + "\n")
        sys.stdout.flush()


def main() -> int:
    """Show pictures until the window is closed, or there are no more; return the exit code."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # toolkits abort where they find no display
    job = json.loads(sys.stdin.buffer.readline())
    try:
        import cv2
    except ImportError as error:
        tell("failed", reason=f"OpenCV cannot be imported: {error}")
        return 1
    try:
        window = Window(job["title"], Path(job["folder"]))
    except cv2.error:
        tell("failed", reason="no windows")
        return 1
    tell("ready")
    inbox = Inbox(sys.stdin.buffer)
    while not inbox.has_ended:
        picture = inbox.take(_POLL_S)
        if picture is not None:
            window.show(picture)
        if not window.follow_keys():
            tell("quit")
            return 0
    return 0


def _placeholder() -> NDArray[np.uint8]:
    import cv2

    picture = np.full((480, 640, 3), 32, np.uint8)
    text = "waiting for the first frame"
    cv2.putText(picture, text, (110, 245), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (160, 160, 160), 1, cv2.LINE_AA)
    return picture


if __name__ == "__main__":
    sys.exit(main())
