"""Metrics as Prometheus reads them: names, types, units, and nothing that is not known."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from edge_mnv2.metrics.exposition import exposition
from edge_mnv2.readings import DeviceReading, Energy, Reading, Snapshot, Throttling
from tests.metrics.snapshots import BARE, DOOR, FULL, FULL_DEVICE, START

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
Sample = tuple[str, tuple[tuple[str, str], ...]]


def samples(snapshot: Snapshot) -> dict[Sample, float]:
    text = exposition(snapshot)[0].decode()
    found = [sample for family in parse_text(text) for sample in family.samples]
    table = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in found}
    assert len(table) == len(found)
    return table


def test_values_have_base_units_and_their_labels() -> None:
    found = samples(FULL)
    door = ("camera", "door")
    assert found["edge_mnv2_results_total", (door,)] == 1234
    assert found["edge_mnv2_results_per_second", (door,)] == 12.5
    assert found["edge_mnv2_frame_age_seconds", (door, ("percentile", "95"))] == 0.035
    stage = (door, ("percentile", "50"), ("stage", "infer"))
    assert found["edge_mnv2_stage_seconds", stage] == 0.008
    assert found["edge_mnv2_drops_total", (door, ("cause", "jsonl /data/a b.jsonl"))] == 1
    assert found["edge_mnv2_objects", (door, ("label", "person"))] == 2
    source = (("kind", "measured"), ("scope", "board"), ("source", "INA3221 VDD_IN"))
    assert found["edge_mnv2_power_watts", source] == 9.25
    assert found["edge_mnv2_rail_power_watts", (("rail", "VDD_IN"),)] == 9.25
    assert found["edge_mnv2_energy_joules_total", ()] == 1850
    assert found["edge_mnv2_energy_known_seconds_total", ()] == 200
    assert found["edge_mnv2_frame_energy_joules", ()] == pytest.approx(0.74)
    assert found["edge_mnv2_frame_energy_above_idle_joules", ()] == pytest.approx(0.4)
    assert found["edge_mnv2_temperature_celsius", (("zone", "gpu-thermal"),)] == -3
    assert found["edge_mnv2_clock_hertz", (("part", "cpu"),)] == 1.5104e9
    assert found["edge_mnv2_resident_memory_bytes", ()] == 128.5 * 2**20
    assert found["edge_mnv2_start_time_seconds", ()] == START.timestamp()
    assert found["edge_mnv2_throttled", (("condition", "under-voltage"),)] == 1
    assert found["edge_mnv2_throttled", (("condition", "throttled"),)] == 0
    assert found["edge_mnv2_throttling_events_total", (("event", "oc1"),)] == 3
    assert found["edge_mnv2_power_mode_info", (("mode", "15W"),)] == 1


def test_a_camera_is_in_one_state_and_shows_nothing_while_it_is_away() -> None:
    found = samples(FULL)
    states = {labels: value for (name, labels), value in found.items() if name == "edge_mnv2_camera_state"}
    assert len(states) == 12
    assert {dict(labels)["edge_mnv2_camera_state"] for labels, value in states.items() if value} == {
        "live",
        "lost",
    }
    assert found["edge_mnv2_camera_up", (("camera", "door"),)] == 1
    assert found["edge_mnv2_camera_up", (("camera", "gate"),)] == 0
    assert not [
        labels for (name, labels) in found if name == "edge_mnv2_objects" and ("camera", "gate") in labels
    ]


def test_what_is_unavailable_is_absent_and_never_0() -> None:
    names = {name for name, _ in samples(BARE)}
    assert names == {
        "edge_mnv2_build_info",
        "edge_mnv2_start_time_seconds",
        "edge_mnv2_results_total",
        "edge_mnv2_camera_up",
        "edge_mnv2_camera_state",
        "edge_mnv2_camera_losses_total",
        "edge_mnv2_camera_info",
    }
    text = exposition(BARE)[0].decode()
    assert not {line.split()[2] for line in text.splitlines() if line.startswith("#")} - names


def test_no_throttling_is_told_from_nobody_knows() -> None:
    fine = replace(FULL, device=replace(FULL_DEVICE, throttling=Throttling(sensor="get_throttled")))
    assert samples(fine)["edge_mnv2_throttling_conditions", ()] == 0
    assert ("edge_mnv2_throttling_conditions", ()) not in samples(BARE)


def test_numbers_that_are_none_are_left_out() -> None:
    device = DeviceReading(power_w=Reading(math.nan, "measured", "x"), energy=Energy(None, 3.0, math.inf))
    names = {name for name, _ in samples(replace(FULL, device=device))}
    assert not {name for name in names if "power" in name or "energy" in name}


@pytest.mark.parametrize(
    "cause", ['line\nbreak "quoted" \\ back', "jsonl a\udcffb", "größe", "rtsp://u:pw@h/x"]
)
def test_any_text_can_be_a_label_but_no_credentials(cause: str) -> None:
    snapshot = replace(FULL, cameras={"door": replace(DOOR, drops={cause: 7, "rtsp://v:px@h/x": 2})})
    for accept, parse in (("", parse_text), (OPENMETRICS, parse_openmetrics)):
        text = exposition(snapshot, accept)[0].decode("utf-8")
        drops = next(family for family in parse(text) if family.name == "edge_mnv2_drops")
        assert sum(sample.value for sample in drops.samples) == 9
        assert "pw" not in text
        assert "px" not in text


def test_openmetrics_has_types_and_units() -> None:
    body, content_type = exposition(FULL, OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parse_openmetrics(body.decode())}
    expected = {
        "edge_mnv2_results": ("counter", ""),
        "edge_mnv2_energy_joules": ("counter", "joules"),
        "edge_mnv2_energy_known_seconds": ("counter", "seconds"),
        "edge_mnv2_power_watts": ("gauge", "watts"),
        "edge_mnv2_frame_age_seconds": ("gauge", "seconds"),
        "edge_mnv2_busy_ratio": ("gauge", "ratio"),
        "edge_mnv2_camera_state": ("stateset", ""),
        "edge_mnv2_build": ("info", ""),
        "edge_mnv2_camera": ("info", ""),
    }
    found = {name: (families[name].type, families[name].unit) for name in expected}
    assert found == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=x.y", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=2.0.0; escaping=allow-utf-8", "text/plain; version=0.0.4"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=0.0.1,text/plain;q=0.1", "text/plain; version=0.0.4"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
        ("," * 100_000, "text/plain; version=0.0.4"),
    ],
)
def test_the_caller_chooses_the_format(accept: str, expected: str) -> None:
    assert exposition(FULL, accept)[1].startswith(expected)


@pytest.mark.parametrize("snapshot", [FULL, BARE], ids=["full", "bare"])
def test_promtool_has_no_complaint(snapshot: Snapshot) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    body = exposition(snapshot)[0]
    done = subprocess.run(
        [promtool, "check", "metrics"], input=body, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (0, "", "")
