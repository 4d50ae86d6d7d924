"""A lock among processes, so that one at a time builds; the kernel frees it whenever its holder ends."""

from __future__ import annotations

import fcntl
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.errors import BuildCancelledError

# One for all plans: two builds side by side would compete for a small device's memory.
LOCK_FILE = "build.lock"
_POLL_S = 0.2

_log = logging.getLogger(__name__)


@contextmanager
def hold_lock(folder: Path, cancel: threading.Event) -> Iterator[None]:
    """Hold the lock of a cache; wait for whoever has it.

    Raises:
        BuildCancelledError: `cancel` was set meanwhile.
        OSError: The lock file cannot be opened.
    """
    with (folder / LOCK_FILE).open("ab") as file:
        is_told = False
        while not _try(file.fileno()):
            if not is_told:
                _log.info("another process builds a TensorRT plan: waiting for it")
                is_told = True
            if cancel.wait(_POLL_S):
                raise BuildCancelledError("Interrupted while another process builds a TensorRT plan.")
        yield


@contextmanager
def try_lock(folder: Path) -> Iterator[bool]:
    """Hold the lock of a cache if nobody else does; yield whether that worked.

    Raises:
        OSError: The lock file cannot be opened.
    """
    with (folder / LOCK_FILE).open("ab") as file:
        yield _try(file.fileno())


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
