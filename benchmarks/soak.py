"""Let the daemon run for half an hour while its camera is taken away again and again: what does it hold?

A synthetic camera and a network camera (a clip in a loop, by a real server on loopback that is killed and
frozen in turns), records that rotate, and a viewer of the live view. Every half minute what the daemon's
processes hold is noted: memory, threads, descriptors. At the end the last third is compared with the first
one after the warm-up.
Usage, from the repository's root: python -m benchmarks.soak CLIP [MINUTES]
"""

from __future__ import annotations

import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.camera.servers import Server, mjpeg
from tests.daemon.daemon_process import Daemon

MINUTES = 30.0
_INTERVAL_S = 30.0
# Caches, pools and the allocator fill up first.
_WARM_UP = 0.2
_MOST_MEMORY_GROWTH = 0.02


@dataclass(frozen=True)
class Held:
    """What the daemon's processes hold at one moment."""

    minutes: float
    main_mib: float
    children_mib: float
    threads: int
    descriptors: int
    children: int
    frames: int
    losses: int
    is_live: bool


def look(daemon: Daemon, started_s: float) -> Held:
    """Return what it holds now."""
    main = psutil.Process(daemon.status()["pid"])
    # What ended, or was a short-lived helper, holds nothing.
    children = [child for child in main.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    cameras = daemon.status()["cameras"]
    return Held(
        minutes=(time.monotonic() - started_s) / 60,
        main_mib=main.memory_full_info().uss / 2**20,
        children_mib=sum(child.memory_full_info().uss for child in children) / 2**20,
        threads=main.num_threads(),
        descriptors=main.num_fds(),
        children=len(children),
        frames=sum(camera["frames"] for camera in cameras.values()),
        losses=cameras["clip"]["losses"],
        is_live=cameras["clip"]["state"] == "live",
    )


def disturb(server: Server, end: threading.Event) -> None:
    """Kill and freeze the server in turns, for a while that grows from 1 s to 15 s and begins anew."""
    turn = 0
    while not end.wait(25):
        away_s = 1 + turn * 2 % 15
        if turn % 2:
            server.freeze()
            end.wait(away_s)
            server.thaw()
        else:
            server.kill()
            end.wait(away_s)
            server.start()
        turn += 1


def free_address() -> str:
    """Return an address on loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


def watch(address: str, end: threading.Event) -> None:
    """Look at the live view and its metrics now and then, as visitors do."""
    while not end.wait(2):
        for path in ("/", "/api/state", "/snapshot.jpg", "/metrics"):
            with suppress(OSError), urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
                answer.read()


def main() -> int:
    """Run, print a line every half minute, judge; return the exit code."""
    clip, minutes = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else MINUTES
    with tempfile.TemporaryDirectory() as folder, mjpeg(fps=15, more=("--file", clip)) as server:
        daemon = Daemon(Path(folder))
        address = free_address()
        settings = {
            "engine": "onnxruntime",
            "web": address,
            "cameras": {
                "synthetic": {"source": "test://?size=640x480&fps=10", "jsonl": f"{folder}/synthetic.jsonl"},
                "clip": {"source": server.url("/loop"), "jsonl": f"{folder}/clip.jsonl"},
            },
        }
        end = threading.Event()
        helpers = [
            threading.Thread(target=disturb, args=(server, end)),
            threading.Thread(target=watch, args=(address, end)),
        ]
        try:
            daemon.start(settings)
            daemon.hear("READY=1")
            for helper in helpers:
                helper.start()
            found = observe(daemon, minutes)
        finally:
            end.set()
            for helper in helpers:
                if helper.is_alive():
                    helper.join()
            code = daemon.end()
            daemon.close()
    return judge(found, code)


def observe(daemon: Daemon, minutes: float) -> list[Held]:
    """Note what the daemon holds, twice a minute."""
    started_s = time.monotonic()
    found: list[Held] = []
    print("minutes  main MiB  camera MiB  threads  descriptors  children  results  losses  live")
    while time.monotonic() - started_s < minutes * 60:
        time.sleep(_INTERVAL_S)
        held = look(daemon, started_s)
        found.append(held)
        print(
            f"{held.minutes:7.1f} {held.main_mib:9.1f} {held.children_mib:11.1f} {held.threads:8d} "
            f"{held.descriptors:12d} {held.children:9d} {held.frames:8d} {held.losses:7d}  "
            f"{'yes' if held.is_live else 'no'}",
            flush=True,
        )
    return found


def judge(found: list[Held], code: int) -> int:
    """Print the verdict; return the exit code."""
    # While the camera is away, its process is too: only like is compared with like.
    live = [held for held in found if held.is_live]
    warm = live[int(len(live) * _WARM_UP) :]
    third = max(1, len(warm) // 3)
    first, last = warm[:third], warm[-third:]
    is_flat = code == 0 and found[-1].losses > 0
    for name in ("main_mib", "children_mib", "threads", "descriptors", "children"):
        before, after = (statistics.median(getattr(held, name) for held in part) for part in (first, last))
        limit = before * (1 + _MOST_MEMORY_GROWTH) if name.endswith("_mib") else before
        is_flat = is_flat and after <= limit
        print(f"{name}: {before:.1f} -> {after:.1f}{'' if after <= limit else '  GROWS'}")
    print(f"exit code {code}; {found[-1].losses} losses; {'flat' if is_flat else 'NOT FLAT'}")
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
