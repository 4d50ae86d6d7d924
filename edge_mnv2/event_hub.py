"""Events of a run, from whoever notices them to whoever wants to know."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from edge_mnv2.readings import DeviceEvent

Listener = Callable[[DeviceEvent], None]

_log = logging.getLogger(__name__)


class EventHub:
    """Passes events on, in the thread of whoever tells them. Any thread may use it."""

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()

    def add(self, listener: Listener) -> Callable[[], None]:
        """Have a listener hear all events from now on; it must return soon.

        Returns:
            What ends that.
        """
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def remove() -> None:
            with self._lock:
                self._listeners = tuple(other for other in self._listeners if other is not listener)

        return remove

    def tell(self, event: DeviceEvent) -> None:
        """Pass an event on to each listener; one that fails is logged, and hinders no other."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - whoever listens must not stop whoever tells
                _log.exception("an event did not reach a listener: %s", event.text)
