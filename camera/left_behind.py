"""What hangs in a driver, and cannot be ended: it is counted, and not too much of it is made."""

from __future__ import annotations

import threading

from camera.errors import CameraError

# Each keeps memory, and perhaps a device.
MAX_LEFT_BEHIND = 8


def check_left_behind(threads: list[threading.Thread], what: str) -> None:
    """Forget the threads that ended after all, and refuse to add to many that did not.

    Args:
        threads: Those that were left behind; it is changed.
        what: For the message: what hangs where, and what to do.

    Raises:
        CameraError: There are too many.
    """
    threads[:] = [thread for thread in threads if thread.is_alive()]
    if len(threads) >= MAX_LEFT_BEHIND:
        raise CameraError(f"{len(threads)} {what}")
