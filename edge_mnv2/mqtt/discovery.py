"""What Home Assistant is told of a device and its entities, so that they appear by themselves.

One message describes the device and all entities (device discovery, Home Assistant 2024.12 and later):
https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_mnv2.mqtt.topics import OFFLINE, ONLINE, Message, Topics, identifier, to_payload
from edge_mnv2.readings import Snapshot

Entity = dict[str, Any]
ONLY_CAMERA = "camera"
_FPS = "fps"
# Three messages may be lost before a value counts as gone.
_MISSED, _GRACE_S = 3, 5
_PERSON = "person"
_BEST_CLASS = (
    "{{ value_json.counts | dictsort(false, 'value') | selectattr(1) | map(attribute=0) | list | last "
    "| default(None) }}"
)


@dataclass(frozen=True, slots=True)
class HomeAssistant:
    """Who this device is to Home Assistant.

    Attributes:
        prefix: Of discovery topics.
        device: Identifier of this device.
        name: Of this device, as people read it.
        telemetry_s: How often telemetry is sent.
    """

    prefix: str
    device: str
    name: str
    telemetry_s: float

    @property
    def topic(self) -> str:
        """Where the description goes; retained."""
        return f"{self.prefix}/device/edge-mnv2-{self.device}/config"

    @property
    def status_topic(self) -> str:
        """Where Home Assistant says `online` when it has started."""
        return f"{self.prefix}/status"

    @property
    def expire_after_s(self) -> int:
        """For how long a value holds without a new one."""
        return round(_MISSED * self.telemetry_s) + _GRACE_S


@dataclass(frozen=True, slots=True)
class SeenBy:
    """What a camera can tell of objects.

    Attributes:
        task: `detect`, `segment` or `classify`.
        classes: Labels with a binary sensor: those that were asked for and the model knows.
        finds_persons: Whether the model knows persons.
    """

    task: str
    classes: tuple[str, ...]
    finds_persons: bool = False

    @classmethod
    def of(cls, task: str, wanted: Iterable[str], labels: Collection[str]) -> SeenBy:
        """Return what a camera can tell whose model knows these labels."""
        classes = tuple(label for label in dict.fromkeys(wanted) if label in labels)
        return cls(task, classes, _PERSON in labels)


def sensors_of(snapshot: Snapshot) -> set[str]:
    """Return the identifiers of the device's entities that have something to tell."""
    device = snapshot.device
    told = {
        "power": device.power_w.value is not None,
        "energy": device.energy.total_j is not None,
        "temperature": device.temperature_c.value is not None,
        "throttled": device.throttling is not None,
    }
    return {_FPS, *(key for key, is_told in told.items() if is_told)}


