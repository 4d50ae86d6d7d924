"""What is wrong with an output, said once when it begins and once when it ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timezone

from edge_mnv2.readings import DeviceEvent

_log = logging.getLogger(__name__)


class Trouble:
    """What is wrong with a sink now; any thread may say so.

    Args:
        name: Of the sink.
        on_trouble: Told when trouble begins and when it ends.

    Attributes:
        text: What is wrong, as a sentence; empty where nothing is.
    """

    def __init__(self, name: str, on_trouble: Callable[[DeviceEvent], None] | None) -> None:
        self.text = ""
        self._name = name
        self._on_trouble = on_trouble
        self._lock = threading.Lock()

    def begin(self, text: str) -> None:
        """Note what is wrong; trouble that is there already is no news."""
        with self._lock:
            if self.text:
                return
            self.text = text
        _log.error("%s Results are dropped until it works again.", text)
        self._tell(text, is_active=True)

    def end(self, lost: int) -> None:
        """Note that it works again, and how many results were lost meanwhile."""
        with self._lock:
            self.text = ""
        text = f"{self._name} works again; results lost: {lost}."
        _log.warning("%s", text)
        self._tell(text, is_active=False)

    def _tell(self, text: str, *, is_active: bool) -> None:
        if self._on_trouble is not None:
            self._on_trouble(DeviceEvent(self._name, is_active, datetime.now(timezone.utc), text))
