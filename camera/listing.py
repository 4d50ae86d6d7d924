"""Which cameras are there, and the URI to use for each."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from camera.csi_nodes import is_converter, is_sensor, uri_instead
from camera.device_users import DeviceUser, device_users
from camera.libcamera_list import LibcameraCamera, libcamera_cameras
from camera.v4l2_device import Ioctl, device_paths, opened
from camera.v4l2_errors import how_to_be_allowed
from camera.v4l2_modes import CONVERTED, Mode

_SYSTEM_CLASS = "sys/class/video4linux"


@dataclass(frozen=True, slots=True)
class ListedCamera:
    """A camera that is there.

    Attributes:
        uri: To use it with.
        name: For people.
        driver: Of the kernel, or `libcamera`.
        bus: Where it is connected.
        link: Path that stays the same when devices are counted anew, None where there is none; a URI, too.
        modes: Formats, sizes and rates that can be had.
        users: Who has it open, as far as it is known.
        problem: Why it cannot be used, and what to do; None where it can.
    """

    uri: str
    name: str
    driver: str
    bus: str
    link: str | None = None
    modes: tuple[Mode, ...] = ()
    users: tuple[DeviceUser, ...] = ()
    problem: str | None = None


def list_cameras(
    root: Path = Path("/"),
    ioctl: Ioctl = fcntl.ioctl,
    libcamera: Callable[[], Sequence[LibcameraCamera]] = libcamera_cameras,
) -> tuple[ListedCamera, ...]:
    """Return all cameras: of the camera port first, then V4L2 devices by number. The network is not searched.

    Args:
        root: Where `dev`, `proc` and `sys` are.
        ioctl: Asks V4L2 drivers.
        libcamera: Asks libcamera.
    """
    sensors = tuple(
        ListedCamera(f"picamera://{camera.number}", camera.model, "libcamera", camera.path)
        for camera in libcamera()
    )
    found: list[ListedCamera] = []
    unreachable: str | None = None
    jetson_sensors = 0
    for path in device_paths(root / "dev"):
        camera = _look_at(path, root, ioctl)
        if camera is None or is_converter(camera.driver):
            continue
        instead = uri_instead(camera.driver, jetson_sensors)
        if instead is None:
            found.append(camera)
        elif is_sensor(camera.driver):
            jetson_sensors += 1
            name = camera.name.removeprefix("vi-output, ")
            found.append(ListedCamera(instead, name, camera.driver, camera.bus, users=camera.users))
        else:
            unreachable = camera.driver
    if unreachable is not None and not sensors:
        problem = (
            "libcamera lists no camera: check the ribbon cable with the power off, and install it with: "
            "sudo apt install python3-picamera2"
        )
        sensors = (ListedCamera("picamera://0", "camera port", unreachable, "", problem=problem),)
    return (*sensors, *found)


def _look_at(path: Path, root: Path, ioctl: Ioctl) -> ListedCamera | None:
    """Return what is known of a node, None where it is no camera."""
    try:
        with opened(path, ioctl) as device:
            info = device.info()
            if info.not_a_camera is not None:
                return None
            formats = device.formats(info.buffer_type)
            modes = device.modes(tuple(one for one in formats if one in CONVERTED))
    except OSError as error:
        return _unknown(path, root, error)
    problem = None
    if uri_instead(info.driver) is None and not set(formats) & set(CONVERTED):
        names = ", ".join(fourcc.strip() for fourcc in formats) or "none"
        problem = f"no format of it can be turned into a picture: {names}"
    return ListedCamera(
        uri=str(path),
        name=info.card,
        driver=info.driver,
        bus=info.bus,
        link=_stable_link(path, root),
        modes=modes,
        users=device_users(path, root / "proc"),
        problem=problem,
    )


def _unknown(path: Path, root: Path, error: OSError) -> ListedCamera | None:
    """Return a node whose driver cannot be asked, None where it has just gone or never was one."""
    if error.errno in {errno.ENOENT, errno.ENOTTY, errno.ENODEV, errno.ENXIO}:
        return None
    try:
        name = (root / _SYSTEM_CLASS / path.name / "name").read_text(encoding="utf-8").strip()
    except OSError:
        name = path.name
    is_forbidden = error.errno in {errno.EACCES, errno.EPERM}
    problem = f"no permission: {how_to_be_allowed(path)}" if is_forbidden else str(error.strerror)
    users = device_users(path, root / "proc")
    return ListedCamera(str(path), name, "", "", _stable_link(path, root), users=users, problem=problem)


def _stable_link(path: Path, root: Path) -> str | None:
    """Return the link that udev made for this very camera, else for its port."""
    real = path.resolve()
    for folder in ("by-id", "by-path"):
        for link in sorted((root / "dev/v4l" / folder).glob("*")):
            if link.resolve() == real:
                return str(link)
    return None
