"""Take a network camera away twenty times: how soon that is noticed, how soon it is back, what is left.

A real server on loopback is killed (a power cut), then frozen (its connections stay open, nothing comes), and
comes back after a while that differs from time to time.
Usage, from the repository's root: python -m benchmarks.reconnect [rtsp|mjpeg] [TIMES]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from camera import CameraState, open_source
from tests.camera.held import Held
from tests.camera.servers import Server, mjpeg, rtsp
from tests.camera.watch import Watch

TIMES = 20
# What is promised.
NOTICED_S, BACK_S = 3.0, 5.0
_LONGEST_OUTAGE_S = 6.0


def lose(
    watch: Watch, times: int, take: Callable[[], None], give_back: Callable[[], None]
) -> tuple[list[float], list[float]]:
    """Take the server away and give it back, so many times.

    Returns:
        Seconds until each loss was noticed (no later than stalled), and until the camera was live again.
    """
    noticed_s, back_s = [], []
    for turn in range(times):
        since = len(watch.changes)
        taken_s = time.monotonic()
        take()
        watch.wait(lambda since=since: len(watch.changes) > since)  # type: ignore[misc]
        noticed_s.append(watch.changes[since].at_ns / 1e9 - taken_s)
        time.sleep(_LONGEST_OUTAGE_S * turn / max(1, times - 1))
        give_back()
        given_s = time.monotonic()
        back_s.append(watch.wait_for(CameraState.LIVE, since) - given_s)
    return noticed_s, back_s


def main() -> None:
    """Print a line for each way of losing the camera."""
    make = mjpeg if "mjpeg" in sys.argv[1:] else rtsp
    times = next((int(text) for text in sys.argv[1:] if text.isdecimal()), TIMES)
    with make() as server, Watch(lambda on_state: open_source(server.url(), on_state=on_state)) as watch:
        watch.wait_for(CameraState.LIVE)
        print(f"{'':8} {'noticed after':>22} {'back after':>22}   processes, threads, descriptors, mappings")
        for name, take, give_back in _ways(server):
            before = Held.now()
            noticed_s, back_s = lose(watch, times, take, give_back)
            after = Held.now()
            is_kept = max(noticed_s) <= NOTICED_S and max(back_s) <= BACK_S and after.is_within(before)
            times_s = f"{_spread(noticed_s):>22} {_spread(back_s):>22}"
            verdict = "as promised" if is_kept else "NOT AS PROMISED"
            print(f"{name:8} {times_s}   {_shown(before)} -> {_shown(after)}   {verdict}", flush=True)


def _ways(server: Server) -> list[tuple[str, Callable[[], None], Callable[[], None]]]:
    return [("killed", server.kill, lambda: _start(server)), ("frozen", server.freeze, server.thaw)]


def _start(server: Server) -> None:
    server.start()


def _spread(times_s: list[float]) -> str:
    ordered = sorted(times_s)
    return f"{ordered[len(ordered) // 2]:.2f} s, at most {ordered[-1]:.2f} s"


def _shown(held: Held) -> str:
    return f"{held.children} {held.threads} {held.descriptors} {held.mappings}"


if __name__ == "__main__":
    main()
