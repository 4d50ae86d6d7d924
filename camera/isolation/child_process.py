"""The camera's process as its parent sees it: started, listened to, ended, and its death put into words."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO

from camera.credentials import without_credentials
from camera.errors import CameraError
from camera.isolation.channel import Channel

# The folder of this very package goes first on the child's module path, and the working directory leaves it:
# a user's own camera.py must not take our place. (`python -P` would do half of that, from Python 3.11 on.)
_PROGRAM = (
    "import sys; sys.path[:] = [sys.argv[1], *filter(None, sys.path)]; "
    "from camera.isolation.child import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
_LAST_WORDS = 3
_MAX_LINE = 300
# What a driver writes without end of line is not kept beyond this.
_MAX_PENDING_BYTES = 1 << 16
# From here on faulthandler lists stacks: good in a log, too much in a message.
_FAULT = "Fatal Python error:"

_log = logging.getLogger(__name__)


class ChildProcess:
    """A running child. It dies with the thread that makes this object (see `child.die_with_parent`).

    That thread alone calls `read_output` and `reap`; `kill` may come from any.

    Args:
        channel: The child's end; it stays the caller's.

    Raises:
        CameraError: It cannot be started.
    """

    def __init__(self, channel: Channel) -> None:
        root = str(Path(__file__).resolve().parents[2])
        arguments = ["-c", _PROGRAM, root, str(channel.fileno()), str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                # Libraries print what they like; our standard output may be somebody's data.
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                pass_fds=[channel.fileno()],
                # Ctrl-C is the parent's to handle. And a group of its own, with whatever the driver starts.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise CameraError(f"The camera's process cannot be started: {error}.") from error
        assert self._process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        self.output: IO[bytes] = self._process.stdout
        os.set_blocking(self.output.fileno(), False)
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._pending = b""
        self._is_faulty = False
        self._killed = False
        # A number is another process's once this one was waited for.
        self._reaping = threading.Lock()
        self._is_reaped = False

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def read_output(self) -> bool:
        """Log what the child and its libraries wrote; return False where they will write no more."""
        try:
            data = os.read(self.output.fileno(), _MAX_PENDING_BYTES)
        except BlockingIOError:  # nothing yet
            return True
        *lines, self._pending = (self._pending + data).split(b"\n")
        if not data:
            lines, self._pending = [self._pending], b""
        for line in lines:
            self._note(line)
        if len(self._pending) > _MAX_PENDING_BYTES:
            self._pending = b""
        return bool(data)

    def kill(self) -> None:
        """End the child and whatever its driver started, at once."""
        with self._reaping:
            if not self._is_reaped:
                self._killed = True
                with suppress(OSError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def has_ended(self) -> bool:
        """Return whether the process is over; it can still be killed without harm."""
        try:
            status = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # who started us ignores SIGCHLD: the kernel took note of the end
            return True
        return status is not None

    def reap(self) -> None:
        """Take note of the end of a process that has ended; what its driver started ends, too."""
        with self._reaping:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._is_reaped = True
        self.read_output()  # a full pipe is one read
        self._note(self._pending)
        self.output.close()

    def death(self, name: str) -> CameraError:
        """Return the error for a child that was reaped and had not said why it ends.

        Args:
            name: Of the camera.
        """
        code = self._process.returncode
        words = " / ".join(self._last_words)
        said = f": {words}" if words else ""
        if code >= 0:
            return CameraError(f"The process of the camera {name} ended with exit code {code}{said}.")
        try:
            label = f"{-code} ({signal.Signals(-code).name})"
        except ValueError:  # a real-time signal
            label = str(-code)
        if code == -signal.SIGKILL and not self._killed:
            label += ", perhaps because memory ran out"
        return CameraError(f"The process of the camera {name} was ended by signal {label}{said}.")

    def _note(self, line: bytes) -> None:
        text = without_credentials(line.decode("utf-8", "replace").strip())[:_MAX_LINE]
        if text:
            _log.debug("process %d of a camera: %s", self._process.pid, text)
            self._is_faulty = self._is_faulty or text.startswith(_FAULT)
            if not self._is_faulty:
                self._last_words.append(text.rstrip("."))
