from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from camera import libcamera_list
from camera import v4l2_abi as abi
from camera.device_users import DeviceUser
from camera.libcamera_list import LibcameraCamera, libcamera_cameras
from camera.listing import ListedCamera, list_cameras
from tests.camera.v4l2_driver import FakeDevice, FakeDrivers

METADATA = FakeDevice(capabilities=abi.CAP_META_CAPTURE | abi.CAP_STREAMING)
SENSOR = LibcameraCamera(0, "imx708", "/base/axi/pcie@120000/rp1/i2c@88000/imx708@1a")


def machine(tmp_path: Path, devices: dict[str, FakeDevice]) -> Path:
    """Return a folder that looks like the root of a machine with these devices."""
    for folder in ("dev/v4l/by-id", "dev/v4l/by-path", "proc", "sys/class/video4linux"):
        (tmp_path / folder).mkdir(parents=True)
    for name, device in devices.items():
        (tmp_path / "dev" / name).touch()
        (tmp_path / "sys/class/video4linux" / name).mkdir()
        (tmp_path / "sys/class/video4linux" / name / "name").write_text(device.card + "\n")
    return tmp_path


def listed(
    tmp_path: Path, devices: dict[str, FakeDevice], sensors: Sequence[LibcameraCamera] = ()
) -> tuple[ListedCamera, ...]:
    root = machine(tmp_path, devices)
    return list_cameras(root, FakeDrivers(devices), lambda: sensors)


def test_a_webcam_is_listed_once_with_what_it_can(tmp_path: Path) -> None:
    devices = {"video0": FakeDevice(formats=("YUYV", "MJPG", "H264")), "video1": METADATA}
    root = machine(tmp_path, devices)
    (root / "dev/v4l/by-path/pci-usb-index0").symlink_to(root / "dev/video0")
    (root / "dev/v4l/by-id/usb-046d_HD_Webcam-video-index0").symlink_to("../../video0")
    (root / "dev/v4l/by-id/usb-046d_HD_Webcam-video-index1").symlink_to("../../video1")
    (root / "proc/71/fd").mkdir(parents=True)
    (root / "proc/71/fd/4").symlink_to(root / "dev/video0")
    (root / "proc/71/comm").write_text("mpv\n")
    (camera,) = list_cameras(root, FakeDrivers(devices), lambda: ())
    assert (camera.uri, camera.name, camera.driver, camera.bus) == (
        *(str(root / "dev/video0"), "HD Webcam: HD Webcam"),
        *("uvcvideo", "usb-0000:01:00.0-1.2"),
    )
    assert camera.link == str(root / "dev/v4l/by-id/usb-046d_HD_Webcam-video-index0")
    assert camera.users == (DeviceUser(71, "mpv"),)
    assert camera.problem is None
    assert [mode.in_words() for mode in camera.modes][:2] == [
        "YUYV 640x480 at 30, 15",
        "YUYV 1280x720 at 10, 5",
    ]
    assert {mode.fourcc for mode in camera.modes} == {"YUYV", "MJPG"}


def test_without_a_stable_name_the_port_serves(tmp_path: Path) -> None:
    devices = {"video0": FakeDevice()}
    root = machine(tmp_path, devices)
    (root / "dev/v4l/by-path/pci-usb-index0").symlink_to("../../video0")
    (camera,) = list_cameras(root, FakeDrivers(devices), lambda: ())
    assert camera.link == str(root / "dev/v4l/by-path/pci-usb-index0")


def test_a_raspberry_pi_shows_its_sensor_and_none_of_the_nodes_behind_it(tmp_path: Path) -> None:
    devices = {
        "video0": FakeDevice(driver="rp1-cfe", card="rp1-cfe", formats=("RG10",)),
        "video1": FakeDevice(driver="rp1-cfe", card="rp1-cfe", capabilities=METADATA.capabilities),
        "video19": FakeDevice(driver="rpi-hevc-dec", capabilities=abi.CAP_VIDEO_M2M_MPLANE),
        "video20": FakeDevice(driver="pispbe", card="pispbe"),
        "video8": FakeDevice(),
    }
    sensor, webcam = listed(tmp_path, devices, [SENSOR])
    assert (sensor.uri, sensor.name, sensor.driver) == ("picamera://0", "imx708", "libcamera")
    assert sensor.problem is None
    assert webcam.uri.endswith("/dev/video8")


def test_a_camera_port_that_libcamera_does_not_see_is_told(tmp_path: Path) -> None:
    (camera,) = listed(tmp_path, {"video0": FakeDevice(driver="unicam", card="unicam", formats=("RG10",))})
    assert camera.uri == "picamera://0"
    assert "check the ribbon cable with the power off" in str(camera.problem)


