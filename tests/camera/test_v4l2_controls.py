from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

import pytest

from camera import v4l2_abi as abi
from camera.errors import CameraError, UnsupportedSourceError
from camera.v4l2_controls import set_controls
from camera.v4l2_device import opened
from tests.camera.v4l2_driver import FakeControl, FakeDevice, FakeDrivers


def webcam() -> FakeDevice:
    return FakeDevice(
        controls=[
            FakeControl(1, "Brightness", minimum=-64, maximum=64),
            FakeControl(2, "Exposure Time, Absolute", minimum=1, maximum=5000),
            FakeControl(
                *(3, "Auto Exposure", abi.CTRL_TYPE_MENU, 0, 3),
                menu={1: "Manual Mode", 3: "Aperture Priority Mode"},
            ),
            FakeControl(4, "Focus, Automatic Continuous", abi.CTRL_TYPE_BOOLEAN, 0, 1),
            FakeControl(5, "Link Frequency", abi.CTRL_TYPE_INTEGER_MENU, 0, 1, menu={0: 297, 1: 456}),
        ]
    )


def set_on(device: FakeDevice, tmp_path: Path, wanted: Mapping[str, str]) -> dict[str, int]:
    (tmp_path / "video0").touch()
    with opened(tmp_path / "video0", FakeDrivers({"video0": device})) as open_device:
        set_controls(open_device, "/dev/video0", wanted)
    return {control.name: control.value for control in device.controls}


@pytest.mark.parametrize(
    ("name", "text", "control", "value"),
    [
        ("brightness", "-10", "Brightness", -10),
        ("Brightness", "64", "Brightness", 64),
        ("auto_exposure", "1", "Auto Exposure", 1),
        ("auto_exposure", "aperture_priority_mode", "Auto Exposure", 3),
        ("auto_exposure", "Manual Mode", "Auto Exposure", 1),
        # What kernels called it before 6.0.
        ("exposure_auto", "1", "Auto Exposure", 1),
        ("exposure_absolute", "200", "Exposure Time, Absolute", 200),
        ("focus_auto", "on", "Focus, Automatic Continuous", 1),
        ("link_frequency", "1", "Link Frequency", 1),
        ("link_frequency", "456", "Link Frequency", 1),
    ],
)
def test_a_control_is_set_by_name(tmp_path: Path, name: str, text: str, control: str, value: int) -> None:
    assert set_on(webcam(), tmp_path, {name: text})[control] == value


def test_switches_come_before_what_they_hold(tmp_path: Path) -> None:
    device = webcam()
    order: list[int] = []

    class Noting(FakeDrivers):
        def __call__(self, fd: int, request: int, structure: abi.ctypes.Structure) -> int:
            if request == abi.S_CTRL:
                order.append(structure.id)  # type: ignore[attr-defined]
            return super().__call__(fd, request, structure)

    (tmp_path / "video0").touch()
    wanted = {"exposure_time_absolute": "100", "brightness": "1", "auto_exposure": "1"}
    with opened(tmp_path / "video0", Noting({"video0": device})) as open_device:
        set_controls(open_device, "/dev/video0", wanted)
    assert order == [3, 2, 1]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"brightnes": "1"}, r"no option or control brightnes; did you mean brightness\?"),
        ({"fsp": "30"}, r"did you mean fps\?"),
        (
            {"zoom": "1"},
            "Options: size, fps, format. Controls: brightness, exposure_time_absolute, auto_exposure",
        ),
        ({"brightness": "65"}, "brightness=65 is not possible; it can be -64 to 64"),
        ({"brightness": "bright"}, "brightness=bright is not possible"),
        ({"auto_exposure": "2"}, r"it can be 1 \(Manual Mode\), 3 \(Aperture Priority Mode\)"),
        ({"focus_auto": "maybe"}, r"0 \(off\) or 1 \(on\)"),
    ],
)
def test_what_it_has_not_is_refused_and_nothing_is_set(
    tmp_path: Path, wanted: dict[str, str], message: str
) -> None:
    device = webcam()
    with pytest.raises(UnsupportedSourceError, match=message):
        set_on(device, tmp_path, {"exposure_absolute": "9", **wanted})
    assert all(control.value == 0 for control in device.controls)


def test_a_refusal_of_the_driver_says_what_may_hold_it(tmp_path: Path) -> None:
    device = webcam()
    device.controls[1].held = errno.EACCES
    with pytest.raises(CameraError, match=r"exposure_time_absolute=9 was refused: .*switch that off too"):
        set_on(device, tmp_path, {"exposure_absolute": "9"})