def components_of(description: bytes) -> dict[str, str]:
    """Return the platform of each entity of a description by its identifier; none where it is not one.

    Args:
        description: What a broker had; whatever it is.
    """
    try:
        components = json.loads(description)["components"]
        return {key: str(entity["platform"]) for key, entity in components.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def device_entities(home: HomeAssistant, topics: Topics, sensors: Collection[str]) -> dict[str, Entity]:
    """Return the entities of the device by their identifiers.

    Args:
        home: This device.
        topics: Where it sends.
        sensors: Identifiers of those that are described; others, whatever they are, do no harm.
    """
    return {key: entity for key, entity in _device_entities(home, topics) if key in sensors}


def camera_entities(home: HomeAssistant, topics: Topics, name: str, seen: SeenBy) -> dict[str, Entity]:
    """Return the entities of a camera by their identifiers.

    Args:
        home: This device.
        topics: Where it sends.
        name: Of the camera; `camera`, as an only one is called, does not show in names.
        seen: What it can tell.
    """
    return dict(_camera_entities(home, topics, name, seen))


def to_message(home: HomeAssistant, topics: Topics, entities: Mapping[str, Entity], version: str) -> Message:
    """Return the description of a device as a message.

    Args:
        home: This device.
        topics: Where it sends.
        entities: By identifier.
        version: Of edge-mnv2.
    """
    description = {
        "device": {
            "identifiers": [f"edge-mnv2-{home.device}"],
            "name": home.name,
            "manufacturer": "edge-mnv2",
            "sw_version": version,
        },
        "origin": {"name": "edge-mnv2", "sw_version": version},
        "availability": [{"topic": topics.availability}],
        "components": entities,
    }
    return Message(home.topic, to_payload(description), retain=True)


def without_gone(message: Message, before: bytes) -> Message | None:
    """Return what makes Home Assistant forget entities that an older description had and this one has not.

    Args:
        message: The present description.
        before: What the broker still has, from an earlier run; whatever it is.

    Returns:
        To be sent before the present description, and not retained; None where nothing has gone.
    """
    new = json.loads(message.payload)
    old = components_of(before)
    gone = {key: {"platform": platform} for key, platform in old.items() if key not in new["components"]}
    if not gone:
        return None
    payload = to_payload({**new, "components": {**new["components"], **gone}})
    return Message(message.topic, payload, key=f"{message.topic} gone")


def _device_entities(home: HomeAssistant, topics: Topics) -> Iterator[tuple[str, Entity]]:
    rate, device = "value_json.fps", "value_json.device"
    yield _telemetry(home, topics, _FPS, "Frame rate", rate, unit="FPS", icon="mdi:speedometer")
    power = f"{device}.power_w.value"
    yield _telemetry(home, topics, "power", "Power", power, unit="W", device_class="power")
    total = f"{device}.energy.total_j"
    key, energy = _telemetry(home, topics, "energy", "Energy", total, unit="J", device_class="energy")
    yield key, {**energy, "state_class": "total_increasing"}
    heat = f"{device}.temperature_c.value"
    yield _telemetry(home, topics, "temperature", "Temperature", heat, unit="°C", device_class="temperature")
    yield _entity(
        home,
        "throttled",
        "binary_sensor",
        name="Slowed down",
        device_class="problem",
        entity_category="diagnostic",
        state_topic=topics.telemetry,
        value_template="{{ None if value_json.device.throttling is none else "
        "'ON' if value_json.device.throttling.now else 'OFF' }}",
        json_attributes_topic=topics.telemetry,
        json_attributes_template="{{ (value_json.device.throttling or {}) | tojson }}",
        expire_after=home.expire_after_s,
    )


def _camera_entities(
    home: HomeAssistant, topics: Topics, camera: str, seen: SeenBy
) -> Iterator[tuple[str, Entity]]:
    own = identifier(camera)
    is_one = camera == ONLY_CAMERA

    def named(text: str) -> str:
        return text[0].upper() + text[1:] if is_one else f"{camera} {text}"

    def entity(key: str, platform: str, **more: object) -> tuple[str, Entity]:
        return _entity(
            home,
            f"{own}_{key}",
            platform,
            state_topic=topics.objects(camera),
            expire_after=home.expire_after_s,
            availability=_while_live(topics, camera),
            availability_mode="all",
            **more,
        )

    yield _entity(
        home,
        f"{own}_connected",
        "binary_sensor",
        name=named("camera"),
        device_class="connectivity",
        entity_category="diagnostic",
        state_topic=topics.state(camera),
        value_template="{{ 'ON' if value_json.camera.state == 'live' else 'OFF' }}",
        json_attributes_topic=topics.state(camera),
        json_attributes_template="{{ value_json.camera | tojson }}",
    )
    if not is_one:
        rate = f"value_json.cameras.get({json.dumps(camera, ensure_ascii=False)}, {{}}).fps | default(None)"
        yield _telemetry(home, topics, f"{own}_fps", named("frame rate"), rate, unit="FPS")
    if seen.task == "classify":
        yield entity(
            "class",
            "sensor",
            name=named("class"),
            value_template=_BEST_CLASS,
        )
    elif seen.task == "detect" and seen.finds_persons:
        yield entity(
            "persons",
            "sensor",
            name=named("persons"),
            icon="mdi:account-group",
            state_class="measurement",
            value_template=f"{{{{ value_json.counts.{_PERSON} | default(0) }}}}",
        )
    for label in seen.classes:
        kind = {"device_class": "occupancy"} if label == _PERSON else {}
        template = f"{{{{ 'ON' if value_json.seen[{json.dumps(label, ensure_ascii=False)}] else 'OFF' }}}}"
        yield entity(
            f"seen_{identifier(label)}", "binary_sensor", name=named(label), value_template=template, **kind
        )


def _while_live(topics: Topics, camera: str) -> Sequence[Entity]:
    """Return when a camera's objects mean anything: while we are online, and the camera is live."""
    template = f"{{{{ '{ONLINE}' if value_json.camera.state == 'live' else '{OFFLINE}' }}}}"
    return [{"topic": topics.availability}, {"topic": topics.state(camera), "value_template": template}]


def _telemetry(
    home: HomeAssistant, topics: Topics, key: str, name: str, path: str, unit: str, **more: object
) -> tuple[str, Entity]:
    """Return a number of the telemetry; null becomes `None`, by which Home Assistant means unknown."""
    return _entity(
        home,
        key,
        "sensor",
        name=name,
        state_topic=topics.telemetry,
        value_template=f"{{{{ {path} }}}}",
        unit_of_measurement=unit,
        state_class="measurement",
        entity_category="diagnostic",
        expire_after=home.expire_after_s,
        **more,
    )


def _entity(home: HomeAssistant, key: str, platform: str, **more: object) -> tuple[str, Entity]:
    return key, {"platform": platform, "unique_id": f"edge-mnv2-{home.device}_{key}", **more}
