"""What this process holds: threads, descriptors, children, shared memory. Tests compare before and after."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

LONG_S = 30.0


def children() -> set[int]:
    """Return the child processes of this one, those included that nobody waited for."""
    found = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found |= set(map(int, (thread / "children").read_text(encoding="ascii").split()))
    return found


@dataclass(frozen=True)
class Held:
    """What a process holds, as `/proc` shows it."""

    threads: int
    descriptors: int
    children: int
    mappings: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        return cls(
            threading.active_count(),
            len(list(Path("/proc/self/fd").iterdir())),
            len(children()),
            maps.count("camera frames"),
        )

    def is_within(self, other: Held) -> bool:
        return all(mine <= theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True))


def wait_for(what: Callable[[], bool], timeout_s: float = LONG_S) -> None:
    """Wait until something that no event tells is true."""
    end_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.005)


def shared_memory() -> list[str]:
    """Return the names of what lies in POSIX shared memory."""
    return sorted(path.name for path in Path("/dev", "shm").iterdir())
