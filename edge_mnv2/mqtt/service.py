"""MQTT as a run uses it: a sink for each camera, telemetry, events, Home Assistant."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from datetime import datetime, timezone

from edge_mnv2.errors import SinkError
from edge_mnv2.mqtt.access import make_tls_context, read_password
from edge_mnv2.mqtt.connection import Connection, Hooks, Retry
from edge_mnv2.mqtt.discovery import (
    HomeAssistant,
    SeenBy,
    camera_entities,
    components_of,
    device_entities,
    sensors_of,
    to_message,
    without_gone,
)
from edge_mnv2.mqtt.link import Received, check_paho
from edge_mnv2.mqtt.objects import Objects
from edge_mnv2.mqtt.sink import CameraChannel, MqttSink
from edge_mnv2.mqtt.telemetry import to_event, to_telemetry
from edge_mnv2.mqtt.topics import ONLINE, Message, Topics, to_payload
from edge_mnv2.readings import DeviceEvent, Snapshot
from edge_mnv2.settings_mqtt import MqttSettings
from edge_mnv2.sinks.base import SinkSpec

_FLUSH_S = 2.0
# A broker sends what it has kept as soon as it is asked; one that has nothing says nothing.
_LISTEN_S = 1.0

_log = logging.getLogger(__name__)


class MqttConnection:
    """Sends what a run finds to one broker, which may be away at any time; see `start`.

    Attributes:
        topics: Where it sends.
    """

    def __init__(
        self,
        settings: MqttSettings,
        read: Callable[[], Snapshot],
        retry: Retry | None = None,
        cameras: Collection[str] = (),
    ) -> None:
        device = settings.device_id
        self.topics = Topics(settings.topic_prefix)
        self._settings = settings
        self._read = read
        self._home: HomeAssistant | None = None
        if settings.discovery is not None:
            name = settings.device_name or device
            self._home = HomeAssistant(settings.discovery, device, name, settings.telemetry_s)
        # New dictionaries take the place of these: the connection's thread may be going through the old ones.
        self._channels: dict[str, CameraChannel] = {}
        self._seen: dict[str, SeenBy] = {}
        self._specs: dict[str, SinkSpec] = {}
        # Nothing is described before these are added: Home Assistant would forget them.
        self._awaited = frozenset(cameras)
        self._sensors: set[str] = set()
        # What the broker has, ours or of an earlier run.
        self._described: bytes | None = None
        self._listens_until_s = 0.0
        # Sinks of another connection are others, whatever their names.
        self._token = object()
        self._due_s = 0.0
        subscriptions = () if self._home is None else (self._home.topic, self._home.status_topic)
        self._connection = Connection(
            settings,
            settings.client_id or f"edge-mnv2-{device}",
            self.topics.availability,
            None if settings.tls is None else make_tls_context(settings.tls),
            Hooks(self._on_connect, self._on_receive, self._on_step, subscriptions),
            retry or Retry(),
        )

    @classmethod
    def start(
        cls,
        settings: MqttSettings,
        read: Callable[[], Snapshot],
        retry: Retry | None = None,
        cameras: Collection[str] = (),
    ) -> MqttConnection:
        """Connect from now on; a broker that is away is no failure.

        Args:
            settings: The broker, and what it is told.
            read: Returns the present moment without waiting for anything; called by the connection's thread.
            retry: How long to wait between attempts.
            cameras: Names of those that will be added, or removed; Home Assistant is told nothing before.

        Raises:
            RequestError: paho-mqtt is missing, or a certificate or the password cannot be read.
        """
        check_paho()
        read_password(settings)
        if settings.tls is not None and settings.tls.insecure:
            _log.warning("mqtt: the broker's certificate is not checked: whoever is in between can read all")
        service = cls(settings, read, retry, cameras)
        service._connection.start()
        return service

    def dropped(self, name: str) -> int:
        """Return how many of a camera's records were lost because the broker was away for too long."""
        return self._connection.outbox.dropped(self.topics.result(name))

    def add_camera(self, name: str, task: str, labels: Collection[str]) -> SinkSpec:
        """Send one more camera's results.

        Args:
            name: Of the camera; the topics of another one of this name are taken over.
            task: `detect`, `segment` or `classify`.
            labels: Of the classes that the model knows.

        Returns:
            The sink that gets the camera's results and states.
        """
        settings = self._settings
        for label in sorted(set(settings.classes) - set(labels)):
            _log.info("mqtt: %s: the model has no class %r", name, label)
        seen = SeenBy.of(task, settings.classes, labels)
        if self._seen.get(name) == seen:
            return self._specs[name]
        if name in self._channels:
            self._channels[name].retire()
        interval_s = 1 / settings.max_per_s
        channel = CameraChannel(
            name,
            self.topics,
            Objects(seen.classes, settings.hold_s, interval_s),
            self._connection.outbox.put,
            interval_s if settings.results else None,
        )
        spec = SinkSpec(
            name=f"mqtt {name}",
            open=lambda _: MqttSink(channel, self.check),
            wants_canvas=False,
            settings=(self._token, seen),
        )
        self._channels = {**self._channels, name: channel}
        self._specs = {**self._specs, name: spec}
        self._seen = {**self._seen, name: seen}
        self._awaited -= {name}
        self._due_s = 0.0
        return spec

    def remove_camera(self, name: str) -> None:
        """Forget a camera, at the broker and in Home Assistant too; its sink is closed already."""
        self._channels = {key: value for key, value in self._channels.items() if key != name}
        self._specs = {key: value for key, value in self._specs.items() if key != name}
        self._seen = {key: value for key, value in self._seen.items() if key != name}
        self._awaited -= {name}
        for topic in (self.topics.state(name), self.topics.objects(name)):
            self._connection.outbox.put(Message(topic, b"", retain=True))
        self._due_s = 0.0

    def publish_event(self, event: DeviceEvent) -> None:
        """Send a change of the device."""
        self._connection.outbox.put(Message(self.topics.events, to_payload(to_event(event))))

    def check(self) -> None:
        """Do nothing while it works.

        Raises:
            SinkError: It does not, any more.
        """
        error = self._connection.error
        if error is not None:
            raise SinkError(f"MQTT has failed: {error}") from error

    def close(self, timeout_s: float = _FLUSH_S) -> None:
        """Send what is left, say `offline`, and end, in a bounded time. Calling it again does nothing."""
        self._connection.close(timeout_s)

    def _on_connect(self) -> None:
        self._due_s, self._listens_until_s = 0.0, time.monotonic() + _LISTEN_S

    def _on_receive(self, received: Received) -> None:
        if self._home is None:
            return
        if received.topic == self._home.status_topic and received.payload == ONLINE.encode():
            # It has started, and knows nothing yet.
            self._describe(self._read(), again=True)
        elif received.topic == self._home.topic and received.was_kept:
            # Of an earlier run, perhaps with other cameras. Sensors that have not answered yet are not gone.
            self._described = received.payload
            self._sensors |= components_of(received.payload).keys()
            self._listens_until_s = 0.0
        else:
            return
        self._due_s = 0.0

    def _on_step(self, is_connected: bool) -> None:
        for channel in self._channels.values():
            channel.tick()
        now_s = time.monotonic()
        if self._listens_until_s and now_s >= self._listens_until_s:
            self._due_s = self._listens_until_s = 0.0
        if not is_connected or now_s < self._due_s:
            return
        self._due_s = now_s + self._settings.telemetry_s
        snapshot = self._read()
        self._describe(snapshot)
        record = to_telemetry(snapshot, datetime.now(timezone.utc))
        outbox = self._connection.outbox
        outbox.put(Message(self.topics.telemetry, to_payload(record), key=self.topics.telemetry))
        for channel in self._channels.values():
            message = channel.repeat()
            if message is not None:
                outbox.put(message, again=True)

    def _describe(self, snapshot: Snapshot, *, again: bool = False) -> None:
        """Describe the device to Home Assistant, if that is news; a sensor that fails keeps its entity.

        Args:
            snapshot: What can be told now.
            again: Whether it is described although nothing has changed.
        """
        if self._home is None or self._awaited or self._listens_until_s:
            return
        self._sensors |= sensors_of(snapshot)
        entities = device_entities(self._home, self.topics, self._sensors)
        for name, seen in self._seen.items():
            entities.update(camera_entities(self._home, self.topics, name, seen))
        message = to_message(self._home, self.topics, entities, snapshot.version)
        gone = None if self._described is None else without_gone(message, self._described)
        outbox = self._connection.outbox
        if gone is not None:
            outbox.put(gone)
        outbox.put(message, again=again or gone is not None)
        self._described = message.payload
