"""The command `edge-mnv2`, also as `python -m edge_mnv2`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType


def main() -> int:
    """Run the command line; return its exit code: 0 done, 1 failed while running, 2 wrong request."""
    stop = _stop_on_signals()
    try:
        _prefer_own_packages()
        # OpenCV and FFmpeg mutter about every damaged file; our own message says it in one line.
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        from edge_mnv2.cli.app import run_app

        return run_app(sys.argv[1:], stop)
    except KeyboardInterrupt:
        sys.stderr.write("edge-mnv2: interrupted.\n")
        return 1


def _stop_on_signals() -> threading.Event:
    """Return an event that SIGINT and SIGTERM set; a second signal interrupts at once.

    From the first line on, and without an exception: raised inside the import of a vendor library, it would
    be swallowed or reported as that library's failure. Commands look at the event between two frames; nobody
    may wait for it in the main thread, where the handler runs.
    """
    stop = threading.Event()

    def request_stop(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            signal.default_int_handler(number, frame)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, request_stop)
    return stop


def _prefer_own_packages() -> None:
    """Keep a user's own `camera.py` or `engines.py` from taking the place of our packages.

    `python -m` puts the working directory first on the module path. Ours goes before it: the directory that
    this package was imported from.
    """
    own = str(Path(__file__).resolve().parent.parent)
    if sys.path[:1] != [own]:
        sys.path.insert(0, own)


if __name__ == "__main__":
    sys.exit(main())
