"""The connection of a run to its broker: one thread, shared by all cameras, that never gives up."""

from __future__ import annotations

import logging
import random
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ssl import SSLContext

from edge_mnv2.mqtt.link import Link, LinkError, Received, open_link
from edge_mnv2.mqtt.outbox import Outbox
from edge_mnv2.mqtt.topics import OFFLINE, ONLINE, Message
from edge_mnv2.mqtt.waker import Waker
from edge_mnv2.settings_mqtt import MqttSettings
from edge_mnv2.threads import Worker

# As many wait for the broker's word at once: enough for a slow network, and no queue in the library.
_MAX_IN_FLIGHT = 16
_STEP_S = 0.25
# A broker that hangs up so soon has a reason.
_AT_ONCE_S = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to wait until the next attempt.

    Attributes:
        first_s: After the first failure; it doubles.
        longest_s: It does not grow beyond.
        refused_s: Where time alone does not help, such as a wrong password.
        stable_s: A connection that held so long was a good one: the next failure is the first again.
    """

    first_s: float = 1.0
    longest_s: float = 60.0
    refused_s: float = 60.0
    stable_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the connection's thread calls. They must not block, and use the outbox alone.

    Attributes:
        on_connect: When the broker has taken us, before anything is sent.
        on_receive: For each message that comes in.
        on_step: A few times a second, connected or not; is told whether we are.
        subscriptions: Topics to ask for.
    """

    on_connect: Callable[[], None]
    on_receive: Callable[[Received], None]
    on_step: Callable[[bool], None]
    subscriptions: Sequence[str] = ()


class Connection:
    """Sends what is in the outbox, from `start` until it is closed.

    Args:
        settings: Of the broker.
        client_id: Who we are there.
        availability: Topic that says `online`, and `offline` at the end or by last will.
        context: How to encrypt; None: not at all.
        hooks: What the thread calls.
        retry: How long to wait between attempts.

    Attributes:
        outbox: Takes messages from any thread.
    """

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        availability: str,
        context: SSLContext | None,
        hooks: Hooks,
        retry: Retry,
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._availability = availability
        self._context = context
        self._hooks = hooks
        self._retry = retry
        self._broker = f"{settings.host}:{settings.broker_port}"
        self._failure = ""
        self._is_stopping = False
        self._deadline_s = 0.0
        self._waker = Waker()
        self._worker: Worker | None = None
        self.outbox = Outbox(settings.buffer, self._waker.wake)
        self.outbox.put(Message(availability, ONLINE.encode(), retain=True))

    @property
    def error(self) -> BaseException | None:
        """What the thread has failed with, None while it has not."""
        return None if self._worker is None else self._worker.error

    def start(self) -> None:
        """Connect, and call the hooks from now on."""
        self._worker = Worker(self._work, f"mqtt {self._broker}")

    def close(self, timeout_s: float) -> None:
        """Send what is left, say `offline`, and end, in a bounded time. Calling it again does nothing."""
        if self._is_stopping or self._worker is None:
            return
        self._deadline_s = time.monotonic() + timeout_s
        self._is_stopping = True
        self._waker.wake()
        if not self._worker.join(timeout_s + 0.5):
            # Opening a connection takes seconds and cannot be ended; nothing of it holds the process.
            _log.warning("mqtt: %s does not answer, it is not waited for any longer", self._broker)
        self.outbox.abandon()

    def _work(self) -> None:
        try:
            pause_s = self._retry.first_s
            while not self._is_stopping:
                began_s = time.monotonic()
                try:
                    self._connect_and_serve()
                except LinkError as error:
                    if time.monotonic() - began_s > self._retry.stable_s:
                        pause_s, self._failure = self._retry.first_s, ""
                    wait_s = self._retry.refused_s if error.will_stay else pause_s
                    self._report(str(error), wait_s)
                    # Devices that come back after a power cut shall not all knock at once.
                    self._pause(wait_s * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
                    pause_s = min(2 * pause_s, self._retry.longest_s)
        finally:
            self._waker.close()

    def _connect_and_serve(self) -> None:
        link = open_link(self._settings, self._client_id, self._availability, self._context)
        try:
            link.wait_for_welcome(self._waker, lambda: self._is_stopping)
            _log.info("mqtt: connected to %s", self._broker)
            for topic in self._hooks.subscriptions:
                link.subscribe(topic)
            self.outbox.begin()
            self._hooks.on_connect()
            self._serve(link)
            self._say_goodbye(link)
        finally:
            link.close()

    def _serve(self, link: Link) -> None:
        began_s = time.monotonic()
        try:
            while not self._is_stopping:
                self._step(link)
        except LinkError as error:
            if time.monotonic() - began_s > _AT_ONCE_S:
                raise
            raise LinkError(f"{error} at once; is another client called {self._client_id}?") from None

    def _step(self, link: Link) -> None:
        self._hooks.on_step(True)
        self._send(link)
        link.step(self._waker, _STEP_S)
        for number in link.take_done():
            self.outbox.note_done(number)
        for received in link.take_received():
            self._hooks.on_receive(received)

    def _send(self, link: Link) -> None:
        while self.outbox.in_flight < _MAX_IN_FLIGHT:
            message = self.outbox.take()
            if message is None:
                return
            try:
                number = link.publish(message)
            except LinkError:
                # It is the first again in the next connection; the number is of no other message.
                self.outbox.note_sent(-1, message)
                raise
            self.outbox.note_sent(number, message)

    def _say_goodbye(self, link: Link) -> None:
        self._flush(link)
        self.outbox.put(Message(self._availability, OFFLINE.encode(), retain=True))
        self._flush(link)
        link.say_goodbye(self._waker, max(0.1, self._deadline_s - time.monotonic()))

    def _flush(self, link: Link) -> None:
        while not self.outbox.is_empty and time.monotonic() < self._deadline_s:
            self._send(link)
            link.step(self._waker, 0.05)
            for number in link.take_done():
                self.outbox.note_done(number)

    def _pause(self, pause_s: float) -> None:
        """Wait; what is to be done regularly goes on."""
        until_s = time.monotonic() + pause_s
        while not self._is_stopping and (left_s := until_s - time.monotonic()) > 0:
            self._hooks.on_step(False)
            select.select([self._waker.descriptor], [], [], min(left_s, _STEP_S))
            self._waker.drain()

    def _report(self, reason: str, wait_s: float) -> None:
        """Say what went wrong; the same is not said twice in a row."""
        if reason == self._failure or self._is_stopping:
            return
        self._failure = reason
        _log.warning(
            "mqtt: %s: %s; next attempt in %.0f s, and so on", self._broker, reason.rstrip("."), wait_s
        )
