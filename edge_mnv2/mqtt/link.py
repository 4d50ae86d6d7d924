"""One connection to a broker, from its opening to its loss, by paho-mqtt; one thread uses it."""

from __future__ import annotations

import importlib.util
import select
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from edge_mnv2.errors import RequestError
from edge_mnv2.mqtt.access import ClosingTls, read_password, tls_reason
from edge_mnv2.mqtt.topics import OFFLINE, Message
from edge_mnv2.mqtt.waker import Waker
from edge_mnv2.settings_mqtt import MqttSettings

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_CONNECT_TIMEOUT_S = 5.0
# From the open connection to the broker's word that we may.
_WELCOME_TIMEOUT_S = 10.0
_KEEPALIVE_S = 30
# CONNACK of MQTT 3.1.1, section 3.2.2.3, as paho-mqtt translates it to the numbers of MQTT 5.
_REFUSALS = {
    132: "it does not speak MQTT 3.1.1",
    133: "it does not take this client_id",
    134: "user or password is wrong",
    135: "this user may not connect",
    136: "it is not available now",
}
_NOT_NOW = 136


class LinkError(Exception):
    """There is no connection.

    Attributes:
        will_stay: Whether time alone does not mend it, such as a wrong password.
    """

    def __init__(self, reason: str, *, will_stay: bool = False) -> None:
        super().__init__(reason)
        self.will_stay = will_stay


@dataclass(frozen=True, slots=True)
class Received:
    """A message that came in.

    Attributes:
        topic: Where it was sent.
        payload: What it holds.
        was_kept: Whether the broker had kept it from before.
    """

    topic: str
    payload: bytes
    was_kept: bool


def check_paho() -> None:
    """Refuse to go on without the library.

    Raises:
        RequestError: It says how to install it.
    """
    if importlib.util.find_spec("paho") is None:
        raise RequestError("MQTT needs paho-mqtt: pip install 'edge-mnv2[mqtt]'")


