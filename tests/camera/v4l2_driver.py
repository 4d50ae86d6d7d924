"""A stand-in for V4L2 drivers: it answers requests as the kernel's documentation says."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from camera import v4l2_abi as abi

CAPTURE = abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING
# Of an ordinary webcam on USB 2: full rate in large sizes only when compressed.
WEBCAM_MODES: Mapping[tuple[str, int, int], tuple[float, ...]] = {
    ("YUYV", 640, 480): (30, 15),
    ("YUYV", 1280, 720): (10, 5),
    ("MJPG", 640, 480): (30, 15),
    ("MJPG", 1280, 720): (30, 15),
    ("MJPG", 1920, 1080): (30,),
}


@dataclass
class FakeControl:
    """A control: its value and what VIDIOC_QUERYCTRL says of it."""

    number: int
    name: str
    kind: int = abi.CTRL_TYPE_INTEGER
    minimum: int = 0
    maximum: int = 255
    value: int = 0
    flags: int = 0
    menu: Mapping[int, str | int] = field(default_factory=dict)
    held: int = 0  # errno of a refusal


@dataclass
class FakeDevice:
    """What one node says; `fails` makes a request fail with an errno."""

    driver: str = "uvcvideo"
    card: str = "HD Webcam: HD Webcam"
    bus: str = "usb-0000:01:00.0-1.2"
    capabilities: int = CAPTURE
    formats: tuple[str, ...] = ("YUYV", "MJPG")
    modes: Mapping[tuple[str, int, int], tuple[float, ...]] = field(default_factory=lambda: WEBCAM_MODES)
    ranges: Mapping[str, tuple[int, int, int, int, int, int]] = field(default_factory=dict)
    current: tuple[str, int, int] = ("YUYV", 640, 480)
    fps: float | None = 30.0
    controls: list[FakeControl] = field(default_factory=list)
    fails: dict[int, int] = field(default_factory=dict)


class FakeDrivers:
    """Does what `fcntl.ioctl` does, for files that stand in for devices, each known by its name."""

    def __init__(self, devices: Mapping[str, FakeDevice]) -> None:
        self.devices = devices

    def __call__(self, fd: int, request: int, structure: ctypes.Structure) -> int:
        device = self.devices.get(Path(f"/proc/self/fd/{fd}").readlink().name)
        if device is None:
            raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")
        if request in device.fails:
            raise OSError(device.fails[request], os.strerror(device.fails[request]))
        _ANSWERS[request](device, structure)
        return 0


def _end() -> OSError:
    return OSError(errno.EINVAL, "Invalid argument")


def _capability(device: FakeDevice, found: abi.Capability) -> None:
    found.driver, found.card, found.bus_info = (
        text.encode() for text in (device.driver, device.card, device.bus)
    )
    # As of uvcvideo: the whole device can more than this node.
    found.capabilities = (
        device.capabilities | abi.CAP_DEVICE_CAPS | abi.CAP_META_CAPTURE | abi.CAP_VIDEO_CAPTURE
    )
    found.device_caps = device.capabilities


def _format_description(device: FakeDevice, found: abi.FormatDescription) -> None:
    if found.index >= len(device.formats):
        raise _end()
    found.pixelformat = abi.fourcc_code(device.formats[found.index])


def _frame_size(device: FakeDevice, found: abi.FrameSize) -> None:
    fourcc = abi.fourcc_text(found.pixel_format)
    if fourcc in device.ranges and found.index == 0:
        found.type = 3
        found.sides[:] = device.ranges[fourcc]
        return
    sizes = [key[1:] for key in device.modes if key[0] == fourcc]
    if found.index >= len(sizes):
        raise _end()
    found.type = abi.FRMSIZE_TYPE_DISCRETE
    found.sides[0], found.sides[1] = sizes[found.index]


def _frame_interval(device: FakeDevice, found: abi.FrameInterval) -> None:
    rates = device.modes.get((abi.fourcc_text(found.pixel_format), found.width, found.height), ())
    if found.index >= len(rates):
        raise _end()
    found.type = abi.FRMIVAL_TYPE_DISCRETE
    found.fractions[0], found.fractions[1] = 1000, round(1000 * rates[found.index])


def _format(device: FakeDevice, found: abi.Format) -> None:
    found.fmt.words[0], found.fmt.words[1] = device.current[1:]
    found.fmt.words[2] = abi.fourcc_code(device.current[0])


def _parameters(device: FakeDevice, found: abi.StreamParameters) -> None:
    if device.fps is None:
        raise _end()
    found.numerator, found.denominator = 1000, round(device.fps * 1000)


def _query_control(device: FakeDevice, found: abi.ControlQuery) -> None:
    assert found.id & abi.CTRL_FLAG_NEXT_CTRL
    later = [control for control in device.controls if control.number > found.id & 0x7FFF_FFFF]
    if not later:
        raise _end()
    control = min(later, key=lambda one: one.number)
    found.id, found.type, found.name = control.number, control.kind, control.name.encode()
    found.minimum, found.maximum, found.step = control.minimum, control.maximum, 1
    found.default_value, found.flags = control.minimum, control.flags


def _query_menu(device: FakeDevice, found: abi.MenuQuery) -> None:
    control = _control(device, found.id)
    if found.index not in control.menu:
        raise _end()
    item = control.menu[found.index]
    if isinstance(item, int):
        found.item.value = item
    else:
        found.item.name = item.encode()


def _get_control(device: FakeDevice, found: abi.Control) -> None:
    found.value = _control(device, found.id).value


def _set_control(device: FakeDevice, found: abi.Control) -> None:
    control = _control(device, found.id)
    if control.held:
        raise OSError(control.held, os.strerror(control.held))
    control.value = found.value


def _control(device: FakeDevice, number: int) -> FakeControl:
    for control in device.controls:
        if control.number == number:
            return control
    raise _end()


_ANSWERS: dict[int, Callable[[FakeDevice, Any], None]] = {
    abi.QUERYCAP: _capability,
    abi.ENUM_FMT: _format_description,
    abi.ENUM_FRAMESIZES: _frame_size,
    abi.ENUM_FRAMEINTERVALS: _frame_interval,
    abi.G_FMT: _format,
    abi.S_FMT: _format,
    abi.G_PARM: _parameters,
    abi.QUERYCTRL: _query_control,
    abi.QUERYMENU: _query_menu,
    abi.G_CTRL: _get_control,
    abi.S_CTRL: _set_control,
}
