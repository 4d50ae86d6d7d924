"""What a V4L2 device says of itself: kind, formats, sizes, rates and controls, asked of the kernel.

Sources: the kernel's documentation of each ioctl, such as
https://docs.kernel.org/userspace-api/media/v4l/vidioc-enum-framesizes.html.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from camera import v4l2_abi as abi
from camera.v4l2_modes import Mode

Ioctl = Callable[[int, int, ctypes.Structure], object]

# No device has so many; a driver that never ends its lists must not hang us.
_MOST_ENTRIES = 512


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What VIDIOC_QUERYCAP says.

    Attributes:
        driver: Such as `uvcvideo`.
        card: The device's name for people.
        bus: Where it is connected, such as `usb-0000:01:00.0-1.2`.
        capabilities: V4L2_CAP_* of this very node.
    """

    driver: str
    card: str
    bus: str
    capabilities: int

    @property
    def not_a_camera(self) -> str | None:
        """Why no pictures can be had from it, as the end of a sentence; None where they can."""
        caps = self.capabilities
        if caps & (abi.CAP_VIDEO_M2M | abi.CAP_VIDEO_M2M_MPLANE):
            return "it converts or decodes video (memory to memory), and is no camera"
        if caps & (abi.CAP_VIDEO_CAPTURE | abi.CAP_VIDEO_CAPTURE_MPLANE):
            return None if caps & abi.CAP_STREAMING else "it cannot stream"
        if caps & (abi.CAP_META_CAPTURE | abi.CAP_META_OUTPUT):
            return "it carries a camera's metadata, not its pictures"
        if caps & (abi.CAP_VIDEO_OUTPUT | abi.CAP_VIDEO_OUTPUT_MPLANE):
            return "it is an output: it takes video and gives none"
        return "it is no video capture device"

    @property
    def buffer_type(self) -> int:
        """V4L2_BUF_TYPE_* of its pictures."""
        if self.capabilities & abi.CAP_VIDEO_CAPTURE:
            return abi.BUF_TYPE_VIDEO_CAPTURE
        return abi.BUF_TYPE_VIDEO_CAPTURE_MPLANE


@dataclass(frozen=True, slots=True)
class ControlInfo:
    """A control of a device.

    Attributes:
        number: V4L2_CID_*.
        name: As `v4l2-ctl` writes it: `exposure_time_absolute`.
        kind: V4L2_CTRL_TYPE_*.
        minimum: Smallest value.
        maximum: Largest value.
        step: Between two values.
        default: What the driver starts with.
        flags: V4L2_CTRL_FLAG_*.
        menu: Values by item name, for menus.
    """

    number: int
    name: str
    kind: int
    minimum: int
    maximum: int
    step: int
    default: int
    flags: int
    menu: tuple[tuple[str, int], ...] = ()


