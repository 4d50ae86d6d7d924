"""The description that Home Assistant gets, by the rules of its documentation."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

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
from edge_mnv2.mqtt.topics import Message, Topics, identifier
from edge_mnv2.readings import Snapshot
from tests.metrics.snapshots import BARE, FULL

HOME = HomeAssistant("homeassistant", "bench", "Work bench", 10)
TOPICS = Topics("edge-mnv2/bench")
DETECTS = SeenBy("detect", ("person", 'potted "plant"'), finds_persons=True)
# What an entity of each platform must have, https://www.home-assistant.io/integrations/sensor.mqtt/ and
# binary_sensor.mqtt/, and units that Home Assistant takes for its device classes.
REQUIRED = {"platform", "unique_id", "name", "state_topic", "value_template"}
UNITS = {"power": {"W", "kW"}, "energy": {"J", "Wh", "kWh"}, "temperature": {"°C", "°F", "K"}}
BINARY_CLASSES = {"connectivity", "occupancy", "problem"}


def described(snapshot: Snapshot = FULL, cameras: dict[str, SeenBy] | None = None) -> dict[str, Any]:
    entities = device_entities(HOME, TOPICS, sensors_of(snapshot))
    for name, seen in ({"camera": DETECTS} if cameras is None else cameras).items():
        entities.update(camera_entities(HOME, TOPICS, name, seen))
    message = to_message(HOME, TOPICS, entities, "0.6.0")
    assert message.retain
    found: dict[str, Any] = json.loads(message.payload)
    return found


def test_the_device_is_described() -> None:
    found = described()
    assert HOME.topic == "homeassistant/device/edge-mnv2-bench/config"
    assert found["device"]["identifiers"] == ["edge-mnv2-bench"]
    assert found["device"]["name"] == "Work bench"
    assert found["device"]["sw_version"] == found["origin"]["sw_version"] == "0.6.0"
    assert found["origin"]["name"] == "edge-mnv2"
    assert found["availability"] == [{"topic": "edge-mnv2/bench/availability"}]


@pytest.mark.parametrize("task", ["detect", "segment", "classify"])
def test_every_entity_has_what_home_assistant_wants(task: str) -> None:
    cameras = {"front door": SeenBy(task, ("person",)), "front_door": SeenBy(task, ("person", "dog"))}
    entities = described(cameras=cameras)["components"]
    assert len({entity["unique_id"] for entity in entities.values()}) == len(entities)
    assert len({entity["name"] for entity in entities.values()}) == len(entities)
    for key, entity in entities.items():
        assert re.fullmatch(r"[A-Za-z0-9_-]+", key)
        assert entity.keys() >= REQUIRED
        assert entity["platform"] in {"sensor", "binary_sensor"}
        kind = entity.get("device_class")
        if entity["platform"] == "binary_sensor":
            assert kind is None or kind in BINARY_CLASSES
            assert "unit_of_measurement" not in entity
        elif kind is not None:
            assert entity["unit_of_measurement"] in UNITS[kind]
        if "expire_after" in entity:
            assert isinstance(entity["expire_after"], int)
            assert entity["expire_after"] > HOME.telemetry_s


def test_persons_power_heat_rate_and_classes_are_there() -> None:
    entities = described()["components"]
    assert set(entities) == {
        *("fps", "power", "energy", "temperature", "throttled", "camera_connected", "camera_persons"),
        *("camera_seen_person", f"camera_seen_{identifier(DETECTS.classes[1])}"),
    }
    assert entities["power"]["unit_of_measurement"] == "W"
    assert entities["energy"]["state_class"] == "total_increasing"
    assert entities["camera_persons"]["name"] == "Persons"
    assert entities["camera_connected"]["device_class"] == "connectivity"
    assert entities["camera_seen_person"]["device_class"] == "occupancy"
    # What a camera sees means nothing while it is away.
    assert entities["camera_seen_person"]["availability_mode"] == "all"
    topics = [source["topic"] for source in entities["camera_seen_person"]["availability"]]
    assert topics == ["edge-mnv2/bench/availability", "edge-mnv2/bench/camera/state"]


def test_a_sensor_that_tells_nothing_has_no_entity() -> None:
    assert set(described(BARE)["components"]) & {"power", "energy", "temperature", "throttled"} == set()


def test_persons_count_where_the_model_knows_them_whatever_has_a_binary_sensor() -> None:
    labels = ["person", "dog"]
    seen = SeenBy.of("detect", ["dog", "zebra", "dog"], labels)
    assert seen.classes == ("dog",)
    entities = described(cameras={"camera": seen})["components"]
    assert "camera_seen_person" not in entities
    assert entities["camera_persons"]["value_template"] == "{{ value_json.counts.person | default(0) }}"
    for other in (SeenBy.of("detect", ["dog"], ["dog"]), SeenBy.of("segment", ["dog"], labels)):
        assert "camera_persons" not in described(cameras={"camera": other})["components"]


def test_several_cameras_have_their_own_names_and_rates() -> None:
    entities = described(cameras={"door": DETECTS, "gate": DETECTS})["components"]
    assert entities["door_persons"]["name"] == "door persons"
    assert (
        entities["gate_fps"]["value_template"]
        == '{{ value_json.cameras.get("gate", {}).fps | default(None) }}'
    )


def test_what_has_gone_is_taken_back_once() -> None:
    old = to_message(HOME, TOPICS, camera_entities(HOME, TOPICS, "gate", DETECTS), "0.5.0")
    new = to_message(HOME, TOPICS, camera_entities(HOME, TOPICS, "door", DETECTS), "0.6.0")
    gone = without_gone(new, old.payload)
    assert gone is not None
    assert not gone.retain
    components = json.loads(gone.payload)["components"]
    assert components["gate_persons"] == {"platform": "sensor"}
    assert components["gate_connected"] == {"platform": "binary_sensor"}
    assert "state_topic" in components["door_persons"]
    assert without_gone(new, new.payload) is None


@pytest.mark.parametrize(
    "before", [b"", b"\xff", b"[]", b"3", b'{"components": 3}', b'{"components": {"a": 1}}', b"[" * 100_000]
)
def test_whatever_the_broker_has_kept_does_no_harm(before: bytes) -> None:
    assert without_gone(Message("topic", b'{"components": {}}', retain=True), before) is None
    assert components_of(before) == {}


def test_identifiers_stay_apart() -> None:
    names = ["front door", "front_door", "front-door", "tür", "tor", "t\udcffr", "..", "日本"]
    found = [identifier(name) for name in names]
    assert len(set(found)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", text) for text in found)
