"""What the daemon tells the world: metrics and MQTT, at once, as configured, and until its end."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest

from tests.daemon.daemon_process import Daemon
from tests.daemon.test_service import ONE, daemon
from tests.mqtt.broker import Broker
from tests.mqtt.conftest import broker

__all__ = ["broker", "daemon"]  # fixtures


def text_of(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - http
        return str(answer.read(), "utf-8")


def sample(metrics: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
    assert found is not None, metrics
    return float(found[1])


def test_prometheus_scrapes_a_port_of_its_own(daemon: Daemon) -> None:
    pytest.importorskip("prometheus_client")
    daemon.start({**ONE, "metrics": "127.0.0.1:0"})
    daemon.hear("READY=1")
    url = re.search(r"metrics: (http://\S+)", daemon.log())
    assert url is not None
    first = sample(text_of(url[1]), 'edge_mnv2_results_total{camera="camera"}')
    daemon.wait_until(
        lambda: sample(text_of(url[1]), 'edge_mnv2_results_total{camera="camera"}') > first, "results"
    )
    daemon.reload(ONE)
    with pytest.raises(OSError, match="refused"):
        text_of(url[1])
    assert daemon.end() == 0


def test_the_live_view_has_metrics_too(daemon: Daemon) -> None:
    pytest.importorskip("prometheus_client")
    daemon.start({**ONE, "web": "127.0.0.1:0"})
    daemon.hear("READY=1")
    url = re.search(r"live view: (http://\S+)", daemon.log())
    assert url is not None
    assert sample(text_of(f"{url[1]}metrics"), 'edge_mnv2_camera_up{camera="camera"}') == 1
    assert daemon.end() == 0


def test_mqtt_has_results_telemetry_and_a_last_word(broker: Broker, daemon: Daemon) -> None:
    listener = broker.listen("#")
    mqtt = {"host": "127.0.0.1", "port": broker.port, "device": "bench", "telemetry_s": 1}
    daemon.start({**ONE, "mqtt": mqtt})
    daemon.hear("READY=1")
    assert listener.topic("edge-mnv2/bench/availability").payload == "online"
    record = listener.topic("edge-mnv2/bench/camera/result").json
    assert record["model"] == "ssdlite-mnv2-coco"
    telemetry = listener.wait_for(
        lambda message: message.topic.endswith("/telemetry") and json.loads(message.payload)["fps"]
    )
    assert telemetry.json["cameras"]["camera"]["state"] == "live"
    listener.wait_for(
        lambda message: (
            message.topic == "homeassistant/device/edge-mnv2-bench/config"
            and any("person" in name for name in message.json["components"])
        )
    )
    listener.forget()
    daemon.reload({**ONE, "mqtt": mqtt, "source": "test://?size=160x120&fps=9"})
    listener.wait_for(
        lambda message: message.topic.endswith("/result") and message.json["image"]["width"] == 160
    )
    assert daemon.end() == 0
    listener.wait_for(
        lambda message: (message.topic.endswith("availability"), message.payload) == (True, "offline")
    )


def test_a_killed_daemon_is_offline_by_its_last_will(broker: Broker, daemon: Daemon) -> None:
    listener = broker.listen("edge-mnv2/bench/availability")
    daemon.start({**ONE, "mqtt": {"host": "127.0.0.1", "port": broker.port, "device": "bench"}})
    listener.wait_for(lambda message: message.payload == "online")
    daemon.end(9)
    listener.wait_for(lambda message: message.payload == "offline")


def test_a_broker_that_is_away_hinders_nobody(daemon: Daemon, broker: Broker) -> None:
    broker.stop()
    daemon.start({**ONE, "mqtt": {"host": "127.0.0.1", "port": broker.port, "device": "bench"}})
    daemon.hear("READY=1")
    broker.start()
    listener = broker.listen("edge-mnv2/bench/camera/result")
    listener.wait_for(lambda message: message.json["seq"] >= 0)
    assert daemon.end() == 0
