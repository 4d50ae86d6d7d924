"""What to say of a V4L2 device that cannot be used: which are there, who has it, which group to join."""

from __future__ import annotations

import errno
import fcntl
import grp
from pathlib import Path

from camera.csi_nodes import advice, is_converter, uri_instead
from camera.device_users import device_users, users_in_words
from camera.errors import CameraError, SourceNotFoundError, UnsupportedSourceError
from camera.v4l2_device import Ioctl, device_paths, opened


def missing_error(device: Path) -> SourceNotFoundError:
    """Return the error for a device that is not there."""
    return SourceNotFoundError(f"There is no camera {device}. {present()}")


def no_camera_error(device: Path, why: str, driver: str) -> UnsupportedSourceError:
    """Return the error for a node that gives no pictures."""
    return UnsupportedSourceError(f"{device}: {why}. {advice(driver) or present()}")


def busy_error(device: Path, why: str) -> CameraError:
    """Return the error for a device that another program uses, by whom as far as it is known."""
    users = users_in_words(device_users(device))
    if users:
        return CameraError(f"{device} is in use by {users}: end that program first.")
    return CameraError(
        f"{device} cannot be used: {why}. Perhaps a program of another user has it; to see which: "
        f"sudo fuser -v {device}"
    )


def open_error(device: Path, error: OSError) -> CameraError:
    """Return the error for what the system says against a device."""
    if error.errno in {errno.EACCES, errno.EPERM}:
        return CameraError(f"No permission to use {device}: {how_to_be_allowed(device)}")
    if error.errno == errno.ENOTTY:
        return UnsupportedSourceError(f"{device} is no V4L2 device. {present()}")
    if error.errno in {errno.ENODEV, errno.ENXIO}:
        return CameraError(f"{device} is not connected any more: check its cable and power.")
    return CameraError(f"{device} cannot be used: {error.strerror}.")


def how_to_be_allowed(device: Path) -> str:
    """Return what to do to be allowed to use a device: which group to join."""
    try:
        number = device.stat().st_gid
        group = grp.getgrgid(number).gr_name
    except (OSError, KeyError):
        return "ask whoever looks after this machine."
    if number == 0:
        return "it belongs to root alone; a udev rule can give it to the group video."
    return f"sudo usermod -aG {group} $USER, then log in again."


def present(dev: Path = Path("/dev"), ioctl: Ioctl = fcntl.ioctl) -> str:
    """Return a sentence that names the cameras that are there."""
    names = []
    for path in device_paths(dev):
        try:
            with opened(path, ioctl) as device:
                info = device.info()
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EPERM}:
                names.append(str(path))  # it may be one, for somebody else
            continue
        if info.not_a_camera is None and not is_converter(info.driver):
            instead = uri_instead(info.driver)
            names.append(
                f"{path} ({info.card})" if instead is None else f"{instead} ({info.card}, {path.name})"
            )
    names = list(dict.fromkeys(names))
    return f"Present: {', '.join(names)}." if names else "No V4L2 camera is present: plug one in."
