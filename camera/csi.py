"""The CSI camera of this board (`csi://N`): libcamera's on a Raspberry Pi, Argus's on a Jetson."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from camera import argus, picamera
from camera.base import FrameSource
from camera.errors import UnsupportedSourceError
from camera.uri import Uri, parse_uri

Board = Literal["raspberry pi", "jetson"]


def board(root: Path = Path("/")) -> Board | None:
    """Tell which board this is, None for any other machine.

    Args:
        root: Where the files are looked for that tell it: the device tree's model, and what NVIDIA's Linux
            for Tegra leaves in /etc.
    """
    if (root / "etc/nv_tegra_release").exists():
        return "jetson"
    for name in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        try:
            model = (root / name).read_text(errors="replace").rstrip("\0\n").lower()
        except OSError:
            continue
        if "raspberry pi" in model:
            return "raspberry pi"
        if "jetson" in model or model.startswith("nvidia"):
            return "jetson"
    return None


def from_uri(uri: Uri, root: Path = Path("/")) -> FrameSource:
    """Return the source for `csi://N`, with the options of `picamera://` or `argus://`.

    Raises:
        UnsupportedSourceError: This is neither a Raspberry Pi nor a Jetson, or an option is wrong.
    """
    found = board(root)
    if found is None:
        raise UnsupportedSourceError(
            f"{uri.shown} is the camera connector of a Raspberry Pi or a Jetson, and this is neither. "
            "For a USB camera give /dev/video0; without a camera, test://."
        )
    text = uri.text.partition("://")[2]
    if found == "jetson":
        return argus.from_uri(parse_uri(f"argus://{text}"))
    return picamera.from_uri(parse_uri(f"picamera://{text}"))
