"""`edge-mnv2 cameras`: in processes of its own, or with devices that are only said to be there."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from camera import listing
from camera.device_users import DeviceUser
from camera.listing import ListedCamera
from camera.v4l2_modes import Mode
from edge_mnv2.cli.app import run_app
from edge_mnv2.stop import StopRequest
from tests.conftest import Command

WEBCAM = ListedCamera(
    uri="/dev/video0",
    name="HD Webcam",
    driver="uvcvideo",
    bus="usb-0000:01:00.0-1.2",
    link="/dev/v4l/by-id/usb-046d_HD_Webcam-video-index0",
    modes=(
        Mode("YUYV", 640, 480, (30.0,)),
        Mode("MJPG", 1280, 720, (60.0,)),
        Mode("MJPG", 1920, 1080, (30.0,)),
    ),
    users=(DeviceUser(71, "mpv"),),
)
LOCKED = ListedCamera("/dev/video2", "Locked", "", "", problem="no permission: sudo usermod -aG video $USER")


@pytest.fixture
def present(monkeypatch: pytest.MonkeyPatch) -> list[ListedCamera]:
    found = [WEBCAM, LOCKED]
    monkeypatch.setattr(listing, "list_cameras", lambda: tuple(found))
    return found


@pytest.mark.usefixtures("present")
def test_cameras_are_listed_in_a_table_and_their_uris_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["cameras"], StopRequest()) == 0
    printed = capsys.readouterr().out
    for word in ("HD Webcam", "uvcvideo", "MJPG up to 1920x1080 at 30", "YUYV up to 640x480 at 30"):
        assert word in printed
    assert "in use by mpv (pid 71)" in printed
    lines = printed.splitlines()
    assert "/dev/video0" in lines  # nothing beside it: it can be copied whole
    assert any(line.startswith("/dev/v4l/by-id/usb-046d_HD_Webcam-video-index0 ") for line in lines)
    assert "/dev/video2: no permission: sudo usermod -aG video $USER" in lines


@pytest.mark.usefixtures("present")
def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["cameras", "--json"], StopRequest()) == 0
    webcam, locked = json.loads(capsys.readouterr().out)
    assert (webcam["uri"], webcam["usable"], webcam["used_by"]) == (
        *("/dev/video0", True),
        [{"pid": 71, "name": "mpv"}],
    )
    assert webcam["modes"][1] == {
        "format": "MJPG",
        "width": 1280,
        "height": 720,
        "smallest": None,
        "fps": [60.0],
    }
    assert (locked["usable"], locked["problem"]) == (False, LOCKED.problem)


def test_none_is_no_failure(present: list[ListedCamera], capsys: pytest.CaptureFixture[str]) -> None:
    present.clear()
    assert run_app(["cameras"], StopRequest()) == 0
    assert capsys.readouterr().out.startswith("No camera was found. Plug in a USB camera")
    assert run_app(["cameras", "--json"], StopRequest()) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_this_machine_can_be_asked(command: Command) -> None:
    done = command("cameras", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert isinstance(json.loads(done.stdout), list)


def test_probe_measures_a_camera(command: Command) -> None:
    done = command("cameras", "probe", "test://?size=64x48&fps=50", "--seconds", 1, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    assert seen["fps"] == pytest.approx(50, rel=0.15)
    assert (seen["live"], seen["nominal_fps"], seen["sizes"], seen["problems"]) == (True, 50, [[64, 48]], [])


def test_probe_prints_what_it_saw(command: Command, clip: Path) -> None:
    done = command("cameras", "probe", clip, "--seconds", 0.5)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("first frame", "800x450", "decoded per second", "nominal fps", "No problem was found."):
        assert word in done.stdout
    assert "interval" not in done.stdout


def test_probe_of_pictures_finds_no_fault_with_their_sizes(command: Command, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    for side in (10, 20):
        cv2.imwrite(str(tmp_path / f"{side}.png"), np.zeros((side, side, 3), np.uint8))
    done = command("cameras", "probe", tmp_path, "--json")
    seen = json.loads(done.stdout)
    assert (done.returncode, seen["problems"], seen["sizes"]) == (0, [], [[10, 10], [20, 20]])
    assert seen["fps"] is None
    assert seen["decoded_per_s"] > 0


@pytest.mark.parametrize(
    ("uri", "code", "message"),
    [
        ("/dev/video251", 2, "There is no camera /dev/video251"),
        ("tset://", 2, "Did you mean test://"),
        ("0?size=12", 2, "size=12 is wrong"),
        ("test.mp4", 1, "test.mp4"),
    ],
)
def test_probe_tells_a_wrong_request_from_a_failure(
    command: Command, tmp_path: Path, uri: str, code: int, message: str
) -> None:
    (tmp_path / "test.mp4").write_bytes(b"no video")
    done = command("cameras", "probe", uri)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert message in done.stderr


def test_probe_reports_a_problem_with_code_1(command: Command, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(b"no picture")
    done = command("cameras", "probe", pictures)
    assert done.returncode == 1, done.stderr
    assert "problem: No frame came." in done.stdout
    assert "problem: 1 frame could not be decoded: check the file." in done.stdout


def test_ctrl_c_ends_a_probe_with_what_was_seen(tmp_path: Path) -> None:
    code = (
        "import sys, camera.measure as m\n"
        "add = m._Tally.add\n"
        "def told(*a): add(*a); print('frame', file=sys.stderr, flush=True)\n"
        "m._Tally.add = told\n"
        "from edge_mnv2.__main__ import main\n"
        "sys.argv = ['edge-mnv2', 'cameras', 'probe', 'test://?fps=20', '--seconds', '600']\n"
        "sys.exit(main())"
    )
    probe = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert probe.stderr is not None
        for _ in range(25):  # the first second is not measured
            assert probe.stderr.readline() == "frame\n"
        probe.send_signal(signal.SIGINT)
        printed, _ = probe.communicate(timeout=60)
    finally:
        probe.kill()
        probe.wait()
    assert probe.returncode == 0
    assert "age at arrival" in printed


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_ctrl_c_ends_a_probe_of_a_camera_that_takes_the_call_and_never_speaks(
    scheme: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        uri = f"{scheme}://127.0.0.1:{server.getsockname()[1]}/cam"
        probe = subprocess.Popen(
            [sys.executable, "-m", "edge_mnv2", "cameras", "probe", uri],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        try:
            call, _ = server.accept()
            with call:
                probe.send_signal(signal.SIGINT)
                printed, said = probe.communicate(timeout=60)
        finally:
            probe.kill()
            probe.wait()
    # Not the word of one that had waited in vain for an answer.
    assert (probe.returncode, printed, said) == (1, "", "edge-mnv2: error: interrupted.\n")
