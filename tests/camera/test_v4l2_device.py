from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest

from camera import v4l2_abi as abi
from camera.v4l2_device import V4l2Device, device_paths, opened, plain_name
from camera.v4l2_modes import Mode
from tests.camera.v4l2_driver import CAPTURE, FakeControl, FakeDevice, FakeDrivers


@pytest.fixture
def node(tmp_path: Path) -> Path:
    (tmp_path / "video0").touch()
    return tmp_path / "video0"


def asking(node: Path, device: FakeDevice) -> V4l2Device:
    # The descriptor lives as long as the test's process is interested in it.
    return _Kept(node, FakeDrivers({"video0": device})).device


class _Kept:
    def __init__(self, node: Path, drivers: FakeDrivers) -> None:
        def ioctl(fd: int, request: int, structure: ctypes.Structure) -> int:
            fd = os.open(node, os.O_RDWR)
            try:
                return drivers(fd, request, structure)
            finally:
                os.close(fd)

        self.device = V4l2Device(-1, ioctl)


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="the numbers are those of 64 bits")
def test_requests_are_those_of_the_kernels_headers() -> None:
    # As a C compiler gives them for <linux/videodev2.h>: size, direction and number in one.
    assert {name: f"{getattr(abi, name):#x}" for name in dir(abi) if name in _NUMBERS} == _NUMBERS


_NUMBERS = {
    "QUERYCAP": "0x80685600",
    "ENUM_FMT": "0xc0405602",
    "G_FMT": "0xc0d05604",
    "S_FMT": "0xc0d05605",
    "G_PARM": "0xc0cc5615",
    "G_CTRL": "0xc008561b",
    "S_CTRL": "0xc008561c",
    "QUERYCTRL": "0xc0445624",
    "QUERYMENU": "0xc02c5625",
    "ENUM_FRAMESIZES": "0xc02c564a",
    "ENUM_FRAMEINTERVALS": "0xc034564b",
}


def test_fields_lie_where_the_kernel_puts_them() -> None:
    pointer = ctypes.sizeof(ctypes.c_void_p)
    assert abi.Format.fmt.offset == (8 if pointer == 8 else 4)
    assert abi.Capability.device_caps.offset == 88
    assert abi.FormatDescription.pixelformat.offset == 44
    assert abi.FrameInterval.fractions.offset == 20
    assert abi.StreamParameters.numerator.offset == 12
    assert abi.ControlQuery.minimum.offset == 40
    assert abi.MenuQuery.item.offset == 8
    assert abi.MenuQuery.reserved.offset == 40


def test_the_real_kernel_refuses_what_is_no_device(node: Path) -> None:
    with opened(node) as device, pytest.raises(OSError) as refused:  # noqa: PT011 - its number tells
        device.info()
    assert refused.value.errno == errno.ENOTTY


@pytest.mark.parametrize(
    ("capabilities", "words"),
    [
        (CAPTURE, None),
        (abi.CAP_VIDEO_CAPTURE_MPLANE | abi.CAP_STREAMING, None),
        (abi.CAP_META_CAPTURE | abi.CAP_STREAMING, "metadata"),
        (abi.CAP_VIDEO_M2M_MPLANE | abi.CAP_STREAMING, "memory to memory"),
        (abi.CAP_VIDEO_OUTPUT | abi.CAP_STREAMING, "takes video"),
        (abi.CAP_VIDEO_CAPTURE, "cannot stream"),
        (0, "no video capture"),
    ],
)
def test_what_is_a_camera_and_what_is_not(node: Path, capabilities: int, words: str | None) -> None:
    info = asking(node, FakeDevice(capabilities=capabilities)).info()
    if words is None:
        assert info.not_a_camera is None
    else:
        assert words in str(info.not_a_camera)


def test_sizes_and_rates_are_read_to_the_end_of_each_list(node: Path) -> None:
    device = asking(
        node,
        FakeDevice(
            modes={("YUYV", 640, 480): (29.97, 15), ("MJPG", 1920, 1080): (60, 30), ("MJPG", 640, 480): ()},
            formats=("YUYV", "MJPG", "YUYV", "H264"),
        ),
    )
    assert device.formats(abi.BUF_TYPE_VIDEO_CAPTURE) == ("YUYV", "MJPG", "H264")
    assert device.modes(("YUYV", "MJPG", "H264")) == (
        Mode("YUYV", 640, 480, (29.97, 15.0)),
        Mode("MJPG", 1920, 1080, (60.0, 30.0)),
        Mode("MJPG", 640, 480, ()),
    )