def test_sensors_of_a_jetson_are_for_argus(tmp_path: Path) -> None:
    def sensor(name: str) -> FakeDevice:
        return FakeDevice(
            "tegra-video", f"vi-output, {name}", "platform:tegra-capture-vi:1", formats=("RG10",)
        )

    devices = {"video0": sensor("imx219 9-0010"), "video1": sensor("imx219 10-0010"), "video2": FakeDevice()}
    found = listed(tmp_path, devices)
    assert [(camera.uri, camera.name) for camera in found[:2]] == [
        ("argus://0", "imx219 9-0010"),
        ("argus://1", "imx219 10-0010"),
    ]
    assert found[2].uri.endswith("/dev/video2")


def test_what_cannot_be_used_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = {
        "video0": FakeDevice(formats=("H264",)),
        "video1": FakeDevice(card="Locked", fails={abi.QUERYCAP: errno.EACCES}),
        "video2": FakeDevice(fails={abi.QUERYCAP: errno.ENODEV}),
    }
    monkeypatch.setattr("camera.listing.how_to_be_allowed", lambda _: "join the group")
    unusable, locked = listed(tmp_path, devices)
    assert unusable.problem == "no format of it can be turned into a picture: H264"
    assert (locked.name, locked.problem) == ("Locked", "no permission: join the group")


def test_nothing_is_nothing(tmp_path: Path) -> None:
    assert listed(tmp_path, {}) == ()


PICAMERA2 = """[0:01:02.3] INFO Camera camera_manager.cpp:325 libcamera v0.3.2
[{"Model": "imx219", "Location": 2, "Rotation": 180, "Id": "/base/soc/i2c0mux/i2c@1/imx219@10", "Num": 0},
"""
TOOL = """Available cameras
-----------------
0 : imx219 [3280x2464 10-bit RGGB] (/base/soc/i2c0mux/i2c@1/imx219@10)
    Modes: 'SRGGB10_CSI2P' : 640x480 [206.65 fps - (1000, 752)/1280x960 crop]
                             1640x1232 [41.85 fps - (0, 0)/3280x2464 crop]
1 : imx708_wide [4608x2592 10-bit RGGB] (/base/soc/i2c0mux/i2c@0/imx708@1a)
"""
CAM = """Available cameras:
1: 'imx219' (/base/soc/i2c0mux/i2c@1/imx219@10)
2: HD Webcam (\\\\_SB_.PCI0.RP01-usb-1:1.0-046d:0825)
"""


def test_libcamera_is_asked_through_picamera2() -> None:
    def run(command: Sequence[str]) -> str | None:
        assert command[0] == sys.executable
        return PICAMERA2.replace("},\n", '}, {"Model": "C270", "Id": "/base/usb@1-046d:0825", "Num": 1}]\n')

    assert libcamera_cameras(run) == (LibcameraCamera(0, "imx219", "/base/soc/i2c0mux/i2c@1/imx219@10"),)


@pytest.mark.parametrize("broken", [None, "", "Traceback", "{}", '[{"Num": 0}]', "[1]"])
def test_without_picamera2_its_tools_are_asked(broken: str | None) -> None:
    def run(command: Sequence[str]) -> str | None:
        return {sys.executable: broken, "rpicam-hello": TOOL}.get(command[0])

    found = libcamera_cameras(run)
    if broken == "{}":  # that is an answer: none
        assert found == ()
        return
    assert found == (
        LibcameraCamera(0, "imx219", "/base/soc/i2c0mux/i2c@1/imx219@10"),
        LibcameraCamera(1, "imx708_wide", "/base/soc/i2c0mux/i2c@0/imx708@1a"),
    )


def test_cam_counts_from_one_and_usb_cameras_are_left_to_v4l2() -> None:
    found = libcamera_cameras(lambda command: CAM if command[0] == "cam" else None)
    assert found == (LibcameraCamera(0, "imx219", "/base/soc/i2c0mux/i2c@1/imx219@10"),)


def test_a_tool_that_is_missing_fails_or_hangs_is_as_good_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert libcamera_cameras() == ()
    tool = tmp_path / "rpicam-hello"
    tool.write_text(f"#!{sys.executable}\nimport sys\nprint('0 : imx219 (/base/i)', file=sys.stderr)\n")
    tool.chmod(0o755)
    assert libcamera_cameras() == (LibcameraCamera(0, "imx219", "/base/i"),)
    tool.write_text(f"#!{sys.executable}\nimport sys\nprint('0 : imx219 (/base/i)')\nsys.exit(1)\n")
    assert libcamera_cameras() == ()
    monkeypatch.setattr(libcamera_list, "_TIMEOUT_S", 0.2)
    tool.write_text(f"#!{sys.executable}\nimport threading\nthreading.Event().wait()\n")
    assert libcamera_cameras() == ()
