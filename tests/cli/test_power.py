"""`edge-mnv2 power`: in processes of its own with a stand-in for vcgencmd, or with a sensor made here."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_mnv2.cli.app import run_app
from edge_mnv2.readings import PowerReading, Rail, Reading
from edge_mnv2.stop import StopRequest
from edge_mnv2.telemetry import power
from edge_mnv2.telemetry.idle_power import IdlePower, recall_idle, remember_idle
from tests.conftest import Command
from tests.telemetry import trees

NAME = "INA3221 VDD_IN"
KNOWN = PowerReading(Reading(4.0, "measured", NAME), "board", (Rail("VDD_IN", 4.0), Rail("VDD_SOC", None)))


class FakeSensor:
    """Gives its readings one after the other, then the last one again and again."""

    def __init__(self, *readings: PowerReading) -> None:
        self.readings = list(readings)
        self.on_read: Callable[[], None] = lambda: None
        self.closed = 0

    def read(self) -> PowerReading:
        self.on_read()
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]

    def close(self) -> None:
        self.closed += 1


def unavailable(sensor: str, scope: str) -> PowerReading:
    return PowerReading(Reading(sensor=sensor), scope)


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., FakeSensor]:
    """Make a sensor with these readings the device's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def make(*readings: PowerReading) -> FakeSensor:
        sensor = FakeSensor(*readings)
        monkeypatch.setattr(power, "find_power_sensor", lambda: sensor)
        return sensor

    return make


