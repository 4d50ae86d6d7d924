"""MQTT against a real broker: topics, loss and return, last will, Home Assistant."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from edge_mnv2.errors import SinkError
from edge_mnv2.mqtt.connection import Retry
from edge_mnv2.mqtt.service import MqttConnection
from edge_mnv2.readings import DeviceEvent, Snapshot
from edge_mnv2.settings_mqtt import MqttSettings
from edge_mnv2.sinks.base import Sink, StateSink
from edge_mnv2.sinks.queued_outlet import QueuedOutlet
from tests.conftest import ROOT
from tests.metrics.snapshots import BARE, FULL
from tests.mqtt.broker import WAIT_S, Arrived, Broker
from tests.samples import LABELS, camera_status, detections, frame_result

PREFIX = "edge-mnv2/bench"
CONFIG = "homeassistant/device/edge-mnv2-bench/config"
QUICK = Retry(0.05, 0.2, 0.2)
BOX = (10, 6, 48, 40)


def settings(broker: Broker, **changes: object) -> MqttSettings:
    values = {"host": "127.0.0.1", "port": broker.port, "device": "bench", "max_per_s": 100, **changes}
    return MqttSettings.model_validate(values)


@contextmanager
def connected(
    broker: Broker,
    read: Callable[[], Snapshot] = lambda: FULL,
    cameras: Collection[str] = (),
    **changes: object,
) -> Iterator[MqttConnection]:
    connection = MqttConnection.start(settings(broker, **changes), read, QUICK, cameras)
    try:
        yield connection
    finally:
        connection.close()
    connection.check()


def add(connection: MqttConnection, name: str = "door") -> StateSink:
    sink = connection.add_camera(name, "detect", LABELS.values()).open(0)
    assert isinstance(sink, StateSink)
    return sink


def write_all(sink: Sink, numbers: range) -> None:
    """Write frames further apart than records are limited to."""
    for number in numbers:
        sink.write(frame_result(number))
        time.sleep(0.011)


def is_online(message: Arrived) -> bool:
    return message.topic == f"{PREFIX}/availability" and message.payload == "online"


def is_offline(message: Arrived) -> bool:
    return message.topic == f"{PREFIX}/availability" and message.payload == "offline"


def test_results_states_and_objects_arrive(broker: Broker) -> None:
    heard = broker.listen(f"{PREFIX}/#")
    with connected(broker) as connection:
        sink = add(connection)
        sink.write(frame_result(7))
        record = heard.topic(f"{PREFIX}/door/result").json
        assert (record["schema"], record["seq"]) == (1, 7)
        assert record["detections"][0]["label"] == "person"
        assert heard.topic(f"{PREFIX}/door/state").json["camera"]["state"] == "live"
        assert heard.topic(f"{PREFIX}/door/objects").json == {
            "counts": {"person": 1},
            "seen": {"person": True},
        }
        sink.show(camera_status("lost"))
        lost = heard.wait_for(lambda message: '"lost"' in message.payload and message.topic.endswith("state"))
        assert lost.json["camera"]["reason"] == "No frame for 2 s."
        told = heard.wait_for(
            lambda message: '"lost"' in message.payload and message.topic.endswith("events")
        )
        assert told.json["camera_name"] == "door"
        heard.wait_for(lambda message: message.topic.endswith("objects") and '"person":0' in message.payload)
        sink.close()
        heard.wait_for(lambda message: '"ended"' in message.payload and message.topic.endswith("state"))
    heard.wait_for(is_offline)


def test_telemetry_says_null_where_nothing_is_known(broker: Broker) -> None:
    heard = broker.listen(f"{PREFIX}/telemetry")
    with connected(broker):
        full = heard.topic(f"{PREFIX}/telemetry").json
    device = full["device"]
    assert device["power_w"] == {"value": 9.25, "kind": "measured", "sensor": "INA3221 VDD_IN"}
    assert device["power"]["rails"][1] == {"name": "VDD_SOC", "power_w": None}
    assert device["throttling"]["now"] == ["under-voltage"]
    assert full["cameras"]["door"]["age"]["p95_ms"] == 35
    assert full["joules_per_frame"] == 0.74
    heard.forget()
    with connected(broker, lambda: BARE):
        bare = heard.topic(f"{PREFIX}/telemetry").json
    device = bare["device"]
    assert device["power_w"]["value"] is device["temperature_c"]["value"] is device["throttling"] is None
    assert bare["fps"] is bare["joules_per_frame"] is None
    assert bare["cameras"]["camera"]["state"] == "opening"


def test_events_of_the_device_arrive(broker: Broker) -> None:
    heard = broker.listen(f"{PREFIX}/events")
    with connected(broker) as connection:
        at = datetime(2026, 1, 1, 12, 3, 11, tzinfo=timezone.utc)
        connection.publish_event(DeviceEvent("under-voltage", True, at, "under-voltage since 12:03:11"))
        event = heard.topic(f"{PREFIX}/events").json
    assert event["event"] == {
        "name": "under-voltage",
        "active": True,
        "text": "under-voltage since 12:03:11",
    }


def test_what_happens_while_the_broker_is_away_is_delivered_in_order(broker: Broker) -> None:
    heard = broker.listen(f"{PREFIX}/+/result", "-c", "-i", "ear")
    with connected(broker, lambda: BARE) as connection:
        sink = add(connection)
        write_all(sink, range(3))
        heard.wait_for(lambda message: message.json["seq"] == 2)
        broker.stop()
        write_all(sink, range(3, 40))
        broker.start()
        heard.wait_for(lambda message: message.json["seq"] == 39)
        write_all(sink, range(40, 43))
        heard.wait_for(lambda message: message.json["seq"] == 42)
    numbers = [message.json["seq"] for message in heard.messages]
    assert sorted(set(numbers)) == list(range(43))
    assert list(dict.fromkeys(numbers)) == sorted(set(numbers))
    assert connection.dropped("door") == 0


def test_the_buffer_is_bounded_and_the_oldest_result_goes(broker: Broker) -> None:
    heard = broker.listen(f"{PREFIX}/+/result", "-c", "-i", "ear")
    broker.stop()
    with connected(broker, lambda: BARE, buffer=10) as connection:
        sink = add(connection)
        write_all(sink, range(25))
        # The event of the camera's state has a place, too.
        assert connection.dropped("door") == 16
        broker.start()
        heard.wait_for(lambda message: message.json["seq"] == 24)
    assert [message.json["seq"] for message in heard.messages] == list(range(16, 25))


def test_a_broker_that_forgot_everything_is_told_again(broker: Broker) -> None:
    broker.lines = ["allow_anonymous true"]
    broker.stop()
    broker.start()
    with connected(broker) as connection:
        add(connection).write(frame_result(0))
        broker.listen(f"{PREFIX}/#").wait_for(is_online)
        broker.stop(hard=True)
        broker.start()
        heard = broker.listen("#")
        heard.wait_for(is_online)
        heard.topic(CONFIG)
        assert heard.topic(f"{PREFIX}/door/objects").json["counts"] == {"person": 1}
        assert heard.topic(f"{PREFIX}/door/state").json["camera"]["state"] == "live"


def test_a_broker_that_is_away_at_the_start_is_one_line_and_no_failure(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.stop()
    with caplog.at_level(logging.INFO), connected(broker) as connection:
        add(connection).write(frame_result(0))
        deadline_s = time.monotonic() + WAIT_S
        while "Connection refused" not in caplog.text:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        broker.start()
        broker.listen(f"{PREFIX}/availability").wait_for(is_online)
    assert caplog.text.count("Connection refused") == 1


def test_the_broker_says_offline_when_the_process_is_killed(broker: Broker) -> None:
    code = (
        "import sys, time\n"
        "from edge_mnv2.mqtt.service import MqttConnection\n"
        "from edge_mnv2.settings_mqtt import MqttSettings\n"
        "from tests.metrics.snapshots import FULL\n"
        "settings = MqttSettings.model_validate_json(sys.argv[1])\n"
        "connection = MqttConnection.start(settings, lambda: FULL)\n"
        "time.sleep(600)\n"
    )
    heard = broker.listen(f"{PREFIX}/availability")
    child = subprocess.Popen(
        [sys.executable, "-c", code, settings(broker).model_dump_json()], cwd=ROOT, env={**os.environ}
    )
    try:
        heard.wait_for(is_online)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait(WAIT_S)
    heard.wait_for(is_offline)
    # Whoever comes later hears it, too.
    assert broker.listen(f"{PREFIX}/availability").wait_for(is_offline).was_kept


def test_close_sends_what_is_left_and_says_goodbye(broker: Broker) -> None:
    heard = broker.listen(f"{PREFIX}/#")
    with connected(broker) as connection:
        sink = add(connection)
        heard.wait_for(is_online)
        write_all(sink, range(20))
        sink.close()
    heard.wait_for(is_offline)
    numbers = [message.json["seq"] for message in heard.messages if message.topic.endswith("/result")]
    assert numbers == list(range(20))
    assert is_offline(heard.messages[-1])
    # No last will on top of it: the broker was told.
    assert [message.payload for message in heard.messages if message.topic.endswith("availability")] == [
        "online",
        "offline",
    ]


def test_close_is_bounded_where_the_broker_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        connection = MqttConnection.start(
            MqttSettings.model_validate({"host": "127.0.0.1", "port": port, "device": "bench"}), lambda: FULL
        )
        accepted, _ = silent.accept()
        began_s = time.monotonic()
        connection.close(0.5)
        assert time.monotonic() - began_s < 10
        accepted.close()


def test_writing_never_waits_while_the_broker_hangs(broker: Broker) -> None:
    with connected(broker, buffer=50) as connection:
        sink = add(connection)
        broker.listen(f"{PREFIX}/availability").wait_for(is_online)
        assert broker._process is not None
        broker._process.send_signal(signal.SIGSTOP)
        try:
            began_s = time.monotonic()
            for number in range(20_000):
                sink.write(frame_result(number, detections((*BOX, 0.9, 1 + number % 2))))
            assert time.monotonic() - began_s < 30
            began_s = time.monotonic()
            connection.close(0.5)
            assert time.monotonic() - began_s < 10
        finally:
            broker._process.send_signal(signal.SIGCONT)


def test_several_cameras_share_a_connection(broker: Broker) -> None:
    heard = broker.listen(f"{PREFIX}/+/result")
    with connected(broker) as connection:
        for name in ("door", "front gate"):
            add(connection, name).write(frame_result(1))
        heard.topic(f"{PREFIX}/door/result")
        heard.wait_for(lambda message: message.topic.startswith(f"{PREFIX}/front"))
        assert connection.add_camera("door", "detect", LABELS.values()) == connection.add_camera(
            "door", "detect", LABELS.values()
        )


def test_home_assistant_is_told_again_when_it_has_started(broker: Broker) -> None:
    heard = broker.listen("homeassistant/device/#")
    with connected(broker) as connection:
        add(connection)
        heard.wait_for(lambda message: "door_persons" in message.payload)
        heard.forget()
        broker.publish("homeassistant/status", "online")
        assert "door_persons" in heard.topic(CONFIG).json["components"]


def test_entities_of_an_earlier_run_are_taken_back(broker: Broker) -> None:
    with connected(broker) as connection:
        add(connection, "gate")
        broker.listen(CONFIG).wait_for(lambda message: "gate_persons" in message.payload)
    heard = broker.listen(CONFIG)
    heard.wait_for(lambda message: "gate_persons" in message.payload)
    heard.forget()
    with connected(broker, cameras=["door"]) as connection:
        add(connection, "door")
        gone = heard.wait_for(
            lambda message: message.json["components"].get("gate_persons") == {"platform": "sensor"}
        )
        position = heard.messages.index(gone)
        heard.wait_for(
            lambda message: (
                message in heard.messages[position + 1 :]
                and "door_persons" in message.payload
                and "gate_persons" not in message.payload
            )
        )
    kept = broker.listen(CONFIG).topic(CONFIG)
    assert kept.was_kept
    assert "gate_persons" not in kept.payload


@pytest.mark.parametrize("is_slow", [True, False])
def test_a_restart_takes_nothing_back_that_is_still_there(broker: Broker, *, is_slow: bool) -> None:
    with connected(broker) as connection:
        add(connection, "door")
        add(connection, "gate")
        first = broker.listen(CONFIG).wait_for(
            lambda message: "door_persons" in message.payload and "gate_persons" in message.payload
        )
    descriptions = broker.listen(CONFIG)
    descriptions.topic(CONFIG)
    descriptions.forget()
    told = broker.listen(f"{PREFIX}/telemetry")
    # The engine opens slowly or at once, and no sensor answers.
    with connected(broker, lambda: BARE, cameras=["door", "gate"], telemetry_s=1) as connection:
        for name in ("door", "gate"):
            if is_slow:
                told.wait_for(lambda _: len(told.messages) >= 4)
                told.forget()
            add(connection, name)
        again = descriptions.topic(CONFIG)
        told.wait_for(lambda _: len(told.messages) >= 4)
    keys = first.json["components"].keys()
    assert {"power", "door_connected", "gate_connected"} <= keys
    assert again.json["components"].keys() == keys
    for message in descriptions.messages:
        forgotten = [key for key in keys if len(message.json["components"].get(key, ())) < 2]
        assert not forgotten


def test_a_camera_that_is_removed_is_not_waited_for(broker: Broker) -> None:
    heard = broker.listen(CONFIG)
    with connected(broker, cameras=["door", "gate"]) as connection:
        add(connection, "door")
        connection.remove_camera("gate")
        assert "gate_connected" not in heard.topic(CONFIG).json["components"]


def test_a_camera_that_is_removed_leaves_nothing_behind(broker: Broker) -> None:
    with connected(broker) as connection:
        sink = add(connection, "gate")
        sink.write(frame_result(0))
        heard = broker.listen("#")
        heard.topic(f"{PREFIX}/gate/state")
        sink.close()
        connection.remove_camera("gate")
        heard.wait_for(lambda message: message.topic == CONFIG and '"gate_' not in message.payload)
    late = broker.listen("#")
    late.wait_for(is_offline)
    late.topic(CONFIG)
    assert not [message for message in late.messages if "gate" in message.topic]


def test_nothing_is_told_to_home_assistant_when_it_is_off(broker: Broker) -> None:
    heard = broker.listen("#")
    with connected(broker, discovery=False) as connection:
        add(connection)
        heard.topic(f"{PREFIX}/telemetry")
    heard.wait_for(is_offline)
    assert not [message for message in heard.messages if message.topic.startswith("homeassistant")]


def test_a_sensor_that_fails_keeps_its_entity(broker: Broker) -> None:
    moments = [FULL, BARE]
    heard = broker.listen(CONFIG)
    with connected(broker, lambda: moments[0]) as connection:
        heard.wait_for(lambda message: '"power"' in message.payload)
        moments.pop(0)
        add(connection)
        found = heard.wait_for(lambda message: "door_persons" in message.payload)
    assert {"power", "temperature", "throttled"} <= set(found.json["components"])


def test_a_reading_that_fails_is_the_sinks_failure(broker: Broker) -> None:
    def read() -> Snapshot:
        raise KeyError("broken")

    connection = MqttConnection.start(settings(broker), read, QUICK)
    sink = add(connection)
    deadline_s = time.monotonic() + WAIT_S
    while connection._connection.error is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    with pytest.raises(SinkError, match="broken"):
        sink.write(frame_result(0))
    connection.close()


def test_results_are_limited_and_can_be_off(broker: Broker) -> None:
    heard = broker.listen(f"{PREFIX}/+/result")
    with connected(broker, max_per_s=0.001) as connection:
        sink = add(connection)
        write_all(sink, range(20))
        other = add(connection, "gate")
        other.write(frame_result(99))
        heard.wait_for(lambda message: message.json["seq"] == 99)
    assert [message.json["seq"] for message in heard.messages] == [0, 99]
    heard.forget()
    with connected(broker, results=False) as connection:
        everything = broker.listen(f"{PREFIX}/+/state")
        add(connection, "hall").write(frame_result(0))
        everything.topic(f"{PREFIX}/hall/state")
    everything.wait_for(lambda message: "hall" in message.topic)
    assert not heard.messages


def test_other_labels_and_texts_survive(broker: Broker) -> None:
    heard = broker.listen(f"{PREFIX}/#")
    snapshot = replace(FULL, cameras={"tür": replace(FULL.cameras["door"], drops={"jsonl a\udcff": 1})})
    with connected(broker, lambda: snapshot, classes=["bicycle", "zebra"]) as connection:
        sink = add(connection, "tür")
        sink.write(frame_result(0, detections((*BOX, 0.9, 2)), origin="rtsp://u:geheim@h/x\udcff"))
        objects = heard.topic(f"{PREFIX}/tür/objects").json
        assert objects == {"counts": {"bicycle": 1}, "seen": {"bicycle": True}}
        telemetry = heard.topic(f"{PREFIX}/telemetry").json
    assert telemetry["cameras"]["tür"]["drops"] == {"jsonl a\udcff": 1}
    assert json.loads(heard.topic(f"{PREFIX}/tür/result").payload)["source"].endswith("\\xff")


def test_behind_a_queued_outlet_the_camera_s_life_is_told(broker: Broker) -> None:
    heard = broker.listen(f"{PREFIX}/events")
    with connected(broker) as connection:
        outlet = QueuedOutlet(connection.add_camera("door", "detect", LABELS.values()))
        outlet.write(camera_status("opening"))
        outlet.write(camera_status("live"))
        outlet.write(frame_result(0))
        outlet.write(camera_status("lost"))
        # A frame that was still on its way does not bring the camera back.
        outlet.write(frame_result(1))
        outlet.close()
        heard.wait_for(lambda message: message.json["camera"]["state"] == "ended")
        assert not outlet.failures
    assert [message.json["camera"]["state"] for message in heard.messages] == [
        "opening",
        "live",
        "lost",
        "ended",
    ]


def test_the_connection_goes_on_where_another_run_of_a_camera_begins(broker: Broker) -> None:
    heard = broker.listen(f"{PREFIX}/door/state")
    with connected(broker) as connection:
        for _ in range(2):
            sink = add(connection)
            sink.write(frame_result(0))
            heard.wait_for(lambda message: message.json["camera"]["state"] == "live")
            heard.forget()
            sink.close()
            heard.wait_for(lambda message: message.json["camera"]["state"] == "ended")


def test_another_model_takes_over_a_camera_that_goes_on(broker: Broker) -> None:
    heard = broker.listen(f"{PREFIX}/+/state")
    with connected(broker, classes=["person", "bicycle"]) as connection:
        old = add(connection)
        old.show(camera_status("lost"))
        spec = connection.add_camera("door", "classify", ["bicycle"])
        new = spec.open(0)
        assert isinstance(new, StateSink)
        old.close()
        new.show(camera_status("lost", is_change=False))
        broker.listen(CONFIG).wait_for(lambda message: "door_class" in message.payload)
        new.close()
        heard.wait_for(lambda message: message.json["camera"]["state"] == "ended")
    assert {message.json["camera"]["state"] for message in heard.messages[:-1]} == {"lost"}