class V4l2Device:
    """An open device; every method is one question to its driver.

    Args:
        fd: File descriptor, open for reading and writing; it stays the caller's.
        ioctl: Does what `fcntl.ioctl` does with a structure, raising OSError.
    """

    def __init__(self, fd: int, ioctl: Ioctl = fcntl.ioctl) -> None:
        self._fd = fd
        self._ioctl = ioctl

    def info(self) -> DeviceInfo:
        """Return what it is.

        Raises:
            OSError: ENOTTY: it is no V4L2 device; ENODEV: it was unplugged.
        """
        found = abi.Capability()
        self._ioctl(self._fd, abi.QUERYCAP, found)
        has_own = found.capabilities & abi.CAP_DEVICE_CAPS
        return DeviceInfo(
            _text(found.driver),
            _text(found.card),
            _text(found.bus_info),
            found.device_caps if has_own else found.capabilities,
        )

    def formats(self, buffer_type: int) -> tuple[str, ...]:
        """Return the pixel formats that it offers, in the driver's order."""
        return tuple(
            dict.fromkeys(
                abi.fourcc_text(entry.pixelformat)
                for entry in self._entries(abi.ENUM_FMT, lambda: abi.FormatDescription(type=buffer_type))
            )
        )

    def modes(self, fourccs: tuple[str, ...]) -> tuple[Mode, ...]:
        """Return which sizes and rates it offers in these formats; none where the driver does not say."""
        return tuple(mode for fourcc in fourccs for mode in self._modes_of(fourcc))

    def current_mode(self, buffer_type: int) -> tuple[str, int, int]:
        """Return the pixel format, width and height that it is set to."""
        found = abi.Format(type=buffer_type)
        self._ioctl(self._fd, abi.G_FMT, found)
        width, height, code = found.fmt.words[0:3]
        return abi.fourcc_text(code), width, height

    def try_to_own(self, buffer_type: int) -> None:
        """Set the format that is set, which changes nothing.

        Raises:
            OSError: EBUSY: another program streams from it.
        """
        found = abi.Format(type=buffer_type)
        self._ioctl(self._fd, abi.G_FMT, found)
        self._ioctl(self._fd, abi.S_FMT, found)

    def rate(self, buffer_type: int) -> float | None:
        """Return the nominal frames per second that it is set to, None where the driver does not say."""
        found = abi.StreamParameters(type=buffer_type)
        try:
            self._ioctl(self._fd, abi.G_PARM, found)
        except OSError as error:
            if error.errno in {errno.ENOTTY, errno.EINVAL}:
                return None
            raise
        return found.denominator / found.numerator if found.numerator and found.denominator else None

    def controls(self) -> tuple[ControlInfo, ...]:
        """Return every control that holds a number and can be set, in the driver's order."""
        found: list[ControlInfo] = []
        query = abi.ControlQuery(id=abi.CTRL_FLAG_NEXT_CTRL)
        while len(found) < _MOST_ENTRIES and self._answers(abi.QUERYCTRL, query):
            is_number = query.type in {
                *(abi.CTRL_TYPE_INTEGER, abi.CTRL_TYPE_BOOLEAN, abi.CTRL_TYPE_MENU),
                *(abi.CTRL_TYPE_BUTTON, abi.CTRL_TYPE_BITMASK, abi.CTRL_TYPE_INTEGER_MENU),
            }
            if is_number and not query.flags & (abi.CTRL_FLAG_DISABLED | abi.CTRL_FLAG_READ_ONLY):
                found.append(self._control(query))
            query = abi.ControlQuery(id=query.id | abi.CTRL_FLAG_NEXT_CTRL)
        return tuple(found)

    def control_value(self, number: int) -> int:
        """Return the value of a control."""
        control = abi.Control(id=number)
        self._ioctl(self._fd, abi.G_CTRL, control)
        return int(control.value)

    def set_control(self, number: int, value: int) -> None:
        """Set a control.

        Raises:
            OSError: EBUSY or EACCES: something else holds it, such as the automatic exposure.
        """
        self._ioctl(self._fd, abi.S_CTRL, abi.Control(id=number, value=value))

    def _modes_of(self, fourcc: str) -> Iterator[Mode]:
        code = abi.fourcc_code(fourcc)
        for size in self._entries(abi.ENUM_FRAMESIZES, lambda: abi.FrameSize(pixel_format=code)):
            if size.type == abi.FRMSIZE_TYPE_DISCRETE:
                width, height = size.sides[0:2]
                yield Mode(fourcc, width, height, *self._rates(code, width, height))
                continue
            least_width, width, step_width, least_height, height, step_height = size.sides
            yield Mode(
                *(fourcc, width, height, *self._rates(code, width, height)),
                smallest=(least_width, least_height),
                step=(max(1, step_width), max(1, step_height)),
            )
            return  # ranges come alone

    def _rates(self, code: int, width: int, height: int) -> tuple[tuple[float, ...], float | None]:
        """Return the rates of a size, and the lowest where anything between is possible."""
        rates: list[float] = []
        asked = {"pixel_format": code, "width": width, "height": height}
        for interval in self._entries(abi.ENUM_FRAMEINTERVALS, lambda: abi.FrameInterval(**asked)):
            if interval.type == abi.FRMIVAL_TYPE_DISCRETE:
                rates += _rate(*interval.fractions[0:2])
                continue
            fastest, slowest = _rate(*interval.fractions[0:2]), _rate(*interval.fractions[2:4])
            return tuple(fastest), slowest[0] if slowest else 0.0
        return tuple(sorted(set(rates), reverse=True)), None

    def _control(self, query: abi.ControlQuery) -> ControlInfo:
        menu: list[tuple[str, int]] = []
        if query.type in {abi.CTRL_TYPE_MENU, abi.CTRL_TYPE_INTEGER_MENU}:
            last = min(query.maximum, query.minimum + _MOST_ENTRIES)
            for index in range(query.minimum, last + 1):
                entry = abi.MenuQuery(id=query.id, index=index)
                # A driver may leave items out.
                if self._answers(abi.QUERYMENU, entry):
                    is_text = query.type == abi.CTRL_TYPE_MENU
                    menu.append((_text(entry.item.name) if is_text else str(entry.item.value), index))
        return ControlInfo(
            number=query.id,
            name=plain_name(_text(query.name)),
            kind=query.type,
            minimum=query.minimum,
            maximum=query.maximum,
            step=query.step,
            default=query.default_value,
            flags=query.flags,
            menu=tuple(menu),
        )

    def _entries(self, number: int, empty: Callable[[], ctypes.Structure]) -> Iterator[ctypes.Structure]:
        """Yield the entries of a list that is asked for by index until the driver has no more."""
        for index in range(_MOST_ENTRIES):
            entry = empty()
            entry.index = index
            if not self._answers(number, entry):
                return
            yield entry

    def _answers(self, number: int, structure: ctypes.Structure) -> bool:
        try:
            self._ioctl(self._fd, number, structure)
        except OSError as error:
            # The end of a list, or a driver without one.
            if error.errno in {errno.EINVAL, errno.ENOTTY, errno.ENODATA}:
                return False
            raise
        return True


@contextmanager
def opened(path: Path, ioctl: Ioctl = fcntl.ioctl) -> Iterator[V4l2Device]:
    """Open a device for questions; it can be open elsewhere at the same time.

    Raises:
        OSError: It is not there, or not for us.
    """
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield V4l2Device(fd, ioctl)
    finally:
        os.close(fd)


def device_paths(dev: Path = Path("/dev")) -> list[Path]:
    """Return every `videoN` in the order of its number."""
    nodes = [path for path in dev.glob("video*") if path.name.removeprefix("video").isdecimal()]
    return sorted(nodes, key=lambda path: int(path.name.removeprefix("video")))


def plain_name(name: str) -> str:
    """Return the name of a control as `v4l2-ctl` writes it: small letters and digits, all else as `_`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _rate(numerator: int, denominator: int) -> list[float]:
    return [denominator / numerator] if numerator and denominator else []


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