@pytest.fixture
def pi5(tmp_path: Path) -> dict[str, str]:
    """The environment of a process on a Raspberry Pi 5; each question leaves a line in `asked`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "capture").write_text(trees.PMIC_CAPTURE)
    tool = folder / "vcgencmd"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncat {folder}/capture\n')
    tool.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "XDG_STATE_HOME": str(tmp_path / "state")}


def test_json_has_a_line_for_each_reading(
    plug: Callable[..., FakeSensor], capsys: pytest.CaptureFixture[str]
) -> None:
    sensor = plug(KNOWN)
    remember_idle(NAME, IdlePower(1.5, 60.0, 0.0, ""))
    assert run_app(["power", "--json", "--interval", "0.1", "--count", "3"], StopRequest()) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    assert sensor.closed == 1
    last = lines[-1]
    assert (last["power_w"], last["kind"], last["sensor"], last["scope"]) == (4.0, "measured", NAME, "board")
    assert last["rails_w"] == {"VDD_IN": 4.0, "VDD_SOC": None}
    assert last["span_s"] >= 0.2
    assert last["energy_j"] == pytest.approx(4.0 * last["span_s"], abs=0.01)
    assert last["above_idle_j"] == pytest.approx(2.5 * last["span_s"], abs=0.01)
    assert lines[0]["energy_j"] == 0.0


def test_lines_where_there_is_no_terminal(
    plug: Callable[..., FakeSensor], capsys: pytest.CaptureFixture[str]
) -> None:
    plug(KNOWN, KNOWN, unavailable(NAME, "board"))
    assert run_app(["power", "-i", "0.1", "-n", "2"], StopRequest()) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert f"  4.000 W  {NAME} (measured, board)  energy 0.0 J (0.0000 Wh) in 0.0 s  " in first
    assert first.endswith("VDD_IN 4.000 W, VDD_SOC unavailable")
    assert f"  unavailable  {NAME} (unavailable, board)  energy 0.0 J" in second


def test_no_sensor_is_a_failure_that_says_what_would_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(power, "find_power_sensor", lambda: None)
    monkeypatch.setattr(power, "why_no_power", lambda: ["This board has none.", "Try that."])
    assert run_app(["power", "--json"], StopRequest()) == 1
    printed = capsys.readouterr()
    nothing = json.loads(printed.out)
    assert (nothing["power_w"], nothing["kind"], nothing["energy_j"]) == (None, "unavailable", None)
    assert printed.err.splitlines() == [
        "edge-mnv2: error: power is unavailable. This board has none.",
        "edge-mnv2: error: power is unavailable. Try that.",
    ]


def test_a_battery_that_is_charged_all_the_time(
    plug: Callable[..., FakeSensor], capsys: pytest.CaptureFixture[str]
) -> None:
    plug(unavailable("battery", "battery"))
    assert run_app(["power", "-i", "0.1", "-n", "2"], StopRequest()) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert "energy unavailable" in printed.out
    assert printed.err == (
        "edge-mnv2: error: power was unavailable all the time: a battery tells what the device takes only "
        "while it discharges. Unplug the charger.\n"
    )


def test_a_stop_ends_it_as_done(plug: Callable[..., FakeSensor], capsys: pytest.CaptureFixture[str]) -> None:
    sensor, stop = plug(KNOWN), StopRequest()
    asked = iter([lambda: None, lambda: None, stop.event.set])
    sensor.on_read = lambda: next(asked)()  # noqa: PLW0108 - another one each time
    assert run_app(["power", "--interval", "0.1"], stop) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert sensor.closed == 1


def test_idle_is_measured_and_remembered_and_a_busy_processor_is_told(
    plug: Callable[..., FakeSensor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from edge_mnv2.telemetry.load import CpuLoad

    plug(KNOWN)
    monkeypatch.setattr(CpuLoad, "read_share", lambda self: 0.345)
    path = tmp_path / "idle.json"
    assert run_app(["power", "--idle", "2", "--idle-file", str(path), "--json"], StopRequest()) == 0
    found = recall_idle(NAME, path)
    assert found is not None
    assert (found.power_w, found.cpu_share) == (pytest.approx(4.0), 0.345)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["power_w"] == 4.0
    assert "warning: The processor was 34 % busy meanwhile: that is not idle." in printed.err


def test_an_idle_measurement_without_power_remembers_nothing(
    plug: Callable[..., FakeSensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plug(unavailable("battery", "battery"))
    path = tmp_path / "idle.json"
    assert run_app(["power", "--idle", "2", "--idle-file", str(path)], StopRequest()) == 1
    assert "Unplug the charger." in capsys.readouterr().err
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_named(
    plug: Callable[..., FakeSensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plug(KNOWN)
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "idle.json"
    assert run_app(["power", "--idle", "2", "--idle-file", str(path)], StopRequest()) == 1
    assert f"Idle power cannot be remembered in {path}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--interval", "0"], ["--count", "0"], ["--idle", "1"], ["--idle=x"], ["--idle", "5", "--count", "2"]],
)
def test_wrong_requests(arguments: list[str], plug: Callable[..., FakeSensor]) -> None:
    plug(KNOWN)
    assert run_app(["power", *arguments], StopRequest()) == 2


def test_a_process_on_a_raspberry_pi_5(command: Command, pi5: dict[str, str]) -> None:
    done = command("power", "--json", "--count", "2", "--interval", "0.1", env=pi5)
    assert (done.returncode, done.stderr) == (0, "")
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["power_w"] == pytest.approx(2.764, abs=1e-3)
    assert (last["kind"], last["sensor"]) == ("estimated", "Raspberry Pi 5 PMIC, calibrated")
    assert sum(last["rails_w"].values()) == pytest.approx(1.9005, abs=1e-3)


def start(pi5: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge_mnv2", "power", *arguments],
        env=pi5,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_ends_the_live_view_as_done(pi5: dict[str, str]) -> None:
    process = start(pi5)
    assert process.stdout is not None
    assert " W  " in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_ctrl_c_ends_an_idle_measurement_that_is_not_remembered(pi5: dict[str, str], tmp_path: Path) -> None:
    process = start(pi5, "--idle", "--idle-file", str(tmp_path / "idle.json"))
    deadline_s = time.monotonic() + 30
    while not (tmp_path / "asked").exists() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (
        *(1,),
        "edge-mnv2: error: interrupted: idle power is not remembered.\n",
    )
    assert not (tmp_path / "idle.json").exists()


def test_a_reader_that_goes_away_is_no_traceback(pi5: dict[str, str]) -> None:
    process = start(pi5, "--interval", "0.1")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 1
    assert "Traceback" not in errors


def test_a_terminal_shows_a_table(pi5: dict[str, str]) -> None:
    main, other = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_mnv2", "power", "--count", "2", "--interval", "0.1"],
        env={**pi5, "TERM": "xterm", "COLUMNS": "100"},
        stdout=other,
        stderr=other,
    )
    os.close(other)
    shown = b""
    while True:
        try:
            piece = os.read(main, 4096)
        except OSError:  # the terminal's answer once its last process ended
            break
        if not piece:
            break
        shown += piece
    os.close(main)
    assert process.wait(timeout=30) == 0
    text = shown.decode()
    for word in ("2.764 W (estimated, board)", "Raspberry Pi 5 PMIC, calibrated", "VDD_CORE", "0.682 W"):
        assert word in text
    assert "sum of the rails, measured" in text
    assert "1.901 W" in text
