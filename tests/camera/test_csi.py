from __future__ import annotations

from pathlib import Path

import pytest

from camera.csi import board, from_uri
from camera.errors import UnsupportedSourceError
from camera.gstreamer import GStreamerSource
from camera.picamera import PiCamera
from camera.uri import parse_uri


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


PI = {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}
COMPUTE_MODULE = {"sys/firmware/devicetree/base/model": "Raspberry Pi Compute Module 4 Rev 1.1\0"}
JETSON = {"proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0"}
XAVIER = {"proc/device-tree/model": "NVIDIA Orin NX Developer Kit\0"}
TEGRA = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.0",
    "proc/device-tree/model": "somebody's carrier\0",
}
OTHER = {"proc/device-tree/model": "Radxa ROCK 5B\0"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (PI, "raspberry pi"),
        (COMPUTE_MODULE, "raspberry pi"),
        (JETSON, "jetson"),
        (XAVIER, "jetson"),
        (TEGRA, "jetson"),
        (OTHER, None),
        ({}, None),
    ],
)
def test_the_board_is_told_by_its_files(tmp_path: Path, files: dict[str, str], expected: str | None) -> None:
    assert board(machine(tmp_path, files)) == expected


def test_each_board_gets_its_own_camera_with_the_options(tmp_path: Path) -> None:
    uri = parse_uri("csi://1?size=640x480&fps=15")
    source = from_uri(uri, machine(tmp_path / "pi", PI))
    assert isinstance(source, PiCamera)
    assert (source._options.number, source._options.size, source._options.fps) == (1, (640, 480), 15.0)
    source = from_uri(uri, machine(tmp_path / "jetson", JETSON))
    assert isinstance(source, GStreamerSource)
    assert "sensor-id=1" in source._pipeline
    assert "width=640,height=480,framerate=15/1" in source._pipeline


def test_an_option_of_the_other_board_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSourceError, match="option mode=2 is unknown"):
        from_uri(parse_uri("csi://0?mode=2"), machine(tmp_path, PI))
    with pytest.raises(UnsupportedSourceError, match="option AfMode=auto is unknown"):
        from_uri(parse_uri("csi://0?AfMode=auto"), machine(tmp_path / "jetson", JETSON))


def test_another_machine_is_told_what_to_use_instead(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSourceError, match=r"this is neither\. For a USB camera give /dev/video0"):
        from_uri(parse_uri("csi://0"), tmp_path)
