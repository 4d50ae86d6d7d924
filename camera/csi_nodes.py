"""V4L2 nodes that belong to another way to a camera: libcamera on a Raspberry Pi, Argus on a Jetson."""

from __future__ import annotations

# Drivers of the Raspberry Pi whose nodes give raw sensor data or wait for it; libcamera ties them together:
# https://www.raspberrypi.com/documentation/computers/camera_software.html.
_PORT_DRIVERS = frozenset({"unicam", "rp1-cfe"})
# Image processors and codecs: they are there on every board, with a camera or without.
_CONVERTERS = frozenset({"bcm2835-isp", "bcm2835-codec", "pispbe", "rpivid", "rpi-hevc-dec"})
_LIBCAMERA_DRIVERS = _PORT_DRIVERS | _CONVERTERS
# NVIDIA's driver for sensors at the Jetson's camera port: raw Bayer, without the image processor.
_ARGUS_DRIVERS = frozenset({"tegra-video", "tegra-camrtc-capture-vi"})


def uri_instead(driver: str, number: int = 0) -> str | None:
    """Return the URI through which the pictures of a node can be had, None where V4L2 itself gives them.

    Args:
        driver: As VIDIOC_QUERYCAP says.
        number: Which one of the cameras at this port, as far as it is known.
    """
    if driver in _LIBCAMERA_DRIVERS:
        return f"picamera://{number}"
    return f"argus://{number}" if driver in _ARGUS_DRIVERS else None


def is_converter(driver: str) -> bool:
    """Return whether nodes of this driver work on pictures that come from elsewhere."""
    return driver in _CONVERTERS


def is_sensor(driver: str) -> bool:
    """Return whether each capture node of this driver is a sensor at the Jetson's camera port."""
    return driver in _ARGUS_DRIVERS


def advice(driver: str) -> str:
    """Return what to do with a node of such a driver, empty where V4L2 itself gives its pictures."""
    instead = uri_instead(driver)
    return "" if instead is None else f"Its sensor needs an image processor: use {instead} instead."
