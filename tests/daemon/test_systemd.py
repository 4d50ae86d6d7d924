"""The unit under a real systemd: start, reload, hang, crash, stop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.daemon.machine import CHECKOUT, Machine, booted, missing, python

UNIT = "edge-mnv2.service"
CONFIG = "/etc/edge-mnv2/edge-mnv2.yaml"
WAIT_S = 60

DROP_IN = f"""
[Service]
ExecStart=
ExecStart={" ".join(python())} -m edge_mnv2 daemon --config {CONFIG} --stuck-after 2
WatchdogSec=2
RestartSec=1
SupplementaryGroups=video
"""

SETTINGS = """
source: test://?size=320x240&fps=20
engine: onnxruntime
precision: fp32
isolation: process
jsonl: /var/lib/edge-mnv2/records.jsonl
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if (why := missing()) is not None:
        pytest.skip(why)
    with booted(tmp_path_factory.mktemp("machine")) as machine:
        machine.run("useradd", "--system", "--user-group", "--no-create-home", "edge-mnv2")
        unit = (CHECKOUT / "configs/systemd" / UNIT).read_text()
        machine.write(f"/etc/systemd/system/{UNIT}", unit)
        machine.write(f"/etc/systemd/system/{UNIT}.d/test.conf", DROP_IN)
        machine.run("systemctl", "daemon-reload")
        yield machine


@pytest.fixture
def service(machine: Machine) -> Iterator[Machine]:
    """The service with fresh settings, active."""
    machine.write(CONFIG, SETTINGS)
    start(machine)
    yield machine
    machine.run("systemctl", "stop", UNIT, check=False)
    machine.run("systemctl", "reset-failed", check=False)


def start(machine: Machine) -> None:
    machine.run("systemctl", "start", UNIT, check=False, timeout_s=WAIT_S)
    assert machine.show(UNIT, "ActiveState") == "active", machine.run("journalctl", "--no-pager", "-n", "40")


def processes(machine: Machine) -> list[str]:
    """Return the processes of the service."""
    listed = machine.run("cat", f"/sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs").split()
    return [number for number in listed if number != "0"]  # that of one which is just ending


def wait_until(is_true: Callable[[], bool], what: str, machine: Machine) -> None:
    end_s = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < end_s, f"{what} never came:\n{machine.journal(UNIT)}"
        time.sleep(0.05)


def test_it_is_active_once_there_was_a_result_and_says_how_it_fares(service: Machine) -> None:
    assert service.show(UNIT, "ActiveState") == "active"
    wait_until(lambda: "FPS" in service.show(UNIT, "StatusText"), "a status", service)
    assert "camera live" in service.show(UNIT, "StatusText")
    records = service.run("cat", "/var/lib/edge-mnv2/records.jsonl").splitlines()
    assert any("detections" in json.loads(line) for line in records)
    # Any user may ask.
    nobody = ("setpriv", "--reuid=nobody", "--clear-groups")
    assert "camera live" in service.run(*nobody, *python(), "-m", "edge_mnv2", "status")


def test_a_reload_follows_good_settings_and_refuses_bad_ones(service: Machine) -> None:
    process = service.show(UNIT, "MainPID")
    service.write(CONFIG, SETTINGS.replace("records.jsonl", "others.jsonl"))
    service.run("systemctl", "reload", UNIT)
    wait_until(
        lambda: "detections" in service.run("cat", "/var/lib/edge-mnv2/others.jsonl", check=False),
        "a record in the new file",
        service,
    )
    service.write(CONFIG, "modl: x\nthreads: -1\n")
    service.run("systemctl", "reload", UNIT)
    wait_until(lambda: "those of before stay" in service.journal(UNIT), "the refusal", service)
    assert "Did you mean model?" in service.journal(UNIT)
    assert "threads: " in service.journal(UNIT)
    assert service.show(UNIT, "ActiveState") == "active"
    assert service.show(UNIT, "MainPID") == process
    assert service.show(UNIT, "NRestarts") == "0"


def test_a_loop_that_hangs_is_aborted_by_the_watchdog_and_started_again(machine: Machine) -> None:
    # A lossless source whose records go into a pipe: when nobody reads any more, the loop hangs in the
    # kernel, as in a driver, while the main thread goes on.
    machine.write(CONFIG, SETTINGS.replace("fps=20", "fps=0").replace("records.jsonl", "pipe"))
    machine.run("install", "-d", "-o", "edge-mnv2", "/var/lib/edge-mnv2")
    machine.run("mkfifo", "--mode=666", "/var/lib/edge-mnv2/pipe")
    reader = "while :; do cat /var/lib/edge-mnv2/pipe > /dev/null; done"
    machine.run("systemd-run", "--unit=reader", "sh", "-c", reader)
    start(machine)
    process = machine.show(UNIT, "MainPID")
    machine.run("systemctl", "kill", "--signal=STOP", "reader")
    wait_until(lambda: machine.show(UNIT, "NRestarts") == "1", "the restart", machine)
    machine.run("systemctl", "kill", "--signal=CONT", "reader")
    wait_until(lambda: machine.show(UNIT, "ActiveState") == "active", "the new process", machine)
    assert machine.show(UNIT, "MainPID") not in ("0", process)
    journal = machine.journal(UNIT)
    assert "nothing moves in: camera" in journal
    assert "Watchdog timeout" in journal
    # Where it hung is in the log.
    assert "Fatal Python error: Aborted" in journal
    assert "text_file.py" in journal
    machine.run("systemctl", "stop", UNIT, "reader")
    machine.run("rm", "/var/lib/edge-mnv2/pipe")


def test_a_killed_daemon_comes_back_and_leaves_no_camera_process(service: Machine) -> None:
    process = service.show(UNIT, "MainPID")
    # The unit reads its camera in a process of its own.
    assert len(processes(service)) == 2
    service.run("kill", "-KILL", process)
    wait_until(lambda: service.show(UNIT, "MainPID") not in ("0", process), "the new process", service)
    wait_until(lambda: service.show(UNIT, "ActiveState") == "active", "the new process", service)
    assert len(processes(service)) == 2


def test_a_stop_ends_it_well(service: Machine) -> None:
    service.run("systemctl", "stop", UNIT)
    assert service.show(UNIT, "Result") == "success"
    assert service.show(UNIT, "ExecMainStatus") == "0"
    assert service.show(UNIT, "ActiveState") == "inactive"
    lines = service.run("cat", "/var/lib/edge-mnv2/records.jsonl").splitlines()
    assert lines
    for line in lines:
        json.loads(line)