def test_a_range_of_sizes_is_one_mode(node: Path) -> None:
    device = asking(node, FakeDevice(ranges={"NV12": (32, 1920, 2, 16, 1080, 4)}, modes={}))
    (mode,) = device.modes(("NV12",))
    assert (mode.smallest, mode.width, mode.height, mode.step) == ((32, 16), 1920, 1080, (2, 4))
    assert mode.has_size(640, 480)
    assert not mode.has_size(641, 480)
    assert not mode.has_size(640, 482)
    assert not mode.has_size(1922, 480)


def test_a_range_of_rates_is_read_as_one(node: Path) -> None:
    class Stepwise(FakeDrivers):
        def __call__(self, fd: int, request: int, structure: ctypes.Structure) -> int:
            if request != abi.ENUM_FRAMEINTERVALS:
                return super().__call__(fd, request, structure)
            assert isinstance(structure, abi.FrameInterval)
            if structure.index:
                raise OSError(errno.EINVAL, "")
            structure.type = 2
            structure.fractions[:] = (1, 60, 1, 5, 1, 60)
            return 0

    device = _Kept(node, Stepwise({"video0": FakeDevice()})).device
    mode = device.modes(("YUYV",))[0]
    assert (mode.rates, mode.slowest) == ((60.0,), 5.0)
    assert mode.has_rate(12.5)
    assert not mode.has_rate(100)
    assert mode.in_words() == "YUYV 640x480 at 5 to 60"


def test_a_driver_whose_lists_never_end_does_not_hang_us(node: Path) -> None:
    class Endless(FakeDrivers):
        def __call__(self, fd: int, request: int, structure: ctypes.Structure) -> int:
            if request == abi.ENUM_FMT:
                structure.pixelformat = structure.index  # type: ignore[attr-defined]
                return 0
            return super().__call__(fd, request, structure)

    device = _Kept(node, Endless({"video0": FakeDevice()})).device
    assert len(device.formats(abi.BUF_TYPE_VIDEO_CAPTURE)) < 10_000


def test_controls_carry_their_menus_and_leave_out_what_cannot_be_set(node: Path) -> None:
    device = asking(
        node,
        FakeDevice(
            controls=[
                FakeControl(1, "Brightness", maximum=64, value=7),
                FakeControl(
                    2, "Exposure, Auto", abi.CTRL_TYPE_MENU, 0, 3, menu={1: "Manual Mode", 3: "Auto"}
                ),
                FakeControl(3, "Link Frequency", abi.CTRL_TYPE_INTEGER_MENU, 0, 1, menu={0: 456_000_000}),
                FakeControl(4, "Serial", flags=abi.CTRL_FLAG_READ_ONLY),
                FakeControl(5, "A string", kind=7),
            ]
        ),
    )
    brightness, exposure, frequency = device.controls()
    assert (brightness.name, brightness.maximum) == ("brightness", 64)
    assert (exposure.name, exposure.menu) == ("exposure_auto", (("Manual Mode", 1), ("Auto", 3)))
    assert frequency.menu == (("456000000", 0),)
    assert device.control_value(1) == 7
    device.set_control(1, 9)
    assert device.control_value(1) == 9


def test_a_rate_that_the_driver_does_not_tell_is_none(node: Path) -> None:
    assert asking(node, FakeDevice(fps=None)).rate(1) is None
    assert asking(node, FakeDevice(fps=12.5)).rate(1) == 12.5


def test_names_of_controls_are_those_of_v4l2_ctl() -> None:
    assert plain_name("White Balance Temperature, Auto") == "white_balance_temperature_auto"
    assert plain_name("Exposure (Absolute)") == "exposure_absolute"


def test_devices_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("video10", "video2", "video-enc", "media0"):
        (tmp_path / name).touch()
    assert [path.name for path in device_paths(tmp_path)] == ["video2", "video10"]


def test_pixel_formats_are_four_characters() -> None:
    assert abi.fourcc_code("MJPG") == 0x47504A4D
    assert abi.fourcc_text(0x47504A4D) == "MJPG"
    assert abi.fourcc_text(abi.fourcc_code("Y16 ") | 1 << 31) == "Y16 "
