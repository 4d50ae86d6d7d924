"""What is still to be sent: newest values that are kept, and a bounded queue in which the oldest goes."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable

from edge_mnv2.mqtt.topics import Message


class Outbox:
    """Takes messages from any thread and never waits; one thread sends them.

    Retained messages are values: only the newest of a topic matters, and all of them are due again for every
    connection, because a broker that was restarted may have forgotten them. Of those with a key only the
    newest matters, too, but the next connection does not need them. All others wait in a queue until the
    broker has acknowledged them, in order.

    Args:
        limit: Most messages in the queue.
        on_change: Called when there is something to send, from the thread that brought it.
    """

    def __init__(self, limit: int, on_change: Callable[[], None]) -> None:
        self._limit = limit
        self._on_change = on_change
        self._lock = threading.Lock()
        self._values: dict[str, Message] = {}
        self._due: dict[str, Message] = {}
        self._queue: deque[Message] = deque()
        self._sent: dict[int, Message] = {}
        self._dropped: Counter[str] = Counter()

    def dropped(self, topic: str) -> int:
        """Return how many results for a topic were lost because the broker was away for too long."""
        with self._lock:
            return self._dropped[topic]

    @property
    def is_empty(self) -> bool:
        """Whether all is sent and acknowledged."""
        with self._lock:
            return not (self._due or self._queue or self._sent)

    def put(self, message: Message, *, again: bool = False) -> None:
        """Take a message.

        Args:
            message: To be sent.
            again: Whether a value is sent although it has not changed.
        """
        with self._lock:
            if self._is_queued(message):
                self._append(message)
            elif message.key:
                self._put_last(message.key, message)
            elif again or self._values.get(message.topic) != message:
                self._values[message.topic] = message
                self._put_last(message.topic, message)
        self._on_change()

    def take(self) -> Message | None:
        """Return the next message to send, None if there is none; then comes `note_sent`."""
        with self._lock:
            if self._due:
                return self._due.pop(next(iter(self._due)))
            return self._queue.popleft() if self._queue else None

    def note_sent(self, number: int, message: Message) -> None:
        """Remember a message until the broker has acknowledged its number."""
        with self._lock:
            self._sent[number] = message

    def note_done(self, number: int) -> None:
        """Forget a message that has arrived."""
        with self._lock:
            self._sent.pop(number, None)

    @property
    def in_flight(self) -> int:
        """How many messages are sent and not acknowledged."""
        return len(self._sent)

    def begin(self) -> None:
        """A connection begins: what was not acknowledged comes first, and all values are due."""
        with self._lock:
            self._queue.extendleft(
                message for message in reversed(self._sent.values()) if self._is_queued(message)
            )
            self._sent.clear()
            self._due = dict(self._values)

    def abandon(self) -> None:
        """Count what will never be sent."""
        with self._lock:
            lost = [*self._sent.values(), *self._queue]
            self._dropped.update(message.topic for message in lost if message.is_result)
            self._sent.clear()
            self._queue.clear()

    @staticmethod
    def _is_queued(message: Message) -> bool:
        return not (message.retain or message.key)

    def _put_last(self, key: str, message: Message) -> None:
        self._due.pop(key, None)
        self._due[key] = message

    def _append(self, message: Message) -> None:
        if len(self._queue) + len(self._sent) >= self._limit and self._queue:
            # An event stays as long as there is a record that can go.
            oldest = next((waiting for waiting in self._queue if waiting.is_result), self._queue[0])
            self._queue.remove(oldest)
            self._dropped[oldest.topic] += oldest.is_result
        self._queue.append(message)
