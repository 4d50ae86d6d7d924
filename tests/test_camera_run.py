"""What comes to a camera's loop from the side: events, readings of the device."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timezone
from pathlib import Path

import pytest

from edge_mnv2.camera_run import CameraRun, Surroundings
from edge_mnv2.config import read_config
from edge_mnv2.event_hub import EventHub
from edge_mnv2.predictor import PredictorOptions, open_predictor
from edge_mnv2.readings import DeviceEvent, DeviceReading, Reading, Throttling

HOT = DeviceReading(
    temperature_c=Reading(81.26, "measured", "cpu-thermal"),
    power_w=Reading(5.0449, "estimated", "PMIC"),
    throttling=Throttling(frozenset({"throttled"})),
)
EVENT = DeviceEvent(
    "under-voltage",
    is_active=True,
    at=datetime(2026, 1, 1, 12, 3, 11, tzinfo=timezone.utc),
    text="under-voltage since 12:03:11",
)


@pytest.mark.parametrize(
    "source", ["test://?size=160x120&fps=0&frames=4", "test://?size=160x120&fps=30&frames=9"]
)
def test_events_and_readings_are_in_the_records(tmp_path: Path, source: str) -> None:
    events = EventHub()
    out = tmp_path / "out.jsonl"
    settings = read_config(None, {"source": source, "jsonl": out, "isolation": "thread"}).each_camera()[""]
    told = threading.Event()

    def tell(done: int, total: int | None) -> None:
        if not told.is_set():
            told.set()
            events.tell(EVENT)

    run = CameraRun("", settings, threading.Event(), Surroundings(tell, lambda: HOT, events))
    predictor = open_predictor("ssdlite-mnv2-coco", PredictorOptions(engine="onnxruntime", precision="fp32"))
    try:
        run.loop(predictor, run.sinks_for([], []))
    finally:
        run.close()
        predictor.close()
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["event"] for record in records if "event" in record] == [
        {"name": "under-voltage", "active": True, "text": "under-voltage since 12:03:11"}
    ]
    devices = [record["device"] for record in records if "detections" in record]
    assert devices
    assert all(
        device == {"power_w": 5.045, "power": "estimated", "temperature_c": 81.3, "throttled": ["throttled"]}
        for device in devices
    )
    # Whoever has ended hears nothing any more, and holds nobody.
    events.tell(EVENT)
    assert run.control.events.take() == []


def test_a_listener_that_fails_hinders_no_other(caplog: pytest.LogCaptureFixture) -> None:
    events, heard = EventHub(), []

    def fail(event: DeviceEvent) -> None:
        raise ValueError("no")

    events.add(fail)
    remove = events.add(heard.append)
    events.tell(EVENT)
    assert heard == [EVENT]
    assert "under-voltage since 12:03:11" in caplog.text
    remove()
    events.tell(EVENT)
    assert heard == [EVENT]
