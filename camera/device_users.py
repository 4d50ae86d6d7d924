"""Which processes have a device open, from /proc."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DeviceUser:
    """A process that has a device open.

    Attributes:
        pid: Its number.
        name: Its command without arguments, which may hold secrets.
    """

    pid: int
    name: str


def device_users(device: Path, proc: Path = Path("/proc")) -> tuple[DeviceUser, ...]:
    """Return the processes that have a device open, those of other users only where we may look at them.

    See `proc_pid_fd(5)`. The device may be a link, and be open under another name.

    Args:
        device: Path of a device or file.
        proc: Where the process file system is.
    """
    wanted = _identity(device)
    if wanted is None:
        return ()
    found = []
    for folder in sorted(
        (path for path in proc.glob("[0-9]*") if path.name.isdecimal()), key=lambda path: int(path.name)
    ):
        try:
            entries = [entry.path for entry in os.scandir(folder / "fd")]
        except OSError:
            continue  # another user's, or it has ended
        if any(_identity(Path(entry)) == wanted for entry in entries):
            found.append(DeviceUser(int(folder.name), _name(folder)))
    return tuple(found)


def users_in_words(users: Sequence[DeviceUser]) -> str:
    """Return who uses a device: `mpv (pid 71)`, `this program (pid 5)`; empty where nobody is known."""
    return ", ".join(
        f"{'this program' if user.pid == os.getpid() else user.name} (pid {user.pid})" for user in users
    )


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what makes two paths the same device, or the same file; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        return (stat.S_IFMT(found.st_mode), found.st_rdev, 0)
    return (stat.S_IFMT(found.st_mode), found.st_dev, found.st_ino)


def _name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text(encoding="utf-8", errors="replace").strip() or "a process"
    except OSError:
        return "a process"
