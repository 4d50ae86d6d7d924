"""Getting hold of a camera through picamera2, and saying why where that fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from camera.device_users import DeviceUser, device_users, users_in_words
from camera.errors import CameraError, SourceNotFoundError

if TYPE_CHECKING:
    from picamera2 import Picamera2


def acquire(number: int, origin: str, devices: Path | None = None) -> Picamera2:
    """Open a camera; it is neither configured nor started.

    Args:
        number: As `rpicam-hello --list-cameras` counts, from 0.
        origin: How messages name it.
        devices: Folder of the media devices, which libcamera locks; None for /dev.

    Raises:
        SourceNotFoundError: There is no such camera.
        CameraError: picamera2 is missing, another process uses the camera, or it cannot be opened.
    """
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise CameraError(
            f"{origin} needs picamera2 ({error}): sudo apt install python3-picamera2, and an environment "
            "that sees the system's packages: python3 -m venv --system-site-packages."
        ) from error
    present = Picamera2.global_camera_info()
    if not present:
        raise SourceNotFoundError(
            f"{origin}: libcamera finds no camera. Check the ribbon with the power off; "
            "rpicam-hello --list-cameras shows what is there. Only the group video may use it: "
            "sudo usermod -aG video $USER, then log in again."
        )
    if number >= len(present):
        known = ", ".join(f"{index} ({info.get('Model', '?')})" for index, info in enumerate(present))
        raise SourceNotFoundError(f"There is no camera {origin}. Present: {known}.")
    try:
        return Picamera2(number)
    except (RuntimeError, IndexError, OSError) as error:
        reasons = [str(one) for one in _chain(error)]
        if any(_says_busy(reason) for reason in reasons):
            users = users_in_words(_users(Path("/dev") if devices is None else devices))
            raise CameraError(
                f"{origin} is busy. "
                + (
                    f"It is used by {users}."
                    if users
                    else "Another process uses it, such as rpicam-vid. Which one: sudo fuser -v /dev/media*."
                )
            ) from error
        raise CameraError(f"{origin} cannot be opened: {' '.join(reasons)}") from error


def _says_busy(reason: str) -> bool:
    """Tell whether libcamera could not acquire the camera (EBUSY), in the words of old and new versions."""
    return any(word in reason.lower() for word in ("busy", "code: -16", "failed to acquire"))


def _users(devices: Path) -> tuple[DeviceUser, ...]:
    found = {user for device in devices.glob("media*") for user in device_users(device)}
    return tuple(sorted(found, key=lambda user: user.pid))


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and those that it came from: picamera2 tells the reason in them alone."""
    errors = [error]
    while (earlier := errors[-1].__cause__ or errors[-1].__context__) is not None and earlier not in errors:
        errors.append(earlier)
    return errors
