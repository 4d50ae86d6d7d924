"""The unit file, as systemd's own tools judge it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.daemon.machine import CHECKOUT

UNIT = CHECKOUT / "configs/systemd/edge-mnv2.service"
# The scale is 0 to 10; in the tool's argument it is 0 to 100.
MOST_EXPOSURE = 25


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("no systemd-analyze here: apt-get install systemd")
    return found


def test_every_line_is_known_to_systemd(analyze: str, tmp_path: Path) -> None:
    # The program of the unit is not installed here; its mistakes are told on standard error alone.
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_is_exposed_little(analyze: str) -> None:
    command = [analyze, "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Overall exposure level for edge-mnv2.service: [0-2]\.\d", done.stdout)


def test_it_keeps_what_cameras_and_gpu_need() -> None:
    lines = UNIT.read_text().splitlines()
    assert not any(line.startswith("PrivateDevices=") for line in lines)
    for device in ("char-video4linux", "char-media", "char-drm", "char-nvidia*"):
        assert f"DeviceAllow={device} rw" in lines
    # Cameras on the network, and udev's socket, by which libcamera finds its own.
    families = next(line for line in lines if line.startswith("RestrictAddressFamilies="))
    assert {"AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"} <= set(families.partition("=")[2].split())
    assert any("ORT_DISABLE_TELEMETRY=1" in line for line in lines)


def test_it_never_gives_up_and_does_not_spin() -> None:
    lines = UNIT.read_text().splitlines()
    assert "Restart=always" in lines
    assert "StartLimitIntervalSec=0" in lines
    pause = next(line for line in lines if line.startswith("RestartSec="))
    assert float(pause.partition("=")[2]) >= 2
