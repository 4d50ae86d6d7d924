"""Writing files that other processes see whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, content: bytes, *, is_for_all: bool = False) -> None:
    """Write a file beside its destination, then move it there.

    A symbolic link is followed. What is no regular file (a pipe, a device) is written to, never replaced.

    Args:
        path: Of the destination; its folder is made.
        content: All of it.
        is_for_all: Every user may read the file, whatever the umask; one that root writes into another user's
            folder belongs to that user.

    Raises:
        OSError: As from the file system; nothing is left behind.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
            if is_for_all:
                os.fchmod(file.fileno(), 0o644)
                folder = path.parent.stat()
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
        os.replace(partial, path)  # noqa: PTH105 - the atomic call, by its own name
    finally:
        partial.unlink(missing_ok=True)


def expand_user(path: str | Path) -> Path:
    """Return a path with `~` replaced by the home directory; an unknown `~user` stays as it is.

    `Path.expanduser` raises RuntimeError for that, which is no error of the file system.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 - see above
