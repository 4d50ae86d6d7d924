"""Idle power: measured over a while, remembered per sensor."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_mnv2.readings import PowerReading, Reading
from edge_mnv2.telemetry.idle_power import (
    IdlePower,
    idle_power_path,
    measure_idle,
    recall_idle,
    remember_idle,
)
from tests.telemetry import trees

IDLE = IdlePower(2.5, 60.0, 0.01, "2026-01-01T00:00:00+00:00")


class Device:
    """Power by second, as a test wants it; time passes by waiting alone."""

    def __init__(self, power_w: Callable[[float], float | None], stop_at_s: float = 1e9) -> None:
        self.now_s = 1000.0
        self.power_w = power_w
        self.stop_at_s = stop_at_s
        self.seconds: list[int] = []
        self.shares = [0.9, 0.07]

    def read(self) -> PowerReading:
        return PowerReading(Reading(self.power_w(self.now_s - 1000), "measured", "x"), "board")

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        return self.now_s - 1000 < self.stop_at_s

    def measure(self, seconds: float) -> IdlePower | None:
        return measure_idle(
            self.read,
            seconds,
            self.wait,
            self.seconds.append,
            lambda: self.shares.pop(0),
            lambda: round(self.now_s * 1e9),
        )


def test_the_mean_over_the_time() -> None:
    device = Device(lambda at_s: 2.0 + 0.1 * at_s)
    found = device.measure(10)
    assert found is not None
    assert found.power_w == pytest.approx(2.5)
    assert found.span_s == pytest.approx(10)
    assert found.cpu_share == 0.07  # of the time measured, not of what was before
    assert found.measured_at.endswith("+00:00")
    assert device.seconds == list(range(11))


def test_an_interrupted_one_is_none() -> None:
    assert Device(lambda _: 2.0, stop_at_s=5).measure(10) is None


@pytest.mark.parametrize(("known_s", "is_enough"), [(3, False), (7, True)])
def test_the_sensor_must_have_told_power_for_most_of_it(known_s: float, is_enough: bool) -> None:
    found = Device(lambda at_s: 2.0 if at_s <= known_s else None).measure(10)
    assert (found is not None) == is_enough


def test_it_is_remembered_beside_that_of_other_sensors(tmp_path: Path) -> None:
    path = tmp_path / "new" / "idle-power.json"
    assert recall_idle("INA3221 VDD_IN", path) is None
    remember_idle("INA3221 VDD_IN", IDLE, path)
    other = IdlePower(4.0, 60.0, None, "2026-01-02T00:00:00+00:00")
    remember_idle("ina219 1-0041", other, path)
    assert recall_idle("INA3221 VDD_IN", path) == IDLE
    assert recall_idle("ina219 1-0041", path) == other
    assert recall_idle("battery", path) is None
    assert [file.name for file in path.parent.iterdir()] == ["idle-power.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"x": 3}',
        b'{"x": null}',
        b'{"x": {"power_w": "2"}}',
        json.dumps({"x": {"power_w": "2", "span_s": 1, "cpu_share": None, "measured_at": ""}}).encode(),
        json.dumps({"x": {"power_w": -2, "span_s": 1, "cpu_share": None, "measured_at": ""}}).encode(),
        json.dumps({"x": {"power_w": float("nan"), "span_s": 1, "cpu_share": 0, "measured_at": ""}}).encode(),
    ],
)
def test_a_damaged_file_is_unknown_and_says_so_and_is_mended_by_the_next(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "idle-power.json"
    path.write_bytes(content)
    assert recall_idle("x", path) is None
    (message,) = (record.getMessage() for record in caplog.records)
    assert "edge-mnv2 power --idle" in message
    remember_idle("x", IDLE, path)
    assert recall_idle("x", path) == IDLE


def test_a_file_that_cannot_be_written_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "file" / "idle-power.json"
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        remember_idle("x", IDLE, path)
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away: run the tests as root, too")
def test_what_root_measures_is_known_to_the_service_whatever_the_umask() -> None:
    service = 65534
    with trees.open_folder() as folder:
        os.chown(folder, service, service)
        path = folder / "idle-power.json"
        umask = os.umask(0o077)
        try:
            remember_idle("x", IDLE, path)
            remember_idle("y", IDLE, path)
        finally:
            os.umask(umask)
        status = path.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o644, service, service)
        with trees.ordinary_user():
            assert recall_idle("x", path) == IDLE
            remember_idle("x", IdlePower(3.0, 60.0, None, ""), path)


def test_it_is_readable_by_all_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "idle-power.json"
    umask = os.umask(0o077)
    try:
        remember_idle("x", IDLE, path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_the_default_place_is_the_users_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert idle_power_path() == tmp_path / ".local/state/edge-mnv2/idle-power.json"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert idle_power_path() == tmp_path / "state/edge-mnv2/idle-power.json"
    remember_idle("x", IDLE)
    assert recall_idle("x") == IDLE
