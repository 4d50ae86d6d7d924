"""Locks among processes: one at a time builds, one at a time edits; the kernel frees them when a holder ends.

Not every file system has locks. Without them the cache still works, but two processes may do the same twice.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from engines.errors import BuildCancelledError

# One for all plans: two builds side by side would compete for a small device's memory.
LOCK_FILE = "build.lock"
_POLL_S = 0.2
# What file systems without locks answer; a network's takes none on what is not open for writing (EBADF).
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)

_log = logging.getLogger(__name__)


@contextmanager
def hold_lock(folder: Path, cancel: threading.Event) -> Iterator[None]:
    """Hold the lock of a cache; wait for whoever has it. Where there are no locks, say so and go on.

    Raises:
        BuildCancelledError: `cancel` was set meanwhile.
        OSError: The lock file cannot be opened.
    """
    with (folder / LOCK_FILE).open("ab") as file:
        is_told = False
        while (is_ours := lock_now(file.fileno())) is False:
            if not is_told:
                _log.info("another process builds a TensorRT plan: waiting for it")
                is_told = True
            if cancel.wait(_POLL_S):
                raise BuildCancelledError("Interrupted while another process builds a TensorRT plan.")
        if is_ours is None:
            _log.warning("the file system of %s has no locks: start no second build at the same time", folder)
        yield


@contextmanager
def try_lock(folder: Path, *, create: bool) -> Iterator[bool]:
    """Hold the lock of a cache if nobody else does; yield whether nobody builds, False where nothing tells.

    Args:
        folder: The cache.
        create: Whether to write the lock file where there is none, so that no build begins meanwhile. Without
            it, a cache of somebody else's can be looked at.

    Raises:
        OSError: The lock file cannot be written, and is to be.
    """
    path = folder / LOCK_FILE
    with ExitStack() as held:
        is_free = False
        try:
            file = held.enter_context(path.open("ab" if create else "rb"))
            is_free = bool(lock_now(file.fileno()))
        except OSError:
            if create:
                raise
            is_free = not path.exists()  # nothing was ever built here
        yield is_free


@contextmanager
def edit_lock(folder: Path) -> Iterator[None]:
    """Be the only one who changes what is said of plans; it is held for moments, builds are not waited for.

    The folder itself is locked. Where that does not work, it goes without.
    """
    with ExitStack() as held:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            _log.debug("%s cannot be locked: %s", folder, error)
        yield


def lock_now(descriptor: int) -> bool | None:
    """Lock a file if nobody else has; return whether that worked, None where its file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True
