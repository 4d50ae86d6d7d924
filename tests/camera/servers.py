"""Real camera servers for tests: started, killed, frozen, thawed and started again on the same port.

Use `rtsp()` and `mjpeg()` as context managers, or the fixtures `rtsp_server` and `mjpeg_server`, which tests
outside this folder import.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import pytest

_HERE = Path(__file__).parent
_SYSTEM_PYTHON = "/usr/bin/python3"
_START_S = 60
_NEEDS = (
    "sudo apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base "
    "gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
)


@dataclass
class Server:
    """A camera server in a process of its own.

    Attributes:
        command: What is started, without the options below.
        scheme: Of its URIs.
        size: (width, height) of its pictures.
        fps: Their rate.
        user: Who may see them, None for everybody.
        password: The user's.
        more: Further options.
        port: 0 until it was started; the same one ever after.
    """

    command: tuple[str, ...]
    scheme: str
    size: tuple[int, int] = (640, 480)
    fps: int = 30
    user: str | None = None
    password: str | None = None
    more: tuple[str, ...] = ()
    port: int = 0
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def start(self) -> Server:
        """Start it and wait until it listens. It ends with the thread that started it."""
        assert self._process is None, "it runs"
        options = [
            "--port",
            str(self.port),
            "--size",
            f"{self.size[0]}x{self.size[1]}",
            "--fps",
            str(self.fps),
        ]
        if self.user is not None:
            options += ["--user", self.user, "--password", self.password or ""]
        self._process = subprocess.Popen(
            [*self.command, *options, *self.more], stdout=subprocess.PIPE, text=True, cwd=_HERE
        )
        assert self._process.stdout is not None
        watch = threading.Timer(_START_S, self._process.kill)
        watch.start()
        line = self._process.stdout.readline().split()
        watch.cancel()
        watch.join()
        if line[:1] != ["ready"]:
            self.kill()
            pytest.fail(f"{self.command[-1]} did not start.")
        self.port = int(line[1])
        return self

    def url(self, path: str = "/cam", user: str | None = None, password: str | None = None) -> str:
        """Return the URI of a stream, with the server's own user and password, or with others."""
        user, password = user or self.user, password or self.password
        who = "" if user is None else f"{quote(user, safe='')}:{quote(password or '', safe='')}@"
        return f"{self.scheme}://{who}127.0.0.1:{self.port}{path}"

    def kill(self) -> None:
        """End it at once, as a power cut would. Again, it does nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def freeze(self) -> None:
        """Stop it: connections stay, nothing is sent."""
        self._signal(signal.SIGSTOP)
        # SIGSTOP is delivered in the background: wait until the kernel shows it.
        assert self._process is not None
        os.waitpid(self._process.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def restart(self, size: tuple[int, int] | None = None) -> None:
        """End it, and start it on the same port, with pictures of another size if one is given."""
        self.kill()
        self.size = size or self.size
        self.start()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)


@functools.cache
def _missing_for_rtsp() -> str | None:
    """Return why there can be no RTSP server, None where there can."""
    if not Path(_SYSTEM_PYTHON).exists():
        return f"there is no {_SYSTEM_PYTHON}"
    code = (
        "import gi; gi.require_version('GstRtspServer', '1.0')\n"
        "from gi.repository import Gst, GstRtspServer; Gst.init(None)\n"
        "print([n for n in ('videotestsrc', 'rtph264pay', 'x264enc') if not Gst.ElementFactory.find(n)])"
    )
    done = subprocess.run(
        [_SYSTEM_PYTHON, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        return (done.stderr.splitlines() or ["?"])[-1]
    missing = done.stdout.strip().replace("'x264enc'", "")
    return None if missing in ("[]", "[, ]") else f"plug-ins are missing: {missing}"


def rtsp(**options: object) -> Server:
    """Return an RTSP server (H.264), not started yet; skip the test where there can be none.

    Args:
        **options: `size`, `fps`, `user`, `password`, `more` (`--basic`: basic authentication; `--pattern P`).
    """
    missing = _missing_for_rtsp()
    if missing is not None:
        pytest.skip(f"needs a real RTSP server, but {missing}: {_NEEDS}")
    server = Server((_SYSTEM_PYTHON, str(_HERE / "rtsp_server.py")), "rtsp")
    return replace(server, **options)  # type: ignore[arg-type]


def mjpeg(**options: object) -> Server:
    """Return a server of MJPEG over HTTP, not started yet.

    Args:
        **options: `size`, `fps`, `user`, `password`, `more` (`--then-size WxH --after N`, `--file F`).
    """
    server = Server((sys.executable, str(_HERE / "mjpeg_server.py")), "http")
    return replace(server, **options)  # type: ignore[arg-type]


@pytest.fixture
def rtsp_server() -> Iterator[Server]:
    """A running RTSP server, 640x480 at 30 fps."""
    with rtsp() as server:
        yield server


@pytest.fixture
def mjpeg_server() -> Iterator[Server]:
    """A running MJPEG server, 640x480 at 30 fps."""
    with mjpeg() as server:
        yield server
