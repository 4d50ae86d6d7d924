"""Work that may hang in a driver, waited for only so long."""

from __future__ import annotations

import threading
from collections.abc import Callable

CLOSE_TIMEOUT_S = 3.0


def finish_within(work: Callable[[], None], timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
    """Run something in a thread of its own, and say whether it ended in time.

    A thread that hangs in a driver cannot be ended. It is a daemon, which does not keep the process alive.
    While it hangs, what `work` refers to is not collected: with some drivers that would hang, too.

    Args:
        work: It must not raise: nobody would hear of it.
        timeout_s: So long it is waited for.
    """
    thread = threading.Thread(target=work, name="camera driver", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return not thread.is_alive()
