"""The command `edge-mnv2`, also as `python -m edge_mnv2`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge_mnv2.stop import StopRequest


def main() -> int:
    """Run the command line; return its exit code: 0 done, 1 failed while running, 2 wrong request."""
    _open_missing_streams()
    stop = StopRequest()
    stop.catch_signals()
    try:
        _prefer_own_packages()
        from edge_mnv2.cli.process_title import hide_credentials

        hide_credentials()
        # OpenCV and FFmpeg mutter about every damaged file; our own message says it in one line.
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        from edge_mnv2.cli.app import run_app

        return run_app(sys.argv[1:], stop)
    except KeyboardInterrupt:
        sys.stderr.write("edge-mnv2: interrupted.\n")
        return 1


def _open_missing_streams() -> None:
    """Give a process that was started with closed streams, as some daemons are, the null device instead."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is the missing one: those below it are open by now.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


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