class Link:
    """A connection that is open; see `open_link`.

    Args:
        client: Connected, and waiting for the broker's word.
        qos: Of all that is sent.
    """

    def __init__(self, client: Client, qos: int) -> None:
        self._client = client
        self._qos = qos
        self._done: list[int] = []
        self._received: list[Received] = []
        self._welcome: int | None = None
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        # With it, paho-mqtt leaves the writing to `step`.
        client.on_socket_register_write = lambda *_: None

    def wait_for_welcome(self, waker: Waker, is_stopping: Callable[[], bool]) -> None:
        """Wait until the broker takes us.

        Args:
            waker: As for `step`.
            is_stopping: Whether a stop was asked for.

        Raises:
            LinkError: It does not, or a stop was asked for.
        """
        deadline_s = time.monotonic() + _WELCOME_TIMEOUT_S
        while self._welcome is None:
            if is_stopping() or time.monotonic() > deadline_s:
                raise LinkError(f"it does not answer within {_WELCOME_TIMEOUT_S:.0f} s")
            try:
                self.step(waker, 0.5)
            except LinkError:
                raise LinkError("it hangs up; does it want TLS, or a certificate?") from None
        if self._welcome:
            raise LinkError(
                _REFUSALS.get(self._welcome, f"it refuses us ({self._welcome})"),
                will_stay=self._welcome != _NOT_NOW,
            )

    def step(self, waker: Waker, timeout_s: float) -> None:
        """Read and write what can be, or wait until something can.

        Args:
            waker: Ends the waiting.
            timeout_s: Longest wait.

        Raises:
            LinkError: The connection is lost.
        """
        broker = self._client.socket()
        if broker is None:
            raise LinkError("the connection was lost")
        poll = select.poll()
        poll.register(waker.descriptor, select.POLLIN)
        poll.register(broker.fileno(), select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        # What TLS has decrypted already does not make the descriptor readable.
        is_pending = isinstance(broker, ssl.SSLSocket) and broker.pending() > 0
        events = dict(poll.poll(0 if is_pending else timeout_s * 1000)).get(broker.fileno(), 0)
        waker.drain()
        if events & ~select.POLLOUT or is_pending:
            self._client.loop_read()
        if events & select.POLLOUT:
            self._client.loop_write()
        self._client.loop_misc()
        if self._client.socket() is None and not self._welcome:
            raise LinkError("the connection was lost")

    def publish(self, message: Message) -> int:
        """Send a message with the next steps; return the number by which `take_done` will know it.

        Raises:
            LinkError: The connection is lost.
        """
        sent = self._client.publish(message.topic, message.payload, qos=self._qos, retain=message.retain)
        if sent.rc:
            raise LinkError("the connection was lost")
        return sent.mid

    def subscribe(self, topic: str) -> None:
        """Ask for messages on a topic; whether the broker allows it does not matter to what is sent."""
        self._client.subscribe(topic, qos=self._qos)

    def take_done(self) -> list[int]:
        """Return the numbers of messages that have arrived since the last call."""
        done, self._done = self._done, []
        return done

    def take_received(self) -> list[Received]:
        """Return messages that have come since the last call."""
        received, self._received = self._received, []
        return received

    def say_goodbye(self, waker: Waker, timeout_s: float) -> None:
        """Take leave, so that the broker does not send the last will.

        Args:
            waker: As for `step`.
            timeout_s: Longest wait until it is written.
        """
        deadline_s = time.monotonic() + timeout_s
        self._client.disconnect()
        with suppress(LinkError):  # it is closed, which is what was wanted
            while self._client.want_write() and time.monotonic() < deadline_s:
                self.step(waker, 0.1)

    def close(self) -> None:
        """Hang up; where no goodbye was said, the broker sends the last will."""
        broker = self._client.socket()
        if broker is not None:
            broker.close()

    def _on_connect(self, _: object, __: object, ___: object, reason: Any, ____: object) -> None:  # noqa: ANN401
        self._welcome = reason.value

    def _on_publish(self, _: object, __: object, number: int, *___: object) -> None:
        self._done.append(number)

    def _on_message(self, _: object, __: object, message: Any) -> None:  # noqa: ANN401 - of paho-mqtt
        self._received.append(Received(message.topic, bytes(message.payload), bool(message.retain)))


def open_link(
    settings: MqttSettings, client_id: str, will_topic: str, context: ssl.SSLContext | None
) -> Link:
    """Connect to the broker, which takes seconds at most; it has not answered yet.

    Args:
        settings: Of the broker.
        client_id: Who we are there.
        will_topic: Where the broker says `offline` for us.
        context: How to encrypt; None: not at all.

    Raises:
        LinkError: It cannot be reached, or TLS fails.
    """
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv311)
    client.connect_timeout = _CONNECT_TIMEOUT_S
    if context is not None:
        client.tls_set_context(cast("ssl.SSLContext", ClosingTls(context)))
    try:
        if settings.username is not None:
            client.username_pw_set(settings.username, read_password(settings))
        client.will_set(will_topic, OFFLINE, qos=1, retain=True)
        link = Link(client, settings.qos)
        client.connect(settings.host, settings.broker_port, _KEEPALIVE_S)
    except RequestError as error:
        raise LinkError(str(error), will_stay=True) from None
    except (ConnectionResetError, ssl.SSLEOFError) as error:
        hint = "" if context is None else "; does it speak TLS at this port?"
        raise LinkError(f"it hangs up{hint}") from error
    except ssl.SSLCertVerificationError as error:
        raise LinkError(f"its certificate is not trusted: {error.verify_message}", will_stay=True) from error
    except ssl.SSLError as error:
        raise LinkError(f"TLS fails: {tls_reason(error)}", will_stay=True) from error
    except (OSError, UnicodeError, ValueError) as error:
        raise LinkError(_os_reason(error)) from error
    return link


def _os_reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"it does not answer within {_CONNECT_TIMEOUT_S:.0f} s"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
